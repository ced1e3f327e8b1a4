// SPDX-License-Identifier: MIT
// sock_thread: connections of the Unix socket and the loopback port: bytes -> requests, answers ->
// bytes, time-outs.  A connection serves one request at a time; what is pipelined behind it waits.
#include "api/answer.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/sock_state.h"
#include "daemon/streaming.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

// A whole answer may be large (128 choices with log-probabilities); streams have their own limit.
#define UNSENT_BYTES_MAX (512u << 20)
#define OUT_BYTES_MAX    (512u << 20)

// What a connection gets that finds no place.
static const char full_reply[] =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    "Connection: close\r\nContent-Length: 104\r\n\r\n"
    "{\"error\":{\"message\":\"too many connections\",\"type\":\"unavailable_error\",\"param\":null,"
    "\"code\":\"overloaded\"}}";

static void status_count(struct sock_state *s, uint16_t status)
{
    struct metrics_page *page = &s->t->metrics;
    if (status < 400)
        metrics_add(page, METRIC_ID_RESPONSE_2XX, 1);
    else if (status < 500)
        metrics_add(page, METRIC_ID_RESPONSE_4XX, 1);
    else
        metrics_add(page, METRIC_ID_RESPONSE_5XX, 1);
}

void conn_send(struct sock_state *s, uint32_t conn)
{
    int err = buf_error(&s->out);
    if (err == 0 && s->out.n > 0)
        err = sock_send(s->sock, conn, s->out.data, s->out.n);
    if (err != 0 && err != -EPIPE)
        log_warning("connection %u: an answer is lost: %s", conn, strerror(-err));
    if (err != 0)
        sock_abort(s->sock, conn);
    buf_clear(&s->out);
}

void conn_error(struct sock_state *s, uint32_t conn, const struct http_form *form,
                const struct api_error *error)
{
    answer_error(&s->out, form, error, clock_unix_s(), NULL);
    conn_send(s, conn);
    status_count(s, error->status);
}

// conn_moved says whether the client has read something since it was last asked.
static bool conn_moved(struct sock_state *s, uint32_t conn, uint64_t now_us)
{
    struct connection *c = &s->conns[conn];
    uint64_t sent = sock_sent(s->sock, conn);
    if (sent != c->sent || sock_unsent(s->sock, conn) == 0) {
        c->sent = sent;
        c->moved_us = now_us;
    }
    return now_us - c->moved_us < live_get(&s->t->live, idle_timeout_us);
}

void conn_deadline(struct sock_state *s, uint32_t conn)
{
    const struct connection *c = &s->conns[conn];
    const struct live *live = &s->t->live;
    uint64_t wait_us;
    if (c->req != REQ_NONE)
        wait_us = live_get(live, keep_alive_us);
    else if (c->reader.state == HTTP_STATE_HEAD)
        wait_us = live_get(live, header_timeout_us);
    else if (c->reader.state == HTTP_STATE_BODY)
        wait_us = live_get(live, body_timeout_us);
    else
        wait_us = live_get(live, idle_timeout_us);
    sock_deadline(s->sock, conn, clock_us() + wait_us);
    sock_evictable(s->sock, conn, c->req == REQ_NONE && c->reader.state != HTTP_STATE_BODY);
}

void conn_answered(struct sock_state *s, uint32_t conn, bool keep_alive)
{
    struct connection *c = &s->conns[conn];
    c->req = REQ_NONE;
    if (!keep_alive || c->ended) {
        conn_deadline(s, conn); // for the client to read it
        sock_finish(s->sock, conn);
        return;
    }
    http_reader_next(&c->reader);
    conn_deadline(s, conn);
    sock_resume(s->sock, conn);
}

static void on_opened(void *user, uint32_t conn, bool local)
{
    struct sock_state *s = user;
    struct connection *c = &s->conns[conn];
    *c = (struct connection){.open = true, .local = local, .req = REQ_NONE};
    http_reader_init(&c->reader, live_get(&s->t->live, body_bytes_max));
    c->moved_us = clock_us();
    metrics_add(&s->t->metrics, METRIC_ID_CONNECTION_OPENED, 1);
    conn_deadline(s, conn);
}

static void on_closed(void *user, uint32_t conn)
{
    struct sock_state *s = user;
    struct connection *c = &s->conns[conn];
    if (c->req != REQ_NONE)
        generation_drop(s, c->req);
    http_reader_fini(&c->reader);
    memset(c, 0, sizeof(*c));
}

// request_refused answers what the reader, or endpoint_judge, refused.
static void request_refused(struct sock_state *s, uint32_t conn)
{
    struct connection *c = &s->conns[conn];
    bool keep_alive = c->reader.req.form.keep_alive;
    conn_error(s, conn, &c->reader.req.form, &c->reader.error);
    conn_answered(s, conn, keep_alive);
}

// request_event handles what the reader found.  Returns false if the loop has to stop.
static bool request_event(struct sock_state *s, uint32_t conn, enum http_event event)
{
    struct connection *c = &s->conns[conn];
    switch (event) {
    case HTTP_EVENT_MORE:
        return false;
    case HTTP_EVENT_HEAD:
        endpoint_judge(s, conn);
        return true;
    case HTTP_EVENT_REQUEST:
        endpoint_serve(s, conn);
        return false; // conn_answered resumes
    default:
        assert(event == HTTP_EVENT_REFUSED);
        request_refused(s, conn);
        (void)c;
        return false;
    }
}

static size_t on_received(void *user, uint32_t conn, const char *bytes, size_t n)
{
    struct sock_state *s = user;
    struct connection *c = &s->conns[conn];
    if (c->req != REQ_NONE || c->reader.state == HTTP_STATE_DONE)
        return 0; // one at a time
    enum http_state before = c->reader.state;
    size_t used = 0;
    for (;;) {
        size_t taken;
        enum http_event event = http_reader_feed(&c->reader, bytes + used, n - used, &taken);
        used += taken;
        if (!request_event(s, conn, event))
            break;
    }
    // A time-out runs from the beginning of each part, not from its last byte.
    if (c->req == REQ_NONE && c->reader.state != before)
        conn_deadline(s, conn);
    return used;
}

static void on_ended(void *user, uint32_t conn)
{
    struct sock_state *s = user;
    struct connection *c = &s->conns[conn];
    c->ended = true;
    if (c->req == REQ_NONE && c->reader.state != HTTP_STATE_DONE)
        sock_finish(s->sock, conn);
}

static void on_drained(void *user, uint32_t conn)
{
    struct sock_state *s = user;
    s->conns[conn].moved_us = clock_us();
}

static void request_timeout(struct sock_state *s, uint32_t conn)
{
    struct connection *c = &s->conns[conn];
    struct api_error error;
    api_error_set(&error, API_ERROR_TIMEOUT, NULL, "the %s of the request did not arrive in time",
                  c->reader.state == HTTP_STATE_HEAD ? "head" : "body");
    struct http_form form = {.keep_alive = false};
    conn_error(s, conn, &form, &error);
    sock_finish(s->sock, conn);
}

static void on_expired(void *user, uint32_t conn)
{
    struct sock_state *s = user;
    struct connection *c = &s->conns[conn];
    if (!conn_moved(s, conn, clock_us())) {
        log_info("connection %u: the client does not read, closing", conn);
        sock_abort(s->sock, conn);
    } else if (c->req != REQ_NONE) {
        generation_keep_alive(s, conn);
        conn_deadline(s, conn);
    } else if (c->reader.state == HTTP_STATE_HEAD || c->reader.state == HTTP_STATE_BODY) {
        request_timeout(s, conn);
    } else {
        sock_finish(s->sock, conn);
    }
}

static void summary_log(struct sock_state *s)
{
    const struct topology *t = s->t;
    log_info("state: %u connections, %u of %u requests in work%s", sock_connections_n(s->sock),
             t->reqs_n - s->free_reqs_n, t->reqs_n,
             atomic_load_explicit(&t->draining, memory_order_relaxed) ? ", draining" : "");
    log_info("state: %llu sequences run, %llu wait; %llu prompt and %llu generated tokens in %llu "
             "steps; %llu of %u KV tokens free",
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_SEQUENCE_RUNNING),
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_SEQUENCE_WAITING),
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_PROMPT_TOKEN),
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_GENERATED_TOKEN),
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_STEP),
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_KV_TOKEN_FREE), t->kv_tokens);
    log_info("state: rings: %u to tok, %u from tok, %u to step, %u from step",
             ring_depth(t->sock_tok), ring_depth(t->tok_sock), ring_depth(t->tok_step),
             ring_depth(t->step_sock));
}

// streaming_log: the same for experts on drives.
static void streaming_log(const struct metrics_page *page)
{
    uint64_t hits = metrics_get(page, METRIC_ID_EXPERT_HIT);
    uint64_t wanted = hits + metrics_get(page, METRIC_ID_EXPERT_MISS);
    uint64_t stall_us = metrics_get(page, METRIC_ID_EXPERT_STALL_FIRST_US) +
                        metrics_get(page, METRIC_ID_EXPERT_STALL_LAST_US) +
                        metrics_get(page, METRIC_ID_EXPERT_STALL_SLOTS_US);
    uint64_t rate = 0, best = 0;
    char failing[1024] = "";
    if (metrics_get(page, METRIC_ID_EXPERT_SLOT) == 0)
        return;
    for (uint32_t i = 0; i < metrics_drives_n(page); i++) {
        rate += metrics_drive_get(page, i, DRIVE_METRIC_ID_BYTES_SECOND);
        best += metrics_drive_get(page, i, DRIVE_METRIC_ID_BEST_BYTES_SECOND);
    }
    streaming_failing(page, failing, sizeof(failing));
    log_info("state: experts: %.1f %% of %llu found in slots; drives gave %.2f GB, %.2f of at best "
             "%.2f GB/s; stalled for %.1f s; %llu failed%s%s",
             wanted > 0 ? 100.0 * (double)hits / (double)wanted : 0.0, (unsigned long long)wanted,
             (double)metrics_get(page, METRIC_ID_EXPERT_DRIVE_BYTES) / 1e9, (double)rate / 1e9,
             (double)best / 1e9, (double)stall_us / 1e6,
             (unsigned long long)metrics_get(page, METRIC_ID_EXPERT_FAILED), failing[0] ? "; " : "",
             failing);
}

static void on_woken(void *user)
{
    struct sock_state *s = user;
    if (atomic_exchange_explicit(&s->t->summary, false, memory_order_acquire)) {
        summary_log(s);
        streaming_log(&s->t->metrics);
    }
}

// all_out says whether nothing is left to be answered or sent.
static bool all_out(struct sock_state *s)
{
    if (s->free_reqs_n < s->t->reqs_n)
        return false;
    for (uint32_t i = 0; i < s->t->conf.limits_connections_max; i++)
        if (s->conns[i].open && sock_unsent(s->sock, i) > 0)
            return false;
    return true;
}

static void loop_once(struct sock_state *s)
{
    uint32_t work = 0;
    work += generation_replies(s); // tok -> us
    work += generation_events(s);  // step -> us
    metrics_set(&s->t->metrics, METRIC_ID_CONNECTION, sock_connections_n(s->sock));
    metrics_set(&s->t->metrics, METRIC_ID_REQUEST_ACTIVE, s->t->reqs_n - s->free_reqs_n);
    if (atomic_load_explicit(&s->t->draining, memory_order_acquire) && all_out(s) &&
        !atomic_exchange_explicit(&s->t->drained, true, memory_order_release))
        wake_signal(s->t->wake_ctl);
    sock_poll(s->sock, work > 0 ? 0 : -1);
}

static int state_init(struct sock_state *s, struct fault *fault)
{
    struct topology *t = s->t;
    uint32_t conns_max = t->conf.limits_connections_max;
    buf_init(&s->out, OUT_BYTES_MAX);
    s->conns = calloc(conns_max, sizeof(*s->conns));
    s->free_reqs = calloc(t->reqs_n, sizeof(*s->free_reqs));
    if (!s->conns || !s->free_reqs)
        return fault_set(fault, ENOMEM, "memory for %u connections", conns_max);
    for (uint32_t i = 0; i < t->reqs_n; i++)
        s->free_reqs[i] = t->reqs_n - 1 - i;
    s->free_reqs_n = t->reqs_n;

    struct sock_params params = {
        .connections_max = conns_max,
        .unsent_max = UNSENT_BYTES_MAX,
        .wake_fd = t->wake_sock,
        .full_reply = full_reply,
        .ops = {.opened = on_opened,
                .received = on_received,
                .ended = on_ended,
                .drained = on_drained,
                .expired = on_expired,
                .closed = on_closed,
                .woken = on_woken},
        .user = s,
    };
    return sock_create(&params, t->listeners, t->listeners_n, &s->sock, fault);
}

static void state_fini(struct sock_state *s)
{
    sock_destroy(&s->sock);
    for (uint32_t i = 0; s->conns && i < s->t->conf.limits_connections_max; i++)
        if (s->conns[i].open)
            http_reader_fini(&s->conns[i].reader);
    free(s->conns);
    free(s->free_reqs);
    buf_free(&s->out);
}

void *sock_thread(void *arg)
{
    struct sock_state s = {.t = arg};
    struct fault fault = {0};
    if (state_init(&s, &fault) != 0) {
        log_error("%s", fault.text);
        atomic_store_explicit(&s.t->sock_failed, true, memory_order_release);
        wake_signal(s.t->wake_ctl);
    }
    while (s.sock && !atomic_load_explicit(&s.t->stopping, memory_order_acquire))
        loop_once(&s);
    state_fini(&s);
    return NULL;
}
