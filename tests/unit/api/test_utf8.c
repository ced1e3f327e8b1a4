// SPDX-License-Identifier: MIT
#include "api/utf8.h"

#include "tests/unit/api/api_check.h"

#define R UTF8_REPLACEMENT

static void checks_validity(void)
{
    static const struct {
        const char *text;
        size_t n, offset; // offset == n: valid
    } rows[] = {
        {"", 0, 0},
        {"abc", 3, 3},
        {"\xc2\x80\xdf\xbf", 4, 4},
        {"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", 12, 12},
        {"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8, 8},
        {"a\xc0\x80", 3, 1},        // overlong NUL
        {"\xe0\x9f\xbf", 3, 0},     // overlong
        {"\xed\xa0\x80", 3, 0},     // surrogate
        {"\xf4\x90\x80\x80", 4, 0}, // above U+10FFFF
        {"ab\xe4\xb8", 4, 2},       // cut off
        {"\x80", 1, 0},             // continuation alone
        {"\xf5\x80\x80\x80", 4, 0}, //
        {"\xe4\xb8\xad\xff", 4, 3}, //
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t offset = rows[i].n;
        CHECK(utf8_check(rows[i].text, rows[i].n, &offset) == (rows[i].offset == rows[i].n));
        CHECK(offset == rows[i].offset);
    }
}

static void finds_borders(void)
{
    CHECK(utf8_prefix("a\xe4\xb8\xad", 4) == 4);
    CHECK(utf8_prefix("a\xe4\xb8\xad", 3) == 1);
    CHECK(utf8_prefix("a\xe4\xb8\xad", 2) == 1);
    CHECK(utf8_prefix("a\xf0\x9f\x98\x80", 4) == 1);
    CHECK(utf8_prefix("", 0) == 0);
    CHECK(utf8_chars("a\xe4\xb8\xad\xf0\x9f\x98\x80", 8) == 3);
}

// Pushes the text cut into pieces of `step` bytes.
static void check_stream(const char *text, size_t n, size_t step, const char *want)
{
    struct utf8_stream s = {0};
    char out[256];
    size_t out_n = 0;

    for (size_t i = 0; i < n; i += step) {
        size_t take = n - i < step ? n - i : step;
        out_n += utf8_stream_push(&s, text + i, take, out + out_n);
        CHECK(utf8_check(out, out_n, NULL)); // only whole characters, ever
    }
    out_n += utf8_stream_finish(&s, out + out_n);
    CHECK_TEXT(out, out_n, want);
}

static void streams_whole_characters(void)
{
    static const struct {
        const char *text;
        size_t n;
        const char *want;
    } rows[] = {
        {"a\xe4\xb8\xad\xf0\x9f\x98\x80z", 9, "a\xe4\xb8\xad\xf0\x9f\x98\x80z"},
        {"\xe4\xb8", 2, R},
        {"\xe4\xb8z", 3, R "z"},
        {"\xf0\x9f\x98\xe4\xb8\xad", 6, R "\xe4\xb8\xad"},
        {"\xff\xfe", 2, R R},
        {"\xed\xa0\x80", 3, R R R}, // a surrogate: each byte by itself
        {"\xe0\x80\xaf", 3, R R R},
        {"\xc2", 1, R},
        {"\xf0\x90", 2, R},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        for (size_t step = 1; step <= 9; step++)
            check_stream(rows[i].text, rows[i].n, step, rows[i].want);
}

// Any bytes, any cuts: the same text as in one piece, and never more than promised.
static void cuts_do_not_matter(void)
{
    uint64_t seed = 3;

    for (int round = 0; round < 5000; round++) {
        static const unsigned char pool[] = {'a', 0x80, 0xbf, 0xc2, 0xe4, 0xb8, 0xed, 0xf0, 0x9f};
        char text[32], whole[UTF8_STREAM_MAX(32)], pieces[4 * UTF8_STREAM_MAX(32)];
        size_t n = check_random(&seed) % sizeof(text), whole_n, pieces_n = 0;
        struct utf8_stream a = {0}, b = {0};
        for (size_t i = 0; i < n; i++)
            text[i] = (char)pool[check_random(&seed) % sizeof(pool)];
        whole_n = utf8_stream_push(&a, text, n, whole);
        whole_n += utf8_stream_finish(&a, whole + whole_n);
        CHECK(whole_n <= sizeof(whole));
        for (size_t i = 0; i < n;) {
            size_t take = 1 + check_random(&seed) % (n - i);
            size_t out_n = utf8_stream_push(&b, text + i, take, pieces + pieces_n);
            CHECK(out_n <= UTF8_STREAM_MAX(take));
            pieces_n += out_n;
            i += take;
        }
        pieces_n += utf8_stream_finish(&b, pieces + pieces_n);
        CHECK(whole_n == pieces_n);
        CHECK(memcmp(whole, pieces, whole_n) == 0);
        CHECK(utf8_check(whole, whole_n, NULL));
    }
}

int main(void)
{
    checks_validity();
    finds_borders();
    streams_whole_characters();
    cuts_do_not_matter();
    return 0;
}
