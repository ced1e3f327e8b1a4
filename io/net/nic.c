// SPDX-License-Identifier: MIT
// Zero-copy towards the stack: a frame that was received stays in the mbuf that the port filled
// until nic_free.  Sending copies, since lwIP's memory is not the port's.
#include "io/net/nic.h"

#include "io/net/nic_check.h"
#include "io/net/nic_eal.h"
#include "io/net/nic_host.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_mbuf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define NIC_BURST        32u    // frames a call; net_af_xdp takes no more
#define NIC_MTU_MAX      1500u  // a frame of it fits one mbuf of DPDK's usual size
#define NIC_HEADER_MAX   18u    // Ethernet's, with a VLAN tag
#define NIC_POLL_US      800u   // between looks at a port without interrupts: 1 ms is promised
#define NIC_CACHE        128u   // mbufs a thread keeps out of the pool's ring
#define NIC_RING_XDP     2048u  // net_af_xdp takes as many mbufs at once, whatever it is asked for
#define NIC_RING_PCI     2048u  // 1.4 ms of the smallest frames at 1 Gbit/s: longer than a sleep
#define NIC_RING_TAP     256u   // net_tap has a queue of its own in the kernel; it only costs mbufs
#define NIC_PACKET_N     1024u  // frames of 2 KiB in each ring of net_af_packet, in kernel memory
#define NIC_MBUF_BYTES   2560u  // with all that a mempool adds
#define NIC_XDP_FIRST_US 10000u // pause before the second attempt; each is twice as long
#define NIC_XDP_LAST_US  2560000u // 5 s in all; some milliseconds are usual on an idle machine
#define NIC_EAL_MIB      16u      // DPDK's own tables and the drivers' rings

struct nic {
    struct nic_name name;
    struct nic_info info;
    uint16_t port;
    bool attached, interrupts, started;
    struct rte_mempool *pool;
    int rx_fd;        // readable when a frame waits; -1 none.  The driver's, or our epoll
    bool rx_epoll;    // it is our epoll of the port's interrupt
    int multicast_fd; // holds the interface's membership; -1 none
    struct nic_host_fds fds_before;
    uint64_t drops, tx_full;
    uint64_t oversize; // received frames beyond our MTU, cut or whole
    uint32_t early_n;  // frames that nic_wait found while it went to sleep
    struct rte_mbuf *early[NIC_BURST];
    uint16_t tx_n;
    struct rte_mbuf *tx[NIC_BURST];
};

static uint16_t nic_ring(enum nic_kind kind)
{
    switch (kind) {
    case NIC_AF_XDP:
        return NIC_RING_XDP;
    case NIC_PCI:
        return NIC_RING_PCI;
    default:
        return NIC_RING_TAP;
    }
}

// nic_pool_n: what the caller may hold, and what the port's rings and our burst keep from it.
static uint32_t nic_pool_n(const struct nic_params *params)
{
    return params->mbufs + 2u * nic_ring(params->name.kind) + 2u * NIC_BURST;
}

// nic_fail makes the sentence for what DPDK gave no reason for but a line in its log.
static int nic_fail(const struct nic *nic, int err, const char *what, struct fault *fault)
{
    const char *said = nic_eal_said();
    err = err < 0 ? -err : EIO;
    return fault_set(fault, err, "port %s: %s: %s%s%s", nic->name.device, what,
                     strerrordesc_np(err) ? strerrordesc_np(err) : "unknown error",
                     said[0] ? "; DPDK says: " : "", said);
}

// nic_attach has DPDK's driver take the device.
static int nic_attach(struct nic *nic, struct fault *fault)
{
    char text[192] = "", name[NIC_NAME_MAX];
    uint8_t mac[6];
    const char *device = nic->name.device;

    switch (nic->name.kind) {
    case NIC_TAP:
        nic_host_mac(device, mac);
        (void)snprintf(text, sizeof(text), "net_tap0,iface=%s,mac=%02x:%02x:%02x:%02x:%02x:%02x",
                       device, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
        break;
    case NIC_AF_PACKET: // a block of one page each: no larger piece of kernel memory is needed
        (void)snprintf(text, sizeof(text),
                       "net_af_packet0,iface=%s,blocksz=4096,framesz=2048,framecnt=%u,qpairs=1",
                       device, NIC_PACKET_N);
        break;
    case NIC_AF_XDP: // without a budget, receiving from an empty queue may block for a second
        (void)snprintf(text, sizeof(text),
                       "net_af_xdp0,iface=%s,start_queue=0,queue_count=1,busy_budget=64", device);
        break;
    case NIC_PCI:
    case NIC_KIND_COUNT:
        (void)snprintf(text, sizeof(text), "%s", device);
        break;
    }
    (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(text, ","), text);

    int err = rte_eth_dev_get_port_by_name(name, &nic->port); // EAL attaches PCI devices itself
    if (err) {
        nic_eal_quiet(true);
        err = rte_dev_probe(text);
        nic_eal_quiet(false);
    }
    if (!err)
        err = rte_eth_dev_get_port_by_name(name, &nic->port);
    if (err)
        return nic_fail(nic, err, "DPDK's driver does not take it", fault);
    nic->attached = true;
    return 0;
}

// nic_configure asks for one queue each way, with the port's checksums and interrupts if it has
// them.
static int nic_configure(struct nic *nic, struct fault *fault)
{
    struct rte_eth_dev_info info;
    struct rte_eth_conf conf = {0};
    const uint64_t checksums = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;

    int err = rte_eth_dev_info_get(nic->port, &info);
    if (err)
        return nic_fail(nic, err, "it cannot be asked what it can do", fault);
    (void)snprintf(nic->info.driver, sizeof(nic->info.driver), "%s", info.driver_name);
    nic->info.rx_checksum = (info.rx_offload_capa & checksums) == checksums;
    conf.rxmode.offloads = nic->info.rx_checksum ? checksums : 0;

    conf.intr_conf.rxq = nic->name.kind == NIC_PCI;
    err = rte_eth_dev_configure(nic->port, 1, 1, &conf);
    if (err && conf.intr_conf.rxq) {
        conf.intr_conf.rxq = 0;
        err = rte_eth_dev_configure(nic->port, 1, 1, &conf);
    }
    if (err)
        return nic_fail(nic, err, "it cannot be configured", fault);
    nic->interrupts = conf.intr_conf.rxq;

    uint16_t rx = nic_ring(nic->name.kind), tx = rx;
    err = rte_eth_dev_adjust_nb_rx_tx_desc(nic->port, &rx, &tx);
    nic_eal_quiet(true);
    if (!err)
        err = rte_eth_tx_queue_setup(nic->port, 0, tx, (unsigned)SOCKET_ID_ANY, NULL);
    if (!err)
        err = rte_eth_rx_queue_setup(nic->port, 0, rx, (unsigned)SOCKET_ID_ANY, NULL, nic->pool);
    nic_eal_quiet(false);
    return err ? nic_fail(nic, err, "its queues cannot be made", fault) : 0;
}

static void nic_pool_add(struct rte_mempool *pool, void *bytes, struct rte_mempool_memhdr *piece,
                         unsigned index)
{
    (void)pool;
    (void)index;
    *(uint64_t *)bytes += piece->len;
}

// nic_pool_dense makes a pool whose mbufs lie one behind the other, without holes at the ends of
// pages, which only DMA needs: 2.4 KiB instead of 4 KiB each.  net_af_xdp relies on it: it
// registers as much memory as the mbufs have bytes, and the kernel swallows those that lie behind
// its end.
static struct rte_mempool *nic_pool_dense(uint32_t n, int socket)
{
    struct rte_mempool *pool = rte_mempool_create_empty(
        "nic", n, sizeof(struct rte_mbuf) + RTE_MBUF_DEFAULT_BUF_SIZE, NIC_CACHE,
        sizeof(struct rte_pktmbuf_pool_private), socket, RTE_MEMPOOL_F_NO_IOVA_CONTIG);
    if (!pool)
        return NULL;
    rte_pktmbuf_pool_init(pool, NULL);
    int made = rte_mempool_populate_default(pool);
    if (made < 0 || pool->nb_mem_chunks != 1) {
        rte_errno = made < 0 ? -made : ENOMEM;
        rte_mempool_free(pool);
        return NULL;
    }
    (void)rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
    return pool;
}

static int nic_pool_create(struct nic *nic, const struct nic_params *params, struct fault *fault)
{
    int socket = rte_eth_dev_socket_id(nic->port);
    uint32_t n = nic_pool_n(params);

    if (nic->name.kind == NIC_PCI)
        nic->pool =
            rte_pktmbuf_pool_create("nic", n, NIC_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, socket);
    else
        nic->pool = nic_pool_dense(n, socket);
    if (!nic->pool)
        return fault_set(fault, rte_errno ? rte_errno : ENOMEM,
                         "port %s: %u frames find no memory in one piece%s", nic->name.device, n,
                         params->huge_pages ? ": more huge pages (sysctl vm.nr_hugepages)" : "");
    rte_mempool_mem_iter(nic->pool, nic_pool_add, &nic->info.pool_bytes);
    return 0;
}

// nic_interrupt_open makes rx_fd of a PCI port's interrupt; without one the port is looked at every
// NIC_POLL_US.
static void nic_interrupt_open(struct nic *nic)
{
    nic->rx_fd = epoll_create1(EPOLL_CLOEXEC);
    if (nic->rx_fd < 0)
        return;
    if (rte_eth_dev_rx_intr_ctl_q(nic->port, 0, nic->rx_fd, RTE_INTR_EVENT_ADD, NULL) == 0 &&
        rte_eth_dev_rx_intr_enable(nic->port, 0) == 0) {
        (void)rte_eth_dev_rx_intr_disable(nic->port, 0);
        nic->rx_epoll = true;
        return;
    }
    (void)close(nic->rx_fd);
    nic->rx_fd = -1;
}

// nic_wake_find finds what nic_wait can sleep on.  The drivers of the kernel's interfaces offer no
// interrupts, but the socket or tun device that they read from is a file that can be polled.
static void nic_wake_find(struct nic *nic)
{
    if (nic->interrupts) {
        nic_interrupt_open(nic);
    } else {
        nic->rx_fd = nic_host_fds_frames(nic->name.kind, &nic->fds_before);
    }
    nic->info.rx_interrupts = nic->rx_fd >= 0;
}

// nic_hear has the port take what is for us: our MAC address and every multicast group, of which
// IPv6 neighbour discovery needs those that lwIP joins.
static void nic_hear(struct nic *nic)
{
    if (nic->name.kind == NIC_PCI) {
        if (rte_eth_allmulticast_enable(nic->port) != 0)
            (void)rte_eth_promiscuous_enable(nic->port); // the filter drops what is for others
    } else if (nic->name.kind != NIC_TAP) {
        nic->multicast_fd = nic_host_multicast(nic->name.device);
        if (nic->name.kind == NIC_AF_PACKET && nic->rx_fd >= 0)
            nic_host_incoming(nic->rx_fd);
    }
}

static int nic_address(struct nic *nic, struct fault *fault)
{
    struct rte_ether_addr mac;
    uint32_t mtu = 0;
    uint16_t port_mtu = NIC_MTU_MAX;

    int err = rte_eth_macaddr_get(nic->port, &mac);
    if (err)
        return nic_fail(nic, err, "it has no MAC address", fault);
    memcpy(nic->info.mac, mac.addr_bytes, sizeof(nic->info.mac));
    if (nic->name.kind == NIC_TAP) // the kernel's end has this one
        nic->info.mac[5] ^= 1u;
    if (nic->name.kind == NIC_PCI)
        mtu = rte_eth_dev_get_mtu(nic->port, &port_mtu) == 0 ? port_mtu : 0;
    else
        mtu = nic_host_mtu(nic->name.device);
    nic->info.mtu = (uint16_t)(mtu > 0 && mtu < NIC_MTU_MAX ? mtu : NIC_MTU_MAX);
    return 0;
}

static int nic_start(struct nic *nic, const struct nic_params *params, struct fault *fault)
{
    nic_host_fds_list(nic->name.kind, &nic->fds_before);
    int err = nic_attach(nic, fault);
    if (!err)
        err = nic_pool_create(nic, params, fault);
    if (!err)
        err = nic_configure(nic, fault);
    if (err)
        return err;
    nic_eal_quiet(true);
    err = rte_eth_dev_start(nic->port);
    nic_eal_quiet(false);
    if (err)
        return nic_fail(nic, err, "it does not start", fault);
    nic->started = true;
    nic_wake_find(nic);
    nic_hear(nic);
    (void)rte_eth_stats_reset(nic->port);
    return nic_address(nic, fault);
}

// nic_detach gives the device back.  What a driver forgot to close is closed here: net_af_xdp of
// DPDK 22.11 never closes its socket, and the interface would stay taken.
static void nic_detach(struct nic *nic)
{
    struct rte_eth_dev_info info = {0};

    (void)rte_eth_dev_info_get(nic->port, &info);
    if (nic->started)
        (void)rte_eth_dev_stop(nic->port);
    (void)rte_eth_dev_close(nic->port);
    if (info.device)
        (void)rte_dev_remove(info.device);
    nic_host_fds_close(nic->name.kind, &nic->fds_before);
}

void nic_close(struct nic **nic)
{
    struct nic *n = *nic;

    if (!n)
        return;
    for (uint16_t i = 0; i < n->tx_n; i++)
        rte_pktmbuf_free(n->tx[i]);
    for (uint32_t i = 0; i < n->early_n; i++)
        rte_pktmbuf_free(n->early[i]);
    if (n->rx_epoll) {
        (void)rte_eth_dev_rx_intr_ctl_q(n->port, 0, n->rx_fd, RTE_INTR_EVENT_DEL, NULL);
        (void)close(n->rx_fd);
    }
    if (n->multicast_fd >= 0)
        (void)close(n->multicast_fd);
    if (n->attached)
        nic_detach(n);
    rte_mempool_free(n->pool);
    free(n);
    *nic = NULL;
}

static int nic_try(const struct nic_params *params, struct nic **ret, struct fault *fault)
{
    struct nic *nic = calloc(1, sizeof(*nic));

    if (!nic)
        return fault_set(fault, ENOMEM, "port %s: no memory", params->name.device);
    nic->name = params->name;
    nic->rx_fd = nic->multicast_fd = -1;
    nic_eal_said_clear();
    int err = nic_start(nic, params, fault);
    if (err) {
        nic_close(&nic);
        return err;
    }
    *ret = nic;
    return 0;
}

int nic_open(const struct nic_params *params, struct nic **ret, struct fault *fault)
{
    uint64_t bytes = (uint64_t)nic_pool_n(params) * NIC_MBUF_BYTES;
    bool pci = params->name.kind == NIC_PCI;
    struct nic_check check = {.name = params->name,
                              .huge_pages = params->huge_pages,
                              .bytes = bytes,
                              .root = "",
                              .plugins = nic_eal_plugins()};
    struct nic_eal eal = {.pci = pci ? params->name.device : NULL,
                          .huge_pages = params->huge_pages,
                          .megabytes = (uint32_t)(bytes >> 20) + NIC_EAL_MIB};

    int err = nic_check(&check, fault);
    if (!err)
        err = nic_eal_start(&eal, fault);
    if (err)
        return err;
    // The kernel frees the queue of a closed XDP socket in the background, after its process ended.
    err = nic_try(params, ret, fault);
    for (unsigned us = NIC_XDP_FIRST_US;
         err && params->name.kind == NIC_AF_XDP && us <= NIC_XDP_LAST_US; us *= 2) {
        (void)nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000L}, NULL);
        err = nic_try(params, ret, fault);
    }
    return err;
}

const struct nic_info *nic_info(const struct nic *nic)
{
    return &nic->info;
}

// nic_frames_make describes mbufs as frames, and frees those that cannot be ours.
static uint32_t nic_frames_make(struct nic *nic, struct rte_mbuf **burst, uint32_t n,
                                struct nic_frame *frames)
{
    uint32_t made = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct rte_mbuf *m = burst[i];
        if (m->nb_segs != 1 || rte_pktmbuf_data_len(m) > nic->info.mtu + NIC_HEADER_MAX) {
            nic->oversize++;
            rte_pktmbuf_free(m);
            continue;
        }
        bool bad = (m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_BAD ||
                   (m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_BAD;
        frames[made++] = (struct nic_frame){.data = rte_pktmbuf_mtod(m, uint8_t *),
                                            .n = rte_pktmbuf_data_len(m),
                                            .flags = bad ? NIC_FRAME_BAD : 0,
                                            .handle = m};
    }
    return made;
}

uint32_t nic_receive(struct nic *nic, struct nic_frame *frames, uint32_t max)
{
    struct rte_mbuf *burst[NIC_BURST];
    uint32_t n = max < NIC_BURST ? max : NIC_BURST;

    if (nic->early_n > 0) {
        n = n < nic->early_n ? n : nic->early_n;
        memcpy(burst, nic->early, n * sizeof(burst[0]));
        nic->early_n -= n;
        memmove(nic->early, nic->early + n, nic->early_n * sizeof(burst[0]));
    } else {
        n = rte_eth_rx_burst(nic->port, 0, burst, (uint16_t)n);
    }
    return nic_frames_make(nic, burst, n, frames);
}

void nic_free(struct nic *nic, void *handle)
{
    (void)nic;
    rte_pktmbuf_free(handle);
}

uint32_t nic_mbufs_free(const struct nic *nic)
{
    return rte_mempool_avail_count(nic->pool);
}

void nic_flush(struct nic *nic)
{
    uint16_t sent = 0;

    if (nic->tx_n == 0)
        return;
    sent = rte_eth_tx_burst(nic->port, 0, nic->tx, nic->tx_n);
    nic->tx_n = (uint16_t)(nic->tx_n - sent);
    memmove(nic->tx, nic->tx + sent, nic->tx_n * sizeof(nic->tx[0]));
}

int nic_send(struct nic *nic, const void *const *parts, const uint16_t *parts_bytes,
             uint32_t parts_n)
{
    uint32_t bytes = 0;

    for (uint32_t i = 0; i < parts_n; i++)
        bytes += parts_bytes[i];
    if (bytes == 0 || bytes > nic->info.mtu + (uint32_t)RTE_ETHER_HDR_LEN)
        return -EMSGSIZE;
    if (nic->tx_n == NIC_BURST)
        nic_flush(nic);
    struct rte_mbuf *m = nic->tx_n < NIC_BURST ? rte_pktmbuf_alloc(nic->pool) : NULL;
    if (!m) {
        nic->tx_full++;
        return -ENOBUFS;
    }
    uint8_t *at = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)bytes);
    assert(at); // one mbuf holds NIC_MTU_MAX
    for (uint32_t i = 0; i < parts_n; i++) {
        memcpy(at, parts[i], parts_bytes[i]);
        at += parts_bytes[i];
    }
    nic->tx[nic->tx_n++] = m;
    if (nic->tx_n == NIC_BURST)
        nic_flush(nic);
    return 0;
}

// nic_waits_for_frames says whether rx_fd may be slept on: with the pool all but empty, frames stay
// where they are (net_af_xdp takes a burst or nothing), and the file is readable all the time.
static bool nic_waits_for_frames(const struct nic *nic)
{
    return nic->rx_fd >= 0 && rte_mempool_avail_count(nic->pool) >= NIC_BURST;
}

// nic_arm switches the interrupt on, then looks once more, since what came before it does not
// interrupt; false if there was something.
static bool nic_arm(struct nic *nic)
{
    if (nic->early_n == 0) {
        (void)rte_eth_dev_rx_intr_enable(nic->port, 0);
        nic->early_n = rte_eth_rx_burst(nic->port, 0, nic->early, NIC_BURST);
    }
    return nic->early_n == 0;
}

static void nic_disarm(struct nic *nic)
{
    struct rte_epoll_event event;

    (void)rte_epoll_wait(nic->rx_fd, &event, 1, 0); // reads what the interrupt wrote
    (void)rte_eth_dev_rx_intr_disable(nic->port, 0);
}

void nic_wait(struct nic *nic, int wake_fd, uint64_t timeout_us)
{
    bool sleeps = nic_waits_for_frames(nic);
    struct pollfd fds[2] = {{.fd = wake_fd, .events = POLLIN},
                            {.fd = nic->rx_fd, .events = POLLIN}};
    uint64_t us = sleeps || timeout_us < NIC_POLL_US ? timeout_us : NIC_POLL_US;

    if (nic->rx_epoll && sleeps && !nic_arm(nic))
        us = 0;
    struct timespec time = {.tv_sec = (time_t)(us / 1000000),
                            .tv_nsec = (long)(us % 1000000) * 1000};
    int n = ppoll(fds, sleeps ? 2 : 1, &time, NULL);
    if (nic->rx_epoll && sleeps)
        nic_disarm(nic);
    if (n > 0 && sleeps && fds[1].revents & (POLLERR | POLLHUP | POLLNVAL)) {
        // The interface went down or away: readable for ever, without a frame.
        nic_host_error_clear(nic->rx_fd);
        time = (struct timespec){.tv_nsec = NIC_POLL_US * 1000};
        (void)ppoll(fds, 1, &time, NULL);
    }
}

void nic_stats(struct nic *nic, struct nic_stats *ret)
{
    struct rte_eth_stats stats = {0};

    (void)rte_eth_stats_get(nic->port, &stats);
    if (nic->name.kind == NIC_AF_PACKET && nic->rx_fd >= 0)
        nic->drops += nic_host_drops(nic->rx_fd);
    *ret = (struct nic_stats){.rx_frames = stats.ipackets,
                              .rx_bytes = stats.ibytes,
                              .tx_frames = stats.opackets,
                              .tx_bytes = stats.obytes,
                              .rx_missed = stats.imissed + stats.rx_nombuf + nic->drops,
                              .rx_errors = stats.ierrors + nic->oversize,
                              .tx_full = nic->tx_full};
}

void nic_link(struct nic *nic, struct nic_link *ret)
{
    struct rte_eth_link link = {0};
    bool known = rte_eth_link_get_nowait(nic->port, &link) == 0;

    *ret = (struct nic_link){
        .up = known && link.link_status == RTE_ETH_LINK_UP,
        .full_duplex = known && link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX,
        .mbits = known && link.link_speed != RTE_ETH_SPEED_NUM_UNKNOWN ? link.link_speed : 0};
    if (nic->name.kind != NIC_PCI) { // such drivers say "10 Gbit/s, up" whatever happens
        ret->up = nic_host_up(nic->name.device);
        ret->mbits = nic_host_mbits(nic->name.device);
    }
}
