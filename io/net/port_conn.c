// SPDX-License-Identifier: MIT
#include "io/net/port_conn.h"

#include "base/clock.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define LINGER_US       2000000u
#define FLUSH_STUCK_US  2000000u  // then one that takes nothing makes room for another
#define FLUSH_US        30000000u // for the peer to read what is left, if no deadline was set
#define OUT_KEEP_BYTES  2048u     // so that a slow reader's tokens do not allocate for each
#define FULL_TIMEOUT_US 2000000u  // for one that is turned away

static const char plain_reply[] =
    "HTTP/1.1 400 Bad Request\r\n"
    "Content-Type: application/json\r\n"
    "Content-Length: 140\r\n"
    "Connection: close\r\n"
    "\r\n"
    "{\"error\":{\"message\":\"this port speaks HTTPS: use https:// in the URL\","
    "\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"https_required\"}}\n";

static uint32_t conn_index(const struct port *p, const struct conn *c)
{
    return (uint32_t)(c - p->all);
}

/* ----------------------------------------------------------------- lists */

void port_conn_ready(struct port *p, struct conn *c)
{
    if (c->ready)
        return;
    c->ready = true;
    p->ready[p->ready_n++] = conn_index(p, c);
}

void port_conn_deadline(struct port *p, struct conn *c, uint64_t at_us)
{
    c->deadline_us = at_us;
    if (at_us != 0 && at_us < p->deadline_next_us)
        p->deadline_next_us = at_us;
}

void port_conn_dead(struct port *p, struct conn *c)
{
    if (c->tcp != PORT_NONE)
        p->by_tcp[c->tcp] = PORT_NONE;
    c->tcp = PORT_NONE;
    c->state = CONN_DEAD;
    p->dead[p->dead_n++] = conn_index(p, c);
}

void port_conn_abort(struct port *p, struct conn *c)
{
    assert(c->state != CONN_FREE);
    if (c->state == CONN_DEAD)
        return;
    tcp_conn_abort(p->tcp, c->tcp);
    port_conn_dead(p, c);
}

void port_conn_close(struct port *p, struct conn *c)
{
    tcp_conn_close(p->tcp, c->tcp);
    port_conn_dead(p, c);
}

static void conn_free(struct port *p, struct conn *c)
{
    tls_conn_destroy(&c->tls);
    bytes_fini(&c->in);
    bytes_fini(&c->out);
    *c = (struct conn){.tcp = PORT_NONE, .place = PORT_NONE, .ready = c->ready};
    p->free[p->free_n++] = conn_index(p, c);
}

void port_sweep(struct port *p)
{
    while (p->dead_n > 0) {
        struct conn *c = &p->all[p->dead[--p->dead_n]];
        uint32_t place = c->place;
        bool told = c->told;
        conn_free(p, c);
        if (place == PORT_NONE)
            continue;
        p->by_place[place] = PORT_NONE;
        p->free_places[p->free_places_n++] = place;
        if (told)
            p->params.conns.ops.closed(p->params.conns.user, place);
    }
}

/* ---------------------------------------------------------------- output */

size_t port_conn_unsent(const struct conn *c)
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

int port_conn_write(struct port *p, struct conn *c, const void *bytes, size_t n)
{
    size_t unsent = port_conn_unsent(c), max = p->params.conns.unsent_max;
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
    c->backlog |= port_conn_unsent(c) > 0;
    return err;
}

void port_conn_finish(struct port *p, struct conn *c)
{
    c->state = CONN_FLUSH;
    c->evictable = false;
    if (c->deadline_us == 0)
        port_conn_deadline(p, c, clock_us() + FLUSH_US);
    if (c->tls)
        tls_conn_end(c->tls);
    port_conn_ready(p, c);
}

// conn_flushed moves a connection that is finished on as far as the peer lets it.
static void conn_flushed(struct port *p, struct conn *c)
{
    conn_pump(p, c);
    if (port_conn_unsent(c) > 0)
        return;
    if (!c->shut) {
        c->shut = true;
        tcp_conn_shutdown(p->tcp, c->tcp);
    }
    if (c->state == CONN_FLUSH && tcp_conn_unacked(p->tcp, c->tcp) == 0) {
        c->state = CONN_LINGER;
        port_conn_deadline(p, c, clock_us() + LINGER_US);
    }
    if (c->state == CONN_LINGER && c->fin)
        port_conn_close(p, c);
}

/* ----------------------------------------------------------------- input */

// conn_consume opens the peer's window for all but what waits here.
static void conn_consume(struct port *p, struct conn *c)
{
    size_t keep = c->tls ? tls_conn_unread(c->tls) : bytes_n(&c->in);
    if (c->state == CONN_FLUSH || c->state == CONN_LINGER)
        keep = 0;
    if (c->tcp == PORT_NONE || c->unconsumed <= keep)
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
    if (c->place == PORT_NONE) {
        if (port_conn_write(p, c, params->full_reply, strlen(params->full_reply)) == 0)
            port_conn_finish(p, c);
        else
            port_conn_abort(p, c);
        return;
    }
    port_conn_deadline(p, c, 0);
    c->told = true;
    params->ops.opened(params->user, c->place, &c->peer);
}

// conn_refuse_plain answers HTTP on the port for HTTPS.
static void conn_refuse_plain(struct port *p, struct conn *c)
{
    p->tls_plain++;
    tls_conn_destroy(&c->tls);
    port_conn_deadline(p, c, 0);
    if (port_conn_write(p, c, plain_reply, sizeof(plain_reply) - 1) == 0)
        port_conn_finish(p, c);
    else
        port_conn_abort(p, c);
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
            port_conn_abort(p, c);
            return false;
        }
        waiting += (size_t)got;
    }
    conn_pump(p, c); // the handshake's answers, alerts
    c->backlog |= port_conn_unsent(c) > 0;
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
            port_conn_finish(p, c); // behind the alert
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
        port_conn_abort(p, c);
    }
}

/* ------------------------------------------------------------------ looks */

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
        if (may && c->place != PORT_NONE && (!oldest || c->active_us < oldest->active_us))
            oldest = c;
    }
    if (!oldest)
        return false;
    port_conn_abort(p, oldest);
    return true;
}

// conn_place gives a new connection its place, or turns it away.
static void conn_place(struct port *p, struct conn *c)
{
    if (p->free_places_n == 0 && evict(p))
        port_sweep(p);
    if (p->free_places_n > 0) {
        c->place = p->free_places[--p->free_places_n];
        p->by_place[c->place] = conn_index(p, c);
    } else {
        p->turned_away++;
    }
    uint64_t timeout_us = c->place != PORT_NONE ? p->params.handshake_timeout_us : FULL_TIMEOUT_US;
    port_conn_deadline(p, c, clock_us() + timeout_us);
    if (c->peer.kind != CONNS_PORT_TLS) {
        conn_opened(p, c);
        return;
    }
    c->state = CONN_HANDSHAKE;
    port_conn_ready(p, c);
    if (tls_conn_create(p->tls, &c->tls) == 0 &&
        tls_conn_feed(c->tls, bytes_front(&c->in), bytes_n(&c->in)) == 0)
        bytes_fini(&c->in); // what came before we knew it
    else
        port_conn_abort(p, c);
}

void port_conn_look(struct port *p, struct conn *c)
{
    if (c->state == CONN_FREE || c->state == CONN_DEAD)
        return;
    if (c->broken) {
        port_conn_abort(p, c);
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
        if (port_conn_unsent(c) == 0) {
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
