// SPDX-License-Identifier: MIT
#include "io/net/tcp_link.h"

#include "io/net/siphash.h"
#include "io/net/wire.h"

#include <assert.h>
#include <errno.h>
#include <lwip/etharp.h>
#include <lwip/ethip6.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/sys.h>
#include <netif/ethernet.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX 8u
#define HEAD_MAX  (WIRE_ETHERNET + WIRE_IP6 + WIRE_TCP) // where a sequence number can be

// A pbuf around a frame of the NIC, or around its copy, which stands behind it.
struct tcp_link_frame {
    struct pbuf_custom custom; // first: lwIP gives it back
    struct tcp_link *link;
    void *handle; // of the NIC; NULL: a copy
    struct tcp_link_frame *next;
};

/* ---------------------------------------------------------------- connections on the wire */

// secret_of a connection; its lower half is the offset of our sequence numbers.
// ours, theirs: addresses of n bytes, the ports as they are in the header.
static uint64_t secret_of(const struct tcp_link *link, const uint8_t *ours, const uint8_t *theirs,
                          size_t n, const uint8_t *our_port, const uint8_t *their_port)
{
    uint8_t bytes[16 + 16 + 4];
    memcpy(bytes, ours, n);
    memcpy(bytes + n, theirs, n);
    memcpy(bytes + 2 * n, our_port, 2);
    memcpy(bytes + 2 * n + 2, their_port, 2);
    return siphash(link->secret, bytes, 2 * n + 4);
}

// secret_out finds a TCP header in the first [n] bytes of an IP packet that lwIP made: without
// options, it sends none.  Returns its place, 0 if it is no TCP.
static size_t secret_out(const struct tcp_link *link, const uint8_t *ip, size_t n,
                         uint64_t *ret_secret)
{
    if (n >= WIRE_IP4 + WIRE_TCP && ip[0] == 0x45 && ip[9] == WIRE_PROTOCOL_TCP) {
        const uint8_t *tcp = ip + WIRE_IP4;
        *ret_secret = secret_of(link, ip + 12, ip + 16, 4, tcp, tcp + 2);
        return WIRE_IP4;
    }
    if (n >= WIRE_IP6 + WIRE_TCP && ip[0] >> 4 == 6 && ip[6] == WIRE_PROTOCOL_TCP) {
        const uint8_t *tcp = ip + WIRE_IP6;
        *ret_secret = secret_of(link, ip + 8, ip + 24, 16, tcp, tcp + 2);
        return WIRE_IP6;
    }
    return 0;
}

// number_out: the first [n] bytes of a frame that lwIP made.
static void number_out(const struct tcp_link *link, uint8_t *head, size_t n)
{
    uint16_t type = n >= WIRE_ETHERNET ? wire_u16(head + 12) : 0;
    uint64_t secret;
    if (type != WIRE_TYPE_IP4 && type != WIRE_TYPE_IP6)
        return;
    size_t at = secret_out(link, head + WIRE_ETHERNET, n - WIRE_ETHERNET, &secret);
    if (at)
        wire_tcp_add(head + WIRE_ETHERNET + at, 4, (uint32_t)secret);
}

static void number_in(const struct tcp_link *link, const struct nic_frame *frame)
{
    struct wire wire;

    if (!wire_parse(frame->data, frame->n, &wire) || wire.protocol != WIRE_PROTOCOL_TCP)
        return;
    uint8_t *tcp = frame->data + wire.at;
    uint64_t secret = secret_of(link, frame->data + wire.target, frame->data + wire.source,
                                wire.address_bytes, tcp + 2, tcp);
    tcp_path_seen(link->paths, secret, frame->data + 6, (tcp[13] & WIRE_SYN) != 0, sys_now());
    if (tcp[13] & WIRE_ACK)
        wire_tcp_add(tcp, 8, 0u - (uint32_t)secret);
}

/* ---------------------------------------------------------------- out */

static err_t link_output(struct netif *netif, struct pbuf *p)
{
    struct tcp_link *link = netif->state;
    const void *parts[PARTS_MAX];
    uint16_t parts_bytes[PARTS_MAX], skip;
    uint8_t head[HEAD_MAX];
    uint32_t n = 1;

    // A segment stays with lwIP until it is acknowledged: its header is changed in a copy.
    skip = pbuf_copy_partial(p, head, HEAD_MAX, 0);
    number_out(link, head, skip);
    parts[0] = head;
    parts_bytes[0] = skip;
    for (const struct pbuf *at = p; at; at = at->next) {
        uint16_t begin = skip < at->len ? skip : at->len;
        skip = (uint16_t)(skip - begin);
        if (begin == at->len)
            continue;
        if (n == PARTS_MAX)
            return ERR_BUF;
        parts[n] = (const uint8_t *)at->payload + begin;
        parts_bytes[n++] = (uint16_t)(at->len - begin);
    }
    if (nic_send(link->nic, parts, parts_bytes, n)) {
        link->full = true;
        return ERR_IF;
    }
    return ERR_OK;
}

// path_output sends a segment on its connection's path; false if that is for lwIP to find.
static bool path_output(struct netif *netif, struct pbuf *p, uint16_t type, err_t *ret)
{
    const struct tcp_link *link = netif->state;
    struct eth_addr from, to;
    uint64_t secret;
    if (!secret_out(link, p->payload, p->len, &secret))
        return false;
    const uint8_t *mac = tcp_path_find(link->paths, secret, sys_now());
    if (!mac)
        return false;
    memcpy(from.addr, netif->hwaddr, sizeof(from.addr));
    memcpy(to.addr, mac, sizeof(to.addr));
    *ret = ethernet_output(netif, p, &from, &to, type);
    return true;
}

static err_t output4(struct netif *netif, struct pbuf *p, const ip4_addr_t *address)
{
    err_t err;
    return path_output(netif, p, ETHTYPE_IP, &err) ? err : etharp_output(netif, p, address);
}

static err_t output6(struct netif *netif, struct pbuf *p, const ip6_addr_t *address)
{
    err_t err;
    return path_output(netif, p, ETHTYPE_IPV6, &err) ? err : ethip6_output(netif, p, address);
}

/* ---------------------------------------------------------------- in */

static void frame_free(struct pbuf *p)
{
    // lwIP's type of the object that was given to it
    struct tcp_link_frame *frame = (struct tcp_link_frame *)(void *)p;
    struct tcp_link *link = frame->link;

    if (!frame->handle) {
        link->copies--;
        free(frame);
        return;
    }
    nic_free(link->nic, frame->handle);
    link->held--;
    frame->next = link->free;
    link->free = frame;
}

// frame_take wraps the NIC's frame, or its copy.  The NIC's frame is gone then, also without
// memory.
static struct tcp_link_frame *frame_take(struct tcp_link *link, const struct nic_frame *in,
                                         uint8_t **ret_data)
{
    struct tcp_link_frame *frame = link->room ? link->free : NULL;

    if (frame) {
        link->free = frame->next;
        link->room--;
        link->held++;
        frame->handle = in->handle;
        *ret_data = in->data;
        return frame;
    }
    frame = malloc(sizeof(*frame) + in->n);
    if (frame) {
        *frame = (struct tcp_link_frame){.link = link};
        frame->custom.custom_free_function = frame_free;
        *ret_data = memcpy(frame + 1, in->data, in->n);
        link->copies++;
    }
    nic_free(link->nic, in->handle);
    return frame;
}

/* ---------------------------------------------------------------- segments that lwIP believes */

#define NEAR (1u << 30) // far more than any window

// pcb_find returns the connection of a segment, or NULL.
static const struct tcp_pcb *pcb_find(const uint8_t *frame, const struct wire *wire)
{
    const uint8_t *tcp = frame + wire->at;
    uint16_t theirs = wire_u16(tcp), ours = wire_u16(tcp + 2);

    for (const struct tcp_pcb *pcb = tcp_active_pcbs; pcb; pcb = pcb->next) {
        const ip_addr_t *from = &pcb->remote_ip, *to = &pcb->local_ip;
        if (pcb->remote_port == theirs && pcb->local_port == ours &&
            IP_IS_V6(from) == (wire->address_bytes == 16) &&
            memcmp(ip_2_ip6(from)->addr, frame + wire->source, wire->address_bytes) == 0 &&
            memcmp(ip_2_ip6(to)->addr, frame + wire->target, wire->address_bytes) == 0)
            return pcb;
    }
    return NULL;
}

// numbers_near: a number that is half a circle away counts for lwIP as inside of a range that is
// empty: it asserts ("insane offset!"), or takes it for an acknowledgement of what was never sent.
static bool numbers_near(const struct nic_frame *frame)
{
    struct wire wire;

    if (!wire_parse(frame->data, frame->n, &wire) || wire.protocol != WIRE_PROTOCOL_TCP)
        return true;
    const uint8_t *tcp = frame->data + wire.at;
    bool empty = wire.n <= (tcp[12] >> 4) * 4u;
    if (tcp[13] & WIRE_SYN || (empty && !(tcp[13] & WIRE_ACK)))
        return true; // lwIP answers the first, and judges a lone RST itself
    const struct tcp_pcb *pcb = pcb_find(frame->data, &wire);
    if (!pcb)
        return true;
    return wire_u32(tcp + 4) - pcb->rcv_nxt + NEAR <= 2 * NEAR &&
           (!(tcp[13] & WIRE_ACK) || wire_u32(tcp + 8) - pcb->lastack + NEAR <= 2 * NEAR);
}

void tcp_link_input(struct tcp_link *link, const struct nic_frame *in)
{
    uint8_t *data = NULL;

    number_in(link, in);
    if (!numbers_near(in)) {
        link->far_n++;
        nic_free(link->nic, in->handle);
        return;
    }
    struct tcp_link_frame *frame = frame_take(link, in, &data);
    if (!frame)
        return;
    struct pbuf *p = pbuf_alloced_custom(PBUF_RAW, in->n, PBUF_REF, &frame->custom, data, in->n);
    assert(p); // there is no offset that might not fit
    if (link->netif->input(p, link->netif) != ERR_OK)
        pbuf_free(p);
}

/* ---------------------------------------------------------------- interface */

void tcp_link_run(struct tcp_link *link)
{
    uint32_t free_n = nic_mbufs_free(link->nic), keep = link->frames_n / 4;
    link->room = free_n > keep ? free_n - keep : 0;
    if (link->full) {
        link->full = false;
        nic_flush(link->nic);
        tcp_txnow();
    }
    nic_flush(link->nic);
}

static err_t link_up(struct netif *netif)
{
    struct tcp_link *link = netif->state;
    const struct nic_info *info = nic_info(link->nic);

    netif->name[0] = 'e';
    netif->name[1] = 'x';
    netif->output = output4;
    netif->output_ip6 = output6;
    netif->linkoutput = link_output;
    netif->mtu = info->mtu;
    netif->hwaddr_len = sizeof(info->mac);
    memcpy(netif->hwaddr, info->mac, sizeof(info->mac));
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_MLD6;
    return ERR_OK;
}

int tcp_link_init(struct tcp_link *link, struct nic *nic, const uint64_t secret[2],
                  uint32_t connections_max)
{
    *link = (struct tcp_link){.nic = nic, .frames_n = nic_mbufs_free(nic)};
    memcpy(link->secret, secret, sizeof(link->secret));
    link->netif = calloc(1, sizeof(*link->netif));
    link->frames = calloc(link->frames_n + 1, sizeof(*link->frames));
    if (!link->frames || !link->netif || tcp_paths_create(connections_max, &link->paths))
        goto fail;
    for (uint32_t i = 0; i < link->frames_n; i++) {
        link->frames[i].link = link;
        link->frames[i].custom.custom_free_function = frame_free;
        link->frames[i].next = link->free;
        link->free = &link->frames[i];
    }
    if (!netif_add(link->netif, NULL, NULL, NULL, link, link_up, ethernet_input))
        goto fail;
    netif_set_default(link->netif);
    netif_create_ip6_linklocal_address(link->netif, 1);
    netif_set_link_up(link->netif);
    netif_set_up(link->netif);
    tcp_link_run(link);
    return 0;

fail:
    tcp_paths_destroy(&link->paths);
    free(link->frames);
    free(link->netif);
    return -ENOMEM;
}

void tcp_link_fini(struct tcp_link *link)
{
    netif_remove(link->netif);
    assert(link->held == 0);
    assert(link->copies == 0);
    tcp_paths_destroy(&link->paths);
    free(link->frames);
    free(link->netif);
}
