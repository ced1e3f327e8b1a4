// SPDX-License-Identifier: MIT
// cmd: recording and submitting kernels.  One command list is recorded, submitted, waited for and
// recorded again; order between dispatches is made by vk_cmd_barrier, a full memory barrier of the
// compute stage. Owner: the device's thread.
#pragma once
#include "vk/buffer.h"
#include "vk/kernels.h"

#define VK_BINDS_MAX 12u // bindings of one kernel
#define VK_SPEC_MAX  12u // specialization constants of one kernel

struct vk_pipeline; // opaque; owned by the device

// vk_pipeline_get returns the pipeline of a kernel with these specialization constants, compiled on
// the first call and kept.  spec: [n] values of constant_id 0, 1, ...
int vk_pipeline_get(struct vk_device *dev, enum kernel kernel, const uint32_t *spec, uint32_t n,
                    struct vk_pipeline **ret, struct fault *fault);

struct vk_bind {
    struct vk_buffer *buf; // NULL: the device's small dummy buffer (a binding that is not read)
    uint64_t off;          // bytes, multiple of 16
    uint64_t bytes;        // 0: to the end; clamped to the device's range limit for storage buffers
};

struct vk_cmd; // opaque

int vk_cmd_create(struct vk_device *dev, struct vk_cmd **ret, struct fault *fault);
// vk_cmd_destroy waits for the device first: a vk_wait that failed may have left it at work, and
// buffers are destroyed next.
void vk_cmd_destroy(struct vk_cmd **cmd);

// vk_cmd_begin starts recording anew; the list must not be in flight.
int vk_cmd_begin(struct vk_cmd *cmd);

// vk_cmd_dispatch records one dispatch.  binds: in the order of the kernel's table row.
// push: push_bytes bytes as the table row says.  Grid in workgroups, each > 0.
// Errors are kept and returned by vk_cmd_submit.
void vk_cmd_dispatch(struct vk_cmd *cmd, struct vk_pipeline *pipe, const struct vk_bind *binds,
                     const void *push, uint32_t gx, uint32_t gy, uint32_t gz);
// vk_cmd_barrier makes all writes so far visible to all that follows, the host included.
void vk_cmd_barrier(struct vk_cmd *cmd);
// vk_cmd_copy records a copy of bytes (multiple of 4) between buffers.
void vk_cmd_copy(struct vk_cmd *cmd, struct vk_buffer *dst, uint64_t dst_off, struct vk_buffer *src,
                 uint64_t src_off, uint64_t bytes);

// vk_cmd_submit ends recording and submits; *ret_value is the timeline value that will be
// signalled.
int vk_cmd_submit(struct vk_cmd *cmd, uint64_t *ret_value, struct fault *fault);

// vk_reached returns at once: has the timeline reached value?  Errors count as reached, so that the
// vk_wait that follows reports them.
bool vk_reached(struct vk_device *dev, uint64_t value);

// vk_wait waits until the timeline reaches value.  -ETIME after timeout_ns, -EIO if the device is
// lost.
int vk_wait(struct vk_device *dev, uint64_t value, uint64_t timeout_ns, struct fault *fault);
