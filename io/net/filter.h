// SPDX-License-Identifier: MIT
// filter: which frames the TCP/IP stack gets to see.  Looks at headers only, allocates nothing, and
// costs less than receiving the frame did: junk ends here, counted by kind.  What passes keeps all
// rules that the stack behind it relies on.
//
// SYNs have a rate for all and one for each source (an IPv4 address, an IPv6 /64; on the link
// itself one IPv6 address).  While more than half of the half-open places are taken, or SYNs come
// faster than their rate, a SYN from a source that has not proved itself is answered with a SYN-ACK
// that acknowledges a cookie instead (a "safe reset"): a real peer answers with RST and that
// cookie, is remembered for ten minutes, and its next SYN passes; a forged source costs no memory.
// Sources that proved themselves share a rate of their own: forged SYNs cannot use it up.
// Pure: no I/O, no clock, no lwIP.  Owner: the net thread.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// X(id, label, what is dropped)
#define FILTER_DROPS(X)                                                                            \
    X(MALFORMED, malformed, "a header that contradicts itself or the frame's length")              \
    X(CHECKSUM, checksum, "the port found a wrong checksum")                                       \
    X(FOREIGN, foreign, "not for our MAC or IP address, or from one that cannot be")               \
    X(PROTOCOL, protocol, "not ARP, TCP, UDP or ICMP: VLAN tags and IP options too")               \
    X(FRAGMENT, fragment, "a fragment of an IP packet")                                            \
    X(ARP, arp, "ARP beyond its rate")                                                             \
    X(ICMP, icmp, "ICMP beyond its rate, or of a kind that nobody here needs")                     \
    X(UDP, udp, "UDP that is not an answer to our DHCP client, or beyond its rate")                \
    X(TCP_PORT, tcp_port, "TCP to a port that is not served")                                      \
    X(TCP_FLAGS, tcp_flags, "TCP flags that no state allows")                                      \
    X(TCP_NUMBERS, tcp_numbers, "TCP numbers far from any that its connection has")                \
    X(SYN_RATE, syn_rate, "connection requests beyond the rate for all")                           \
    X(SYN_SOURCE, syn_source, "connection requests beyond the rate of one source")                 \
    X(SYN_PROOF, syn_proof, "connection requests that were asked to prove their source")

enum filter_verdict {
    FILTER_PASS,
#define FILTER_ENUM(id, label, help) FILTER_##id,
    FILTER_DROPS(FILTER_ENUM)
#undef FILTER_ENUM
        FILTER_VERDICT_COUNT
};
extern const char *const filter_label[FILTER_VERDICT_COUNT]; // "pass", then the labels

#define FILTER_PORTS_MAX  2u
#define FILTER_ADDRESSES6 6u

struct filter_params {
    uint8_t mac[6];
    uint16_t ports[FILTER_PORTS_MAX]; // that are served, [ports_n], host order
    uint32_t ports_n;
    bool dhcp;           // UDP from port 67 to port 68 passes
    uint64_t secret[2];  // of cookies and the table of sources: random
    uint32_t syn_second; // SYNs a second in all, >= 1; each source may have a sixteenth of it
};

struct filter;                                                              // opaque
int filter_create(const struct filter_params *params, struct filter **ret); // 0 or -ENOMEM
void filter_destroy(struct filter **filter);

// filter_address4_set and _6_set say which unicast addresses are ours (network order; zeros: none).
// Without any of a family nothing of it passes but DHCP and, for IPv6, what routers say.
// settled: it was found to be free; who claims it from then on is not heard (RFC 4862, 5.4: only
// an address that is still being tried may be given up).
void filter_address4_set(struct filter *filter, const uint8_t address[4]);
void filter_address6_set(struct filter *filter, uint32_t index /* < FILTER_ADDRESSES6 */,
                         const uint8_t address[16], bool settled);

// filter_pressure says how full the table of half-open connections is, 0..100.
void filter_pressure(struct filter *filter, uint32_t percent);

#define FILTER_REPLY_MAX 74u
// filter_judge looks at a frame of [n] bytes.  With FILTER_SYN_PROOF, ret_reply holds
// [*ret_reply_n] bytes that should be sent (0: nothing).  A RST that proves its source is
// FILTER_PASS.  now_us never goes back.
enum filter_verdict filter_judge(struct filter *filter, const uint8_t *frame, size_t n,
                                 uint64_t now_us, uint8_t ret_reply[FILTER_REPLY_MAX],
                                 size_t *ret_reply_n);
// filter_drop counts a frame that the caller dropped.
void filter_drop(struct filter *filter, enum filter_verdict verdict);
uint64_t filter_count(const struct filter *filter, enum filter_verdict verdict);
