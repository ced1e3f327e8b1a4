// SPDX-License-Identifier: MIT
#include "client/metrics.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// labels_end returns the closing brace of labels, or NULL; a quoted value may hold anything.
static const char *labels_end(const char *at, const char *end)
{
    bool quoted = false;
    for (; at < end; at++) {
        if (quoted && *at == '\\' && at + 1 < end)
            at++;
        else if (*at == '"')
            quoted = !quoted;
        else if (*at == '}' && !quoted)
            return at;
    }
    return NULL;
}

int metrics_next(const char **at, const char **ret_name, size_t *ret_name_len,
                 const char **ret_labels, size_t *ret_labels_len, double *ret_value)
{
    while (**at) {
        const char *line = *at, *end = line + strcspn(line, "\n");
        *at = *end ? end + 1 : end;

        size_t name_len = strcspn(line, "{ \t\n");
        const char *value = line + name_len, *labels = NULL, *close = NULL;
        if (line[0] == '#' || name_len == 0)
            continue;
        if (*value == '{') {
            labels = value + 1;
            close = labels_end(labels, end);
            if (!close)
                continue;
            value = close + 1;
        }
        value += strspn(value, " \t");
        char *behind = NULL;
        double x = value < end ? strtod(value, &behind) : NAN;
        if (!behind || behind == value || behind > end)
            continue;

        *ret_name = line;
        *ret_name_len = name_len;
        *ret_labels = labels;
        *ret_labels_len = close ? (size_t)(close - labels) : 0;
        *ret_value = x;
        return 1;
    }
    return 0;
}

double metrics_sum(const char *text, const char *name, const char *labels)
{
    const char *found, *has;
    size_t found_len, has_len;
    double value, sum = NAN;

    while (metrics_next(&text, &found, &found_len, &has, &has_len, &value)) {
        if (found_len != strlen(name) || memcmp(found, name, found_len) != 0)
            continue;
        if (labels && (has_len != strlen(labels) || memcmp(has, labels, has_len) != 0))
            continue;
        sum = isnan(sum) ? value : sum + value;
    }
    return sum;
}
