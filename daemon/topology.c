// SPDX-License-Identifier: MIT
#include "daemon/topology.h"

#include "base/log.h"
#include "daemon/net_thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROMPT_TOKENS_MIN 65536u
#define EVENTS_MIN        4096u

const char *const front_name[FRONT_COUNT] = {[FRONT_SOCK] = "sock", [FRONT_NET] = "net"};

void topology_fronts_wake(struct topology *t)
{
    for (uint32_t i = 0; i < FRONT_COUNT; i++)
        if (t->fronts[i].used)
            wake_signal(t->fronts[i].wake);
}

uint32_t topology_connections_n(const struct topology *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < FRONT_COUNT; i++)
        n += atomic_load_explicit(&t->fronts[i].connections_n, memory_order_relaxed);
    return n;
}

static uint32_t power_of_two(uint32_t n)
{
    uint32_t p = 2;
    while (p < n)
        p *= 2;
    return p;
}

static uint32_t prompt_tokens_of(const struct conf *conf)
{
    if (conf->limits_prompt_tokens_max > 0)
        return conf->limits_prompt_tokens_max;
    return conf->model_context_max > PROMPT_TOKENS_MIN ? conf->model_context_max
                                                       : PROMPT_TOKENS_MIN;
}

// One row a ring: all of them, and how large.
struct ring_row {
    const char *name;
    struct ring **ring;
    uint32_t entries, entry_bytes;
};

#define RINGS (1 + 3 * FRONT_COUNT)
static uint32_t ring_rows(struct topology *t, struct ring_row rows[RINGS])
{
    static const char *const names[FRONT_COUNT][3] = {
        [FRONT_SOCK] = {"sock to tok", "tok to sock", "step to sock"},
        [FRONT_NET] = {"net to tok", "tok to net", "step to net"},
    };
    uint32_t reqs = power_of_two(t->reqs_n), n = 0;
    uint32_t events = power_of_two(64 * t->conf.limits_batch_rows_max);
    if (events < EVENTS_MIN)
        events = EVENTS_MIN;
    rows[n++] = (struct ring_row){"tok to step", &t->tok_step, reqs, sizeof(uint32_t)};
    for (uint32_t i = 0; i < FRONT_COUNT; i++) {
        struct front_lines *l = &t->fronts[i];
        if (!l->used)
            continue;
        rows[n++] = (struct ring_row){names[i][0], &l->requests, reqs, sizeof(uint32_t)};
        rows[n++] = (struct ring_row){names[i][1], &l->replies, reqs, sizeof(uint32_t)};
        rows[n++] = (struct ring_row){names[i][2], &l->events, events, sizeof(struct step_event)};
    }
    return n;
}

static int rings_create(struct topology *t)
{
    struct ring_row rows[RINGS];
    uint32_t n = ring_rows(t, rows);
    for (uint32_t i = 0; i < n; i++) {
        int err = ring_create(rows[i].entries, rows[i].entry_bytes, rows[i].ring);
        if (err != 0)
            return err;
    }
    return 0;
}

static int wakes_open(struct topology *t)
{
    int *wakes[] = {&t->wake_ctl, &t->wake_tok, &t->wake_step, &t->fronts[FRONT_SOCK].wake,
                    &t->fronts[FRONT_NET].wake};
    for (uint32_t i = 0; i < sizeof(wakes) / sizeof(wakes[0]); i++) {
        *wakes[i] = wake_open();
        if (*wakes[i] < 0)
            return *wakes[i];
    }
    return 0;
}

int topology_create(const struct conf *conf, struct topology **ret, struct fault *fault)
{
    struct topology *t = calloc(1, sizeof(*t));
    if (!t)
        return fault_set(fault, ENOMEM, "out of memory");
    t->conf = *conf;
    t->wake_ctl = t->wake_tok = t->wake_step = -1;
    for (uint32_t i = 0; i < FRONT_COUNT; i++)
        t->fronts[i].wake = -1;
    t->fronts[FRONT_SOCK].used = true; // also for listeners that systemd passes
    t->fronts[FRONT_NET].used = conf->net_port[0] != '\0';
    for (uint32_t i = 0; i < SOCK_LISTENERS_MAX; i++)
        t->listeners[i].fd = -1;
    t->reqs_n = conf->limits_requests_max;
    t->prompt_tokens_max = prompt_tokens_of(conf);
    live_set(&t->live, conf);

    int err = -ENOMEM;
    t->reqs = calloc(t->reqs_n, sizeof(*t->reqs));
    // Pages of it are taken when prompts need them.
    t->req_ids = calloc((size_t)t->reqs_n * t->prompt_tokens_max, sizeof(*t->req_ids));
    if (!t->reqs || !t->req_ids)
        goto fail;
    for (uint32_t i = 0; i < t->reqs_n; i++) {
        t->reqs[i].ids = t->req_ids + (size_t)i * t->prompt_tokens_max;
        t->reqs[i].conn = CONN_NONE;
    }
    err = req_pool_init(&t->req_pool, t->reqs_n);
    if (err == 0)
        err = net_page_init(&t->net_page);
    if (err == 0)
        err = rings_create(t);
    if (err != 0)
        goto fail;
    err = wakes_open(t);
    if (err != 0)
        goto fail;
    *ret = t;
    return 0;

fail:
    topology_destroy(&t);
    return fault_set(
        fault, -err,
        "memory for [limits] requests_max and prompt_tokens_max: %s; make them smaller",
        strerror(-err));
}

void topology_destroy(struct topology **topology)
{
    struct topology *t = *topology;
    if (!t)
        return;
    for (uint32_t i = 0; t->reqs && i < t->reqs_n; i++)
        req_reset(&t->reqs[i]);
    for (uint32_t i = 0; i < SOCK_LISTENERS_MAX; i++)
        listener_close(&t->listeners[i]);
    routing_file_close(&t->trace);
    served_close(&t->served);
    ring_destroy(&t->tok_step);
    for (uint32_t i = 0; i < FRONT_COUNT; i++) {
        ring_destroy(&t->fronts[i].requests);
        ring_destroy(&t->fronts[i].replies);
        ring_destroy(&t->fronts[i].events);
    }
    int wakes[] = {t->wake_ctl, t->wake_tok, t->wake_step, t->fronts[FRONT_SOCK].wake,
                   t->fronts[FRONT_NET].wake};
    for (uint32_t i = 0; i < sizeof(wakes) / sizeof(wakes[0]); i++)
        if (wakes[i] >= 0)
            close(wakes[i]);
    keys_store_fini(&t->keys);
    net_page_fini(&t->net_page);
    req_pool_fini(&t->req_pool);
    free(t->req_ids);
    free(t->reqs);
    free(t);
    *topology = NULL;
}

int topology_keys_read(struct topology *t, bool starting, struct keys **ret, struct fault *fault)
{
    struct keys *keys = NULL;
    const char *path = t->conf.net_keys;
    int err = keys_load(path, keys_store_now(&t->keys), &keys, fault);
    bool missing = err == -ENOENT;
    if (missing) // the last key may have been revoked by removing the file
        err = keys_parse(path, "", 0, &keys, fault);
    if (err != 0)
        return err;
    uint32_t usable = keys_usable(keys);
    if (usable == 0 && !t->conf.net_allow_anonymous) {
        net_keys_lacking(path, missing, fault);
        if (starting) {
            keys_destroy(&keys);
            return -EACCES;
        }
        log_warning("%s", fault->text);
    }
    *ret = keys;
    return 0;
}

void topology_keys_put(struct topology *t, struct keys *keys)
{
    uint32_t usable = keys_usable(keys);
    if (keys_warning(keys)[0])
        log_warning("%s", keys_warning(keys));
    if (keys_store_put(&t->keys, keys))
        log_info("keys: %u in force", usable);
}

int topology_plan_text(struct topology *t, char *buf, size_t buf_bytes)
{
    struct ring_row rows[RINGS];
    uint32_t rings_n = ring_rows(t, rows);
    int used = snprintf(buf, buf_bytes,
                        "requests: %u x %zu B, host\nprompt tokens: %u x %zu B, host (as used)\n"
                        "connections: %u x %zu B and %llu B of output, host\n",
                        t->reqs_n, sizeof(struct req), t->reqs_n,
                        t->prompt_tokens_max * sizeof(uint32_t), t->conf.limits_connections_max,
                        (size_t)CONNS_INPUT_BYTES + sizeof(struct http_reader),
                        (unsigned long long)t->conf.limits_unsent_bytes_max);
    for (uint32_t i = 0; i < rings_n; i++) {
        size_t at = used < 0 || (size_t)used > buf_bytes ? buf_bytes : (size_t)used;
        used += snprintf(buf + at, buf_bytes - at, "ring %s: %u x %u B, host\n", rows[i].name,
                         rows[i].entries, rows[i].entry_bytes);
    }
    return used;
}
