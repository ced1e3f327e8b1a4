// SPDX-License-Identifier: MIT
// Every verdict of the filter, from frames that are right but for one thing; rates; and sources
// that prove themselves, with a peer that follows RFC 793.
#include "io/net/filter.h"

#include "base/clock.h"
#include "io/net/wire.h"
#include "tests/check.h"

#include <string.h>

#define SECOND    1000000ull
#define FRAME_MAX 128u

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 7}, peer_mac[6] = {2, 0, 0, 0, 0, 1};
static const uint8_t our4[4] = {10, 9, 0, 1}, peer4[4] = {10, 9, 0, 2};
static const uint8_t our6[16] = {0xfd, 9, [15] = 1}, peer6[16] = {0xfd, 9, [15] = 2};
static const uint8_t link6[16] = {0xfe, 0x80, [15] = 7}, router6[16] = {0xfe, 0x80, [15] = 1};

struct frame {
    uint8_t bytes[FRAME_MAX];
    size_t n;
};

static struct filter *filter_make(bool dhcp, uint32_t syn_second)
{
    struct filter_params params = {
        .ports = {80, 443}, .ports_n = 2, .dhcp = dhcp, .secret = {3, 4}, .syn_second = syn_second};
    struct filter *filter = NULL;

    memcpy(params.mac, our_mac, 6);
    CHECK(filter_create(&params, &filter) == 0);
    filter_address4_set(filter, our4);
    filter_address6_set(filter, 0, link6, false);
    filter_address6_set(filter, 1, our6, false);
    return filter;
}

static enum filter_verdict judged(struct filter *filter, const struct frame *f, uint64_t now_us)
{
    uint8_t reply[FILTER_REPLY_MAX];
    size_t reply_n = 1;
    uint8_t *exact = malloc(f->n ? f->n : 1); // a sanitizer sees what is read beyond it
    CHECK(exact);
    memcpy(exact, f->bytes, f->n);
    enum filter_verdict verdict = filter_judge(filter, exact, f->n, now_us, reply, &reply_n);
    CHECK(reply_n == 0 || verdict == FILTER_SYN_PROOF);
    free(exact);
    return verdict;
}

/* ---------------------------------------------------------------- frames */

static struct frame ethernet(const uint8_t *to, uint16_t type, size_t n)
{
    struct frame f = {.n = WIRE_ETHERNET + n};
    memcpy(f.bytes, to, 6);
    memcpy(f.bytes + 6, peer_mac, 6);
    wire_u16_put(f.bytes + 12, type);
    return f;
}

static struct frame ip4(uint8_t protocol, size_t n)
{
    struct frame f = ethernet(our_mac, WIRE_TYPE_IP4, WIRE_IP4 + n);
    uint8_t *ip = f.bytes + WIRE_ETHERNET;
    ip[0] = 0x45;
    wire_u16_put(ip + 2, (uint32_t)(WIRE_IP4 + n));
    ip[8] = 64;
    ip[9] = protocol;
    memcpy(ip + 12, peer4, 4);
    memcpy(ip + 16, our4, 4);
    return f;
}

static struct frame ip6(uint8_t protocol, const uint8_t *from, const uint8_t *to, size_t n)
{
    struct frame f = ethernet(our_mac, WIRE_TYPE_IP6, WIRE_IP6 + n);
    uint8_t *ip = f.bytes + WIRE_ETHERNET;
    ip[0] = 0x60;
    wire_u16_put(ip + 4, (uint32_t)n);
    ip[6] = protocol;
    ip[7] = 255;
    memcpy(ip + 8, from, 16);
    memcpy(ip + 24, to, 16);
    if (to[0] == 0xff)
        memcpy(f.bytes, (const uint8_t[6]){0x33, 0x33, to[12], to[13], to[14], to[15]}, 6);
    return f;
}

static struct frame tcp(bool v6, uint8_t flags)
{
    struct frame f = v6 ? ip6(WIRE_PROTOCOL_TCP, peer6, our6, 20) : ip4(WIRE_PROTOCOL_TCP, 20);
    uint8_t *tcp = f.bytes + f.n - 20;
    wire_u16_put(tcp, 40000);
    wire_u16_put(tcp + 2, 443);
    wire_u32_put(tcp + 4, 1000);
    tcp[12] = 5 << 4;
    tcp[13] = flags;
    return f;
}

static void tcp_sum(struct frame *f)
{
    struct wire wire;
    CHECK(wire_parse(f->bytes, f->n, &wire));
    wire_u16_put(f->bytes + wire.at + 16, 0);
    wire_u16_put(f->bytes + wire.at + 16, wire_transport_sum(f->bytes, &wire));
}

static struct frame arp(uint16_t operation)
{
    static const uint8_t head[6] = {0, 1, 8, 0, 6, 4};
    struct frame f = ethernet((const uint8_t *)"\xff\xff\xff\xff\xff\xff", WIRE_TYPE_ARP, WIRE_ARP);
    uint8_t *at = f.bytes + WIRE_ETHERNET;
    memcpy(at, head, 6);
    wire_u16_put(at + 6, operation);
    memcpy(at + 8, peer_mac, 6);
    memcpy(at + 14, peer4, 4);
    memcpy(at + 24, our4, 4);
    return f;
}

static struct frame icmp6(const uint8_t *from, const uint8_t *to, uint8_t type, size_t n)
{
    struct frame f = ip6(WIRE_PROTOCOL_ICMP6, from, to, n);
    f.bytes[54] = type;
    return f;
}

static struct frame solicit(void)
{
    static const uint8_t group[16] = {0xff, 2, [11] = 1, [12] = 0xff, [15] = 1};
    struct frame f = icmp6(peer6, group, 135, 32);
    memcpy(f.bytes + 62, our6, 16);
    f.bytes[78] = 1; // source link-layer address
    f.bytes[79] = 1;
    return f;
}

static struct frame router(void)
{
    static const uint8_t all[16] = {0xff, 2, [15] = 1};
    struct frame f = icmp6(router6, all, 134, 16 + 32);
    f.bytes[70] = 3; // a prefix
    f.bytes[71] = 4;
    return f;
}

static struct frame too_big(uint32_t mtu)
{
    struct frame f = icmp6(router6, our6, 2, 8 + 40 + 8);
    uint8_t *inner = f.bytes + 62;
    wire_u32_put(f.bytes + 58, mtu);
    inner[0] = 0x60;
    inner[6] = WIRE_PROTOCOL_TCP;
    memcpy(inner + 8, our6, 16);
    memcpy(inner + 24, peer6, 16);
    wire_u16_put(inner + 40, 443);
    return f;
}

static struct frame udp(uint16_t from, uint16_t to)
{
    struct frame f = ip4(WIRE_PROTOCOL_UDP, 8);
    wire_u16_put(f.bytes + 34, from);
    wire_u16_put(f.bytes + 36, to);
    wire_u16_put(f.bytes + 38, 8);
    return f;
}

static struct frame listener_query(void)
{
    static const uint8_t all[16] = {0xff, 2, [15] = 1};
    static const uint8_t alert[8] = {58, 0, 5, 2, 0, 0, 1, 0};
    struct frame f = ip6(WIRE_HOP_BY_HOP, router6, all, 8 + 24);
    memcpy(f.bytes + 54, alert, 8);
    f.bytes[62] = 130;
    f.bytes[21] = 1; // hop limit
    return f;
}

/* ---------------------------------------------------------------- tests */

// change is a frame that is right, and what happens when one byte of it is something else.
struct change {
    struct frame frame;
    size_t at; // 0: as it is
    uint8_t value;
    enum filter_verdict verdict;
};

static void test_verdicts(void)
{
    static const uint8_t zeros[16], ours_elsewhere[16] = {0xff, 2, [15] = 2};
    const struct frame syn = tcp(false, WIRE_SYN), ack = tcp(false, WIRE_ACK),
                       ack6 = tcp(true, WIRE_ACK), query = arp(1), echo = ip4(1, 8), ns = solicit(),
                       ra = router(), mld = listener_query(), echo6 = icmp6(peer6, our6, 128, 8),
                       big = too_big(1280);
    struct frame short_arp = query, dad = solicit(), dad_bad = icmp6(zeros, our6, 128, 8),
                 group = icmp6(peer6, ours_elsewhere, 128, 8), gratuitous = query, conflict = query,
                 ping = echo;
    short_arp.n--;
    memset(dad.bytes + 22, 0, 16);
    memcpy(gratuitous.bytes + 38, peer4, 4);
    memcpy(conflict.bytes + 28, our4, 4);
    ping.bytes[34] = 8;
    const struct change changes[] = {
        {syn, 0, 0, FILTER_PASS},
        {syn, 0, 2, FILTER_PASS},
        {tcp(true, WIRE_SYN), 0, 0, FILTER_PASS},
        {ack, 0, 0, FILTER_PASS},
        {ack6, 0, 0, FILTER_PASS},
        {tcp(false, WIRE_RST), 0, 0, FILTER_PASS},
        {tcp(false, WIRE_FIN | WIRE_ACK), 0, 0, FILTER_PASS},
        {ack, 5, 8, FILTER_FOREIGN},           // another MAC address
        {ack, 6, 1, FILTER_FOREIGN},           // from a multicast one
        {ack, 14, 0x44, FILTER_MALFORMED},     // IPv4 header
        {ack, 14, 0x65, FILTER_MALFORMED},     // version
        {ack, 17, 60, FILTER_MALFORMED},       // longer than the frame
        {ack, 20, 0x20, FILTER_FRAGMENT},      // more to come
        {ack, 21, 1, FILTER_FRAGMENT},         // not the first
        {ack, 23, 2, FILTER_PROTOCOL},         // IGMP
        {ack, 33, 9, FILTER_FOREIGN},          // not our address
        {ack, 26, 127, FILTER_FOREIGN},        // from ourselves
        {ack, 29, 1, FILTER_FOREIGN},          // from our own address
        {ack, 26, 230, FILTER_FOREIGN},        // from a group
        {ack, 46, 4 << 4, FILTER_MALFORMED},   // TCP header
        {ack, 46, 6 << 4, FILTER_MALFORMED},   // longer than the packet
        {ack, 37, 1, FILTER_TCP_PORT},         // port
        {ack, 47, 0, FILTER_TCP_FLAGS},        // no flag
        {ack, 47, WIRE_FIN, FILTER_TCP_FLAGS}, // FIN alone
        {ack, 47, WIRE_SYN | WIRE_ACK, FILTER_TCP_FLAGS},
        {ack, 47, WIRE_SYN | WIRE_FIN, FILTER_TCP_FLAGS},
        {ack, 47, WIRE_SYN | WIRE_RST, FILTER_TCP_FLAGS},
        {ack, 47, WIRE_RST | WIRE_FIN | WIRE_ACK, FILTER_TCP_FLAGS},
        {ack6, 20, 44, FILTER_FRAGMENT},
        {ack6, 20, 43, FILTER_PROTOCOL}, // a routing header
        {ack6, 20, 60, FILTER_PROTOCOL}, // destination options
        {ack6, 53, 9, FILTER_FOREIGN},
        {ack6, 22, 0xff, FILTER_FOREIGN}, // from a group
        {ack6, 37, 1, FILTER_FOREIGN},    // from our own address
        {ack6, 19, 21, FILTER_MALFORMED}, // longer than the frame
        {ack, 12, 0x81, FILTER_PROTOCOL}, // a VLAN tag
        {query, 0, 0, FILTER_FOREIGN},    // see below: byte 0 of the MAC is changed
        {query, 0, 0xff, FILTER_PASS},
        {arp(2), 0, 0xff, FILTER_PASS},
        {gratuitous, 0, 0xff, FILTER_PASS},
        {conflict, 0, 0xff, FILTER_FOREIGN},
        {short_arp, 0, 0xff, FILTER_MALFORMED},
        {query, 15, 6, FILTER_MALFORMED}, // not Ethernet
        {query, 18, 8, FILTER_MALFORMED}, // length of a MAC
        {query, 21, 3, FILTER_MALFORMED}, // operation
        {query, 22, 1, FILTER_MALFORMED}, // speaks for another MAC
        {query, 41, 99, FILTER_FOREIGN},  // asks for another
        {ping, 0, 2, FILTER_PASS},
        {ping, 34, 5, FILTER_ICMP}, // a redirect
        {ping, 35, 1, FILTER_ICMP},
        {echo6, 0, 2, FILTER_PASS},
        {echo6, 54, 137, FILTER_ICMP},    // a redirect
        {echo6, 54, 133, FILTER_ICMP},    // we are no router
        {dad_bad, 0, 2, FILTER_FOREIGN},  // only neighbours may be nameless
        {group, 0, 0x33, FILTER_FOREIGN}, // a group that we are not in
        {ns, 0, 0x33, FILTER_PASS},
        {dad, 0, 0x33, FILTER_PASS},
        {ns, 21, 254, FILTER_MALFORMED},  // came through a router
        {ns, 77, 9, FILTER_FOREIGN},      // asks for another
        {ns, 79, 0, FILTER_MALFORMED},    // an option without length
        {ns, 79, 2, FILTER_MALFORMED},    // ... of the wrong one
        {ns, 62, 0xff, FILTER_MALFORMED}, // a multicast target
        {ns, 54, 136, FILTER_PASS},
        {ra, 0, 0x33, FILTER_PASS},
        {ra, 22, 0xfd, FILTER_MALFORMED}, // not from the link
        {ra, 71, 3, FILTER_MALFORMED},    // a prefix that is too short
        {ra, 71, 5, FILTER_MALFORMED},    // beyond the packet
        {big, 0, 2, FILTER_PASS},
        {big, 60, 4, FILTER_ICMP}, // 1024: less than IPv6 promises
        {big, 68, WIRE_PROTOCOL_UDP, FILTER_ICMP},
        {big, 85, 9, FILTER_ICMP},  // we did not send it
        {big, 103, 1, FILTER_ICMP}, // nor from that port
        {mld, 0, 0x33, FILTER_PASS},
        {mld, 56, 1, FILTER_PROTOCOL}, // another option
        {mld, 54, 6, FILTER_PROTOCOL}, // TCP behind it
        {mld, 21, 2, FILTER_MALFORMED},
        {mld, 62, 131, FILTER_ICMP},
        {udp(67, 68), 0, 2, FILTER_PASS},
        {udp(53, 68), 0, 2, FILTER_UDP},
        {udp(67, 69), 0, 2, FILTER_UDP},
        {ip6(WIRE_PROTOCOL_UDP, peer6, our6, 0), 0, 2, FILTER_MALFORMED},
    };
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        struct filter *filter = filter_make(true, 1000);
        struct frame f = changes[i].frame;
        if (changes[i].at || changes[i].value)
            f.bytes[changes[i].at] = changes[i].value;
        else if (f.bytes[0] == 0xff)
            f.bytes[0] = 4;
        enum filter_verdict verdict = judged(filter, &f, SECOND);
        if (verdict != changes[i].verdict)
            fprintf(stderr, "row %zu: %s, not %s\n", i, filter_label[verdict],
                    filter_label[changes[i].verdict]);
        CHECK(verdict == changes[i].verdict);
        CHECK(filter_count(filter, verdict) == 1);
        for (size_t n = 0; n < changes[i].frame.n; n++) { // cut: nothing is read behind it
            f.n = n;
            (void)judged(filter, &f, SECOND);
        }
        filter_destroy(&filter);
    }
}

static void test_addresses(void)
{
    static const uint8_t zeros[16];
    struct filter *filter = filter_make(false, 1000);
    struct frame ack = tcp(false, WIRE_ACK), ack6 = tcp(true, WIRE_ACK), dhcp = udp(67, 68);

    CHECK(judged(filter, &dhcp, 0) == FILTER_UDP);
    filter_address4_set(filter, zeros);
    filter_address6_set(filter, 1, zeros, false);
    CHECK(judged(filter, &ack, 0) == FILTER_FOREIGN);
    CHECK(judged(filter, &ack6, 0) == FILTER_FOREIGN);
    filter_address6_set(filter, 5, our6, false);
    CHECK(judged(filter, &ack6, 0) == FILTER_PASS);
    filter_drop(filter, FILTER_CHECKSUM);
    CHECK(filter_count(filter, FILTER_CHECKSUM) == 1);
    filter_destroy(&filter);
}

// test_claim: an address that is being tried is given up when another has it; one in use is not.
static void test_claim(void)
{
    struct filter *filter = filter_make(false, 1000);
    struct frame claim = solicit(), other;

    claim.bytes[54] = 136; // an advertisement
    other = claim;
    other.bytes[77] = 9;
    CHECK(judged(filter, &claim, SECOND) == FILTER_PASS);
    filter_address6_set(filter, 1, our6, true);
    CHECK(judged(filter, &claim, SECOND) == FILTER_FOREIGN);
    CHECK(judged(filter, &other, SECOND) == FILTER_PASS);
    filter_destroy(&filter);
}

// passed returns how many of n frames, evenly within a second, pass.
static uint32_t passed(struct filter *filter, struct frame *f, uint64_t from_us, uint32_t n,
                       uint32_t sources)
{
    uint32_t pass = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (sources > 1)
            wire_u16_put(f->bytes + 28, i % sources + 2);
        pass += judged(filter, f, from_us + SECOND * i / n) == FILTER_PASS;
    }
    return pass;
}

static void test_rates(void)
{
    struct filter *filter = filter_make(true, 1600);
    struct frame syn = tcp(false, WIRE_SYN), ping = ip4(1, 8), query = arp(1), ns = solicit();
    struct frame dhcp = udp(67, 68);
    uint64_t now = SECOND;

    // One source: a sixteenth of 1600 a second, and twice that at once.
    uint32_t n = passed(filter, &syn, now, 20000, 1);
    CHECK(n >= 300 && n <= 310);
    CHECK(filter_count(filter, FILTER_SYN_SOURCE) == 20000 - n);
    CHECK(passed(filter, &syn, now += SECOND, 20000, 1) <= 102);
    CHECK(passed(filter, &syn, now += 10 * SECOND, 20000, 1) >= 300); // it recovers

    // Many sources: the rate for all; the others are asked for proof, and then not even that.
    filter_destroy(&filter);
    filter = filter_make(true, 1600);
    n = passed(filter, &syn, now, 20000, 5000);
    CHECK(n >= 1600 && n <= 1600 + 420);
    CHECK(filter_count(filter, FILTER_SYN_PROOF) >= 8 * 1600);
    CHECK(filter_count(filter, FILTER_SYN_RATE) > 1000);

    ping.bytes[34] = 8;
    n = passed(filter, &ping, now, 20000, 1);
    CHECK(n >= 500 && n <= 630 && filter_count(filter, FILTER_ICMP) == 20000 - n);
    n = passed(filter, &query, now, 20000, 1);
    CHECK(n >= 50 && n <= 101 && filter_count(filter, FILTER_ARP) == 20000 - n);
    n = passed(filter, &ns, now, 20000, 1);
    CHECK(n >= 1000 && n <= 1260);
    n = passed(filter, &dhcp, now, 20000, 1);
    CHECK(n >= 50 && n <= 101 && filter_count(filter, FILTER_UDP) == 20000 - n);
    filter_destroy(&filter);
}

// challenged sends a SYN that is asked for proof, checks what is asked, and answers with the RST of
// RFC 793: its number is the acknowledged one.
static struct frame challenged(struct filter *filter, const struct frame *syn, uint64_t now_us)
{
    struct frame asked = {0}, rst = *syn;
    struct wire wire, in;

    CHECK(filter_judge(filter, syn->bytes, syn->n, now_us, asked.bytes, &asked.n) ==
          FILTER_SYN_PROOF);
    CHECK(asked.n == syn->n && wire_parse(asked.bytes, asked.n, &wire));
    CHECK(wire_parse(syn->bytes, syn->n, &in));
    CHECK(wire_transport_sum(asked.bytes, &wire) == 0);
    CHECK(wire.type != WIRE_TYPE_IP4 || wire_sum_end(wire_sum(0, asked.bytes + 14, 20)) == 0);
    CHECK(memcmp(asked.bytes, peer_mac, 6) == 0 && memcmp(asked.bytes + 6, our_mac, 6) == 0);
    CHECK(memcmp(asked.bytes + wire.source, syn->bytes + in.target, wire.address_bytes) == 0);
    CHECK(memcmp(asked.bytes + wire.target, syn->bytes + in.source, wire.address_bytes) == 0);
    const uint8_t *tcp = asked.bytes + wire.at, *theirs = syn->bytes + in.at;
    CHECK(wire_u16(tcp) == wire_u16(theirs + 2) && wire_u16(tcp + 2) == wire_u16(theirs));
    CHECK(tcp[13] == (WIRE_SYN | WIRE_ACK));
    CHECK(wire_u32(tcp + 8) != wire_u32(theirs + 4) + 1); // or the connection would open

    rst.bytes[in.at + 13] = WIRE_RST;
    memcpy(rst.bytes + in.at + 4, tcp + 8, 4);
    tcp_sum(&rst);
    return rst;
}

static void test_proof(bool v6)
{
    struct filter *filter = filter_make(false, 1600);
    struct frame syn = tcp(v6, WIRE_SYN), forged = syn;
    uint64_t now = 1000 * SECOND;
    size_t at = v6 ? 54 : 34, source = v6 ? 22 + 7 : 26 + 3;

    filter_pressure(filter, 50);
    CHECK(judged(filter, &syn, now) == FILTER_PASS);
    filter_pressure(filter, 51);
    struct frame rst = challenged(filter, &syn, now);
    CHECK(judged(filter, &syn, now) == FILTER_SYN_PROOF); // asking is not proving

    struct frame wrong = rst;
    wrong.bytes[at + 7] ^= 1;
    tcp_sum(&wrong);
    CHECK(judged(filter, &wrong, now) == FILTER_PASS); // a RST is never kept from lwIP
    CHECK(judged(filter, &syn, now) == FILTER_SYN_PROOF);
    wrong = rst;
    wrong.bytes[at + 1] ^= 1; // of another connection
    tcp_sum(&wrong);
    CHECK(judged(filter, &wrong, now) == FILTER_PASS);
    wrong = rst;
    wrong.bytes[at + 17] ^= 1; // a wrong checksum
    CHECK(judged(filter, &wrong, now) == FILTER_PASS);
    CHECK(judged(filter, &rst, now + 129 * SECOND) == FILTER_PASS); // too late
    CHECK(judged(filter, &syn, now + 129 * SECOND) == FILTER_SYN_PROOF);

    now += 200 * SECOND;
    rst = challenged(filter, &syn, now);
    CHECK(judged(filter, &rst, now + SECOND) == FILTER_PASS);
    CHECK(judged(filter, &syn, now + SECOND) == FILTER_PASS);
    forged.bytes[source] ^= 0x40; // another source (another /64)
    CHECK(judged(filter, &forged, now + SECOND) == FILTER_SYN_PROOF);

    // A storm of forged SYNs neither pushes the source out nor takes its rate.
    for (uint32_t i = 0; i < 200000; i++) {
        wire_u16_put(forged.bytes + source - 1, 0x1000 + i / 3);
        (void)judged(filter, &forged, now + 2 * SECOND + i * 10);
    }
    CHECK(filter_count(filter, FILTER_SYN_RATE) > 100000);
    CHECK(judged(filter, &syn, now + 4 * SECOND) == FILTER_PASS);
    CHECK(judged(filter, &syn, now + 602 * SECOND) == FILTER_SYN_PROOF); // forgotten
    filter_pressure(filter, 0);
    CHECK(judged(filter, &syn, now + 603 * SECOND) == FILTER_PASS);
    filter_destroy(&filter);
}

static void speed(void)
{
    static const char *const names[] = {"ACK", "ACK (IPv6)", "SYN of one source", "junk port",
                                        "RST"};
    const struct frame frames[] = {tcp(false, WIRE_ACK), tcp(true, WIRE_ACK), tcp(false, WIRE_SYN),
                                   tcp(false, WIRE_ACK), tcp(false, WIRE_RST)};
    struct filter *filter = filter_make(false, 1600);
    uint8_t reply[FILTER_REPLY_MAX];
    size_t reply_n;

    for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
        struct frame f = frames[i];
        if (i == 3)
            f.bytes[37] = 1;
        uint64_t begin = clock_ns();
        for (uint32_t k = 0; k < 1000000; k++)
            (void)filter_judge(filter, f.bytes, f.n, SECOND + k, reply, &reply_n);
        printf("%-20s %5.1f ns a frame\n", names[i], (double)(clock_ns() - begin) / 1e6);
    }
    filter_destroy(&filter);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--speed") == 0) {
        speed();
        return 0;
    }
    test_verdicts();
    test_addresses();
    test_claim();
    test_rates();
    test_proof(false);
    test_proof(true);
    return 0;
}
