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

struct vk_device {
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice handle;
    VkQueue queue;
    uint32_t queue_family;
    VkCommandPool pool;
    VkPipelineCache cache;
    VkSemaphore timeline;
    uint64_t timeline_value; // last value submitted
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
VkBufferView vk_buffer_view(struct vk_buffer *buf, enum bind_kind kind);
// vk_cmd_fill records zeros over the whole buffer.
void vk_cmd_fill(struct vk_cmd *cmd, struct vk_buffer *buf);
// vk_device_selftest sets limits.e4m3; -ENOTSUP if FP8 cannot be decoded at all.
int vk_device_selftest(struct vk_device *dev, struct fault *fault);
void vk_name(struct vk_device *dev, VkObjectType type, uint64_t handle, const char *name);
