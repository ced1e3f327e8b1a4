// SPDX-License-Identifier: MIT
// pretok: what the rewriting of expressions must keep, over all of Unicode where it is about
// classes.  (The golden pieces are in test_tokenizer.)
#include "base/utf8.h"
#include "model/pretok.h"
#include "model/pretok_regex.h"
#include "tests/check.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

struct pieces {
    char text[512]; // pieces with '|' between them
    size_t n;
};

static int add_piece(void *user, const char *piece, size_t len)
{
    struct pieces *p = user;
    CHECK(len > 0 && p->n + len + 2 < sizeof(p->text));
    if (p->n)
        p->text[p->n++] = '|';
    memcpy(p->text + p->n, piece, len);
    p->n += len;
    p->text[p->n] = '\0';
    return 0;
}

static void check_split(const char *pattern, const char *text, const char *expected)
{
    struct pretok *pretok;
    struct pretok_scratch *scratch;
    struct pieces pieces = {0};
    struct fault fault = {0};

    int err = pretok_create_regex(pattern, &pretok, &fault);
    if (err)
        fprintf(stderr, "%s: %s\n", pattern, fault.text);
    CHECK(err == 0);
    CHECK(pretok_scratch_create(pretok, &scratch) == 0);
    CHECK(pretok_split(pretok, scratch, text, strlen(text), add_piece, &pieces, &fault) == 0);
    if (strcmp(pieces.text, expected) != 0)
        fprintf(stderr, "%s: %s, expected %s\n", pattern, pieces.text, expected);
    CHECK(strcmp(pieces.text, expected) == 0);
    pretok_scratch_destroy(&scratch);
    pretok_destroy(&pretok);
}

static void test_split(void)
{
    check_split("b", "", "");
    check_split("b", "aaa", "aaa");
    check_split("b", "abbac", "a|b|b|ac");
    check_split("b*", "abbac", "a|bb|ac"); // an empty match is none
    check_split("\\u0062", "abc", "a|b|c");
    check_split("\\d+", "a12\u0663b", "a|12\u0663|b");
    check_split("\\D", "12ab", "12|a|b");
    check_split("[\\S&&[^b]]+", "ab ab", "a|b |a|b");
    check_split("(?i:'s)", "'S's'\u017f'x", "'S|'s|'\u017f|'x");
    check_split("[\\]a]+", "xa]b", "x|a]|b");
    check_split("[]a]+", "xa]b", "x|a]|b");
    check_split("\\\\|\\/", "a\\b/c", "a|\\|b|/|c");
    check_split("(a)(b)(c)", "abcabc", "abc|abc"); // more groups than there is room for
}

// The characters that the expression, which matches one, takes as a piece of their own.
static bool takes(const struct pretok *pretok, struct pretok_scratch *scratch, uint32_t c)
{
    char text[8] = "!";
    struct pieces pieces = {0};
    uint32_t len = utf8_put(c, text + 1);
    CHECK(pretok_split(pretok, scratch, text, 1 + len, add_piece, &pieces, NULL) == 0);
    return pieces.n == len + 2; // '!', '|' and the character
}

static void test_white_space(void)
{
    static const uint32_t spaces[] = {9,      10,     11,     12,     13,     32,     0x85,
                                      0xa0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004,
                                      0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200a, 0x2028,
                                      0x2029, 0x202f, 0x205f, 0x3000};
    struct pretok *pretok;
    struct pretok_scratch *scratch;
    size_t next = 0;

    CHECK(pretok_create_regex("\\s", &pretok, NULL) == 0);
    CHECK(pretok_scratch_create(pretok, &scratch) == 0);
    for (uint32_t c = 1; c <= 0x10ffff; c++) {
        if (c >= 0xd800 && c <= 0xdfff)
            continue;
        bool expected = next < ARRAY_LEN(spaces) && spaces[next] == c;
        next += expected;
        CHECK(takes(pretok, scratch, c) == expected);
    }
    CHECK(next == ARRAY_LEN(spaces));
    pretok_scratch_destroy(&scratch);
    pretok_destroy(&pretok);
}

// [X&&[^Y]] has the characters of X that are not of Y.
static void test_difference(void)
{
    static const char *const patterns[] = {"[\\p{Lo}\\p{M}&&[^\\p{Han}]]", "[\\p{Lo}\\p{M}]",
                                           "[\\p{Han}]"};
    struct pretok *pretok[3];
    struct pretok_scratch *scratch[3];

    for (int i = 0; i < 3; i++) {
        CHECK(pretok_create_regex(patterns[i], &pretok[i], NULL) == 0);
        CHECK(pretok_scratch_create(pretok[i], &scratch[i]) == 0);
    }
    for (uint32_t c = 1; c <= 0x10ffff; c += c < 0x3400 ? 1 : 7) {
        if (c >= 0xd800 && c <= 0xdfff)
            continue;
        CHECK(takes(pretok[0], scratch[0], c) ==
              (takes(pretok[1], scratch[1], c) && !takes(pretok[2], scratch[2], c)));
    }
    for (int i = 0; i < 3; i++) {
        pretok_scratch_destroy(&scratch[i]);
        pretok_destroy(&pretok[i]);
    }
}

static void test_refused(void)
{
    char many[1024] = "", *translated;
    struct fault fault = {0};

    for (int i = 0; i < 17; i++)
        strncat(many, "[a&&[^b]]", sizeof(many) - strlen(many) - 1);
    CHECK(pretok_regex_translate(many, &translated, &fault) == -ENOTSUP);
    CHECK(strstr(fault.text, "more than 16"));
    CHECK(pretok_regex_translate("[^a&&[^b]]", &translated, &fault) == -ENOTSUP);
    CHECK(pretok_regex_translate("[a&&[^b]&&[^c]]", &translated, &fault) == -ENOTSUP);
    CHECK(pretok_regex_translate("[a&&[^b]", &translated, &fault) == -ENOTSUP);
    CHECK(pretok_regex_translate("[a&&[^b", &translated, &fault) == -EINVAL);
    CHECK(pretok_regex_translate("[\\w&&[^b]]", &translated, &fault) == -ENOTSUP);
    CHECK(pretok_regex_translate("\\u12", &translated, &fault) == -EINVAL);
    CHECK(pretok_regex_translate("\\1", &translated, &fault) == -ENOTSUP);
    CHECK(pretok_regex_translate("\\Kx", &translated, &fault) == -ENOTSUP);
}

int main(void)
{
    test_split();
    test_white_space();
    test_difference();
    test_refused();
    return 0;
}
