// SPDX-License-Identifier: MIT
// Memory that runs out at the n-th allocation, for every n: a request is answered 503, an output or
// a buffer reports -ENOMEM, and nothing leaks or crashes.  Linked with --wrap, which sees our own
// calls only: jansson tells running out of memory and malformed text apart in some places only, so
// it is not made to fail here.
#include "api/answer.h"
#include "api/chat.h"
#include "api/completion.h"
#include "api/http.h"
#include "api/response.h"
#include "api/tokenize.h"

#include "tests/unit/api/api_check.h"

#include <errno.h>

static long allocs_left = -1; // -1: as many as wanted
static long allocs_live;      // allocated and not freed

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static bool alloc_fails(void)
{
    if (allocs_left < 0)
        return false;
    if (allocs_left == 0)
        return true;
    allocs_left--;
    return false;
}

void *__wrap_malloc(size_t n)
{
    void *p = alloc_fails() ? NULL : __real_malloc(n);
    allocs_live += p != NULL;
    return p;
}

void *__wrap_calloc(size_t n, size_t size)
{
    void *p = alloc_fails() ? NULL : __real_calloc(n, size);
    allocs_live += p != NULL;
    return p;
}

void *__wrap_realloc(void *old, size_t n)
{
    void *p = alloc_fails() ? NULL : __real_realloc(old, n);
    allocs_live += p != NULL && old == NULL;
    return p;
}

void __wrap_free(void *p)
{
    allocs_live -= p != NULL;
    __real_free(p);
}

// Each returns true when it had all the memory that it wanted.

static bool reads_http(void)
{
    static const char text[] = "POST /v1/completions?q HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
                               "chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    struct http_reader r;
    enum http_event event = HTTP_EVENT_MORE;

    http_reader_init(&r, 1024);
    for (size_t at = 0; at < sizeof(text) - 1 && event != HTTP_EVENT_REFUSED;) {
        size_t used;
        event = http_reader_feed(&r, text + at, sizeof(text) - 1 - at, &used);
        at += used;
    }
    bool done = event == HTTP_EVENT_REQUEST;
    if (!done) {
        CHECK(r.error.status == 503);
        CHECK(!r.req.form.keep_alive);
    }
    http_reader_fini(&r);
    return done;
}

static bool parses_a_chat(void)
{
    static const char body[] =
        "{\"model\":\"demo\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
        "\"text\":\"a\"}]},{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
        "\"arguments\":\"{}\"}}]}],\"logit_bias\":{\"1\":2},\"stop\":[\"x\"]}";
    struct chat_request *req = NULL;
    struct api_error err;

    int got = chat_request_parse(body, strlen(body), &api_check_limits, &req, &err);
    if (got) {
        CHECK(got == -ENOMEM);
        CHECK(err.status == 503);
        CHECK(!req);
    }
    chat_request_free(&req);
    return got == 0;
}

static bool parses_completions(void)
{
    static const char body[] = "{\"model\":\"demo\",\"prompt\":[[1,2],[3]],\"suffix\":\"\"}";
    struct completion_request *req = NULL;
    struct api_error err;

    int got = completion_request_parse(body, strlen(body), &api_check_limits, &req, &err);
    if (got) {
        CHECK(got == -ENOMEM);
        CHECK(err.status == 503);
    }
    completion_request_free(&req);
    return got == 0;
}

static bool parses_tokens(void)
{
    static const char body[] = "{\"content\":\"x\",\"tokens\":[1,2,3]}";
    struct tokenize_request req;
    struct api_error err;
    uint32_t *ids = NULL;
    size_t n;

    int got = tokenize_parse(body, strlen(body), &req, &err);
    if (got == 0) {
        tokenize_free(&req);
        got = detokenize_parse(body, strlen(body), 10, &ids, &n, &err);
        free(ids);
    }
    CHECK(got == 0 || (got == -ENOMEM && err.status == 503));
    return got == 0;
}

static bool answers(void)
{
    const struct response r = {.chat = true, .id = "i", .model = "m", .logprobs = true};
    const char *stops[] = {"stop", "END"};
    struct output_params params = {
        .chat = true, .logprobs = true, .stops = stops, .stops_n = 2, .text_max = 4096};
    struct http_form form = {.keep_alive = true};
    struct api_error err;
    struct output o;
    struct buf out;

    int got = output_init(&o, &params);
    if (got) {
        CHECK(got == -ENOMEM);
        return false;
    }
    buf_init(&out, 1 << 16);
    for (int i = 0; i < 20 && got == 0; i++) {
        got = output_push(&o, &(struct output_token){.bytes = "some EN", .n = 7, .logprob = -1});
        if (output_ready(&o))
            response_chunk_delta(&out, &r, 0, &o);
    }
    if (got == 0)
        got = output_finish(&o, SAMPLING_FINISH_STOP);
    if (got == 0)
        response_chunk_finish(&out, &r, 0, &o);
    api_error_set(&err, API_ERROR_PATH, NULL, "no");
    answer_error(&out, &form, &err, 0);
    if (got == 0)
        got = buf_error(&out);
    CHECK(got == 0 || got == -ENOMEM);
    buf_free(&out);
    output_fini(&o);
    return got == 0;
}

int main(void)
{
    static bool (*const jobs[])(void) = {reads_http, parses_a_chat, parses_completions,
                                         parses_tokens, answers};

    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        long n = 0;
        for (bool done = false; !done; n++) {
            CHECK(n < 10000);
            long live = allocs_live;
            allocs_left = n;
            done = jobs[i]();
            CHECK(allocs_left >= 0);
            allocs_left = -1;
            CHECK(allocs_live == live); // nothing leaks on the way out
        }
        CHECK(n > 1); // it did fail at least once
    }
    return 0;
}
