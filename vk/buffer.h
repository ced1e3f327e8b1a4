// SPDX-License-Identifier: MIT
// buffer: a VkBuffer with its own memory and the views that kernels read it through.
// Owner: the device's thread.
#pragma once
#include "vk/device.h"

enum vk_memory {
    VK_MEMORY_DEVICE,   // weights, activations, KV: the GPU's own
    VK_MEMORY_UPLOAD,   // the host writes, kernels read: tables of a step
    VK_MEMORY_READBACK, // kernels write, the host reads: HOST_CACHED where there is such a type
};

struct vk_buffer; // opaque

struct vk_buffer_params {
    uint64_t bytes; // > 0; rounded up to 16
    enum vk_memory memory;
    const char *name; // for the validation layer and errors; copied
    bool copied;      // a vk_copier reads or writes it: see copy.h
};

// vk_buffer_create makes a buffer filled with zeros.
// -ENOMEM if the device has no memory left, -E2BIG beyond the device's limits.
int vk_buffer_create(struct vk_device *dev, const struct vk_buffer_params *params,
                     struct vk_buffer **ret, struct fault *fault);
// vk_buffer_import makes a buffer over host memory (VK_EXT_external_memory_host): kernels read what
// the host or a drive wrote there, without a copy.
//
// host, bytes: multiples of limits.import_align, bytes > 0.  Contents are left as they are.  The
//              memory stays the caller's and must outlive the buffer.
// name:        as in vk_buffer_params.
//
// vk_buffer_map returns host.  What is written before a vk_cmd_submit is seen by its kernels.
// Errors: -ENOTSUP without the extension, -EINVAL misaligned, -E2BIG beyond the device's limits,
// -ENOMEM.
int vk_buffer_import(struct vk_device *dev, void *host, uint64_t bytes, const char *name,
                     struct vk_buffer **ret, struct fault *fault);
// vk_buffer_destroy: the device must not be using it.
void vk_buffer_destroy(struct vk_buffer **buf);

// vk_buffer_map returns the host address, or NULL if the memory cannot be mapped.
void *vk_buffer_map(struct vk_buffer *buf);
// vk_buffer_address returns the 64-bit device address.
uint64_t vk_buffer_address(const struct vk_buffer *buf);

// vk_buffer_write copies host bytes into the buffer at off, through a staging buffer where the
// memory cannot be mapped.  Blocks.  The device must not be using that range.
int vk_buffer_write(struct vk_buffer *buf, uint64_t off, const void *src, uint64_t bytes,
                    struct fault *fault);
// vk_buffer_read copies device bytes to the host.  Blocks until the queue is idle.
int vk_buffer_read(struct vk_buffer *buf, uint64_t off, void *dst, uint64_t bytes,
                   struct fault *fault);
