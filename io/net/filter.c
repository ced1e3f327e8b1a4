// SPDX-License-Identifier: MIT
#include "io/net/filter.h"

#include "io/net/siphash.h"
#include "io/net/wire.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SOURCE_SETS       2048u // with SOURCE_WAYS: 8192 sources, 192 KiB
#define SOURCE_WAYS       4u
#define PROOF_US          (600ull * 1000 * 1000)
#define COOKIE_EPOCH_US   (64ull * 1000 * 1000) // a cookie holds for this one and the next
#define PRESSURE_MAX      50u                   // per cent, above which sources prove themselves
#define CHALLENGES_FACTOR 8u                    // challenges a second, in rates of SYNs
#define SOURCE_SHARE      16u

// What a small server's neighbours need, with room: more of it only costs the stack's time.
#define ARP_SECOND        1000u
#define ARP_SOURCE_SECOND 50u // one MAC address
#define ICMP_SECOND       500u
#define ND_SECOND         1000u
#define DHCP_SECOND       50u

const char *const filter_label[FILTER_VERDICT_COUNT] = {[FILTER_PASS] = "pass",
#define FILTER_LABEL(id, label, help) [FILTER_##id] = #label,
                                                        FILTER_DROPS(FILTER_LABEL)
#undef FILTER_LABEL
};

// A token bucket as the time at which it will be full again (GCRA): one number a bucket.
struct rate {
    uint64_t cost_ns, depth_ns;
};

struct source {
    uint64_t tag;     // hash of the address; 0: free
    uint64_t full_ns; // its bucket
    uint64_t proof_until_us;
};

struct filter {
    struct filter_params params;
    uint8_t address4[4];
    uint8_t address6[FILTER_ADDRESSES6][16];
    bool settled6[FILTER_ADDRESSES6];
    bool pressed;
    struct rate syn_rate, source_rate, challenge_rate, arp_rate, arp_source_rate, icmp_rate,
        nd_rate, dhcp_rate;
    uint64_t syn_ns, proved_ns, challenge_ns, arp_ns, icmp_ns, nd_ns, dhcp_ns; // buckets
    uint64_t counts[FILTER_VERDICT_COUNT];
    struct source sources[SOURCE_SETS][SOURCE_WAYS];
};

static const uint8_t zeros[16];

/* ---------------------------------------------------------------- rates and sources */

// rate_make: so many a second, with `burst` at once.
static struct rate rate_make(uint32_t second, uint32_t burst)
{
    uint64_t cost = 1000000000ull / (second ? second : 1);
    return (struct rate){.cost_ns = cost, .depth_ns = cost * (burst ? burst - 1 : 0)};
}

static bool rate_has(const struct rate *rate, uint64_t full_ns, uint64_t now_ns)
{
    return full_ns <= now_ns + rate->depth_ns;
}

static bool rate_take(const struct rate *rate, uint64_t *full_ns, uint64_t now_ns)
{
    if (!rate_has(rate, *full_ns, now_ns))
        return false;
    *full_ns = (*full_ns > now_ns ? *full_ns : now_ns) + rate->cost_ns;
    return true;
}

static uint64_t source_tag(const struct filter *f, const uint8_t *address, size_t n)
{
    bool whole = n != 16 || (address[0] == 0xfe && (address[1] & 0xc0) == 0x80);
    return siphash(f->params.secret, address, whole ? n : 8) | 1;
}

static bool source_proved(const struct source *s, uint64_t now_us)
{
    return s && s->proof_until_us > now_us;
}

static struct source *source_find(struct filter *f, uint64_t tag)
{
    struct source *set = f->sources[tag >> 16 & (SOURCE_SETS - 1)];
    for (uint32_t i = 0; i < SOURCE_WAYS; i++) {
        if (set[i].tag == tag)
            return &set[i];
    }
    return NULL;
}

// source_place finds the source's place, or takes the one of the source that was quiet longest.
// Forged addresses must not push out real ones: the place of a source that proved itself goes only
// to another that did.  NULL: no place.
static struct source *source_place(struct filter *f, uint64_t tag, uint64_t now_us, bool proved)
{
    struct source *set = f->sources[tag >> 16 & (SOURCE_SETS - 1)], *found = source_find(f, tag);

    for (uint32_t i = 0; !found && i < SOURCE_WAYS; i++) {
        if (source_proved(&set[i], now_us))
            continue;
        struct source *best = &set[i];
        for (uint32_t k = i + 1; k < SOURCE_WAYS; k++) {
            if (!source_proved(&set[k], now_us) && set[k].full_ns < best->full_ns)
                best = &set[k];
        }
        *best = (struct source){.tag = tag};
        return best;
    }
    if (!found && proved) {
        found = &set[0];
        for (uint32_t i = 1; i < SOURCE_WAYS; i++) {
            if (set[i].proof_until_us < found->proof_until_us)
                found = &set[i];
        }
        *found = (struct source){.tag = tag};
    }
    return found;
}

/* ---------------------------------------------------------------- addresses */

static bool mac_ours(const struct filter *f, const uint8_t *mac)
{
    return memcmp(mac, f->params.mac, 6) == 0;
}

static bool mac_broadcast(const uint8_t *mac)
{
    return memcmp(mac, "\xff\xff\xff\xff\xff\xff", 6) == 0;
}

static bool ip4_ours(const struct filter *f, const uint8_t *address)
{
    return memcmp(address, f->address4, 4) == 0 && memcmp(address, zeros, 4) != 0;
}

static bool ip4_source_possible(const struct filter *f, const uint8_t *address)
{
    return address[0] != 0 && address[0] != 127 && address[0] < 224 && !ip4_ours(f, address);
}

static bool ip6_ours(const struct filter *f, const uint8_t *address)
{
    if (memcmp(address, zeros, 16) == 0)
        return false;
    for (uint32_t i = 0; i < FILTER_ADDRESSES6; i++) {
        if (memcmp(address, f->address6[i], 16) == 0)
            return true;
    }
    return false;
}

static bool ip6_settled(const struct filter *f, const uint8_t *address)
{
    for (uint32_t i = 0; i < FILTER_ADDRESSES6; i++) {
        if (f->settled6[i] && memcmp(address, f->address6[i], 16) == 0)
            return true;
    }
    return false;
}

// ip6_group says whether a multicast address is that of all nodes on the link, or one that stands
// for an address of ours (RFC 4291: ff02::1:ff and its last three bytes).
static bool ip6_group(const struct filter *f, const uint8_t *address)
{
    static const uint8_t all[16] = {0xff, 0x02, [15] = 1};
    static const uint8_t solicited[13] = {0xff, 0x02, [11] = 1, [12] = 0xff};

    if (memcmp(address, all, 16) == 0)
        return true;
    if (memcmp(address, solicited, 13) != 0)
        return false;
    for (uint32_t i = 0; i < FILTER_ADDRESSES6; i++) {
        if (memcmp(address + 13, f->address6[i] + 13, 3) == 0 &&
            memcmp(f->address6[i], zeros, 16) != 0)
            return true;
    }
    return false;
}

static bool ip6_source_possible(const struct filter *f, const uint8_t *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    bool low = memcmp(address, zeros, 15) == 0 && address[15] <= 1; // unspecified, loopback
    return address[0] != 0xff && !low && memcmp(address, mapped, 12) != 0 && !ip6_ours(f, address);
}

/* ---------------------------------------------------------------- ARP */

static enum filter_verdict judge_arp(struct filter *f, const uint8_t *frame, size_t n,
                                     uint64_t now_us)
{
    static const uint8_t ethernet_ip4[6] = {0, 1, 8, 0, 6, 4};
    const uint8_t *arp = frame + WIRE_ETHERNET;

    // Who speaks for another station would have us send to it what is for a third.
    if (n < WIRE_ETHERNET + WIRE_ARP || memcmp(arp, ethernet_ip4, 6) != 0 ||
        wire_u16(arp + 6) < 1 || wire_u16(arp + 6) > 2 || memcmp(arp + 8, frame + 6, 6) != 0)
        return FILTER_MALFORMED;
    bool gratuitous = memcmp(arp + 14, arp + 24, 4) == 0;
    if (mac_ours(f, arp + 8) || ip4_ours(f, arp + 14) || (!ip4_ours(f, arp + 24) && !gratuitous))
        return FILTER_FOREIGN;

    struct source *s = source_place(f, source_tag(f, frame + 6, 6), now_us, false);
    if (s && !rate_take(&f->arp_source_rate, &s->full_ns, now_us * 1000))
        return FILTER_ARP;
    return rate_take(&f->arp_rate, &f->arp_ns, now_us * 1000) ? FILTER_PASS : FILTER_ARP;
}

/* ---------------------------------------------------------------- ICMP */

enum { // ICMPv6 types
    ICMP6_TOO_BIG = 2,
    ICMP6_ECHO = 128,
    ICMP6_LISTENER_QUERY = 130,
    ICMP6_ROUTER = 134,
    ICMP6_SOLICIT = 135,
    ICMP6_ADVERTISE = 136,
};

static bool port_served(const struct filter *f, uint16_t port)
{
    for (uint32_t i = 0; i < f->params.ports_n; i++) {
        if (f->params.ports[i] == port)
            return true;
    }
    return false;
}

// too_big_judge: the packet that was too big must be one of ours, and what is left must be what
// IPv6 promises at least: a smaller path would make lwIP's segments shrink to nothing.
static enum filter_verdict too_big_judge(const struct filter *f, const uint8_t *icmp, size_t n)
{
    const uint8_t *ip = icmp + 8;
    if (n < 8 + WIRE_IP6 + 8)
        return FILTER_MALFORMED;
    if (wire_u32(icmp + 4) < 1280 || ip[0] >> 4 != 6 || ip[6] != WIRE_PROTOCOL_TCP ||
        !ip6_ours(f, ip + 8) || !port_served(f, wire_u16(ip + WIRE_IP6)))
        return FILTER_ICMP;
    return FILTER_PASS;
}

// nd_options_valid: a message of neighbour discovery whose fixed part has [fixed] bytes; its
// options must fill the rest, each with the length that its type has.
static bool nd_options_valid(const uint8_t *icmp, size_t n, size_t fixed)
{
    static const uint8_t lengths[6] = {[1] = 1, [2] = 1, [3] = 4, [5] = 1}; // in units of 8

    if (n < fixed)
        return false;
    for (size_t at = fixed; at < n;) {
        const uint8_t *option = icmp + at;
        if (n - at < 8 || option[1] == 0 || (size_t)option[1] * 8 > n - at)
            return false;
        if (option[0] < sizeof(lengths) && lengths[option[0]] && option[1] != lengths[option[0]])
            return false;
        at += (size_t)option[1] * 8;
    }
    return true;
}

static enum filter_verdict nd_judge(const struct filter *f, const uint8_t *ip, const uint8_t *icmp,
                                    size_t n)
{
    bool router = icmp[0] == ICMP6_ROUTER;

    if (ip[7] != 255 || icmp[1] != 0 || !nd_options_valid(icmp, n, router ? 16 : 24))
        return FILTER_MALFORMED;
    if (router)
        return ip[8] == 0xfe && (ip[9] & 0xc0) == 0x80 ? FILTER_PASS : FILTER_MALFORMED;
    if (icmp[8] == 0xff)
        return FILTER_MALFORMED; // the target is a multicast address
    if (icmp[0] == ICMP6_SOLICIT && !ip6_ours(f, icmp + 8))
        return FILTER_FOREIGN;
    // lwIP would give the address up, and every connection with it, at one frame of anybody.
    if (icmp[0] == ICMP6_ADVERTISE && ip6_settled(f, icmp + 8))
        return FILTER_FOREIGN;
    return FILTER_PASS;
}

// judge_icmp6: ip is the IPv6 header, icmp [n] bytes.
static enum filter_verdict judge_icmp6(struct filter *f, const uint8_t *ip, const uint8_t *icmp,
                                       size_t n, uint64_t now_us)
{
    enum filter_verdict verdict = FILTER_PASS;
    bool nameless = memcmp(ip + 8, zeros, 16) == 0;

    if (n < 8)
        return FILTER_MALFORMED;
    // Only someone who looks for a free address may have none.
    if (!(nameless && icmp[0] == ICMP6_SOLICIT) && !ip6_source_possible(f, ip + 8))
        return FILTER_FOREIGN;
    switch (icmp[0]) {
    case ICMP6_ECHO:
        if (!ip6_ours(f, ip + 24))
            return FILTER_FOREIGN;
        return rate_take(&f->icmp_rate, &f->icmp_ns, now_us * 1000) ? FILTER_PASS : FILTER_ICMP;
    case ICMP6_TOO_BIG:
        verdict = too_big_judge(f, icmp, n);
        break;
    case ICMP6_ROUTER:
    case ICMP6_SOLICIT:
    case ICMP6_ADVERTISE:
        verdict = nd_judge(f, ip, icmp, n);
        break;
    default:
        return FILTER_ICMP;
    }
    if (verdict != FILTER_PASS)
        return verdict;
    return rate_take(&f->nd_rate, &f->nd_ns, now_us * 1000) ? FILTER_PASS : FILTER_ICMP;
}

// judge_listener_query: what a switch asks to learn where multicast is wanted; without an answer it
// may stop forwarding neighbour solicitations to us.
static enum filter_verdict judge_listener_query(struct filter *f, const uint8_t *ip,
                                                const uint8_t *option, size_t n, uint64_t now_us)
{
    static const uint8_t router_alert[8] = {WIRE_PROTOCOL_ICMP6, 0, 5, 2, 0, 0, 1, 0};

    if (n < 8)
        return FILTER_MALFORMED;
    if (memcmp(option, router_alert, 8) != 0)
        return FILTER_PROTOCOL;
    if (n < 8 + 24 || ip[7] != 1 || ip[8] != 0xfe || (ip[9] & 0xc0) != 0x80)
        return FILTER_MALFORMED;
    if (option[8] != ICMP6_LISTENER_QUERY)
        return FILTER_ICMP;
    return rate_take(&f->nd_rate, &f->nd_ns, now_us * 1000) ? FILTER_PASS : FILTER_ICMP;
}

static enum filter_verdict judge_icmp4(struct filter *f, const uint8_t *icmp, size_t n,
                                       uint64_t now_us)
{
    if (n < 8)
        return FILTER_MALFORMED;
    if (icmp[0] != 8 || icmp[1] != 0) // an echo request
        return FILTER_ICMP;
    return rate_take(&f->icmp_rate, &f->icmp_ns, now_us * 1000) ? FILTER_PASS : FILTER_ICMP;
}

/* ---------------------------------------------------------------- TCP */

static uint32_t cookie(const struct filter *f, const uint8_t *frame, const struct wire *wire,
                       uint64_t epoch)
{
    uint8_t bytes[16 + 16 + 4 + 8];
    size_t addresses = (size_t)wire->address_bytes * 2;

    memcpy(bytes, frame + wire->source, addresses);
    memcpy(bytes + addresses, frame + wire->at, 4); // ports
    memcpy(bytes + addresses + 4, &epoch, sizeof(epoch));
    return (uint32_t)siphash(f->params.secret, bytes, addresses + 4 + sizeof(epoch));
}

// challenge_write makes the SYN-ACK that acknowledges a cookie: a TCP header without options, which
// says nothing and keeps no state.  Returns its bytes.
static size_t challenge_write(const struct filter *f, const uint8_t *frame, const struct wire *wire,
                              uint32_t acknowledged, uint8_t reply[FILTER_REPLY_MAX])
{
    bool v4 = wire->type == WIRE_TYPE_IP4;
    struct wire out = *wire;
    uint8_t *ip = reply + WIRE_ETHERNET;
    size_t header = v4 ? WIRE_IP4 : WIRE_IP6;

    memset(reply, 0, FILTER_REPLY_MAX);
    memcpy(reply, frame + 6, 6);
    memcpy(reply + 6, f->params.mac, 6);
    wire_u16_put(reply + 12, wire->type);
    if (v4) {
        ip[0] = 0x45;
        wire_u16_put(ip + 2, WIRE_IP4 + WIRE_TCP);
        ip[8] = 64;
        ip[9] = WIRE_PROTOCOL_TCP;
    } else {
        ip[0] = 0x60;
        wire_u16_put(ip + 4, WIRE_TCP);
        ip[6] = WIRE_PROTOCOL_TCP;
        ip[7] = 64;
    }
    memcpy(reply + wire->source, frame + wire->target, wire->address_bytes);
    memcpy(reply + wire->target, frame + wire->source, wire->address_bytes);
    if (v4)
        wire_u16_put(ip + 10, wire_sum_end(wire_sum(0, ip, WIRE_IP4)));

    uint8_t *tcp = ip + header;
    memcpy(tcp, frame + wire->at + 2, 2);
    memcpy(tcp + 2, frame + wire->at, 2);
    wire_u32_put(tcp + 4, acknowledged ^ 0x5ca1ab1e); // nobody looks at it
    wire_u32_put(tcp + 8, acknowledged);
    tcp[12] = 5 << 4;
    tcp[13] = WIRE_SYN | WIRE_ACK;
    out.at = (uint16_t)(WIRE_ETHERNET + header);
    out.n = WIRE_TCP;
    wire_u16_put(tcp + 16, wire_transport_sum(reply, &out));
    return WIRE_ETHERNET + header + WIRE_TCP;
}

static void judge_reset(struct filter *f, const uint8_t *frame, const struct wire *wire,
                        uint64_t now_us)
{
    const uint8_t *tcp = frame + wire->at;
    uint64_t epoch = now_us / COOKIE_EPOCH_US;
    uint32_t number = wire_u32(tcp + 4);

    if (tcp[13] & WIRE_ACK ||
        (number != cookie(f, frame, wire, epoch) && number != cookie(f, frame, wire, epoch - 1)))
        return;
    if (wire_transport_sum(frame, wire) != 0)
        return; // the number may have become right on the way
    uint64_t tag = source_tag(f, frame + wire->source, wire->address_bytes);
    struct source *s = source_place(f, tag, now_us, true);
    assert(s);
    s->proof_until_us = now_us + PROOF_US;
}

static enum filter_verdict judge_syn(struct filter *f, const uint8_t *frame,
                                     const struct wire *wire, uint64_t now_us,
                                     uint8_t reply[FILTER_REPLY_MAX], size_t *ret_reply_n)
{
    uint64_t tag = source_tag(f, frame + wire->source, wire->address_bytes);
    struct source *s = source_find(f, tag);
    uint64_t now_ns = now_us * 1000;

    if (s && !rate_has(&f->source_rate, s->full_ns, now_ns))
        return FILTER_SYN_SOURCE;
    if (source_proved(s, now_us)) {
        if (!rate_take(&f->syn_rate, &f->proved_ns, now_ns))
            return FILTER_SYN_RATE;
        rate_take(&f->source_rate, &s->full_ns, now_ns);
        return FILTER_PASS;
    }
    if (!f->pressed && rate_take(&f->syn_rate, &f->syn_ns, now_ns)) {
        s = source_place(f, tag, now_us, false);
        if (s)
            rate_take(&f->source_rate, &s->full_ns, now_ns);
        return FILTER_PASS;
    }
    if (!rate_take(&f->challenge_rate, &f->challenge_ns, now_ns))
        return FILTER_SYN_RATE;
    uint32_t acknowledged = cookie(f, frame, wire, now_us / COOKIE_EPOCH_US);
    // The one number in four thousand million that would open the connection for the peer.
    if (acknowledged != wire_u32(frame + wire->at + 4) + 1)
        *ret_reply_n = challenge_write(f, frame, wire, acknowledged, reply);
    return FILTER_SYN_PROOF;
}

static enum filter_verdict judge_tcp(struct filter *f, const uint8_t *frame,
                                     const struct wire *wire, uint64_t now_us,
                                     uint8_t reply[FILTER_REPLY_MAX], size_t *ret_reply_n)
{
    const uint8_t *tcp = frame + wire->at;
    uint8_t flags = tcp[13] & (WIRE_FIN | WIRE_SYN | WIRE_RST | WIRE_ACK);

    if (!port_served(f, wire_u16(tcp + 2)))
        return FILTER_TCP_PORT;
    if (wire_u16(tcp) == 0)
        return FILTER_MALFORMED;
    if (flags == WIRE_SYN)
        return judge_syn(f, frame, wire, now_us, reply, ret_reply_n);
    // We never connect, so that no SYN-ACK is for us; but for SYN and RST all segments have ACK.
    if (flags & WIRE_SYN || !(flags & (WIRE_ACK | WIRE_RST)) ||
        (flags & WIRE_RST && flags & WIRE_FIN))
        return FILTER_TCP_FLAGS;
    if (flags & WIRE_RST)
        judge_reset(f, frame, wire, now_us);
    return FILTER_PASS;
}

/* ---------------------------------------------------------------- IP */

static enum filter_verdict judge_dhcp(struct filter *f, const uint8_t *frame,
                                      const struct wire *wire, uint64_t now_us)
{
    const uint8_t *udp = frame + wire->at;
    if (!f->params.dhcp || wire->type != WIRE_TYPE_IP4 || wire_u16(udp) != 67 ||
        wire_u16(udp + 2) != 68 || !rate_take(&f->dhcp_rate, &f->dhcp_ns, now_us * 1000))
        return FILTER_UDP;
    return FILTER_PASS;
}

static enum filter_verdict judge_ip4(struct filter *f, const uint8_t *frame,
                                     const struct wire *wire, uint64_t now_us,
                                     uint8_t reply[FILTER_REPLY_MAX], size_t *ret_reply_n)
{
    if (wire->fragment)
        return FILTER_FRAGMENT;
    if (wire->options)
        return FILTER_PROTOCOL;
    if (!ip4_source_possible(f, frame + wire->source))
        return FILTER_FOREIGN;
    if (wire->protocol == WIRE_PROTOCOL_UDP)
        return judge_dhcp(f, frame, wire, now_us); // its answers may be for an address to come
    if (!ip4_ours(f, frame + wire->target) || !mac_ours(f, frame))
        return FILTER_FOREIGN;
    if (wire->protocol == WIRE_PROTOCOL_TCP)
        return judge_tcp(f, frame, wire, now_us, reply, ret_reply_n);
    if (wire->protocol == WIRE_PROTOCOL_ICMP4)
        return judge_icmp4(f, frame + wire->at, wire->n, now_us);
    return FILTER_PROTOCOL;
}

static enum filter_verdict judge_ip6(struct filter *f, const uint8_t *frame,
                                     const struct wire *wire, uint64_t now_us,
                                     uint8_t reply[FILTER_REPLY_MAX], size_t *ret_reply_n)
{
    const uint8_t *ip = frame + WIRE_ETHERNET, *target = frame + wire->target;

    if (wire->protocol == WIRE_PROTOCOL_FRAGMENT)
        return FILTER_FRAGMENT;
    if (wire->protocol == WIRE_PROTOCOL_UDP)
        return FILTER_UDP;
    if (target[0] == 0xff ? !ip6_group(f, target) : !ip6_ours(f, target) || !mac_ours(f, frame))
        return FILTER_FOREIGN;
    if (wire->protocol == WIRE_PROTOCOL_ICMP6)
        return judge_icmp6(f, ip, frame + wire->at, wire->n, now_us);
    if (wire->protocol == WIRE_HOP_BY_HOP)
        return judge_listener_query(f, ip, frame + wire->at, wire->n, now_us);
    if (wire->protocol != WIRE_PROTOCOL_TCP)
        return FILTER_PROTOCOL;
    if (target[0] == 0xff || !ip6_source_possible(f, frame + wire->source))
        return FILTER_FOREIGN;
    return judge_tcp(f, frame, wire, now_us, reply, ret_reply_n);
}

static enum filter_verdict judge(struct filter *f, const uint8_t *frame, size_t n, uint64_t now_us,
                                 uint8_t reply[FILTER_REPLY_MAX], size_t *ret_reply_n)
{
    struct wire wire;

    if (n < WIRE_ETHERNET)
        return FILTER_MALFORMED;
    bool multicast6 = frame[0] == 0x33 && frame[1] == 0x33;
    if ((!mac_ours(f, frame) && !mac_broadcast(frame) && !multicast6) || frame[6] & 1)
        return FILTER_FOREIGN;
    if (!wire_parse(frame, n, &wire))
        return FILTER_MALFORMED;
    switch (wire.type) {
    case WIRE_TYPE_ARP:
        return judge_arp(f, frame, n, now_us);
    case WIRE_TYPE_IP4:
        return judge_ip4(f, frame, &wire, now_us, reply, ret_reply_n);
    case WIRE_TYPE_IP6:
        return judge_ip6(f, frame, &wire, now_us, reply, ret_reply_n);
    default:
        return FILTER_PROTOCOL;
    }
}

/* ---------------------------------------------------------------- public */

int filter_create(const struct filter_params *params, struct filter **ret)
{
    assert(params->ports_n <= FILTER_PORTS_MAX && params->syn_second >= 1);
    struct filter *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    uint32_t second = params->syn_second, share = (second + SOURCE_SHARE - 1) / SOURCE_SHARE;
    f->params = *params;
    f->syn_rate = rate_make(second, second / 4 + 16);
    f->source_rate = rate_make(share, 2 * share + 8);
    f->challenge_rate = rate_make(second * CHALLENGES_FACTOR, second + 16);
    f->arp_rate = rate_make(ARP_SECOND, ARP_SECOND / 4);
    f->arp_source_rate = rate_make(ARP_SOURCE_SECOND, ARP_SOURCE_SECOND);
    f->icmp_rate = rate_make(ICMP_SECOND, ICMP_SECOND / 4);
    f->nd_rate = rate_make(ND_SECOND, ND_SECOND / 4);
    f->dhcp_rate = rate_make(DHCP_SECOND, DHCP_SECOND);
    *ret = f;
    return 0;
}

void filter_destroy(struct filter **filter)
{
    free(*filter);
    *filter = NULL;
}

void filter_address4_set(struct filter *filter, const uint8_t address[4])
{
    memcpy(filter->address4, address, 4);
}

void filter_address6_set(struct filter *filter, uint32_t index, const uint8_t address[16],
                         bool settled)
{
    assert(index < FILTER_ADDRESSES6);
    filter->settled6[index] = settled;
    memcpy(filter->address6[index], address, 16);
}

void filter_pressure(struct filter *filter, uint32_t percent)
{
    filter->pressed = percent > PRESSURE_MAX;
}

enum filter_verdict filter_judge(struct filter *filter, const uint8_t *frame, size_t n,
                                 uint64_t now_us, uint8_t ret_reply[FILTER_REPLY_MAX],
                                 size_t *ret_reply_n)
{
    *ret_reply_n = 0;
    enum filter_verdict verdict = judge(filter, frame, n, now_us, ret_reply, ret_reply_n);
    filter->counts[verdict]++;
    return verdict;
}

void filter_drop(struct filter *filter, enum filter_verdict verdict)
{
    filter->counts[verdict]++;
}

uint64_t filter_count(const struct filter *filter, enum filter_verdict verdict)
{
    return filter->counts[verdict];
}
