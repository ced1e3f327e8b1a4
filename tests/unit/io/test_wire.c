// SPDX-License-Identifier: MIT
// Headers, checksums and SipHash against what the RFCs and the paper say.
#include "io/net/siphash.h"
#include "io/net/wire.h"
#include "tests/check.h"

#include <string.h>

static void test_siphash(void)
{
    // Of the paper's appendix and reference code: key 00..0f, input 00..n-1.
    static const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
    uint8_t bytes[15];

    for (uint8_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = i;
    CHECK(siphash(key, bytes, 0) == 0x726fdb47dd0e0e31u);
    CHECK(siphash(key, bytes, 8) == 0x93f5f5799a932462u);
    CHECK(siphash(key, bytes, 15) == 0xa129ca6149be45e5u);
}

static void test_sum(void)
{
    // RFC 1071's example, and a byte that is left over.
    static const uint8_t bytes[8] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    CHECK(wire_sum_end(wire_sum(0, bytes, 8)) == (uint16_t)~0xddf2);
    CHECK(wire_sum_end(wire_sum(0, bytes + 1, 1)) == (uint16_t)~0x0100);
    CHECK(wire_sum_end(0) == 0xffff);
}

// tcp_frame writes an IPv4 segment of `extra` bytes.
static size_t tcp_frame(uint8_t *frame, size_t extra, uint64_t *random)
{
    size_t n = 54 + extra;
    struct wire wire;

    for (size_t i = 0; i < n; i++)
        frame[i] = (uint8_t)check_random(random);
    wire_u16_put(frame + 12, WIRE_TYPE_IP4);
    frame[14] = 0x45;
    wire_u16_put(frame + 16, (uint32_t)n - 14);
    wire_u16_put(frame + 20, 0x4000);
    frame[23] = WIRE_PROTOCOL_TCP;
    frame[34 + 12] = 5 << 4;
    CHECK(wire_parse(frame, n, &wire));
    CHECK(wire.at == 34 && wire.n == 20 + extra && !wire.fragment && !wire.options);
    wire_u16_put(frame + 34 + 16, 0);
    wire_u16_put(frame + 34 + 16, wire_transport_sum(frame, &wire));
    CHECK(wire_transport_sum(frame, &wire) == 0);
    return n;
}

static void test_add(void)
{
    uint64_t random = 7;
    uint8_t frame[200];
    struct wire wire;

    for (int i = 0; i < 100000; i++) {
        size_t n = tcp_frame(frame, check_random(&random) % 100, &random);
        size_t at = i % 2 ? 4 : 8;
        uint32_t was = wire_u32(frame + 34 + at), add = (uint32_t)check_random(&random);
        bool wrong = i % 7 == 0;
        frame[33] = (uint8_t)(frame[33] ^ wrong); // an address: the checksum no longer fits
        CHECK(wire_parse(frame, n, &wire));
        wire_tcp_add(frame + 34, at, add);
        CHECK(wire_u32(frame + 34 + at) == was + add);
        CHECK((wire_transport_sum(frame, &wire) == 0) == !wrong);
        wire_tcp_add(frame + 34, at, 0u - add);
        CHECK(wire_u32(frame + 34 + at) == was);
        CHECK((wire_transport_sum(frame, &wire) == 0) == !wrong);
    }
}

static void test_parse(void)
{
    uint64_t random = 9;
    uint8_t frame[128], was[128];
    struct wire wire;
    size_t n = tcp_frame(frame, 8, &random);

    memcpy(was, frame, n);
    for (size_t i = 0; i < n; i++) // shorter than its headers say
        CHECK(!wire_parse(frame, i, &wire) || i == n);
    CHECK(wire_parse(frame, n + 10, &wire) && wire.n == 28); // padding
    frame[14] = 0x44;
    CHECK(!wire_parse(frame, n, &wire));
    frame[14] = 0x65;
    CHECK(!wire_parse(frame, n, &wire));
    frame[14] = 0x46;
    frame[34 + 4 + 12] = 5 << 4; // where TCP is now
    CHECK(wire_parse(frame, n, &wire) && wire.options && wire.at == 38);
    memcpy(frame, was, n);
    wire_u16_put(frame + 16, 19);
    CHECK(!wire_parse(frame, n, &wire));
    memcpy(frame, was, n);
    frame[46] = 4 << 4;
    CHECK(!wire_parse(frame, n, &wire));
    frame[46] = 8 << 4; // 32 bytes of header in 28
    CHECK(!wire_parse(frame, n, &wire));
    frame[20] = 0x20; // but what is a fragment has no header to look at
    CHECK(wire_parse(frame, n, &wire) && wire.fragment);
    frame[20] = 0;
    frame[21] = 1;
    CHECK(wire_parse(frame, n, &wire) && wire.fragment);
    frame[21] = 0;
    frame[23] = WIRE_PROTOCOL_UDP;
    wire_u16_put(frame + 38, 28);
    CHECK(wire_parse(frame, n, &wire));
    wire_u16_put(frame + 38, 29);
    CHECK(!wire_parse(frame, n, &wire));
    wire_u16_put(frame + 38, 7);
    CHECK(!wire_parse(frame, n, &wire));

    wire_u16_put(frame + 12, WIRE_TYPE_IP6);
    CHECK(!wire_parse(frame, n, &wire));
    memset(frame + 14, 0, 40);
    frame[14] = 0x60;
    wire_u16_put(frame + 18, (uint32_t)n - 54);
    frame[20] = WIRE_PROTOCOL_ICMP6;
    CHECK(wire_parse(frame, n, &wire) && wire.at == 54 && wire.n == n - 54);
    CHECK(wire.address_bytes == 16 && wire.source == 22 && wire.target == 38);
    wire_u16_put(frame + 18, (uint32_t)n - 53);
    CHECK(!wire_parse(frame, n, &wire));
}

int main(void)
{
    test_siphash();
    test_sum();
    test_add();
    test_parse();
    return 0;
}
