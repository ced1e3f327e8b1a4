// SPDX-License-Identifier: MIT
#include "daemon/net_thread.h"

#include "base/clock.h"
#include "base/last_words.h"
#include "base/log.h"
#include "daemon/front.h"
#include "daemon/sandbox.h"

#include <linux/capability.h>
#include <stdio.h>
#include <string.h>

#define PUBLISH_US 250000u
#define DHCP_US    10000000u // a server answers within two seconds or so

struct net {
    struct front front; // first: front.turn gets it
    struct port *port;
    struct tls_files files;
    uint64_t publish_us;                                             // when next
    char address4[CONNS_ADDRESS_TEXT], address6[CONNS_ADDRESS_TEXT]; // that were logged
    bool link_up;
    uint64_t address_us; // when the lack of an IPv4 address is told; 0: no more
};

static void changes_log(struct net *net, const struct port_stats *s)
{
    const char *port = net->front.t->conf.net_port;
    const char *link = s->link.up ? "up" : "down";
    if (net->link_up != s->link.up)
        log_event(LOG_LEVEL_INFO, EVENT_LINK, LOG_FIELDS({"PORT", port}, {"STATE", link}),
                  "port %s: link %s", port, link);
    if (strcmp(net->address4, s->address4) != 0)
        log_info("port %s: address %s", port, s->address4[0] ? s->address4 : "lost");
    if (strcmp(net->address6, s->address6[1]) != 0)
        log_info("port %s: address %s", port, s->address6[1][0] ? s->address6[1] : "lost (IPv6)");
    net->link_up = s->link.up;
    memcpy(net->address4, s->address4, sizeof(net->address4));
    memcpy(net->address6, s->address6[1], sizeof(net->address6));
}

// address_warn tells once that nobody gave the port an address.
static void address_warn(struct net *net, const struct port_stats *s, uint64_t now_us)
{
    const struct conf *conf = &net->front.t->conf;
    if (net->address_us == 0 || (now_us < net->address_us && !s->address4[0]))
        return;
    net->address_us = 0;
    if (!s->address4[0])
        log_warning("port %s: no IPv4 address: no DHCP server answers%s; [net] address = A.B.C.D/N "
                    "needs none",
                    conf->net_port, s->link.up ? "" : ", and the link is down");
}

static void certificate_warn(const struct tls_files *files)
{
    struct fault warning;
    if (files->certificate[0] && tls_files_warn(files, &warning))
        log_warning("%s", warning.text);
}

static void start_log(const struct net *net)
{
    const struct conf *conf = &net->front.t->conf;
    struct port_stats s;
    port_stats(net->port, &s);
    const uint8_t *m = s.nic.mac;
    char http[32] = "", https[32] = "";
    if (conf->net_http_port)
        snprintf(http, sizeof(http), ", HTTP on %u", conf->net_http_port);
    if (conf->net_https_port)
        snprintf(https, sizeof(https), ", HTTPS on %u", conf->net_https_port);
    log_info("port %s: %s, %02x:%02x:%02x:%02x:%02x:%02x%s%s", conf->net_port, s.nic.driver, m[0],
             m[1], m[2], m[3], m[4], m[5], http, https);
    log_info("plan: frames of the port: %.1f MB, host", (double)s.nic.pool_bytes / 1e6);
}

static void turn(struct front *f)
{
    struct net *net = (struct net *)f;
    uint64_t now_us = clock_us();
    if (atomic_exchange_explicit(&f->lines->reload, false, memory_order_acquire)) {
        struct fault fault = {0};
        if (port_tls_reload(net->port, &fault) != 0)
            log_error("reload: %s; the old certificate stays", fault.text);
        certificate_warn(&net->files);
    }
    if (now_us < net->publish_us)
        return;
    net->publish_us = now_us + PUBLISH_US;
    struct port_stats stats;
    port_stats(net->port, &stats);
    net_page_set(&f->t->net_page, f->t->conf.net_port, &stats);
    changes_log(net, &stats);
    address_warn(net, &stats, now_us);
}

// net_capabilities: what the port still needs to be handed back.  The XDP program stays on its
// interface until somebody takes it off; the others go with their files.
static uint64_t net_capabilities(const struct conf *conf)
{
    return net_xdp(conf) ? 1ull << CAP_NET_ADMIN : 0;
}

void *net_thread(void *arg)
{
    struct topology *t = arg;
    struct net net = {0};
    struct port_params params = {0};
    struct fault fault = {0};
    last_words_thread();
    int err = front_init(&net.front, t, FRONT_NET, &params.conns, &fault);
    net_params_fill(&t->conf, &params);
    if (err == 0)
        err = port_create(&params, &net.port, &fault);
    if (err == 0) {
        net.front.conns = port_conns(net.port);
        net.front.turn = turn;
        net.files = params.tls;
        certificate_warn(&net.files);
        start_log(&net);
        sandbox_keep(net_capabilities(&t->conf));
        if (strcmp(t->conf.net_address, "dhcp") == 0)
            net.address_us = clock_us() + DHCP_US;
        front_run(&net.front);
    } else {
        front_failed(&net.front, &fault);
    }
    port_destroy(&net.port);
    atomic_store_explicit(&net.front.lines->over, true, memory_order_release); // see port_leave
    front_fini(&net.front);
    return NULL;
}
