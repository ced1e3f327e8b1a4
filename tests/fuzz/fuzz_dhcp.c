// SPDX-License-Identifier: MIT
// A DHCP server that says anything, at any time: two bytes of time, one of length / 2 and a message
// after the other.  The client's state keeps its rules, a lease is one that a host can have, and no
// server makes it send more than a few frames a second.
#include "io/net/dhcp.h"
#include "io/net/wire.h"
#include "tests/check.h"

#include <string.h>

#define SECOND    1000000ull
#define FRAME_MAX (42u + 240u + 510u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 7};

static void state_check(const struct dhcp *d, uint64_t now)
{
    static const uint8_t zeros[12];
    bool leased = d->state == DHCP_BOUND || d->state == DHCP_RENEWING || d->state == DHCP_REBINDING;

    CHECK(d->state < DHCP_STATE_COUNT && dhcp_state_label[d->state]);
    CHECK(sizeof(d->lease) == sizeof(zeros));
    if (!leased) {
        CHECK(memcmp(&d->lease, zeros, sizeof(zeros)) == 0);
        return;
    }
    uint32_t mask = wire_u32(d->lease.mask);
    CHECK(mask && ((~mask + 1) & ~mask) == 0);
    CHECK(d->lease.address[0] != 0 && d->lease.address[0] != 127 && d->lease.address[0] < 224);
    CHECK(d->lease.gateway[0] < 224);
    CHECK(d->t1_us <= d->t2_us && d->t2_us <= d->end_us && d->end_us > now);
}

// message_wrap puts bytes behind the headers of an answer to us, with right checksums; the first of
// them may change the fixed part.  Returns the frame's bytes.
static size_t message_wrap(const struct dhcp *d, const uint8_t *bytes, size_t n,
                           uint8_t frame[FRAME_MAX])
{
    uint8_t *bootp = frame + 42;
    size_t total = 42 + 240 + n;
    struct wire wire;

    memset(frame, 0, FRAME_MAX);
    memcpy(frame, mac, 6);
    frame[6] = 2;
    wire_u16_put(frame + 12, WIRE_TYPE_IP4);
    frame[14] = 0x45;
    wire_u16_put(frame + 16, (uint32_t)total - 14);
    frame[23] = WIRE_PROTOCOL_UDP;
    wire_u16_put(frame + 24, wire_sum_end(wire_sum(0, frame + 14, 20)));
    wire_u16_put(frame + 34, 67);
    wire_u16_put(frame + 36, 68);
    wire_u16_put(frame + 38, (uint32_t)total - 34);
    bootp[0] = 2;
    bootp[1] = 1;
    bootp[2] = 6;
    wire_u32_put(bootp + 4, d->xid);
    if (n >= 4)
        memcpy(bootp + 16, bytes, 4);
    memcpy(bootp + 28, mac, 6);
    wire_u32_put(bootp + 236, 0x63825363);
    if (n > 4)
        memcpy(bootp + 240, bytes + 4, n - 4);
    CHECK(wire_parse(frame, total, &wire));
    wire_u16_put(frame + 40, wire_transport_sum(frame, &wire));
    return total;
}

static void converse(const uint8_t *data, size_t size, bool wrapped)
{
    static const uint64_t secret[2] = {5, 6};
    uint8_t frame[FRAME_MAX], out[DHCP_FRAME_BYTES];
    uint64_t now = SECOND, begin = now, messages = 0, sent = 0;
    struct dhcp d;

    dhcp_init(&d, mac, secret, now);
    while (size >= 3) {
        size_t n = (size_t)data[2] * 2 < size - 3 ? (size_t)data[2] * 2 : size - 3;
        uint64_t step = wire_u16(data) * (SECOND / 16), until = now + step;
        const uint8_t *bytes = data + 3;
        // Everything that is due until the message comes.
        for (uint64_t due = now; due <= until; due = dhcp_due_us(&d)) {
            size_t out_n = 0;
            CHECK(due >= now);
            now = due;
            (void)dhcp_run(&d, now, out, &out_n);
            CHECK(out_n == 0 || out_n == DHCP_FRAME_BYTES);
            sent += out_n != 0;
            state_check(&d, now);
            CHECK(dhcp_due_us(&d) > now || d.state == DHCP_BOUND);
        }
        now = until;
        uint8_t *exact = malloc(n + FRAME_MAX);
        CHECK(exact);
        size_t frame_n = n;
        if (wrapped) {
            frame_n = message_wrap(&d, bytes, n, frame);
            bytes = frame;
        }
        exact = realloc(exact, frame_n ? frame_n : 1);
        CHECK(exact);
        memcpy(exact, bytes, frame_n);
        (void)dhcp_input(&d, exact, frame_n, now);
        state_check(&d, now);
        free(exact);
        messages++;
        data += 3 + n;
        size -= 3 + n;
    }
    CHECK(sent <= 2 + 2 * messages + (now - begin) / (2 * SECOND));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    converse(data, size, false);
    converse(data, size, true);
    return 0;
}
