// SPDX-License-Identifier: MIT
// buf: a growing byte buffer with a bound, and the few writers that every answer is made of.
//
// Errors stick: after the first failure every put is a no-op, so that a caller writes a whole
// document and looks at buf_error once.  What was put before the failure stays readable but must
// not be sent as a whole.
// Owner: one thread at a time.  Thread: any.
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; // [n] bytes, no NUL at the end; NULL while nothing was put
    size_t n, cap;
    size_t max; // n never grows beyond
    int err;    // 0, -ENOMEM or -ENOBUFS (max reached), sticky until buf_clear
};

// buf_init makes an empty buffer in the caller's memory; allocates nothing.
void buf_init(struct buf *b, size_t max);
// buf_free releases the memory; the buffer is empty then and may be used again.
void buf_free(struct buf *b);
// buf_clear forgets bytes and error, keeps the memory (except what lies above 64 KiB).
void buf_clear(struct buf *b);
// buf_error returns 0, -ENOMEM or -ENOBUFS.
int buf_error(const struct buf *b);
// buf_drop takes the first n bytes away (they were sent); n <= b->n.
void buf_drop(struct buf *b, size_t n);
// buf_cut shortens to n bytes; n <= b->n.
void buf_cut(struct buf *b, size_t n);
// buf_reserve makes room for n more bytes and returns where they go, or NULL (error set).  The
// caller writes them and adds to b->n.
char *buf_reserve(struct buf *b, size_t n);

void buf_put(struct buf *b, const void *bytes, size_t n);
void buf_puts(struct buf *b, const char *text); // NUL-terminated
void buf_putc(struct buf *b, char c);
void buf_u64(struct buf *b, uint64_t v); // decimal
void buf_i64(struct buf *b, int64_t v);  // decimal

// buf_json_string writes a JSON string with its quotes.
//
// text: [n] bytes, may be NULL if n is 0; each maximal invalid part of its UTF-8 becomes U+FFFD, so
// the result is always valid JSON.
void buf_json_string(struct buf *b, const char *text, size_t n);
// buf_json_text is buf_json_string for NUL-terminated text; NULL is written as null.
void buf_json_text(struct buf *b, const char *text);
// buf_json_real writes the shortest decimal that reads back as the same float (JSON has no infinity
// and no NaN: they become -9999.0 or 9999.0 by sign, as OpenAI writes a log-probability of zero
// probability, and null).
void buf_json_real(struct buf *b, float v);
// buf_json_double: the same for a double, %.17g if nothing shorter reads back.
void buf_json_double(struct buf *b, double v);
