// SPDX-License-Identifier: MIT
#include "api/cors.h"
#include "api/keys.h"
#include "config.h"
#include "daemon/net_thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Some seconds more than a client over a slow line needs.
#define HANDSHAKE_TIMEOUT_US 10000000u

bool net_xdp(const struct conf *conf)
{
    return strncmp(conf->net_port, "af_xdp:", strlen("af_xdp:")) == 0;
}

#define CREDENTIAL "credential:"

// credential_take: path is one of [net]'s, key names it.
static int credential_take(const char *key, char path[CONF_TEXT_MAX], struct fault *fault)
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    char name[CONF_TEXT_MAX], file[CONF_TEXT_MAX];
    if (strncmp(path, CREDENTIAL, strlen(CREDENTIAL)) != 0)
        return 0;
    snprintf(name, sizeof(name), "%s", path + strlen(CREDENTIAL));
    if (name[0] == '\0' || name[0] == '.' || strchr(name, '/'))
        return fault_set(fault, EINVAL,
                         "[net] %s = %s: a credential's name has no / and no . first", key, path);
    if (!dir || dir[0] != '/')
        return fault_set(fault, EINVAL,
                         "[net] %s = %s: systemd passed no credentials: LoadCredential=%s:FILE in "
                         "the unit expertd.service does, and only the unit has them",
                         key, path, name);
    int n = snprintf(file, sizeof(file), "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof(file))
        return fault_set(fault, EINVAL, "[net] %s = %s: longer than a path may be", key, path);
    if (access(file, R_OK) != 0)
        return fault_set(
            fault, EINVAL,
            "[net] %s = %s: %s: %s; LoadCredential=%s:FILE in the unit expertd.service "
            "passes it",
            key, path, file, strerror(errno), name);
    memset(path, 0, CONF_TEXT_MAX); // conf_reload compares all of it
    memcpy(path, file, (size_t)n);
    return 0;
}

int net_credentials(struct conf *conf, struct fault *fault)
{
    int err = credential_take("keys", conf->net_keys, fault);
    if (err == 0)
        err = credential_take("tls_certificate", conf->net_tls_certificate, fault);
    if (err == 0)
        err = credential_take("tls_key", conf->net_tls_key, fault);
    if (err == 0)
        err = credential_take("tls_client_ca", conf->net_tls_client_ca, fault);
    return err;
}

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

int net_check(const struct conf *conf, bool files, struct fault *fault)
{
    struct cors cors;
    int err = cors_parse(conf->net_cors_origins, &cors, fault);
    if (err != 0 || !conf->net_port[0])
        return err;
#if HAVE_PORT
    struct port_params params = {.conns = {.connections_max = conf->limits_connections_max}};
    net_params_fill(conf, &params);
    return files ? port_params_check(&params, fault) : port_params_check_form(&params, fault);
#else
    (void)files;
    return fault_set(fault, ENOTSUP,
                     "[net] port: this program was built without the port; build it with DPDK and "
                     "lwIP (-Ddpdk=enabled)");
#endif
}

int net_keys_lacking(const char *path, bool missing, struct fault *fault)
{
    return fault_set(fault, EACCES,
                     "[net] keys: %s %s, so nobody could use the port: make a key with `expertctl "
                     "key add NAME --file %s`, or set [net] allow_anonymous = yes",
                     path, missing ? "does not exist" : "has no key that is not disabled", path);
}

int net_keys_check(const struct conf *conf, struct fault *fault)
{
    struct keys *keys = NULL;
    if (!conf->net_port[0])
        return 0;
    int err = keys_load(conf->net_keys, NULL, &keys, fault);
    bool missing = err == -ENOENT, none = missing || (err == 0 && keys_usable(keys) == 0);
    keys_destroy(&keys);
    if (!none)
        return err;
    return conf->net_allow_anonymous ? 0 : net_keys_lacking(conf->net_keys, missing, fault);
}
