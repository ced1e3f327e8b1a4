// SPDX-License-Identifier: MIT
// wire: Ethernet frames as bytes: where their headers are, numbers in network order, checksums.
// Pure; any thread.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { // bytes of headers
    WIRE_ETHERNET = 14,
    WIRE_ARP = 28,
    WIRE_IP4 = 20,
    WIRE_IP6 = 40,
    WIRE_UDP = 8,
    WIRE_TCP = 20,
};
enum { WIRE_TYPE_IP4 = 0x0800, WIRE_TYPE_ARP = 0x0806, WIRE_TYPE_IP6 = 0x86dd };
enum { // IP protocols and IPv6 next headers
    WIRE_HOP_BY_HOP = 0,
    WIRE_PROTOCOL_ICMP4 = 1,
    WIRE_PROTOCOL_TCP = 6,
    WIRE_PROTOCOL_UDP = 17,
    WIRE_PROTOCOL_FRAGMENT = 44,
    WIRE_PROTOCOL_ICMP6 = 58,
};
enum { WIRE_FIN = 1, WIRE_SYN = 2, WIRE_RST = 4, WIRE_ACK = 16 }; // byte 13 of a TCP header

struct wire {
    uint16_t type;                          // EtherType
    uint8_t protocol;                       // of IP: what stands at `at`
    bool fragment;                          // part of an IPv4 packet
    bool options;                           // IPv4 options
    uint16_t source, target, address_bytes; // where the IP addresses are, and 4 or 16
    uint16_t at, n; // the transport header's place, and bytes from there to the packet's end
};

static inline uint16_t wire_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t wire_u32(const uint8_t *p)
{
    return (uint32_t)wire_u16(p) << 16 | wire_u16(p + 2);
}

static inline void wire_u16_put(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void wire_u32_put(uint8_t *p, uint32_t value)
{
    wire_u16_put(p, value >> 16);
    wire_u16_put(p + 2, value & 0xffff);
}

// wire_parse finds the headers of a frame of [n] bytes.  False: a header contradicts itself or
// does not fit.  Other EtherTypes than IPv4 and IPv6 have only `type`; a TCP or UDP header that
// starts at `at` is whole, unless fragment is set.
bool wire_parse(const uint8_t *frame, size_t n, struct wire *ret);

// wire_sum adds n bytes to a one's complement sum; wire_sum_end folds it: the checksum.
uint32_t wire_sum(uint32_t sum, const void *bytes, size_t n);
uint16_t wire_sum_end(uint32_t sum);
// wire_transport_sum is the checksum of TCP, UDP or ICMPv6 of a frame that wire_parse took, over
// its pseudo header and its bytes, the checksum field included: 0 if that is right.
uint16_t wire_transport_sum(const uint8_t *frame, const struct wire *wire);

// wire_tcp_add adds to a sequence number of a TCP header (at: 4 its own, 8 the acknowledged) and
// corrects the checksum; a wrong checksum stays wrong.
void wire_tcp_add(uint8_t *tcp, size_t at, uint32_t add);
