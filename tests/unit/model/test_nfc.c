// SPDX-License-Identifier: MIT
// nfc: the rules of Unicode's annex 15, one row each, and what must hold for any text.  (The golden
// vectors of the qwen2 tokenizer compare it with another implementation.)
#include "base/utf8.h"
#include "model/nfc.h"
#include "tests/check.h"

#include <stdbool.h>
#include <string.h>

static const struct {
    const char *from, *to;
} rows[] = {
    {"", ""},
    {"plain ASCII", "plain ASCII"},
    {"e\u0301", "\u00e9"},
    {"\u00e9", "\u00e9"},
    {"\u0301e", "\u0301e"},                       // a mark at the start has nothing to join
    {"a\u0323\u0302", "\u1ead"},                  // two marks
    {"a\u0302\u0323", "\u1ead"},                  // in the wrong order
    {"\u1e9b\u0323", "\u1e9b\u0323"},             // long s with dot: stays
    {"\u0344", "\u0308\u0301"},                   // excluded: decomposes for good
    {"\u2126", "\u03a9"},                         // ohm sign, a singleton
    {"\u212b", "\u00c5"},                         // angstrom: singleton, then composed
    {"\u0958", "\u0915\u093c"},                   // composition exclusion
    {"\u1100\u1161", "\uac00"},                   // Hangul L V
    {"\u1100\u1161\u11a8", "\uac01"},             // L V T
    {"\uac00\u11a8", "\uac01"},                   // LV T
    {"\uac00\u11a7", "\uac00\u11a7"},             // U+11A7 is no trailing consonant
    {"\uac01\u11a8", "\uac01\u11a8"},             // there is one already
    {"\u1100\u0301\u1161", "\u1100\u0301\u1161"}, // a mark in between
    {"\u09c7\u0334\u09be", "\u09c7\u0334\u09be"}, // starter blocked by a mark
    {"\u09c7\u09be", "\u09cb"},                   // two starters compose
    {"a\u0315\u0300\u05aeb", "\u00e0\u05ae\u0315b"},
    {"\U0001d15e", "\U0001d157\U0001d165"}, // a musical symbol, excluded
    {"s\u0323\u0307", "\u1e69"},
    {"\u1e0b\u0323", "\u1e0d\u0307"}, // taken apart, ordered, joined anew
    {"<think>\u0338", "<think\u226f"},
};

static void check_row(const char *from, const char *to)
{
    char *text, *again;
    size_t len, again_len;

    CHECK(nfc_normalize(from, strlen(from), &text, &len) == 0);
    if (len != strlen(to) || memcmp(text, to, len) != 0)
        fprintf(stderr, "row: %s\n", from);
    CHECK(len == strlen(to) && memcmp(text, to, len) == 0);
    CHECK(nfc_normalize(text, len, &again, &again_len) == 0);
    CHECK(again_len == len && memcmp(again, text, len) == 0);
    if (nfc_is_normal(from, strlen(from)))
        CHECK(strcmp(from, to) == 0);
    free(text);
    free(again);
}

// Every Hangul syllable decomposes and comes back; nothing else changes without being suspect.
static void test_all_characters(void)
{
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        char from[5] = "", *text;
        size_t len;
        if (c >= 0xd800 && c <= 0xdfff)
            continue;
        uint32_t from_len = utf8_put(c, from);
        CHECK(nfc_normalize(from, from_len, &text, &len) == 0);
        bool same = len == from_len && memcmp(text, from, len) == 0;
        CHECK(same || !nfc_is_normal(from, from_len));
        CHECK(same || c < 0xac00 || c > 0xd7a3);
        CHECK(len > 0 && len <= 3 * from_len && utf8_valid_len(text, len) == len);
        free(text);
    }
}

// A run of marks in alternating order ends up sorted, stable, and in one go.
static void test_marks(void)
{
    enum { PAIRS = 100000 };
    char *text = malloc(1 + 4 * PAIRS), *sorted;
    size_t len;

    CHECK(text);
    text[0] = 'x';
    for (size_t i = 0; i < PAIRS; i++)
        memcpy(text + 1 + 4 * i, "\u0301\u0323", 4);
    CHECK(nfc_normalize(text, 1 + 4 * PAIRS, &sorted, &len) == 0);
    CHECK(len == 1 + 4 * PAIRS);
    for (size_t i = 0; i < PAIRS; i++) {
        CHECK(memcmp(sorted + 1 + 2 * i, "\u0323", 2) == 0);
        CHECK(memcmp(sorted + 1 + 2 * (PAIRS + i), "\u0301", 2) == 0);
    }
    free(text);
    free(sorted);
}

int main(void)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check_row(rows[i].from, rows[i].to);
    test_all_characters();
    test_marks();
    return 0;
}
