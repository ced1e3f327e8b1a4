// SPDX-License-Identifier: MIT
#include "vk/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static_assert(BIND_KIND_COUNT <= 8, "views are kept in an array by kind");

// What a table letter binds on each path; see KERNELS in kernels.h.
static enum bind_kind letter_kind(char letter, enum vk_path path)
{
    if (path == VK_PATH_ADDRESS)
        return BIND_STORAGE;
    switch (letter) {
    case 'H':
    case 'k':
        return BIND_TEXEL_U32X4;
    case 'X':
    case 'K':
        return BIND_TEXEL_F32X4;
    default:
        return BIND_STORAGE;
    }
}

static VkDescriptorType kind_type(enum bind_kind kind)
{
    return kind == BIND_STORAGE ? VK_DESCRIPTOR_TYPE_STORAGE_BUFFER
                                : VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER;
}

// Layouts and the shader module of a kernel, made when its first pipeline is.
static int layout_get(struct vk_device *dev, enum kernel kernel, struct fault *fault)
{
    int err = 0;
    const struct kernel_row *row = &kernel_rows[kernel];
    if (dev->module[kernel])
        return 0;

    VkDescriptorSetLayoutBinding bindings[VK_BINDS_MAX];
    uint32_t n = (uint32_t)strlen(row->binds);
    assert(n <= VK_BINDS_MAX);
    for (uint32_t i = 0; i < n; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){
            .binding = i,
            .descriptorType = kind_type(letter_kind(row->binds[i], dev->path)),
            .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    if (!dev->set_layout[kernel])
        VK_TRY(vkCreateDescriptorSetLayout(
            dev->handle,
            &(VkDescriptorSetLayoutCreateInfo){
                .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                .flags = VK_DESCRIPTOR_SET_LAYOUT_CREATE_PUSH_DESCRIPTOR_BIT_KHR,
                .bindingCount = n,
                .pBindings = bindings},
            NULL, &dev->set_layout[kernel]));
    if (!dev->layout[kernel])
        VK_TRY(vkCreatePipelineLayout(
            dev->handle,
            &(VkPipelineLayoutCreateInfo){
                .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                .setLayoutCount = 1,
                .pSetLayouts = &dev->set_layout[kernel],
                .pushConstantRangeCount = 1,
                .pPushConstantRanges =
                    &(VkPushConstantRange){.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
                                           .size = row->push_bytes}},
            NULL, &dev->layout[kernel]));
    VK_TRY(vkCreateShaderModule(
        dev->handle,
        &(VkShaderModuleCreateInfo){.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                    .codeSize = row->spirv_bytes[dev->path],
                                    .pCode = row->spirv[dev->path]},
        NULL, &dev->module[kernel]));
    return 0;
fail:
    fault_prefix(fault, "kernel %s", row->name);
    return err;
}

static int pipeline_create(struct vk_device *dev, struct vk_pipeline *pipe, struct fault *fault)
{
    int err = 0;
    VkSpecializationMapEntry entries[VK_SPEC_MAX];
    for (uint32_t i = 0; i < pipe->spec_n; i++)
        entries[i] = (VkSpecializationMapEntry){.constantID = i, .offset = i * 4, .size = 4};
    VkSpecializationInfo spec = {.mapEntryCount = pipe->spec_n,
                                 .pMapEntries = entries,
                                 .dataSize = pipe->spec_n * 4u,
                                 .pData = pipe->spec};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = dev->module[pipe->kernel],
                  .pName = "main",
                  .pSpecializationInfo = &spec},
        .layout = dev->layout[pipe->kernel]};
    VK_TRY(vkCreateComputePipelines(dev->handle, dev->cache, 1, &info, NULL, &pipe->handle));
    vk_name(dev, VK_OBJECT_TYPE_PIPELINE, (uint64_t)pipe->handle, kernel_rows[pipe->kernel].name);
    return 0;
fail:
    fault_prefix(fault, "kernel %s", kernel_rows[pipe->kernel].name);
    return err;
}

int vk_pipeline_get(struct vk_device *dev, enum kernel kernel, const uint32_t *spec, uint32_t n,
                    struct vk_pipeline **ret, struct fault *fault)
{
    assert(n <= VK_SPEC_MAX);
    for (struct vk_pipeline *p = dev->pipelines; p; p = p->next)
        if (p->kernel == kernel && p->spec_n == n && !memcmp(p->spec, spec, n * sizeof(*spec))) {
            *ret = p;
            return 0;
        }

    int err = layout_get(dev, kernel, fault);
    if (err)
        return err;
    struct vk_pipeline *pipe = calloc(1, sizeof(*pipe));
    if (!pipe)
        return fault_set(fault, ENOMEM, "out of memory");
    pipe->kernel = kernel;
    pipe->spec_n = n;
    memcpy(pipe->spec, spec, n * sizeof(*spec));
    err = pipeline_create(dev, pipe, fault);
    if (err) {
        free(pipe);
        return err;
    }
    pipe->next = dev->pipelines;
    dev->pipelines = pipe;
    *ret = pipe;
    return 0;
}

void vk_pipelines_destroy(struct vk_device *dev)
{
    while (dev->pipelines) {
        struct vk_pipeline *pipe = dev->pipelines;
        dev->pipelines = pipe->next;
        vkDestroyPipeline(dev->handle, pipe->handle, NULL);
        free(pipe);
    }
    for (int i = 0; i < KERNEL_COUNT; i++) {
        vkDestroyShaderModule(dev->handle, dev->module[i], NULL);
        vkDestroyPipelineLayout(dev->handle, dev->layout[i], NULL);
        vkDestroyDescriptorSetLayout(dev->handle, dev->set_layout[i], NULL);
    }
}

/* ------------------------------------------------------------- recording */

struct vk_cmd {
    struct vk_device *dev;
    VkCommandBuffer handle;
    int err; // first error since begin
};

int vk_cmd_create(struct vk_device *dev, struct vk_cmd **ret, struct fault *fault)
{
    int err = 0;
    struct vk_cmd *cmd = calloc(1, sizeof(*cmd));
    if (!cmd)
        return fault_set(fault, ENOMEM, "out of memory");
    cmd->dev = dev;
    VK_TRY(vkAllocateCommandBuffers(
        dev->handle,
        &(VkCommandBufferAllocateInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                       .commandPool = dev->pool,
                                       .commandBufferCount = 1},
        &cmd->handle));
    *ret = cmd;
    return 0;
fail:
    free(cmd);
    return err;
}

void vk_cmd_destroy(struct vk_cmd **cmdp)
{
    struct vk_cmd *cmd = *cmdp;
    *cmdp = NULL;
    if (!cmd)
        return;
    vkDeviceWaitIdle(cmd->dev->handle);
    vkFreeCommandBuffers(cmd->dev->handle, cmd->dev->pool, 1, &cmd->handle);
    free(cmd);
}

int vk_cmd_begin(struct vk_cmd *cmd)
{
    cmd->err = 0;
    VkResult result = vkBeginCommandBuffer(
        cmd->handle,
        &(VkCommandBufferBeginInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                    .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT});
    return result < 0 ? -EIO : 0;
}

static void binds_push(struct vk_cmd *cmd, const struct kernel_row *row, VkPipelineLayout layout,
                       const struct vk_bind *binds)
{
    struct vk_device *dev = cmd->dev;
    VkWriteDescriptorSet writes[VK_BINDS_MAX];
    VkDescriptorBufferInfo infos[VK_BINDS_MAX];
    VkBufferView views[VK_BINDS_MAX];
    uint32_t n = (uint32_t)strlen(row->binds);
    for (uint32_t i = 0; i < n; i++) {
        struct vk_buffer *buf = binds[i].buf ? binds[i].buf : dev->dummy;
        enum bind_kind kind = letter_kind(row->binds[i], dev->path);
        writes[i] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                           .dstBinding = i,
                                           .descriptorCount = 1,
                                           .descriptorType = kind_type(kind)};
        if (kind == BIND_STORAGE) {
            uint64_t bytes = binds[i].bytes ? binds[i].bytes : buf->bytes - binds[i].off;
            if (bytes > dev->limits.storage_range_max)
                bytes = dev->limits.storage_range_max & ~15ull;
            infos[i] = (VkDescriptorBufferInfo){buf->handle, binds[i].off, bytes};
            writes[i].pBufferInfo = &infos[i];
        } else {
            views[i] = vk_buffer_view(buf, kind);
            if (!views[i])
                cmd->err = -ENOMEM;
            assert(binds[i].off == 0); // texel offsets travel in push constants
            writes[i].pTexelBufferView = &views[i];
        }
    }
    if (!cmd->err)
        dev->push_descriptor_set(cmd->handle, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, n, writes);
}

void vk_cmd_dispatch(struct vk_cmd *cmd, struct vk_pipeline *pipe, const struct vk_bind *binds,
                     const void *push, uint32_t gx, uint32_t gy, uint32_t gz)
{
    struct vk_device *dev = cmd->dev;
    const struct kernel_row *row = &kernel_rows[pipe->kernel];
    VkPipelineLayout layout = dev->layout[pipe->kernel];
    assert(gx > 0 && gy > 0 && gz > 0);
    binds_push(cmd, row, layout, binds);
    if (cmd->err)
        return;
    vkCmdBindPipeline(cmd->handle, VK_PIPELINE_BIND_POINT_COMPUTE, pipe->handle);
    vkCmdPushConstants(cmd->handle, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, row->push_bytes, push);
    vkCmdDispatch(cmd->handle, gx, gy, gz);
}

void vk_cmd_barrier(struct vk_cmd *cmd)
{
    VkMemoryBarrier barrier = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        .srcAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                         VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
        .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                         VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT |
                         VK_ACCESS_HOST_READ_BIT};
    VkPipelineStageFlags from =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    vkCmdPipelineBarrier(cmd->handle, from, from | VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0,
                         NULL, 0, NULL);
}

void vk_cmd_copy(struct vk_cmd *cmd, struct vk_buffer *dst, uint64_t dst_off, struct vk_buffer *src,
                 uint64_t src_off, uint64_t bytes)
{
    assert(dst_off <= dst->bytes && bytes <= dst->bytes - dst_off);
    assert(src_off <= src->bytes && bytes <= src->bytes - src_off);
    vkCmdCopyBuffer(cmd->handle, src->handle, dst->handle, 1,
                    &(VkBufferCopy){.srcOffset = src_off, .dstOffset = dst_off, .size = bytes});
}

void vk_cmd_fill(struct vk_cmd *cmd, struct vk_buffer *buf)
{
    vkCmdFillBuffer(cmd->handle, buf->handle, 0, VK_WHOLE_SIZE, 0);
    vk_cmd_barrier(cmd);
}

int vk_cmd_submit(struct vk_cmd *cmd, uint64_t *ret_value, struct fault *fault)
{
    int err = 0;
    struct vk_device *dev = cmd->dev;
    VK_TRY(vkEndCommandBuffer(cmd->handle));
    if (cmd->err)
        return fault_set(fault, -cmd->err, "Vulkan: a command could not be recorded");
    // What the host has seen copied is there for these kernels; nothing waits.
    err = vk_timeline_submit(dev->queue, cmd->handle, (struct vk_timeline *[]){&dev->copies},
                             dev->copies.seen > 0, &dev->compute, fault);
    if (!err)
        *ret_value = dev->compute.submitted;
fail:
    return err;
}

bool vk_reached(struct vk_device *dev, uint64_t value)
{
    return vk_timeline_reached(dev, &dev->compute, value);
}

int vk_wait(struct vk_device *dev, uint64_t value, uint64_t timeout_ns, struct fault *fault)
{
    return vk_timeline_wait(dev, &dev->compute, value, timeout_ns, fault);
}
