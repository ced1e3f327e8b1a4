// SPDX-License-Identifier: MIT
// bench-net-junk INTERFACE MAC ADDRESS PORT RATE SECONDS: sends RATE frames a second that nobody
// wants to a host on the same wire, as pktgen would, and prints what it sent as JSON.  A frame of
// each kind in turn: SYNs from forged sources, UDP, ARP requests, IP fragments, headers that
// contradict themselves, frames beyond 1500 bytes of IP, and 64-byte frames of random bytes.
// SIGTERM ends it earlier.  Where the interface's MTU does not let oversize frames out they are
// left out and counted as 0.
#include "base/clock.h"
#include "io/net/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAMES      4096u // made before the first is sent, then sent round and round
#define FRAME_MAX   2000u
#define FRAME_MIN   60u // 64 with the checksum that the card would add
#define OVERSIZE    1900u
#define BURST       16u // frames a system call: at 100,000 a second one call every 160 us
#define NS_A_SECOND UINT64_C(1000000000)

enum kind {
    KIND_SYN,
    KIND_UDP,
    KIND_ARP,
    KIND_FRAGMENT,
    KIND_MALFORMED,
    KIND_OVERSIZE,
    KIND_RANDOM,
    KIND_COUNT
};
static const char *const kind_label[KIND_COUNT] = {[KIND_SYN] = "syn",
                                                   [KIND_UDP] = "udp",
                                                   [KIND_ARP] = "arp",
                                                   [KIND_FRAGMENT] = "fragment",
                                                   [KIND_MALFORMED] = "malformed",
                                                   [KIND_OVERSIZE] = "oversize",
                                                   [KIND_RANDOM] = "random"};

struct frame {
    enum kind kind;
    uint16_t n;
    uint8_t data[FRAME_MAX];
};

struct target {
    uint8_t mac[6], address[4];
    uint16_t port;
};

struct junk {
    struct target target;
    bool oversize;
    uint64_t random;
    struct frame *frames; // [FRAMES]
    uint64_t sent[KIND_COUNT];
};

static volatile sig_atomic_t asked_to_stop;

static void on_signal(int number)
{
    (void)number;
    asked_to_stop = 1;
}

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench-net-junk: %s\n", what);
    exit(1);
}

static uint32_t random_next(struct junk *j)
{
    j->random ^= j->random >> 12;
    j->random ^= j->random << 25;
    j->random ^= j->random >> 27;
    return (uint32_t)(j->random * UINT64_C(0x2545f4914f6cdd1d) >> 32);
}

static void random_fill(struct junk *j, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)random_next(j);
}

/* ------------------------------------------------------------------- frames */

// ethernet_put: each frame comes from another MAC; ip4_put's sources are of 10/8, where a wire's
// neighbours would be.
static void ethernet_put(struct junk *j, struct frame *f, uint16_t type)
{
    memcpy(f->data, j->target.mac, 6);
    random_fill(j, f->data + 6, 6);
    f->data[6] = 0x02; // locally administered, unicast
    wire_u16_put(f->data + 12, type);
}

// ip4_put writes an IPv4 header without options for `bytes` of payload behind it.
static void ip4_put(struct junk *j, struct frame *f, uint8_t protocol, uint16_t bytes)
{
    uint8_t *ip = f->data + WIRE_ETHERNET;
    ethernet_put(j, f, WIRE_TYPE_IP4);
    memset(ip, 0, WIRE_IP4);
    ip[0] = 0x45;
    wire_u16_put(ip + 2, (uint16_t)(WIRE_IP4 + bytes));
    wire_u16_put(ip + 4, (uint16_t)random_next(j));
    ip[8] = 64;
    ip[9] = protocol;
    ip[12] = 10;
    random_fill(j, ip + 13, 2);
    ip[15] = (uint8_t)(1 + random_next(j) % 254);
    memcpy(ip + 16, j->target.address, 4);
    f->n = (uint16_t)(WIRE_ETHERNET + WIRE_IP4 + bytes);
}

static void ip4_sum(struct frame *f)
{
    uint8_t *ip = f->data + WIRE_ETHERNET;
    wire_u16_put(ip + 10, 0);
    wire_u16_put(ip + 10, wire_sum_end(wire_sum(0, ip, WIRE_IP4)));
}

static void transport_sum(struct frame *f, size_t at)
{
    struct wire wire;
    wire_u16_put(f->data + at, 0);
    if (wire_parse(f->data, f->n, &wire))
        wire_u16_put(f->data + at, wire_transport_sum(f->data, &wire));
}

static void syn_make(struct junk *j, struct frame *f)
{
    uint8_t *tcp = f->data + WIRE_ETHERNET + WIRE_IP4;
    ip4_put(j, f, WIRE_PROTOCOL_TCP, WIRE_TCP);
    memset(tcp, 0, WIRE_TCP);
    wire_u16_put(tcp, (uint16_t)(1024 + random_next(j) % 60000));
    wire_u16_put(tcp + 2, j->target.port);
    wire_u32_put(tcp + 4, random_next(j));
    tcp[12] = 5 << 4;
    tcp[13] = WIRE_SYN;
    wire_u16_put(tcp + 14, 65535);
    ip4_sum(f);
    transport_sum(f, WIRE_ETHERNET + WIRE_IP4 + 16);
}

static void udp_make(struct junk *j, struct frame *f)
{
    uint8_t *udp = f->data + WIRE_ETHERNET + WIRE_IP4;
    uint16_t bytes = (uint16_t)(WIRE_UDP + random_next(j) % 1400);
    ip4_put(j, f, WIRE_PROTOCOL_UDP, bytes);
    random_fill(j, udp, bytes);
    wire_u16_put(udp + 4, bytes);
    ip4_sum(f);
    transport_sum(f, WIRE_ETHERNET + WIRE_IP4 + 6);
}

static void arp_make(struct junk *j, struct frame *f)
{
    uint8_t *arp = f->data + WIRE_ETHERNET;
    static const uint8_t request[8] = {0, 1, 8, 0, 6, 4, 0, 1};
    ethernet_put(j, f, WIRE_TYPE_ARP);
    memset(f->data, 0xff, 6);
    memcpy(arp, request, sizeof(request));
    memcpy(arp + 8, f->data + 6, 6);
    arp[14] = 10;
    random_fill(j, arp + 15, 3);
    memset(arp + 18, 0, 6);
    memcpy(arp + 24, j->target.address, 4);
    f->n = WIRE_ETHERNET + WIRE_ARP;
}

static void fragment_make(struct junk *j, struct frame *f)
{
    uint8_t *ip = f->data + WIRE_ETHERNET;
    ip4_put(j, f, WIRE_PROTOCOL_UDP, (uint16_t)(8 + random_next(j) % 1400));
    wire_u16_put(ip + 6, (uint16_t)(0x2000 | (random_next(j) & 0x1fff))); // more follow
    ip4_sum(f);
}

// malformed_make breaks one field of a good SYN.
static void malformed_make(struct junk *j, struct frame *f)
{
    uint8_t *ip = f->data + WIRE_ETHERNET, *tcp = ip + WIRE_IP4;
    syn_make(j, f);
    switch (random_next(j) % 6) {
    case 0: // a header of 16 bytes
        ip[0] = 0x44;
        break;
    case 1: // longer than the frame
        wire_u16_put(ip + 2, 1400);
        break;
    case 2:
        ip[0] = 0x65;
        break;
    case 3: // a TCP header that ends before it begins
        tcp[12] = (uint8_t)((random_next(j) % 5) << 4);
        break;
    case 4: // flags that no state allows
        tcp[13] = WIRE_SYN | WIRE_FIN | WIRE_RST;
        break;
    default: // a wrong sum
        tcp[16] ^= 0x55;
        break;
    }
    ip4_sum(f);
}

static void oversize_make(struct junk *j, struct frame *f)
{
    uint8_t *udp = f->data + WIRE_ETHERNET + WIRE_IP4;
    uint16_t bytes = OVERSIZE - WIRE_ETHERNET - WIRE_IP4;
    ip4_put(j, f, WIRE_PROTOCOL_UDP, bytes);
    random_fill(j, udp, bytes);
    wire_u16_put(udp + 4, bytes);
    ip4_sum(f);
}

static void random_make(struct junk *j, struct frame *f)
{
    random_fill(j, f->data, FRAME_MIN);
    ethernet_put(j, f, (uint16_t)random_next(j));
    f->n = FRAME_MIN;
}

static void frames_make(struct junk *j)
{
    static void (*const make[KIND_COUNT])(struct junk *,
                                          struct frame *) = {[KIND_SYN] = syn_make,
                                                             [KIND_UDP] = udp_make,
                                                             [KIND_ARP] = arp_make,
                                                             [KIND_FRAGMENT] = fragment_make,
                                                             [KIND_MALFORMED] = malformed_make,
                                                             [KIND_OVERSIZE] = oversize_make,
                                                             [KIND_RANDOM] = random_make};
    j->frames = calloc(FRAMES, sizeof(*j->frames));
    if (!j->frames)
        die("no memory");
    for (uint32_t i = 0, kind = 0; i < FRAMES; i++, kind = (kind + 1) % KIND_COUNT) {
        if (kind == KIND_OVERSIZE && !j->oversize)
            kind = KIND_RANDOM;
        struct frame *f = &j->frames[i];
        f->kind = kind;
        make[kind](j, f);
        if (f->n < FRAME_MIN)
            f->n = FRAME_MIN; // the rest is zero
    }
}

/* ------------------------------------------------------------------ sending */

static int wire_open(const char *interface, bool *ret_oversize)
{
    struct ifreq request = {0};
    int yes = 1;
    int fd = socket(AF_PACKET, SOCK_RAW, 0); // receives nothing
    if (fd < 0)
        die("no packet socket: root is needed");
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_ifindex = (int)if_nametoindex(interface)};
    if (at.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0)
        die("no such interface");
    if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof(yes)) != 0)
        die("PACKET_QDISC_BYPASS is refused");
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
    *ret_oversize =
        ioctl(fd, SIOCGIFMTU, &request) == 0 && request.ifr_mtu >= (int)(OVERSIZE - WIRE_ETHERNET);
    return fd;
}

static void burst_send(struct junk *j, int fd, uint64_t first)
{
    struct mmsghdr messages[BURST] = {0};
    struct iovec pieces[BURST];
    for (uint32_t i = 0; i < BURST; i++) {
        struct frame *f = &j->frames[(first + i) % FRAMES];
        pieces[i] = (struct iovec){f->data, f->n};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
    }
    for (uint32_t done = 0; done < BURST;) {
        int n = sendmmsg(fd, messages + done, BURST - done, 0);
        if (n < 0 && errno != ENOBUFS && errno != EINTR)
            die(strerror(errno));
        for (uint32_t i = 0; n > 0 && i < (uint32_t)n; i++)
            j->sent[j->frames[(first + done + i) % FRAMES].kind]++;
        done += n > 0 ? (uint32_t)n : 1; // a full queue loses the frame, like a wire
    }
}

static void sleep_until(uint64_t ns)
{
    struct timespec at = {.tv_sec = (time_t)(ns / NS_A_SECOND),
                          .tv_nsec = (long)(ns % NS_A_SECOND)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

// send_all keeps the rate over the whole time: bursts that came late are made up for.
static double send_all(struct junk *j, int fd, uint64_t rate, double seconds)
{
    uint64_t begin = clock_ns(), frames = (uint64_t)((double)rate * seconds);
    for (uint64_t n = 0; n < frames && !asked_to_stop; n += BURST) {
        uint64_t due = begin + n * NS_A_SECOND / rate;
        if (clock_ns() < due)
            sleep_until(due);
        burst_send(j, fd, n);
    }
    return (double)(clock_ns() - begin) / (double)NS_A_SECOND;
}

static void show(const struct junk *j, double wall_s)
{
    struct rusage used;
    uint64_t all = 0;
    getrusage(RUSAGE_SELF, &used);
    double cpu_s = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                   1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    for (uint32_t i = 0; i < KIND_COUNT; i++)
        all += j->sent[i];
    printf("{\"frames\": %" PRIu64 ", \"wall_s\": %.3f, \"rate\": %.0f, \"cpu_percent\": %.1f", all,
           wall_s, (double)all / wall_s, 100 * cpu_s / wall_s);
    for (uint32_t i = 0; i < KIND_COUNT; i++)
        printf(", \"%s\": %" PRIu64, kind_label[i], j->sent[i]);
    printf("}\n");
}

static void mac_parse(const char *text, uint8_t mac[6])
{
    unsigned b[6];
    if (sscanf(text, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) != 6)
        die("the MAC address is not one");
    for (uint32_t i = 0; i < 6; i++)
        mac[i] = (uint8_t)b[i];
}

int main(int argc, char **argv)
{
    struct junk junk = {.random = 0x9e3779b97f4a7c15};
    if (argc != 7) {
        fprintf(stderr, "usage: bench-net-junk INTERFACE MAC ADDRESS PORT RATE SECONDS\n");
        return 2;
    }
    uint64_t rate = strtoull(argv[5], NULL, 10);
    double seconds = strtod(argv[6], NULL);
    mac_parse(argv[2], junk.target.mac);
    if (inet_pton(AF_INET, argv[3], junk.target.address) != 1 || rate == 0 || !(seconds > 0))
        die("ADDRESS is IPv4, RATE and SECONDS are above 0");
    junk.target.port = (uint16_t)strtoul(argv[4], NULL, 10);
    int fd = wire_open(argv[1], &junk.oversize);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_signal}, NULL);
    frames_make(&junk);
    show(&junk, send_all(&junk, fd, rate, seconds));
    close(fd);
    free(junk.frames);
    return 0;
}
