// SPDX-License-Identifier: MIT
#include "model/json_file.h"

#include "model/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// text_string_end returns the offset behind the string that opens at text[at], or len.
static size_t text_string_end(const char *text, size_t len, size_t at)
{
    for (at++; at < len && text[at] != '"'; at++)
        if (text[at] == '\\')
            at++;
    return at < len ? at + 1 : len;
}

// text_scan measures what the parser would build, as a bound: every value but the first of an
// array or object follows a comma or a colon, every other one opens with a bracket.
static int text_scan(const char *text, size_t len, const struct json_limits *limits,
                     struct fault *fault)
{
    uint64_t values = 1;
    uint32_t depth = 0;

    for (size_t i = 0; i < len;) {
        char c = text[i];
        if (c == '"') {
            i = text_string_end(text, len, i);
            continue;
        }
        if (c == '[' || c == '{') {
            depth++;
            values++;
            if (depth > limits->depth_max)
                return fault_set(fault, EFBIG, "JSON nested deeper than %u levels at byte %zu",
                                 limits->depth_max, i);
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        } else if (c == ',' || c == ':') {
            values++;
        }
        if (values > limits->values_max)
            return fault_set(fault, EFBIG, "JSON with more than %u values", limits->values_max);
        i++;
    }
    return 0;
}

int json_text_parse(const char *text, size_t len, const struct json_limits *limits, json_t **ret,
                    struct fault *fault)
{
    if (len > limits->bytes_max)
        return fault_set(fault, EFBIG, "%zu bytes of JSON; the limit is %" PRIu64, len,
                         limits->bytes_max);
    int err = text_scan(text, len, limits, fault);
    if (err < 0)
        return err;

    json_error_t error;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        // jansson leaves the text empty where an allocation failed.
        if (!error.text[0] || json_error_code(&error) == json_error_out_of_memory)
            return fault_set(fault, ENOMEM, "no memory for %zu bytes of JSON", len);
        return fault_set(fault, EBADMSG, "not JSON: %s (line %d, column %d)", error.text,
                         error.line, error.column);
    }
    *ret = root;
    return 0;
}

int json_file_read(const char *path, const struct json_limits *limits, json_t **ret,
                   struct fault *fault)
{
    int fd;
    uint64_t bytes;
    char *text = NULL;

    int err = file_open(path, &fd, &bytes, fault);
    if (err < 0)
        return err;
    if (bytes > limits->bytes_max) {
        err = fault_set(fault, EFBIG, "%s: %" PRIu64 " bytes; the limit is %" PRIu64,
                        file_label(path), bytes, limits->bytes_max);
        goto done;
    }
    text = malloc((size_t)bytes + 1);
    if (!text) {
        err = fault_set(fault, ENOMEM, "%s: no memory for %" PRIu64 " bytes", file_label(path),
                        bytes);
        goto done;
    }
    err = file_read_at(fd, path, 0, text, (size_t)bytes, fault);
    if (err < 0)
        goto done;
    err = json_text_parse(text, (size_t)bytes, limits, ret, fault);
    if (err < 0)
        fault_prefix(fault, "%s", file_label(path));
done:
    free(text);
    close(fd);
    return err;
}
