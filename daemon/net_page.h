// SPDX-License-Identifier: MIT
// net_page: what /metrics says about the port.  Owner: net publishes, any thread writes it out.
#pragma once
#include "api/buf.h"
#include "io/net/port.h"

#include <pthread.h>
#include <stdatomic.h>

// X(id, name, kind, labels, help, value of struct port_stats *s)
#define NET_METRICS(X)                                                                             \
    X(LINK, net_link_up, GAUGE, NULL, "1 while the port has a link", s->link.up)                   \
    X(MBITS, net_link_mbits, GAUGE, NULL, "Speed of the link in Mbit/s; 0: unknown",               \
      s->link.mbits)                                                                               \
    X(RX_FRAME, net_frame, COUNTER, "direction=\"rx\"", "Frames", s->frames.rx_frames)             \
    X(TX_FRAME, net_frame, COUNTER, "direction=\"tx\"", "Frames", s->frames.tx_frames)             \
    X(RX_BYTES, net_bytes, COUNTER, "direction=\"rx\"", "Bytes of frames", s->frames.rx_bytes)     \
    X(TX_BYTES, net_bytes, COUNTER, "direction=\"tx\"", "Bytes of frames", s->frames.tx_bytes)     \
    X(RX_MISSED, net_missed, COUNTER, "direction=\"rx\"", "Frames without a place",                \
      s->frames.rx_missed)                                                                         \
    X(TX_FULL, net_missed, COUNTER, "direction=\"tx\"", "Frames without a place",                  \
      s->frames.tx_full)                                                                           \
    X(RX_ERROR, net_error, COUNTER, NULL, "Frames that the port found broken",                     \
      s->frames.rx_errors)                                                                         \
    X(CONNECTION, net_connection, GAUGE, "state=\"open\"", "TCP connections of the port",          \
      s->connections)                                                                              \
    X(HALF_OPEN, net_connection, GAUGE, "state=\"half-open\"", "TCP connections of the port",      \
      s->half_open)                                                                                \
    X(TIME_WAIT, net_connection, GAUGE, "state=\"time-wait\"", "TCP connections of the port",      \
      s->time_wait)                                                                                \
    X(REFUSED_PLACES, net_refused, COUNTER, "limit=\"connections_max\"", "Connections refused",    \
      s->refused_places)                                                                           \
    X(REFUSED_ADDRESS, net_refused, COUNTER, "limit=\"connections_per_address_max\"",              \
      "Connections refused", s->refused_address)                                                   \
    X(TLS_HANDSHAKE, net_tls, COUNTER, "event=\"handshake\"", "TLS", s->tls_handshakes)            \
    X(TLS_RESUMED, net_tls, COUNTER, "event=\"resumed\"", "TLS", s->tls_resumed)                   \
    X(TLS_FAILED, net_tls, COUNTER, "event=\"failed\"", "TLS", s->tls_failed)                      \
    X(TLS_PLAIN, net_tls, COUNTER, "event=\"plain-http\"", "TLS", s->tls_plain)                    \
    X(MBUF_FREE, net_mbuf_free, GAUGE, NULL, "Frames that the port still has memory for",          \
      s->mbufs_free)                                                                               \
    X(FRAME_HELD, net_frame_held, GAUGE, NULL, "Received frames that wait in the TCP/IP stack",    \
      s->frames_held)

enum net_metric_id {
#define NET_METRICS_ENUM(id, name, kind, labels, help, value) NET_METRIC_ID_##id,
    NET_METRICS(NET_METRICS_ENUM)
#undef NET_METRICS_ENUM
        NET_METRIC_ID_COUNT
};

struct net_page {
    atomic_bool used; // the port runs; release
    _Atomic uint64_t value[NET_METRIC_ID_COUNT];
    _Atomic uint64_t dropped[FILTER_VERDICT_COUNT];
    pthread_mutex_t lock; // of label; net only tries it, so it never waits
    char label[512];      // port, driver, MAC and addresses, as labels of expertd_net_info
};

int net_page_init(struct net_page *page); // -errno
void net_page_fini(struct net_page *page);
// net_page_set publishes.  port: as configured.  Thread: net.
void net_page_set(struct net_page *page, const char *port, const struct port_stats *s);
// net_page_write appends its metrics, if there is a port.
void net_page_write(struct buf *out, struct net_page *page);
