// SPDX-License-Identifier: MIT
// utf8: characters in bytes: where they end, and which bytes are none.
// Well-formed means Unicode's table 3-7: no surrogates, no overlong forms, nothing above U+10FFFF.
#pragma once
#include <stddef.h>
#include <stdint.h>

// utf8_step looks at the well-formed character, or the longest part of one, that starts at bytes[0]
// (a "maximal subpart" of Unicode 3.9, which is what becomes one U+FFFD).
//
// bytes: [len], len >= 1.
// ret_len: bytes of it, 1..4.
// Returns UTF8_WHOLE, UTF8_CUT (right so far, but the bytes end here) or UTF8_BAD.
enum utf8_step { UTF8_WHOLE, UTF8_CUT, UTF8_BAD };
enum utf8_step utf8_step(const unsigned char *bytes, size_t len, uint32_t *ret_len);

// utf8_valid_len returns how many bytes of text are well-formed from its start: len if all are.
size_t utf8_valid_len(const char *text, size_t len);

// utf8_get decodes the character at *text, which must be well-formed, and moves *text behind it.
static inline uint32_t utf8_get(const unsigned char **text)
{
    const unsigned char *p = *text;
    if (p[0] < 0x80) {
        *text += 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *text += 2;
        return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    }
    if (p[0] < 0xf0) {
        *text += 3;
        return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    }
    *text += 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 |
           (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
}

// utf8_put writes the character (a scalar value) and returns its bytes, 1..4.
static inline uint32_t utf8_put(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}
