// SPDX-License-Identifier: MIT
// sock: connections of stream sockets on one epoll: bytes in, bytes out, deadlines.  It knows no
// HTTP.  Each connection has a place (0..connections_max-1), an input buffer of fixed size, and an
// output buffer that grows up to unsent_max.
//
// Back-pressure: what `received` does not take stays in the input buffer, and when that is full the
// kernel's; what the peer does not read stays in the output buffer, whose length the caller watches
// (sock_unsent) and whose deadline closes it.
// A peer that only stops sending (half-close) can still be answered; one that is gone is closed at
// once on a Unix socket, and within a moment on loopback TCP (io/net/peer.h).
//
// Owner: one thread, the one that calls sock_poll; callbacks run inside it.  A callback may call
// every function here; a connection that is closed keeps its place until `closed` was called.
#pragma once
#include "io/net/listener.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOCK_LISTENERS_MAX 4u
#define SOCK_INPUT_BYTES   (16u << 10) // of one connection; one read takes at most this much

struct sock_ops {
    void (*opened)(void *user, uint32_t conn, bool local);
    // received looks at [n] bytes, everything that came and was not taken before.  Returns how many
    // it took; if not all, it is not called again until sock_resume.
    size_t (*received)(void *user, uint32_t conn, const char *bytes, size_t n);
    // ended: the peer sends no more, and every byte was taken or is in `received`'s hands.
    void (*ended)(void *user, uint32_t conn);
    void (*drained)(void *user, uint32_t conn); // what waited to be sent is with the kernel
    void (*expired)(void *user, uint32_t conn); // the deadline passed; it is cleared
    void (*closed)(void *user, uint32_t conn);  // last call for this connection
    void (*woken)(void *user);                  // wake_fd became readable (and was cleared)
};

struct sock_params {
    uint32_t connections_max;
    size_t unsent_max;      // bytes of one connection's output; more is -ENOBUFS
    int wake_fd;            // an eventfd (base/wake.h) that other threads signal
    const char *full_reply; // sent to a connection that finds no place, then it is closed
    struct sock_ops ops;
    void *user;
};

struct sock; // opaque

// sock_create starts to accept on the listeners, which stay the caller's.
int sock_create(const struct sock_params *params, const struct listener *listeners,
                uint32_t listeners_n, struct sock **ret, struct fault *fault);
// sock_destroy closes everything, without callbacks.
void sock_destroy(struct sock **sock);

// sock_poll waits up to timeout_ms (-1: for ever; less if a deadline is nearer) and handles what is
// there.
void sock_poll(struct sock *sock, int timeout_ms);

// sock_send sends, or keeps what the kernel does not take yet.
// Returns 0, -EPIPE if the connection is closing, -ENOBUFS, -ENOMEM (the connection should be
// closed then: bytes are missing).
int sock_send(struct sock *sock, uint32_t conn, const void *bytes, size_t n);
size_t sock_unsent(const struct sock *sock, uint32_t conn);
// sock_sent returns how many bytes the kernel took so far: it stands still when the peer does not
// read.
uint64_t sock_sent(const struct sock *sock, uint32_t conn);

// sock_resume has `received` called again with what is there, soon.
void sock_resume(struct sock *sock, uint32_t conn);

// sock_deadline: at this time (clock_us) `expired` is called; 0: never.  One a connection.
void sock_deadline(struct sock *sock, uint32_t conn, uint64_t at_us);

// sock_evictable: this connection may be closed when a new one needs its place.
void sock_evictable(struct sock *sock, uint32_t conn, bool yes);

// sock_finish closes once everything was sent and the peer has closed too (or two seconds passed),
// so that bytes it sent meanwhile do not cut the answer off.  Nothing is received any more.  A
// deadline that was set still counts, then without `expired`.
void sock_finish(struct sock *sock, uint32_t conn);
// sock_abort closes at once; unsent bytes are lost.
void sock_abort(struct sock *sock, uint32_t conn);

// sock_accept_stop closes no listener, but takes no connection any more (draining).
void sock_accept_stop(struct sock *sock);
uint32_t sock_connections_n(const struct sock *sock);
