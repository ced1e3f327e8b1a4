// SPDX-License-Identifier: MIT
// A port against a packet socket of the kernel on the other side: both ends in a namespace that
// netns.py made, with the veth pair nic0-peer0.
#include "base/clock.h"
#include "base/wake.h"
#include "io/net/nic.h"
#include "tests/check.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_MAX  1514u
#define ETHER_TYPE 0x88b5u   // for experiments: nobody else speaks it
#define WAIT_US    60000000u // then a frame is lost

static const char *interface_peer(enum nic_kind kind)
{
    return kind == NIC_TAP ? "tap0" : "peer0";
}

static const char *const port_name[NIC_KIND_COUNT] = {
    [NIC_TAP] = "tap:tap0", [NIC_AF_PACKET] = "af_packet:nic0", [NIC_AF_XDP] = "af_xdp:nic0"};

static struct nic *nic_make(enum nic_kind kind)
{
    struct nic_params params = {.mbufs = 2048};
    struct fault fault = {0};
    struct nic *nic = NULL;

    CHECK(nic_parse(port_name[kind], &params.name, &fault) == 0);
    if (nic_open(&params, &nic, &fault) != 0)
        CHECK_FAIL(fault.text);
    return nic;
}

static int peer_open(const char *interface)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET,
                                  .sll_protocol = htons(ETHER_TYPE),
                                  .sll_ifindex = (int)if_nametoindex(interface)};
    int bytes = 8 << 20, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

    CHECK(fd >= 0 && address.sll_ifindex > 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) == 0);
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
    return fd;
}

// frame_make fills a frame of n bytes that its number decides.
static void frame_make(uint8_t frame[FRAME_MAX], uint32_t n, const uint8_t to[6], uint32_t number)
{
    uint64_t random = 0x9e3779b97f4a7c15ull + number;

    memcpy(frame, to, 6);
    memcpy(frame + 6, "\x02\x00\x00\x00\x00\x07", 6);
    frame[12] = ETHER_TYPE >> 8;
    frame[13] = ETHER_TYPE & 0xff;
    for (uint32_t i = 14; i < n; i++)
        frame[i] = (uint8_t)(check_random(&random) >> 32);
}

static uint32_t frame_bytes(uint32_t number)
{
    return 60 + number * 37 % (FRAME_MAX - 59);
}

// nic_receive_one waits for a frame.
static bool nic_receive_one(struct nic *nic, struct nic_frame *ret)
{
    uint64_t until = clock_us() + WAIT_US;
    int wake = wake_open();
    bool found = false;

    while (!(found = nic_receive(nic, ret, 1) == 1) && clock_us() < until)
        nic_wait(nic, wake, 100000);
    (void)close(wake);
    return found;
}

// nic_take waits for one frame of ours; others (the kernel's own) are freed.
static bool nic_take(struct nic *nic, struct nic_frame *ret)
{
    while (nic_receive_one(nic, ret)) {
        if (ret->n >= 60 && ret->data[12] == ETHER_TYPE >> 8 &&
            ret->data[13] == (ETHER_TYPE & 0xff))
            return true;
        nic_free(nic, ret->handle);
    }
    return false;
}

static void peer_send(int peer, const struct nic *nic, uint32_t number)
{
    uint8_t frame[FRAME_MAX];
    uint32_t n = frame_bytes(number);

    frame_make(frame, n, nic_info(nic)->mac, number);
    CHECK(send(peer, frame, n, 0) == (ssize_t)n);
}

static void frame_check(const struct nic *nic, const struct nic_frame *in, uint32_t number)
{
    uint8_t frame[FRAME_MAX];

    frame_make(frame, frame_bytes(number), nic_info(nic)->mac, number);
    CHECK(in->n == frame_bytes(number) && memcmp(in->data, frame, in->n) == 0);
}

static int send_frame(struct nic *nic, uint32_t number, uint8_t frame[FRAME_MAX])
{
    uint16_t n = (uint16_t)frame_bytes(number), bytes[3] = {14, 20, (uint16_t)(n - 34)};
    const void *parts[3] = {frame, frame + 14, frame + 34};

    frame_make(frame, n, (const uint8_t[6]){2, 0, 0, 0, 0, 9}, number);
    return nic_send(nic, parts, bytes, 3);
}

// Bursts, so that order is seen and every ring wraps many times.
static void test_frames(struct nic *nic, int peer, uint32_t bursts)
{
    const uint32_t burst = 100;
    uint8_t frame[FRAME_MAX], got[2048];
    struct nic_stats before, after;
    struct nic_frame in;

    nic_stats(nic, &before);
    for (uint32_t b = 0; b < bursts; b++) {
        for (uint32_t i = 0; i < burst; i++)
            peer_send(peer, nic, b * burst + i);
        for (uint32_t i = 0; i < burst; i++) {
            CHECK(nic_take(nic, &in));
            frame_check(nic, &in, b * burst + i);
            in.data[0] ^= 0xff; // writable
            nic_free(nic, in.handle);
        }
        for (uint32_t i = 0; i < burst; i++)
            CHECK(send_frame(nic, b * burst + i, frame) == 0);
        nic_flush(nic);
        for (uint32_t i = 0; i < burst; i++) {
            frame_make(frame, frame_bytes(b * burst + i), (const uint8_t[6]){2, 0, 0, 0, 0, 9},
                       b * burst + i);
            CHECK(recv(peer, got, sizeof(got), 0) == (ssize_t)frame_bytes(b * burst + i));
            CHECK(memcmp(got, frame, frame_bytes(b * burst + i)) == 0);
        }
    }
    nic_stats(nic, &after);
    CHECK(after.rx_frames - before.rx_frames >= bursts * burst);
    CHECK(after.tx_frames - before.tx_frames == bursts * burst);
    CHECK(after.tx_bytes > before.tx_bytes && after.rx_bytes > before.rx_bytes);
    CHECK(after.rx_missed == 0 && after.rx_errors == 0 && after.tx_full == 0);
}

static void test_sizes(struct nic *nic)
{
    static const uint8_t bytes[65536];
    const void *parts[2] = {bytes, bytes};

    CHECK(nic_info(nic)->mtu == 1500);
    CHECK(nic_send(nic, parts, (uint16_t[]){1000, 515}, 2) == -EMSGSIZE);
    CHECK(nic_send(nic, parts, (uint16_t[]){65535, 65535}, 2) == -EMSGSIZE);
    CHECK(nic_send(nic, parts, (uint16_t[]){0, 0}, 2) == -EMSGSIZE);
}

// Everything that the pool has is held; what comes meanwhile is lost, and nothing else.
static void test_exhaustion(struct nic *nic, int peer)
{
    static void *held[16384];
    uint32_t free_n = nic_mbufs_free(nic), held_n = 0, waits = 0;
    struct nic_frame in;
    int wake = wake_open();

    for (uint64_t until = clock_us() + WAIT_US; nic_mbufs_free(nic) > 0 && clock_us() < until;) {
        for (uint32_t i = 0; i < 32; i++)
            peer_send(peer, nic, 7);
        while (held_n < ARRAY_LEN(held) && nic_receive(nic, &in, 1) == 1)
            held[held_n++] = in.handle;
    }
    CHECK(held_n >= 2048 && nic_mbufs_free(nic) == 0);
    for (uint64_t until = clock_us() + 100000; clock_us() < until; waits++)
        nic_wait(nic, wake, 1000000);
    CHECK(waits <= 1000); // it does not spin on frames that it cannot take

    uint8_t frame[FRAME_MAX];
    struct nic_stats stats;
    CHECK(send_frame(nic, 1, frame) == -ENOBUFS);
    nic_stats(nic, &stats);
    CHECK(stats.tx_full == 1);

    while (held_n > 0)
        nic_free(nic, held[--held_n]);
    nic_flush(nic);
    peer_send(peer, nic, 8);
    while (nic_take(nic, &in)) { // until the last one of the flood is through
        bool last = in.n == frame_bytes(8);
        nic_free(nic, in.handle);
        if (last)
            break;
        peer_send(peer, nic, 8);
    }
    while (nic_receive(nic, &in, 1) == 1)
        nic_free(nic, in.handle);
    CHECK(nic_mbufs_free(nic) == free_n);
    (void)close(wake);
}

static void *wake_later(void *fd)
{
    (void)usleep(20000);
    wake_signal(*(int *)fd);
    return NULL;
}

struct sender {
    const struct nic *nic;
    int peer;
};

static void *frame_later(void *user)
{
    struct sender *sender = user;
    (void)usleep(20000);
    peer_send(sender->peer, sender->nic, 3);
    return NULL;
}

// An hour each: the test ends at once or never.
static void test_wait(struct nic *nic, int peer)
{
    struct sender sender = {nic, peer};
    struct nic_frame in;
    pthread_t thread;
    int wake = wake_open();

    CHECK(pthread_create(&thread, NULL, wake_later, &wake) == 0);
    for (struct pollfd fd = {.fd = wake, .events = POLLIN}; poll(&fd, 1, 0) == 0;) {
        nic_wait(nic, wake, 3600000000u);
        while (nic_receive(nic, &in, 1) == 1) // the kernel's own
            nic_free(nic, in.handle);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    wake_clear(wake);
    CHECK(nic_info(nic)->rx_interrupts);
    CHECK(pthread_create(&thread, NULL, frame_later, &sender) == 0);
    CHECK(nic_take(nic, &in));
    frame_check(nic, &in, 3);
    nic_free(nic, in.handle);
    CHECK(pthread_join(thread, NULL) == 0);
    (void)close(wake);
}

static void run(const char *command)
{
    if (system(command) != 0)
        CHECK_FAIL(command);
}

// The kernel tells the carrier a little later.
static void link_becomes(struct nic *nic, bool up)
{
    struct nic_link link;
    uint64_t until = clock_us() + WAIT_US;

    do
        nic_link(nic, &link);
    while (link.up != up && clock_us() < until);
    CHECK(link.up == up);
}

static void test_link(struct nic *nic, enum nic_kind kind, int peer)
{
    struct nic_frame in;

    if (kind == NIC_TAP)
        return; // its kernel end is the link
    link_becomes(nic, true);
    run("ip link set peer0 down");
    link_becomes(nic, false);
    run("ip link set peer0 up");
    link_becomes(nic, true);
    int err; // that it was down, of the peer's socket
    CHECK(getsockopt(peer, SOL_SOCKET, SO_ERROR, &err, &(socklen_t){sizeof(err)}) == 0);
    peer_send(peer, nic, 5);
    CHECK(nic_take(nic, &in));
    frame_check(nic, &in, 5);
    nic_free(nic, in.handle);
}

// A TCP segment whose checksum is wrong, and one whose is right.
static void test_checksum(struct nic *nic, int peer)
{
    static const uint8_t segment[] = {
        0x08, 0x00, 0x45, 0, 0,  40, 0, 1, 0, 0, 64, 6, 0x66, 0xcd, 10, 0,    0, 1,    10,   0, 0,
        2,    0,    80,   0, 80, 0,  0, 0, 1, 0, 0,  0, 0,    0x50, 2,  0x20, 0, 0x7b, 0x3f, 0, 0};
    uint8_t frame[60] = {0};
    struct nic_frame in;

    if (!nic_info(nic)->rx_checksum)
        return;
    memcpy(frame, nic_info(nic)->mac, 6);
    memcpy(frame + 6, "\x02\x00\x00\x00\x00\x07", 6);
    memcpy(frame + 12, segment, sizeof(segment));
    for (int wrong = 0; wrong < 2; wrong++) {
        frame[50] ^= (uint8_t)wrong;
        CHECK(send(peer, frame, sizeof(frame), 0) == sizeof(frame));
        do
            CHECK(nic_receive_one(nic, &in));
        while (in.n != sizeof(frame) || in.data[12] != 0x08 || in.data[23] != 6);
        CHECK((in.flags & NIC_FRAME_BAD) == (wrong ? NIC_FRAME_BAD : 0u));
        nic_free(nic, in.handle);
    }
}

static uint32_t fds_n(void)
{
    DIR *folder = opendir("/proc/self/fd");
    uint32_t n = 0;

    CHECK(folder);
    while (readdir(folder))
        n++;
    (void)closedir(folder);
    return n;
}

// Nothing is left behind, and memory for twenty ports was never asked for.
static void test_again(enum nic_kind kind)
{
    uint32_t fds = 0, free_n = 0;

    for (int i = 0; i < 20; i++) {
        struct nic *nic = nic_make(kind);
        if (i == 1)
            free_n = nic_mbufs_free(nic);
        CHECK(i < 2 || nic_mbufs_free(nic) == free_n);
        nic_close(&nic);
        CHECK(!nic);
        CHECK(kind != NIC_TAP || if_nametoindex("tap0") == 0);
        if (i == 0)
            fds = fds_n();
        CHECK(fds_n() == fds);
    }
}

static void test_gone(void)
{
    struct nic *nic = nic_make(NIC_AF_PACKET);
    struct nic_frame in;
    struct nic_link link;
    uint8_t frame[FRAME_MAX];
    uint32_t waits = 0;
    int wake = wake_open();

    run("ip link delete nic0");
    for (uint64_t until = clock_us() + 100000; clock_us() < until; waits++) {
        nic_wait(nic, wake, 1000000);
        while (nic_receive(nic, &in, 1) == 1)
            nic_free(nic, in.handle);
        (void)send_frame(nic, 1, frame);
        nic_flush(nic);
    }
    CHECK(waits <= 1000);
    nic_link(nic, &link);
    CHECK(!link.up);
    nic_close(&nic);
    (void)close(wake);
}

static void refused(const char *name, int err, const char *words)
{
    struct nic_params params = {.mbufs = 2048};
    struct fault fault = {0};
    struct nic *nic = NULL;

    int got = nic_parse(name, &params.name, &fault);
    if (!got)
        got = nic_open(&params, &nic, &fault);
    if (got != err || !strstr(fault.text, words)) {
        fprintf(stderr, "%s: %d, %s\n", name, got, fault.text);
        exit(1);
    }
    CHECK(!nic);
}

static void test_refused(void)
{
    refused("", -EINVAL, "af_packet:INTERFACE");
    refused("eth0", -EINVAL, "0000:03:00.0");
    refused("0000:03:00.8", -EINVAL, "lspci -D");
    refused("tap:", -EINVAL, "1 to 15");
    refused("tap:a,iface=b", -EINVAL, "letters");
    refused("tap:sixteen-letters-", -EINVAL, "1 to 15");
    refused("tap:peer0", -EBUSY, "ip link delete peer0");
    refused("af_packet:none", -ENODEV, "ip -brief link");
    refused("af_xdp:none", -ENODEV, "no such interface");
    run("ip link set nic0 down");
    refused("af_packet:nic0", -ENODEV, "ip link set nic0 up");
    run("ip link set nic0 up");
    refused("ffff:ff:1f.7", -ENODEV, "lspci");
}

// What DPDK would change of the thread that opens.
static void test_thread(void)
{
    cpu_set_t cpus, cpus_after;
    sigset_t mask, mask_after;

    CHECK(sched_getaffinity(0, sizeof(cpus), &cpus) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0);
    struct nic *nic = nic_make(NIC_TAP);
    CHECK(sched_getaffinity(0, sizeof(cpus_after), &cpus_after) == 0);
    CHECK(CPU_EQUAL(&cpus, &cpus_after));
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask_after) == 0);
    CHECK(memcmp(&mask, &mask_after, sizeof(mask)) == 0);
    for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) {
        struct sigaction action;
        CHECK(sigaction(signal, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    }
    nic_close(&nic);
}

int main(void)
{
    test_refused();
    test_thread();
    for (enum nic_kind kind = NIC_TAP; kind < NIC_KIND_COUNT; kind++) {
        struct nic *nic = nic_make(kind);
        int peer = peer_open(interface_peer(kind));

        test_frames(nic, peer, 100);
        test_sizes(nic);
        test_wait(nic, peer);
        test_checksum(nic, peer);
        test_link(nic, kind, peer);
        test_exhaustion(nic, peer);
        (void)close(peer);
        nic_close(&nic);
        CHECK(!nic);
        test_again(kind);
        printf("%s: as it should be\n", port_name[kind]);
    }
    test_gone();
    return 0;
}
