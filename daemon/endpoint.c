// SPDX-License-Identifier: MIT
// endpoint: what each path does: answer at once, or fill in a request and hand it to tok.
#include "api/answer.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/sock_state.h"
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
    if (model == MODEL_LOADING) {
        api_error_set(error, API_ERROR_LOADING, NULL, "the model is still being loaded");
        error->retry_after_s = RETRY_LOADING_S;
        return true;
    }
    return false;
}

void endpoint_judge(struct sock_state *s, uint32_t conn)
{
    struct http_reader *r = &s->conns[conn].reader;
    struct api_error error;
    struct route_match match;
    if (route_find(&r->req, &match, &error) != 0 ||
        (route_generates(match.route) && model_refuses(s->t, &error))) {
        http_reader_refuse(r, &error);
        return;
    }
    if (r->req.expect_continue && r->req.has_body) {
        buf_puts(&s->out, HTTP_CONTINUE);
        conn_send(s, conn);
    }
}

// whole_send answers with a body.
static void whole_send(struct sock_state *s, uint32_t conn, uint16_t status, const char *type,
                       uint32_t retry_after_s, const struct buf *body)
{
    const struct http_form form = s->conns[conn].reader.req.form;
    struct answer answer = {.status = status,
                            .content_type = type,
                            .date_unix_s = clock_unix_s(),
                            .retry_after_s = retry_after_s};
    if (buf_error(body) != 0) {
        struct api_error error;
        api_error_memory(&error);
        conn_error(s, conn, &form, &error);
    } else {
        answer_whole(&s->out, &form, &answer, body->data, body->n);
        conn_send(s, conn);
        metrics_add(&s->t->metrics, status < 400 ? METRIC_ID_RESPONSE_2XX : METRIC_ID_RESPONSE_5XX,
                    1);
    }
    conn_answered(s, conn, form.keep_alive);
}

static void health_serve(struct sock_state *s, uint32_t conn, struct buf *body)
{
    const struct topology *t = s->t;
    uint64_t done = atomic_load_explicit(&t->load_done, memory_order_relaxed);
    uint64_t total = atomic_load_explicit(&t->load_total, memory_order_relaxed);
    int model = atomic_load_explicit(&t->model_state, memory_order_acquire);
    uint64_t waiting = metrics_get(&t->metrics, METRIC_ID_SEQUENCE_WAITING);
    char failing[1024];
    struct health_info info = {
        .health = HEALTH_OK,
        .model = t->served.name,
        .progress = total > 0 ? (float)((double)done / (double)total) : 0.0f,
        .requests_active = t->reqs_n - s->free_reqs_n,
        .requests_waiting = (uint32_t)waiting,
    };
    if (atomic_load_explicit(&t->draining, memory_order_relaxed) || model == MODEL_FAILED)
        info.health = HEALTH_DRAINING;
    else if (model == MODEL_LOADING)
        info.health = HEALTH_LOADING;
    else if (streaming_failing(&t->metrics, failing, sizeof(failing))) {
        info.health = HEALTH_DEGRADED;
        info.detail = failing;
    }
    uint32_t retry_after_s = 0;
    uint16_t status = health_write(body, &info, &retry_after_s);
    whole_send(s, conn, status, ANSWER_JSON, retry_after_s, body);
}

// request_error answers a complete request with an error; the connection goes on.
static void request_error(struct sock_state *s, uint32_t conn, const struct api_error *error)
{
    const struct http_form form = s->conns[conn].reader.req.form;
    conn_error(s, conn, &form, error);
    conn_answered(s, conn, form.keep_alive);
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
    const struct sampling *s = req->sampling;
    for (uint32_t i = 0; i < s->bias_n; i++)
        req->bias[i] = (struct sampler_bias){.id = s->bias[i].id, .bias = s->bias[i].bias};
    req->sampler = (struct sampler_params){
        .temperature = s->temperature,
        .top_k = s->top_k,
        .top_p = s->top_p,
        .min_p = s->min_p,
        .frequency_penalty = s->frequency_penalty,
        .presence_penalty = s->presence_penalty,
        .repetition_penalty = s->repetition_penalty,
        .seed = s->has_seed ? s->seed : seed,
        .bias = req->bias,
        .bias_n = s->bias_n,
    };
}

// generation_fill sets up what a chat and a completion have in common.
static int generation_fill(struct sock_state *s, struct req *req, struct api_error *error)
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
                                      .model = s->t->served.name,
                                      .fingerprint = NULL,
                                      .created = clock_unix_s(),
                                      .logprobs = sampling->logprobs,
                                      .include_usage = sampling->include_usage};
    return 0;
}

static int completion_judge(const struct sock_state *s, const struct req *req,
                            struct api_error *error)
{
    if (req->completion->suffix && s->t->served.fim_hole == TOKEN_NONE)
        return api_error_set(error, API_ERROR_UNSUPPORTED, "suffix",
                             "suffix: this model has no tokens to fill in the middle");
    return 0;
}

// body_parse reads the body into the request by its route.
static int body_parse(struct sock_state *s, struct req *req, const struct buf *body,
                      struct api_error *error)
{
    const struct api_limits *limits = &s->t->served.limits;
    int err;
    switch (req->route) {
    case ROUTE_CHAT:
        err = chat_request_parse(body->data, body->n, limits, &req->chat, error);
        return err != 0 ? err : generation_fill(s, req, error);
    case ROUTE_COMPLETION:
        err = completion_request_parse(body->data, body->n, limits, &req->completion, error);
        if (err == 0)
            err = completion_judge(s, req, error);
        return err != 0 ? err : generation_fill(s, req, error);
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
static void work_start(struct sock_state *s, uint32_t conn, enum route route)
{
    struct connection *c = &s->conns[conn];
    struct api_error error;
    if (s->free_reqs_n == 0) {
        api_error_set(&error, API_ERROR_BUSY, NULL, "all %u places for requests are taken",
                      s->t->reqs_n);
        request_error(s, conn, &error);
        return;
    }
    uint32_t number = s->free_reqs[s->free_reqs_n - 1];
    struct req *req = &s->t->reqs[number];
    req_state_set(req, REQ_PARSING);
    req->route = route;
    if (body_parse(s, req, &c->reader.req.body, &error) != 0) {
        req_reset(req);
        req_state_set(req, REQ_FREE);
        request_error(s, conn, &error);
        return;
    }
    s->free_reqs_n--;
    buf_free(&c->reader.req.body); // everything is in the request now
    req->conn = conn;
    req->form = c->reader.req.form;
    req->complete_us = clock_us();
    c->req = number;
    conn_deadline(s, conn);
    req_state_set(req, REQ_TOKENS);
    bool pushed = ring_push(s->t->sock_tok, &number);
    assert(pushed); // it has room for every request there is
    (void)pushed;
    wake_signal(s->t->wake_tok);
}

static void models_serve(struct sock_state *s, uint32_t conn, const struct route_match *match,
                         struct buf *body)
{
    struct api_error error;
    if (match->route == ROUTE_MODELS)
        models_list(body, &s->t->served.info);
    else if (models_one(body, &s->t->served.info, match->arg, &error) != 0) {
        request_error(s, conn, &error);
        return;
    }
    whole_send(s, conn, 200, ANSWER_JSON, 0, body);
}

static void options_serve(struct sock_state *s, uint32_t conn, const struct route_match *match)
{
    const struct http_form form = s->conns[conn].reader.req.form;
    answer_options(&s->out, &form, match->allow, clock_unix_s(), NULL);
    conn_send(s, conn);
    metrics_add(&s->t->metrics, METRIC_ID_RESPONSE_2XX, 1);
    conn_answered(s, conn, form.keep_alive);
}

void endpoint_serve(struct sock_state *s, uint32_t conn)
{
    struct connection *c = &s->conns[conn];
    struct route_match match;
    struct api_error error;
    struct buf body;
    if (route_find(&c->reader.req, &match, &error) != 0) { // endpoint_judge has seen it already
        request_error(s, conn, &error);
        return;
    }
    buf_init(&body, BODY_BYTES_MAX);
    switch (match.route) {
    case ROUTE_MODELS:
    case ROUTE_MODEL:
        models_serve(s, conn, &match, &body);
        break;
    case ROUTE_HEALTH:
        health_serve(s, conn, &body);
        break;
    case ROUTE_METRICS:
        metrics_page_write(&body, &s->t->metrics);
        whole_send(s, conn, 200, ANSWER_PROMETHEUS, 0, &body);
        break;
    case ROUTE_OPTIONS:
        options_serve(s, conn, &match);
        break;
    default:
        work_start(s, conn, match.route);
    }
    buf_free(&body);
}
