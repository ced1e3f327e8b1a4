// SPDX-License-Identifier: MIT
// utf8_stream: cut characters wait, invalid parts become U+FFFD as Unicode asks, wherever the cuts
// between tokens fall.
#include "api/utf8.h"
#include "base/utf8.h"
#include "model/tokenizer.h"
#include "tests/check.h"

#include <string.h>

#define R "\xef\xbf\xbd" // U+FFFD

static const struct {
    const char *bytes, *text;
} rows[] = {
    {"", ""},
    {"plain", "plain"},
    {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
    {"\xf0", R},
    {"\xf0\x9f", R},
    {"\xf0\x9f\x98", R},
    {"a\xf0\x9f\x98", "a" R},
    {"\xa9", R},
    {"a\xff"
     "b",
     "a" R "b"},
    {"\xc0\x80", R R}, // overlong
    {"\xc1\xbf", R R},
    {"\xe0\x80\x80", R R R}, // overlong: the second byte is wrong already
    {"\xe0\x9f\xbf", R R R},
    {"\xf0\x80\x80\x80", R R R R},
    {"\xf0\x8f\xbf\xbf", R R R R},
    {"\xed\xa0\x80", R R R}, // a surrogate
    {"\xed\x9f\xbf", "\xed\x9f\xbf"},
    {"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
    {"\xf4\x90\x80\x80", R R R R}, // above U+10FFFF
    {"\xf5\x80\x80\x80", R R R R},
    {"\xe4\xbd\xa0\xe5\xa5", "\xe4\xbd\xa0" R},
    {"\xe4\xbd"
     "x",
     R "x"}, // the x is not lost
    {"\xe4\xbd\xe4\xbd\xa0", R "\xe4\xbd\xa0"},
    {"\xf0\x9f\xf0\x9f\x98\x80", R "\xf0\x9f\x98\x80"},
    {"\xc3\xc3\xa9", R "\xc3\xa9"},
    {"\x80\x80\x80\x80\x80", R R R R R},
    {"\xff\xfe", R R},
    {"ok\xe2\x80", "ok" R},
    // The examples of Unicode's table 3-8 and its neighbours.
    {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", R R R R R R R R "A"},
    {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", R R R R R R R R "A"},
    {"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", R R R R R "A" R R "B"},
    {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", R R R R "A"},
};

// Pushes the bytes in two tokens, cut at `first`, then one byte at a time from there if asked.
static void check_cut(const char *bytes, const char *text, size_t first, bool bytewise)
{
    struct utf8_stream stream = {0};
    size_t len = strlen(bytes), n, at = first;
    char out[512];

    n = utf8_stream_push(&stream, bytes, first, out);
    CHECK(utf8_valid_len(out, n) == n);
    while (at < len) {
        size_t step = bytewise ? 1 : len - at;
        n += utf8_stream_push(&stream, bytes + at, step, out + n);
        CHECK(utf8_valid_len(out, n) == n);
        CHECK(stream.held_n <= 3);
        at += step;
    }
    n += utf8_stream_finish(&stream, out + n);
    CHECK(n == strlen(text) && memcmp(out, text, n) == 0);
    CHECK(utf8_stream_finish(&stream, out) == 0);
}

static void test_rows(void)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (size_t cut = 0; cut <= strlen(rows[i].bytes); cut++) {
            check_cut(rows[i].bytes, rows[i].text, cut, false);
            check_cut(rows[i].bytes, rows[i].text, cut, true);
        }
    }
}

// A character goes out with its last byte, not later; what is before it at once.
static void test_prompt(void)
{
    struct utf8_stream stream = {0};
    char out[64];

    CHECK(utf8_stream_push(&stream, "ab\xe4", 3, out) == 2);
    CHECK(utf8_stream_push(&stream, "\xbd", 1, out) == 0);
    CHECK(utf8_stream_push(&stream, "\xa0", 1, out) == 3);
    CHECK(memcmp(out, "\xe4\xbd\xa0", 3) == 0);
    CHECK(utf8_stream_push(&stream, "", 0, out) == 0);
}

// The contract's bound on what one push writes.
static void test_bound(void)
{
    struct utf8_stream stream = {0};
    char out[3 * (8 + 4)];

    CHECK(utf8_stream_push(&stream, "\xf0\x9f\x98", 3, out) == 0);
    CHECK(utf8_stream_push(&stream, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, out) == 27);
    stream = (struct utf8_stream){0};
    CHECK(utf8_stream_push(&stream, "a\0b", 3, out) == 3 && out[1] == '\0');
}

static void test_all_characters(void)
{
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char text[4], out[32];
        struct utf8_stream stream = {0};
        if (c >= 0xd800 && c <= 0xdfff)
            continue;
        uint32_t len = utf8_put(c, text);
        const unsigned char *p = (const unsigned char *)text;
        CHECK(utf8_get(&p) == c && p == (const unsigned char *)text + len);
        size_t n = utf8_stream_push(&stream, text, len - 1, out);
        CHECK(n == 0);
        n = utf8_stream_push(&stream, text + len - 1, 1, out);
        CHECK(n == len && memcmp(out, text, n) == 0);
    }
}

int main(void)
{
    test_rows();
    test_prompt();
    test_bound();
    test_all_characters();
    return 0;
}
