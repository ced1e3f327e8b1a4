// SPDX-License-Identifier: MIT
// conf_print: the table of options in the three ways that people read it.
#include "daemon/conf.h"

#include <string.h>

#define WRAP 90u // columns of a comment

// wrap_print writes words, broken at spaces, each line after `lead`.
static void wrap_print(FILE *out, const char *lead, const char *text)
{
    while (*text) {
        size_t len = strlen(text);
        if (len > WRAP) {
            len = WRAP;
            while (len > 0 && text[len] != ' ')
                len--;
        }
        fprintf(out, "%s%.*s\n", lead, (int)len, text);
        text += len;
        while (*text == ' ')
            text++;
    }
}

// size_text writes bytes with the largest suffix that divides them.
static void size_text(uint64_t bytes, char *out, size_t out_bytes)
{
    static const char suffixes[] = "KMGT";
    int i = -1;
    while (bytes > 0 && bytes % 1024 == 0 && i < 3) {
        bytes /= 1024;
        i++;
    }
    snprintf(out, out_bytes, "%llu%.*s", (unsigned long long)bytes, i >= 0,
             &suffixes[i < 0 ? 0 : i]);
}

// range_text says in a few words what a value may be.
static void range_text(const struct conf_opt *opt, char *out, size_t out_bytes)
{
    out[0] = '\0';
    size_t used = 0;
    char lo[32], hi[32];
    switch (opt->type) {
    case CONF_TEXT:
        break;
    case CONF_LIST:
        snprintf(out, out_bytes, "up to %llu %s, commas between, or one a line",
                 (unsigned long long)opt->max, opt->unit);
        break;
    case CONF_WORD:
        for (uint32_t i = 0; i < opt->words_n && used < out_bytes; i++)
            used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", i > 0 ? " | " : "",
                                     opt->words[i]);
        break;
    case CONF_MODE:
        snprintf(out, out_bytes, "octal, %llo to %llo", (unsigned long long)opt->min,
                 (unsigned long long)opt->max);
        break;
    case CONF_TIME:
        snprintf(out, out_bytes, "us ms s min, %llums to %llumin",
                 (unsigned long long)(opt->min / 1000), (unsigned long long)(opt->max / 60000000));
        break;
    case CONF_SIZE:
    case CONF_BYTES:
        size_text(opt->min, lo, sizeof(lo));
        size_text(opt->max, hi, sizeof(hi));
        snprintf(out, out_bytes, "%s, %s to %s", opt->unit, lo, hi);
        break;
    default:
        snprintf(out, out_bytes, "%s, %llu to %llu", opt->unit, (unsigned long long)opt->min,
                 (unsigned long long)opt->max);
    }
}

// facts_text joins range, and whether SIGHUP is enough.
static void facts_text(const struct conf_opt *opt, char *out, size_t out_bytes)
{
    char range[256];
    range_text(opt, range, sizeof(range));
    snprintf(out, out_bytes, "%s%s%s", range, range[0] && opt->reloadable ? "; " : "",
             opt->reloadable ? "reloadable" : "");
}

static bool section_begins(uint32_t i)
{
    return i == 0 || strcmp(conf_opts[i].section, conf_opts[i - 1].section) != 0;
}

// value_of returns what is given for a key, or NULL.
static const char *value_of(const struct conf_opt *opt, const struct conf_value *values, uint32_t n)
{
    for (uint32_t i = n; i > 0; i--)
        if (strcmp(values[i - 1].section, opt->section) == 0 &&
            strcmp(values[i - 1].key, opt->key) == 0)
            return values[i - 1].value;
    return NULL;
}

// list_print writes one text a line: all of them may be longer than a line may be.
static void list_print(FILE *out, const char *key, const char *list)
{
    for (size_t len; *list; list += len + (list[len] == ',')) {
        while (*list == ' ')
            list++;
        len = strcspn(list, ",");
        if (len > 0)
            fprintf(out, "%s = %.*s\n", key, (int)len, list);
    }
}

void conf_print_file(FILE *out)
{
    conf_print_values(out, NULL, 0);
}

void conf_print_values(FILE *out, const struct conf_value *values, uint32_t n)
{
    fprintf(out,
            "# expertd.conf: every option with its default.  Written by expertd --print-config.\n"
            "# Sizes take K M G T (and %% where it says so), times take us ms s min.\n"
            "# Reloadable options take effect on SIGHUP (systemctl reload expertd).\n");
    for (uint32_t i = 0; i < conf_opts_n; i++) {
        const struct conf_opt *opt = &conf_opts[i];
        if (section_begins(i))
            fprintf(out, "\n[%s]\n", opt->section);
        char facts[300];
        facts_text(opt, facts, sizeof(facts));
        fprintf(out, "\n");
        wrap_print(out, "# ", opt->help);
        if (facts[0])
            wrap_print(out, "# ", facts);
        fprintf(out, "#%s =%s%s\n", opt->key, opt->fallback[0] ? " " : "", opt->fallback);
        const char *value = value_of(opt, values, n);
        if (value && opt->type == CONF_LIST)
            list_print(out, opt->key, value);
        else if (value)
            fprintf(out, "%s = %s\n", opt->key, value);
    }
}

void conf_print_help(FILE *out)
{
    for (uint32_t i = 0; i < conf_opts_n; i++) {
        const struct conf_opt *opt = &conf_opts[i];
        if (section_begins(i))
            fprintf(out, "%s[%s]\n", i > 0 ? "\n" : "", opt->section);
        char facts[300];
        facts_text(opt, facts, sizeof(facts));
        fprintf(out, "  %s = %s\n", opt->key, opt->fallback[0] ? opt->fallback : "(empty)");
        wrap_print(out, "      ", opt->help);
        if (facts[0])
            wrap_print(out, "      ", facts);
    }
}

// mdoc_print writes text in which roff sees no escape and no request.
static void mdoc_print(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text; text++) {
        if (*text == '\\')
            fputs("\\e", out);
        else
            fputc(*text, out);
    }
    fputc('\n', out);
}

void conf_print_man(FILE *out)
{
    for (uint32_t i = 0; i < conf_opts_n; i++) {
        const struct conf_opt *opt = &conf_opts[i];
        if (section_begins(i))
            fprintf(out, "%s.Ss [%s]\n.Bl -tag -width Ds\n", i > 0 ? ".El\n" : "", opt->section);
        char facts[300];
        facts_text(opt, facts, sizeof(facts));
        fprintf(out, ".It Cm %s No = Ar %s\n", opt->key,
                opt->fallback[0] ? opt->fallback : "(empty)");
        mdoc_print(out, opt->help);
        if (facts[0]) {
            fprintf(out, ".br\n");
            mdoc_print(out, facts);
        }
    }
    fprintf(out, ".El\n");
}
