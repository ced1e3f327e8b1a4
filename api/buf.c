// SPDX-License-Identifier: MIT
#include "api/buf.h"

#include "api/utf8.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Memory that a cleared buffer keeps: an ordinary request fits, a large body is given back.
#define BUF_KEEP_BYTES (64u << 10)

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
    if (b->cap > BUF_KEEP_BYTES)
        buf_free(b);
    b->n = 0;
    b->err = 0;
}

int buf_error(const struct buf *b)
{
    return b->err;
}

void buf_drop(struct buf *b, size_t n)
{
    assert(n <= b->n);
    if (n > 0 && n < b->n)
        memmove(b->data, b->data + n, b->n - n);
    b->n -= n;
}

void buf_cut(struct buf *b, size_t n)
{
    assert(n <= b->n);
    b->n = n;
}

static int buf_grow(struct buf *b, size_t need)
{
    size_t cap = b->cap ? b->cap : 256;
    while (cap < need)
        cap = cap > b->max / 2 ? b->max : cap * 2;
    char *data = realloc(b->data, cap);
    if (!data)
        return -ENOMEM;
    b->data = data;
    b->cap = cap;
    return 0;
}

char *buf_reserve(struct buf *b, size_t n)
{
    if (b->err)
        return NULL;
    if (n > b->max || b->n > b->max - n) {
        b->err = -ENOBUFS;
        return NULL;
    }
    if (b->n + n > b->cap || !b->data) {
        b->err = buf_grow(b, b->n + n);
        if (b->err)
            return NULL;
    }
    return b->data + b->n;
}

void buf_put(struct buf *b, const void *bytes, size_t n)
{
    if (n == 0)
        return;
    char *at = buf_reserve(b, n);
    if (!at)
        return;
    memcpy(at, bytes, n);
    b->n += n;
}

void buf_puts(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_u64(struct buf *b, uint64_t v)
{
    char digits[20]; // UINT64_MAX has 20
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    buf_put(b, digits + at, sizeof(digits) - at);
}

void buf_i64(struct buf *b, int64_t v)
{
    if (v < 0)
        buf_putc(b, '-');
    buf_u64(b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

static void json_escape(struct buf *b, unsigned char c)
{
    static const char short_form[128] = {
        ['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
        ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't',
    };
    static const char hex[] = "0123456789abcdef";

    if (short_form[c]) {
        buf_put(b, (char[]){'\\', short_form[c]}, 2);
        return;
    }
    buf_put(b, (char[]){'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]}, 6);
}

static bool json_is_plain(unsigned char c)
{
    return c >= 0x20 && c != '"' && c != '\\' && c != 0x7f;
}

// Valid UTF-8 between its quotes.
static void json_put_valid(struct buf *b, const char *text, size_t n)
{
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        if (json_is_plain((unsigned char)text[i]))
            continue;
        buf_put(b, text + from, i - from);
        json_escape(b, (unsigned char)text[i]);
        from = i + 1;
    }
    buf_put(b, text + from, n - from);
}

void buf_json_string(struct buf *b, const char *text, size_t n)
{
    buf_putc(b, '"');
    while (n > 0) {
        size_t valid;
        if (utf8_check(text, n, &valid))
            valid = n;
        json_put_valid(b, text, valid);
        text += valid;
        n -= valid;
        if (n > 0) {
            size_t bad = utf8_invalid(text, n);
            buf_puts(b, UTF8_REPLACEMENT);
            text += bad;
            n -= bad;
        }
    }
    buf_putc(b, '"');
}

void buf_json_text(struct buf *b, const char *text)
{
    if (!text) {
        buf_puts(b, "null");
        return;
    }
    buf_json_string(b, text, strlen(text));
}

// Locale-independent: expertd never calls setlocale, so the point is a point.
void buf_json_real(struct buf *b, float v)
{
    char text[32];

    if (isnan(v)) {
        buf_puts(b, "null");
        return;
    }
    if (isinf(v)) {
        buf_puts(b, v < 0 ? "-9999.0" : "9999.0");
        return;
    }
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v)
            break;
    }
    buf_puts(b, text);
}

void buf_json_double(struct buf *b, double v)
{
    char text[40];

    if (isnan(v)) {
        buf_puts(b, "null");
        return;
    }
    if (isinf(v)) {
        buf_puts(b, v < 0 ? "-9999.0" : "9999.0");
        return;
    }
    snprintf(text, sizeof(text), "%.15g", v);
    if (strtod(text, NULL) != v)
        snprintf(text, sizeof(text), "%.17g", v);
    buf_puts(b, text);
}
