// SPDX-License-Identifier: MIT
#include "io/net/port.h"

#include "base/clock.h"
#include "io/net/port_conn.h"

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
#define SYN_SECOND     32768u
#define HANDSHAKES_MAX 2u   // steps of TLS handshakes a turn: a signature takes up to some ms
#define SPIN_US        50u  // after traffic: a sleep and its end cost as much
#define HINT_SPIN_US   500u // after wake_fd with nothing to send: a token is being sampled
#define NEVER          UINT64_MAX

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
    assert(place < p->params.conns.connections_max && p->by_place[place] != PORT_NONE);
    return &p->all[p->by_place[place]];
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
    p->by_tcp[tcp] = (uint32_t)(c - p->all);
    port_conn_ready(p, c);
    return true;
}

static struct conn *conn_of_tcp(struct port *p, uint32_t tcp)
{
    assert(tcp < p->conns_n && p->by_tcp[tcp] != PORT_NONE);
    return &p->all[p->by_tcp[tcp]];
}

static void on_received(void *user, uint32_t tcp, const void *bytes, size_t n)
{
    struct port *p = user;
    struct conn *c = conn_of_tcp(p, tcp);
    c->unconsumed += n;
    c->active_us = clock_us();
    port_conn_ready(p, c);
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
    port_conn_ready(p, c);
}

static void on_sendable(void *user, uint32_t tcp)
{
    struct port *p = user;
    port_conn_ready(p, conn_of_tcp(p, tcp));
}

static void on_lost(void *user, uint32_t tcp, enum tcp_end why)
{
    struct port *p = user;
    struct conn *c = conn_of_tcp(p, tcp);
    (void)why; // whatever it was, nobody is there any more
    p->tls_failed += c->state == CONN_HANDSHAKE;
    port_conn_dead(p, c);
}

/* ------------------------------------------------------------------ turn */

// ready_look looks at what is ready now; what becomes so meanwhile comes in the next turn.
static void ready_look(struct port *p)
{
    uint32_t n = p->ready_n, handshakes = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct conn *c = &p->all[p->ready[i]];
        c->ready = false;
        if (c->state == CONN_HANDSHAKE && handshakes++ >= HANDSHAKES_MAX)
            port_conn_ready(p, c);
        else
            port_conn_look(p, c);
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
            port_conn_deadline(p, c, c->deadline_us);
            continue;
        }
        c->deadline_us = 0;
        p->tls_failed += c->state == CONN_HANDSHAKE;
        if (c->state == CONN_OPEN && c->told)
            p->params.conns.ops.expired(p->params.conns.user, c->place);
        else if (c->state == CONN_LINGER)
            port_conn_close(p, c); // all it should have it has
        else
            port_conn_abort(p, c);
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
    port_sweep(p);
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
    return c->state == CONN_OPEN ? port_conn_write(p, c, bytes, n) : -EPIPE;
}

static size_t port_unsent(const struct conns *conns, uint32_t place)
{
    const struct port *p = port_of_const(conns);
    return port_conn_unsent(&p->all[p->by_place[place]]);
}

static uint64_t port_sent(const struct conns *conns, uint32_t place)
{
    const struct port *p = port_of_const(conns);
    const struct conn *c = &p->all[p->by_place[place]];
    return c->written - (c->tcp != PORT_NONE ? tcp_conn_unacked(p->tcp, c->tcp) : 0);
}

static void port_resume(struct conns *conns, uint32_t place)
{
    struct port *p = port_of(conns);
    struct conn *c = conn_at(p, place);
    if (c->state != CONN_OPEN)
        return;
    c->paused = false;
    port_conn_ready(p, c);
}

static void port_deadline(struct conns *conns, uint32_t place, uint64_t at_us)
{
    struct port *p = port_of(conns);
    struct conn *c = conn_at(p, place);
    if (c->state == CONN_OPEN)
        port_conn_deadline(p, c, at_us);
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
        port_conn_finish(p, c);
}

static void port_abort(struct conns *conns, uint32_t place)
{
    struct port *p = port_of(conns);
    port_conn_abort(p, conn_at(p, place));
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

int port_params_check_form(const struct port_params *params, struct fault *fault)
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
    return tcp_params_check(&tcp, fault);
}

int port_params_check(const struct port_params *params, struct fault *fault)
{
    int err = port_params_check_form(params, fault);
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
        p->all[i].tcp = p->all[i].place = p->by_tcp[i] = PORT_NONE;
        p->free[p->free_n++] = p->conns_n - 1 - i;
    }
    for (uint32_t i = 0; i < max; i++) {
        p->by_place[i] = PORT_NONE;
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
