// SPDX-License-Identifier: MIT
// tap_nic: the functions of io/net/nic.h over a tap device of the kernel, so that TCP is tested
// without DPDK.  Each frame has memory of its own size: a sanitizer sees a byte read beyond it.
#pragma once
#include "io/net/nic.h"

// tap_nic_open attaches to the interface, which must exist.  mac: of this end.
int tap_nic_open(const char *interface, const uint8_t mac[6], uint32_t mbufs, struct nic **ret);
// tap_nic_held returns how many frames nobody has freed yet.
uint32_t tap_nic_held(const struct nic *nic);
