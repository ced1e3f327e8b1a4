// SPDX-License-Identifier: MIT
// endpoint: what each path does: answer at once, or fill in a request and hand it to tok.
#include "api/answer.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/front.h"
#include "daemon/streaming.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define RETRY_LOADING_S  5u
#define RETRY_DRAINING_S 10u
#define BODY_BYTES_MAX   (1u << 20) // of the answers made here

static bool route_generates(enum route route)
{
    return route == ROUTE_CHAT || route == ROUTE_COMPLETION;
}

// model_refuses says why no generation can be taken now; false if one can.
static bool model_refuses(const struct topology *t, struct api_error *error)
{
    int model = atomic_load_explicit(&t->model_state, memory_order_acquire);
    if (atomic_load_explicit(&t->draining, memory_order_relaxed) || model == MODEL_FAILED) {
        api_error_set(error, API_ERROR_DRAINING, NULL, "the server is stopping");
        error->retry_after_s = RETRY_DRAINING_S;
        return true;
    }
    if (model != MODEL_READY) {
        api_error_set(error, API_ERROR_LOADING, NULL, "the model is still being loaded");
        error->retry_after_s = RETRY_LOADING_S;
        return true;
    }
    return false;
}

// key_judge: on the port every request needs a key, but those that are open to all.
static int key_judge(struct front *f, struct connection *c, const struct key **ret,
                     struct api_error *error)
{
    const struct keys *keys = keys_store_now(&f->t->keys);
    *ret = NULL;
    if (keys && keys_judge(keys, &c->reader.req, ret, error) == 0)
        return 0;
    if (f->t->conf.net_allow_anonymous)
        return 0; // programs send a key whether one is asked for or not
    assert(keys); // topology_keys_load
    return -EACCES;
}

// rate_judge counts the request of a key; conn_answered gives it back.
static int rate_judge(struct front *f, struct connection *c, const struct key *key,
                      struct api_error *error)
{
    const struct live *live = &f->t->live;
    struct rate_limits defaults = {.per_minute = live_get(live, requests_per_minute),
                                   .concurrency = live_get(live, requests_per_key_max)};
    struct rate_limits limits = rate_limits_of(key, &defaults);
    uint32_t slot = key ? key->slot : RATE_ANONYMOUS, retry_s;
    int err = rate_take(&f->t->rate, slot, &limits, clock_us(), &retry_s);
    if (err != 0)
        return rate_error(err, &limits, retry_s, error);
    c->rated = true;
    c->rate_slot = slot;
    c->key = key;
    return 0;
}

// refusal_log: who came to the port and was sent away, by the status.
static void refusal_log(struct front *f, const struct connection *c, enum event event,
                        const struct api_error *error)
{
    char client[CLIENT_TEXT_MAX], status[8];
    conn_client_text(c, client);
    snprintf(status, sizeof(status), "%u", error->status);
    log_event(LOG_LEVEL_WARNING, event, LOG_FIELDS({"CLIENT", client}, {"STATUS", status}),
              "%s: refused a request from %s: %u, %s", front_name[f->id], client, error->status,
              error->message);
}

// host_judge: whoever comes to the loopback port must mean it, as it asks for no key.
static int host_judge(const struct connection *c, struct api_error *error)
{
    const struct http_request *req = &c->reader.req;
    if (c->peer.kind != CONNS_LOOPBACK || http_request_host_local(req))
        return 0;
    const char *host = http_request_field(req, "Host");
    api_error_set(error, API_ERROR_HOST, NULL,
                  "this port is for programs of this machine, which call it localhost or by a "
                  "numeric address, not '%.200s'; a proxy has to send such a Host",
                  host ? host : "");
    return -EACCES;
}

// request_judge decides by the head.
static int request_judge(struct front *f, struct connection *c, struct api_error *error)
{
    struct route_match match;
    const struct key *key = NULL;
    int err = host_judge(c, error);
    if (err != 0)
        return err;
    err = route_find(&c->reader.req, &match, error);
    bool open = err == 0 && match.open;
    if (c->peer.kind >= CONNS_PORT && !open) {
        struct api_error no_key;
        if (key_judge(f, c, &key, &no_key) != 0) {
            *error = no_key; // before anybody learns which paths there are
            refusal_log(f, c, EVENT_KEY, error);
            return -EACCES;
        }
        if (err == 0 && (err = rate_judge(f, c, key, error)) != 0) {
            c->key = key; // for this line only
            refusal_log(f, c, EVENT_KEY, error);
            c->key = NULL;
        }
    }
    if (err == 0 && route_generates(match.route) && model_refuses(f->t, error))
        err = -EAGAIN;
    return err;
}

void endpoint_judge(struct front *f, uint32_t conn)
{
    struct http_reader *r = &f->places[conn].reader;
    struct api_error error;
    cors_apply(&f->t->cors, &r->req);
    if (request_judge(f, &f->places[conn], &error) != 0) {
        http_reader_refuse(r, &error);
        return;
    }
    if (r->req.expect_continue && r->req.has_body) {
        buf_puts(&f->out, HTTP_CONTINUE);
        conn_send(f, conn);
    }
}

// whole_send answers with a body.
static void whole_send(struct front *f, uint32_t conn, uint16_t status, const char *type,
                       uint32_t retry_after_s, const struct buf *body)
{
    const struct http_form form = f->places[conn].reader.req.form;
    struct answer answer = {.status = status,
                            .content_type = type,
                            .date_unix_s = clock_unix_s(),
                            .retry_after_s = retry_after_s};
    if (buf_error(body) != 0) {
        struct api_error error;
        api_error_memory(&error);
        conn_error(f, conn, &form, &error);
    } else {
        answer_whole(&f->out, &form, &answer, body->data, body->n);
        conn_send(f, conn);
        metrics_add(&f->t->metrics, status < 400 ? METRIC_ID_RESPONSE_2XX : METRIC_ID_RESPONSE_5XX,
                    1);
    }
    conn_answered(f, conn, form.keep_alive);
}

static void health_serve(struct front *f, uint32_t conn, struct buf *body)
{
    const struct topology *t = f->t;
    uint64_t done = atomic_load_explicit(&t->load_done, memory_order_relaxed);
    uint64_t total = atomic_load_explicit(&t->load_total, memory_order_relaxed);
    int model = atomic_load_explicit(&t->model_state, memory_order_acquire);
    uint64_t waiting = metrics_get(&t->metrics, METRIC_ID_SEQUENCE_WAITING);
    char failing[1024];
    struct health_info info = {
        .health = HEALTH_OK,
        .model = t->served.name,
        .progress = total > 0 ? (float)((double)done / (double)total) : 0.0f,
        .requests_active = req_pool_taken(&t->req_pool),
        .requests_waiting = (uint32_t)waiting,
    };
    if (atomic_load_explicit(&t->draining, memory_order_relaxed) || model == MODEL_FAILED)
        info.health = HEALTH_DRAINING;
    else if (model != MODEL_READY)
        info.health = HEALTH_LOADING;
    else if (streaming_failing(&t->metrics, failing, sizeof(failing))) {
        info.health = HEALTH_DEGRADED;
        info.detail = failing;
    }
    uint32_t retry_after_s = 0;
    uint16_t status = health_write(body, &info, &retry_after_s);
    whole_send(f, conn, status, ANSWER_JSON, retry_after_s, body);
}

// request_error answers a complete request with an error; the connection goes on.
static void request_error(struct front *f, uint32_t conn, const struct api_error *error)
{
    const struct http_form form = f->places[conn].reader.req.form;
    conn_error(f, conn, &form, error);
    conn_answered(f, conn, form.keep_alive);
}

// id_make draws "chatcmpl-..." from the kernel's random numbers, and a seed.
static int id_make(struct req *req, uint64_t *ret_seed)
{
    uint64_t random[3];
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return -EIO;
    snprintf(req->id, sizeof(req->id), "%s-%012llx%012llx", req->chat ? "chatcmpl" : "cmpl",
             (unsigned long long)(random[0] >> 16), (unsigned long long)(random[1] >> 16));
    *ret_seed = random[2];
    return 0;
}

static void sampler_fill(struct req *req, uint64_t seed)
{
    const struct sampling *sampling = req->sampling;
    for (uint32_t i = 0; i < sampling->bias_n; i++)
        req->bias[i] =
            (struct sampler_bias){.id = sampling->bias[i].id, .bias = sampling->bias[i].bias};
    req->sampler = (struct sampler_params){
        .temperature = sampling->temperature,
        .top_k = sampling->top_k,
        .top_p = sampling->top_p,
        .min_p = sampling->min_p,
        .frequency_penalty = sampling->frequency_penalty,
        .presence_penalty = sampling->presence_penalty,
        .repetition_penalty = sampling->repetition_penalty,
        .seed = sampling->has_seed ? sampling->seed : seed,
        .bias = req->bias,
        .bias_n = sampling->bias_n,
    };
}

// generation_fill sets up what a chat and a completion have in common.
static int generation_fill(struct front *f, struct req *req, struct api_error *error)
{
    static_assert(SAMPLING_BIAS_MAX <= SAMPLER_BIAS_MAX, "req.bias holds them all");
    static_assert(SAMPLING_TOP_LOGPROBS <= SAMPLER_LOGPROB_MAX, "an event holds them all");
    const struct sampling *sampling = req->chat ? &req->chat->sampling : &req->completion->sampling;
    uint64_t seed;
    req->sampling = sampling;
    req->choices_n = (req->chat ? 1 : req->completion->prompts_n) * sampling->n;
    assert(req->choices_n <= SAMPLING_CHOICES_MAX);
    req->outputs = calloc(req->choices_n, sizeof(*req->outputs));
    if (!req->outputs || id_make(req, &seed) != 0)
        return api_error_memory(error);
    sampler_fill(req, seed);
    req->response = (struct response){.chat = req->chat != NULL,
                                      .id = req->id,
                                      .model = f->t->served.name,
                                      .fingerprint = NULL,
                                      .created = clock_unix_s(),
                                      .logprobs = sampling->logprobs,
                                      .include_usage = sampling->include_usage};
    return 0;
}

static int completion_judge(const struct front *f, const struct req *req, struct api_error *error)
{
    if (req->completion->suffix && f->t->served.fim_hole == TOKEN_NONE)
        return api_error_set(error, API_ERROR_UNSUPPORTED, "suffix",
                             "suffix: this model has no tokens to fill in the middle");
    return 0;
}

// body_parse reads the body into the request by its route.
static int body_parse(struct front *f, struct req *req, const struct buf *body,
                      struct api_error *error)
{
    const struct api_limits *limits = &f->t->served.limits;
    int err;
    switch (req->route) {
    case ROUTE_CHAT:
        err = chat_request_parse(body->data, body->n, limits, &req->chat, error);
        return err != 0 ? err : generation_fill(f, req, error);
    case ROUTE_COMPLETION:
        err = completion_request_parse(body->data, body->n, limits, &req->completion, error);
        if (err == 0)
            err = completion_judge(f, req, error);
        return err != 0 ? err : generation_fill(f, req, error);
    case ROUTE_TOKENIZE:
        return tokenize_parse(body->data, body->n, &req->tokenize, error);
    case ROUTE_DETOKENIZE:
        return detokenize_parse(body->data, body->n, limits->vocab_size, &req->detokenize_ids,
                                &req->detokenize_n, error);
    default:
        assert(req->route == ROUTE_APPLY_TEMPLATE);
        return chat_template_parse(body->data, body->n, limits, &req->chat, error);
    }
}

// work_start takes a place in the pool, fills it in and hands it to tok.
static void work_start(struct front *f, uint32_t conn, enum route route)
{
    struct connection *c = &f->places[conn];
    struct api_error error;
    uint32_t number;
    if (!req_pool_take(&f->t->req_pool, &number)) {
        api_error_set(&error, API_ERROR_BUSY, NULL, "all %u places for requests are taken",
                      f->t->reqs_n);
        refusal_log(f, c, EVENT_FULL, &error);
        request_error(f, conn, &error);
        return;
    }
    struct req *req = &f->t->reqs[number];
    req_state_set(req, REQ_PARSING);
    req->route = route;
    req->front = (uint8_t)f->id;
    if (body_parse(f, req, &c->reader.req.body, &error) != 0) {
        req_reset(req);
        req_state_set(req, REQ_FREE);
        req_pool_give(&f->t->req_pool, number);
        request_error(f, conn, &error);
        return;
    }
    f->reqs_n++;
    buf_free(&c->reader.req.body); // everything is in the request now
    req->conn = conn;
    req->form = c->reader.req.form;
    req->complete_us = clock_us();
    c->req = number;
    conn_deadline(f, conn);
    req_state_set(req, REQ_TOKENS);
    bool pushed = ring_push(f->lines->requests, &number);
    assert(pushed); // it has room for every request there is
    (void)pushed;
    wake_signal(f->t->wake_tok);
}

static void models_serve(struct front *f, uint32_t conn, const struct route_match *match,
                         struct buf *body)
{
    struct api_error error;
    if (match->route == ROUTE_MODELS)
        models_list(body, &f->t->served.info);
    else if (models_one(body, &f->t->served.info, match->arg, &error) != 0) {
        request_error(f, conn, &error);
        return;
    }
    whole_send(f, conn, 200, ANSWER_JSON, 0, body);
}

static void options_serve(struct front *f, uint32_t conn, const struct route_match *match)
{
    const struct http_form form = f->places[conn].reader.req.form;
    answer_options(&f->out, &form, match->allow, clock_unix_s(), &f->places[conn].reader.req);
    conn_send(f, conn);
    metrics_add(&f->t->metrics, METRIC_ID_RESPONSE_2XX, 1);
    conn_answered(f, conn, form.keep_alive);
}

void endpoint_serve(struct front *f, uint32_t conn)
{
    struct connection *c = &f->places[conn];
    struct route_match match;
    struct api_error error;
    struct buf body;
    if (route_find(&c->reader.req, &match, &error) != 0) { // endpoint_judge has seen it already
        request_error(f, conn, &error);
        return;
    }
    buf_init(&body, BODY_BYTES_MAX);
    switch (match.route) {
    case ROUTE_MODELS:
    case ROUTE_MODEL:
        models_serve(f, conn, &match, &body);
        break;
    case ROUTE_HEALTH:
        health_serve(f, conn, &body);
        break;
    case ROUTE_METRICS:
        metrics_page_write(&body, &f->t->metrics);
        net_page_write(&body, &f->t->net_page);
        whole_send(f, conn, 200, ANSWER_PROMETHEUS, 0, &body);
        break;
    case ROUTE_OPTIONS:
        options_serve(f, conn, &match);
        break;
    default:
        work_start(f, conn, match.route);
    }
    buf_free(&body);
}
