// SPDX-License-Identifier: MIT
#include "client/digest.h"

#include "client/metrics.h"

#include <math.h>
#include <string.h>

void digest_line(const struct client *client, const char *label, const char *value)
{
    char clean[512];
    size_t len = strnlen(value, sizeof(clean));
    len = terminal_clean(value, len, clean);
    if (client->terminal.out_tty)
        printf("%-12s %.*s\n", label, (int)len, clean);
    else
        printf("%-12s %s\n", label, value);
}

double digest_number(const char *text, const char *name, const char *labels)
{
    double value = metrics_sum(text, name, labels);
    return isnan(value) ? 0 : value;
}

json_t *digest_json(const char *text, const char *prefix)
{
    json_t *object = json_object();
    const char *name, *labels;
    size_t name_len, labels_len;
    double value;

    while (object && metrics_next(&text, &name, &name_len, &labels, &labels_len, &value)) {
        char key[640];
        if (name_len < strlen(prefix) || memcmp(name, prefix, strlen(prefix)) != 0)
            continue;
        int n = labels ? snprintf(key, sizeof(key), "%.*s{%.*s}", (int)name_len, name,
                                  (int)labels_len, labels)
                       : snprintf(key, sizeof(key), "%.*s", (int)name_len, name);
        if (n > 0 && (size_t)n < sizeof(key) && isfinite(value))
            json_object_set_new(object, key, json_real(value));
    }
    return object;
}
