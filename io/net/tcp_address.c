// SPDX-License-Identifier: MIT
#include "io/net/tcp_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

// split reads "ADDRESS/N"; false without a number 1..max behind the slash.
static bool split(const char *text, unsigned max, char address[64], unsigned *ret_bits)
{
    int end = 0;
    unsigned bits = 0;
    if (sscanf(text, "%63[0-9a-fA-F.:]/%3u%n", address, &bits, &end) != 2 || text[end] ||
        bits < 1 || bits > max)
        return false;
    *ret_bits = bits;
    return true;
}

static bool host4(uint32_t address) // host order
{
    return address >> 24 != 0 && address >> 24 != 127 && address >> 24 < 224;
}

// host4_in says whether an address can be that of a host in the network of this mask, host order.
static bool host4_in(uint32_t address, uint32_t mask)
{
    bool ends = (address & ~mask) == 0 || (address & ~mask) == ~mask;
    return host4(address) && (!ends || ~mask <= 1); // of /31 and /32 every address is one
}

static int address4_parse(const char *text, struct tcp_address *to, struct fault *fault)
{
    char address[64];
    unsigned bits = 0;
    struct in_addr in;

    if (!split(text, 32, address, &bits) || inet_pton(AF_INET, address, &in) != 1)
        return fault_set(fault, EINVAL,
                         "[net] address = %s: write dhcp, or an IPv4 address and its prefix, as "
                         "192.0.2.10/24",
                         text);
    uint32_t mask = ~0u << (32u - bits), host = ntohl(in.s_addr);
    if (!host4_in(host, mask))
        return fault_set(fault, EINVAL, "[net] address = %s is no address of one host", text);
    to->has4 = true;
    memcpy(to->address4, &in, 4);
    mask = htonl(mask);
    memcpy(to->mask, &mask, 4);
    return 0;
}

static int gateway_parse(const char *text, struct tcp_address *to, struct fault *fault)
{
    struct in_addr in;

    if (inet_pton(AF_INET, text, &in) != 1 || !host4(ntohl(in.s_addr)))
        return fault_set(fault, EINVAL, "[net] gateway = %s: write an IPv4 address", text);
    uint32_t mask, address;
    memcpy(&mask, to->mask, 4);
    memcpy(&address, to->address4, 4);
    // In clouds a host may be alone in its network (/32), with a gateway outside of it.
    if (to->has4 && mask != UINT32_MAX && (in.s_addr & mask) != (address & mask))
        return fault_set(fault, EINVAL, "[net] gateway = %s is not in the network of [net] address",
                         text);
    if (to->has4 && (in.s_addr == address || !host4_in(ntohl(in.s_addr), ntohl(mask))))
        return fault_set(fault, EINVAL, "[net] gateway = %s is no address of another host", text);
    memcpy(to->gateway, &in, 4);
    return 0;
}

static int address6_parse(const char *text, struct tcp_address *to, struct fault *fault)
{
    char address[64];
    unsigned bits = 0;
    struct in6_addr in;

    if (!split(text, 128, address, &bits) || inet_pton(AF_INET6, address, &in) != 1 || bits != 64)
        return fault_set(fault, EINVAL,
                         "[net] address6 = %s: write auto, or an IPv6 address and /64, as "
                         "2001:db8::10/64",
                         text);
    if (in.s6_addr[0] == 0xff || IN6_IS_ADDR_LINKLOCAL(&in) || IN6_IS_ADDR_V4MAPPED(&in) ||
        IN6_IS_ADDR_UNSPECIFIED(&in) || IN6_IS_ADDR_LOOPBACK(&in))
        return fault_set(fault, EINVAL,
                         "[net] address6 = %s is no address of one host on a network", text);
    to->has6 = true;
    memcpy(to->address6, in.s6_addr, 16);
    return 0;
}

int tcp_address_parse(const char *address, const char *gateway, const char *address6,
                      struct tcp_address *ret, struct fault *fault)
{
    struct tcp_address parsed = {0};
    int err = 0;

    parsed.dhcp = strcmp(address, "dhcp") == 0;
    parsed.slaac = strcmp(address6, "auto") == 0;
    if (address[0] && !parsed.dhcp)
        err = address4_parse(address, &parsed, fault);
    if (!err && gateway[0])
        err = gateway_parse(gateway, &parsed, fault);
    if (!err && address6[0] && !parsed.slaac)
        err = address6_parse(address6, &parsed, fault);
    if (!err)
        *ret = parsed;
    return err;
}
