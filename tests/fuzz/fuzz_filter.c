// SPDX-License-Identifier: MIT
// Any bytes as a frame, as they are and with addresses, port and checksum that are ours: the filter
// reads nothing beyond it, says the same twice, and what passes keeps the rules that lwIP relies
// on.
#include "io/net/filter.h"
#include "io/net/wire.h"
#include "tests/check.h"

#include <string.h>

#define SECOND 1000000ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 7}, ours4[4] = {10, 9, 0, 1};
static const uint8_t ours6[16] = {0xfd, 9, [15] = 1};

static void passed_check(const uint8_t *frame, size_t n)
{
    struct wire wire;
    CHECK(wire_parse(frame, n, &wire));
    CHECK(!wire.fragment && !wire.options);
    if (wire.type == WIRE_TYPE_ARP) {
        CHECK(n >= WIRE_ETHERNET + WIRE_ARP);
        return;
    }
    CHECK(wire.type == WIRE_TYPE_IP4 || wire.type == WIRE_TYPE_IP6);
    CHECK((size_t)wire.at + wire.n <= n);
    if (wire.protocol == WIRE_PROTOCOL_TCP) {
        CHECK(memcmp(frame + wire.target, wire.address_bytes == 4 ? ours4 : ours6,
                     wire.address_bytes) == 0);
        CHECK(wire_u16(frame + wire.at + 2) == 80);
    } else if (wire.protocol == WIRE_PROTOCOL_UDP) {
        CHECK(wire.type == WIRE_TYPE_IP4 && wire_u16(frame + wire.at + 2) == 68);
    } else if (wire.protocol == WIRE_PROTOCOL_ICMP6 && frame[wire.at] == 2) {
        CHECK(wire.n >= 56 && wire_u32(frame + wire.at + 4) >= 1280);
    } else {
        CHECK(wire.n >= 8);
    }
}

static void judge(const uint8_t *frame, size_t n, bool pressed)
{
    struct filter_params params = {.ports = {80}, .ports_n = 1, .dhcp = true, .syn_second = 100};
    struct filter *filter = NULL;
    uint8_t reply[FILTER_REPLY_MAX];
    size_t reply_n = 1;
    uint64_t sum = 0;

    memcpy(params.mac, mac, 6);
    CHECK(filter_create(&params, &filter) == 0);
    filter_address4_set(filter, ours4);
    filter_address6_set(filter, 3, ours6, true);
    filter_pressure(filter, pressed ? 100 : 0);
    enum filter_verdict verdict = filter_judge(filter, frame, n, SECOND, reply, &reply_n);
    CHECK(verdict < FILTER_VERDICT_COUNT && reply_n <= FILTER_REPLY_MAX);
    CHECK(reply_n == 0 || verdict == FILTER_SYN_PROOF);
    if (verdict == FILTER_PASS)
        passed_check(frame, n);
    CHECK(filter_judge(filter, frame, n, 2 * SECOND, reply, &reply_n) == verdict);
    for (uint32_t i = 0; i < FILTER_VERDICT_COUNT; i++)
        sum += filter_count(filter, (enum filter_verdict)i);
    CHECK(sum == 2);
    filter_destroy(&filter);
}

// mend makes the frame one for us, so that what stands behind the addresses is tried too.
static void mend(uint8_t *frame, size_t n)
{
    struct wire wire;

    if (n >= 6 && !(frame[0] & 1))
        memcpy(frame, mac, 6);
    if (n >= 7)
        frame[6] &= 0xfe;
    if (!wire_parse(frame, n, &wire) || !wire.address_bytes)
        return;
    if (frame[wire.target] != 0xff)
        memcpy(frame + wire.target, wire.address_bytes == 4 ? ours4 : ours6, wire.address_bytes);
    if (wire.protocol == WIRE_PROTOCOL_TCP && !wire.fragment) {
        wire_u16_put(frame + wire.at + 2, 80);
        wire_u16_put(frame + wire.at + 16, 0);
        wire_u16_put(frame + wire.at + 16, wire_transport_sum(frame, &wire));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *frame = malloc(size ? size : 1);
    CHECK(frame);
    memcpy(frame, data, size);
    judge(frame, size, false);
    mend(frame, size);
    judge(frame, size, false);
    judge(frame, size, true);
    free(frame);
    return 0;
}
