// SPDX-License-Identifier: MIT
// conns: connections as byte streams, whoever moves their bytes: the kernel (io/net/sock.h) or a
// NIC of our own (io/net/port.h).  Each connection has a place, 0..connections_max-1.  Nobody here
// knows HTTP.
//
// Back-pressure: what `received` does not take stays with the connection, up to CONNS_INPUT_BYTES,
// and then with the peer; what the peer does not read is kept up to unsent_max, whose length the
// caller watches (conns_unsent) and whose deadline closes it.
//
// Owner: one thread, the one that calls conns_poll; callbacks run inside it.  A callback may call
// every function here; a connection that is closed keeps its place until `closed` was called.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONNS_INPUT_BYTES  (16u << 10) // of one connection, that wait to be taken
#define CONNS_ADDRESS_TEXT 46u         // of an IPv6 address and its NUL

enum conns_kind {
    CONNS_UNIX,     // the file's permissions said who may connect
    CONNS_LOOPBACK, // TCP of this machine
    CONNS_PORT,     // the NIC
    CONNS_PORT_TLS, // ... inside TLS
    CONNS_KIND_COUNT
};

struct conns_peer {
    enum conns_kind kind;
    char address[CONNS_ADDRESS_TEXT]; // numeric, without port; "" for a Unix socket
    uint32_t uid;                     // CONNS_UNIX: who connected (SO_PEERCRED)
};

struct conns_ops {
    // opened: a new connection; with TLS, once the handshake is done.
    void (*opened)(void *user, uint32_t conn, const struct conns_peer *peer);
    // received looks at [n] bytes, everything that came and was not taken before.  Returns how many
    // it took; if not all, it is not called again until conns_resume.
    size_t (*received)(void *user, uint32_t conn, const char *bytes, size_t n);
    // ended: the peer sends no more, and every byte was taken or is in `received`'s hands.
    void (*ended)(void *user, uint32_t conn);
    void (*drained)(void *user, uint32_t conn); // what waited to be sent has left us
    void (*expired)(void *user, uint32_t conn); // the deadline passed; it is cleared
    void (*closed)(void *user, uint32_t conn);  // last call for this connection
    void (*woken)(void *user);                  // wake_fd became readable (and was cleared)
};

struct conns_params {
    uint32_t connections_max;
    size_t unsent_max;      // bytes of one connection's output; more is -ENOBUFS
    int wake_fd;            // an eventfd (base/wake.h) that other threads signal
    const char *full_reply; // sent to a connection that finds no place, then it is closed
    struct conns_ops ops;
    void *user;
};

struct conns;
struct conns_class {
    void (*poll)(struct conns *conns, int timeout_ms);
    int (*send)(struct conns *conns, uint32_t conn, const void *bytes, size_t n);
    size_t (*unsent)(const struct conns *conns, uint32_t conn);
    uint64_t (*sent)(const struct conns *conns, uint32_t conn);
    void (*resume)(struct conns *conns, uint32_t conn);
    void (*deadline)(struct conns *conns, uint32_t conn, uint64_t at_us);
    void (*evictable)(struct conns *conns, uint32_t conn, bool yes);
    void (*finish)(struct conns *conns, uint32_t conn);
    void (*abort)(struct conns *conns, uint32_t conn);
    uint32_t (*open_n)(const struct conns *conns);
};
struct conns { // the first member of struct sock and struct port
    const struct conns_class *class;
};

// conns_poll waits up to timeout_ms (-1: for ever; less if a deadline is nearer) and handles what
// is there.
static inline void conns_poll(struct conns *c, int timeout_ms)
{
    c->class->poll(c, timeout_ms);
}

// conns_send sends, or keeps what cannot leave yet.
// Returns 0, -EPIPE if the connection is closing, -ENOBUFS, -ENOMEM (the connection should be
// closed then: bytes are missing).
static inline int conns_send(struct conns *c, uint32_t conn, const void *bytes, size_t n)
{
    return c->class->send(c, conn, bytes, n);
}

static inline size_t conns_unsent(const struct conns *c, uint32_t conn)
{
    return c->class->unsent(c, conn);
}

// conns_sent returns how many bytes have left us so far: it stands still when the peer does not
// read.
static inline uint64_t conns_sent(const struct conns *c, uint32_t conn)
{
    return c->class->sent(c, conn);
}

// conns_resume has `received` called again with what is there, soon.
static inline void conns_resume(struct conns *c, uint32_t conn)
{
    c->class->resume(c, conn);
}

// conns_deadline: at this time (clock_us) `expired` is called; 0: never.  One a connection.
static inline void conns_deadline(struct conns *c, uint32_t conn, uint64_t at_us)
{
    c->class->deadline(c, conn, at_us);
}

// conns_evictable: this connection may be closed when a new one needs its place.
static inline void conns_evictable(struct conns *c, uint32_t conn, bool yes)
{
    c->class->evictable(c, conn, yes);
}

// conns_finish closes once everything was sent and the peer has closed too (or two seconds passed),
// so that bytes it sent meanwhile do not cut the answer off.  Nothing is received any more.  A
// deadline that was set still counts, then without `expired`.
static inline void conns_finish(struct conns *c, uint32_t conn)
{
    c->class->finish(c, conn);
}

// conns_abort closes at once; unsent bytes are lost.
static inline void conns_abort(struct conns *c, uint32_t conn)
{
    c->class->abort(c, conn);
}

static inline uint32_t conns_open_n(const struct conns *c)
{
    return c->class->open_n(c);
}
