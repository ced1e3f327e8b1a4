// SPDX-License-Identifier: MIT
// text_stream: bytes of tokens -> whole UTF-8 characters.  Contract in tokenizer.h.
#include "model/tokenizer.h"
#include "model/utf8.h"

#include <assert.h>
#include <string.h>

static const char replacement[3] = {(char)0xef, (char)0xbf, (char)0xbd}; // U+FFFD

static size_t put(char *out, const void *bytes, size_t len)
{
    memcpy(out, bytes, len);
    return len;
}

// Adds one byte to the character held back; returns bytes written.  A byte that cannot go on ends
// the held part as one U+FFFD and is then looked at again, on its own.
static size_t push_byte(struct text_stream *s, unsigned char byte, char *out)
{
    size_t n = 0;
    uint32_t len;

    assert(s->held_n < sizeof(s->held));
    s->held[s->held_n++] = byte;
    enum utf8_step step = utf8_step(s->held, s->held_n, &len);
    if (step == UTF8_BAD) {
        n += put(out, replacement, sizeof(replacement));
        bool again = s->held_n > 1;
        s->held_n = 0;
        return again ? n + push_byte(s, byte, out + n) : n;
    }
    if (step == UTF8_WHOLE) {
        n += put(out, s->held, len);
        s->held_n = 0;
    }
    return n;
}

size_t text_stream_push(struct text_stream *s, const char *bytes, size_t len, char *out)
{
    size_t n = 0, i = 0;

    while (i < len) {
        if (s->held_n == 0) { // the common case: whole characters go through at once
            size_t whole = utf8_valid_len(bytes + i, len - i);
            n += put(out + n, bytes + i, whole);
            i += whole;
            if (i == len)
                break;
        }
        n += push_byte(s, (unsigned char)bytes[i++], out + n);
    }
    return n;
}

size_t text_stream_finish(struct text_stream *s, char *out)
{
    if (s->held_n == 0)
        return 0;
    s->held_n = 0;
    return put(out, replacement, sizeof(replacement));
}
