// SPDX-License-Identifier: MIT
#include "client/reply.h"

#include "base/clock.h"
#include "client/http_call.h"
#include "client/sse.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_END "[DONE]"

struct reply_call {
    struct http_call *http;
    struct sse sse;
    struct reply *reply;
    void (*piece)(void *user, enum reply_part part, const char *bytes, size_t len);
    void *piece_user;
    uint64_t read_us;   // when the bytes in hand arrived
    bool ended;         // [DONE] was seen
    struct fault fault; // why sse_feed was stopped
};

void reply_free(struct reply *reply)
{
    for (int i = 0; i < REPLY_PART_COUNT; i++)
        text_free(&reply->part[i]);
    *reply = (struct reply){0};
}

uint64_t reply_tokens(const struct reply *reply)
{
    if (reply->has_usage)
        return reply->completion_tokens;
    return (uint64_t)reply->pieces[REPLY_REASONING] + reply->pieces[REPLY_CONTENT];
}

double reply_rate(const struct reply *reply)
{
    double tokens = (double)reply_tokens(reply);
    double pieces = (double)reply->pieces[REPLY_REASONING] + reply->pieces[REPLY_CONTENT];

    if (!reply->first_us || tokens < 1)
        return 0;
    if (reply->last_us > reply->first_us)
        return tokens * (1 - reply->pieces_first / pieces) * 1e6 /
               (double)(reply->last_us - reply->first_us);
    return tokens * 1e6 / (double)(reply->last_us - reply->sent_us + 1);
}

int reply_error_text(unsigned status, const char *body, size_t body_len, struct fault *fault)
{
    json_t *root = json_loadb(body, body_len, JSON_ALLOW_NUL, NULL);
    const char *message =
        json_string_value(json_object_get(json_object_get(root, "error"), "message"));

    if (message)
        fault_set(fault, EREMOTEIO, "%s (HTTP %u)%s", message, status,
                  status == 401 ? "; --key, or better EXPERTD_KEY, is the key" : "");
    else
        fault_set(fault, EREMOTEIO, "the daemon answered with HTTP status %u", status);
    json_decref(root);
    return -EREMOTEIO;
}

static int reply_text(struct reply_call *call, enum reply_part part, const json_t *value)
{
    struct reply *reply = call->reply;
    size_t len = json_string_length(value);
    if (len == 0)
        return 0;

    reply->last_us = call->read_us;
    if (!reply->first_us)
        reply->first_us = call->read_us;
    if (reply->first_us == call->read_us)
        reply->pieces_first++;
    reply->pieces[part]++;

    const char *bytes = json_string_value(value);
    int err = text_append(&reply->part[part], bytes, len, REPLY_BYTES_MAX);
    if (err)
        return fault_set(&call->fault, -err, "the answer is longer than %u MiB or memory is short",
                         REPLY_BYTES_MAX >> 20);
    if (call->piece)
        call->piece(call->piece_user, part, bytes, len);
    return 0;
}

// reply_word copies a short string of the daemon's, cut to fit; keeps what is there if it is none.
static void reply_word(const json_t *value, char *ret, size_t ret_bytes)
{
    const char *word = json_string_value(value);
    if (!word)
        return;
    size_t len = strnlen(word, ret_bytes - 1);
    memcpy(ret, word, len);
    ret[len] = '\0';
}

static uint64_t reply_count(const json_t *value)
{
    json_int_t n = json_integer_value(value);
    return n > 0 ? (uint64_t)n : 0;
}

static void reply_usage(struct reply *reply, const json_t *usage)
{
    if (!json_is_object(usage))
        return;
    const json_t *details = json_object_get(usage, "prompt_tokens_details");
    reply->has_usage = true;
    reply->prompt_tokens = reply_count(json_object_get(usage, "prompt_tokens"));
    reply->completion_tokens = reply_count(json_object_get(usage, "completion_tokens"));
    reply->cached_tokens = reply_count(json_object_get(details, "cached_tokens"));
}

static int reply_choice(struct reply_call *call, const json_t *choice)
{
    const json_t *delta = json_object_get(choice, "delta");
    const json_t *text = json_object_get(choice, "text"); // of /v1/completions

    int err = reply_text(call, REPLY_REASONING, json_object_get(delta, "reasoning_content"));
    if (!err)
        err = reply_text(call, REPLY_CONTENT, text ? text : json_object_get(delta, "content"));
    reply_word(json_object_get(choice, "finish_reason"), call->reply->finish_reason,
               sizeof(call->reply->finish_reason));
    return err;
}

static int reply_event(void *user, const char *data, size_t data_len)
{
    struct reply_call *call = user;
    json_error_t broken;

    if (strcmp(data, STREAM_END) == 0) {
        call->ended = true;
        return 0;
    }
    json_t *chunk = json_loadb(data, data_len, JSON_ALLOW_NUL, &broken);
    if (!json_is_object(chunk)) {
        json_decref(chunk);
        return fault_set(&call->fault, EPROTO, "the stream has an event that is no JSON object");
    }

    int err = 0;
    const json_t *error = json_object_get(chunk, "error");
    if (json_is_object(error)) {
        const char *message = json_string_value(json_object_get(error, "message"));
        err = fault_set(&call->fault, EREMOTEIO, "%s",
                        message ? message : "the daemon ended the answer with an error");
    } else {
        reply_word(json_object_get(chunk, "model"), call->reply->model, sizeof(call->reply->model));
        reply_usage(call->reply, json_object_get(chunk, "usage"));
        err = reply_choice(call, json_array_get(json_object_get(chunk, "choices"), 0));
    }
    json_decref(chunk);
    return err;
}

static int reply_bytes(void *user, const char *bytes, size_t len)
{
    struct reply_call *call = user;
    int err = sse_feed(&call->sse, bytes, len, reply_event, call);
    if (err && !call->fault.err)
        fault_set(&call->fault, -err, "the stream has an event beyond %u MiB or memory is short",
                  SSE_EVENT_BYTES_MAX >> 20);
    return err ? -ECANCELED : 0; // the reason is in call->fault
}

int reply_open(const struct address *address, const struct reply_request *request, int interrupt_fd,
               struct reply *reply, struct reply_call **ret, struct fault *fault)
{
    struct reply_call *call = calloc(1, sizeof(*call));
    if (!call)
        return fault_set(fault, ENOMEM, "out of memory");
    call->reply = reply;
    call->piece = request->piece;
    call->piece_user = request->piece_user;

    struct http_request http = {.method = "POST",
                                .target = request->target,
                                .key = request->key,
                                .body = request->body,
                                .body_bytes = request->body_bytes,
                                .stream = reply_bytes,
                                .stream_user = call};
    reply->sent_us = clock_us();
    int err = http_call_open(address, &http, interrupt_fd, &call->http, fault);
    if (err) {
        reply_close(&call);
        return err;
    }
    *ret = call;
    return 0;
}

void reply_close(struct reply_call **pcall)
{
    struct reply_call *call = *pcall;
    *pcall = NULL;
    if (!call)
        return;
    http_call_close(&call->http);
    sse_free(&call->sse);
    free(call);
}

int reply_fd(const struct reply_call *call)
{
    return http_call_fd(call->http);
}

int reply_read(struct reply_call *call, struct fault *fault)
{
    call->read_us = clock_us();
    int more = http_call_read(call->http, fault);
    if (call->fault.err) {
        *fault = call->fault;
        return -call->fault.err;
    }
    if (more < 0 || (more > 0 && !call->ended))
        return more;
    if (call->ended)
        return 0;

    size_t body_len = 0;
    unsigned status = http_call_status(call->http);
    const char *body = http_call_body(call->http, &body_len);
    if (status != 200)
        return reply_error_text(status, body, body_len, fault);
    if (!http_call_streamed(call->http))
        return fault_set(fault, EPROTO, "the daemon answered without a stream");
    return fault_set(fault, EPROTO, "the stream ended before the answer was complete");
}
