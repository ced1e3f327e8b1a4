// SPDX-License-Identifier: MIT
#include "api/answer.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

// A day has 86400 s in Unix time.  Days -> civil date: Howard Hinnant, "chrono-compatible low-level
// date algorithms", civil_from_days.
static void answer_date(struct buf *out, int64_t unix_s)
{
    static const char *const days[] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    char text[64];
    uint64_t day = (uint64_t)unix_s / 86400, second = (uint64_t)unix_s % 86400;
    uint64_t z = day + 719468, era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    unsigned month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    unsigned year = (unsigned)(yoe + era * 400 + (month <= 2));

    snprintf(text, sizeof(text), "Date: %s, %02u %s %04u %02u:%02u:%02u GMT\r\n", days[day % 7],
             (unsigned)(doy - (153 * mp + 2) / 5 + 1), months[month - 1], year,
             (unsigned)(second / 3600), (unsigned)(second / 60 % 60), (unsigned)(second % 60));
    buf_puts(out, text);
}

static void answer_field(struct buf *out, const char *name, const char *value)
{
    buf_puts(out, name);
    buf_puts(out, ": ");
    buf_puts(out, value);
    buf_puts(out, "\r\n");
}

static void answer_cors(struct buf *out, const struct http_form *form, const struct answer *a)
{
    if (form->cors_origin) {
        answer_field(out, "Access-Control-Allow-Origin", form->cors_origin);
        if (a->retry_after_s) // a page cannot see most fields unless told so
            answer_field(out, "Access-Control-Expose-Headers", "Retry-After");
    }
    if (form->cors_vary)
        answer_field(out, "Vary", "Origin");
    if (a->preflight)
        cors_preflight_write(out, a->preflight, a->allow);
}

// Everything but what frames the body.
static void answer_head(struct buf *out, const struct http_form *form, const struct answer *a)
{
    buf_puts(out, "HTTP/1.1 ");
    buf_u64(out, a->status);
    buf_putc(out, ' ');
    buf_puts(out, http_status_str((enum http_status)a->status));
    buf_puts(out, "\r\n");
    if (a->date_unix_s > 0)
        answer_date(out, a->date_unix_s);
    if (a->content_type)
        answer_field(out, "Content-Type", a->content_type);
    if (a->allow)
        answer_field(out, "Allow", a->allow);
    if (a->status == 401)
        answer_field(out, "WWW-Authenticate", "Bearer");
    if (a->retry_after_s) {
        buf_puts(out, "Retry-After: ");
        buf_u64(out, a->retry_after_s);
        buf_puts(out, "\r\n");
    }
    answer_cors(out, form, a);
    if (!form->keep_alive)
        answer_field(out, "Connection", "close");
    else if (form->http10)
        answer_field(out, "Connection", "keep-alive");
}

void answer_whole(struct buf *out, const struct http_form *form, const struct answer *a,
                  const char *body, size_t n)
{
    assert(a->content_type || n == 0);
    answer_head(out, form, a);
    if (a->status != 204) { // RFC 9110 8.6: no Content-Length there
        buf_puts(out, "Content-Length: ");
        buf_u64(out, n);
        buf_puts(out, "\r\n");
    }
    buf_puts(out, "\r\n");
    if (!form->head)
        buf_put(out, body, n);
}

void answer_start(struct buf *out, struct http_form *form, const struct answer *a)
{
    assert(a->content_type);
    if (form->http10 && !form->head)
        form->keep_alive = false;
    answer_head(out, form, a);
    if (strcmp(a->content_type, ANSWER_SSE) == 0)
        answer_field(out, "Cache-Control", "no-cache");
    if (!form->http10)
        answer_field(out, "Transfer-Encoding", "chunked");
    buf_puts(out, "\r\n");
}

// A chunk's size is patched into a place of fixed width; leading zeros are legal (RFC 9112 7.1).
#define CHUNK_HEAD_BYTES 10u // "xxxxxxxx\r\n"

size_t answer_chunk_open(struct buf *out, const struct http_form *form)
{
    size_t mark = out->n;
    if (!form->http10)
        buf_puts(out, "00000000\r\n");
    return mark;
}

void answer_chunk_close(struct buf *out, const struct http_form *form, size_t mark)
{
    static const char hex[] = "0123456789abcdef";

    if (buf_error(out) || (form->http10 && !form->head))
        return;
    size_t head = form->http10 ? 0 : CHUNK_HEAD_BYTES;
    assert(out->n >= mark + head);
    size_t n = out->n - mark - head;
    if (n == 0 || form->head) {
        buf_cut(out, mark);
        return;
    }
    assert(n <= UINT32_MAX);
    for (unsigned i = 0; i < 8; i++)
        out->data[mark + i] = hex[n >> (28 - 4 * i) & 15];
    buf_puts(out, "\r\n");
}

void answer_end(struct buf *out, const struct http_form *form)
{
    if (!form->http10 && !form->head)
        buf_puts(out, "0\r\n\r\n");
}

void answer_error(struct buf *out, const struct http_form *form, const struct api_error *err,
                  int64_t date_unix_s)
{
    struct buf body;

    // The longest message, every byte of it escaped, fits.
    buf_init(&body, 16u << 10);
    api_error_json(&body, err);
    struct answer a = {.status = err->status,
                       .content_type = ANSWER_JSON,
                       .date_unix_s = date_unix_s,
                       .allow = err->allow,
                       .retry_after_s = err->retry_after_s};
    if (buf_error(&body) == 0)
        answer_whole(out, form, &a, body.data, body.n);
    else // no memory: the status alone must do
        answer_whole(out, form, &a, "{}", 2);
    buf_free(&body);
}

void answer_options(struct buf *out, const struct http_form *form, const char *allow,
                    int64_t date_unix_s, const struct http_request *req)
{
    struct answer a = {.status = 204, .date_unix_s = date_unix_s, .allow = allow, .preflight = req};
    answer_whole(out, form, &a, NULL, 0);
}
