// SPDX-License-Identifier: MIT
// generation: events of step -> text -> JSON -> bytes of the connection, streamed or whole; and the
// end of every request, after which its place is free again.
#include "api/answer.h"
#include "base/clock.h"
#include "base/log.h"
#include "daemon/front.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX      (64u << 20) // bytes of one part of a choice; a context is far below
#define EVENTS_A_TURN 1024u       // then connections get their turn

static void req_free(struct front *f, uint32_t number)
{
    struct req *req = &f->t->reqs[number];
    req_reset(req);
    req->conn = CONN_NONE;
    req_state_set(req, REQ_FREE);
    f->reqs_n--;
    req_pool_give(&f->t->req_pool, number);
}

static struct response_usage usage_of(const struct req *req)
{
    struct response_usage usage = {0};
    for (uint32_t i = 0; i < req->prompts_n; i++)
        usage.prompt_tokens += req->prompts[i].n;
    for (uint32_t i = 0; i < req->choices_n; i++) {
        usage.completion_tokens += req->outputs[i].tokens_n;
        usage.reasoning_tokens += req->outputs[i].reasoning_tokens_n;
    }
    return usage;
}

static double seconds(uint64_t from_us, uint64_t to_us)
{
    return to_us > from_us ? (double)(to_us - from_us) / 1e6 : 0.0;
}

// generation_log: one line a request, numbers only.
static void generation_log(struct front *f, const struct req *req, const char *how)
{
    uint64_t now_us = clock_us();
    if (req->first_us != 0)
        histogram_observe(&f->t->metrics.first_token, req->first_us - req->complete_us);
    histogram_observe(&f->t->metrics.request, now_us - req->complete_us);
    if (live_get(&f->t->live, log_requests) == CONF_REQUESTS_OFF)
        return;
    struct response_usage usage = usage_of(req);
    char client[CLIENT_TEXT_MAX];
    log_limited(
        LOG_LEVEL_INFO, REQUEST_LINES,
        "%s %s from %s: %s; prompt %llu, generated %llu tokens, choices %u; first token %.3f "
        "s, all %.3f s",
        route_name[req->route], req->id, conn_client_text(&f->places[req->conn], client), how,
        (unsigned long long)usage.prompt_tokens, (unsigned long long)usage.completion_tokens,
        req->choices_n, req->first_us != 0 ? seconds(req->complete_us, req->first_us) : 0.0,
        seconds(req->complete_us, now_us));
}

// client_leave cuts the request off from its connection; its place is freed when step lets go.
static void client_leave(struct front *f, struct req *req)
{
    req->conn = CONN_NONE;
    atomic_store_explicit(&req->cancelled, true, memory_order_relaxed);
    wake_signal(f->t->wake_step);
}

void generation_drop(struct front *f, uint32_t number)
{
    struct req *req = &f->t->reqs[number];
    assert(req->conn != CONN_NONE);
    if (req->outputs) {
        metrics_add(&f->t->metrics, METRIC_ID_REQUEST_CANCELLED, 1);
        generation_log(f, req, "the client went away");
    }
    client_leave(f, req);
}

// answer_finish: everything is in f->out or sent; the connection goes on without the request.
static void answer_finish(struct front *f, struct req *req, const char *how)
{
    uint32_t conn = req->conn;
    bool keep_alive = req->form.keep_alive;
    generation_log(f, req, how);
    client_leave(f, req);
    f->places[conn].req = REQ_NONE;
    conn_send(f, conn);
    conn_answered(f, conn, keep_alive);
}

// stream_begin sends the head of a stream and, for chats, who speaks.
static void stream_begin(struct req *req, struct buf *out)
{
    struct answer answer = {
        .status = 200, .content_type = ANSWER_SSE, .date_unix_s = clock_unix_s()};
    answer_start(out, &req->form, &answer);
    req->streaming = true;
    for (uint32_t i = 0; i < req->choices_n && req->chat; i++) {
        size_t mark = answer_chunk_open(out, &req->form);
        response_chunk_role(out, &req->response, i);
        answer_chunk_close(out, &req->form, mark);
    }
}

// answer_fail tells the client that its request failed, in a stream or instead of an answer.
static void answer_fail(struct front *f, struct req *req, const struct api_error *error)
{
    if (req->streaming) {
        size_t mark = answer_chunk_open(&f->out, &req->form);
        response_chunk_error(&f->out, error);
        answer_chunk_close(&f->out, &req->form, mark);
        req->form.keep_alive = false; // no end of the stream: it is seen as broken off
    } else {
        answer_error(&f->out, &req->form, error, clock_unix_s());
    }
    metrics_add(&f->t->metrics,
                error->status < 500 ? METRIC_ID_RESPONSE_4XX : METRIC_ID_RESPONSE_5XX, 1);
    if (req->outputs && error->status >= 500)
        metrics_add(&f->t->metrics, METRIC_ID_REQUEST_FAILED, 1);
    if (!req->outputs) {
        uint32_t conn = req->conn;
        req->conn = CONN_NONE;
        f->places[conn].req = REQ_NONE;
        conn_send(f, conn);
        conn_answered(f, conn, req->form.keep_alive);
        return;
    }
    answer_finish(f, req, error->message);
}

static void stream_end(struct req *req, struct buf *out)
{
    if (req->sampling->include_usage) {
        struct response_usage usage = usage_of(req);
        size_t mark = answer_chunk_open(out, &req->form);
        response_chunk_usage(out, &req->response, &usage);
        answer_chunk_close(out, &req->form, mark);
    }
    size_t mark = answer_chunk_open(out, &req->form);
    response_chunk_done(out);
    answer_chunk_close(out, &req->form, mark);
    answer_end(out, &req->form);
}

static void whole_answer(struct front *f, struct req *req, struct buf *body)
{
    struct response_usage usage = usage_of(req);
    response_whole(body, &req->response, req->outputs, req->choices_n, &usage);
    struct answer answer = {
        .status = 200, .content_type = ANSWER_JSON, .date_unix_s = clock_unix_s()};
    if (buf_error(body) == 0)
        answer_whole(&f->out, &req->form, &answer, body->data, body->n);
}

// answer_complete: every choice has ended.
static void answer_complete(struct front *f, struct req *req)
{
    bool length = false;
    for (uint32_t i = 0; i < req->choices_n; i++)
        length |= req->outputs[i].finish == SAMPLING_FINISH_LENGTH;
    if (req->sampling->stream) {
        stream_end(req, &f->out);
    } else {
        struct buf body;
        buf_init(&body, f->out.max);
        whole_answer(f, req, &body);
        int err = buf_error(&body);
        buf_free(&body);
        if (err != 0) {
            struct api_error error;
            api_error_memory(&error);
            answer_fail(f, req, &error);
            return;
        }
    }
    metrics_add(&f->t->metrics, METRIC_ID_RESPONSE_2XX, 1);
    metrics_add(&f->t->metrics, length ? METRIC_ID_REQUEST_LENGTH : METRIC_ID_REQUEST_FINISHED, 1);
    answer_finish(f, req, length ? "length" : "stop");
}

// token_kind says how a token is shown.
static enum output_kind token_kind(const struct served *served, bool chat, uint32_t id)
{
    if (!chat)
        return tokenizer_is_special(served->tokenizer, id) ? OUTPUT_CONTROL : OUTPUT_TEXT;
    if (id == served->think_open)
        return OUTPUT_THINK_OPEN;
    if (id == served->think_close)
        return OUTPUT_THINK_CLOSE;
    return tokenizer_is_control(served->tokenizer, id) ? OUTPUT_CONTROL : OUTPUT_TEXT;
}

static struct output_token token_of(const struct served *served, const struct req *req,
                                    const struct step_event *event,
                                    struct output_top top[SAMPLER_LOGPROB_MAX])
{
    struct output_token token = {.kind = token_kind(served, req->chat != NULL, event->token),
                                 .has_logprob = event->has_logprob,
                                 .logprob = event->logprob,
                                 .top = top,
                                 .top_n = event->top_n};
    token.bytes = tokenizer_bytes(served->tokenizer, event->token, &token.n);
    for (uint32_t i = 0; i < event->top_n; i++) {
        top[i].bytes = tokenizer_bytes(served->tokenizer, event->top[i].id, &top[i].n);
        top[i].logprob = event->top[i].logprob;
    }
    return token;
}

// choice_echo puts the prompt in front of a completion; with log-probabilities step sends the
// tokens one by one.
static int choice_echo(const struct served *served, struct req *req, uint32_t choice)
{
    if (!req->completion || !req->completion->echo || req->sampling->logprobs)
        return 0;
    const struct req_prompt *prompt = &req->prompts[req_prompt_of(req, choice)];
    for (uint32_t i = 0; i < prompt->n; i++) {
        struct step_event event = {.token = req->ids[prompt->first + i]};
        struct output_token token = token_of(served, req, &event, NULL);
        int err = output_echo(&req->outputs[choice], &token);
        if (err != 0)
            return err;
    }
    return 0;
}

// choice_start makes the output of a choice when its first event comes.
static int choice_start(struct front *f, struct req *req, uint32_t choice)
{
    if (req->started[choice])
        return 0;
    const struct sampling *sampling = req->sampling;
    struct output_params params = {
        .chat = req->chat != NULL,
        .in_reasoning = req->prompts[req_prompt_of(req, choice)].in_reasoning,
        .logprobs = sampling->logprobs,
        .top_logprobs = sampling->top_logprobs,
        .stops = sampling->stops,
        .stops_n = sampling->stops_n,
        .text_max = TEXT_MAX,
    };
    int err = output_init(&req->outputs[choice], &params);
    if (err != 0)
        return err;
    req->started[choice] = true;
    return choice_echo(&f->t->served, req, choice);
}

// choice_end: no more text of this choice.
static void choice_end(struct front *f, struct req *req, uint32_t choice)
{
    req->ended[choice] = true;
    req->ended_n++;
    if (req->sampling->stream) {
        size_t mark = answer_chunk_open(&f->out, &req->form);
        response_chunk_finish(&f->out, &req->response, choice, &req->outputs[choice]);
        answer_chunk_close(&f->out, &req->form, mark);
    }
}

// event_apply feeds one event to its choice.  Returns 0 or -errno if the answer cannot go on.
static int event_apply(struct front *f, struct req *req, const struct step_event *event)
{
    struct output_top top[SAMPLER_LOGPROB_MAX];
    struct output *o = &req->outputs[event->choice];
    struct output_token token;
    int err = choice_start(f, req, event->choice);
    if (err != 0)
        return err;
    switch ((enum step_event_kind)event->kind) {
    case STEP_EVENT_ECHO:
        token = token_of(&f->t->served, req, event, top);
        return output_echo(o, &token);
    case STEP_EVENT_TOKEN:
        if (req->first_us == 0)
            req->first_us = clock_us();
        token = token_of(&f->t->served, req, event, top);
        err = output_push(o, &token);
        if (err != 1)
            return err;
        // A stop string: step need not go on with it.
        atomic_store_explicit(&req->choice_cancelled[event->choice], true, memory_order_relaxed);
        choice_end(f, req, event->choice);
        return 0;
    case STEP_EVENT_STOP:
    case STEP_EVENT_LENGTH:
        err = output_finish(o, event->kind == STEP_EVENT_STOP ? SAMPLING_FINISH_STOP
                                                              : SAMPLING_FINISH_LENGTH);
        if (err != 0)
            return err;
        choice_end(f, req, event->choice);
        return 0;
    default:         // CANCELLED without our asking cannot be; FAILED
        return -EIO; // see event_fail
    }
}

// stream_flush sends what stands in f->out and what a choice has ready, and drops a client that
// does not read.
static void stream_flush(struct front *f, struct req *req, uint32_t choice)
{
    uint32_t conn = req->conn;
    if (!req->ended[choice] && output_ready(&req->outputs[choice])) {
        size_t mark = answer_chunk_open(&f->out, &req->form);
        response_chunk_delta(&f->out, &req->response, choice, &req->outputs[choice]);
        answer_chunk_close(&f->out, &req->form, mark);
    }
    if (f->out.n == 0)
        return;
    conn_send(f, conn);
    conn_deadline(f, conn);
    if (conns_unsent(f->conns, conn) > live_get(&f->t->live, unsent_bytes_max)) {
        log_limited(LOG_LEVEL_INFO, CLIENT_LINES, "%s: the client does not read its stream",
                    req->id);
        conns_abort(f->conns, conn); // on_closed drops the request
    }
}

static void event_fail(struct front *f, struct req *req, int err)
{
    struct api_error error;
    buf_clear(&f->out); // half a chunk
    if (err == -EIO && req->failure[0])
        api_error_set(&error, API_ERROR_DRIVE, NULL, "%s", req->failure);
    else if (err == -EIO)
        api_error_set(&error, API_ERROR_INTERNAL, NULL, "the model could not compute this answer");
    else
        api_error_memory(&error);
    answer_fail(f, req, &error);
}

static void event_handle(struct front *f, const struct step_event *event)
{
    struct req *req = &f->t->reqs[event->req];
    if (req->conn != CONN_NONE && !req->ended[event->choice]) {
        // What fails before anything was said fails with a status.
        if (req->sampling->stream && !req->streaming && event->kind != STEP_EVENT_FAILED)
            stream_begin(req, &f->out);
        int err = event_apply(f, req, event);
        if (err != 0)
            event_fail(f, req, err);
        else if (req->ended_n == req->choices_n)
            answer_complete(f, req);
        else if (req->sampling->stream)
            stream_flush(f, req, event->choice);
    }
    if (event->last) {
        req_state_set(req, REQ_ANSWER);
        if (req->conn != CONN_NONE) { // the connection was closed in this turn
            f->places[req->conn].req = REQ_NONE;
            req->conn = CONN_NONE;
        }
        req_free(f, event->req);
    }
}

uint32_t generation_events(struct front *f)
{
    struct step_event event;
    uint32_t n = 0;
    while (n < EVENTS_A_TURN && ring_pop(f->lines->events, &event)) {
        event_handle(f, &event);
        n++;
    }
    return n;
}

// reply_send answers a request that needed no steps.
static void reply_send(struct front *f, struct req *req)
{
    if (req->error.status != 0) {
        answer_fail(f, req, &req->error);
        return;
    }
    uint32_t conn = req->conn;
    struct answer answer = {
        .status = 200, .content_type = ANSWER_JSON, .date_unix_s = clock_unix_s()};
    answer_whole(&f->out, &req->form, &answer, req->body.data, req->body.n);
    metrics_add(&f->t->metrics, METRIC_ID_RESPONSE_2XX, 1);
    req->conn = CONN_NONE;
    f->places[conn].req = REQ_NONE;
    conn_send(f, conn);
    conn_answered(f, conn, req->form.keep_alive);
}

uint32_t generation_replies(struct front *f)
{
    uint32_t number, n = 0;
    while (ring_pop(f->lines->replies, &number)) {
        struct req *req = &f->t->reqs[number];
        if (req->conn != CONN_NONE)
            reply_send(f, req);
        req_free(f, number);
        n++;
    }
    return n;
}

void generation_keep_alive(struct front *f, uint32_t conn)
{
    struct req *req = &f->t->reqs[f->places[conn].req];
    // Until tok has accepted the prompt, the answer may still be an error with a status.
    if (!req->outputs || !req->sampling->stream ||
        !atomic_load_explicit(&req->accepted, memory_order_acquire))
        return;
    if (!req->streaming)
        stream_begin(req, &f->out);
    size_t mark = answer_chunk_open(&f->out, &req->form);
    response_keep_alive(&f->out);
    answer_chunk_close(&f->out, &req->form, mark);
    conn_send(f, conn);
}
