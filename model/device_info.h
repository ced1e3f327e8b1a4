// SPDX-License-Identifier: MIT
// device_info: what the memory plan needs to know of a Vulkan device, without opening it for work.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stdint.h>

struct device_info {
    char name[256];
    char driver[256];
    bool is_cpu;               // lavapipe and the like
    bool imports;              // kernels can read host memory in place (external_memory_host)
    bool shares_host_memory;   // integrated or CPU: device and host memory are one
    uint64_t memory_bytes;     // of the device
    uint64_t memory_available; // free of it now
    uint64_t host_bytes;       // of the machine
};

// device_info_get describes the device that `select` names ("auto", index, UUID or part of a name).
// -ENODEV without a driver or a match; the sentence lists what there is.
int device_info_get(const char *select, struct device_info *ret, struct fault *fault);
