// SPDX-License-Identifier: MIT
// The server that test_port.py talks to: connections on a port, one word a line, no HTTP but one
// canned answer.
//
// test_port serve PORT ADDRESS HTTP_PORT HTTPS_PORT CERTIFICATE KEY CONNECTIONS_MAX PER_ADDRESS
//   answers on stdout to commands on stdin: stats, reload, tick (to those that listen), quit.
// test_port check CERTIFICATE KEY: what port_params_check says, without a device.
// test_port latency HOST PORT tls|plain N: the other side of `listen`: reads N times when a tick
//   was asked for, and prints how long they took.
#include "base/clock.h"
#include "base/wake.h"
#include "io/net/port.h"
#include "tests/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNS_MAX  4096u
#define UNSENT_MAX (1u << 20)
#define LINE_BYTES 256u

struct place {
    bool open, listens, sinks, holds;
    uint64_t sunk;         // bytes
    uint64_t left;         // bytes of `flood` that were not sent yet
    uint32_t sum;          // of the sunk bytes
    char line[LINE_BYTES]; // that is not whole yet
    size_t line_n;
};

static struct conns *conns;
static struct port *port;
static struct place places[CONNS_MAX];
static uint64_t opened_n, closed_n, expired_n, drained_n;
static _Atomic(int) asked; // a command's first letter
static _Atomic(uint64_t) tick_ns;
static bool stopping;
static int wake, tick_hz;

static void say(uint32_t conn, const char *text, size_t n)
{
    int err = conns_send(conns, conn, text, n);
    if (err != 0 && err != -EPIPE)
        conns_abort(conns, conn);
}

// flood sends more of what was asked for while the connection takes it without keeping much.
static void flood(uint32_t conn)
{
    static char block[16384];
    struct place *p = &places[conn];
    while (p->left > 0 && conns_unsent(conns, conn) < sizeof(block)) {
        size_t n = p->left < sizeof(block) ? (size_t)p->left : sizeof(block);
        for (size_t i = 0; i < n; i++)
            block[i] = (char)('a' + (p->left - i) % 26);
        p->left -= n;
        say(conn, block, n);
    }
}

static void on_opened(void *user, uint32_t conn, const struct conns_peer *peer)
{
    CHECK(user == places && conn < CONNS_MAX && !places[conn].open);
    CHECK(peer->kind == CONNS_PORT || peer->kind == CONNS_PORT_TLS);
    places[conn] = (struct place){.open = true};
    opened_n++;
}

// line_do obeys a line; false: nothing more is read on this connection for now.
static bool line_do(uint32_t conn, const char *line)
{
    static const char http[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
    struct place *p = &places[conn];
    char text[LINE_BYTES + 1];
    if (strncmp(line, "echo ", 5) == 0) {
        int n = snprintf(text, sizeof(text), "%s\n", line + 5);
        say(conn, text, (size_t)n);
    } else if (strncmp(line, "flood ", 6) == 0) {
        p->left = strtoull(line + 6, NULL, 10);
        flood(conn);
    } else if (strcmp(line, "spill") == 0) { // more than may wait
        static const char block[UNSENT_MAX + 100000];
        CHECK(conns_send(conns, conn, block, sizeof(block)) == -ENOBUFS);
        CHECK(conns_unsent(conns, conn) <= UNSENT_MAX);
        conns_abort(conns, conn);
        CHECK(conns_send(conns, conn, "x", 1) == -EPIPE);
        return false;
    } else if (strncmp(line, "deadline ", 9) == 0) {
        conns_deadline(conns, conn, clock_us() + strtoull(line + 9, NULL, 10) * 1000);
    } else if (strcmp(line, "listen") == 0) {
        p->listens = true;
        say(conn, "listening\n", 10);
    } else if (strcmp(line, "evictable") == 0) {
        conns_evictable(conns, conn, true);
        say(conn, "ok\n", 3);
    } else if (strcmp(line, "sink") == 0) {
        p->sinks = true;
    } else if (strcmp(line, "next") == 0) { // as HTTP does: one at a time
        say(conn, "next\n", 5);
        conns_resume(conns, conn);
        return false;
    } else if (strcmp(line, "hold") == 0) {
        p->holds = true; // until the deadline
        conns_deadline(conns, conn, clock_us() + 1000000);
        return false;
    } else if (strcmp(line, "bye") == 0) {
        say(conn, "bye\n", 4);
        conns_finish(conns, conn);
        return false;
    } else if (strcmp(line, "abort") == 0) {
        conns_abort(conns, conn);
        return false;
    } else if (line[0] == '\r' || line[0] == '\0') { // the end of a head
        say(conn, http, sizeof(http) - 1);
    }
    return true;
}

static size_t on_received(void *user, uint32_t conn, const char *bytes, size_t n)
{
    struct place *p = &places[conn];
    size_t at = 0;
    CHECK(user == places && p->open && n > 0 && n <= CONNS_INPUT_BYTES);
    while (at < n && !p->holds) {
        if (p->sinks) {
            for (; at < n; at++, p->sunk++)
                p->sum = p->sum * 31 + (unsigned char)bytes[at];
            break;
        }
        char byte = bytes[at++];
        if (byte != '\n' && p->line_n + 1 < LINE_BYTES) {
            p->line[p->line_n++] = byte;
            continue;
        }
        p->line[p->line_n] = '\0';
        p->line_n = 0;
        if (byte != '\n')
            conns_abort(conns, conn);
        if (byte != '\n' || !line_do(conn, p->line))
            break;
    }
    return at;
}

static void on_ended(void *user, uint32_t conn)
{
    struct place *p = &places[conn];
    char text[64];
    CHECK(user == places && p->open);
    if (p->sinks) {
        int n = snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu32 "\n", p->sunk, p->sum);
        say(conn, text, (size_t)n);
    }
    if (p->left == 0)
        conns_finish(conns, conn);
}

static void on_drained(void *user, uint32_t conn)
{
    CHECK(user == places && places[conn].open);
    drained_n++;
    flood(conn);
}

static void on_expired(void *user, uint32_t conn)
{
    CHECK(user == places && places[conn].open);
    expired_n++;
    if (places[conn].holds) {
        places[conn].holds = false;
        conns_resume(conns, conn);
        return;
    }
    say(conn, "expired\n", 8);
    conns_finish(conns, conn);
}

static void on_closed(void *user, uint32_t conn)
{
    CHECK(user == places && places[conn].open);
    places[conn].open = false;
    closed_n++;
}

static uint64_t cpu_us(void)
{
    struct rusage use;
    CHECK(getrusage(RUSAGE_THREAD, &use) == 0);
    return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

static void stats_print(void)
{
    struct port_stats s;
    port_stats(port, &s);
    struct mallinfo2 heap = mallinfo2();
    uint64_t dropped = 0;
    for (int v = FILTER_PASS + 1; v < FILTER_VERDICT_COUNT; v++)
        dropped += s.dropped[v];
    printf("{\"opened\":%" PRIu64 ",\"closed\":%" PRIu64 ",\"expired\":%" PRIu64
           ",\"drained\":%" PRIu64 ",\"open_n\":%u,\"connections\":%u,\"half_open\":%u"
           ",\"time_wait\":%u,\"mbufs_free\":%u,\"frames_held\":%u,\"refused_places\":%" PRIu64
           ",\"refused_address\":%" PRIu64 ",\"tls_handshakes\":%" PRIu64
           ",\"tls_resumed\":%" PRIu64 ",\"tls_failed\":%" PRIu64 ",\"tls_plain\":%" PRIu64
           ",\"heap\":%zu,\"cpu_us\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"rx_frames\":%" PRIu64
           ",\"tx_frames\":%" PRIu64 ",\"link\":%d,\"address4\":\"%s\",\"interrupts\":%d}\n",
           opened_n, closed_n, expired_n, drained_n, conns_open_n(conns), s.connections,
           s.half_open, s.time_wait, s.mbufs_free, s.frames_held, s.refused_places,
           s.refused_address, s.tls_handshakes, s.tls_resumed, s.tls_failed, s.tls_plain,
           heap.uordblks + heap.hblkhd, cpu_us(), dropped, s.frames.rx_frames, s.frames.tx_frames,
           s.link.up, s.address4, s.nic.rx_interrupts);
}

static void tick(uint64_t asked_ns)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%020" PRIu64 "\n", asked_ns);
    for (uint32_t i = 0; i < CONNS_MAX; i++)
        if (places[i].open && places[i].listens)
            say(i, text, (size_t)n);
}

static void on_woken(void *user)
{
    CHECK(user == places);
}

// commands is the thread that plays the others of a daemon: it only leaves words and wakes.
static void *commands(void *arg)
{
    char line[64];
    (void)arg;
    for (;;) {
        struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
        if (tick_hz > 0 && poll(&in, 1, 1000 / tick_hz) == 0) {
            atomic_store(&tick_ns, clock_ns());
            wake_signal(wake);
            continue;
        }
        if (!fgets(line, sizeof(line), stdin))
            snprintf(line, sizeof(line), "quit");
        if (line[0] == 't') {
            tick_hz = (int)strtol(line + 4, NULL, 10);
            continue;
        }
        while (atomic_load(&asked) != 0)
            usleep(100);
        atomic_store(&asked, line[0]);
        wake_signal(wake);
        if (line[0] == 'q')
            return NULL;
    }
}

static void obey(int word)
{
    struct fault fault = {0};
    if (word == 's') {
        stats_print();
    } else if (word == 'm') {
        malloc_trim(0);
        puts("{\"memory\":0}");
    } else if (word == 'r') {
        int err = port_tls_reload(port, &fault);
        printf("{\"reload\":%d,\"text\":\"%s\"}\n", err, fault.text);
    } else if (word == 'q') {
        stopping = true;
    }
    fflush(stdout);
}

static int serve(char **args)
{
    struct fault fault = {0};
    wake = wake_open();
    CHECK(wake >= 0);
    struct port_params params = {
        .conns = {.connections_max = (uint32_t)strtoul(args[6], NULL, 10),
                  .unsent_max = UNSENT_MAX,
                  .wake_fd = wake,
                  .full_reply = "full\n",
                  .ops = {.opened = on_opened,
                          .received = on_received,
                          .ended = on_ended,
                          .drained = on_drained,
                          .expired = on_expired,
                          .closed = on_closed,
                          .woken = on_woken},
                  .user = places},
        .port = args[0],
        .address = args[1],
        .gateway = "",
        .address6 = "",
        .http_port = (uint16_t)strtoul(args[2], NULL, 10),
        .https_port = (uint16_t)strtoul(args[3], NULL, 10),
        .tls = {.certificate = args[4], .key = args[5], .client_ca = ""},
        .per_address_max = (uint32_t)strtoul(args[7], NULL, 10),
        .handshake_timeout_us = 3000000,
    };
    CHECK(params.conns.connections_max <= CONNS_MAX);
    if (port_create(&params, &port, &fault) != 0) {
        printf("{\"error\":\"%s\",\"errno\":%d}\n", fault.text, fault.err);
        return 1;
    }
    conns = port_conns(port);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, commands, NULL) == 0);
    puts("{\"ready\":true}");
    fflush(stdout);
    while (!stopping) {
        uint64_t asked_ns = atomic_exchange(&tick_ns, 0);
        if (asked_ns != 0)
            tick(asked_ns);
        int word = atomic_load(&asked);
        if (word != 0) {
            obey(word);
            atomic_store(&asked, 0);
        }
        conns_poll(conns, asked_ns != 0 || word != 0 ? 0 : -1);
    }
    pthread_join(thread, NULL);
    port_destroy(&port);
    close(wake);
    puts("{\"gone\":true}");
    return 0;
}

// refused: these parameters are, with a sentence that has the word.
static void refused(const struct port_params *params, const char *word)
{
    struct fault fault = {0};
    CHECK(port_params_check(params, &fault) == -fault.err && fault.err > 0);
    if (!strstr(fault.text, word))
        CHECK_FAIL(fault.text);
}

static int check(char **args)
{
    struct port_params good = {.conns = {.connections_max = 8},
                               .port = "tap:nosuch0",
                               .address = "10.9.0.1/24",
                               .gateway = "",
                               .address6 = "auto",
                               .http_port = 80,
                               .https_port = 443,
                               .tls = {args[0], args[1], ""},
                               .per_address_max = 8},
                       bad = good;
    CHECK(port_params_check(&good, NULL) == 0);
    bad.port = "eth0";
    refused(&bad, "eth0");
    bad = good;
    bad.https_port = 80;
    refused(&bad, "both 80");
    bad.http_port = bad.https_port = 0;
    refused(&bad, "nothing is served");
    bad = good;
    bad.address = "10.9.0";
    refused(&bad, "address");
    static const char *const gateways[] = {"10.9.1.1", "10.9.0.1", "10.9.0.0", "10.9.0.255", "::1"};
    for (size_t i = 0; i < sizeof(gateways) / sizeof(gateways[0]); i++) {
        bad = good;
        bad.gateway = gateways[i];
        refused(&bad, gateways[i]);
    }
    static const char *const fine[][2] = {
        {"10.9.0.1/24", "10.9.0.254"}, {"10.9.0.1/32", "10.8.0.0"}, {"10.9.0.1/31", "10.9.0.0"}};
    for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
        bad = good;
        bad.address = fine[i][0];
        bad.gateway = fine[i][1];
        CHECK(port_params_check(&bad, NULL) == 0);
    }
    bad = good;
    bad.tls.key = "/nonexistent/key";
    refused(&bad, "/nonexistent/key");
    bad.https_port = 0; // then nobody reads it
    CHECK(port_params_check(&bad, NULL) == 0);
    return 0;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x, y;
    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

static int latency(char **args)
{
    size_t n = strtoul(args[3], NULL, 10), at = 0;
    uint64_t *took = calloc(n, sizeof(*took));
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(args[1], NULL, 10))};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    CHECK(took && fd >= 0 && inet_pton(AF_INET, args[0], &to.sin_addr) == 1);
    CHECK(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    CHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = strcmp(args[2], "tls") == 0 ? SSL_new(ctx) : NULL;
    char text[256];
    if (ssl)
        CHECK(SSL_set_fd(ssl, fd) == 1 && SSL_connect(ssl) == 1);
    ssize_t got = ssl ? SSL_write(ssl, "listen\n", 7) : write(fd, "listen\n", 7);
    CHECK(got == 7);
    while (at < n) {
        got = ssl ? SSL_read(ssl, text, sizeof(text) - 1) : read(fd, text, sizeof(text) - 1);
        uint64_t now_ns = clock_ns();
        CHECK(got > 0);
        text[got] = '\0';
        if (text[0] == '0')
            took[at++] = now_ns - strtoull(text, NULL, 10);
    }
    qsort(took, n, sizeof(*took), by_value);
    printf("{\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f}\n", (double)took[n / 2] / 1000,
           (double)took[n * 99 / 100] / 1000, (double)took[n - 1] / 1000);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    free(took);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 10 && strcmp(argv[1], "serve") == 0)
        return serve(argv + 2);
    if (argc == 4 && strcmp(argv[1], "check") == 0)
        return check(argv + 2);
    if (argc == 6 && strcmp(argv[1], "latency") == 0)
        return latency(argv + 2);
    fprintf(stderr, "usage: see the head of test_port.c\n");
    return 2;
}
