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
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_MAX  1514u
#define ETHER_TYPE 0x88b5u // for experiments: nobody else speaks it
#define WAIT_US    10000000u

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

// nic_take waits for one frame of ours; others (the kernel's own) are freed.
static bool nic_take(struct nic *nic, struct nic_frame *ret)
{
    uint64_t until = clock_us() + WAIT_US;
    int wake = wake_open();
    bool found = false;

    while (!found && clock_us() < until) {
        if (nic_receive(nic, ret, 1) == 0) {
            nic_wait(nic, wake, 100000);
            continue;
        }
        found = ret->n >= 60 && ret->data[12] == ETHER_TYPE >> 8 &&
                ret->data[13] == (ETHER_TYPE & 0xff);
        if (!found)
            nic_free(nic, ret->handle);
    }
    (void)close(wake);
    return found;
}

static void test_frames(enum nic_kind kind, uint32_t frames)
{
    struct nic *nic = nic_make(kind);
    int peer = peer_open(interface_peer(kind));
    uint8_t frame[FRAME_MAX], got[2048];
    const uint8_t to_peer[6] = {2, 0, 0, 0, 0, 9};
    uint32_t free_n = nic_mbufs_free(nic);

    for (uint32_t i = 0; i < frames; i++) { // in
        struct nic_frame in;
        frame_make(frame, frame_bytes(i), nic_info(nic)->mac, i);
        CHECK(send(peer, frame, frame_bytes(i), 0) == (ssize_t)frame_bytes(i));
        CHECK(nic_take(nic, &in));
        CHECK(in.n == frame_bytes(i) && memcmp(in.data, frame, in.n) == 0);
        nic_free(nic, in.handle);
    }
    for (uint32_t i = 0; i < frames; i++) { // out, in three pieces
        uint16_t n = (uint16_t)frame_bytes(i), bytes[3] = {14, 20, (uint16_t)(n - 34)};
        const void *parts[3] = {frame, frame + 14, frame + 34};
        frame_make(frame, n, to_peer, i);
        CHECK(nic_send(nic, parts, bytes, 3) == 0);
        nic_flush(nic);
        CHECK(recv(peer, got, sizeof(got), 0) == n && memcmp(got, frame, n) == 0);
    }
    (void)free_n;
    (void)close(peer);
    nic_close(&nic);
    CHECK(!nic);
}

int main(void)
{
    uint64_t begin = clock_us();
    for (enum nic_kind kind = NIC_TAP; kind < NIC_KIND_COUNT; kind++) {
        test_frames(kind, 5000);
        printf("%s %.3f s\n", port_name[kind], (double)(clock_us() - begin) / 1e6);
        fflush(stdout);
    }
    return 0;
}
