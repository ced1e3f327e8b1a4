// SPDX-License-Identifier: MIT
#include "api/cors.h"
#include "api/keys.h"
#include "config.h"
#include "daemon/net_thread.h"

#include <errno.h>

// Some seconds more than a client over a slow line needs.
#define HANDSHAKE_TIMEOUT_US 10000000u

void net_params_fill(const struct conf *conf, struct port_params *ret)
{
    struct nic_name name = {.kind = NIC_KIND_COUNT};
    struct fault ignored;
#if HAVE_PORT
    nic_parse(conf->net_port, &name, &ignored); // port_params_check tells what is wrong with it
#else
    (void)ignored;
#endif
    *ret = (struct port_params){
        .conns = ret->conns,
        .port = conf->net_port,
        .huge_pages = conf->net_huge_pages == CONF_HUGE_PAGES_YES ||
                      (conf->net_huge_pages == CONF_HUGE_PAGES_AUTO && name.kind == NIC_PCI),
        .address = conf->net_address,
        .gateway = conf->net_gateway,
        .address6 = conf->net_address6,
        .http_port = (uint16_t)conf->net_http_port,
        .https_port = (uint16_t)conf->net_https_port,
        .tls = {.certificate = conf->net_tls_certificate,
                .key = conf->net_tls_key,
                .client_ca = conf->net_tls_client_ca},
        .per_address_max = conf->limits_connections_per_address_max,
        .handshake_timeout_us = HANDSHAKE_TIMEOUT_US,
    };
}

int net_check(const struct conf *conf, struct fault *fault)
{
    struct cors cors;
    int err = cors_parse(conf->net_cors_origins, &cors, fault);
    if (err != 0 || !conf->net_port[0])
        return err;
#if HAVE_PORT
    struct port_params params = {.conns = {.connections_max = conf->limits_connections_max}};
    net_params_fill(conf, &params);
    return port_params_check(&params, fault);
#else
    return fault_set(fault, ENOTSUP,
                     "[net] port: this program was built without the port; build it with DPDK and "
                     "lwIP (-Ddpdk=enabled)");
#endif
}

int net_keys_check(const struct conf *conf, struct fault *fault)
{
    struct keys *keys = NULL;
    if (!conf->net_port[0])
        return 0;
    int err = keys_load(conf->net_keys, NULL, &keys, fault);
    keys_destroy(&keys);
    return err == -ENOENT && conf->net_allow_anonymous ? 0 : err;
}
