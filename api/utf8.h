// SPDX-License-Identifier: MIT
// utf8: validity of text from outside, and tokens' bytes -> whole characters.  Pure.  Thread: any.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_REPLACEMENT "\xef\xbf\xbd" // U+FFFD

// utf8_check says whether the bytes are valid UTF-8 (no overlong forms, no surrogates, none above
// U+10FFFF).
// ret_offset: if they are not, where the first invalid byte stands; may be NULL.
bool utf8_check(const char *text, size_t n, size_t *ret_offset);

// utf8_invalid returns the length of the maximal invalid part (1..3) that text begins with, as
// Unicode's "substitution of maximal subparts" counts it; n > 0, and text does not begin with a
// valid character.
size_t utf8_invalid(const char *text, size_t n);

// utf8_prefix returns the longest length <= n that ends between characters (text must be valid up
// to its end).
size_t utf8_prefix(const char *text, size_t n);

// utf8_chars counts the characters of valid text.
size_t utf8_chars(const char *text, size_t n);

// Holds back the bytes of an unfinished character (at most 3).  Zero-initialise.
struct utf8_stream {
    unsigned char held[4];
    uint8_t held_n;
};

// The most bytes that utf8_stream_push writes for n bytes in.
#define UTF8_STREAM_MAX(n) (3u * ((n) + 4u))

// utf8_stream_push writes the whole characters that stand now and keeps the rest.
//
// out: UTF8_STREAM_MAX(n) bytes; each maximal invalid part becomes U+FFFD.  Returns bytes written.
size_t utf8_stream_push(struct utf8_stream *s, const char *bytes, size_t n, char *out);
// utf8_stream_finish writes U+FFFD (3 bytes) if an unfinished character is held, else nothing.
size_t utf8_stream_finish(struct utf8_stream *s, char *out);
