// SPDX-License-Identifier: MIT
#include "api/answer.h"
#include "api/cors.h"

#include "tests/unit/api/api_check.h"

static void reads_origins(void)
{
    static const struct {
        const char *text, *wrong; // NULL: right
        uint32_t n;
        bool any;
    } rows[] = {
        {"", NULL, 0, false},
        {" , ", NULL, 0, false},
        {"*", NULL, 0, true},
        {"https://a.org", NULL, 1, false},
        {"https://a.org,http://localhost:3000", NULL, 2, false},
        {" http://[::1]:8080 , http://127.0.0.1 ", NULL, 2, false},
        {"chrome-extension://abcdef *", NULL, 1, true},
        {"https://a.org/", "without a path", 0, false},
        {"https://a.org/x", "without a path", 0, false},
        {"https://A.org", "lower case", 0, false},
        {"https://a.org:443", "leave out", 0, false},
        {"http://a.org:80", "leave out", 0, false},
        {"http://a.org:", "must be a number", 0, false},
        {"http://a.org:123456", "must be a number", 0, false},
        {"http://a.org:1x", "without a path", 0, false},
        {"a.org", "must be *", 0, false},
        {"null", "must be *", 0, false},
        {"https://", "must be *", 0, false},
        {"http://[::1", "must be *", 0, false},
        {"http://user@a.org", "without a path", 0, false},
        {"http://a.org\r\nx:y", "without a path", 0, false},
        {"https://*.org", "must be *", 0, false},
    };
    struct fault fault;
    struct cors cors;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        fault = (struct fault){0};
        int err = cors_parse(rows[i].text, &cors, &fault);
        CHECK((err != 0) == (rows[i].wrong != NULL));
        CHECK(cors.n == rows[i].n && cors.any == rows[i].any);
        if (rows[i].wrong)
            CHECK_HAS(fault.text, rows[i].wrong);
    }
}

static void bounds_origins(void)
{
    char text[8192] = "";
    struct cors cors;
    struct fault fault = {0};

    for (uint32_t i = 0; i <= CORS_ORIGINS_MAX; i++) {
        CHECK((cors_parse(text, &cors, &fault) == 0) == (i <= CORS_ORIGINS_MAX));
        CHECK(cors.n == i);
        size_t at = strlen(text);
        snprintf(text + at, sizeof(text) - at, "http://h%u ", i);
    }
    CHECK(cors_parse(text, &cors, &fault) < 0);
    CHECK_HAS(fault.text, "more than 32");
    for (size_t n = CORS_ORIGIN_MAX - 1; n <= CORS_ORIGIN_MAX; n++) {
        memset(text, 'a', n);
        memcpy(text, "http://", 7);
        text[n] = '\0';
        CHECK((cors_parse(text, &cors, &fault) == 0) == (n < CORS_ORIGIN_MAX));
    }
    CHECK_HAS(fault.text, "longer than 191");
}

// load parses one head.
static enum http_event load(struct http_reader *r, const char *text)
{
    size_t used;
    http_reader_init(r, 64);
    return http_reader_feed(r, text, strlen(text), &used);
}

static void answers_only_what_is_configured(void)
{
    static const struct {
        const char *origins, *field, *want;
        bool vary;
    } rows[] = {
        {"", "Origin: http://a\r\n", NULL, false},
        {"*", "", NULL, false},
        {"*", "Origin: http://a\r\n", "*", false},
        {"http://b *", "Origin: http://a\r\n", "*", false},
        {"http://a", "", NULL, true},
        {"http://a", "Origin: http://a\r\n", "http://a", true},
        {"http://a", "oRIGIN:http://a \r\n", "http://a", true},
        {"http://a", "Origin: http://A\r\n", NULL, true},
        {"http://a", "Origin: http://a/\r\n", NULL, true},
        {"http://a", "Origin: http://a.org\r\n", NULL, true},
        {"http://a.org", "Origin: http://a\r\n", NULL, true},
        {"http://a", "Origin: \r\n", NULL, true},
        {"http://a", "Origin: null\r\n", NULL, true},
        {"http://a", "Origin: http://a, http://a\r\n", NULL, true},
        {"http://b,http://a", "Origin: http://a\r\n", "http://a", true},
        {"http://a", "X-Origin: http://a\r\n", NULL, true},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_reader r;
        struct cors cors;
        char text[256];
        CHECK(cors_parse(rows[i].origins, &cors, NULL) == 0);
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", rows[i].field);
        CHECK(load(&r, text) == HTTP_EVENT_HEAD);
        cors_apply(&cors, &r.req);
        const char *got = r.req.form.cors_origin;
        CHECK(!got == !rows[i].want);
        CHECK(!got || strcmp(got, rows[i].want) == 0);
        CHECK(!got || got[0] == '*' || (got >= (char *)&cors && got < (char *)(&cors + 1)));
        CHECK(r.req.form.cors_vary == rows[i].vary);
        http_reader_fini(&r);
    }
}

// A body too large is refused before there is a HEAD event; its page may read so.
static void refused_requests_too(void)
{
    struct http_reader r;
    struct cors cors;

    CHECK(cors_parse("http://a", &cors, NULL) == 0);
    CHECK(load(&r,
               "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\nOrigin: http://a\r\n\r\n") ==
          HTTP_EVENT_REFUSED);
    cors_apply(&cors, &r.req);
    CHECK(r.error.status == 413 && r.req.form.cors_origin);
    http_reader_fini(&r);
    CHECK(load(&r, "GET / HTTP/1.1\r\nOrigin: http://a\r\n\r\n") == HTTP_EVENT_REFUSED); // no Host
    cors_apply(&cors, &r.req);
    CHECK(r.error.status == 400 && r.req.form.cors_origin);
    http_reader_fini(&r);
    CHECK(load(&r, "GET / HTTP/1.1\r\nOrigin: http://a\r\nA B\r\n\r\n") == HTTP_EVENT_REFUSED);
    cors_apply(&cors, &r.req); // broken off
    CHECK(r.error.status == 400 && !r.req.form.cors_origin && r.req.form.cors_vary);
    http_reader_fini(&r);
}

#define ASKED      "Origin: http://a\r\nAccess-Control-Request-Method: POST\r\n"
#define NO_CONTENT "HTTP/1.1 204 No Content\r\nAllow: POST, OPTIONS\r\n"
#define ALLOWED                                                                                    \
    NO_CONTENT "Access-Control-Allow-Origin: http://a\r\nVary: Origin\r\n"                         \
               "Access-Control-Allow-Methods: POST, OPTIONS\r\n"                                   \
               "Access-Control-Allow-Headers: Authorization, Content-Type"
#define MAX_AGE "\r\nAccess-Control-Max-Age: 86400\r\n\r\n"

static void answers_preflights(void)
{
    static const struct {
        const char *fields, *want;
    } rows[] = {
        {"", NO_CONTENT "Vary: Origin\r\n\r\n"},
        {"Origin: http://b\r\nAccess-Control-Request-Method: POST\r\n",
         NO_CONTENT "Vary: Origin\r\n\r\n"},
        {"Origin: http://a\r\n",
         NO_CONTENT "Access-Control-Allow-Origin: http://a\r\nVary: Origin\r\n\r\n"},
        {ASKED, ALLOWED MAX_AGE},
        {ASKED "Access-Control-Request-Headers: authorization,content-type\r\n", ALLOWED MAX_AGE},
        {ASKED "Access-Control-Request-Headers: x-stainless-os, OpenAI-Beta, cookie,x-api-key\r\n",
         ALLOWED ", x-stainless-os, OpenAI-Beta, x-api-key" MAX_AGE},
        {ASKED "Access-Control-Request-Headers: x-, x-a:b, x-a;b, x-\xc3\xa4, x-\"a\", y\r\n",
         ALLOWED MAX_AGE},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_reader r;
        struct cors cors;
        struct buf out;
        char text[512];
        CHECK(cors_parse("http://a", &cors, NULL) == 0);
        snprintf(text, sizeof(text), "OPTIONS /x HTTP/1.1\r\nHost: x\r\n%s\r\n", rows[i].fields);
        CHECK(load(&r, text) == HTTP_EVENT_HEAD);
        cors_apply(&cors, &r.req);
        buf_init(&out, 4096);
        answer_options(&out, &r.req.form, "POST, OPTIONS", 0, &r.req);
        CHECK_BUF(&out, rows[i].want);
        buf_free(&out);
        http_reader_fini(&r);
    }
}

// However much is asked for, the answer stays small.
static void bounds_preflights(void)
{
    static char text[40000];
    struct http_reader r;
    const struct cors cors = {.any = true};
    struct buf out;
    size_t n = (size_t)snprintf(text, sizeof(text),
                                "OPTIONS / HTTP/1.1\r\nHost: x\r\n" ASKED
                                "Access-Control-Request-Headers: ");

    for (unsigned i = 0; n < 30000; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "x-%u,", i);
    snprintf(text + n, sizeof(text) - n, "x\r\n\r\n");
    CHECK(load(&r, text) == HTTP_EVENT_HEAD);
    cors_apply(&cors, &r.req);
    buf_init(&out, 65536);
    answer_options(&out, &r.req.form, "POST, OPTIONS", 0, &r.req);
    CHECK(buf_error(&out) == 0 && out.n > 2048 && out.n < 2600);
    buf_free(&out);
    http_reader_fini(&r);
}

static void streams_and_errors_carry_it(void)
{
    struct http_form form = {.keep_alive = true, .cors_origin = "http://a", .cors_vary = true};
    const struct answer sse = {.status = 200, .content_type = ANSWER_SSE};
    struct api_error err;
    struct buf out;

    buf_init(&out, 4096);
    answer_start(&out, &form, &sse);
    CHECK_BUF(&out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    "Access-Control-Allow-Origin: http://a\r\nVary: Origin\r\n"
                    "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n");
    buf_clear(&out);
    api_error_set(&err, API_ERROR_RATE, NULL, "no");
    answer_error(&out, &form, &err, 0);
    buf_putc(&out, '\0');
    CHECK_HAS(out.data, "HTTP/1.1 429 Too Many Requests\r\n");
    CHECK_HAS(out.data, "\r\nRetry-After: 1\r\nAccess-Control-Allow-Origin: http://a\r\n"
                        "Access-Control-Expose-Headers: Retry-After\r\nVary: Origin\r\n");
    CHECK_HAS(out.data,
              "\"type\":\"rate_limit_error\",\"param\":null,\"code\":\"rate_limit_exceeded\"");
    buf_free(&out);
}

int main(void)
{
    reads_origins();
    bounds_origins();
    answers_only_what_is_configured();
    refused_requests_too();
    answers_preflights();
    bounds_preflights();
    streams_and_errors_carry_it();
    return 0;
}
