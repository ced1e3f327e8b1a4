// SPDX-License-Identifier: MIT
#include "io/net/port.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/net/bytes.h"
#include "io/net/tcp.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BURST         32u // frames; what fits the caches, and DPDK's usual
#define BURSTS_MAX    4u  // a turn, so that a flood does not keep us from sending
#define MBUFS         4095u
#define HALF_OPEN_MAX 1024u
// A sixteenth may come from one address: 2048 a second, more than one client needs.  All of them
// would take a tenth of a core.
#define SYN_SECOND      32768u
#define HANDSHAKES_MAX  2u   // steps of TLS handshakes a turn: a signature takes up to some ms
#define SPIN_US         50u  // after traffic: a sleep and its end cost as much
#define HINT_SPIN_US    500u // after wake_fd with nothing to send: a token is being sampled
#define LINGER_US       2000000u
#define FLUSH_STUCK_US  2000000u  // then one that takes nothing makes room for another
#define FLUSH_US        30000000u // for the peer to read what is left, if no deadline was set
#define OUT_KEEP_BYTES  2048u     // so that a slow reader's tokens do not allocate for each
#define FULL_TIMEOUT_US 2000000u  // for one that is turned away
#define NONE            UINT32_MAX
#define NEVER           UINT64_MAX

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
    uint32_t tcp;   // what io/net/tcp.h calls it; NONE once that is over
    uint32_t place; // what the caller calls it; NONE: it found none
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
    bool starved;         // lwIP took nothing though nothing is on its way
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

static const char plain_reply[] =
    "HTTP/1.1 400 Bad Request\r\n"
    "Content-Type: application/json\r\n"
    "Content-Length: 140\r\n"
    "Connection: close\r\n"
    "\r\n"
    "{\"error\":{\"message\":\"this port speaks HTTPS: use https:// in the URL\","
    "\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"https_required\"}}\n";

static struct port *port_of(struct conns *conns)
{
    return (struct port *)conns; // its first member
}

static const struct port *port_of_const(const struct conns *conns)
{
    return (const struct port *)conns;
}

static struct conn *conn_at(struct port *p, uint32_t place)
{
    assert(place < p->params.conns.connections_max && p->by_place[place] != NONE);
    return &p->all[p->by_place[place]];
}

static uint32_t conn_index(const struct port *p, const struct conn *c)
{
    return (uint32_t)(c - p->all);
}

/* ----------------------------------------------------------------- lists */

// conn_ready has the connection looked at, in this turn or the next.
static void conn_ready(struct port *p, struct conn *c)
{
    if (c->ready)
        return;
    c->ready = true;
    p->ready[p->ready_n++] = conn_index(p, c);
}

static void deadline_set(struct port *p, struct conn *c, uint64_t at_us)
{
    c->deadline_us = at_us;
    if (at_us != 0 && at_us < p->deadline_next_us)
        p->deadline_next_us = at_us;
}

static void conn_dead(struct port *p, struct conn *c)
{
    if (c->tcp != NONE)
        p->by_tcp[c->tcp] = NONE;
    c->tcp = NONE;
    c->state = CONN_DEAD;
    p->dead[p->dead_n++] = conn_index(p, c);
}

static void conn_abort(struct port *p, struct conn *c)
{
    assert(c->state != CONN_FREE);
    if (c->state == CONN_DEAD)
        return;
    tcp_conn_abort(p->tcp, c->tcp);
    conn_dead(p, c);
}

// conn_close leaves the rest to lwIP: the FIN's way, TIME-WAIT.
static void conn_close(struct port *p, struct conn *c)
{
    tcp_conn_close(p->tcp, c->tcp);
    conn_dead(p, c);
}

static void conn_free(struct port *p, struct conn *c)
{
    tls_conn_destroy(&c->tls);
    bytes_fini(&c->in);
    bytes_fini(&c->out);
    *c = (struct conn){.tcp = NONE, .place = NONE, .ready = c->ready};
    p->free[p->free_n++] = conn_index(p, c);
}

static void sweep(struct port *p)
{
    while (p->dead_n > 0) {
        struct conn *c = &p->all[p->dead[--p->dead_n]];
        uint32_t place = c->place;
        bool told = c->told;
        conn_free(p, c);
        if (place == NONE)
            continue;
        p->by_place[place] = NONE;
        p->free_places[p->free_places_n++] = place;
        if (told)
            p->params.conns.ops.closed(p->params.conns.user, place);
    }
}

/* ---------------------------------------------------------------- output */

static size_t conn_unsent(const struct conn *c)
{
    size_t n = bytes_n(&c->out);
    if (c->tls)
        tls_conn_pending(c->tls, &n);
    return n;
}

// conn_give lets lwIP take what it has place for.  Returns how much that was.
static size_t conn_give(struct port *p, struct conn *c, const void *bytes, size_t n)
{
    size_t took = n > 0 ? tcp_conn_write(p->tcp, c->tcp, bytes, n) : 0;
    if (took > 0) {
        c->written += took;
        c->active_us = clock_us();
        p->wrote = true;
    }
    return took;
}

// conn_pump gives lwIP what waits.
static void conn_pump(struct port *p, struct conn *c)
{
    size_t n = bytes_n(&c->out);
    if (n > 0)
        bytes_drop(&c->out, conn_give(p, c, bytes_front(&c->out), n), OUT_KEEP_BYTES);
    if (!c->tls)
        return;
    const void *pending = tls_conn_pending(c->tls, &n);
    if (n > 0)
        tls_conn_sent(c->tls, conn_give(p, c, pending, n));
}

static int conn_write(struct port *p, struct conn *c, const void *bytes, size_t n)
{
    size_t unsent = conn_unsent(c), max = p->params.conns.unsent_max;
    size_t space = unsent > 0 ? 0 : tcp_conn_space(p->tcp, c->tcp);
    if (n > space && (n - space > max || unsent > max - (n - space)))
        return -ENOBUFS;
    int err = 0;
    if (c->tls) {
        err = tls_conn_write(c->tls, bytes, n);
        conn_pump(p, c);
    } else {
        size_t took = unsent > 0 ? 0 : conn_give(p, c, bytes, n);
        err = bytes_put(&c->out, (const char *)bytes + took, n - took);
    }
    c->backlog |= conn_unsent(c) > 0;
    return err;
}

// conn_finish ends our side behind what was written.
static void conn_finish(struct port *p, struct conn *c)
{
    c->state = CONN_FLUSH;
    c->evictable = false;
    if (c->deadline_us == 0)
        deadline_set(p, c, clock_us() + FLUSH_US);
    if (c->tls)
        tls_conn_end(c->tls);
    conn_ready(p, c);
}

// conn_flushed moves a connection that is finished on as far as the peer lets it.
static void conn_flushed(struct port *p, struct conn *c)
{
    conn_pump(p, c);
    if (conn_unsent(c) > 0)
        return;
    if (!c->shut) {
        c->shut = true;
        tcp_conn_shutdown(p->tcp, c->tcp);
    }
    if (c->state == CONN_FLUSH && tcp_conn_unacked(p->tcp, c->tcp) == 0) {
        c->state = CONN_LINGER;
        deadline_set(p, c, clock_us() + LINGER_US);
    }
    if (c->state == CONN_LINGER && c->fin)
        conn_close(p, c);
}

/* ----------------------------------------------------------------- input */

// conn_consume opens the peer's window for all but what waits here.
static void conn_consume(struct port *p, struct conn *c)
{
    size_t keep = c->tls ? tls_conn_unread(c->tls) : bytes_n(&c->in);
    if (c->state == CONN_FLUSH || c->state == CONN_LINGER)
        keep = 0;
    if (c->tcp == NONE || c->unconsumed <= keep)
        return;
    tcp_conn_consumed(p->tcp, c->tcp, c->unconsumed - keep);
    c->unconsumed = keep;
}

// conn_deliver hands what is there to the caller, then the news that no more comes.
static void conn_deliver(struct port *p, struct conn *c)
{
    const struct conns_params *params = &p->params.conns;
    size_t n;
    while (c->state == CONN_OPEN && !c->paused && (n = bytes_n(&c->in)) > 0) {
        if (n > CONNS_INPUT_BYTES)
            n = CONNS_INPUT_BYTES;
        c->paused = true; // unless it takes everything, or calls conns_resume
        size_t used = params->ops.received(params->user, c->place, bytes_front(&c->in), n);
        assert(used <= n);
        bytes_drop(&c->in, used, 0);
        if (used < n)
            break; // in its turn, so that pipelined requests do not keep others waiting
        c->paused = false;
    }
    if (c->state == CONN_OPEN && c->eof && !c->paused && bytes_n(&c->in) == 0 && !c->eof_told) {
        c->eof_told = true;
        params->ops.ended(params->user, c->place);
    }
}

static void conn_opened(struct port *p, struct conn *c)
{
    const struct conns_params *params = &p->params.conns;
    c->state = CONN_OPEN;
    if (c->place == NONE) {
        if (conn_write(p, c, params->full_reply, strlen(params->full_reply)) == 0)
            conn_finish(p, c);
        else
            conn_abort(p, c);
        return;
    }
    deadline_set(p, c, 0);
    c->told = true;
    params->ops.opened(params->user, c->place, &c->peer);
}

// conn_refuse_plain answers HTTP on the port for HTTPS.
static void conn_refuse_plain(struct port *p, struct conn *c)
{
    p->tls_plain++;
    tls_conn_destroy(&c->tls);
    deadline_set(p, c, 0);
    if (conn_write(p, c, plain_reply, sizeof(plain_reply) - 1) == 0)
        conn_finish(p, c);
    else
        conn_abort(p, c);
}

// conn_decrypt turns ciphertext into plaintext that waits, as much as may wait.  Returns whether
// more may be there.
static bool conn_decrypt(struct port *p, struct conn *c)
{
    size_t waiting = bytes_n(&c->in);
    int got = 1;
    while (waiting < CONNS_INPUT_BYTES) {
        got = tls_conn_read(c->tls, p->scratch, CONNS_INPUT_BYTES - waiting);
        if (got <= 0)
            break;
        if (bytes_put(&c->in, p->scratch, (size_t)got) != 0) {
            conn_abort(p, c);
            return false;
        }
        waiting += (size_t)got;
    }
    conn_pump(p, c); // the handshake's answers, alerts
    c->backlog |= conn_unsent(c) > 0;
    if (c->state == CONN_HANDSHAKE && tls_conn_ready(c->tls)) {
        p->tls_handshakes++;
        p->tls_resumed += tls_conn_resumed(c->tls);
        conn_opened(p, c);
    }
    if (got == -EBADMSG) {
        conn_refuse_plain(p, c);
    } else if (got == -EPIPE || (got == 0 && c->fin)) {
        c->eof = true; // also of a peer that did not say goodbye: HTTP knows where a request ends
    } else if (got < 0) {
        log_debug("TLS with %s: %s", c->peer.address, tls_conn_error(c->tls));
        p->tls_failed += c->state == CONN_HANDSHAKE;
        if (c->state != CONN_DEAD)
            conn_finish(p, c); // behind the alert
    }
    return got > 0;
}

static void conn_input(struct port *p, struct conn *c)
{
    bool more = true;
    while (more && c->tls && (c->state == CONN_HANDSHAKE || c->state == CONN_OPEN)) {
        more = conn_decrypt(p, c);
        conn_deliver(p, c);
        more = more && bytes_n(&c->in) < CONNS_INPUT_BYTES;
    }
    if (!c->tls)
        conn_deliver(p, c);
    if (c->state == CONN_HANDSHAKE && c->eof) {
        p->tls_failed++;
        conn_abort(p, c);
    }
}

/* ----------------------------------------------------- what lwIP tells us */

static bool on_accepted(void *user, uint32_t tcp, uint32_t listen, const char *address)
{
    struct port *p = user;
    assert(tcp < p->conns_n);
    if (p->free_n == 0)
        return false;
    struct conn *c = &p->all[p->free[--p->free_n]];
    bool tls = p->tls && listen == p->tls_listen;
    c->state = CONN_NEW;
    c->tcp = tcp;
    c->active_us = clock_us();
    c->peer.kind = tls ? CONNS_PORT_TLS : CONNS_PORT;
    snprintf(c->peer.address, sizeof(c->peer.address), "%s", address);
    p->by_tcp[tcp] = conn_index(p, c);
    conn_ready(p, c);
    return true;
}

static struct conn *conn_of_tcp(struct port *p, uint32_t tcp)
{
    assert(tcp < p->conns_n && p->by_tcp[tcp] != NONE);
    return &p->all[p->by_tcp[tcp]];
}

static void on_received(void *user, uint32_t tcp, const void *bytes, size_t n)
{
    struct port *p = user;
    struct conn *c = conn_of_tcp(p, tcp);
    c->unconsumed += n;
    c->active_us = clock_us();
    conn_ready(p, c);
    if (c->state == CONN_FLUSH || c->state == CONN_LINGER)
        return; // nobody wants it
    int err = c->tls ? tls_conn_feed(c->tls, bytes, n) : bytes_put(&c->in, bytes, n);
    if (err != 0)
        c->broken = true;
}

static void on_ended(void *user, uint32_t tcp)
{
    struct port *p = user;
    struct conn *c = conn_of_tcp(p, tcp);
    c->fin = true;
    c->eof |= c->peer.kind != CONNS_PORT_TLS; // else ciphertext may wait before it
    conn_ready(p, c);
}

static void on_sendable(void *user, uint32_t tcp)
{
    struct port *p = user;
    conn_ready(p, conn_of_tcp(p, tcp));
}

static void on_lost(void *user, uint32_t tcp, enum tcp_end why)
{
    struct port *p = user;
    struct conn *c = conn_of_tcp(p, tcp);
    (void)why; // whatever it was, nobody is there any more
    p->tls_failed += c->state == CONN_HANDSHAKE;
    conn_dead(p, c);
}

/* ------------------------------------------------------------------ turn */

// evict closes the connection that has been idle longest; false if all are busy.
static bool evict(struct port *p)
{
    struct conn *oldest = NULL;
    uint64_t now_us = clock_us();
    for (uint32_t i = 0; i < p->conns_n; i++) {
        struct conn *c = &p->all[i];
        bool stuck = c->state == CONN_FLUSH && now_us - c->active_us > FLUSH_STUCK_US;
        bool may = (c->state == CONN_OPEN && c->evictable) || c->state == CONN_LINGER ||
                   c->state == CONN_HANDSHAKE || stuck;
        if (may && c->place != NONE && (!oldest || c->active_us < oldest->active_us))
            oldest = c;
    }
    if (!oldest)
        return false;
    conn_abort(p, oldest);
    return true;
}

// conn_place gives a new connection its place, or turns it away.
static void conn_place(struct port *p, struct conn *c)
{
    if (p->free_places_n == 0 && evict(p))
        sweep(p);
    if (p->free_places_n > 0) {
        c->place = p->free_places[--p->free_places_n];
        p->by_place[c->place] = conn_index(p, c);
    } else {
        p->turned_away++;
    }
    uint64_t timeout_us = c->place != NONE ? p->params.handshake_timeout_us : FULL_TIMEOUT_US;
    deadline_set(p, c, clock_us() + timeout_us);
    if (c->peer.kind != CONNS_PORT_TLS) {
        conn_opened(p, c);
        return;
    }
    c->state = CONN_HANDSHAKE;
    conn_ready(p, c);
    if (tls_conn_create(p->tls, &c->tls) == 0 &&
        tls_conn_feed(c->tls, bytes_front(&c->in), bytes_n(&c->in)) == 0)
        bytes_fini(&c->in); // what came before we knew it
    else
        conn_abort(p, c);
}

static void conn_look(struct port *p, struct conn *c)
{
    if (c->state == CONN_FREE || c->state == CONN_DEAD)
        return;
    if (c->broken) {
        conn_abort(p, c);
        return;
    }
    if (c->state == CONN_NEW) {
        conn_place(p, c);
        if (c->state == CONN_HANDSHAKE)
            return; // in its turn
    }
    if (c->state == CONN_HANDSHAKE || c->state == CONN_OPEN)
        conn_input(p, c);
    if (c->state == CONN_OPEN && c->backlog) {
        conn_pump(p, c);
        if (conn_unsent(c) == 0) {
            c->backlog = false;
            p->params.conns.ops.drained(p->params.conns.user, c->place);
        }
    }
    bool finished = c->state == CONN_FLUSH || c->state == CONN_LINGER;
    if (finished)
        bytes_fini(&c->in);
    conn_consume(p, c);
    if (finished)
        conn_flushed(p, c);
}

// ready_look looks at what is ready now; what becomes so meanwhile comes in the next turn.
static void ready_look(struct port *p)
{
    uint32_t n = p->ready_n, handshakes = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct conn *c = &p->all[p->ready[i]];
        c->ready = false;
        if (c->state == CONN_HANDSHAKE && handshakes++ >= HANDSHAKES_MAX)
            conn_ready(p, c);
        else
            conn_look(p, c);
    }
    p->ready_n -= n;
    memmove(p->ready, p->ready + n, p->ready_n * sizeof(*p->ready));
}

static void deadlines_check(struct port *p, uint64_t now_us)
{
    if (now_us < p->deadline_next_us)
        return;
    p->deadline_next_us = NEVER;
    for (uint32_t i = 0; i < p->conns_n; i++) {
        struct conn *c = &p->all[i];
        if (c->state == CONN_FREE || c->state == CONN_DEAD)
            continue;
        if (c->deadline_us == 0)
            continue;
        if (c->deadline_us > now_us) {
            deadline_set(p, c, c->deadline_us);
            continue;
        }
        c->deadline_us = 0;
        p->tls_failed += c->state == CONN_HANDSHAKE;
        if (c->state == CONN_OPEN && c->told)
            p->params.conns.ops.expired(p->params.conns.user, c->place);
        else if (c->state == CONN_LINGER)
            conn_close(p, c); // all it should have it has
        else
            conn_abort(p, c);
    }
}

// lwip_run has lwIP do what is due, and send what was written.
static void lwip_run(struct port *p, uint64_t now_us)
{
    p->wrote = false;
    p->run_us = now_us + tcp_run(p->tcp, now_us);
}

static bool woken_check(struct port *p, uint64_t now_us)
{
    uint64_t signals;
    if (read(p->params.conns.wake_fd, &signals, sizeof(signals)) != sizeof(signals))
        return false;
    p->params.conns.ops.woken(p->params.conns.user);
    p->woken = true;
    p->hint_us = now_us;
    return true;
}

// turn does everything once.  Returns whether there was anything.
static bool turn(struct port *p)
{
    uint64_t now_us = clock_us();
    uint32_t frames_n = 0;
    bool woken = woken_check(p, now_us);
    for (uint32_t b = 0; b < BURSTS_MAX; b++) {
        struct nic_frame frames[BURST];
        uint32_t n = nic_receive(p->nic, frames, BURST);
        for (uint32_t i = 0; i < n; i++)
            tcp_take(p->tcp, &frames[i], now_us);
        frames_n += n;
        if (n < BURST)
            break;
    }
    if (frames_n > 0)
        p->traffic_us = now_us;
    bool due = now_us >= p->run_us || now_us >= p->deadline_next_us;
    if (!woken && frames_n == 0 && !due && p->ready_n == 0 && p->dead_n == 0)
        return false;
    if (p->tls)
        tls_rotate(p->tls, now_us);
    ready_look(p);
    deadlines_check(p, now_us);
    sweep(p);
    lwip_run(p, now_us);
    return true;
}

// turn_wait sleeps until there may be something to do, or just says that there may be.
static void turn_wait(struct port *p, uint64_t now_us, uint64_t until_us)
{
    if (until_us > p->deadline_next_us)
        until_us = p->deadline_next_us;
    if (until_us > p->run_us)
        until_us = p->run_us;
    bool spin = now_us - p->traffic_us < SPIN_US || now_us - p->hint_us < HINT_SPIN_US;
    if (p->ready_n == 0 && p->dead_n == 0 && until_us > now_us && !spin)
        nic_wait(p->nic, p->params.conns.wake_fd, until_us - now_us);
}

static void port_poll(struct conns *conns, int timeout_ms)
{
    struct port *p = port_of(conns);
    uint64_t now_us = clock_us();
    uint64_t until_us = timeout_ms < 0 ? NEVER : now_us + (uint64_t)timeout_ms * 1000;
    if (p->wrote) {
        lwip_run(p, now_us); // what was sent since the last turn does not wait for frames
        p->hint_us = 0;
    } else if (p->woken && p->tls) {
        tls_warm(p->tls);
    }
    p->woken = false;
    while (!turn(p)) {
        now_us = clock_us();
        if (now_us >= until_us)
            return;
        turn_wait(p, now_us, until_us);
    }
}

/* ----------------------------------------------------- what the caller asks */

static int port_send(struct conns *conns, uint32_t place, const void *bytes, size_t n)
{
    struct port *p = port_of(conns);
    struct conn *c = conn_at(p, place);
    return c->state == CONN_OPEN ? conn_write(p, c, bytes, n) : -EPIPE;
}

static size_t port_unsent(const struct conns *conns, uint32_t place)
{
    const struct port *p = port_of_const(conns);
    return conn_unsent(&p->all[p->by_place[place]]);
}

static uint64_t port_sent(const struct conns *conns, uint32_t place)
{
    const struct port *p = port_of_const(conns);
    const struct conn *c = &p->all[p->by_place[place]];
    return c->written - (c->tcp != NONE ? tcp_conn_unacked(p->tcp, c->tcp) : 0);
}

static void port_resume(struct conns *conns, uint32_t place)
{
    struct port *p = port_of(conns);
    struct conn *c = conn_at(p, place);
    if (c->state != CONN_OPEN)
        return;
    c->paused = false;
    conn_ready(p, c);
}

static void port_deadline(struct conns *conns, uint32_t place, uint64_t at_us)
{
    struct port *p = port_of(conns);
    struct conn *c = conn_at(p, place);
    if (c->state == CONN_OPEN)
        deadline_set(p, c, at_us);
}

static void port_evictable(struct conns *conns, uint32_t place, bool yes)
{
    conn_at(port_of(conns), place)->evictable = yes;
}

static void port_finish(struct conns *conns, uint32_t place)
{
    struct port *p = port_of(conns);
    struct conn *c = conn_at(p, place);
    if (c->state == CONN_OPEN)
        conn_finish(p, c);
}

static void port_abort(struct conns *conns, uint32_t place)
{
    struct port *p = port_of(conns);
    conn_abort(p, conn_at(p, place));
}

static uint32_t port_open_n(const struct conns *conns)
{
    const struct port *p = port_of_const(conns);
    return p->params.conns.connections_max - p->free_places_n;
}

static const struct conns_class port_class = {
    .poll = port_poll,
    .send = port_send,
    .unsent = port_unsent,
    .sent = port_sent,
    .resume = port_resume,
    .deadline = port_deadline,
    .evictable = port_evictable,
    .finish = port_finish,
    .abort = port_abort,
    .open_n = port_open_n,
};

/* ----------------------------------------------------------- begin and end */

static struct tcp_params tcp_params_of(const struct port_params *params)
{
    struct tcp_params tcp = {
        .connections_max = params->conns.connections_max + PORT_TURNED_MAX,
        .per_address_max = params->per_address_max,
        .half_open_max = HALF_OPEN_MAX,
        .syn_second = SYN_SECOND,
        .address = params->address,
        .gateway = params->gateway,
        .address6 = params->address6,
        .ops = {.accepted = on_accepted,
                .received = on_received,
                .ended = on_ended,
                .sendable = on_sendable,
                .lost = on_lost},
    };
    if (params->http_port != 0)
        tcp.ports[tcp.ports_n++] = params->http_port;
    if (params->https_port != 0)
        tcp.ports[tcp.ports_n++] = params->https_port;
    return tcp;
}

int port_params_check(const struct port_params *params, struct fault *fault)
{
    struct tcp_params tcp = tcp_params_of(params);
    struct nic_name name;
    int err = nic_parse(params->port, &name, fault);
    if (err != 0)
        return err;
    if (tcp.ports_n == 0)
        return fault_set(fault, EINVAL, "http_port and https_port are both 0: nothing is served");
    if (params->http_port == params->https_port)
        return fault_set(fault, EINVAL, "http_port and https_port are both %u; each needs its own",
                         params->http_port);
    err = tcp_params_check(&tcp, fault);
    if (err == 0 && params->https_port != 0)
        err = tls_files_check(&params->tls, fault);
    return err;
}

static bool places_make(struct port *p)
{
    uint32_t max = p->params.conns.connections_max;
    p->conns_n = max + PORT_TURNED_MAX;
    p->all = calloc(p->conns_n, sizeof(*p->all));
    p->by_tcp = calloc(p->conns_n, sizeof(*p->by_tcp));
    p->by_place = calloc(max, sizeof(*p->by_place));
    p->free = calloc(p->conns_n, sizeof(*p->free));
    p->free_places = calloc(max, sizeof(*p->free_places));
    p->ready = calloc(2 * (size_t)p->conns_n, sizeof(*p->ready));
    p->dead = calloc(p->conns_n, sizeof(*p->dead));
    if (!p->all || !p->by_tcp || !p->by_place || !p->free || !p->free_places || !p->ready ||
        !p->dead)
        return false;
    for (uint32_t i = 0; i < p->conns_n; i++) {
        p->all[i].tcp = p->all[i].place = p->by_tcp[i] = NONE;
        p->free[p->free_n++] = p->conns_n - 1 - i;
    }
    for (uint32_t i = 0; i < max; i++) {
        p->by_place[i] = NONE;
        p->free_places[p->free_places_n++] = max - 1 - i;
    }
    return true;
}

int port_create(const struct port_params *params, struct port **ret, struct fault *fault)
{
    int err = port_params_check(params, fault);
    if (err != 0)
        return err;
    struct port *p = calloc(1, sizeof(*p));
    if (!p)
        return fault_set(fault, ENOMEM, "port: out of memory");
    *p = (struct port){.conns.class = &port_class, .params = *params, .deadline_next_us = NEVER};
    struct tcp_params tcp = tcp_params_of(params);
    struct nic_params nic = {.mbufs = MBUFS, .huge_pages = params->huge_pages};
    p->tls_listen = tcp.ports_n - 1;
    if (!places_make(p)) {
        err = fault_set(fault, ENOMEM, "port: memory for %u connections", p->conns_n);
        goto fail;
    }
    if (params->https_port != 0)
        err = tls_create(&params->tls, &p->tls, fault);
    if (err == 0)
        err = nic_parse(params->port, &nic.name, fault);
    if (err == 0)
        err = nic_open(&nic, &p->nic, fault);
    if (err != 0)
        goto fail;
    tcp.nic = p->nic;
    tcp.user = p;
    err = tcp_create(&tcp, &p->tcp, fault);
    if (err != 0)
        goto fail;
    *ret = p;
    return 0;

fail:
    port_destroy(&p);
    return err;
}

void port_destroy(struct port **port)
{
    struct port *p = *port;
    if (!p)
        return;
    tcp_destroy(&p->tcp);
    nic_close(&p->nic);
    for (uint32_t i = 0; p->all && i < p->conns_n; i++) {
        tls_conn_destroy(&p->all[i].tls);
        bytes_fini(&p->all[i].in);
        bytes_fini(&p->all[i].out);
    }
    tls_destroy(&p->tls);
    free(p->all);
    free(p->by_tcp);
    free(p->by_place);
    free(p->free);
    free(p->free_places);
    free(p->ready);
    free(p->dead);
    free(p);
    *port = NULL;
}

struct conns *port_conns(struct port *p)
{
    return &p->conns;
}

int port_tls_reload(struct port *p, struct fault *fault)
{
    return p->tls ? tls_reload(p->tls, &p->params.tls, fault) : 0;
}

void port_stats(struct port *p, struct port_stats *ret)
{
    struct tcp_stats tcp;
    tcp_stats(p->tcp, &tcp);
    *ret = (struct port_stats){
        .nic = *nic_info(p->nic),
        .connections = p->params.conns.connections_max - p->free_places_n,
        .half_open = tcp.half_open,
        .time_wait = tcp.time_wait,
        .mbufs_free = nic_mbufs_free(p->nic),
        .frames_held = tcp.frames_held,
        .refused_places = tcp.refused_places + p->turned_away,
        .refused_address = tcp.refused_address,
        .tls_handshakes = p->tls_handshakes,
        .tls_resumed = p->tls_resumed,
        .tls_failed = p->tls_failed,
        .tls_plain = p->tls_plain,
    };
    nic_link(p->nic, &ret->link);
    nic_stats(p->nic, &ret->frames);
    static_assert(sizeof(ret->dropped) == sizeof(tcp.dropped), "one for each verdict");
    memcpy(ret->dropped, tcp.dropped, sizeof(ret->dropped));
    memcpy(ret->address4, tcp.address4, sizeof(ret->address4));
    memcpy(ret->address6, tcp.address6, sizeof(ret->address6));
}
