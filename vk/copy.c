// SPDX-License-Identifier: MIT
#include "vk/copy.h"

#include "vk/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define DEPTH_MAX 1024u // command buffers; a layer's experts are fewer

struct vk_copier {
    struct vk_device *dev;
    VkCommandPool pool;
    VkCommandBuffer *lists; // [depth], used in turn
    uint64_t *tickets;      // [depth] of the last submission of each, 0: none
    uint32_t depth, next;
};

int vk_copier_create(struct vk_device *dev, uint32_t depth, struct vk_copier **ret,
                     struct fault *fault)
{
    int err = 0;
    if (depth == 0 || depth > DEPTH_MAX)
        return fault_set(fault, EINVAL, "copies in flight: 1..%u", DEPTH_MAX);
    struct vk_copier *c = calloc(1, sizeof(*c));
    if (!c)
        return fault_set(fault, ENOMEM, "out of memory");
    *c = (struct vk_copier){.dev = dev, .depth = depth};
    c->lists = calloc(depth, sizeof(c->lists[0]));
    c->tickets = calloc(depth, sizeof(c->tickets[0]));
    if (!c->lists || !c->tickets) {
        err = fault_set(fault, ENOMEM, "out of memory");
        goto fail;
    }
    VK_TRY(vkCreateCommandPool(
        dev->handle,
        &(VkCommandPoolCreateInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                   .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                   .queueFamilyIndex = dev->copy_family},
        NULL, &c->pool));
    VK_TRY(vkAllocateCommandBuffers(
        dev->handle,
        &(VkCommandBufferAllocateInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                       .commandPool = c->pool,
                                       .commandBufferCount = depth},
        c->lists));
    *ret = c;
    return 0;
fail:
    vk_copier_destroy(&c);
    return err;
}

void vk_copier_destroy(struct vk_copier **copier)
{
    struct vk_copier *c = *copier;
    *copier = NULL;
    if (!c)
        return;
    vkDeviceWaitIdle(c->dev->handle);
    vkDestroyCommandPool(c->dev->handle, c->pool, NULL); // and the lists
    free(c->lists);
    free(c->tickets);
    free(c);
}

static bool region_fits(const struct vk_device *dev, const struct vk_copy_region *r)
{
    assert(r->src->copied || dev->copy_family == dev->queue_family);
    assert(r->dst->copied || dev->copy_family == dev->queue_family);
    return r->bytes > 0 && r->src_off <= r->src->bytes && r->bytes <= r->src->bytes - r->src_off &&
           r->dst_off <= r->dst->bytes && r->bytes <= r->dst->bytes - r->dst_off;
}

static int copies_record(VkCommandBuffer list, const struct vk_copy_region *regions, uint32_t n,
                         struct fault *fault)
{
    int err = 0;
    // What the host reads next in a mapped dst.  Kernels see the bytes by the wait in
    // vk_cmd_submit.
    VkMemoryBarrier barrier = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                               .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
                               .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
    VK_TRY(vkBeginCommandBuffer(
        list, &(VkCommandBufferBeginInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                          .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT}));
    for (uint32_t i = 0; i < n; i++)
        vkCmdCopyBuffer(list, regions[i].src->handle, regions[i].dst->handle, 1,
                        &(VkBufferCopy){.srcOffset = regions[i].src_off,
                                        .dstOffset = regions[i].dst_off,
                                        .size = regions[i].bytes});
    vkCmdPipelineBarrier(list, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1,
                         &barrier, 0, NULL, 0, NULL);
    VK_TRY(vkEndCommandBuffer(list));
fail:
    return err;
}

int vk_copier_submit(struct vk_copier *c, const struct vk_copy_region *regions, uint32_t n,
                     uint64_t *ret_ticket, struct fault *fault)
{
    struct vk_device *dev = c->dev;
    assert(n > 0);
    for (uint32_t i = 0; i < n; i++)
        if (!region_fits(dev, &regions[i]))
            return fault_set(fault, EINVAL, "a copy reaches beyond its buffers");
    if (!vk_copier_done(c, c->tickets[c->next]))
        return fault_set(fault, EBUSY, "%u copies are in flight, no more may be", c->depth);

    VkCommandBuffer list = c->lists[c->next];
    int err = copies_record(list, regions, n, fault);
    if (err)
        return err;
    // Both have been reached: nothing waits, but what they followed becomes visible to the copies.
    struct vk_timeline *waits[] = {&dev->compute, &dev->copies};
    err = vk_timeline_submit(dev->copy_queue, list, waits, 2, &dev->copies, fault);
    if (err)
        return err;
    c->tickets[c->next] = dev->copies.submitted;
    c->next = (c->next + 1) % c->depth;
    *ret_ticket = dev->copies.submitted;
    return 0;
}

bool vk_copier_done(struct vk_copier *c, uint64_t ticket)
{
    return vk_timeline_reached(c->dev, &c->dev->copies, ticket);
}

int vk_copier_wait(struct vk_copier *c, uint64_t ticket, uint64_t timeout_ns, struct fault *fault)
{
    return vk_timeline_wait(c->dev, &c->dev->copies, ticket, timeout_ns, fault);
}
