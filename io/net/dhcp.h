// SPDX-License-Identifier: MIT
// dhcp: a DHCP client for one IPv4 address (RFC 2131): frames in, frames out, and a lease.  It
// discovers, takes the first good offer, renews at T1 with the server, rebinds at T2 with anyone,
// and starts again when the lease ends or a server says no.
//
// It speaks whole Ethernet frames, because lwIP takes no packet while it has no address.
// Pure: no I/O, no clock, no lwIP; allocates nothing.  Owner: the net thread.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DHCP_FRAME_BYTES 342u // each frame that is sent

enum dhcp_state {
    DHCP_SELECTING,  // DISCOVER was sent
    DHCP_REQUESTING, // an OFFER came, REQUEST was sent
    DHCP_BOUND,
    DHCP_RENEWING,  // T1 passed: REQUEST to the server
    DHCP_REBINDING, // T2 passed: REQUEST to all
    DHCP_STATE_COUNT
};
extern const char *const dhcp_state_label[DHCP_STATE_COUNT];

struct dhcp_lease { // network order; zeros: none
    uint8_t address[4], mask[4], gateway[4];
};

struct dhcp {
    enum dhcp_state state;
    struct dhcp_lease lease; // ours while BOUND, RENEWING or REBINDING, else zeros
    uint8_t offered[4];      // while REQUESTING
    uint8_t server[4];       // its identifier
    uint8_t mac[6], server_mac[6];
    uint64_t secret[2], drawn; // of random numbers
    uint32_t xid;
    uint32_t tries;                // of this state's message
    uint64_t send_us;              // when to send next
    uint64_t began_us;             // of this exchange
    uint64_t t1_us, t2_us, end_us; // of the lease
};

// dhcp_init begins with a DISCOVER at once.  secret: random.
void dhcp_init(struct dhcp *dhcp, const uint8_t mac[6], const uint64_t secret[2], uint64_t now_us);

// dhcp_input looks at a frame that the filter passed, UDP from port 67 to 68.  Returns whether the
// lease changed.
bool dhcp_input(struct dhcp *dhcp, const uint8_t *frame, size_t n, uint64_t now_us);

// dhcp_run does what is due.  *ret_n: bytes of a frame to send, 0 or DHCP_FRAME_BYTES.  Returns
// whether the lease changed (it ended).
bool dhcp_run(struct dhcp *dhcp, uint64_t now_us, uint8_t ret_frame[DHCP_FRAME_BYTES],
              size_t *ret_n);
// dhcp_due_us returns when dhcp_run has something to do; UINT64_MAX: never.
uint64_t dhcp_due_us(const struct dhcp *dhcp);
