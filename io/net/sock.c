// SPDX-License-Identifier: MIT
#include "io/net/sock.h"

#include "base/clock.h"
#include "base/wake.h"
#include "io/net/peer.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX        64     // epoll events a turn
#define ACCEPTS_MAX       16     // connections a turn, so that they do not starve the others
#define OUTPUT_KEEP_BYTES 65536u // an empty output buffer larger than this is given back
#define LINGER_US         2000000u
#define FLUSH_US          30000000u // for the peer to read what is left, if no deadline was set
#define ACCEPT_RETRY_US   100000u   // after EMFILE and the like
#define PEER_CHECK_US     200000u   // whether a TCP peer that stopped sending is still there
#define NEVER             UINT64_MAX

// epoll data: connections are their place, the others stand above.
#define DATA_WAKE     UINT32_MAX
#define DATA_LISTENER (UINT32_MAX - SOCK_LISTENERS_MAX) // + index

enum conn_state {
    CONN_FREE,
    CONN_OPEN,
    CONN_FLUSH,  // sock_finish was called: send what is there
    CONN_LINGER, // our side is shut; throw away what comes until the peer closes
    CONN_DEAD,   // to be swept
};

struct conn {
    int fd;
    enum conn_state state;
    uint32_t events; // what epoll was asked for
    bool local;
    bool paused;  // `received` did not take everything
    bool resumed; // in the list of those to call again
    bool eof;     // the peer sends no more
    bool eof_told;
    bool evictable;
    uint64_t active_us;   // last byte in or out
    uint64_t sent;        // bytes that the kernel took
    uint64_t deadline_us; // 0: none
    uint64_t peer_us;     // when to look whether a TCP peer is still there; 0: never
    char *in;             // [CONNS_INPUT_BYTES]
    size_t in_n;
    char *out; // [out_cap], bytes out_at..out_n are unsent
    size_t out_at, out_n, out_cap;
};

struct sock {
    struct conns conns;
    struct conns_params params;
    int epoll;
    struct conn *places;   // [connections_max]
    char *inputs;          // [connections_max][CONNS_INPUT_BYTES]
    uint32_t *free_places; // [connections_max], a stack
    uint32_t *resumed;     // [connections_max]
    uint32_t *dead;        // [connections_max]
    uint32_t free_n, resumed_n, dead_n;
    uint64_t deadline_next_us; // no deadline is nearer than this
    uint64_t accept_again_us;  // accepting failed: try again then; 0: accepting
    struct listener listeners[SOCK_LISTENERS_MAX];
    uint32_t listeners_n;
};

static int epoll_set(struct sock *s, int op, int fd, uint32_t events, uint32_t data)
{
    struct epoll_event event = {.events = events, .data.u32 = data};
    return epoll_ctl(s->epoll, op, fd, &event) == 0 ? 0 : -errno;
}

static void sock_abort(struct sock *s, uint32_t i)
{
    struct conn *c = &s->places[i];
    assert(c->state != CONN_FREE);
    if (c->state == CONN_DEAD)
        return;
    c->state = CONN_DEAD;
    s->dead[s->dead_n++] = i;
}

// conn_watch asks epoll for what the state of the connection can use.
static void conn_watch(struct sock *s, uint32_t i)
{
    struct conn *c = &s->places[i];
    uint32_t events = 0;
    if (!c->eof && (c->state == CONN_LINGER || c->in_n < CONNS_INPUT_BYTES))
        events |= EPOLLIN;
    if (c->out_n > c->out_at)
        events |= EPOLLOUT;
    if (events == c->events || c->state == CONN_DEAD)
        return;
    if (epoll_set(s, EPOLL_CTL_MOD, c->fd, events, i) == 0)
        c->events = events;
    else
        sock_abort(s, i);
}

static void deadline_set(struct sock *s, struct conn *c, uint64_t at_us)
{
    c->deadline_us = at_us;
    if (at_us != 0 && at_us < s->deadline_next_us)
        s->deadline_next_us = at_us;
}

static void op_deadline(struct conns *conns, uint32_t i, uint64_t at_us)
{
    struct sock *s = (struct sock *)conns;
    if (s->places[i].state == CONN_OPEN)
        deadline_set(s, &s->places[i], at_us);
}

static void op_evictable(struct conns *conns, uint32_t i, bool yes)
{
    struct sock *s = (struct sock *)conns;
    s->places[i].evictable = yes;
}

// peer_check closes a TCP connection whose client left; on a Unix socket epoll tells.
static void peer_check(struct sock *s, uint32_t i, uint64_t now_us)
{
    struct conn *c = &s->places[i];
    if (c->local || !c->eof || c->state == CONN_DEAD)
        return;
    if (peer_gone(c->fd)) {
        sock_abort(s, i);
        return;
    }
    c->peer_us = now_us + PEER_CHECK_US;
    if (c->peer_us < s->deadline_next_us)
        s->deadline_next_us = c->peer_us;
}

// conn_linger: everything was sent, so shut our side and wait for the peer's.
static void conn_linger(struct sock *s, uint32_t i)
{
    struct conn *c = &s->places[i];
    if (c->eof || shutdown(c->fd, SHUT_WR) != 0) {
        sock_abort(s, i);
        return;
    }
    c->state = CONN_LINGER;
    c->in_n = 0;
    deadline_set(s, c, clock_us() + LINGER_US);
    conn_watch(s, i);
}

static void out_forget(struct conn *c)
{
    c->out_at = c->out_n = 0;
    if (c->out_cap > OUTPUT_KEEP_BYTES) {
        free(c->out);
        c->out = NULL;
        c->out_cap = 0;
    }
}

// out_write gives the kernel what it takes.  Returns how much, or -errno when the peer is gone.
static ssize_t out_write(struct conn *c, const char *bytes, size_t n)
{
    size_t done = 0;
    while (done < n) {
        ssize_t sent = send(c->fd, bytes + done, n - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS))
            break;
        if (sent < 0)
            return -errno;
        done += (size_t)sent;
    }
    return (ssize_t)done;
}

// out_keep appends what could not be sent.
static int out_keep(struct sock *s, struct conn *c, const char *bytes, size_t n)
{
    size_t unsent = c->out_n - c->out_at;
    if (n > s->params.unsent_max || unsent > s->params.unsent_max - n)
        return -ENOBUFS;
    if (c->out_at > 0 && c->out_n + n > c->out_cap) {
        memmove(c->out, c->out + c->out_at, unsent);
        c->out_at = 0;
        c->out_n = unsent;
    }
    if (c->out_n + n > c->out_cap) {
        size_t cap = c->out_cap < 4096 ? 4096 : c->out_cap;
        while (cap < c->out_n + n)
            cap *= 2;
        char *out = realloc(c->out, cap);
        if (!out)
            return -ENOMEM;
        c->out = out;
        c->out_cap = cap;
    }
    memcpy(c->out + c->out_n, bytes, n);
    c->out_n += n;
    return 0;
}

static int op_send(struct conns *conns, uint32_t i, const void *bytes, size_t n)
{
    struct sock *s = (struct sock *)conns;
    struct conn *c = &s->places[i];
    if (c->state != CONN_OPEN)
        return -EPIPE;

    size_t done = 0;
    if (c->out_n == c->out_at) {
        ssize_t sent = out_write(c, bytes, n);
        if (sent < 0) {
            sock_abort(s, i);
            return -EPIPE;
        }
        done = (size_t)sent;
        c->sent += done;
        if (done > 0)
            c->active_us = clock_us();
    }
    if (done == n)
        return 0;
    int err = out_keep(s, c, (const char *)bytes + done, n - done);
    conn_watch(s, i);
    return err;
}

static size_t op_unsent(const struct conns *conns, uint32_t i)
{
    const struct sock *s = (const struct sock *)conns;
    return s->places[i].out_n - s->places[i].out_at;
}

static uint64_t op_sent(const struct conns *conns, uint32_t i)
{
    const struct sock *s = (const struct sock *)conns;
    return s->places[i].sent;
}

static void op_resume(struct conns *conns, uint32_t i)
{
    struct sock *s = (struct sock *)conns;
    struct conn *c = &s->places[i];
    if (c->state != CONN_OPEN || c->resumed)
        return;
    c->resumed = true;
    s->resumed[s->resumed_n++] = i;
}

static void op_finish(struct conns *conns, uint32_t i)
{
    struct sock *s = (struct sock *)conns;
    struct conn *c = &s->places[i];
    if (c->state != CONN_OPEN)
        return;
    c->state = CONN_FLUSH;
    c->evictable = false;
    if (c->deadline_us == 0)
        deadline_set(s, c, clock_us() + FLUSH_US);
    if (c->out_n == c->out_at)
        conn_linger(s, i);
}

static uint32_t op_open_n(const struct conns *conns)
{
    const struct sock *s = (const struct sock *)conns;
    return s->params.connections_max - s->free_n;
}

// conn_deliver hands what is there to the caller, then the news that no more comes.
static void conn_deliver(struct sock *s, uint32_t i)
{
    struct conn *c = &s->places[i];
    if (c->in_n > 0) {
        size_t n = c->in_n;
        size_t used = s->params.ops.received(s->params.user, i, c->in, n);
        assert(used <= n);
        if (c->state != CONN_OPEN)
            return; // it was closed in there: what is left is not wanted
        c->in_n = n - used;
        memmove(c->in, c->in + used, c->in_n);
        c->paused = c->in_n > 0;
    } else {
        c->paused = false;
    }
    if (c->eof && !c->paused && !c->eof_told && c->state == CONN_OPEN) {
        c->eof_told = true;
        s->params.ops.ended(s->params.user, i);
    }
    conn_watch(s, i);
}

// conn_read takes one helping from the kernel; false if nothing was there.
static void conn_read(struct sock *s, uint32_t i)
{
    struct conn *c = &s->places[i];
    if (c->state == CONN_LINGER)
        c->in_n = 0;
    size_t space = CONNS_INPUT_BYTES - c->in_n;
    if (space == 0 || c->eof)
        return;
    ssize_t got = recv(c->fd, c->in + c->in_n, space, MSG_DONTWAIT);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR)
            sock_abort(s, i);
        return;
    }
    c->in_n += (size_t)got;
    c->active_us = clock_us();
    if (got == 0) {
        c->eof = true;
        peer_check(s, i, c->active_us);
    }

    if (c->state == CONN_LINGER) {
        if (c->eof)
            sock_abort(s, i);
    } else if (c->state == CONN_OPEN && !c->paused) {
        conn_deliver(s, i);
        return;
    }
    conn_watch(s, i);
}

static void conn_flush(struct sock *s, uint32_t i)
{
    struct conn *c = &s->places[i];
    ssize_t sent = out_write(c, c->out + c->out_at, c->out_n - c->out_at);
    if (sent < 0) {
        sock_abort(s, i);
        return;
    }
    c->out_at += (size_t)sent;
    c->sent += (uint64_t)sent;
    if (sent > 0)
        c->active_us = clock_us();
    if (c->out_at < c->out_n)
        return;
    out_forget(c);
    if (c->state == CONN_FLUSH) {
        conn_linger(s, i);
    } else {
        s->params.ops.drained(s->params.user, i);
        conn_watch(s, i);
    }
}

static void conn_event(struct sock *s, uint32_t i, uint32_t events)
{
    struct conn *c = &s->places[i];
    if (c->state == CONN_FREE || c->state == CONN_DEAD)
        return;
    // Both directions are shut: nobody reads an answer any more.  What a peer sent before it left
    // is not worth an answer either.
    if (events & (EPOLLHUP | EPOLLERR)) {
        sock_abort(s, i);
        return;
    }
    if (events & EPOLLOUT && c->out_n > c->out_at)
        conn_flush(s, i);
    if (events & EPOLLIN && c->state != CONN_DEAD)
        conn_read(s, i);
}

// evict closes the connection that has been idle longest; false if all are busy.
static bool evict(struct sock *s)
{
    uint32_t oldest = UINT32_MAX;
    for (uint32_t i = 0; i < s->params.connections_max; i++) {
        const struct conn *c = &s->places[i];
        bool may = (c->state == CONN_OPEN && c->evictable) || c->state == CONN_LINGER;
        if (may && (oldest == UINT32_MAX || c->active_us < s->places[oldest].active_us))
            oldest = i;
    }
    if (oldest == UINT32_MAX)
        return false;
    sock_abort(s, oldest);
    return true;
}

static void sweep(struct sock *s)
{
    while (s->dead_n > 0) {
        uint32_t i = s->dead[--s->dead_n];
        struct conn *c = &s->places[i];
        close(c->fd); // epoll forgets it with the last fd
        free(c->out);
        for (uint32_t r = 0; r < s->resumed_n; r++)
            if (s->resumed[r] == i)
                s->resumed[r--] = s->resumed[--s->resumed_n];
        char *in = c->in;
        *c = (struct conn){.fd = -1, .in = in};
        s->free_places[s->free_n++] = i;
        s->params.ops.closed(s->params.user, i);
    }
}

static uint32_t peer_uid(int fd)
{
    struct ucred cred = {.uid = UINT32_MAX};
    socklen_t len = sizeof(cred);
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len); // fails for no Unix socket
    return cred.uid;
}

static void address_text(int fd, char ret[CONNS_ADDRESS_TEXT])
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } peer;
    socklen_t len = sizeof(peer);
    if (getpeername(fd, &peer.any, &len) != 0)
        return; // gone already
    const void *address = peer.any.sa_family == AF_INET6 ? (const void *)&peer.v6.sin6_addr
                                                         : (const void *)&peer.v4.sin_addr;
    inet_ntop(peer.any.sa_family, address, ret, CONNS_ADDRESS_TEXT);
}

static void conn_open(struct sock *s, int fd, bool local)
{
    if (s->free_n == 0 && evict(s))
        sweep(s);
    if (s->free_n == 0) {
        ssize_t sent = send(fd, s->params.full_reply, strlen(s->params.full_reply),
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)sent; // a courtesy
        shutdown(fd, SHUT_WR);
        close(fd);
        return;
    }
    uint32_t i = s->free_places[s->free_n - 1];
    if (epoll_set(s, EPOLL_CTL_ADD, fd, EPOLLIN, i) != 0) {
        close(fd);
        return;
    }
    s->free_n--;
    if (!local) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); // tokens are small
    }
    struct conn *c = &s->places[i];
    c->fd = fd;
    c->state = CONN_OPEN;
    c->events = EPOLLIN;
    c->local = local;
    c->active_us = clock_us();
    struct conns_peer peer = {.kind = local ? CONNS_UNIX : CONNS_LOOPBACK};
    if (local)
        peer.uid = peer_uid(fd);
    else
        address_text(fd, peer.address);
    s->params.ops.opened(s->params.user, i, &peer);
}

static void listeners_watch(struct sock *s, bool on)
{
    for (uint32_t l = 0; l < s->listeners_n; l++)
        epoll_set(s, EPOLL_CTL_MOD, s->listeners[l].fd, on ? EPOLLIN : 0, DATA_LISTENER + l);
}

static void accept_some(struct sock *s, const struct listener *l)
{
    for (int n = 0; n < ACCEPTS_MAX; n++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            conn_open(s, fd, l->local);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            // No fd to be had: do not spin on the listener, look again soon.
            listeners_watch(s, false);
            s->accept_again_us = clock_us() + ACCEPT_RETRY_US;
        }
        if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

static void deadlines_check(struct sock *s, uint64_t now_us)
{
    if (s->accept_again_us != 0 && now_us >= s->accept_again_us) {
        s->accept_again_us = 0;
        listeners_watch(s, true);
    }
    if (now_us < s->deadline_next_us)
        return;
    s->deadline_next_us = NEVER;
    for (uint32_t i = 0; i < s->params.connections_max; i++) {
        struct conn *c = &s->places[i];
        if (c->state == CONN_FREE || c->state == CONN_DEAD)
            continue;
        if (c->peer_us != 0 && c->peer_us <= now_us)
            peer_check(s, i, now_us);
        else if (c->peer_us != 0 && c->peer_us < s->deadline_next_us)
            s->deadline_next_us = c->peer_us;
        if (c->deadline_us == 0 || c->state == CONN_DEAD)
            continue;
        if (c->deadline_us > now_us) {
            deadline_set(s, c, c->deadline_us);
            continue;
        }
        c->deadline_us = 0;
        if (c->state == CONN_OPEN)
            s->params.ops.expired(s->params.user, i);
        else
            sock_abort(s, i); // FLUSH or LINGER took too long
    }
}

static void resumed_deliver(struct sock *s)
{
    uint32_t n = s->resumed_n; // those that are resumed meanwhile come next time
    while (n-- > 0) {
        uint32_t i = s->resumed[0];
        s->resumed_n--;
        memmove(s->resumed, s->resumed + 1, s->resumed_n * sizeof(*s->resumed));
        s->places[i].resumed = false;
        if (s->places[i].state == CONN_OPEN)
            conn_deliver(s, i);
    }
}

// timeout_until returns milliseconds, rounded up so that nobody wakes a little too early.
static int timeout_until(uint64_t now_us, uint64_t at_us, int timeout_ms)
{
    if (at_us == NEVER || at_us == 0)
        return timeout_ms;
    uint64_t ms = at_us <= now_us ? 0 : (at_us - now_us + 999) / 1000;
    if (timeout_ms >= 0 && ms > (uint64_t)timeout_ms)
        return timeout_ms;
    return ms > 3600000 ? 3600000 : (int)ms;
}

static void op_poll(struct conns *conns, int timeout_ms)
{
    struct sock *s = (struct sock *)conns;
    uint64_t now_us = clock_us();
    timeout_ms = timeout_until(now_us, s->deadline_next_us, timeout_ms);
    timeout_ms = timeout_until(now_us, s->accept_again_us, timeout_ms);
    if (s->resumed_n > 0 || s->dead_n > 0)
        timeout_ms = 0;

    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(s->epoll, events, EVENTS_MAX, timeout_ms);
    uint32_t ready_listeners = 0;
    for (int e = 0; e < n; e++) {
        uint32_t data = events[e].data.u32;
        if (data == DATA_WAKE) {
            wake_clear(s->params.wake_fd);
            s->params.ops.woken(s->params.user);
        } else if (data >= DATA_LISTENER) {
            ready_listeners |= 1u << (data - DATA_LISTENER);
        } else {
            conn_event(s, data, events[e].events);
        }
    }
    resumed_deliver(s);
    deadlines_check(s, clock_us());
    sweep(s);
    // Last, so that no event of this turn meets a place that changed hands.
    for (uint32_t l = 0; l < s->listeners_n; l++)
        if (ready_listeners & 1u << l)
            accept_some(s, &s->listeners[l]);
    sweep(s);
}

static void op_abort(struct conns *conns, uint32_t i)
{
    sock_abort((struct sock *)conns, i);
}

static const struct conns_class sock_class = {
    .poll = op_poll,
    .send = op_send,
    .unsent = op_unsent,
    .sent = op_sent,
    .resume = op_resume,
    .deadline = op_deadline,
    .evictable = op_evictable,
    .finish = op_finish,
    .abort = op_abort,
    .open_n = op_open_n,
};

static int watch_all(struct sock *s, struct fault *fault)
{
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll < 0)
        return fault_set(fault, errno, "epoll: %s", strerror(errno));
    int err = epoll_set(s, EPOLL_CTL_ADD, s->params.wake_fd, EPOLLIN, DATA_WAKE);
    for (uint32_t l = 0; l < s->listeners_n && err == 0; l++)
        err = epoll_set(s, EPOLL_CTL_ADD, s->listeners[l].fd, EPOLLIN, DATA_LISTENER + l);
    return err == 0 ? 0 : fault_set(fault, -err, "epoll: %s", strerror(-err));
}

int sock_create(const struct conns_params *params, const struct listener *listeners,
                uint32_t listeners_n, struct sock **ret, struct fault *fault)
{
    assert(listeners_n <= SOCK_LISTENERS_MAX);
    struct sock *s = calloc(1, sizeof(*s));
    if (!s)
        return fault_set(fault, ENOMEM, "connections: out of memory");
    s->conns.class = &sock_class;
    s->params = *params;
    s->epoll = -1;
    s->deadline_next_us = NEVER;
    s->listeners_n = listeners_n;
    memcpy(s->listeners, listeners, listeners_n * sizeof(*listeners));

    int err;
    uint32_t max = params->connections_max;
    s->places = calloc(max, sizeof(*s->places));
    s->inputs = calloc(max, CONNS_INPUT_BYTES);
    s->free_places = calloc(max, sizeof(*s->free_places));
    s->resumed = calloc(max, sizeof(*s->resumed));
    s->dead = calloc(max, sizeof(*s->dead));
    if (!s->places || !s->inputs || !s->free_places || !s->resumed || !s->dead) {
        err = fault_set(fault, ENOMEM, "%u connections: out of memory", max);
        goto fail;
    }
    for (uint32_t i = 0; i < max; i++) {
        s->places[i] = (struct conn){.fd = -1, .in = s->inputs + (size_t)i * CONNS_INPUT_BYTES};
        s->free_places[i] = max - 1 - i;
    }
    s->free_n = max;
    err = watch_all(s, fault);
    if (err != 0)
        goto fail;
    *ret = s;
    return 0;

fail:
    sock_destroy(&s);
    return err;
}

struct conns *sock_conns(struct sock *s)
{
    return &s->conns;
}

void sock_destroy(struct sock **sock)
{
    struct sock *s = *sock;
    if (!s)
        return;
    for (uint32_t i = 0; s->places && i < s->params.connections_max; i++) {
        if (s->places[i].state != CONN_FREE)
            close(s->places[i].fd);
        free(s->places[i].out);
    }
    if (s->epoll >= 0)
        close(s->epoll);
    free(s->places);
    free(s->inputs);
    free(s->free_places);
    free(s->resumed);
    free(s->dead);
    free(s);
    *sock = NULL;
}
