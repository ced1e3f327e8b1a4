// SPDX-License-Identifier: MIT
// tcp_link: lwIP's network interface over a NIC: received frames become pbufs without a copy, and
// what lwIP sends is copied into the NIC's frames.  For tcp*.c only.
//
// On the wire, our sequence numbers are lwIP's plus a secret that differs for each pair of
// addresses and ports (RFC 6528): lwIP counts its initial ones from a constant.
// Owner: the net thread.
#pragma once
#include "io/net/nic.h"
#include "io/net/tcp_path.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tcp_link_frame;
struct tcp_link {
    struct nic *nic;
    struct netif *netif; // of lwIP
    uint64_t secret[2];
    struct tcp_paths *paths;
    struct tcp_link_frame *frames; // [frames_n], a list of free ones
    struct tcp_link_frame *free;
    uint32_t frames_n;
    uint32_t room; // frames that may still be lent to lwIP; see tcp_link_run
    uint32_t held; // frames of the NIC that lwIP has
    uint32_t copies;
    uint64_t far_n; // segments dropped since their numbers are far from their connection's
    bool full;      // the NIC had no place for a frame
};

// tcp_link_init adds the interface to lwIP, without addresses, and brings it up.  secret: random.
// connections_max: half-open and closing ones too.  0 or -ENOMEM.
int tcp_link_init(struct tcp_link *link, struct nic *nic, const uint64_t secret[2],
                  uint32_t connections_max);
// tcp_link_fini takes it out.  No pbuf of it may be left.
void tcp_link_fini(struct tcp_link *link);

// tcp_link_input gives a frame, which the filter passed, to lwIP.  It is freed now or later; when
// fewer than a quarter of the NIC's frames are free, now: what lwIP keeps is a copy then.
void tcp_link_input(struct tcp_link *link, const struct nic_frame *frame);
// tcp_link_run looks how many frames are free and sends what the NIC has in its hands.
void tcp_link_run(struct tcp_link *link);
