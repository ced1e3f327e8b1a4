// SPDX-License-Identifier: MIT
#include "api/answer.h"
#include "api/route.h"
#include "api/utf8.h"

#include "tests/unit/api/api_check.h"

static void writes_whole_answers(void)
{
    const struct answer json = {.status = 200, .content_type = ANSWER_JSON};
    struct http_form form = {.keep_alive = true};
    struct buf out;

    buf_init(&out, 4096);
    answer_whole(&out, &form, &json, "{}", 2);
    CHECK_BUF(&out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    "Content-Length: 2\r\n\r\n{}");
    buf_clear(&out);
    form = (struct http_form){.head = true, .keep_alive = true};
    answer_whole(&out, &form, &json, "{}", 2); // HEAD tells the length and sends nothing
    CHECK_BUF(&out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    "Content-Length: 2\r\n\r\n");
    buf_clear(&out);
    form = (struct http_form){.http10 = true, .keep_alive = true};
    answer_whole(&out, &form, &json, "{}", 2);
    CHECK_BUF(&out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    "Connection: keep-alive\r\nContent-Length: 2\r\n\r\n{}");
    buf_clear(&out);
    form = (struct http_form){0};
    answer_whole(&out, &form,
                 &(struct answer){.status = 503,
                                  .content_type = ANSWER_JSON,
                                  .date_unix_s = 784111777, // RFC 9110 5.6.7
                                  .retry_after_s = 7},
                 "", 0);
    CHECK_BUF(&out, "HTTP/1.1 503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                    "Content-Type: application/json\r\nRetry-After: 7\r\nConnection: close\r\n"
                    "Content-Length: 0\r\n\r\n");
    buf_free(&out);
}

static void writes_dates(void)
{
    static const struct {
        int64_t unix_s;
        const char *date;
    } rows[] = {
        {951782400, "Date: Tue, 29 Feb 2000 00:00:00 GMT\r\n"},
        {1709251199, "Date: Thu, 29 Feb 2024 23:59:59 GMT\r\n"},
        {1709251200, "Date: Fri, 01 Mar 2024 00:00:00 GMT\r\n"},
        {1767225599, "Date: Wed, 31 Dec 2025 23:59:59 GMT\r\n"},
        {4102444800, "Date: Fri, 01 Jan 2100 00:00:00 GMT\r\n"},
        {1, "Date: Thu, 01 Jan 1970 00:00:01 GMT\r\n"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_form form = {.keep_alive = true};
        struct buf out;
        buf_init(&out, 4096);
        answer_whole(&out, &form, &(struct answer){.status = 204, .date_unix_s = rows[i].unix_s},
                     NULL, 0);
        buf_putc(&out, '\0');
        CHECK_HAS(out.data, rows[i].date);
        buf_free(&out);
    }
}

static void streams_chunks(void)
{
    const struct answer sse = {.status = 200, .content_type = ANSWER_SSE};
    struct http_form form = {.keep_alive = true};
    struct buf out;

    buf_init(&out, 4096);
    answer_start(&out, &form, &sse);
    CHECK(form.keep_alive); // the connection stays usable after a stream
    for (int i = 0; i < 2; i++) {
        size_t mark = answer_chunk_open(&out, &form);
        buf_puts(&out, i == 0 ? "data: 0123456789\n\n" : ""); // an empty chunk would end the body
        answer_chunk_close(&out, &form, mark);
    }
    answer_end(&out, &form);
    CHECK_BUF(&out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "00000012\r\ndata: 0123456789\n\n\r\n0\r\n\r\n");
    buf_free(&out);
}

static void http_10_gets_no_chunks(void)
{
    const struct answer sse = {.status = 200, .content_type = ANSWER_SSE};
    struct http_form form = {.http10 = true, .keep_alive = true};
    struct buf out;

    buf_init(&out, 4096);
    answer_start(&out, &form, &sse);
    CHECK(!form.keep_alive);
    size_t mark = answer_chunk_open(&out, &form);
    buf_puts(&out, "data: 1\n\n");
    answer_chunk_close(&out, &form, mark);
    answer_end(&out, &form);
    CHECK_BUF(&out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
                    "Cache-Control: no-cache\r\n\r\ndata: 1\n\n");
    buf_free(&out);
}

static void a_full_buffer_is_an_error(void)
{
    struct http_form form = {.keep_alive = true};
    struct buf out;

    buf_init(&out, 12);
    size_t mark = answer_chunk_open(&out, &form);
    buf_puts(&out, "data");
    answer_chunk_close(&out, &form, mark);
    CHECK(buf_error(&out));
    buf_free(&out);
}

static void writes_errors(void)
{
    struct http_form form = {.keep_alive = true};
    struct api_error err;
    struct buf out;

    buf_init(&out, 4096);
    api_error_set(&err, API_ERROR_METHOD, NULL, "no \"%s\"", "\xff");
    err.allow = "GET";
    form.cors_origin = "*";
    answer_error(&out, &form, &err, 0);
    CHECK_BUF(&out, "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: application/json\r\n"
                    "Allow: GET\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 106\r\n\r\n"
                    "{\"error\":{\"message\":\"no \\\"\xef\xbf\xbd\\\"\",\"type\":"
                    "\"invalid_request_error\",\"param\":null,\"code\":\"method_not_allowed\"}}");
    buf_clear(&out);
    form.cors_origin = NULL;
    api_error_set(&err, API_ERROR_KEY, NULL, "no");
    answer_error(&out, &form, &err, 0);
    buf_putc(&out, '\0');
    CHECK_HAS(out.data, "HTTP/1.1 401 Unauthorized\r\n");
    CHECK_HAS(out.data, "\r\nWWW-Authenticate: Bearer\r\n");
    buf_free(&out);
}

// Every kind: its status has a reason, its JSON all four keys; 429 and 503 say when to come back.
static void every_error_is_told(void)
{
    for (enum api_error_kind kind = 0; kind < API_ERROR_KIND_COUNT; kind++) {
        struct api_error err;
        struct buf out;
        CHECK(api_error_set(&err, kind, "p", "words") < 0);
        CHECK(err.status >= 400 && err.status <= 599);
        CHECK((err.retry_after_s > 0) == (err.status == 429 || err.status == 503));
        buf_init(&out, 4096);
        api_error_json(&out, &err);
        buf_putc(&out, '\0');
        CHECK_HAS(out.data, "{\"error\":{\"message\":\"words\",\"type\":\"");
        CHECK_HAS(out.data, ",\"param\":\"p\",\"code\":");
        buf_free(&out);
    }
}

static void long_messages_end_between_characters(void)
{
    struct api_error err;
    char text[1200];

    for (size_t pad = 0; pad < 4; pad++) {
        memset(text, 'a', pad);
        for (size_t i = pad; i + 3 < sizeof(text); i += 3)
            memcpy(text + i, "\xe4\xb8\xad", 4);
        api_error_set(&err, API_ERROR_FIELD, NULL, "%s", text);
        CHECK(strlen(err.message) > API_ERROR_TEXT_MAX - 5);
        CHECK(utf8_check(err.message, strlen(err.message), NULL));
    }
    CHECK(api_error_context(&err, 5000, 4096) < 0);
    CHECK_HAS(err.message, "5000");
    CHECK_HAS(err.message, "4096");
    CHECK(err.status == 400);
}

// Parses one head and gives its request.
static void load(struct http_reader *r, const char *text)
{
    size_t used;
    http_reader_init(r, 64);
    CHECK(http_reader_feed(r, text, strlen(text), &used) == HTTP_EVENT_HEAD);
}

static void finds_routes(void)
{
    static const struct {
        const char *line, *fields;
        int status; // 0: found
        enum route route;
        const char *words; // argument, or Allow of a 405
    } rows[] = {
        {"GET /v1/models", "", 0, ROUTE_MODELS, ""},
        {"HEAD /v1/models", "", 0, ROUTE_MODELS, ""},
        {"GET /v1/models/org/name%20x", "", 0, ROUTE_MODEL, "org/name x"},
        {"GET /v1/models/", "", 404, 0, NULL},
        {"GET /health?x=y", "", 0, ROUTE_HEALTH, ""},
        {"GET /v1/health", "", 0, ROUTE_HEALTH, ""},
        {"GET /metrics", "", 0, ROUTE_METRICS, ""},
        {"POST /v1/chat/completions", "Content-Type: application/json\r\n", 0, ROUTE_CHAT, ""},
        {"POST /chat/completions", "Content-Type: application/json\r\n", 0, ROUTE_CHAT, ""},
        {"POST /v1/completions", "Content-Type: application/json\r\n", 0, ROUTE_COMPLETION, ""},
        {"POST /tokenize", "Content-Type: application/json\r\n", 0, ROUTE_TOKENIZE, ""},
        {"POST /detokenize", "Content-Type: application/json\r\n", 0, ROUTE_DETOKENIZE, ""},
        {"POST /apply-template", "Content-Type: application/json\r\n", 0, ROUTE_APPLY_TEMPLATE, ""},
        {"POST /v1/chat/completions", "Content-Type: text/plain\r\n", 415, 0, NULL},
        {"POST /v1/chat/completions", "", 415, 0, NULL},
        {"GET /v1/chat/completions", "", 405, 0, "POST, OPTIONS"},
        {"DELETE /v1/models", "", 405, 0, "GET, HEAD, OPTIONS"},
        {"POST /health", "", 405, 0, "GET, HEAD, OPTIONS"},
        {"HEAD /tokenize", "", 405, 0, "POST, OPTIONS"},
        {"GET /v1/chat/completions/", "", 404, 0, NULL},
        {"GET /v1/chat", "", 404, 0, NULL},
        {"GET /", "", 404, 0, NULL},
        {"OPTIONS /v1/chat/completions", "", 0, ROUTE_OPTIONS, ""},
        {"OPTIONS *", "", 0, ROUTE_OPTIONS, ""},
        {"OPTIONS /nowhere", "", 404, 0, NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_reader r;
        struct route_match match;
        struct api_error err;
        char text[256];
        snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: x\r\n%s\r\n", rows[i].line,
                 rows[i].fields);
        load(&r, text);
        int got = route_find(&r.req, &match, &err);
        if (rows[i].status == 0) {
            CHECK(got == 0);
            CHECK(match.route == rows[i].route);
            CHECK(strcmp(match.arg, rows[i].words) == 0);
            CHECK(route_name[match.route]);
            CHECK(match.open == (match.route == ROUTE_HEALTH || match.route == ROUTE_OPTIONS));
            CHECK(match.local_open == (match.open || match.route == ROUTE_METRICS));
        } else {
            CHECK(got < 0);
            CHECK(err.status == rows[i].status);
            CHECK(!err.allow == !rows[i].words);
            CHECK(!err.allow || strcmp(err.allow, rows[i].words) == 0);
        }
        http_reader_fini(&r);
    }
}

int main(void)
{
    writes_whole_answers();
    writes_dates();
    streams_chunks();
    http_10_gets_no_chunks();
    a_full_buffer_is_an_error();
    writes_errors();
    every_error_is_told();
    long_messages_end_between_characters();
    finds_routes();
    return 0;
}
