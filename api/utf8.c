// SPDX-License-Identifier: MIT
#include "api/utf8.h"

#include <assert.h>
#include <string.h>

// What stands at the beginning of some bytes.
struct utf8_scan {
    size_t n;  // bytes of the character, or of the maximal invalid part
    bool good; // a whole, valid character
    bool cut;  // so far valid, but the bytes end in the middle of it
};

// Table 3-7 of the Unicode standard: the second byte's range depends on the first.
static struct utf8_scan utf8_scan(const unsigned char *p, size_t n)
{
    unsigned char lo = 0x80, hi = 0xbf;
    size_t need;

    if (p[0] < 0x80)
        return (struct utf8_scan){.n = 1, .good = true};
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        need = 2;
    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        need = 3;
        lo = p[0] == 0xe0 ? 0xa0 : 0x80;
        hi = p[0] == 0xed ? 0x9f : 0xbf; // no surrogates
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        need = 4;
        lo = p[0] == 0xf0 ? 0x90 : 0x80;
        hi = p[0] == 0xf4 ? 0x8f : 0xbf; // none above U+10FFFF
    } else {
        return (struct utf8_scan){.n = 1};
    }

    size_t i = 1;
    for (; i < need && i < n; i++) {
        if (p[i] < lo || p[i] > hi)
            return (struct utf8_scan){.n = i};
        lo = 0x80;
        hi = 0xbf;
    }
    return (struct utf8_scan){.n = i, .good = i == need, .cut = i < need};
}

bool utf8_check(const char *text, size_t n, size_t *ret_offset)
{
    const unsigned char *p = (const unsigned char *)text;

    for (size_t i = 0; i < n;) {
        if (p[i] < 0x80) {
            i++;
            continue;
        }
        struct utf8_scan scan = utf8_scan(p + i, n - i);
        if (!scan.good) {
            if (ret_offset)
                *ret_offset = i;
            return false;
        }
        i += scan.n;
    }
    return true;
}

size_t utf8_invalid(const char *text, size_t n)
{
    assert(n > 0);
    return utf8_scan((const unsigned char *)text, n).n;
}

size_t utf8_prefix(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;

    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = p[n - back];
        if (c < 0x80)
            return n;
        if (c >= 0xc0) // a first byte: is its character whole?
            return utf8_scan(p + n - back, back).cut ? n - back : n;
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

        struct utf8_scan scan = utf8_scan(window, window_n);
        if (scan.cut && i + (window_n - held) == n) {
            memcpy(s->held, window, scan.n);
            s->held_n = (uint8_t)scan.n;
            return out_n;
        }
        assert(scan.n >= held); // held bytes are the beginning of one character
        if (scan.good) {
            memcpy(out + out_n, window, scan.n);
            out_n += scan.n;
        } else {
            memcpy(out + out_n, UTF8_REPLACEMENT, 3);
            out_n += 3;
        }
        i += scan.n - held;
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
