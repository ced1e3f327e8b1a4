// SPDX-License-Identifier: MIT
// port: the kernel-bypass port: a NIC (io/net/nic.h), lwIP (io/net/tcp.h) and TLS (io/net/tls.h)
// joined to connections (io/net/conns.h).
//
// conns_poll takes frames in bursts, runs lwIP and sends; with nothing to do it spins for a moment,
// then sleeps until a frame, wake_fd or a deadline, and looks at least every 0.8 ms where the NIC
// has no interrupts.  A wake_fd that is signalled when there is nothing to send yet says that there
// soon will be: the way is warmed (tls_warm), and spinning lasts 0.5 ms.
//
// Bytes that a caller sends go into lwIP at once and onto the wire with the next conns_poll, once a
// connection.  conns_sent counts what the peer acknowledged, with TLS its ciphertext; conns_unsent
// is what lwIP had no place for.  What `received` does not take closes the peer's window, so at
// most that window (64 KiB) waits here.  A connection that finds no place is told so (full_reply)
// if it is one of PORT_TURNED_MAX; beyond them it is reset. Owner: the net thread, which also makes
// and destroys it.
#pragma once
#include "base/fault.h"
#include "io/net/conns.h"
#include "io/net/filter.h"
#include "io/net/nic.h"
#include "io/net/tls.h"

#define PORT_TURNED_MAX 32u

struct port_params { // texts outlive the port
    struct conns_params conns;
    const char *port; // of nic_parse
    bool huge_pages;
    const char *address, *gateway, *address6; // of tcp_params
    uint16_t http_port, https_port;           // 0: not served
    struct tls_files tls;                     // certificate "" unless https_port
    uint32_t per_address_max;
    uint64_t handshake_timeout_us; // for TLS
};

// port_params_check_form is port_params_check but for the files of TLS.
int port_params_check_form(const struct port_params *params, struct fault *fault);
// port_params_check says whether the texts, files and numbers can be served, without touching a
// device.  Errors: -EINVAL naming the key of [net].  Any thread.
int port_params_check(const struct port_params *params, struct fault *fault);

struct port; // opaque
int port_create(const struct port_params *params, struct port **ret, struct fault *fault);
void port_destroy(struct port **port); // without callbacks
struct conns *port_conns(struct port *port);

// port_tls_reload reads certificate and key again (SIGHUP); on an error the old ones stay.
int port_tls_reload(struct port *port, struct fault *fault);

struct port_stats {
    struct nic_info nic;
    struct nic_link link;
    struct nic_stats frames;
    uint64_t dropped[FILTER_VERDICT_COUNT];
    uint32_t connections, half_open, time_wait, mbufs_free, frames_held;
    uint64_t refused_places, refused_address;
    uint64_t tls_handshakes, tls_resumed, tls_failed, tls_plain; // tls_plain: HTTP on the TLS port
    char address4[CONNS_ADDRESS_TEXT], address6[3][CONNS_ADDRESS_TEXT];
};
void port_stats(struct port *port, struct port_stats *ret);
