// SPDX-License-Identifier: MIT
// fuzz_http: a connection's bytes through the HTTP reader, routes and answers.  Input: one byte
// that chooses how the rest is cut, then the bytes.  Whatever they are, cuts must not change what
// is read.
#include "api/answer.h"
#include "api/http.h"
#include "api/route.h"
#include "api/utf8.h"
#include "tests/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BODY_MAX 512u

// The list that cors_apply judges by.
static const struct cors cors = {.n = 2, .origins = {"http://a", "https://b:8443"}};

// What must hold of any request; what was read goes into the transcript.
static void look(struct buf *told, const struct http_request *req, bool whole)
{
    const char *path = http_request_path(req);

    CHECK(path[0] == '/' || strcmp(path, "*") == 0);
    CHECK(utf8_check(path, strlen(path), NULL));
    CHECK(req->fields_n <= HTTP_FIELDS_MAX);
    CHECK(req->body.n <= BODY_MAX);
    if (!whole)
        return;
    buf_puts(told, path);
    buf_putc(told, '?');
    buf_puts(told, http_request_query(req));
    for (uint32_t i = 0; i < req->fields_n; i++) {
        const char *name = req->text.data + req->fields[i].name;
        const char *value = req->text.data + req->fields[i].value;
        CHECK(strlen(name) == req->fields[i].name_n && name[0] != '\0');
        CHECK(strlen(value) == req->fields[i].value_n);
        CHECK(!strpbrk(name, " \t:") && !strpbrk(value, "\r\n"));
        CHECK(http_request_field(req, name));
        buf_puts(told, name);
        buf_puts(told, value);
    }
    buf_put(told, req->body.data, req->body.n);
    buf_putc(told, req->form.keep_alive ? '+' : '-');
}

// A page is answered with an origin of the list, never with bytes of its own.
static void page(struct http_reader *r)
{
    struct buf out;

    cors_apply(&cors, &r->req);
    const char *origin = r->req.form.cors_origin;
    CHECK(!origin || origin == cors.origins[0] || origin == cors.origins[1]);
    CHECK(r->req.form.cors_vary);
    if (r->state != HTTP_STATE_BODY) // refused
        return;
    buf_init(&out, 1 << 16);
    cors_preflight_write(&out, &r->req, "GET");
    buf_putc(&out, '\0');
    CHECK(buf_error(&out) == 0);
    CHECK(out.n == 1 || (origin && memcmp(out.data + out.n - 3, "\r\n", 3) == 0));
    uint32_t lines = 0;
    for (const char *at = out.data; (at = strchr(at, '\n')); at++)
        lines++;
    CHECK(lines == 0 || lines == 3); // whatever was asked for
    buf_free(&out);
}

static void judge(struct http_reader *r)
{
    struct route_match match;
    struct api_error err;

    const char *key = http_request_key(&r->req);
    CHECK(!key || strlen(key) < HTTP_HEAD_BYTES_MAX);
    page(r);
    if (route_find(&r->req, &match, &err) == 0) {
        CHECK(match.route < ROUTE_COUNT && match.arg && match.allow);
        return;
    }
    CHECK(err.status == 404 || err.status == 405 || err.status == 415);
    http_reader_refuse(r, &err);
}

static void answer(struct buf *told, const struct http_reader *r)
{
    struct buf out;

    CHECK(r->error.status >= 400 && r->error.status <= 505 && r->error.status != 500);
    buf_init(&out, 1 << 16);
    answer_error(&out, &r->req.form, &r->error, 1);
    CHECK(buf_error(&out) == 0);
    buf_put(told, out.data, out.n);
    buf_free(&out);
}

static void talk(struct buf *told, const char *bytes, size_t n, uint64_t cuts)
{
    static struct http_reader r;
    size_t at = 0;

    http_reader_init(&r, BODY_MAX);
    for (bool more = true; more;) {
        size_t left = n - at, take = left, used;
        if (cuts != 0 && left > 0)
            take = 1 + check_random(&cuts) % (left < 40 ? left : 40);
        enum http_event event = http_reader_feed(&r, bytes + at, take, &used);
        CHECK(used <= take);
        at += used;
        switch (event) {
        case HTTP_EVENT_MORE:
            CHECK(used == take);
            more = at < n;
            break;
        case HTTP_EVENT_HEAD:
            look(told, &r.req, false);
            judge(&r);
            break;
        case HTTP_EVENT_REQUEST:
        case HTTP_EVENT_REFUSED:
            if (event == HTTP_EVENT_REQUEST) {
                look(told, &r.req, true);
            } else {
                page(&r);
                answer(told, &r);
            }
            more = r.req.form.keep_alive;
            if (more)
                http_reader_next(&r);
            break;
        }
    }
    buf_u64(told, r.state == HTTP_STATE_IDLE); // an empty line may or may not have come
    http_reader_fini(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole, cut;

    if (size == 0 || size > (1u << 20))
        return 0;
    buf_init(&whole, 64u << 20);
    buf_init(&cut, 64u << 20);
    talk(&whole, (const char *)data + 1, size - 1, 0);
    talk(&cut, (const char *)data + 1, size - 1, 1u + data[0]);
    CHECK(buf_error(&whole) == 0 && buf_error(&cut) == 0);
    CHECK(whole.n == cut.n);
    CHECK(whole.n == 0 || memcmp(whole.data, cut.data, whole.n) == 0);
    buf_free(&whole);
    buf_free(&cut);
    return 0;
}
