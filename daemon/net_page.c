// SPDX-License-Identifier: MIT
#include "daemon/net_page.h"

#include "api/metrics.h"

#include <stdio.h>
#include <string.h>

int net_page_init(struct net_page *page)
{
    return -pthread_mutex_init(&page->lock, NULL);
}

void net_page_fini(struct net_page *page)
{
    pthread_mutex_destroy(&page->lock);
}

static void label_set(struct net_page *page, const char *port, const struct port_stats *s)
{
    struct buf text;
    char mac[18];
    const uint8_t *m = s->nic.mac;
    snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    const char *const labels[][2] = {
        {"port", port},           {"driver", s->nic.driver},    {"mac", mac},
        {"address", s->address4}, {"address6", s->address6[1]}, {"address6_link", s->address6[0]}};
    buf_init(&text, sizeof(page->label) - 1);
    for (uint32_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        if (i > 0)
            buf_puts(&text, ",");
        metrics_label(&text, labels[i][0], labels[i][1]);
    }
    if (buf_error(&text) == 0 && pthread_mutex_trylock(&page->lock) == 0) {
        memcpy(page->label, text.data, text.n);
        page->label[text.n] = '\0';
        pthread_mutex_unlock(&page->lock);
    }
    buf_free(&text);
}

void net_page_set(struct net_page *page, const char *port, const struct port_stats *s)
{
#define NET_METRICS_SET(id, name, kind, labels, help, from)                                        \
    atomic_store_explicit(&page->value[NET_METRIC_ID_##id], (uint64_t)(from), memory_order_relaxed);
    NET_METRICS(NET_METRICS_SET)
#undef NET_METRICS_SET
    for (uint32_t i = 0; i < FILTER_VERDICT_COUNT; i++)
        atomic_store_explicit(&page->dropped[i], s->dropped[i], memory_order_relaxed);
    label_set(page, port, s);
    atomic_store_explicit(&page->used, true, memory_order_release);
}

#define DROPS (FILTER_VERDICT_COUNT - 1) // without FILTER_PASS

void net_page_write(struct buf *out, struct net_page *page)
{
    char labels[DROPS][64], info[sizeof(page->label)];
    if (!atomic_load_explicit(&page->used, memory_order_acquire))
        return;
    struct metric rows[1 + NET_METRIC_ID_COUNT + DROPS] = {
#define NET_METRICS_ROW(id, name_, kind_, labels_, help_, from)                                    \
    {.name = "expertd_" #name_,                                                                    \
     .help = help_,                                                                                \
     .kind = METRIC_##kind_,                                                                       \
     .labels = labels_,                                                                            \
     .value =                                                                                      \
         (double)atomic_load_explicit(&page->value[NET_METRIC_ID_##id], memory_order_relaxed)},
        NET_METRICS(NET_METRICS_ROW)
#undef NET_METRICS_ROW
    };
    for (uint32_t i = 0; i < DROPS; i++) {
        snprintf(labels[i], sizeof(labels[i]), "kind=\"%s\"", filter_label[i + 1]);
        rows[NET_METRIC_ID_COUNT + i] = (struct metric){
            .name = "expertd_net_dropped",
            .help = "Frames dropped before the TCP/IP stack, by kind",
            .kind = METRIC_COUNTER,
            .labels = labels[i],
            .value = (double)atomic_load_explicit(&page->dropped[i + 1], memory_order_relaxed)};
    }
    pthread_mutex_lock(&page->lock);
    memcpy(info, page->label, sizeof(info));
    pthread_mutex_unlock(&page->lock);
    rows[NET_METRIC_ID_COUNT + DROPS] =
        (struct metric){.name = "expertd_net_info",
                        .help = "The port, its addresses in the labels",
                        .kind = METRIC_GAUGE,
                        .labels = info,
                        .value = 1};
    metrics_write(out, rows, NET_METRIC_ID_COUNT + DROPS + 1);
}
