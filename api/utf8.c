// SPDX-License-Identifier: MIT
#include "api/utf8.h"

#include "base/utf8.h"

#include <assert.h>
#include <string.h>

bool utf8_check(const char *text, size_t n, size_t *ret_offset)
{
    size_t valid = utf8_valid_len(text, n);
    if (valid < n && ret_offset)
        *ret_offset = valid;
    return valid == n;
}

size_t utf8_invalid(const char *text, size_t n)
{
    uint32_t len;
    assert(n > 0);
    utf8_step((const unsigned char *)text, n, &len);
    return len;
}

size_t utf8_prefix(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;

    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = p[n - back];
        if (c < 0x80)
            return n;
        uint32_t len;
        if (c >= 0xc0) // a first byte: is its character whole?
            return utf8_step(p + n - back, back, &len) == UTF8_CUT ? n - back : n;
    }
    return n;
}

size_t utf8_chars(const char *text, size_t n)
{
    size_t chars = 0;
    for (size_t i = 0; i < n; i++)
        chars += ((unsigned char)text[i] & 0xc0) != 0x80;
    return chars;
}

size_t utf8_stream_push(struct utf8_stream *s, const char *bytes, size_t n, char *out)
{
    const unsigned char *p = (const unsigned char *)bytes;
    size_t out_n = 0, i = 0;

    while (i < n || s->held_n > 0) {
        // The held bytes and up to four new ones, so that a character across the border is seen
        // whole.
        unsigned char window[8];
        size_t held = s->held_n, window_n = held;
        memcpy(window, s->held, held);
        while (window_n < held + 4 && i + window_n - held < n) {
            window[window_n] = p[i + window_n - held];
            window_n++;
        }

        uint32_t len;
        enum utf8_step step = utf8_step(window, window_n, &len);
        if (step == UTF8_CUT && i + (window_n - held) == n) {
            memcpy(s->held, window, len);
            s->held_n = (uint8_t)len;
            return out_n;
        }
        assert(len >= held); // held bytes are the beginning of one character
        if (step == UTF8_WHOLE) {
            memcpy(out + out_n, window, len);
            out_n += len;
        } else {
            memcpy(out + out_n, UTF8_REPLACEMENT, 3);
            out_n += 3;
        }
        i += len - held;
        s->held_n = 0;
    }
    return out_n;
}

size_t utf8_stream_finish(struct utf8_stream *s, char *out)
{
    if (s->held_n == 0)
        return 0;
    s->held_n = 0;
    memcpy(out, UTF8_REPLACEMENT, 3);
    return 3;
}
