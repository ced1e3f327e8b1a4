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

static uint64_t size_of(const struct conf_size *size, uint64_t whole)
{
    return size->percent > 0 ? whole / 100 * size->percent : size->bytes;
}

void memory_plan_wish(const struct conf *conf, const struct model_config *config,
                      const struct device_info *device, struct model_plan_params *ret)
{
    uint64_t context = config->max_position_embeddings;

    if (conf->model_context_max < context)
        context = conf->model_context_max;
    *ret = (struct model_plan_params){
        .device_bytes = size_of(&conf->device_memory, device->memory_bytes),
        .host_bytes = size_of(&conf->experts_ram, device->host_bytes),
        .kv_tokens = conf->limits_kv_tokens_max ? conf->limits_kv_tokens_max
                                                : conf->limits_sequences_max * context,
        .kv_value_bytes = conf->model_kv_type == KV_F32 ? 4 : 2,
        .mtp = conf->model_mtp != CONF_MTP_OFF,
    };
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
