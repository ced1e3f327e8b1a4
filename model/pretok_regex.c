// SPDX-License-Identifier: MIT
#include "model/pretok_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/utf8.h"
#include <ctype.h>
#include <errno.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIFFERENCES_MAX 16u // each looks at all of Unicode, some ten milliseconds

struct translation {
    const char *at; // the rest of the input
    uint32_t differences_n;
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

#define SCALARS_BYTES (128u + 1920u * 2u + 61440u * 3u + 1048576u * 4u) // all of Unicode in UTF-8

// Writes every Unicode character, in order.
static char *all_characters(void)
{
    char *text = malloc(SCALARS_BYTES), *at = text;

    for (uint32_t c = 0; text && c <= 0x10ffff; c++)
        if (c < 0xd800 || c > 0xdfff)
            at += utf8_put(c, at);
    return text;
}

// Writes \x{first}-\x{last} for every run of characters that the expression, which matches one
// character, finds in text.
static int write_matches(const pcre2_code *re, const char *text, FILE *out)
{
    uint32_t first = 1, last = 0; // none yet
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    if (!match)
        return -ENOMEM;

    size_t *ovector = pcre2_get_ovector_pointer(match);
    for (size_t at = 0;
         pcre2_match(re, (PCRE2_SPTR)text, SCALARS_BYTES, at, PCRE2_NO_UTF_CHECK, match, NULL) >= 0;
         at = ovector[1]) {
        const unsigned char *p = (const unsigned char *)text + ovector[0];
        uint32_t c = utf8_get(&p);
        if (c != last + 1 || first > last) {
            if (first <= last)
                fprintf(out, "\\x{%x}-\\x{%x}", first, last);
            first = c;
        }
        last = c;
    }
    if (first <= last)
        fprintf(out, "\\x{%x}-\\x{%x}", first, last);
    pcre2_match_data_free(match);
    return 0;
}

static int write_runs(const char *pattern, FILE *out, struct fault *fault)
{
    int code, err = -ENOMEM;
    PCRE2_SIZE offset;

    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &code, &offset, NULL);
    if (!re)
        return fault_set(fault, EINVAL, "an expression has a class that does not compile");
    pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); // without it the same, slower
    char *text = all_characters();
    if (text)
        err = write_matches(re, text, out);
    free(text);
    pcre2_code_free(re);
    return err ? fault_set(fault, -err, "no memory for an expression") : 0;
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
    if (t->differences_n++ == DIFFERENCES_MAX)
        return fault_set(t->fault, ENOTSUP, "an expression uses && more than %u times",
                         DIFFERENCES_MAX);
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
        err = write_runs(test, t->out, t->fault);
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
        if (*t->at == '[')
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
