// SPDX-License-Identifier: MIT
#include "io/net/dhcp.h"

#include "io/net/siphash.h"
#include "io/net/wire.h"

#include <assert.h>
#include <string.h>

#define SECOND_US     1000000ull
#define TRIES_MAX     4u  // of a REQUEST, before another offer is looked for
#define BACKOFF_MAX_S 64u // 4, 8, 16, 32, 64 seconds, +-1 (RFC 2131, 4.1)
#define RENEW_MIN_US  (60 * SECOND_US)
#define LEASE_MIN_S   20u // less would only cost packets
#define INFINITE      0xffffffffu
#define BOOTP_BYTES   240u // with the cookie
#define COOKIE        0x63825363u

enum { DISCOVER = 1, OFFER = 2, REQUEST = 3, ACK = 5, NAK = 6 };
enum {
    OPTION_PAD = 0,
    OPTION_MASK = 1,
    OPTION_ROUTER = 3,
    OPTION_ADDRESS = 50,
    OPTION_LEASE = 51,
    OPTION_KIND = 53,
    OPTION_SERVER = 54,
    OPTION_WANTED = 55,
    OPTION_SIZE = 57,
    OPTION_T1 = 58,
    OPTION_T2 = 59,
    OPTION_CLIENT = 61,
    OPTION_END = 255,
};

const char *const dhcp_state_label[DHCP_STATE_COUNT] = {
    [DHCP_SELECTING] = "selecting", [DHCP_REQUESTING] = "requesting", [DHCP_BOUND] = "bound",
    [DHCP_RENEWING] = "renewing",   [DHCP_REBINDING] = "rebinding",
};

static const uint8_t nothing[4];

struct message { // what a server said
    uint8_t kind;
    bool has_server, has_mask, has_lease;
    uint8_t address[4], server[4], mask[4], router[4];
    uint32_t lease_s, t1_s, t2_s;
};

/* ---------------------------------------------------------------- messages in */

static bool host_possible(const uint8_t address[4])
{
    return address[0] != 0 && address[0] != 127 && address[0] < 224;
}

static bool mask_possible(const uint8_t mask[4])
{
    uint32_t holes = ~wire_u32(mask);
    return wire_u32(mask) != 0 && (holes & (holes + 1)) == 0;
}

static void option_read(struct message *m, uint8_t code, const uint8_t *value, uint8_t n)
{
    if (code == OPTION_KIND && n == 1)
        m->kind = value[0];
    if (n < 4)
        return;
    switch (code) {
    case OPTION_MASK:
        memcpy(m->mask, value, 4);
        m->has_mask = true;
        break;
    case OPTION_ROUTER:
        memcpy(m->router, value, 4);
        break;
    case OPTION_SERVER:
        memcpy(m->server, value, 4);
        m->has_server = true;
        break;
    case OPTION_LEASE:
        m->lease_s = wire_u32(value);
        m->has_lease = true;
        break;
    case OPTION_T1:
        m->t1_s = wire_u32(value);
        break;
    case OPTION_T2:
        m->t2_s = wire_u32(value);
        break;
    default:
        break;
    }
}

static bool options_read(struct message *m, const uint8_t *at, size_t n)
{
    for (size_t i = 0; i < n && at[i] != OPTION_END;) {
        if (at[i] == OPTION_PAD) {
            i++;
            continue;
        }
        if (n - i < 2 || at[i + 1] > n - i - 2)
            return false;
        option_read(m, at[i], at + i + 2, at[i + 1]);
        i += 2u + at[i + 1];
    }
    return true;
}

// checksums_right: the NIC may not have looked.  A UDP checksum of 0 says that there is none.
static bool checksums_right(const uint8_t *frame, struct wire *wire)
{
    const uint8_t *udp = frame + wire->at;
    wire->n = wire_u16(udp + 4); // behind it stands what nobody speaks of
    return wire_sum_end(wire_sum(0, frame + WIRE_ETHERNET, WIRE_IP4)) == 0 &&
           (wire_u16(udp + 6) == 0 || wire_transport_sum(frame, wire) == 0);
}

static bool message_read(const struct dhcp *dhcp, const uint8_t *frame, size_t n,
                         struct message *ret)
{
    struct wire wire;
    struct message m = {0};

    if (!wire_parse(frame, n, &wire) || wire.type != WIRE_TYPE_IP4 || wire.fragment ||
        wire.options || wire.protocol != WIRE_PROTOCOL_UDP || !checksums_right(frame, &wire))
        return false;
    const uint8_t *bootp = frame + wire.at + WIRE_UDP;
    size_t bytes = wire.n - WIRE_UDP;
    if (bytes < BOOTP_BYTES || bootp[0] != 2 || bootp[1] != 1 || bootp[2] != 6 ||
        wire_u32(bootp + 4) != dhcp->xid || memcmp(bootp + 28, dhcp->mac, 6) != 0 ||
        wire_u32(bootp + 236) != COOKIE ||
        !options_read(&m, bootp + BOOTP_BYTES, bytes - BOOTP_BYTES))
        return false;
    memcpy(m.address, bootp + 16, 4);
    *ret = m;
    return true;
}

/* ---------------------------------------------------------------- states */

static uint32_t draw(struct dhcp *dhcp)
{
    dhcp->drawn++;
    return (uint32_t)siphash(dhcp->secret, &dhcp->drawn, sizeof(dhcp->drawn));
}

static void state_set(struct dhcp *dhcp, enum dhcp_state next, uint64_t now_us)
{
    static const uint8_t legal[DHCP_STATE_COUNT] = {
        // bit n set: a move to state n is legal
        [DHCP_SELECTING] = 1u << DHCP_REQUESTING | 1u << DHCP_SELECTING,
        [DHCP_REQUESTING] = 1u << DHCP_BOUND | 1u << DHCP_SELECTING,
        [DHCP_BOUND] = 1u << DHCP_RENEWING,
        [DHCP_RENEWING] = 1u << DHCP_BOUND | 1u << DHCP_REBINDING | 1u << DHCP_SELECTING,
        [DHCP_REBINDING] = 1u << DHCP_BOUND | 1u << DHCP_SELECTING,
    };
    assert(legal[dhcp->state] & 1u << next);
    dhcp->state = next;
    dhcp->tries = 0;
    dhcp->send_us = now_us;
}

// restart looks for a server.  Returns whether there was a lease.
static bool restart(struct dhcp *dhcp, uint64_t now_us)
{
    bool had = memcmp(dhcp->lease.address, nothing, 4) != 0;
    state_set(dhcp, DHCP_SELECTING, now_us);
    dhcp->lease = (struct dhcp_lease){0};
    dhcp->began_us = now_us;
    dhcp->xid = draw(dhcp);
    return had;
}

static void renew(struct dhcp *dhcp, uint64_t now_us)
{
    state_set(dhcp, DHCP_RENEWING, now_us);
    dhcp->began_us = now_us;
    dhcp->xid = draw(dhcp);
}

// times_set: T1 and T2 as the server says, if they make sense, else as RFC 2131 does.
static void times_set(struct dhcp *dhcp, const struct message *m, uint64_t now_us)
{
    uint64_t lease = m->lease_s < LEASE_MIN_S ? LEASE_MIN_S : m->lease_s;
    uint64_t t1 = m->t1_s, t2 = m->t2_s;

    if (t2 == 0 || t2 >= lease)
        t2 = lease * 7 / 8;
    if (t1 == 0 || t1 >= t2)
        t1 = lease / 2 < t2 ? lease / 2 : t2 / 2;
    dhcp->t1_us = now_us + t1 * SECOND_US;
    dhcp->t2_us = now_us + t2 * SECOND_US;
    dhcp->end_us = now_us + lease * SECOND_US;
    if (m->lease_s == INFINITE)
        dhcp->t1_us = dhcp->t2_us = dhcp->end_us = UINT64_MAX;
}

static bool lease_take(struct dhcp *dhcp, const struct message *m, const uint8_t *frame,
                       uint64_t now_us)
{
    static const uint8_t mask24[4] = {255, 255, 255, 0};
    struct dhcp_lease lease = {0}, before = dhcp->lease;

    memcpy(lease.address, m->address, 4);
    memcpy(lease.mask, m->has_mask && mask_possible(m->mask) ? m->mask : mask24, 4);
    if (host_possible(m->router))
        memcpy(lease.gateway, m->router, 4);
    state_set(dhcp, DHCP_BOUND, now_us);
    dhcp->lease = lease;
    memcpy(dhcp->server, m->server, 4);
    memcpy(dhcp->server_mac, frame + 6, 6);
    times_set(dhcp, m, now_us);
    return memcmp(&lease, &before, sizeof(lease)) != 0;
}

bool dhcp_input(struct dhcp *dhcp, const uint8_t *frame, size_t n, uint64_t now_us)
{
    struct message m;

    if (dhcp->state == DHCP_BOUND || !message_read(dhcp, frame, n, &m) || !m.has_server)
        return false;
    bool usable = host_possible(m.address) && m.has_lease;
    if (dhcp->state == DHCP_SELECTING) {
        if (m.kind != OFFER || !usable)
            return false;
        state_set(dhcp, DHCP_REQUESTING, now_us);
        memcpy(dhcp->offered, m.address, 4);
        memcpy(dhcp->server, m.server, 4);
        return false;
    }
    // Whom we did not ask has no say; when rebinding we ask all.
    if (dhcp->state != DHCP_REBINDING && memcmp(m.server, dhcp->server, 4) != 0)
        return false;
    if (m.kind == NAK) {
        bool had = restart(dhcp, now_us);
        dhcp->send_us += SECOND_US; // else the two of us could go on at the speed of the wire
        return had;
    }
    if (m.kind != ACK || !usable)
        return false;
    return lease_take(dhcp, &m, frame, now_us);
}

/* ---------------------------------------------------------------- messages out */

static uint8_t *option_put(uint8_t *at, uint8_t code, const void *value, uint8_t n)
{
    at[0] = code;
    at[1] = n;
    memcpy(at + 2, value, n);
    return at + 2 + n;
}

static void options_put(const struct dhcp *dhcp, uint8_t *at)
{
    static const uint8_t wanted[] = {OPTION_MASK,   OPTION_ROUTER, OPTION_LEASE,
                                     OPTION_SERVER, OPTION_T1,     OPTION_T2};
    uint8_t kind = dhcp->state == DHCP_SELECTING ? DISCOVER : REQUEST;
    uint8_t client[7] = {1}, size[2];

    memcpy(client + 1, dhcp->mac, 6);
    wire_u16_put(size, 576);
    at = option_put(at, OPTION_KIND, &kind, 1);
    at = option_put(at, OPTION_CLIENT, client, sizeof(client));
    if (dhcp->state == DHCP_REQUESTING) {
        at = option_put(at, OPTION_ADDRESS, dhcp->offered, 4);
        at = option_put(at, OPTION_SERVER, dhcp->server, 4);
    }
    at = option_put(at, OPTION_SIZE, size, sizeof(size));
    at = option_put(at, OPTION_WANTED, wanted, sizeof(wanted));
    *at = OPTION_END;
}

static void frame_write(const struct dhcp *dhcp, uint64_t now_us, uint8_t frame[DHCP_FRAME_BYTES])
{
    uint8_t *ip = frame + WIRE_ETHERNET, *udp = ip + WIRE_IP4, *bootp = udp + WIRE_UDP;
    bool unicast = dhcp->state == DHCP_RENEWING;
    uint64_t elapsed_s = (now_us - dhcp->began_us) / SECOND_US;
    struct wire wire = {.type = WIRE_TYPE_IP4,
                        .protocol = WIRE_PROTOCOL_UDP,
                        .source = WIRE_ETHERNET + 12,
                        .target = WIRE_ETHERNET + 16,
                        .address_bytes = 4,
                        .at = WIRE_ETHERNET + WIRE_IP4,
                        .n = DHCP_FRAME_BYTES - WIRE_ETHERNET - WIRE_IP4};

    memset(frame, 0, DHCP_FRAME_BYTES);
    memset(frame, 0xff, 6);
    wire_u32_put(ip + 16, UINT32_MAX);
    if (unicast) {
        memcpy(frame, dhcp->server_mac, 6);
        memcpy(ip + 16, dhcp->server, 4);
    }
    memcpy(frame + 6, dhcp->mac, 6);
    wire_u16_put(frame + 12, WIRE_TYPE_IP4);
    ip[0] = 0x45;
    wire_u16_put(ip + 2, DHCP_FRAME_BYTES - WIRE_ETHERNET);
    ip[8] = 64;
    ip[9] = WIRE_PROTOCOL_UDP;
    memcpy(ip + 12, dhcp->lease.address, 4);
    wire_u16_put(ip + 10, wire_sum_end(wire_sum(0, ip, WIRE_IP4)));
    wire_u16_put(udp, 68);
    wire_u16_put(udp + 2, 67);
    wire_u16_put(udp + 4, wire.n);

    bootp[0] = 1;
    bootp[1] = 1;
    bootp[2] = 6;
    wire_u32_put(bootp + 4, dhcp->xid);
    wire_u16_put(bootp + 8, elapsed_s < 0xffff ? (uint32_t)elapsed_s : 0xffff);
    memcpy(bootp + 12, dhcp->lease.address, 4);
    memcpy(bootp + 28, dhcp->mac, 6);
    wire_u32_put(bootp + 236, COOKIE);
    options_put(dhcp, bootp + BOOTP_BYTES);
    uint16_t sum = wire_transport_sum(frame, &wire);
    wire_u16_put(udp + 6, sum ? sum : 0xffff);
}

/* ---------------------------------------------------------------- time */

// wait_us is how long to wait for the answer to the message that is sent now.
static uint64_t wait_us(struct dhcp *dhcp, uint64_t now_us)
{
    if (dhcp->state == DHCP_RENEWING || dhcp->state == DHCP_REBINDING) {
        uint64_t until = dhcp->state == DHCP_RENEWING ? dhcp->t2_us : dhcp->end_us;
        uint64_t half = until > now_us ? (until - now_us) / 2 : 0;
        return half > RENEW_MIN_US ? half : RENEW_MIN_US;
    }
    uint64_t seconds = 4ull << (dhcp->tries < 4 ? dhcp->tries : 4);
    assert(seconds <= BACKOFF_MAX_S);
    return (seconds - 1) * SECOND_US + draw(dhcp) % (2 * SECOND_US + 1);
}

bool dhcp_run(struct dhcp *dhcp, uint64_t now_us, uint8_t ret_frame[DHCP_FRAME_BYTES],
              size_t *ret_n)
{
    bool changed = false;

    *ret_n = 0;
    if (dhcp->state == DHCP_BOUND && now_us >= dhcp->t1_us)
        renew(dhcp, now_us);
    if (dhcp->state == DHCP_RENEWING && now_us >= dhcp->t2_us)
        state_set(dhcp, DHCP_REBINDING, now_us);
    if (dhcp->state == DHCP_REBINDING && now_us >= dhcp->end_us)
        changed = restart(dhcp, now_us);
    if (dhcp->state == DHCP_BOUND || now_us < dhcp->send_us)
        return changed;
    if (dhcp->state == DHCP_REQUESTING && dhcp->tries == TRIES_MAX)
        (void)restart(dhcp, now_us);
    frame_write(dhcp, now_us, ret_frame);
    *ret_n = DHCP_FRAME_BYTES;
    dhcp->send_us = now_us + wait_us(dhcp, now_us);
    dhcp->tries++;
    return changed;
}

uint64_t dhcp_due_us(const struct dhcp *dhcp)
{
    uint64_t due = dhcp->state == DHCP_BOUND ? dhcp->t1_us : dhcp->send_us;
    if (dhcp->state == DHCP_RENEWING && dhcp->t2_us < due)
        due = dhcp->t2_us;
    if (dhcp->state == DHCP_REBINDING && dhcp->end_us < due)
        due = dhcp->end_us;
    return due;
}

void dhcp_init(struct dhcp *dhcp, const uint8_t mac[6], const uint64_t secret[2], uint64_t now_us)
{
    *dhcp = (struct dhcp){.secret = {secret[0], secret[1]}};
    memcpy(dhcp->mac, mac, 6);
    (void)restart(dhcp, now_us);
}
