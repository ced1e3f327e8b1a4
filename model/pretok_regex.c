// SPDX-License-Identifier: MIT
#include "model/pretok_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/utf8.h"
#include <ctype.h>
#include <errno.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct translation {
    const char *at; // the rest of the input
    FILE *out;
    struct fault *fault;
};

// The escapes whose meaning is the same for both engines.
static bool escape_is_plain(char c)
{
    return ispunct((unsigned char)c) || c == ' ' || strchr("rntf", c);
}

static int copy_property(struct translation *t)
{
    const char *end = t->at[2] == '{' ? strchr(t->at, '}') : NULL;
    if (!end)
        return fault_set(t->fault, EINVAL, "an expression has \\%c without {name}", t->at[1]);
    fwrite(t->at, 1, (size_t)(end + 1 - t->at), t->out);
    t->at = end + 1;
    return 0;
}

static int copy_code_point(struct translation *t)
{
    char hex[5] = {0};
    for (int i = 0; i < 4; i++) {
        if (!isxdigit((unsigned char)t->at[2 + i]))
            return fault_set(t->fault, EINVAL, "an expression has \\u without four hex digits");
        hex[i] = t->at[2 + i];
    }
    fprintf(t->out, "\\x{%s}", hex);
    t->at += 6;
    return 0;
}

static int copy_escape(struct translation *t)
{
    static const struct {
        char from;
        const char *to;
    } classes[] = {
        {'s', "\\p{White_Space}"},
        {'S', "\\P{White_Space}"},
        {'d', "\\p{Nd}"},
        {'D', "\\P{Nd}"},
    };
    char c = t->at[1];

    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (c == classes[i].from) {
            fputs(classes[i].to, t->out);
            t->at += 2;
            return 0;
        }
    }
    if (c == 'p' || c == 'P')
        return copy_property(t);
    if (c == 'u')
        return copy_code_point(t);
    if (c == '\0' || !escape_is_plain(c))
        return fault_set(t->fault, ENOTSUP,
                         "an expression uses \\%c, which is not understood here (known: \\s \\S "
                         "\\d \\D \\p{} \\P{} \\u \\r \\n \\t \\f)",
                         c ? c : ' ');
    fwrite(t->at, 1, 2, t->out);
    t->at += 2;
    return 0;
}

// Returns the '&' of the first && of the class that starts at `open`, or NULL.
static const char *class_intersection(const char *open)
{
    for (const char *p = open + 1; *p && *p != ']' && *p != '['; p++) {
        if (*p == '\\' && p[1])
            p++;
        else if (p[0] == '&' && p[1] == '&')
            return p;
    }
    return NULL;
}

static int copy_class(struct translation *t);

// Writes \x{first}-\x{last} for every run of characters that the expression matches.
static int write_runs(const char *pattern, FILE *out)
{
    int code, err = -ENOTSUP;
    PCRE2_SIZE offset;
    uint32_t first = 0;
    bool inside = false;
    pcre2_match_data *match = NULL;

    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &offset, NULL);
    if (!re)
        return err;
    pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); // without it the same, slower
    match = pcre2_match_data_create(1, NULL);
    if (!match) {
        pcre2_code_free(re);
        return -ENOMEM;
    }
    for (uint32_t c = 0; c <= 0x110000; c++) {
        bool hit = false;
        if (c < 0xd800 || (c > 0xdfff && c <= 0x10ffff)) {
            char text[4];
            uint32_t len = utf8_put(c, text);
            hit = pcre2_match(re, (PCRE2_SPTR)text, len, 0, PCRE2_NO_UTF_CHECK, match, NULL) >= 0;
        }
        if (hit && !inside)
            first = c;
        if (!hit && inside)
            fprintf(out, "\\x{%x}-\\x{%x}", first, c - 1);
        inside = hit;
    }
    pcre2_match_data_free(match);
    pcre2_code_free(re);
    return 0;
}

// [X&&[^Y]]: PCRE2 has no intersection.  (?![Y])[X] would mean the same, but a repeat of it
// remembers every character it took, where a repeat of a plain class remembers two positions: so
// the characters are listed once, here.
static int copy_difference(struct translation *t, const char *both)
{
    char *test = NULL;
    size_t test_len;
    int err = -ENOMEM;

    const char *not_open = both + 2;
    if (strncmp(not_open, "[^", 2) != 0 || t->at[1] == '^')
        return fault_set(t->fault, ENOTSUP,
                         "an expression uses && in a class other than as [x&&[^y]]");
    FILE *mem = open_memstream(&test, &test_len);
    if (!mem)
        return -ENOMEM;

    struct translation sub = {.out = mem, .fault = t->fault};
    fputs("(?!", mem);
    char *without_caret = strdup(not_open + 1);
    char *left = strndup(t->at, (size_t)(both - t->at) + 1);
    const char *rest = NULL;
    if (without_caret && left) {
        without_caret[0] = '[';
        left[both - t->at] = ']';
        sub.at = without_caret;
        err = copy_class(&sub);
        rest = not_open + 1 + (sub.at - without_caret);
    }
    fputc(')', mem);
    if (!err) {
        sub.at = left;
        err = copy_class(&sub);
    }
    if (fclose(mem) != 0 && !err)
        err = -ENOMEM;
    if (!err && *rest != ']')
        err = fault_set(t->fault, ENOTSUP, "an expression uses && twice in a class");
    if (!err) {
        fputc('[', t->out);
        err = write_runs(test, t->out);
        fputc(']', t->out);
        t->at = rest + 1;
    }
    free(without_caret);
    free(left);
    free(test);
    return err;
}

// Copies the class that starts at the '[' at t->at.
static int copy_class(struct translation *t)
{
    const char *both = class_intersection(t->at);
    if (both)
        return copy_difference(t, both);

    fputc(*t->at++, t->out);
    if (*t->at == '^')
        fputc(*t->at++, t->out);
    for (bool first = true; *t->at; first = false) {
        if (*t->at == ']' && !first) {
            fputc(*t->at++, t->out);
            return 0;
        }
        if (*t->at == '[' || *t->at == ']')
            return fault_set(t->fault, ENOTSUP, "an expression has a class inside a class");
        if (*t->at == '\\') {
            int err = copy_escape(t);
            if (err)
                return err;
            continue;
        }
        fputc(*t->at++, t->out);
    }
    return fault_set(t->fault, EINVAL, "an expression has a class without end");
}

static int translate(struct translation *t)
{
    while (*t->at) {
        int err = 0;
        if (*t->at == '\\')
            err = copy_escape(t);
        else if (*t->at == '[')
            err = copy_class(t);
        else if (*t->at == '^' || *t->at == '$')
            err = fault_set(t->fault, ENOTSUP,
                            "an expression uses %c, which is not understood here", *t->at);
        else if (strncmp(t->at, "(*", 2) == 0) // PCRE2's verbs: what follows is not a pattern
            err = fault_set(t->fault, EINVAL, "an expression has (*, nothing to repeat");
        else
            fputc(*t->at++, t->out);
        if (err)
            return err;
    }
    return 0;
}

int pretok_regex_translate(const char *pattern, char **ret, struct fault *fault)
{
    char *text = NULL;
    size_t len;

    FILE *mem = open_memstream(&text, &len);
    if (!mem)
        return fault_set(fault, ENOMEM, "no memory for an expression");
    struct translation t = {.at = pattern, .out = mem, .fault = fault};
    int err = translate(&t);
    if (fclose(mem) != 0 && !err)
        err = -ENOMEM;
    if (err) {
        free(text);
        return err;
    }
    *ret = text;
    return 0;
}
