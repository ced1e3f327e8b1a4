// SPDX-License-Identifier: MIT
#include "io/net/tcp.h"

#include "base/clock.h"
#include "io/net/dhcp.h"
#include "io/net/tcp_address.h"
#include "io/net/tcp_link.h"
#include "io/net/wire.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <lwip/init.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/timeouts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SWEEP_US      250000u // lwIP's own TCP timer
#define TIME_WAIT_MAX 1024u   // 300 KiB, and what a SYN is compared with
#define OOSEQ_MAX     64u     // segments a peer may send ahead of a lost one: more than a window
#define COPIES_MAX    16384u  // frames that lwIP keeps as copies: 25 MB

// A peer that is gone is noticed after two minutes of silence.
#define KEEPALIVE_IDLE_MS 60000u
#define KEEPALIVE_MS      10000u
#define KEEPALIVE_PROBES  6u

static_assert(TCP_SEND_BYTES == TCP_SND_BUF, "tcp.h says what lwIP was built with");
static_assert(FILTER_ADDRESSES6 == LWIP_IPV6_NUM_ADDRESSES, "every address of lwIP is known");
static_assert(FILTER_PORTS_MAX == TCP_LISTEN_MAX, "the filter knows all ports");

const char *const tcp_end_label[TCP_END_COUNT] = {
    [TCP_END_CLOSED] = "closed",
    [TCP_END_RESET] = "reset",
    [TCP_END_TIMEOUT] = "timeout",
};

struct tcp_conn {
    struct tcp *tcp;
    struct tcp_pcb *pcb; // NULL: the place is free
    ip_addr_t address;   // of the peer, as connections are counted
    uint32_t unconsumed;
    uint32_t next_free;
    bool dirty;    // written, not yet given to the NIC
    bool starved;  // a write found no memory
    bool finished; // FIN was queued
};

struct tcp_listen {
    struct tcp *tcp;
    struct tcp_pcb *pcb;
};

struct tcp {
    struct tcp_params params;
    struct tcp_address address;
    struct dhcp dhcp; // with address.dhcp
    struct filter *filter;
    struct tcp_link link;
    bool linked;
    struct tcp_listen listen[TCP_LISTEN_MAX];
    struct tcp_conn *conns; // [connections_max]
    uint32_t *dirty;        // [dirty_n] places
    uint32_t dirty_n, free_first, connections, starved_n;
    const struct tcp_pcb *current; // whose callback of lwIP runs
    bool current_aborted;
    uint64_t sweep_us;
    uint64_t refused_places, refused_address, half_open_dropped;
};

// lwIP has one state a process, so there is one of us: tcp_create refuses a second.
static struct tcp *tcp_only;

/* ---------------------------------------------------------------- what lwIP has */

struct census {
    uint32_t half_open, orphans, time_wait;
    struct tcp_pcb *half_open_oldest, *orphan_oldest;
};

static void older(struct tcp_pcb **oldest, struct tcp_pcb *pcb)
{
    if (!*oldest || tcp_ticks - pcb->tmr >= tcp_ticks - (*oldest)->tmr)
        *oldest = pcb;
}

static struct census census_take(void)
{
    struct census c = {0};
    for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next) {
        if (pcb->state == SYN_RCVD) {
            c.half_open++;
            older(&c.half_open_oldest, pcb);
        } else if (!pcb->callback_arg) {
            c.orphans++;
            older(&c.orphan_oldest, pcb);
        }
    }
    for (const struct tcp_pcb *pcb = tcp_tw_pcbs; pcb; pcb = pcb->next)
        c.time_wait++;
    return c;
}

// time_wait_trim keeps the newest; lwIP puts them in front.
static void time_wait_trim(void)
{
    struct tcp_pcb *pcb = tcp_tw_pcbs, *next;
    for (uint32_t i = 0; pcb; i++, pcb = next) {
        next = pcb->next;
        if (i >= TIME_WAIT_MAX)
            tcp_abort(pcb);
    }
}

// ooseq_trim frees what came ahead of lost segments where it is more than `max` of them: tiny
// segments cost far more than their bytes, which are all that the window bounds.
static void ooseq_trim(uint32_t max)
{
    for (struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next) {
        uint32_t n = 0;
        for (const struct tcp_seg *seg = pcb->ooseq; seg; seg = seg->next)
            n++;
        if (n > max)
            tcp_free_ooseq(pcb);
    }
}

static void pressure_tell(struct tcp *tcp, const struct census *c)
{
    filter_pressure(tcp->filter, c->half_open * 100 / tcp->params.half_open_max);
}

static void sweep(struct tcp *tcp)
{
    struct census c = census_take();

    // As many as there may be connections are finished by lwIP alone.
    while (c.orphans > tcp->params.connections_max) {
        tcp_abort(c.orphan_oldest);
        c = census_take();
    }
    time_wait_trim();
    ooseq_trim(OOSEQ_MAX);
    pressure_tell(tcp, &c);
}

/* ---------------------------------------------------------------- places */

// peer_group is the address as connections are counted: a host of IPv6 has 2^64 addresses.
static ip_addr_t peer_group(const ip_addr_t *address)
{
    ip_addr_t group = *address;
    if (IP_IS_V6(address) && !ip6_addr_islinklocal(ip_2_ip6(address))) {
        ip_2_ip6(&group)->addr[2] = 0;
        ip_2_ip6(&group)->addr[3] = 0;
    }
    return group;
}

static struct tcp_conn *place_take(struct tcp *tcp, const ip_addr_t *address)
{
    ip_addr_t group = peer_group(address);
    uint32_t same = 0;

    if (tcp->free_first == tcp->params.connections_max) {
        tcp->refused_places++;
        return NULL;
    }
    for (uint32_t i = 0; i < tcp->params.connections_max; i++)
        same += tcp->conns[i].pcb && ip_addr_cmp(&tcp->conns[i].address, &group);
    if (same >= tcp->params.per_address_max) {
        tcp->refused_address++;
        return NULL;
    }
    struct tcp_conn *conn = &tcp->conns[tcp->free_first];
    tcp->free_first = conn->next_free;
    conn->address = group;
    conn->unconsumed = 0;
    conn->starved = conn->finished = false;
    tcp->connections++;
    return conn;
}

static uint32_t place_of(const struct tcp_conn *conn)
{
    return (uint32_t)(conn - conn->tcp->conns);
}

static void starved_set(struct tcp_conn *conn, bool starved)
{
    conn->tcp->starved_n += (uint32_t)starved - (uint32_t)conn->starved;
    conn->starved = starved;
}

// place_free: the pcb is gone, or goes its own way.  dirty stays: the list has the place once.
static void place_free(struct tcp_conn *conn)
{
    struct tcp *tcp = conn->tcp;

    assert(conn->pcb);
    starved_set(conn, false);
    conn->pcb = NULL;
    conn->next_free = tcp->free_first;
    tcp->free_first = place_of(conn);
    tcp->connections--;
}

static struct tcp_pcb *pcb_leave(struct tcp_conn *conn)
{
    struct tcp_pcb *pcb = conn->pcb;
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_err(pcb, NULL);
    place_free(conn);
    return pcb;
}

/* ---------------------------------------------------------------- callbacks of lwIP */

// address_text writes it as all others do; lwIP's own function has capital letters.
static void address_text(const ip_addr_t *address, char text[CONNS_ADDRESS_TEXT])
{
    bool v6 = IP_IS_V6(address);
    (void)inet_ntop(v6 ? AF_INET6 : AF_INET, ip_2_ip6(address)->addr, text, CONNS_ADDRESS_TEXT);
}

static void callback_begin(struct tcp *tcp, const struct tcp_pcb *pcb)
{
    tcp->current = pcb;
    tcp->current_aborted = false;
}

// callback_end: lwIP must be told when the connection that it works on is gone.
static err_t callback_end(struct tcp *tcp)
{
    tcp->current = NULL;
    return tcp->current_aborted ? ERR_ABRT : ERR_OK;
}

static void on_error(void *arg, err_t err)
{
    struct tcp_conn *conn = arg;
    struct tcp *tcp = conn->tcp;
    enum tcp_end why = err == ERR_RST    ? TCP_END_RESET
                       : err == ERR_CLSD ? TCP_END_CLOSED
                                         : TCP_END_TIMEOUT;
    uint32_t place = place_of(conn);
    place_free(conn); // the pcb is freed already
    tcp->params.ops.lost(tcp->params.user, place, why);
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t n)
{
    struct tcp_conn *conn = arg;
    struct tcp *tcp = conn->tcp;

    (void)n;
    callback_begin(tcp, pcb);
    starved_set(conn, false);
    tcp->params.ops.sendable(tcp->params.user, place_of(conn));
    return callback_end(tcp);
}

// peer_ended: with both FINs sent, lwIP frees the pcb one day without a word: we part now.
static void peer_ended(struct tcp *tcp, struct tcp_conn *conn, const struct tcp_pcb *pcb)
{
    uint32_t place = place_of(conn);

    tcp->params.ops.ended(tcp->params.user, place);
    if (conn->pcb != pcb || !conn->finished)
        return;
    (void)tcp_close(pcb_leave(conn));
    tcp->params.ops.lost(tcp->params.user, place, TCP_END_CLOSED);
}

static err_t on_received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct tcp_conn *conn = arg;
    struct tcp *tcp = conn->tcp;

    (void)err;
    callback_begin(tcp, pcb);
    for (const struct pbuf *at = p; at && conn->pcb == pcb; at = at->next) {
        conn->unconsumed += at->len;
        if (at->len)
            tcp->params.ops.received(tcp->params.user, place_of(conn), at->payload, at->len);
    }
    if (p)
        pbuf_free(p);
    else
        peer_ended(tcp, conn, pcb);
    return callback_end(tcp);
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct tcp_listen *listen = arg;
    struct tcp *tcp = listen->tcp;
    char address[CONNS_ADDRESS_TEXT] = "";

    if (err != ERR_OK || !pcb)
        return ERR_VAL;
    struct tcp_conn *conn = place_take(tcp, &pcb->remote_ip);
    if (!conn) {
        tcp_abort(pcb);
        return ERR_ABRT;
    }
    conn->pcb = pcb;
    tcp_arg(pcb, conn);
    tcp_recv(pcb, on_received);
    tcp_sent(pcb, on_sent);
    tcp_err(pcb, on_error);
    tcp_nagle_disable(pcb);
    ip_set_option(pcb, SOF_KEEPALIVE);
    pcb->keep_idle = KEEPALIVE_IDLE_MS;
    pcb->keep_intvl = KEEPALIVE_MS;
    pcb->keep_cnt = KEEPALIVE_PROBES;
    address_text(&pcb->remote_ip, address);

    callback_begin(tcp, pcb);
    bool taken = tcp->params.ops.accepted(tcp->params.user, place_of(conn),
                                          (uint32_t)(listen - tcp->listen), address);
    if (!taken && conn->pcb == pcb) {
        tcp_abort(pcb_leave(conn));
        tcp->current_aborted = true;
    }
    return callback_end(tcp);
}

/* ---------------------------------------------------------------- SYNs */

// time_wait_reopen: a peer may open the same connection again, if its numbers went on (RFC 1122,
// 4.2.2.13); lwIP would refuse it for two minutes.
static void time_wait_reopen(const uint8_t *frame, const struct wire *wire)
{
    const uint8_t *tcp = frame + wire->at;
    struct tcp_pcb *pcb = tcp_tw_pcbs;

    for (; pcb; pcb = pcb->next) {
        const ip_addr_t *from = &pcb->remote_ip;
        const void *address = IP_IS_V6(from) ? (const void *)ip_2_ip6(from)->addr
                                             : (const void *)&ip_2_ip4(from)->addr;
        if (pcb->remote_port == wire_u16(tcp) && pcb->local_port == wire_u16(tcp + 2) &&
            IP_IS_V6(from) == (wire->address_bytes == 16) &&
            memcmp(address, frame + wire->source, wire->address_bytes) == 0)
            break;
    }
    if (pcb && TCP_SEQ_GT(wire_u32(tcp + 4), pcb->rcv_nxt))
        tcp_abort(pcb);
}

static void syn_prepare(struct tcp *tcp, const struct nic_frame *frame)
{
    struct wire wire;

    if (!wire_parse(frame->data, frame->n, &wire) || wire.protocol != WIRE_PROTOCOL_TCP ||
        !(frame->data[wire.at + 13] & WIRE_SYN))
        return;
    time_wait_reopen(frame->data, &wire);
    struct census c = census_take();
    if (c.half_open >= tcp->params.half_open_max) {
        tcp_abandon(c.half_open_oldest, 0);
        tcp->half_open_dropped++;
    }
    pressure_tell(tcp, &c);
}

/* ---------------------------------------------------------------- IPv4 addresses */

static void address4_set(struct tcp *tcp, const uint8_t address[4], const uint8_t mask[4],
                         const uint8_t gateway[4])
{
    ip4_addr_t a, m, g;
    memcpy(&a.addr, address, 4);
    memcpy(&m.addr, mask, 4);
    memcpy(&g.addr, gateway, 4);
    netif_set_addr(tcp->link.netif, &a, &m, &g);
}

// lease_apply: without a lease there is no address, and what was connected through it is reset.
static void lease_apply(struct tcp *tcp)
{
    const struct dhcp_lease *lease = &tcp->dhcp.lease;
    bool own_gateway = memcmp(tcp->address.gateway, (const uint8_t[4]){0}, 4) != 0;
    address4_set(tcp, lease->address, lease->mask,
                 own_gateway ? tcp->address.gateway : lease->gateway);
}

static void dhcp_do(struct tcp *tcp, uint64_t now_us)
{
    uint8_t frame[DHCP_FRAME_BYTES];
    const void *part = frame;
    uint16_t part_n = DHCP_FRAME_BYTES;
    size_t n = 0;

    if (dhcp_run(&tcp->dhcp, now_us, frame, &n))
        lease_apply(tcp);
    if (n)
        (void)nic_send(tcp->params.nic, &part, &part_n, 1); // it is sent again
}

// frame_is_udp: of UDP the filter passes only what is for our DHCP client.
static bool frame_is_udp(const struct nic_frame *frame)
{
    return wire_u16(frame->data + 12) == WIRE_TYPE_IP4 &&
           frame->data[WIRE_ETHERNET + 9] == WIRE_PROTOCOL_UDP;
}

/* ---------------------------------------------------------------- frames */

void tcp_take(struct tcp *tcp, const struct nic_frame *frame, uint64_t now_us)
{
    uint8_t reply[FILTER_REPLY_MAX];
    size_t reply_n = 0;
    enum filter_verdict verdict = FILTER_CHECKSUM;

    if (frame->flags & NIC_FRAME_BAD)
        filter_drop(tcp->filter, verdict);
    else
        verdict = filter_judge(tcp->filter, frame->data, frame->n, now_us, reply, &reply_n);
    if (reply_n) {
        const void *part = reply;
        uint16_t part_n = (uint16_t)reply_n;
        (void)nic_send(tcp->params.nic, &part, &part_n, 1); // the peer asks again
    }
    if (verdict != FILTER_PASS) {
        nic_free(tcp->params.nic, frame->handle);
        return;
    }
    if (frame_is_udp(frame)) {
        if (dhcp_input(&tcp->dhcp, frame->data, frame->n, now_us))
            lease_apply(tcp);
        nic_free(tcp->params.nic, frame->handle);
        return;
    }
    syn_prepare(tcp, frame);
    if (tcp->link.copies >= COPIES_MAX)
        ooseq_trim(0);
    tcp_link_input(&tcp->link, frame);
}

/* ---------------------------------------------------------------- run */

static void addresses_tell(struct tcp *tcp)
{
    const struct netif *netif = tcp->link.netif;
    uint8_t address[16];

    memcpy(address, &netif_ip4_addr(netif)->addr, 4);
    filter_address4_set(tcp->filter, address);
    for (uint32_t i = 0; i < LWIP_IPV6_NUM_ADDRESSES; i++) {
        uint8_t state = netif_ip6_addr_state(netif, i);
        memset(address, 0, sizeof(address));
        if (ip6_addr_isvalid(state) || ip6_addr_istentative(state))
            memcpy(address, netif_ip6_addr(netif, i)->addr, sizeof(address));
        filter_address6_set(tcp->filter, i, address, ip6_addr_isvalid(state));
    }
}

static void flush_dirty(struct tcp *tcp)
{
    for (uint32_t i = 0; i < tcp->dirty_n; i++) {
        struct tcp_conn *conn = &tcp->conns[tcp->dirty[i]];
        conn->dirty = false;
        if (conn->pcb)
            (void)tcp_output(conn->pcb); // what cannot leave now does with lwIP's timer
    }
    tcp->dirty_n = 0;
}

// starved_retry: who found no memory and has nothing in flight is not called by lwIP.
static void starved_retry(struct tcp *tcp)
{
    for (uint32_t i = 0; tcp->starved_n && i < tcp->params.connections_max; i++) {
        struct tcp_conn *conn = &tcp->conns[i];
        if (!conn->starved)
            continue;
        starved_set(conn, false);
        tcp->params.ops.sendable(tcp->params.user, i);
    }
}

uint64_t tcp_run(struct tcp *tcp, uint64_t now_us)
{
    uint64_t due = UINT64_MAX;

    sys_check_timeouts();
    if (tcp->address.dhcp) {
        dhcp_do(tcp, now_us);
        due = dhcp_due_us(&tcp->dhcp);
    }
    if (now_us >= tcp->sweep_us) {
        tcp->sweep_us = now_us + SWEEP_US;
        sweep(tcp);
        starved_retry(tcp);
    }
    addresses_tell(tcp);
    flush_dirty(tcp);
    tcp_link_run(&tcp->link);

    uint64_t wait = (uint64_t)sys_timeouts_sleeptime() * 1000;
    due = due < tcp->sweep_us ? due : tcp->sweep_us;
    uint64_t limit = due > now_us ? due - now_us : 0;
    return wait < limit ? wait : limit;
}

/* ---------------------------------------------------------------- connections */

static struct tcp_conn *conn_at(const struct tcp *tcp, uint32_t conn)
{
    assert(conn < tcp->params.connections_max);
    assert(tcp->conns[conn].pcb);
    return &tcp->conns[conn];
}

static bool writable(const struct tcp_conn *conn)
{
    const struct tcp_pcb *pcb = conn->pcb;
    return !conn->finished && (pcb->state == ESTABLISHED || pcb->state == CLOSE_WAIT);
}

// pcb_space: lwIP counts bytes and segments.
static size_t pcb_space(const struct tcp_pcb *pcb)
{
    size_t segments =
        pcb->snd_queuelen < TCP_SND_QUEUELEN ? TCP_SND_QUEUELEN - pcb->snd_queuelen : 0u;
    size_t bytes = segments * pcb->mss;
    return bytes < pcb->snd_buf ? bytes : pcb->snd_buf;
}

size_t tcp_conn_space(const struct tcp *tcp, uint32_t conn)
{
    const struct tcp_conn *c = conn_at(tcp, conn);
    return writable(c) ? pcb_space(c->pcb) : 0;
}

size_t tcp_conn_write(struct tcp *tcp, uint32_t conn, const void *bytes, size_t n)
{
    struct tcp_conn *c = conn_at(tcp, conn);
    const uint8_t *at = bytes;
    size_t left = n;

    if (!writable(c))
        return 0;
    for (size_t piece = left; left && piece;) {
        size_t space = pcb_space(c->pcb);
        piece = piece < space ? piece : space;
        piece = piece < left ? piece : left;
        if (piece && tcp_write(c->pcb, at, (u16_t)piece, TCP_WRITE_FLAG_COPY) != ERR_OK) {
            piece /= 2; // without memory, or in more segments than we thought
            continue;
        }
        at += piece;
        left -= piece;
    }
    if (left && !c->pcb->snd_queuelen)
        starved_set(c, true);
    if (left < n && !c->dirty) {
        c->dirty = true;
        tcp->dirty[tcp->dirty_n++] = conn;
    }
    return n - left;
}

void tcp_conn_consumed(struct tcp *tcp, uint32_t conn, size_t n)
{
    struct tcp_conn *c = conn_at(tcp, conn);
    assert(n <= c->unconsumed);
    c->unconsumed -= (uint32_t)n;
    tcp_recved(c->pcb, (u16_t)n);
}

void tcp_conn_shutdown(struct tcp *tcp, uint32_t conn)
{
    struct tcp_conn *c = conn_at(tcp, conn);
    if (!writable(c))
        return;
    c->finished = true;
    (void)tcp_shutdown(c->pcb, 0, 1); // without memory lwIP tries again
}

void tcp_conn_close(struct tcp *tcp, uint32_t conn)
{
    (void)tcp_close(pcb_leave(conn_at(tcp, conn)));
}

void tcp_conn_abort(struct tcp *tcp, uint32_t conn)
{
    struct tcp_pcb *pcb = pcb_leave(conn_at(tcp, conn));
    if (pcb == tcp->current)
        tcp->current_aborted = true;
    tcp_abort(pcb);
}

size_t tcp_conn_unacked(const struct tcp *tcp, uint32_t conn)
{
    return TCP_SND_BUF - conn_at(tcp, conn)->pcb->snd_buf;
}

/* ---------------------------------------------------------------- start and end */

int tcp_params_check(const struct tcp_params *params, struct fault *fault)
{
    struct tcp_address address;
    return tcp_address_parse(params->address, params->gateway, params->address6, &address, fault);
}

static int listen_all(struct tcp *tcp)
{
    for (uint32_t i = 0; i < tcp->params.ports_n; i++) {
        struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
        if (!pcb)
            return -ENOMEM;
        tcp->listen[i] = (struct tcp_listen){.tcp = tcp, .pcb = pcb};
        if (tcp_bind(pcb, IP_ANY_TYPE, tcp->params.ports[i]) != ERR_OK)
            return -EADDRINUSE;
        pcb = tcp_listen(pcb);
        if (!pcb)
            return -ENOMEM;
        tcp->listen[i].pcb = pcb;
        tcp_arg(pcb, &tcp->listen[i]);
        tcp_accept(pcb, on_accept);
    }
    return 0;
}

static void addresses_set(struct tcp *tcp)
{
    struct netif *netif = tcp->link.netif;
    const struct tcp_address *a = &tcp->address;

    if (a->has4)
        address4_set(tcp, a->address4, a->mask, a->gateway);
    if (a->has6) {
        ip6_addr_t address = {0};
        memcpy(address.addr, a->address6, 16);
        netif_ip6_addr_set(netif, 1, &address);
        netif_ip6_addr_set_state(netif, 1, IP6_ADDR_TENTATIVE);
    }
    netif_set_ip6_autoconfig_enabled(netif, a->slaac);
}

static int places_make(struct tcp *tcp)
{
    uint32_t n = tcp->params.connections_max;

    tcp->conns = calloc(n, sizeof(*tcp->conns));
    tcp->dirty = calloc(n, sizeof(*tcp->dirty));
    if (!tcp->conns || !tcp->dirty)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        tcp->conns[i] = (struct tcp_conn){.tcp = tcp, .next_free = i + 1};
    return 0;
}

static int parts_make(struct tcp *tcp)
{
    struct filter_params filter = {.ports_n = tcp->params.ports_n,
                                   .dhcp = tcp->address.dhcp,
                                   .syn_second = tcp->params.syn_second};
    uint64_t secret[6];

    if (getrandom(secret, sizeof(secret), 0) != (ssize_t)sizeof(secret))
        return -EIO;
    memcpy(filter.mac, nic_info(tcp->params.nic)->mac, sizeof(filter.mac));
    memcpy(filter.ports, tcp->params.ports, sizeof(filter.ports));
    memcpy(filter.secret, secret, sizeof(filter.secret));
    dhcp_init(&tcp->dhcp, filter.mac, secret + 4, clock_us());
    int err = places_make(tcp);
    if (!err)
        err = filter_create(&filter, &tcp->filter);
    if (!err)
        err = tcp_link_init(&tcp->link, tcp->params.nic, secret + 2,
                            tcp->params.connections_max + tcp->params.half_open_max);
    tcp->linked = !err;
    return err ? err : listen_all(tcp);
}

int tcp_create(const struct tcp_params *params, struct tcp **ret, struct fault *fault)
{
    static bool started; // lwIP is started once

    assert(params->connections_max && params->half_open_max);
    assert(params->ports_n <= TCP_LISTEN_MAX);
    if (tcp_only)
        return fault_set(fault, EBUSY, "lwIP has one state a process, which is in use");
    struct tcp *tcp = calloc(1, sizeof(*tcp));
    if (!tcp)
        return fault_set(fault, ENOMEM, "no memory for TCP");
    tcp->params = *params;
    int err =
        tcp_address_parse(params->address, params->gateway, params->address6, &tcp->address, fault);
    if (!err) {
        if (!started)
            lwip_init();
        started = true;
        err = parts_make(tcp);
        if (err)
            (void)fault_set(fault, -err, "cannot start TCP: %s", strerror(-err));
    }
    if (err) {
        tcp_destroy(&tcp);
        return err;
    }
    addresses_set(tcp);
    addresses_tell(tcp);
    tcp_only = tcp;
    *ret = tcp;
    return 0;
}

void tcp_destroy(struct tcp **ptcp)
{
    struct tcp *tcp = *ptcp;

    if (!tcp)
        return;
    for (uint32_t i = 0; i < TCP_LISTEN_MAX; i++) {
        if (tcp->listen[i].pcb)
            (void)tcp_close(tcp->listen[i].pcb);
    }
    for (uint32_t i = 0; tcp->conns && i < tcp->params.connections_max; i++) {
        if (tcp->conns[i].pcb)
            tcp_abort(pcb_leave(&tcp->conns[i]));
    }
    if (tcp->linked) {
        while (tcp_active_pcbs)
            tcp_abort(tcp_active_pcbs);
        while (tcp_tw_pcbs)
            tcp_abort(tcp_tw_pcbs);
        nic_flush(tcp->params.nic);
        tcp_link_fini(&tcp->link);
        tcp_only = NULL;
    }
    filter_destroy(&tcp->filter);
    free(tcp->conns);
    free(tcp->dirty);
    free(tcp);
    *ptcp = NULL;
}

void tcp_stats(const struct tcp *tcp, struct tcp_stats *ret)
{
    const struct netif *netif = tcp->link.netif;
    struct census c = census_take();

    *ret = (struct tcp_stats){.connections = tcp->connections,
                              .half_open = c.half_open,
                              .time_wait = c.time_wait,
                              .orphans = c.orphans,
                              .frames_held = tcp->link.held + tcp->link.copies,
                              .refused_places = tcp->refused_places,
                              .refused_address = tcp->refused_address,
                              .half_open_dropped = tcp->half_open_dropped};
    for (uint32_t i = 0; i < FILTER_VERDICT_COUNT; i++)
        ret->dropped[i] = filter_count(tcp->filter, (enum filter_verdict)i);
    ret->dropped[FILTER_TCP_NUMBERS] = tcp->link.far_n; // of which the filter knows nothing
    if (!ip4_addr_isany_val(*netif_ip4_addr(netif)))
        address_text(netif_ip_addr4(netif), ret->address4);
    for (uint32_t i = 0, n = 0; i < LWIP_IPV6_NUM_ADDRESSES && n < 3; i++) {
        if (ip6_addr_isvalid(netif_ip6_addr_state(netif, i)))
            address_text(netif_ip_addr6(netif, i), ret->address6[n++]);
    }
}
