// SPDX-License-Identifier: MIT
#include "client/sse.h"

#include <errno.h>
#include <string.h>

static const char sse_bom[] = "\xef\xbb\xbf";

// sse_value returns the field's value if the line is a field of that name, else NULL.
static const char *sse_value(const struct text *line, const char *name, size_t *ret_len)
{
    size_t name_len = strlen(name);
    if (line->n < name_len || memcmp(line->bytes, name, name_len) != 0)
        return NULL;

    size_t at = name_len;
    if (at < line->n && line->bytes[at] != ':')
        return NULL;
    if (at < line->n)
        at++;
    if (at < line->n && line->bytes[at] == ' ')
        at++;
    *ret_len = line->n - at;
    return line->bytes + at;
}

static int sse_line(struct sse *sse, int (*event)(void *user, const char *data, size_t data_len),
                    void *user)
{
    struct text *line = &sse->line;
    int err = 0;

    if (!sse->started) {
        sse->started = true;
        if (line->n >= 3 && memcmp(line->bytes, sse_bom, 3) == 0) {
            memmove(line->bytes, line->bytes + 3, line->n - 3 + 1);
            line->n -= 3;
        }
    }
    if (line->n == 0) {
        if (sse->has_data)
            err = event(user, sse->data.bytes, sse->data.n);
        sse->has_data = false;
        text_clear(&sse->data);
        return err;
    }

    size_t value_len = 0;
    const char *value = sse_value(line, "data", &value_len);
    if (value) {
        if (sse->has_data)
            err = text_append(&sse->data, "\n", 1, SSE_EVENT_BYTES_MAX);
        if (!err)
            err = text_append(&sse->data, value, value_len, SSE_EVENT_BYTES_MAX);
        sse->has_data = true;
    }
    text_clear(line);
    return err;
}

int sse_feed(struct sse *sse, const char *bytes, size_t len,
             int (*event)(void *user, const char *data, size_t data_len), void *user)
{
    size_t at = 0;
    while (at < len) {
        if (sse->after_cr) {
            sse->after_cr = false;
            if (bytes[at] == '\n') {
                at++;
                continue;
            }
        }
        size_t end = at;
        while (end < len && bytes[end] != '\n' && bytes[end] != '\r')
            end++;

        int err = text_append(&sse->line, bytes + at, end - at, SSE_EVENT_BYTES_MAX);
        if (err)
            return err;
        at = end;
        if (at == len)
            break;
        sse->after_cr = bytes[at++] == '\r';
        err = sse_line(sse, event, user);
        if (err)
            return err;
    }
    return 0;
}

void sse_free(struct sse *sse)
{
    text_free(&sse->line);
    text_free(&sse->data);
    *sse = (struct sse){0};
}
