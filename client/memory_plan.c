// SPDX-License-Identifier: MIT
#include "client/memory_plan.h"

#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

int engine_fits(const struct checkpoint *ck, const struct engine_params *params, bool whole,
                struct engine_room *ret, struct fault *fault)
{
    (void)ck;
    (void)params;
    (void)whole;
    (void)ret;
    return fault_set(fault, ENODEV, "this expertctl was built without Vulkan");
}
#endif

static uint64_t at_most(uint64_t bytes, uint64_t limit)
{
    return limit > 0 && limit < bytes ? limit : bytes;
}

uint32_t memory_context(const struct conf *conf, const struct checkpoint *ck)
{
    uint32_t context = checkpoint_config(ck)->max_position_embeddings;
    return conf->model_context_max < context ? conf->model_context_max : context;
}

int memory_plan_try(const struct conf *conf, const struct checkpoint *ck,
                    const struct device_info *device, bool whole, struct engine_room *ret,
                    struct fault *fault)
{
    char packs[CONF_LIST_MAX];
    const char *dirs[STREAM_DIRS_MAX];
    struct engine_params params;

    conf_engine(conf, memory_context(conf, ck), device->host_bytes, device->memory_bytes, &params);
    memcpy(packs, conf->drives_pack, sizeof(packs));
    if (conf_list_split(packs, dirs, STREAM_DIRS_MAX) > 0)
        params.pack = dirs[0];
    // Mesa would leave a folder in root's home for a device that computes nothing.
    setenv("MESA_SHADER_CACHE_DISABLE", "true", 0);
    int err = engine_fits(ck, &params, whole, ret, fault);
    if (err == -ENOMEM && params.mtp && conf->model_mtp == CONF_MTP_AUTO) {
        params.mtp = false;
        err = engine_fits(ck, &params, whole, ret, fault);
    }
    return err;
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
