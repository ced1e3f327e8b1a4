// SPDX-License-Identifier: MIT
// tcp_echo: a server on io/net/tcp.h over a tap device, which test_tcp.py asks and drives.
//
// tcp_echo TAP ADDRESS GATEWAY ADDRESS6 [KEY=N...]: port 7 echoes, port 19 sends N bytes
// (burst=N), FIN, and waits for the peer's.  Keys: connections, per_address, half_open, syn_second,
// mbufs, burst.
// Commands on stdin, one answer a line: "stats" (JSON), "abort" (resets all connections), "quit".
#include "base/clock.h"
#include "io/net/tcp.h"
#include "tests/check.h"
#include "tests/net/tap_nic.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_BYTES 65536u // a window
#define BURST        32u

struct peer {
    bool open, ended, sender;
    uint32_t n;       // bytes in buffer, not yet written
    uint64_t to_send; // of a sender
    uint8_t buffer[BUFFER_BYTES];
};

struct echo {
    struct tcp *tcp;
    struct nic *nic;
    struct peer *peers;
    struct tcp_params params;
    uint64_t burst, opened, ends[TCP_END_COUNT];
};

static void pump_sender(struct echo *e, uint32_t conn)
{
    struct peer *p = &e->peers[conn];
    uint8_t bytes[4096];

    if (!p->to_send)
        return;
    for (size_t wrote = 1; p->to_send && wrote;) {
        size_t n = p->to_send < sizeof(bytes) ? p->to_send : sizeof(bytes);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)((e->burst - p->to_send + i) * 7 >> 3);
        wrote = tcp_conn_write(e->tcp, conn, bytes, n);
        p->to_send -= wrote;
    }
    if (!p->to_send)
        tcp_conn_shutdown(e->tcp, conn);
}

static void pump(struct echo *e, uint32_t conn)
{
    struct peer *p = &e->peers[conn];

    if (p->sender) {
        pump_sender(e, conn);
        return;
    }
    size_t space = tcp_conn_space(e->tcp, conn);
    size_t n = tcp_conn_write(e->tcp, conn, p->buffer, p->n);
    CHECK(n <= space || n <= p->n);
    memmove(p->buffer, p->buffer + n, p->n - n);
    p->n -= (uint32_t)n;
    if (n)
        tcp_conn_consumed(e->tcp, conn, n);
    if (p->ended && !p->n) {
        p->open = false;
        tcp_conn_close(e->tcp, conn);
    }
}

static bool on_accepted(void *user, uint32_t conn, uint32_t listen, const char *address)
{
    struct echo *e = user;
    struct peer *p = &e->peers[conn];

    CHECK(!p->open && listen < 2 && address[0]);
    p->open = true;
    p->ended = false;
    p->sender = listen == 1;
    p->n = 0;
    p->to_send = p->sender ? e->burst : 0;
    e->opened++;
    if (p->sender)
        pump_sender(e, conn);
    return true;
}

static void on_received(void *user, uint32_t conn, const void *bytes, size_t n)
{
    struct echo *e = user;
    struct peer *p = &e->peers[conn];

    CHECK(p->open && !p->ended && n > 0);
    if (p->sender) {
        tcp_conn_consumed(e->tcp, conn, n);
        return;
    }
    CHECK(n <= BUFFER_BYTES - p->n);
    memcpy(p->buffer + p->n, bytes, n);
    p->n += (uint32_t)n;
    // "!" at the start of a connection has us reset it in the middle of lwIP's callback.
    if (*(const char *)bytes == '!' && n == 1) {
        p->open = false;
        tcp_conn_abort(e->tcp, conn);
        return;
    }
    pump(e, conn);
}

static void on_ended(void *user, uint32_t conn)
{
    struct echo *e = user;
    CHECK(e->peers[conn].open && !e->peers[conn].ended);
    e->peers[conn].ended = true;
    if (!e->peers[conn].sender)
        pump(e, conn);
}

static void on_sendable(void *user, uint32_t conn)
{
    struct echo *e = user;
    CHECK(e->peers[conn].open);
    pump(e, conn);
}

static void on_lost(void *user, uint32_t conn, enum tcp_end why)
{
    struct echo *e = user;
    CHECK(e->peers[conn].open && why < TCP_END_COUNT);
    e->peers[conn].open = false;
    e->ends[why]++;
}

static void stats_print(struct echo *e)
{
    struct tcp_stats s;

    tcp_stats(e->tcp, &s);
    printf("{\"connections\": %u, \"half_open\": %u, \"time_wait\": %u, \"orphans\": %u, "
           "\"held\": %u, \"nic_held\": %u, \"refused_places\": %lu, \"refused_address\": %lu, "
           "\"half_open_dropped\": %lu, \"opened\": %lu, \"address4\": \"%s\", \"address6\": "
           "[\"%s\", \"%s\", \"%s\"], \"ends\": {",
           s.connections, s.half_open, s.time_wait, s.orphans, s.frames_held, tap_nic_held(e->nic),
           s.refused_places, s.refused_address, s.half_open_dropped, e->opened, s.address4,
           s.address6[0], s.address6[1], s.address6[2]);
    for (uint32_t i = 0; i < TCP_END_COUNT; i++)
        printf("%s\"%s\": %lu", i ? ", " : "", tcp_end_label[i], e->ends[i]);
    printf("}, \"dropped\": {");
    for (uint32_t i = 0; i < FILTER_VERDICT_COUNT; i++)
        printf("%s\"%s\": %lu", i ? ", " : "", filter_label[i], s.dropped[i]);
    printf("}}\n");
    fflush(stdout);
}

// command reads what came on stdin; false: quit.
static bool command(struct echo *e)
{
    char line[64];
    ssize_t n = read(STDIN_FILENO, line, sizeof(line) - 1);

    if (n < 0)
        return true;
    line[n] = '\0';
    if (n == 0 || strncmp(line, "quit", 4) == 0)
        return false;
    if (strncmp(line, "abort", 5) == 0) {
        for (uint32_t i = 0; i < e->params.connections_max; i++) {
            if (e->peers[i].open)
                tcp_conn_abort(e->tcp, i);
            e->peers[i].open = false;
        }
    }
    stats_print(e);
    return true;
}

static void serve(struct echo *e)
{
    struct nic_frame frames[BURST];

    for (bool on = true; on;) {
        uint32_t n = nic_receive(e->nic, frames, BURST);
        uint64_t now = clock_us();
        for (uint32_t i = 0; i < n; i++)
            tcp_take(e->tcp, &frames[i], now);
        uint64_t wait = tcp_run(e->tcp, now);
        if (n < BURST)
            nic_wait(e->nic, STDIN_FILENO, n ? 0 : wait);
        on = command(e);
    }
}

static uint64_t key_number(int argc, char **argv, const char *key, uint64_t otherwise)
{
    size_t n = strlen(key);
    for (int i = 5; i < argc; i++) {
        if (strncmp(argv[i], key, n) == 0 && argv[i][n] == '=')
            return strtoull(argv[i] + n + 1, NULL, 10);
    }
    return otherwise;
}

int main(int argc, char **argv)
{
    static const uint8_t mac[6] = {0x02, 0, 0, 0, 0, 0x07};
    struct echo e = {0};
    struct fault fault = {0};

    CHECK(argc >= 5);
    e.burst = key_number(argc, argv, "burst", 100000);
    uint32_t mbufs = (uint32_t)key_number(argc, argv, "mbufs", 1024);
    int err = tap_nic_open(argv[1], mac, mbufs, &e.nic);
    if (err) {
        printf("no tap device: %s\n", strerror(-err));
        return TEST_SKIPPED;
    }
    e.params = (struct tcp_params){
        .nic = e.nic,
        .ports = {7, 19},
        .ports_n = 2,
        .connections_max = (uint32_t)key_number(argc, argv, "connections", 256),
        .per_address_max = (uint32_t)key_number(argc, argv, "per_address", 256),
        .half_open_max = (uint32_t)key_number(argc, argv, "half_open", 128),
        .syn_second = (uint32_t)key_number(argc, argv, "syn_second", 100000),
        .address = argv[2],
        .gateway = argv[3],
        .address6 = argv[4],
        .ops = {.accepted = on_accepted,
                .received = on_received,
                .ended = on_ended,
                .sendable = on_sendable,
                .lost = on_lost},
        .user = &e,
    };
    e.peers = calloc(e.params.connections_max, sizeof(*e.peers));
    CHECK(e.peers);
    if (tcp_create(&e.params, &e.tcp, &fault)) {
        fprintf(stderr, "%s\n", fault.text);
        return 1;
    }
    CHECK(fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK) == 0);
    stats_print(&e);
    serve(&e);
    tcp_destroy(&e.tcp);
    CHECK(tap_nic_held(e.nic) == 0);
    nic_close(&e.nic);
    free(e.peers);
    return 0;
}
