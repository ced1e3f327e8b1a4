// SPDX-License-Identifier: MIT
#include "model/device_info.h"

#include "vk/device.h"

#include <stdio.h>
#include <unistd.h>

int device_info_get(const char *select, struct device_info *ret, struct fault *fault)
{
    struct vk_limits limits;
    int err = vk_device_probe(select, &limits, fault);
    if (err)
        return err;
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    *ret = (struct device_info){
        .is_cpu = limits.is_cpu,
        .imports = limits.import_align > 0,
        .shares_host_memory = limits.is_cpu || limits.is_integrated,
        .memory_bytes = limits.memory_bytes,
        .memory_available = limits.memory_available,
        .host_bytes = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0,
    };
    snprintf(ret->name, sizeof(ret->name), "%s", limits.name);
    snprintf(ret->driver, sizeof(ret->driver), "%s", limits.driver);
    return 0;
}
