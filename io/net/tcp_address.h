// SPDX-License-Identifier: MIT
// tcp_address: what [net] says about addresses, as numbers.
// Pure; any thread.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stdint.h>

struct tcp_address {
    bool dhcp, slaac, has4, has6;
    uint8_t address4[4], mask[4], gateway[4]; // network order; zeros: none
    uint8_t address6[16];                     // its prefix has 64 bits
};

// tcp_address_parse reads the three texts, as struct tcp_params has them.  -EINVAL names the key.
int tcp_address_parse(const char *address, const char *gateway, const char *address6,
                      struct tcp_address *ret, struct fault *fault);
