// SPDX-License-Identifier: MIT
// front: connections: bytes -> requests, answers -> bytes, time-outs.  A connection serves one
// request at a time; what is pipelined behind it waits.
#include "daemon/front.h"
#include "api/answer.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/streaming.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A whole answer may be large (128 choices with log-probabilities); streams have their own limit.
#define UNSENT_BYTES_MAX  (512u << 20)
#define OUT_BYTES_MAX     (512u << 20)
#define DRAIN_PATIENCE_US 5000000u // stopping does not wait for a client that read nothing so long
#define DRAIN_LOOK_MS     500

// What a connection gets that finds no place.
static const char full_reply[] =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    "Connection: close\r\nContent-Length: 104\r\n\r\n"
    "{\"error\":{\"message\":\"too many connections\",\"type\":\"unavailable_error\",\"param\":null,"
    "\"code\":\"overloaded\"}}";

static void status_count(struct front *f, uint16_t status)
{
    struct metrics_page *page = &f->t->metrics;
    if (status < 400)
        metrics_add(page, METRIC_ID_RESPONSE_2XX, 1);
    else if (status < 500)
        metrics_add(page, METRIC_ID_RESPONSE_4XX, 1);
    else
        metrics_add(page, METRIC_ID_RESPONSE_5XX, 1);
}

void conn_send(struct front *f, uint32_t conn)
{
    int err = buf_error(&f->out);
    if (err == 0 && f->out.n > 0)
        err = conns_send(f->conns, conn, f->out.data, f->out.n);
    if (err != 0 && err != -EPIPE)
        log_limited(LOG_LEVEL_WARNING, CLIENT_LINES, "connection %u: an answer is lost: %s", conn,
                    strerror(-err));
    if (err != 0)
        conns_abort(f->conns, conn);
    buf_clear(&f->out);
}

void conn_error(struct front *f, uint32_t conn, const struct http_form *form,
                const struct api_error *error)
{
    answer_error(&f->out, form, error, clock_unix_s());
    conn_send(f, conn);
    status_count(f, error->status);
}

// conn_moved says whether the client has read something since it was last asked.
static bool conn_moved(struct front *f, uint32_t conn, uint64_t now_us, uint64_t patience_us)
{
    struct connection *c = &f->places[conn];
    uint64_t sent = conns_sent(f->conns, conn);
    if (sent != c->sent || conns_unsent(f->conns, conn) == 0) {
        c->sent = sent;
        c->moved_us = now_us;
    }
    return now_us - c->moved_us < patience_us;
}

void conn_deadline(struct front *f, uint32_t conn)
{
    const struct connection *c = &f->places[conn];
    const struct live *live = &f->t->live;
    uint64_t wait_us;
    if (c->req != REQ_NONE)
        wait_us = live_get(live, keep_alive_us);
    else if (c->reader.state == HTTP_STATE_HEAD)
        wait_us = live_get(live, header_timeout_us);
    else if (c->reader.state == HTTP_STATE_BODY)
        wait_us = live_get(live, body_timeout_us);
    else
        wait_us = live_get(live, idle_timeout_us);
    conns_deadline(f->conns, conn, clock_us() + wait_us);
    // The body of a refused request is only thrown away: without a key nobody may hold a place.
    bool wanted = c->req != REQ_NONE || (c->reader.state == HTTP_STATE_BODY && !c->reader.refused);
    conns_evictable(f->conns, conn, !wanted);
}

const char *conn_client_text(const struct connection *c, char ret[CLIENT_TEXT_MAX])
{
    if (c->peer.kind == CONNS_UNIX)
        snprintf(ret, CLIENT_TEXT_MAX, "uid %u", c->peer.uid);
    else
        snprintf(ret, CLIENT_TEXT_MAX, "%s%s%s", c->peer.address, c->key ? ", key " : "",
                 c->key ? c->key->name : "");
    return ret;
}

static void rate_give_back(struct front *f, struct connection *c)
{
    if (c->rated)
        rate_release(&f->t->rate, c->rate_slot);
    c->rated = false;
    c->key = NULL;
}

void conn_answered(struct front *f, uint32_t conn, bool keep_alive)
{
    struct connection *c = &f->places[conn];
    c->req = REQ_NONE;
    rate_give_back(f, c);
    if (!keep_alive || c->ended) {
        conn_deadline(f, conn); // for the client to read it
        conns_finish(f->conns, conn);
        return;
    }
    http_reader_next(&c->reader);
    conn_deadline(f, conn);
    conns_resume(f->conns, conn);
}

static void on_opened(void *user, uint32_t conn, const struct conns_peer *peer)
{
    struct front *f = user;
    struct connection *c = &f->places[conn];
    *c = (struct connection){.open = true, .peer = *peer, .req = REQ_NONE};
    http_reader_init(&c->reader, live_get(&f->t->live, body_bytes_max));
    c->moved_us = clock_us();
    metrics_add(&f->t->metrics, METRIC_ID_CONNECTION_OPENED, 1);
    conn_deadline(f, conn);
}

static void on_closed(void *user, uint32_t conn)
{
    struct front *f = user;
    struct connection *c = &f->places[conn];
    if (c->req != REQ_NONE)
        generation_drop(f, c->req);
    rate_give_back(f, c);
    http_reader_fini(&c->reader);
    memset(c, 0, sizeof(*c));
}

// request_refused answers what the reader, or endpoint_judge, refused.
static void request_refused(struct front *f, uint32_t conn)
{
    struct connection *c = &f->places[conn];
    bool keep_alive = c->reader.req.form.keep_alive;
    cors_apply(&f->t->cors, &c->reader.req); // the head may have been refused before endpoint_judge
    conn_error(f, conn, &c->reader.req.form, &c->reader.error);
    conn_answered(f, conn, keep_alive);
}

// request_event handles what the reader found.  Returns false if the loop has to stop.
static bool request_event(struct front *f, uint32_t conn, enum http_event event)
{
    switch (event) {
    case HTTP_EVENT_MORE:
        return false;
    case HTTP_EVENT_HEAD:
        endpoint_judge(f, conn);
        return true;
    case HTTP_EVENT_REQUEST:
        endpoint_serve(f, conn);
        return false; // conn_answered resumes
    default:
        assert(event == HTTP_EVENT_REFUSED);
        request_refused(f, conn);
        return false;
    }
}

static size_t on_received(void *user, uint32_t conn, const char *bytes, size_t n)
{
    struct front *f = user;
    struct connection *c = &f->places[conn];
    if (c->req != REQ_NONE || c->reader.state == HTTP_STATE_DONE)
        return 0; // one at a time
    // Nor while an answer waits to be read: who only asks would have us keep answers without end.
    if (c->reader.state == HTTP_STATE_IDLE && conns_unsent(f->conns, conn) > 0)
        return 0; // on_drained resumes
    enum http_state before = c->reader.state;
    size_t used = 0;
    for (;;) {
        size_t taken;
        enum http_event event = http_reader_feed(&c->reader, bytes + used, n - used, &taken);
        used += taken;
        if (!request_event(f, conn, event))
            break;
    }
    // A time-out runs from the beginning of each part, not from its last byte.
    if (c->req == REQ_NONE && c->reader.state != before)
        conn_deadline(f, conn);
    return used;
}

static void on_ended(void *user, uint32_t conn)
{
    struct front *f = user;
    struct connection *c = &f->places[conn];
    c->ended = true;
    if (c->req == REQ_NONE && c->reader.state != HTTP_STATE_DONE)
        conns_finish(f->conns, conn);
}

static void on_drained(void *user, uint32_t conn)
{
    struct front *f = user;
    f->places[conn].moved_us = clock_us();
    conns_resume(f->conns, conn); // what was pipelined behind the answer
}

static void request_timeout(struct front *f, uint32_t conn)
{
    struct connection *c = &f->places[conn];
    struct api_error error;
    api_error_set(&error, API_ERROR_TIMEOUT, NULL, "the %s of the request did not arrive in time",
                  c->reader.state == HTTP_STATE_HEAD ? "head" : "body");
    struct http_form form = {.keep_alive = false};
    conn_error(f, conn, &form, &error);
    conns_finish(f->conns, conn);
}

static void on_expired(void *user, uint32_t conn)
{
    struct front *f = user;
    struct connection *c = &f->places[conn];
    if (!conn_moved(f, conn, clock_us(), live_get(&f->t->live, idle_timeout_us))) {
        log_limited(LOG_LEVEL_INFO, CLIENT_LINES,
                    "connection %u: the client does not read, closing", conn);
        conns_abort(f->conns, conn);
    } else if (c->req != REQ_NONE) {
        generation_keep_alive(f, conn);
        conn_deadline(f, conn);
    } else if (c->reader.state == HTTP_STATE_HEAD || c->reader.state == HTTP_STATE_BODY) {
        request_timeout(f, conn);
    } else if (conns_unsent(f->conns, conn) > 0) {
        conn_deadline(f, conn); // it still reads, and may have asked more
    } else {
        conns_finish(f->conns, conn);
    }
}

static void summary_log(struct front *f)
{
    const struct topology *t = f->t;
    log_info("state: %s: %u connections, %u of %u requests in work%s", front_name[f->id],
             conns_open_n(f->conns), f->reqs_n, t->reqs_n,
             atomic_load_explicit(&t->draining, memory_order_relaxed) ? ", draining" : "");
    log_info("state: %s: rings: %u to tok, %u from tok, %u to step, %u from step",
             front_name[f->id], ring_depth(f->lines->requests), ring_depth(f->lines->replies),
             ring_depth(t->tok_step), ring_depth(f->lines->events));
}

// steps_log: what all fronts share.
static void steps_log(const struct topology *t)
{
    log_info("state: %llu sequences run, %llu wait; %llu prompt and %llu generated tokens in %llu "
             "steps; %llu of %u KV tokens free",
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_SEQUENCE_RUNNING),
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_SEQUENCE_WAITING),
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_PROMPT_TOKEN),
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_GENERATED_TOKEN),
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_STEP),
             (unsigned long long)metrics_get(&t->metrics, METRIC_ID_KV_TOKEN_FREE), t->kv_tokens);
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
    struct front *f = user;
    if (atomic_exchange_explicit(&f->lines->summary, false, memory_order_acquire)) {
        summary_log(f);
        if (f->id == FRONT_SOCK) { // once, not from every front
            steps_log(f->t);
            streaming_log(&f->t->metrics);
        }
    }
}

// all_out says whether nothing is left to be answered, or to be sent to somebody who reads.
static bool all_out(struct front *f)
{
    uint64_t now_us = clock_us();
    if (f->reqs_n > 0)
        return false;
    for (uint32_t i = 0; i < f->t->conf.limits_connections_max; i++)
        if (f->places[i].open && conns_unsent(f->conns, i) > 0 &&
            conn_moved(f, i, now_us, DRAIN_PATIENCE_US))
            return false;
    return true;
}

// drain_look tells ctl once all is out.  Returns how long to wait before the next look.
static int drain_look(struct front *f)
{
    struct topology *t = f->t;
    if (!atomic_load_explicit(&t->draining, memory_order_acquire))
        return -1;
    if (all_out(f) && !atomic_exchange_explicit(&f->lines->drained, true, memory_order_release))
        wake_signal(t->wake_ctl);
    return DRAIN_LOOK_MS;
}

static void loop_once(struct front *f)
{
    struct topology *t = f->t;
    uint32_t work = 0;
    work += generation_replies(f); // tok -> us
    work += generation_events(f);  // step -> us
    atomic_store_explicit(&f->lines->connections_n, conns_open_n(f->conns), memory_order_relaxed);
    metrics_set(&t->metrics, METRIC_ID_CONNECTION, topology_connections_n(t));
    metrics_set(&t->metrics, METRIC_ID_REQUEST_ACTIVE, req_pool_taken(&t->req_pool));
    int wait_ms = drain_look(f);
    if (f->turn)
        f->turn(f);
    conns_poll(f->conns, work > 0 ? 0 : wait_ms);
}

int front_init(struct front *f, struct topology *t, enum front_id id,
               struct conns_params *ret_params, struct fault *fault)
{
    uint32_t max = t->conf.limits_connections_max;
    *f = (struct front){.t = t, .id = id, .lines = &t->fronts[id]};
    buf_init(&f->out, OUT_BYTES_MAX);
    f->places = calloc(max, sizeof(*f->places));
    if (!f->places)
        return fault_set(fault, ENOMEM, "memory for %u connections", max);
    *ret_params = (struct conns_params){
        .connections_max = max,
        .unsent_max = UNSENT_BYTES_MAX,
        .wake_fd = f->lines->wake,
        .full_reply = full_reply,
        .ops = {.opened = on_opened,
                .received = on_received,
                .ended = on_ended,
                .drained = on_drained,
                .expired = on_expired,
                .closed = on_closed,
                .woken = on_woken},
        .user = f,
    };
    return 0;
}

void front_run(struct front *f)
{
    atomic_store_explicit(&f->lines->started, true, memory_order_release);
    wake_signal(f->t->wake_ctl);
    while (!atomic_load_explicit(&f->t->stopping, memory_order_acquire))
        loop_once(f);
}

void front_failed(struct front *f, const struct fault *fault)
{
    char number[16];
    snprintf(number, sizeof(number), "%d", fault->err);
    log_event(LOG_LEVEL_ERROR, EVENT_FAILED, LOG_FIELDS({"ERRNO", number}), "%s", fault->text);
    atomic_store_explicit(&f->lines->failed, true, memory_order_release);
    wake_signal(f->t->wake_ctl);
}

void front_fini(struct front *f)
{
    for (uint32_t i = 0; f->places && i < f->t->conf.limits_connections_max; i++)
        if (f->places[i].open)
            http_reader_fini(&f->places[i].reader);
    free(f->places);
    buf_free(&f->out);
}
