// SPDX-License-Identifier: MIT
#include "io/net/wire.h"

static bool ip4_parse(const uint8_t *ip, size_t n, struct wire *ret)
{
    if (n < WIRE_IP4 || ip[0] >> 4 != 4)
        return false;
    size_t header = (size_t)(ip[0] & 15) * 4, total = wire_u16(ip + 2);
    if (header < WIRE_IP4 || total < header || total > n)
        return false;
    ret->protocol = ip[9];
    ret->fragment = (wire_u16(ip + 6) & 0x3fff) != 0; // more to come, or not the first
    ret->options = header > WIRE_IP4;
    ret->source = WIRE_ETHERNET + 12;
    ret->target = WIRE_ETHERNET + 16;
    ret->address_bytes = 4;
    ret->at = (uint16_t)(WIRE_ETHERNET + header);
    ret->n = (uint16_t)(total - header);
    return true;
}

static bool ip6_parse(const uint8_t *ip, size_t n, struct wire *ret)
{
    if (n < WIRE_IP6 || ip[0] >> 4 != 6 || wire_u16(ip + 4) > n - WIRE_IP6)
        return false;
    ret->protocol = ip[6];
    ret->source = WIRE_ETHERNET + 8;
    ret->target = WIRE_ETHERNET + 24;
    ret->address_bytes = 16;
    ret->at = WIRE_ETHERNET + WIRE_IP6;
    ret->n = wire_u16(ip + 4);
    return true;
}

bool wire_parse(const uint8_t *frame, size_t n, struct wire *ret)
{
    struct wire wire = {0};

    if (n < WIRE_ETHERNET || n > UINT16_MAX)
        return false;
    wire.type = wire_u16(frame + 12);
    if (wire.type == WIRE_TYPE_IP4 && !ip4_parse(frame + WIRE_ETHERNET, n - WIRE_ETHERNET, &wire))
        return false;
    if (wire.type == WIRE_TYPE_IP6 && !ip6_parse(frame + WIRE_ETHERNET, n - WIRE_ETHERNET, &wire))
        return false;
    if (!wire.fragment && wire.protocol == WIRE_PROTOCOL_TCP) {
        const uint8_t *tcp = frame + wire.at;
        if (wire.n < WIRE_TCP || tcp[12] >> 4 < 5 || (tcp[12] >> 4) * 4 > wire.n)
            return false;
    }
    if (!wire.fragment && wire.protocol == WIRE_PROTOCOL_UDP) {
        const uint8_t *udp = frame + wire.at;
        if (wire.n < WIRE_UDP || wire_u16(udp + 4) < WIRE_UDP || wire_u16(udp + 4) > wire.n)
            return false;
    }
    *ret = wire;
    return true;
}

uint32_t wire_sum(uint32_t sum, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    for (; n >= 2; n -= 2, p += 2)
        sum += wire_u16(p);
    return n ? sum + ((uint32_t)p[0] << 8) : sum;
}

uint16_t wire_sum_end(uint32_t sum)
{
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    return (uint16_t)~sum;
}

uint16_t wire_transport_sum(const uint8_t *frame, const struct wire *wire)
{
    uint32_t sum = (uint32_t)wire->protocol + wire->n;
    sum = wire_sum(sum, frame + wire->source, (size_t)wire->address_bytes * 2);
    return wire_sum_end(wire_sum(sum, frame + wire->at, wire->n));
}

void wire_tcp_add(uint8_t *tcp, size_t at, uint32_t add)
{
    uint32_t was = wire_u32(tcp + at), is = was + add;
    // RFC 1624: HC' = ~(~HC + ~m + m'), for both halves of the number.
    uint32_t sum = (uint16_t)~wire_u16(tcp + 16);
    sum += (uint16_t) ~(was >> 16) + (uint32_t)(uint16_t)~was;
    sum += (is >> 16) + (is & 0xffff);
    wire_u32_put(tcp + at, is);
    wire_u16_put(tcp + 16, wire_sum_end(sum));
}
