// SPDX-License-Identifier: MIT
// copy: copies between host memory that a drive or the host fills and buffers of the device, beside
// the kernels: on a queue for transfers alone if the device has one, on another queue if there is
// one, else on the queue of the kernels, behind what was submitted there before.
// Owner: the device's thread.  Who decides what to copy: model/slots.h.
#pragma once
#include "vk/buffer.h"

// One run of bytes.  Any offsets.  Both buffers are imports or were made with `copied` set.
struct vk_copy_region {
    struct vk_buffer *dst;
    uint64_t dst_off;
    struct vk_buffer *src;
    uint64_t src_off;
    uint64_t bytes; // > 0
};

struct vk_copier; // opaque

// vk_copier_create: depth submissions, 1..1024, may be in flight at a time.
// Errors: -EINVAL, -ENOMEM.
int vk_copier_create(struct vk_device *dev, uint32_t depth, struct vk_copier **ret,
                     struct fault *fault);
// vk_copier_destroy waits for the device first.
void vk_copier_destroy(struct vk_copier **copier);

// vk_copier_submit starts copying n > 0 regions, in no order, and returns at once.
//
// Before: the host has seen the end of whatever wrote a src or still uses a dst: it wrote itself,
// or the drive's completion came, or vk_reached, vk_wait, vk_copier_done or vk_copier_wait said so.
// After:  once vk_copier_done or vk_copier_wait has seen *ret_ticket done, kernels submitted then
//         find the bytes in dst, the host those in a mapped dst, and src may be written again.
//
// Errors: -EBUSY if depth submissions are in flight, -EINVAL a region beyond its buffers, -EIO.
int vk_copier_submit(struct vk_copier *copier, const struct vk_copy_region *regions, uint32_t n,
                     uint64_t *ret_ticket, struct fault *fault);

// vk_copier_done returns at once.  Errors count as done, so that the vk_copier_wait that follows
// reports them.
bool vk_copier_done(struct vk_copier *copier, uint64_t ticket);
// vk_copier_wait: -ETIME after timeout_ns, -EIO if the device is lost.
int vk_copier_wait(struct vk_copier *copier, uint64_t ticket, uint64_t timeout_ns,
                   struct fault *fault);
