// SPDX-License-Identifier: MIT
// nic_eal: DPDK's environment, of which a process has one and which cannot be started twice: it
// outlives the port.  Names no DPDK type.
// Thread: the one that opens ports.
#pragma once
#include "io/net/nic.h"

struct nic_eal {
    const char *pci; // the only PCI device that may be touched; NULL: none
    bool huge_pages;
    uint32_t megabytes; // of ordinary memory, where there are no huge pages
};

// nic_eal_start starts it, or finds that it runs as wanted already.  The calling thread keeps its
// CPU affinity and signal mask; DPDK's helper threads get no signals.
// Errors: -EBUSY it runs with other settings.
int nic_eal_start(const struct nic_eal *eal, struct fault *fault);

// nic_eal_quiet begins and ends a time in which DPDK's drivers see no free real-time signal and in
// which threads that they start inherit a mask that blocks all: net_tap would have the process
// signalled at each frame otherwise.
void nic_eal_quiet(bool begin);

// nic_eal_said returns the last error that DPDK logged since nic_eal_said_clear; "" none.  Valid
// until the next call.
void nic_eal_said_clear(void);
const char *nic_eal_said(void);
const char *nic_eal_plugins(void); // the folder that plug-ins are loaded from
