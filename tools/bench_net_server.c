// SPDX-License-Identifier: MIT
// bench-net-server: what the daemon does between the sampler and the wire, without a model, for
// tools/bench net.  A thread plays step: it wakes the net thread, "samples" for a while, puts the
// time of sampling into a ring for each stream and wakes the net thread again, as
// daemon/step_thread.c does; the net thread is the port's (io/net/port.h) and sends each as an SSE
// event of the size that a chat has.  Any request begins a stream, which never ends.
//
// Prints "ready" when the port is open, runs until SIGTERM, then prints one JSON object.
#include "base/clock.h"
#include "base/ring.h"
#include "base/wake.h"
#include "io/net/port.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define CONNECTIONS_MAX 16384u
#define RING_ENTRIES    (1u << 16) // some steps of all connections
#define UNSENT_MAX      (8u << 20)
#define POLL_MS         100 // SIGTERM is seen after as long
#define HANDSHAKE_US    30000000u
#define NS_A_SECOND     UINT64_C(1000000000)

struct change { // net -> step
    uint32_t conn;
    bool streams;
};

struct token { // step -> net
    uint64_t sampled_ns;
    uint32_t conn;
};

struct options {
    const char *port, *address, *certificate, *key;
    uint16_t http, https;
    uint32_t connections;
    uint64_t sampling_us;
    double rate;           // steps a second
    bool jitter;           // half to one and a half of the time between them, else even
    int net_cpu, step_cpu; // -1: any
};

struct server {
    struct options options;
    struct ring *changes, *tokens;
    int wake;
    struct conns *conns;
    uint8_t *heads;        // [connections] how much of CRLF CRLF was seen; STREAMS: it streams
    uint64_t sent, failed; // events
    atomic_bool stopping;
};
enum { HEAD_BYTES = 4, STREAMS };

static volatile sig_atomic_t asked_to_stop;

static void on_signal(int number)
{
    (void)number;
    asked_to_stop = 1;
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench-net-server: %s\n", what);
    exit(1);
}

static void cpu_pin(int cpu)
{
    cpu_set_t set;
    if (cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0)
        die("no such CPU");
}

/* --------------------------------------------------------------------- step */

struct step {
    struct server *server;
    bool *streams; // [connections]
    uint64_t random;
};

static void changes_take(struct step *st)
{
    struct change change;
    while (ring_pop(st->server->changes, &change))
        st->streams[change.conn] = change.streams;
}

static void tokens_push(struct step *st)
{
    struct server *s = st->server;
    bool any = false;
    if (s->options.sampling_us > 0) {
        uint64_t until_ns = clock_ns() + 1000 * s->options.sampling_us;
        wake_signal(s->wake);
        while (clock_ns() < until_ns)
            ;
    }
    struct token token = {.sampled_ns = clock_ns()}; // one step samples for all
    for (uint32_t i = 0; i < s->options.connections; i++) {
        token.conn = i;
        if (st->streams[i]) {
            (void)ring_push(s->tokens, &token); // a full ring is seen as a token that is missing
            any = true;
        }
    }
    if (any)
        wake_signal(s->wake);
}

static uint64_t interval_next(struct step *st)
{
    uint64_t ns = (uint64_t)((double)NS_A_SECOND / st->server->options.rate);
    st->random = st->random * UINT64_C(6364136223846793005) + 1;
    return st->server->options.jitter ? ns / 2 + (st->random >> 33) % (ns + 1) : ns;
}

static void *step_thread(void *arg)
{
    struct step st = {.server = arg, .random = 1};
    cpu_pin(st.server->options.step_cpu);
    st.streams = calloc(st.server->options.connections, sizeof(*st.streams));
    if (!st.streams)
        die("no memory");
    uint64_t due_ns = clock_ns();
    while (!atomic_load_explicit(&st.server->stopping, memory_order_relaxed)) {
        due_ns += interval_next(&st);
        struct timespec due = {.tv_sec = (time_t)(due_ns / NS_A_SECOND),
                               .tv_nsec = (long)(due_ns % NS_A_SECOND)};
        (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        changes_take(&st);
        tokens_push(&st);
    }
    free(st.streams);
    return NULL;
}

/* ---------------------------------------------------------------------- net */

static void stream_change(struct server *s, uint32_t conn, bool streams)
{
    struct change change = {.conn = conn, .streams = streams};
    bool pushed = ring_push(s->changes, &change);
    assert(pushed); // step looks many times a second
    (void)pushed;
    s->heads[conn] = streams ? STREAMS : 0;
}

static void on_opened(void *user, uint32_t conn, const struct conns_peer *peer)
{
    struct server *s = user;
    (void)peer;
    s->heads[conn] = 0;
}

static size_t on_received(void *user, uint32_t conn, const char *bytes, size_t n)
{
    static const char end[HEAD_BYTES] = {'\r', '\n', '\r', '\n'};
    static const char head[] = "HTTP/1.1 200 OK\r\n"
                               "Content-Type: text/event-stream\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    struct server *s = user;
    for (size_t i = 0; i < n && s->heads[conn] < HEAD_BYTES; i++)
        s->heads[conn] =
            bytes[i] == end[s->heads[conn]] ? (uint8_t)(s->heads[conn] + 1) : bytes[i] == '\r';
    if (s->heads[conn] == HEAD_BYTES) {
        if (conns_send(s->conns, conn, head, sizeof(head) - 1) != 0)
            conns_abort(s->conns, conn);
        else
            stream_change(s, conn, true);
    }
    return n;
}

static void on_ended(void *user, uint32_t conn)
{
    struct server *s = user;
    conns_abort(s->conns, conn);
}

static void on_closed(void *user, uint32_t conn)
{
    struct server *s = user;
    if (s->heads[conn] == STREAMS)
        stream_change(s, conn, false);
}

static void on_conn(void *user, uint32_t conn)
{
    (void)user;
    (void)conn;
}

static void on_woken(void *user)
{
    (void)user;
}

// tokens_send: an event as long as those of a chat, in a chunk of its own.
static void tokens_send(struct server *s)
{
    struct token token;
    char data[512], chunk[600];
    while (ring_pop(s->tokens, &token)) {
        if (s->heads[token.conn] != STREAMS)
            continue;
        int n = snprintf(data, sizeof(data),
                         "data: {\"ns\":%" PRIu64 ",\"id\":\"chatcmpl-0123456789abcdef01234567\","
                         "\"object\":\"chat.completion.chunk\",\"created\":1790000000,"
                         "\"model\":\"model\",\"system_fingerprint\":\"expertd\",\"choices\":[{"
                         "\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,"
                         "\"finish_reason\":null}]}\n\n",
                         token.sampled_ns);
        n = snprintf(chunk, sizeof(chunk), "%x\r\n%s\r\n", (unsigned)n, data);
        if (conns_send(s->conns, token.conn, chunk, (size_t)n) == 0) {
            s->sent++;
        } else {
            s->failed++;
            conns_abort(s->conns, token.conn);
        }
    }
}

static void net_run(struct server *s)
{
    const struct options *o = &s->options;
    struct fault fault = {0};
    struct port *port = NULL;
    struct port_params params = {
        .conns = {.connections_max = o->connections,
                  .unsent_max = UNSENT_MAX,
                  .wake_fd = s->wake,
                  .full_reply = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                  .ops = {.opened = on_opened,
                          .received = on_received,
                          .ended = on_ended,
                          .drained = on_conn,
                          .expired = on_conn,
                          .closed = on_closed,
                          .woken = on_woken},
                  .user = s},
        .port = o->port,
        .address = o->address,
        .gateway = "",
        .address6 = "",
        .http_port = o->http,
        .https_port = o->https,
        .tls = {.certificate = o->certificate, .key = o->key, .client_ca = ""},
        .per_address_max = o->connections,
        .handshake_timeout_us = HANDSHAKE_US,
    };
    cpu_pin(o->net_cpu);
    if (port_create(&params, &port, &fault) != 0)
        die(fault.text);
    s->conns = port_conns(port);
    printf("ready\n");
    fflush(stdout);
    while (!asked_to_stop) {
        tokens_send(s);
        conns_poll(s->conns, POLL_MS);
    }
    struct port_stats stats;
    struct rusage used;
    port_stats(port, &stats);
    getrusage(RUSAGE_THREAD, &used);
    printf("{\"driver\": \"%s\", \"events\": %" PRIu64 ", \"failed\": %" PRIu64
           ", \"net_cpu_s\": %.3f, \"rx_missed\": %" PRIu64 ", \"tx_full\": %" PRIu64
           ", \"mbufs_free\": %u}\n",
           stats.nic.driver, s->sent, s->failed,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec),
           stats.frames.rx_missed, stats.frames.tx_full, stats.mbufs_free);
    port_destroy(&port);
}

static struct options options_parse(int argc, char **argv)
{
    static const struct option longs[] = {{"port", required_argument, NULL, 'p'},
                                          {"address", required_argument, NULL, 'a'},
                                          {"http", required_argument, NULL, 'h'},
                                          {"https", required_argument, NULL, 's'},
                                          {"certificate", required_argument, NULL, 'c'},
                                          {"key", required_argument, NULL, 'k'},
                                          {"connections", required_argument, NULL, 'n'},
                                          {"rate", required_argument, NULL, 'r'},
                                          {"sampling-us", required_argument, NULL, 'u'},
                                          {"jitter", no_argument, NULL, 'j'},
                                          {"net-cpu", required_argument, NULL, 'N'},
                                          {"step-cpu", required_argument, NULL, 'S'},
                                          {0}};
    struct options o = {.port = "",
                        .address = "10.9.0.1/24",
                        .certificate = "",
                        .key = "",
                        .connections = 1024,
                        .rate = 20,
                        .net_cpu = -1,
                        .step_cpu = -1};
    for (int which; (which = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        switch (which) {
        case 'p':
            o.port = optarg;
            break;
        case 'a':
            o.address = optarg;
            break;
        case 'h':
            o.http = (uint16_t)strtoul(optarg, NULL, 10);
            break;
        case 's':
            o.https = (uint16_t)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            o.certificate = optarg;
            break;
        case 'k':
            o.key = optarg;
            break;
        case 'n':
            o.connections = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'r':
            o.rate = strtod(optarg, NULL);
            break;
        case 'u':
            o.sampling_us = strtoull(optarg, NULL, 10);
            break;
        case 'j':
            o.jitter = true;
            break;
        case 'N':
            o.net_cpu = (int)strtol(optarg, NULL, 10);
            break;
        case 'S':
            o.step_cpu = (int)strtol(optarg, NULL, 10);
            break;
        default:
            exit(2);
        }
    }
    if (o.connections == 0 || o.connections > CONNECTIONS_MAX || !(o.rate > 0))
        die("--connections is 1 to 16384, --rate above 0");
    return o;
}

int main(int argc, char **argv)
{
    struct server server = {.options = options_parse(argc, argv), .wake = wake_open()};
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t step;
    server.heads = calloc(server.options.connections, sizeof(*server.heads));
    if (!server.heads || server.wake < 0 ||
        ring_create(RING_ENTRIES, sizeof(struct change), &server.changes) != 0 ||
        ring_create(RING_ENTRIES, sizeof(struct token), &server.tokens) != 0)
        die("no memory");
    sigaction(SIGTERM, &action, NULL);
    if (pthread_create(&step, NULL, step_thread, &server) != 0)
        die("no thread");
    net_run(&server);
    atomic_store_explicit(&server.stopping, true, memory_order_relaxed);
    pthread_join(step, NULL);
    ring_destroy(&server.changes);
    ring_destroy(&server.tokens);
    free(server.heads);
    return 0;
}
