// SPDX-License-Identifier: MIT
// The DHCP client against a server of the test: the whole life of a lease, what is lost, what is
// refused, and what makes no sense.
#include "io/net/dhcp.h"
#include "io/net/wire.h"
#include "tests/check.h"

#include <string.h>

#define SECOND 1000000ull

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 7}, server_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t server[4] = {10, 9, 0, 1}, address[4] = {10, 9, 0, 50};
static const uint64_t secret[2] = {1, 2};

enum { DISCOVER = 1, OFFER = 2, REQUEST = 3, ACK = 5, NAK = 6 };

// option_of finds an option of a frame that the client made; NULL: it has none.
static const uint8_t *option_of(const uint8_t *frame, uint8_t code)
{
    const uint8_t *at = frame + 42 + 240;
    for (; at < frame + DHCP_FRAME_BYTES && *at != 255; at += 2 + at[1]) {
        if (*at == code)
            return at + 2;
    }
    return NULL;
}

static void frame_check(const uint8_t *frame, uint8_t kind)
{
    struct wire wire;
    CHECK(wire_parse(frame, DHCP_FRAME_BYTES, &wire));
    CHECK(wire.protocol == WIRE_PROTOCOL_UDP && wire_transport_sum(frame, &wire) == 0);
    CHECK(wire_sum_end(wire_sum(0, frame + 14, 20)) == 0);
    CHECK(wire_u16(frame + 34) == 68 && wire_u16(frame + 36) == 67);
    CHECK(memcmp(frame + 6, mac, 6) == 0 && memcmp(frame + 42 + 28, mac, 6) == 0);
    CHECK(option_of(frame, 53) && *option_of(frame, 53) == kind);
    CHECK(option_of(frame, 61) && memcmp(option_of(frame, 61) + 1, mac, 6) == 0);
}

struct answer {
    uint8_t kind;
    const uint8_t *server, *address;
    uint32_t lease_s, t1_s, t2_s;
    uint32_t xid_add; // != 0: not an answer to us
};

static uint8_t *option(uint8_t *at, uint8_t code, uint32_t value)
{
    at[0] = code;
    at[1] = 4;
    wire_u32_put(at + 2, value);
    return at + 6;
}

// answer_make writes what a server says to frame `to`; returns its bytes.
static size_t answer_make(const uint8_t *to, struct answer a, uint8_t frame[600])
{
    uint8_t *bootp = frame + 42, *at = bootp + 240;

    memset(frame, 0, 600);
    memcpy(bootp, to + 42, 240);
    bootp[0] = 2;
    wire_u32_put(bootp + 4, wire_u32(to + 46) + a.xid_add);
    memcpy(bootp + 16, a.address, 4);
    *at++ = 53;
    *at++ = 1;
    *at++ = a.kind;
    if (a.server)
        at = option(at, 54, wire_u32(a.server));
    at = option(at, 1, 0xffffff00);
    at = option(at, 3, wire_u32(server));
    if (a.lease_s)
        at = option(at, 51, a.lease_s);
    if (a.t1_s)
        at = option(at, 58, a.t1_s);
    if (a.t2_s)
        at = option(at, 59, a.t2_s);
    *at++ = 255;

    size_t n = (size_t)(at - frame);
    memcpy(frame, mac, 6);
    memcpy(frame + 6, server_mac, 6);
    wire_u16_put(frame + 12, WIRE_TYPE_IP4);
    frame[14] = 0x45;
    wire_u16_put(frame + 16, (uint32_t)n - 14);
    frame[22] = 64;
    frame[23] = WIRE_PROTOCOL_UDP;
    memcpy(frame + 26, server, 4);
    memcpy(frame + 30, a.address, 4);
    wire_u16_put(frame + 24, wire_sum_end(wire_sum(0, frame + 14, 20)));
    wire_u16_put(frame + 34, 67);
    wire_u16_put(frame + 36, 68);
    wire_u16_put(frame + 38, (uint32_t)n - 34);
    struct wire wire;
    CHECK(wire_parse(frame, n, &wire));
    wire_u16_put(frame + 40, wire_transport_sum(frame, &wire));
    return n;
}

static bool answer(struct dhcp *d, const uint8_t *to, struct answer a, uint64_t now)
{
    uint8_t frame[600];
    size_t n = answer_make(to, a, frame);
    return dhcp_input(d, frame, n, now);
}

static size_t run(struct dhcp *d, uint64_t now, uint8_t frame[DHCP_FRAME_BYTES], bool lost)
{
    size_t n = 1;
    CHECK(dhcp_run(d, now, frame, &n) == lost);
    return n;
}

// bound gives a client a lease of so many seconds at time `now`; sent: its last frame.
static void bound(struct dhcp *d, uint64_t now, uint32_t lease_s, uint8_t sent[DHCP_FRAME_BYTES])
{
    dhcp_init(d, mac, secret, now);
    CHECK(run(d, now, sent, false) == DHCP_FRAME_BYTES);
    frame_check(sent, DISCOVER);
    CHECK(!answer(d, sent, (struct answer){OFFER, server, address, lease_s, 0, 0, 0}, now));
    CHECK(d->state == DHCP_REQUESTING);
    CHECK(run(d, now, sent, false) == DHCP_FRAME_BYTES);
    frame_check(sent, REQUEST);
    CHECK(memcmp(option_of(sent, 50), address, 4) == 0);
    CHECK(memcmp(option_of(sent, 54), server, 4) == 0);
    CHECK(answer(d, sent, (struct answer){ACK, server, address, lease_s, 0, 0, 0}, now));
    CHECK(d->state == DHCP_BOUND);
    CHECK(memcmp(d->lease.address, address, 4) == 0 && wire_u32(d->lease.mask) == 0xffffff00);
    CHECK(memcmp(d->lease.gateway, server, 4) == 0);
}

static void test_life(void)
{
    struct dhcp d;
    uint8_t sent[DHCP_FRAME_BYTES];
    uint64_t now = 5 * SECOND;

    bound(&d, now, 3600, sent);
    CHECK(dhcp_due_us(&d) == now + 1800 * SECOND);
    CHECK(run(&d, now + 1799 * SECOND, sent, false) == 0);

    // T1: the server is asked alone, from our address, and the lease goes on from then.
    now += 1800 * SECOND;
    CHECK(run(&d, now, sent, false) == DHCP_FRAME_BYTES && d.state == DHCP_RENEWING);
    frame_check(sent, REQUEST);
    CHECK(memcmp(sent, server_mac, 6) == 0 && memcmp(sent + 30, server, 4) == 0);
    CHECK(memcmp(sent + 26, address, 4) == 0 && memcmp(sent + 42 + 12, address, 4) == 0);
    CHECK(!option_of(sent, 50) && !option_of(sent, 54));
    CHECK(!answer(&d, sent, (struct answer){ACK, server, address, 3600, 600, 700, 0}, now));
    CHECK(d.state == DHCP_BOUND && dhcp_due_us(&d) == now + 600 * SECOND);

    // Nobody answers: again at half of what is left until T2, then all are asked, then it is over.
    now += 600 * SECOND;
    CHECK(run(&d, now, sent, false) == DHCP_FRAME_BYTES);
    CHECK(dhcp_due_us(&d) == now + 60 * SECOND);
    now += 100 * SECOND;
    CHECK(run(&d, now, sent, false) == DHCP_FRAME_BYTES && d.state == DHCP_REBINDING);
    CHECK(sent[0] == 0xff && sent[30] == 0xff && memcmp(sent + 26, address, 4) == 0);
    CHECK(dhcp_due_us(&d) == now + 1450 * SECOND);
    uint32_t xid = d.xid;
    now += 2900 * SECOND;
    CHECK(run(&d, now, sent, true) == DHCP_FRAME_BYTES && d.state == DHCP_SELECTING);
    frame_check(sent, DISCOVER);
    CHECK(d.xid != xid && wire_u32(d.lease.address) == 0 && wire_u32(sent + 26) == 0);
}

static void test_other_server_rebinds(void)
{
    static const uint8_t other[4] = {10, 9, 0, 2}, moved[4] = {10, 9, 0, 51};
    struct dhcp d;
    uint8_t sent[DHCP_FRAME_BYTES];

    bound(&d, 0, 1000, sent);
    CHECK(run(&d, 500 * SECOND, sent, false));
    CHECK(!answer(&d, sent, (struct answer){NAK, other, address, 0, 0, 0, 0}, 500 * SECOND));
    CHECK(run(&d, 875 * SECOND, sent, false) && d.state == DHCP_REBINDING);
    CHECK(answer(&d, sent, (struct answer){ACK, other, moved, 1000, 0, 0, 0}, 876 * SECOND));
    CHECK(d.state == DHCP_BOUND && memcmp(d.lease.address, moved, 4) == 0);
    CHECK(memcmp(d.server, other, 4) == 0);
}

static void test_refused(void)
{
    struct dhcp d;
    uint8_t sent[DHCP_FRAME_BYTES];

    bound(&d, 0, 1000, sent);
    CHECK(run(&d, 500 * SECOND, sent, false));
    CHECK(answer(&d, sent, (struct answer){NAK, server, address, 0, 0, 0, 0}, 500 * SECOND));
    CHECK(d.state == DHCP_SELECTING && wire_u32(d.lease.address) == 0);
    CHECK(run(&d, 500 * SECOND, sent, false) == 0); // not at the speed of the wire
    CHECK(run(&d, 501 * SECOND, sent, false) == DHCP_FRAME_BYTES);
}

static void test_backoff(void)
{
    struct dhcp d;
    uint8_t sent[DHCP_FRAME_BYTES];
    uint64_t now = 0, waits[] = {4, 8, 16, 32, 64, 64, 64}, odd = 0;

    dhcp_init(&d, mac, secret, now);
    for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
        CHECK(run(&d, now, sent, false) == DHCP_FRAME_BYTES);
        uint64_t wait = dhcp_due_us(&d) - now;
        CHECK(wait >= (waits[i] - 1) * SECOND && wait <= (waits[i] + 1) * SECOND);
        odd += wait % SECOND != 0;
        CHECK(run(&d, now + wait - 1, sent, false) == 0);
        now += wait;
    }
    CHECK(odd > 0); // jitter: a rack that starts at once does not ask at once

    // A server that offers and then is silent: four requests, then another offer is looked for.
    dhcp_init(&d, mac, secret, 0);
    CHECK(run(&d, 0, sent, false));
    CHECK(!answer(&d, sent, (struct answer){OFFER, server, address, 60, 0, 0, 0}, 0));
    for (int i = 0; i < 4; i++) {
        CHECK(run(&d, i ? dhcp_due_us(&d) : 0, sent, false));
        frame_check(sent, REQUEST);
    }
    CHECK(run(&d, dhcp_due_us(&d), sent, false));
    frame_check(sent, DISCOVER);
}

static void test_not_for_us(void)
{
    static const uint8_t other[4] = {10, 9, 0, 2}, loop[4] = {127, 0, 0, 1},
                         many[4] = {224, 0, 0, 1};
    struct dhcp d;
    uint8_t sent[DHCP_FRAME_BYTES], frame[600];

    dhcp_init(&d, mac, secret, 0);
    CHECK(run(&d, 0, sent, false));
    const struct answer bad[] = {
        {ACK, server, address, 60, 0, 0, 0}, {OFFER, server, address, 60, 0, 0, 1},
        {OFFER, NULL, address, 60, 0, 0, 0}, {OFFER, server, loop, 60, 0, 0, 0},
        {OFFER, server, many, 60, 0, 0, 0},  {OFFER, server, address, 0, 0, 0, 0},
        {NAK, server, address, 60, 0, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(!answer(&d, sent, bad[i], 0));
        CHECK(d.state == DHCP_SELECTING);
    }
    // Every byte of a good offer counts, but what no client looks at and what is padding.
    size_t n = answer_make(sent, (struct answer){OFFER, server, address, 60, 0, 0, 0}, frame);
    for (size_t i = 14; i < n; i++) {
        struct dhcp was = d;
        frame[i] ^= 0x40;
        (void)dhcp_input(&d, frame, n, 0);
        CHECK(d.state == DHCP_SELECTING || i == 40 || i == 41); // a checksum of 0 says nothing
        frame[i] ^= 0x40;
        d = was;
    }
    for (size_t i = 0; i < n; i++) { // cut
        uint8_t *cut = malloc(i ? i : 1);
        CHECK(cut);
        memcpy(cut, frame, i);
        (void)dhcp_input(&d, cut, i, 0);
        CHECK(d.state == DHCP_SELECTING);
        free(cut);
    }
    (void)dhcp_input(&d, frame, n, 0);
    CHECK(d.state == DHCP_REQUESTING);
    CHECK(run(&d, 0, sent, false));
    CHECK(!answer(&d, sent, (struct answer){ACK, other, address, 60, 0, 0, 0}, 0));
    CHECK(!answer(&d, sent, (struct answer){NAK, other, address, 60, 0, 0, 0}, 0));
    CHECK(d.state == DHCP_REQUESTING);
}

static void test_times(void)
{
    struct dhcp d;
    uint8_t sent[DHCP_FRAME_BYTES];

    bound(&d, 0, 0xffffffff, sent);
    CHECK(dhcp_due_us(&d) == UINT64_MAX);
    bound(&d, 0, 1, sent); // as long as we take for the shortest
    CHECK(dhcp_due_us(&d) == 10 * SECOND);
    dhcp_init(&d, mac, secret, 0);
    CHECK(run(&d, 0, sent, false));
    CHECK(!answer(&d, sent, (struct answer){OFFER, server, address, 100, 0, 0, 0}, 0));
    CHECK(run(&d, 0, sent, false));
    CHECK(answer(&d, sent, (struct answer){ACK, server, address, 100, 90, 80, 0}, 0));
    CHECK(d.t1_us == 50 * SECOND && d.t2_us == 80 * SECOND); // T1 behind T2 is not believed
}

int main(void)
{
    test_life();
    test_other_server_rebinds();
    test_refused();
    test_backoff();
    test_not_for_us();
    test_times();
    return 0;
}
