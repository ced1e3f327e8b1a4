// SPDX-License-Identifier: MIT
#include "client/memory_plan.h"

#include "config.h"

#include <errno.h>

// Host memory that is not planned for experts: the system, the page cache, the daemon itself.
#define HOST_KEPT_BYTES (4ull << 30)

#if !HAVE_VULKAN
// Built without Vulkan: there is no plan.
int device_info_get(const char *select, struct device_info *ret, struct fault *fault)
{
    (void)select;
    (void)ret;
    return fault_set(fault, ENODEV, "this expertctl was built without Vulkan");
}
#endif

static uint64_t at_most(uint64_t bytes, uint64_t limit)
{
    return limit > 0 && limit < bytes ? limit : bytes;
}

void memory_plan_make(const struct model_card *card, const struct device_info *device,
                      const struct model_plan_params *wish, struct model_plan *ret)
{
    struct model_plan_params params = *wish;

    params.device_bytes = at_most(device->memory_bytes, wish->device_bytes);
    params.host_bytes = 0;
    if (!device->shares_host_memory && device->host_bytes > HOST_KEPT_BYTES)
        params.host_bytes = at_most(device->host_bytes - HOST_KEPT_BYTES, wish->host_bytes);
    model_plan_make(card, &params, ret);
}
