// SPDX-License-Identifier: MIT
#include "vk/internal.h"

#include <assert.h>
#include <errno.h>

#define WAITS_MAX 2u

int vk_timeline_init(struct vk_device *dev, struct vk_timeline *t, struct fault *fault)
{
    int err = 0;
    VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                      .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    VK_TRY(vkCreateSemaphore(
        dev->handle,
        &(VkSemaphoreCreateInfo){.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type},
        NULL, &t->semaphore));
fail:
    return err;
}

static void seen(struct vk_timeline *t, uint64_t value)
{
    if (value > t->seen)
        t->seen = value;
}

int vk_timeline_submit(VkQueue queue, VkCommandBuffer list, struct vk_timeline *const *waits,
                       uint32_t n, struct vk_timeline *signal, struct fault *fault)
{
    int err = 0;
    VkSemaphore semaphores[WAITS_MAX];
    VkPipelineStageFlags stages[WAITS_MAX];
    uint64_t values[WAITS_MAX], value = signal->submitted + 1;
    assert(n <= WAITS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        semaphores[i] = waits[i]->semaphore;
        stages[i] = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
        values[i] = waits[i]->seen;
    }
    VkTimelineSemaphoreSubmitInfo timeline = {.sType =
                                                  VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                              .waitSemaphoreValueCount = n,
                                              .pWaitSemaphoreValues = values,
                                              .signalSemaphoreValueCount = 1,
                                              .pSignalSemaphoreValues = &value};
    VK_TRY(vkQueueSubmit(queue, 1,
                         &(VkSubmitInfo){.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                                         .pNext = &timeline,
                                         .waitSemaphoreCount = n,
                                         .pWaitSemaphores = semaphores,
                                         .pWaitDstStageMask = stages,
                                         .commandBufferCount = 1,
                                         .pCommandBuffers = &list,
                                         .signalSemaphoreCount = 1,
                                         .pSignalSemaphores = &signal->semaphore},
                         VK_NULL_HANDLE));
    signal->submitted = value;
fail:
    return err;
}

bool vk_timeline_reached(struct vk_device *dev, struct vk_timeline *t, uint64_t value)
{
    uint64_t now;
    if (value <= t->seen)
        return true;
    if (vkGetSemaphoreCounterValue(dev->handle, t->semaphore, &now) < 0)
        return true;
    seen(t, now);
    return now >= value;
}

int vk_timeline_wait(struct vk_device *dev, struct vk_timeline *t, uint64_t value,
                     uint64_t timeout_ns, struct fault *fault)
{
    VkResult result =
        vkWaitSemaphores(dev->handle,
                         &(VkSemaphoreWaitInfo){.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                                .semaphoreCount = 1,
                                                .pSemaphores = &t->semaphore,
                                                .pValues = &value},
                         timeout_ns);
    if (result == VK_TIMEOUT)
        return fault_set(fault, ETIME, "the Vulkan device did not finish within %.0f s",
                         (double)timeout_ns / 1e9);
    if (result < 0)
        return vk_result_fault(result, "vkWaitSemaphores", fault);
    seen(t, value);
    return 0;
}
