// SPDX-License-Identifier: MIT
// sock and listener over real sockets: stale files, echo, back-pressure both ways, half-close,
// deadlines, eviction, lingering close.
#include "base/clock.h"
#include "base/wake.h"
#include "io/net/sock.h"
#include "tests/check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNS 4u

static char dir[] = "/tmp/expertd-test-XXXXXX";
static char path[64];

// What the callbacks saw, by place.
static struct seen {
    uint32_t opened, closed, ended, drained, expired, woken;
    uint32_t last;      // place that was opened last
    char bytes[100000]; // everything received on any place
    size_t bytes_n;
    size_t take_max; // `received` takes at most this much a call
    bool echo, local;
} seen;
static struct sock *sock;
static int wake;

static void on_opened(void *user, uint32_t conn, const struct conns_peer *peer)
{
    CHECK(user == &seen && conn < CONNS);
    seen.local = peer->kind == CONNS_UNIX;
    seen.opened++;
    seen.last = conn;
}
static size_t on_received(void *user, uint32_t conn, const char *bytes, size_t n)
{
    CHECK(user == &seen && n > 0);
    size_t used = n < seen.take_max ? n : seen.take_max;
    CHECK(seen.bytes_n + used <= sizeof(seen.bytes));
    memcpy(seen.bytes + seen.bytes_n, bytes, used);
    seen.bytes_n += used;
    if (seen.echo)
        CHECK(conns_send(sock_conns(sock), conn, bytes, used) == 0);
    return used;
}
static void on_ended(void *user, uint32_t conn)
{
    CHECK(user == &seen && conn < CONNS);
    seen.ended++;
}
static void on_drained(void *user, uint32_t conn)
{
    CHECK(user == &seen && conn < CONNS);
    seen.drained++;
}
static void on_expired(void *user, uint32_t conn)
{
    CHECK(user == &seen);
    seen.expired++;
    conns_abort(sock_conns(sock), conn);
}
static void on_closed(void *user, uint32_t conn)
{
    CHECK(user == &seen && conn < CONNS);
    seen.closed++;
}
static void on_woken(void *user)
{
    CHECK(user == &seen);
    seen.woken++;
}

static int client(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0);
    uint32_t before = seen.opened;
    for (int i = 0; i < 100 && seen.opened == before; i++)
        conns_poll(sock_conns(sock), 10);
    return fd;
}

static void polls(int n)
{
    for (int i = 0; i < n; i++)
        conns_poll(sock_conns(sock), 1);
}

// reads everything that is there; returns bytes, *ret_eof when the peer has shut down
static size_t client_read(int fd, char *out, size_t max, bool *ret_eof)
{
    size_t n = 0;
    *ret_eof = false;
    while (n < max) {
        ssize_t got = recv(fd, out + n, max - n, MSG_DONTWAIT);
        if (got == 0)
            *ret_eof = true;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    return n;
}

static void start_on(const struct listener *listener)
{
    struct fault fault = {0};
    struct conns_params params = {
        .connections_max = CONNS,
        .unsent_max = 1 << 20,
        .wake_fd = wake,
        .full_reply = "full",
        .ops = {on_opened, on_received, on_ended, on_drained, on_expired, on_closed, on_woken},
        .user = &seen,
    };
    CHECK(sock_create(&params, listener, 1, &sock, &fault) == 0);
    memset(&seen, 0, sizeof(seen));
    seen.take_max = SIZE_MAX;
}

static struct listener start(void)
{
    struct listener listener;
    struct fault fault = {0};
    CHECK(listener_open_unix(path, 0600, &listener, &fault) == 0);
    start_on(&listener);
    return listener;
}

static void stop(struct listener *listener)
{
    sock_destroy(&sock);
    listener_close(listener);
}

static void test_listener(void)
{
    struct listener first, second;
    struct fault fault = {0};
    struct stat st;
    CHECK(listener_open_unix(path, 0640, &first, &fault) == 0);
    CHECK(stat(path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0640);

    // A live daemon keeps its socket.
    CHECK(listener_open_unix(path, 0600, &second, &fault) == -EADDRINUSE);
    CHECK(strstr(fault.text, path) && strstr(fault.text, "answers"));

    // A dead one's file is replaced.
    struct listener dead = first;
    close(dead.fd);
    CHECK(listener_open_unix(path, 0600, &second, &fault) == 0);
    // A daemon that stops late does not remove the file of its successor.
    first.fd = open("/dev/null", O_RDONLY);
    listener_close(&first);
    CHECK(first.fd == -1);
    CHECK(stat(path, &st) == 0);
    listener_close(&second);
    CHECK(stat(path, &st) != 0 && errno == ENOENT);
    listener_close(&second); // twice is fine

    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0 && close(fd) == 0);
    CHECK(listener_open_unix(path, 0600, &second, &fault) == -EEXIST);
    CHECK(unlink(path) == 0);
    CHECK(listener_open_unix("/nowhere/at.all", 0600, &second, &fault) == -ENOENT);
    char longer[200];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    CHECK(listener_open_unix(longer, 0600, &second, &fault) == -ENAMETOOLONG);
}

static void test_loopback(void)
{
    static const char *const bad[] = {
        "",
        "127.0.0.1",
        "8080",
        ":8080",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "0.0.0.0:0",
        "10.0.0.1:0",
        "[::]:0",
        "[::1:0",
        "::1:0",
        "localhost:0",
        "128.0.0.1:0",
        "[fe80::1]:0",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
    };
    struct listener l;
    struct fault fault = {0};
    for (uint32_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(listener_open_loopback(bad[i], &l, &fault) == -EINVAL);
    CHECK(listener_open_loopback("127.0.0.1:0", &l, &fault) == 0);
    CHECK(strncmp(l.name, "127.0.0.1:", 10) == 0 && strcmp(l.name, "127.0.0.1:0") != 0);
    CHECK(!l.local);

    // As systemd hands it over.
    struct listener adopted;
    CHECK(listener_adopt(l.fd, &adopted, &fault) == 0);
    CHECK(strcmp(adopted.name, l.name) == 0);
    CHECK(listener_adopt(0, &adopted, &fault) == -EINVAL);
    int plain = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(listener_adopt(plain, &adopted, &fault) == -EINVAL);
    close(plain);
    listener_close(&l);
}

static void test_echo_and_close(void)
{
    struct listener listener = start();
    seen.echo = true;
    int a = client(), b = client();
    CHECK(seen.opened == 2 && conns_open_n(sock_conns(sock)) == 2);
    CHECK(write(a, "hello", 5) == 5);
    polls(5);
    char out[100];
    bool eof;
    CHECK(client_read(a, out, sizeof(out), &eof) == 5 && memcmp(out, "hello", 5) == 0 && !eof);
    CHECK(client_read(b, out, sizeof(out), &eof) == 0 && !eof);

    // Half-close: told once, after the bytes; still answered.
    CHECK(write(a, "bye", 3) == 3);
    CHECK(shutdown(a, SHUT_WR) == 0);
    polls(5);
    CHECK(seen.ended == 1 && seen.bytes_n == 8 && seen.closed == 0);
    CHECK(conns_send(sock_conns(sock), 0, "!", 1) == 0);
    conns_finish(sock_conns(sock), 0);
    CHECK(conns_send(sock_conns(sock), 0, "late", 4) == -EPIPE);
    polls(5);
    CHECK(client_read(a, out, sizeof(out), &eof) == 4 && memcmp(out, "bye!", 4) == 0 && eof);
    CHECK(seen.closed == 1);

    // A full close is seen although nothing is read.
    close(b);
    polls(5);
    CHECK(seen.closed == 2 && conns_open_n(sock_conns(sock)) == 0);
    wake_signal(wake);
    polls(2);
    CHECK(seen.woken == 1);
    close(a);
    stop(&listener);
}

static void test_input_back_pressure(void)
{
    struct listener listener = start();
    int a = client();
    seen.take_max = 0; // busy: takes nothing
    char block[1000];
    memset(block, 'x', sizeof(block));
    fcntl(a, F_SETFL, O_NONBLOCK);
    size_t sent = 0;
    for (;;) {
        ssize_t n = write(a, block, sizeof(block));
        polls(1);
        if (n <= 0)
            break;
        sent += (size_t)n;
        CHECK(sent < 16u << 20); // somebody must say stop
    }
    CHECK(sent > CONNS_INPUT_BYTES && seen.bytes_n == 0);
    // It spins on nothing while the peer waits.
    uint64_t before = clock_us();
    conns_poll(sock_conns(sock), 50);
    CHECK(clock_us() - before >= 40000);

    size_t total = 0;
    seen.take_max = SIZE_MAX;
    conns_resume(sock_conns(sock), 0);
    for (int i = 0; i < 2000 && total + seen.bytes_n < sent; i++) {
        polls(1);
        if (seen.bytes_n > 50000) {
            total += seen.bytes_n;
            seen.bytes_n = 0;
        }
    }
    CHECK(total + seen.bytes_n == sent);
    close(a);
    polls(3);
    CHECK(seen.closed == 1);
    stop(&listener);
}

static void test_partial_takes(void)
{
    // Bytes that were not taken are offered again, with what came after, when resumed.
    struct listener listener = start();
    int a = client();
    seen.take_max = 3;
    CHECK(write(a, "abcdefgh", 8) == 8);
    CHECK(shutdown(a, SHUT_WR) == 0);
    polls(5);
    CHECK(seen.bytes_n == 3 && seen.ended == 0);
    for (int i = 0; i < 2; i++) {
        conns_resume(sock_conns(sock), 0);
        conns_resume(sock_conns(sock), 0); // twice is once
        polls(2);
    }
    CHECK(seen.bytes_n == 8 && memcmp(seen.bytes, "abcdefgh", 8) == 0 && seen.ended == 1);
    close(a);
    stop(&listener);
}

static void test_slow_reader(void)
{
    struct listener listener = start();
    int slow = client(), other = client();
    char block[4096];
    memset(block, 'y', sizeof(block));
    size_t sent = 0;
    int err = 0;
    while ((err = conns_send(sock_conns(sock), 0, block, sizeof(block))) == 0) {
        sent += sizeof(block);
        CHECK(sent < 16u << 20);
    }
    CHECK(err == -ENOBUFS && conns_unsent(sock_conns(sock), 0) <= 1 << 20);
    CHECK(conns_unsent(sock_conns(sock), 0) > (1 << 20) - sizeof(block));
    // The other one is served meanwhile.
    seen.echo = true;
    CHECK(write(other, "ping", 4) == 4);
    polls(3);
    char out[100];
    bool eof;
    CHECK(client_read(other, out, sizeof(out), &eof) == 4);

    // Every byte arrives when it reads at last.
    size_t got = 0;
    for (int i = 0; i < 5000 && got < sent; i++) {
        char in[8192];
        got += client_read(slow, in, sizeof(in), &eof);
        polls(1);
    }
    CHECK(got == sent && conns_unsent(sock_conns(sock), 0) == 0 && seen.drained == 1);

    // What is unsent when it ends is flushed first.
    seen.bytes_n = 0;
    for (int i = 0; i < 150; i++)
        CHECK(conns_send(sock_conns(sock), 0, block, sizeof(block)) == 0);
    conns_finish(sock_conns(sock), 0);
    got = 0;
    for (int i = 0; i < 5000 && !eof; i++) {
        char in[8192];
        got += client_read(slow, in, sizeof(in), &eof);
        polls(1);
    }
    CHECK(eof && got == 150 * sizeof(block));
    close(slow);
    close(other);
    polls(3);
    CHECK(seen.closed == 2);
    stop(&listener);
}

static void test_linger(void)
{
    // Bytes that the peer sends while it is being answered do not cut the answer off.
    struct listener listener = start();
    int a = client();
    CHECK(conns_send(sock_conns(sock), 0, "no", 2) == 0);
    conns_finish(sock_conns(sock), 0);
    char block[1000] = {0}, out[10];
    bool eof;
    for (int i = 0; i < 100; i++) {
        CHECK(write(a, block, sizeof(block)) == sizeof(block));
        polls(1);
    }
    CHECK(client_read(a, out, sizeof(out), &eof) == 2 && eof);
    CHECK(seen.closed == 0 && seen.bytes_n == 0);
    close(a);
    polls(3);
    CHECK(seen.closed == 1);

    // A peer that never closes is dropped after two seconds.
    a = client();
    conns_finish(sock_conns(sock), seen.last);
    uint64_t before = clock_us();
    while (seen.closed == 1 && clock_us() - before < 10000000)
        conns_poll(sock_conns(sock), 1000);
    CHECK(seen.closed == 2);
    close(a);
    stop(&listener);
}

static void test_deadline(void)
{
    struct listener listener = start();
    int a = client();
    conns_deadline(sock_conns(sock), 0, clock_us() + 30000);
    conns_poll(sock_conns(sock), 0);
    CHECK(seen.expired == 0);
    while (seen.expired == 0)
        conns_poll(sock_conns(sock), -1); // wakes by itself
    CHECK(seen.closed == 1);
    close(a);
    stop(&listener);
}

static void test_full(void)
{
    struct listener listener = start();
    int fds[CONNS + 2];
    for (uint32_t i = 0; i < CONNS; i++)
        fds[i] = client();
    CHECK(conns_open_n(sock_conns(sock)) == CONNS);

    // All busy: one more is told so.
    fds[CONNS] = client();
    char out[10];
    bool eof;
    polls(2);
    CHECK(client_read(fds[CONNS], out, sizeof(out), &eof) == 4 && memcmp(out, "full", 4) == 0);
    CHECK(seen.opened == CONNS);

    // One idles: it makes room, and its peer sees the end.
    conns_evictable(sock_conns(sock), 2, true);
    fds[CONNS + 1] = client();
    CHECK(seen.opened == CONNS + 1 && seen.closed == 1 && seen.last == 2);
    CHECK(client_read(fds[2], out, sizeof(out), &eof) == 0 && eof);
    for (uint32_t i = 0; i < CONNS + 2; i++)
        close(fds[i]);
    polls(5);
    CHECK(conns_open_n(sock_conns(sock)) == 0);
    stop(&listener);
}

// On TCP a client that left is told from one that only stopped sending.
static void test_tcp_peer(void)
{
    static const char *const names[] = {"127.0.0.1:0", "[::1]:0"};
    for (uint32_t i = 0; i < ARRAY_LEN(names); i++) {
        struct listener listener;
        struct fault fault = {0};
        if (listener_open_loopback(names[i], &listener, &fault) != 0) {
            CHECK(i == 1); // no IPv6 here
            continue;
        }
        start_on(&listener);
        struct sockaddr_storage addr;
        socklen_t len = sizeof(addr);
        CHECK(getsockname(listener.fd, (struct sockaddr *)&addr, &len) == 0);
        for (int leaves = 0; leaves < 2; leaves++) {
            int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
            CHECK(connect(fd, (struct sockaddr *)&addr, len) == 0);
            CHECK(write(fd, "x", 1) == 1);
            while (seen.bytes_n <= (size_t)leaves)
                conns_poll(sock_conns(sock), 10);
            CHECK(!seen.local);
            uint32_t closed = seen.closed;
            if (leaves) {
                close(fd);
                while (seen.closed == closed)
                    conns_poll(sock_conns(sock), -1);
                CHECK(seen.ended == 1);
                continue;
            }
            CHECK(shutdown(fd, SHUT_WR) == 0);
            for (int turn = 0; turn < 20; turn++)
                conns_poll(sock_conns(sock), 25); // beyond the time between two looks
            CHECK(seen.ended == 1 && seen.closed == closed);
            CHECK(conns_send(sock_conns(sock), seen.last, "y", 1) == 0);
            char byte;
            CHECK(read(fd, &byte, 1) == 1 && byte == 'y');
            close(fd); // now it leaves after all
            while (seen.closed == closed)
                conns_poll(sock_conns(sock), -1);
        }
        stop(&listener);
    }
}

int main(void)
{
    CHECK(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    wake = wake_open();
    CHECK(wake >= 0);
    test_listener();
    test_loopback();
    test_echo_and_close();
    test_input_back_pressure();
    test_partial_takes();
    test_slow_reader();
    test_linger();
    test_deadline();
    test_full();
    test_tcp_peer();
    close(wake);
    rmdir(dir);
    return 0;
}
