// SPDX-License-Identifier: MIT
// text: bytes that grow up to a limit: an answer so far, a response's body, the standard input.
// Always NUL-terminated behind the last byte, so it can be printed; may hold NUL bytes inside.
// Owner: the caller.  Zero-initialise; text_free when done.
#pragma once
#include <stddef.h>

struct text {
    char *bytes; // NULL while empty
    size_t n, cap;
};

// text_append adds len bytes.
//
// max: no more than this many bytes in all.
// Returns 0, -EFBIG beyond max, -ENOMEM; the text is unchanged then.
int text_append(struct text *text, const char *bytes, size_t len, size_t max);

// text_read_fd appends everything that fd gives until its end, at most max bytes in all.
// Errors: -EFBIG, -ENOMEM, -errno of read.
int text_read_fd(struct text *text, int fd, size_t max);

// text_clear forgets the bytes and keeps the memory.
void text_clear(struct text *text);

// text_free frees and zeroes; accepts an empty text.
void text_free(struct text *text);
