// SPDX-License-Identifier: MIT
// nic_check: what a port needs from the machine, looked at before DPDK tries: DPDK's own errors say
// neither why nor what mends it.  Reads sysfs, /dev and the folder of DPDK's plug-ins; changes
// nothing.
// Thread: any.
#pragma once
#include "io/net/nic.h"

struct nic_check {
    struct nic_name name;
    bool huge_pages;
    uint64_t bytes;      // of huge pages that will be needed
    const char *root;    // in front of /sys, /dev and /proc: "" but for tests
    const char *plugins; // the folder of librte_*.so
};

// nic_check returns 0 if there is no reason why the port could not be opened; errors as nic_open.
int nic_check(const struct nic_check *check, struct fault *fault);
