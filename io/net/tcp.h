// SPDX-License-Identifier: MIT
// tcp: lwIP over a NIC: frames in, in-order bytes of connections out.  ARP, ICMP, IPv6 neighbour
// discovery and SLAAC are lwIP's; the DHCP client is ours (io/net/dhcp.h), since Debian's lwIP is
// built without one.  tcp.c and tcp_link.c are the only files that include lwIP.
//
// lwIP's state is one a process and belongs to the net thread: it is started without lwIP's own
// thread, and tcp_run does the timers, so that no lock is needed.
//
// Functions on a connection begin with tcp_conn_: liblwip exports tcp_write, tcp_close and others
// of that kind, and functions of ours with such a name would be called by lwIP itself.
#pragma once
#include "base/fault.h"
#include "io/net/conns.h"
#include "io/net/filter.h"
#include "io/net/nic.h"

#define TCP_LISTEN_MAX 2u
#define TCP_SEND_BYTES 65535u // of one connection, unacknowledged: TCP_SND_BUF

enum tcp_end {      // why a connection is over
    TCP_END_CLOSED, // both sides sent FIN
    TCP_END_RESET,
    TCP_END_TIMEOUT, // the peer stopped acknowledging
    TCP_END_COUNT
};
extern const char *const tcp_end_label[TCP_END_COUNT];

// Called inside tcp_take and tcp_run; they may call every function on connections.  conn is a
// place, 0..connections_max-1.
struct tcp_ops {
    // accepted: false refuses it (a RST).  listen: index in tcp_params.ports.
    bool (*accepted)(void *user, uint32_t conn, uint32_t listen, const char *address);
    // received: [n] bytes, all of which the callee takes; the peer's window stays closed by as many
    // until tcp_conn_consumed.
    void (*received)(void *user, uint32_t conn, const void *bytes, size_t n);
    void (*ended)(void *user, uint32_t conn); // FIN of the peer
    // sendable: the peer acknowledged, or memory may be there again: tcp_conn_space may have grown.
    void (*sendable)(void *user, uint32_t conn);
    // lost: over; the place is free, so no function may be called on it.
    void (*lost)(void *user, uint32_t conn, enum tcp_end why);
};

struct tcp_params {
    struct nic *nic; // outlives the stack
    uint16_t ports[TCP_LISTEN_MAX];
    uint32_t ports_n;
    uint32_t connections_max, per_address_max;
    uint32_t half_open_max; // SYNs that wait for their ACK; the oldest gives way
    uint32_t syn_second;    // of filter_params
    const char *address;    // "dhcp", "A.B.C.D/N" or "" (no IPv4)
    const char *gateway;    // "" none, or what DHCP says
    const char *address6;   // "auto" (SLAAC), "X::Y/N" or "" (only link-local)
    struct tcp_ops ops;
    void *user;
};

// tcp_params_check reads the addresses; -EINVAL names the key of [net].  Any thread.
int tcp_params_check(const struct tcp_params *params, struct fault *fault);

struct tcp; // opaque; one a process at a time
// tcp_create brings the interface up and listens.  -EINVAL, -ENOMEM, -EBUSY (there is one already).
int tcp_create(const struct tcp_params *params, struct tcp **ret, struct fault *fault);
// tcp_destroy resets what is open, without callbacks, and gives every frame back to the NIC.
void tcp_destroy(struct tcp **tcp);

// tcp_take judges and takes a frame; it is freed here, or later when a segment before it came.
// now_us: of clock_us, here and below.
void tcp_take(struct tcp *tcp, const struct nic_frame *frame, uint64_t now_us);
// tcp_run does what is due (retransmissions, ARP, DHCP) and sends what was written; call it after
// each burst of frames too.  Returns in how many microseconds it must be called again.
uint64_t tcp_run(struct tcp *tcp, uint64_t now_us);

// tcp_conn_space returns how many bytes tcp_conn_write would take now, if memory is there.
size_t tcp_conn_space(const struct tcp *tcp, uint32_t conn);
// tcp_conn_write copies up to n bytes into the connection's segments, which leave with
// tcp_run; returns how many.  If not all, `sendable` comes.
size_t tcp_conn_write(struct tcp *tcp, uint32_t conn, const void *bytes, size_t n);
void tcp_conn_consumed(struct tcp *tcp, uint32_t conn, size_t n);
// tcp_conn_shutdown sends FIN behind what was written; received and lost still come.
void tcp_conn_shutdown(struct tcp *tcp, uint32_t conn);
// tcp_conn_close frees the place: FIN behind what was written if everything was consumed (lwIP
// finishes alone), else RST.  No callback.
void tcp_conn_close(struct tcp *tcp, uint32_t conn);
void tcp_conn_abort(struct tcp *tcp, uint32_t conn); // RST.  No callback; the place is free
size_t tcp_conn_unacked(const struct tcp *tcp, uint32_t conn);

struct tcp_stats {
    uint64_t dropped[FILTER_VERDICT_COUNT];
    uint32_t connections, half_open, time_wait;
    uint32_t orphans;                         // closed by us, not yet by the peer
    uint32_t frames_held;                     // received frames that lwIP has not given back
    uint64_t refused_places, refused_address; // connections over connections_max, per_address_max
    uint64_t half_open_dropped;               // that gave way to newer ones
    char address4[CONNS_ADDRESS_TEXT], address6[3][CONNS_ADDRESS_TEXT]; // "" none
};
void tcp_stats(const struct tcp *tcp, struct tcp_stats *ret);
