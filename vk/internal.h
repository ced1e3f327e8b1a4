// SPDX-License-Identifier: MIT
// internal: what the files of vk/ share and nobody else sees.
#pragma once
#include "vk/cmd.h"

#include <stdatomic.h>
#include <vulkan/vulkan.h>

// VK_TRY runs a Vulkan call; on an error it writes the sentence, sets err and goes to fail.
#define VK_TRY(call)                                                                               \
    do {                                                                                           \
        VkResult vk_try_result = (call);                                                           \
        if (vk_try_result < 0) {                                                                   \
            err = vk_result_fault(vk_try_result, #call, fault);                                    \
            goto fail;                                                                             \
        }                                                                                          \
    } while (0)

int vk_result_fault(VkResult result, const char *call, struct fault *fault);

struct vk_buffer {
    struct vk_device *dev;
    VkBuffer handle;
    VkDeviceMemory memory;
    VkDeviceAddress address;
    uint64_t bytes;
    bool copied;                         // shared with the copiers' queue
    void *map;                           // NULL: not host-visible
    VkBufferView views[BIND_KIND_COUNT]; // made at the first use of that kind
};

struct vk_pipeline {
    struct vk_pipeline *next;
    enum kernel kernel;
    uint32_t spec[VK_SPEC_MAX];
    uint32_t spec_n;
    VkPipeline handle;
};

// A timeline semaphore with what the host knows of it.  A queue that waits for the value that the
// host has seen never waits, but sees what was written before it: that is how results get from one
// queue to another.
struct vk_timeline {
    VkSemaphore semaphore;
    uint64_t submitted; // last value that a submission will signal
    uint64_t seen;      // highest value that the host knows to be reached
};

struct vk_device {
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice handle;
    VkQueue queue;
    uint32_t queue_family;
    VkCommandPool pool;
    VkPipelineCache cache;
    struct vk_timeline compute;
    VkQueue copy_queue; // may be queue
    uint32_t copy_family;
    struct vk_timeline copies;
    VkDebugUtilsMessengerEXT messenger;
    atomic_uint messages;
    VkPhysicalDeviceMemoryProperties memory;
    struct vk_limits limits;
    enum vk_path path;
    char *cache_path;
    uint32_t allocations;
    PFN_vkCmdPushDescriptorSetKHR push_descriptor_set;
    PFN_vkGetMemoryHostPointerPropertiesEXT host_pointer_properties; // NULL without imports
    PFN_vkSetDebugUtilsObjectNameEXT set_name;                       // NULL without validation
    VkDescriptorSetLayout set_layout[KERNEL_COUNT];
    VkPipelineLayout layout[KERNEL_COUNT];
    VkShaderModule module[KERNEL_COUNT];
    struct vk_pipeline *pipelines;
    struct vk_buffer *dummy;   // bound where a kernel does not read a binding
    struct vk_buffer *staging; // made at the first write to memory that cannot be mapped
    struct vk_cmd *transfer;   // likewise
};

void vk_pipelines_destroy(struct vk_device *dev);

int vk_timeline_init(struct vk_device *dev, struct vk_timeline *t, struct fault *fault);
// vk_timeline_submit submits a list behind what the host has seen of n <= 2 timelines and advances
// signal.
int vk_timeline_submit(VkQueue queue, VkCommandBuffer list, struct vk_timeline *const *waits,
                       uint32_t n, struct vk_timeline *signal, struct fault *fault);
// As vk_reached and vk_wait of cmd.h.
bool vk_timeline_reached(struct vk_device *dev, struct vk_timeline *t, uint64_t value);
int vk_timeline_wait(struct vk_device *dev, struct vk_timeline *t, uint64_t value,
                     uint64_t timeout_ns, struct fault *fault);

VkBufferView vk_buffer_view(struct vk_buffer *buf, enum bind_kind kind);
// vk_cmd_fill records zeros over the whole buffer.
void vk_cmd_fill(struct vk_cmd *cmd, struct vk_buffer *buf);
// vk_device_selftest sets limits.e4m3; -ENOTSUP if FP8 cannot be decoded at all.
int vk_device_selftest(struct vk_device *dev, struct fault *fault);
void vk_name(struct vk_device *dev, VkObjectType type, uint64_t handle, const char *name);
