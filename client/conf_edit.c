// SPDX-License-Identifier: MIT
#include "client/conf_edit.h"

#include <assert.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX (1u << 20)

void conf_edit_free(struct conf_edit *edit)
{
    union {
        const char *in;
        char *out;
    } text;
    for (uint32_t i = 0; i < edit->n; i++) {
        text.in = edit->values[i].value;
        free(text.out);
    }
    *edit = (struct conf_edit){0};
}

static struct conf_value *edit_find(struct conf_edit *edit, const char *section, const char *key)
{
    for (uint32_t i = 0; i < edit->n; i++)
        if (strcmp(edit->values[i].section, section) == 0 && strcmp(edit->values[i].key, key) == 0)
            return &edit->values[i];
    return NULL;
}

const char *conf_edit_get(const struct conf_edit *edit, const char *section, const char *key)
{
    for (uint32_t i = 0; i < edit->n; i++)
        if (strcmp(edit->values[i].section, section) == 0 && strcmp(edit->values[i].key, key) == 0)
            return edit->values[i].value;
    return NULL;
}

// edit_opt finds the table's row, whose names live as long as the program.
static const struct conf_opt *edit_opt(const char *section, const char *key)
{
    for (uint32_t i = 0; i < conf_opts_n; i++)
        if (strcmp(conf_opts[i].section, section) == 0 && strcmp(conf_opts[i].key, key) == 0)
            return &conf_opts[i];
    return NULL;
}

// edit_put replaces a value by one that was allocated; NULL takes it away.
static void edit_put(struct conf_edit *edit, const struct conf_opt *opt, char *value)
{
    union {
        const char *in;
        char *out;
    } old = {0};
    struct conf_value *at = edit_find(edit, opt->section, opt->key);

    if (at)
        old.in = at->value;
    if (!value && at)
        *at = edit->values[--edit->n];
    else if (at)
        at->value = value;
    else if (value && edit->n < CONF_EDIT_MAX)
        edit->values[edit->n++] = (struct conf_value){opt->section, opt->key, value};
    free(old.out);
}

int conf_edit_set(struct conf_edit *edit, const char *section, const char *key, const char *value,
                  struct fault *fault)
{
    const struct conf_opt *opt = edit_opt(section, key);
    char *copy = value && value[0] ? strdup(value) : NULL;

    assert(opt); // ours: a key of the table
    assert(conf_opts_n <= CONF_EDIT_MAX);
    if (!copy && value && value[0])
        return fault_set(fault, ENOMEM, "out of memory");
    edit_put(edit, opt, copy);
    return 0;
}

// edit_take is told each line of the file; lists may have several.
static int edit_take(void *user, const char *section, const char *key, const char *value)
{
    struct conf_edit *edit = user;
    const struct conf_opt *opt = edit_opt(section, key);
    const char *before = conf_edit_get(edit, section, key);
    char *text = NULL;

    if (!opt || !value)
        return 0;
    if (asprintf(&text, "%s%s%s", before ? before : "", before ? "," : "", value) < 0)
        return 0;
    edit_put(edit, opt, text);
    return 1;
}

int conf_edit_read(struct conf_edit *edit, const char *text, struct fault *fault)
{
    if (ini_parse_string(text, edit_take, edit) == 0)
        return 0;
    conf_edit_free(edit);
    return fault_set(fault, ENOMEM, "out of memory");
}

// edit_print writes the file into memory.
static int edit_print(const struct conf_edit *edit, struct text *ret)
{
    char *bytes = NULL;
    size_t n = 0;

    FILE *out = open_memstream(&bytes, &n);
    if (!out)
        return -ENOMEM;
    conf_print_values(out, edit->values, edit->n);
    text_clear(ret);
    int err = fclose(out) == 0 ? text_append(ret, bytes, n, TEXT_BYTES_MAX) : -ENOMEM;
    free(bytes);
    return err;
}

int conf_edit_text(const struct conf_edit *edit, struct text *ret, struct fault *fault)
{
    struct conf *meant = malloc(2 * sizeof(*meant)), *read = meant ? meant + 1 : NULL;
    char line[CONF_LIST_MAX + 128];
    int err = meant ? edit_print(edit, ret) : -ENOMEM;

    if (err) {
        free(meant);
        return fault_set(fault, -err, "out of memory");
    }
    conf_defaults(meant);
    conf_defaults(read);
    for (uint32_t i = 0; i < edit->n && !err; i++) {
        const struct conf_value *v = &edit->values[i];
        snprintf(line, sizeof(line), "%s.%s=%s", v->section, v->key, v->value);
        err = conf_set(meant, line, fault);
    }
    if (!err)
        err = conf_parse(read, "the configuration", ret->bytes, ret->n, fault);
    if (!err && memcmp(read, meant, sizeof(*read)) != 0) // both began as zeros
        err = fault_set(fault, EINVAL,
                        "a path has ' ;' or blanks at its ends, which the configuration cannot "
                        "hold: give it another name");
    free(meant);
    return err;
}
