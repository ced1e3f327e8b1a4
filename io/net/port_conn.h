// SPDX-License-Identifier: MIT
// port_conn: a connection of the port between lwIP and the caller: its states, what waits in either
// direction, and the lists that it stands in.  For port.c only.  Owner: the net thread.
#pragma once
#include "io/net/bytes.h"
#include "io/net/port.h"
#include "io/net/tcp.h"

#define PORT_NONE UINT32_MAX

enum conn_state {
    CONN_FREE,
    CONN_NEW,       // lwIP accepted it; it has no place yet
    CONN_HANDSHAKE, // of TLS; the caller does not know it
    CONN_OPEN,
    CONN_FLUSH,  // conns_finish was called: send what is there, and see it acknowledged
    CONN_LINGER, // our side is shut; throw away what comes until the peer closes
    CONN_DEAD,   // to be swept; lwIP does not know it any more
};

struct conn {
    enum conn_state state;
    uint32_t tcp;   // what io/net/tcp.h calls it; PORT_NONE once that is over
    uint32_t place; // what the caller calls it; PORT_NONE: it found none
    struct conns_peer peer;
    struct tls_conn *tls; // NULL: plain
    bool told;            // of it, `opened` was called
    bool paused;          // `received` did not take everything
    bool fin;             // the peer closed its side
    bool eof;             // ... or its stream of TLS, and what waits is all there will be
    bool eof_told;
    bool evictable;
    bool backlog;         // conns_send left something behind: `drained` is owed
    bool broken;          // bytes were lost for want of memory
    bool shut;            // FIN stands behind what was written
    bool ready;           // in the list of those to look at; outlives the connection
    uint64_t active_us;   // last byte in or out
    uint64_t written;     // bytes that lwIP took
    uint64_t deadline_us; // 0: none
    size_t unconsumed;    // bytes by which the peer's window is closed
    struct bytes in;      // plaintext that was not taken
    struct bytes out;     // of a plain connection; with TLS it waits there
};

struct port {
    struct conns conns; // first
    struct port_params params;
    struct nic *nic;
    struct tcp *tcp;
    struct tls *tls;       // NULL without https_port
    uint32_t tls_listen;   // which of tcp_params.ports speaks TLS
    uint32_t conns_n;      // connections_max and those that are turned away
    struct conn *all;      // [conns_n]
    uint32_t *by_tcp;      // [conns_n] index in all
    uint32_t *by_place;    // [connections_max] index in all
    uint32_t *free;        // [conns_n] a stack of indices in all
    uint32_t *free_places; // [connections_max] a stack
    uint32_t *ready;       // [2 * conns_n]: those that were looked at leave it together
    uint32_t *dead;        // [conns_n]
    uint32_t free_n, free_places_n, ready_n, dead_n;
    bool wrote;                // since lwIP ran last
    uint64_t deadline_next_us; // no deadline is nearer than this
    uint64_t run_us;           // when lwIP's timers want to run
    uint64_t traffic_us;       // last frame that came
    uint64_t hint_us;          // last time wake_fd was signalled; 0 once something was sent since
    bool woken;                // since the last port_poll
    uint64_t turned_away;      // connections that found no place
    uint64_t tls_handshakes, tls_resumed, tls_failed, tls_plain;
    char scratch[CONNS_INPUT_BYTES];
};

// port_conn_ready has the connection looked at, in this turn or the next.
void port_conn_ready(struct port *p, struct conn *c);
// port_conn_look does what a connection that is ready wants; it may be dead then.
void port_conn_look(struct port *p, struct conn *c);
void port_conn_deadline(struct port *p, struct conn *c, uint64_t at_us); // 0: none

// port_conn_dead: lwIP does not know it any more.  port_sweep tells the caller and frees it.
void port_conn_dead(struct port *p, struct conn *c);
void port_conn_abort(struct port *p, struct conn *c); // with a reset
// port_conn_close leaves the rest to lwIP: the FIN's way, TIME-WAIT.
void port_conn_close(struct port *p, struct conn *c);
void port_sweep(struct port *p);

size_t port_conn_unsent(const struct conn *c);
// port_conn_write is conns_send.
int port_conn_write(struct port *p, struct conn *c, const void *bytes, size_t n);
// port_conn_finish ends our side behind what was written.
void port_conn_finish(struct port *p, struct conn *c);
