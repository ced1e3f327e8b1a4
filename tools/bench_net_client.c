// SPDX-License-Identifier: MIT
// bench-net-client: the peer of tools/bench net.
//
//   stream ADDRESS PORT plain|tls STREAMS SECONDS
//       opens that many streams of bench-net-server and compares each token's time of sampling
//       (CLOCK_MONOTONIC of the same machine) with the time when its last byte reached the socket
//       (SO_TIMESTAMPNS), and with that when recv returned it (woken_...), for SECONDS from one
//       second after the last stream began: then handshakes are over.
//   ping ADDRESS PORT plain ROUNDS PAUSE_MS
//       GET /health on one connection after each pause; the time from send to the whole answer.
//
// Prints one JSON object (stream: "begun" before it); times are microseconds.
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TOKENS_MAX  (1u << 22) // whose lateness is kept
#define LINE_BYTES  512u
#define EVENTS_MAX  64
#define SETTLE_US   UINT64_C(1000000)
#define GIVE_UP_US  UINT64_C(60000000)
#define TIME_FIELD  "data: {\"ns\":"
#define NS_A_US     1000.0
#define NS_A_SECOND UINT64_C(1000000000)

struct stream {
    int fd;
    SSL *tls; // NULL: plain
    BIO *in, *out;
    char line[LINE_BYTES];
    size_t line_n;
    uint64_t tokens;
    float worst_us;
    bool asked, begun, ended;
};

struct arrival { // of the last bytes that recv gave, CLOCK_MONOTONIC
    uint64_t socket_ns, woken_ns;
};

struct client {
    struct sockaddr_in server;
    SSL_CTX *tls;
    struct stream *streams; // [streams_n]
    uint32_t streams_n, begun_n;
    int epoll;
    uint64_t count_ns;    // tokens that were sampled before are not counted; 0: none is
    uint64_t realtime_ns; // what CLOCK_REALTIME is ahead of CLOCK_MONOTONIC
    float *us, *woken_us; // [TOKENS_MAX]
    uint32_t us_n;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench-net-client: %s\n", what);
    exit(1);
}

static int float_order(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

// share_of returns the value below which that part of the sorted ones is.
static double share_of(const float *sorted, uint32_t n, double part)
{
    uint32_t at = (uint32_t)(part * n);
    return (double)sorted[at < n ? at : n - 1];
}

static double cpu_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

// realtime_ahead_ns: the least of some differences is the one that nothing interrupted.
static uint64_t realtime_ahead_ns(void)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < 100; i++) {
        struct timespec now;
        uint64_t before_ns = clock_ns();
        clock_gettime(CLOCK_REALTIME, &now);
        uint64_t ahead = (uint64_t)now.tv_sec * NS_A_SECOND + (uint64_t)now.tv_nsec - before_ns;
        least = ahead < least ? ahead : least;
    }
    return least;
}

static int server_connect(const struct client *c)
{
    int yes = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&c->server, sizeof(c->server)) != 0)
        die(strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof(yes));
    return fd;
}

/* ------------------------------------------------------------------- stream */

static void line_take(struct client *c, struct stream *s, const struct arrival *at)
{
    static const size_t n = sizeof(TIME_FIELD) - 1;
    s->line[s->line_n] = '\0';
    if (s->line_n < n || memcmp(s->line, TIME_FIELD, n) != 0)
        return; // of the head, or the empty one between events
    uint64_t then_ns = strtoull(s->line + n, NULL, 10);
    c->begun_n += !s->begun;
    s->begun = true;
    if (c->count_ns == 0 || then_ns < c->count_ns)
        return;
    float us = (float)((double)(int64_t)(at->socket_ns - then_ns) / NS_A_US);
    s->tokens++;
    if (c->us_n < TOKENS_MAX) {
        c->woken_us[c->us_n] = (float)((double)(at->woken_ns - then_ns) / NS_A_US);
        c->us[c->us_n++] = us;
    }
    if (us > s->worst_us)
        s->worst_us = us;
}

static void text_take(struct client *c, struct stream *s, const char *text, size_t n,
                      const struct arrival *at)
{
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\n') {
            line_take(c, s, at);
            s->line_n = 0;
        } else if (s->line_n < LINE_BYTES - 1) {
            s->line[s->line_n++] = text[i];
        }
    }
}

static void all_send(int fd, const void *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            die(strerror(errno));
        bytes = (const char *)bytes + (sent > 0 ? sent : 0);
        n -= (size_t)(sent > 0 ? sent : 0);
    }
}

static void tls_flush(struct stream *s)
{
    char buf[4096];
    for (int n; (n = BIO_read(s->out, buf, sizeof(buf))) > 0;)
        all_send(s->fd, buf, (size_t)n);
}

static void request_send(struct stream *s)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
    s->asked = true;
    if (!s->tls) {
        all_send(s->fd, request, sizeof(request) - 1);
        return;
    }
    if (SSL_write(s->tls, request, sizeof(request) - 1) <= 0)
        die("TLS: the request could not be written");
    tls_flush(s);
}

// tls_take: the time is that of recv, before anything is decrypted.
static void tls_take(struct client *c, struct stream *s, const void *bytes, size_t n,
                     const struct arrival *at)
{
    char text[4096];
    if (BIO_write(s->in, bytes, (int)n) != (int)n)
        die("no memory");
    for (;;) {
        int got = SSL_read(s->tls, text, sizeof(text));
        if (got > 0) {
            text_take(c, s, text, (size_t)got, at);
            continue;
        }
        int why = SSL_get_error(s->tls, got);
        if (why == SSL_ERROR_ZERO_RETURN)
            s->ended = true;
        else if (why != SSL_ERROR_WANT_READ)
            die("TLS: the handshake or a record failed");
        break;
    }
    tls_flush(s);
    if (!s->asked && SSL_is_init_finished(s->tls))
        request_send(s);
}

// stamped_recv is recv, with the time when the last of its bytes came.
static ssize_t stamped_recv(const struct client *c, int fd, void *bytes, size_t bytes_n,
                            struct arrival *ret)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec piece = {bytes, bytes_n};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(fd, &message, MSG_DONTWAIT);
    ret->woken_ns = ret->socket_ns = clock_ns();
    const struct cmsghdr *stamp = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (stamp && stamp->cmsg_level == SOL_SOCKET && stamp->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec time;
        memcpy(&time, CMSG_DATA(stamp), sizeof(time));
        ret->socket_ns =
            (uint64_t)time.tv_sec * NS_A_SECOND + (uint64_t)time.tv_nsec - c->realtime_ns;
    } else if (n > 0 && c->count_ns != 0) { // the kernel takes a moment to begin with stamps
        die("a segment has no time stamp");
    }
    return n;
}

static void stream_read(struct client *c, struct stream *s)
{
    char bytes[16384];
    for (;;) {
        struct arrival at;
        ssize_t n = stamped_recv(c, s->fd, bytes, sizeof(bytes), &at);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            epoll_ctl(c->epoll, EPOLL_CTL_DEL, s->fd, NULL);
            s->ended = true;
            return;
        }
        if (s->tls)
            tls_take(c, s, bytes, (size_t)n, &at);
        else
            text_take(c, s, bytes, (size_t)n, &at);
        if ((size_t)n < sizeof(bytes))
            return;
    }
}

static void stream_open(struct client *c, struct stream *s)
{
    s->fd = server_connect(c);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    if (epoll_ctl(c->epoll, EPOLL_CTL_ADD, s->fd, &event) != 0)
        die(strerror(errno));
    if (!c->tls) {
        request_send(s);
        return;
    }
    s->tls = SSL_new(c->tls);
    s->in = BIO_new(BIO_s_mem());
    s->out = BIO_new(BIO_s_mem());
    if (!s->tls || !s->in || !s->out)
        die("no memory");
    SSL_set_bio(s->tls, s->in, s->out);
    SSL_set_connect_state(s->tls);
    (void)SSL_do_handshake(s->tls);
    tls_flush(s);
}

static void streams_poll(struct client *c, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(c->epoll, events, EVENTS_MAX, timeout_ms);
    for (int i = 0; i < n; i++)
        stream_read(c, events[i].data.ptr);
}

// streams_begin waits until each stream has had a token.
static void streams_begin(struct client *c)
{
    uint64_t until_us = clock_us() + GIVE_UP_US;
    for (uint32_t i = 0; i < c->streams_n; i++) {
        stream_open(c, &c->streams[i]);
        streams_poll(c, 0);
    }
    while (c->begun_n < c->streams_n && clock_us() < until_us)
        streams_poll(c, 100);
    if (c->begun_n < c->streams_n)
        die("not every stream began within a minute");
}

static void streams_show(struct client *c, double wall_s, double used_s)
{
    uint32_t ended = 0;
    uint64_t least = UINT64_MAX, most = 0;
    float *worst = calloc(c->streams_n, sizeof(*worst));
    if (!worst || c->us_n == 0)
        die("no token came");
    for (uint32_t i = 0; i < c->streams_n; i++) {
        const struct stream *s = &c->streams[i];
        worst[i] = s->worst_us;
        ended += s->ended;
        least = s->tokens < least ? s->tokens : least;
        most = s->tokens > most ? s->tokens : most;
    }
    qsort(worst, c->streams_n, sizeof(*worst), float_order);
    qsort(c->us, c->us_n, sizeof(*c->us), float_order);
    qsort(c->woken_us, c->us_n, sizeof(*c->woken_us), float_order);
    printf("{\"streams\": %u, \"ended\": %u, \"tokens\": %u, \"tokens_least\": %" PRIu64
           ", \"tokens_most\": %" PRIu64 ", \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, "
           "\"woken_p50\": %.1f, \"woken_p99\": %.1f, "
           "\"worst\": %.1f, \"worst_median\": %.1f, \"wall_s\": %.3f, \"cpu_percent\": %.1f}\n",
           c->streams_n, ended, c->us_n, least, most, share_of(c->us, c->us_n, 0.5),
           share_of(c->us, c->us_n, 0.9), share_of(c->us, c->us_n, 0.99),
           share_of(c->woken_us, c->us_n, 0.5), share_of(c->woken_us, c->us_n, 0.99),
           (double)worst[c->streams_n - 1], share_of(worst, c->streams_n, 0.5), wall_s,
           100 * used_s / wall_s);
    free(worst);
}

static void streams_run(struct client *c, uint32_t n, double seconds)
{
    c->epoll = epoll_create1(0);
    c->streams_n = n;
    c->streams = calloc(n, sizeof(*c->streams));
    c->us = calloc(TOKENS_MAX, sizeof(*c->us));
    c->woken_us = calloc(TOKENS_MAX, sizeof(*c->woken_us));
    c->realtime_ns = realtime_ahead_ns();
    if (c->epoll < 0 || !c->streams || !c->us || !c->woken_us)
        die("no memory");
    streams_begin(c);
    printf("begun\n");
    fflush(stdout);
    uint64_t begin_us = clock_us() + SETTLE_US;
    c->count_ns = 1000 * begin_us;
    while (clock_us() < begin_us)
        streams_poll(c, 100);
    double used_s = cpu_s();
    begin_us = clock_us();
    while ((double)(clock_us() - begin_us) < 1e6 * seconds)
        streams_poll(c, 100);
    streams_show(c, 1e-6 * (double)(clock_us() - begin_us), cpu_s() - used_s);
}

/* --------------------------------------------------------------------- ping */

static bool answer_whole(const char *bytes, size_t n)
{
    const char *end = memmem(bytes, n, "\r\n\r\n", 4);
    const char *length = memmem(bytes, n, "ontent-Length: ", 15);
    if (!end || !length)
        return false;
    return n >= (size_t)(end + 4 - bytes) + strtoul(length + 15, NULL, 10);
}

static float ping(int fd)
{
    static const char request[] = "GET /health HTTP/1.1\r\nHost: bench\r\n\r\n";
    char bytes[4096];
    size_t have = 0;
    uint64_t begin_ns = clock_ns();
    all_send(fd, request, sizeof(request) - 1);
    do {
        ssize_t n = recv(fd, bytes + have, sizeof(bytes) - 1 - have, 0);
        if (n <= 0)
            die("the server closed the connection");
        have += (size_t)n;
        bytes[have] = '\0';
    } while (!answer_whole(bytes, have));
    return (float)((double)(clock_ns() - begin_ns) / NS_A_US);
}

static void pings_run(const struct client *c, uint32_t rounds, double pause_ms)
{
    float *us = calloc(rounds, sizeof(*us));
    if (!us)
        die("no memory");
    int fd = server_connect(c);
    ping(fd);
    for (uint32_t i = 0; i < rounds; i++) {
        struct timespec pause = {.tv_sec = (time_t)(pause_ms / 1000),
                                 .tv_nsec = (long)((uint64_t)(pause_ms * 1e6) % 1000000000)};
        nanosleep(&pause, NULL);
        us[i] = ping(fd);
    }
    close(fd);
    qsort(us, rounds, sizeof(*us), float_order);
    printf("{\"rounds\": %u, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"worst\": %.1f}\n",
           rounds, share_of(us, rounds, 0.5), share_of(us, rounds, 0.9), share_of(us, rounds, 0.99),
           (double)us[rounds - 1]);
    free(us);
}

int main(int argc, char **argv)
{
    struct client c = {.server = {.sin_family = AF_INET}};
    if (argc != 7 || inet_pton(AF_INET, argv[2], &c.server.sin_addr) != 1) {
        fprintf(stderr, "usage: bench-net-client stream|ping ADDRESS PORT plain|tls N TIME\n");
        return 2;
    }
    c.server.sin_port = htons((uint16_t)strtoul(argv[3], NULL, 10));
    uint32_t n = (uint32_t)strtoul(argv[5], NULL, 10);
    double time = strtod(argv[6], NULL);
    if (n == 0 || !(time > 0))
        die("N and TIME are above 0");
    if (strcmp(argv[4], "tls") == 0) {
        c.tls = SSL_CTX_new(TLS_client_method()); // the certificate is the bench's own: not checked
        if (!c.tls)
            die("no TLS");
    }
    if (strcmp(argv[1], "ping") == 0)
        pings_run(&c, n, time);
    else
        streams_run(&c, n, time);
    return 0;
}
