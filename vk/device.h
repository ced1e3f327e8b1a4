// SPDX-License-Identifier: MIT
// device: one Vulkan device with a compute queue and a queue for copies, its limits probed once,
// its pipeline cache. Owner: one thread (step, or a tool's main).  Nothing here chooses kernels:
// vk/kernels.h lists them, vk/cmd.h records them, vk/buffer.h holds memory.  See
// doc/ARCHITECTURE.md "Device".
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VK_NAME_MAX  256u
#define VK_HEAPS_MAX 16u

// How kernels read weights and activations.  Mesa's lavapipe turns texel fetches into vector
// gathers and storage-buffer loads into loops over lanes; real GPUs like addresses better.
enum vk_path { VK_PATH_TEXEL, VK_PATH_ADDRESS, VK_PATH_COUNT };
extern const char *const vk_path_name[VK_PATH_COUNT];

// How matrix kernels decode FP8 (DECODE of vk-shaders/matmul_core.glsl): integers depend on
// nothing, the others on a device that keeps subnormals of fp16 or f32.
enum vk_e4m3 { VK_E4M3_INTEGER, VK_E4M3_HALF, VK_E4M3_F32, VK_E4M3_COUNT };

struct vk_limits {
    char name[VK_NAME_MAX];
    char driver[VK_NAME_MAX];
    char uuid[37]; // 8-4-4-4-12 hex
    uint32_t vendor_id, device_id, driver_version;
    bool is_cpu;        // VK_PHYSICAL_DEVICE_TYPE_CPU
    bool is_integrated; // shares memory with the host
    uint32_t subgroup;  // lanes
    uint32_t workgroup_max;
    uint64_t storage_range_max; // bytes one storage buffer binding may span
    uint64_t texel_elements_max;
    uint64_t allocation_max; // bytes of one vkAllocateMemory
    uint32_t allocations_max;
    uint64_t import_align;     // of host memory that kernels can read in place; 0: not available
    uint64_t memory_bytes;     // device-local heap the weights go to; host memory for CPU devices
    uint64_t memory_available; // what is free of it now (VK_EXT_memory_budget or /proc/meminfo)
    uint64_t host_available;   // of the host's memory, for slots and staging
    enum vk_e4m3 e4m3;         // the fastest exact way: measured at open, all 256 codes
    bool cooperative_matrix;   // reported only
};

struct vk_device; // opaque

struct vk_device_params {
    const char *select; // "auto", index, UUID, or part of the name (case-insensitive); NULL: auto
    const char *pipeline_cache; // path, or NULL
    bool validate; // validation layers with synchronisation checks; messages are counted
    int path;      // enum vk_path, or -1: choose for the device
};

// vk_device_open chooses a device (auto: discrete, integrated, virtual, CPU), makes a queue and
// reads the pipeline cache if its header matches this device and driver. Errors: -ENODEV none fits
// (the sentence lists what there is), -ENOTSUP a feature is missing (named).
int vk_device_open(const struct vk_device_params *params, struct vk_device **ret,
                   struct fault *fault);
// vk_device_close waits for the queue and destroys all.  Buffers must have been destroyed before.
void vk_device_close(struct vk_device **dev);

// vk_device_cache_save writes the pipeline cache (temporary file, then rename).  Best effort: 0 or
// -errno.
int vk_device_cache_save(struct vk_device *dev);

const struct vk_limits *vk_device_limits(const struct vk_device *dev);
enum vk_path vk_device_path(const struct vk_device *dev);

// vk_device_messages returns how many validation messages of error or warning severity have come.
uint32_t vk_device_messages(const struct vk_device *dev);

// vk_device_probe fills limits for a device without making a queue.
int vk_device_probe(const char *select, struct vk_limits *ret, struct fault *fault);
