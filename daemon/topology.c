// SPDX-License-Identifier: MIT
#include "daemon/topology.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROMPT_TOKENS_MIN 65536u
#define EVENTS_MIN        4096u

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

#define RINGS 4u
static void ring_rows(struct topology *t, struct ring_row rows[RINGS])
{
    uint32_t reqs = power_of_two(t->reqs_n);
    uint32_t events = power_of_two(64 * t->conf.limits_batch_rows_max);
    if (events < EVENTS_MIN)
        events = EVENTS_MIN;
    rows[0] = (struct ring_row){"sock to tok", &t->sock_tok, reqs, sizeof(uint32_t)};
    rows[1] = (struct ring_row){"tok to sock", &t->tok_sock, reqs, sizeof(uint32_t)};
    rows[2] = (struct ring_row){"tok to step", &t->tok_step, reqs, sizeof(uint32_t)};
    rows[3] = (struct ring_row){"step to sock", &t->step_sock, events, sizeof(struct step_event)};
}

static int rings_create(struct topology *t)
{
    struct ring_row rows[RINGS];
    ring_rows(t, rows);
    for (uint32_t i = 0; i < RINGS; i++) {
        int err = ring_create(rows[i].entries, rows[i].entry_bytes, rows[i].ring);
        if (err != 0)
            return err;
    }
    return 0;
}

static int wakes_open(struct topology *t)
{
    int *wakes[] = {&t->wake_ctl, &t->wake_sock, &t->wake_tok, &t->wake_step};
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
    t->wake_ctl = t->wake_sock = t->wake_tok = t->wake_step = -1;
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
        t->reqs[i].conn = SOCK_NONE;
    }
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
    ring_destroy(&t->sock_tok);
    ring_destroy(&t->tok_sock);
    ring_destroy(&t->tok_step);
    ring_destroy(&t->step_sock);
    int wakes[] = {t->wake_ctl, t->wake_sock, t->wake_tok, t->wake_step};
    for (uint32_t i = 0; i < sizeof(wakes) / sizeof(wakes[0]); i++)
        if (wakes[i] >= 0)
            close(wakes[i]);
    free(t->req_ids);
    free(t->reqs);
    free(t);
    *topology = NULL;
}

int topology_plan_text(struct topology *t, char *buf, size_t buf_bytes)
{
    struct ring_row rows[RINGS];
    ring_rows(t, rows);
    int used = snprintf(buf, buf_bytes,
                        "requests: %u x %zu B, host\nprompt tokens: %u x %zu B, host (as used)\n"
                        "connections: %u x %zu B and %llu B of output, host\n",
                        t->reqs_n, sizeof(struct req), t->reqs_n,
                        t->prompt_tokens_max * sizeof(uint32_t), t->conf.limits_connections_max,
                        (size_t)SOCK_INPUT_BYTES + sizeof(struct http_reader),
                        (unsigned long long)t->conf.limits_unsent_bytes_max);
    for (uint32_t i = 0; i < RINGS; i++) {
        size_t at = used < 0 || (size_t)used > buf_bytes ? buf_bytes : (size_t)used;
        used += snprintf(buf + at, buf_bytes - at, "ring %s: %u x %u B, host\n", rows[i].name,
                         rows[i].entries, rows[i].entry_bytes);
    }
    return used;
}
