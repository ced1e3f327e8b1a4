// SPDX-License-Identifier: MIT
// status: /health and a digest of /metrics.
#include "client/client.h"
#include "client/metrics.h"
#include "client/reply.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// What of /health is shown, in this order; the rest is in --json.
static const struct {
    const char *field, *label;
} health_rows[] = {
    {"status", "status"},
    {"model", "model"},
    {"detail", "because"},
    {"progress", "loaded"},
    {"requests_active", "active requests"},
    {"requests_waiting", "waiting requests"},
};

// What of /metrics is shown.
static const struct {
    const char *name, *label;
} metric_rows[] = {
    {"expertd_requests", "requests"},
};

static void status_line(const struct client *client, const char *label, const char *value)
{
    char clean[256];
    size_t len = strnlen(value, sizeof(clean));
    len = terminal_clean(value, len, clean);
    if (client->terminal.out_tty)
        printf("%-18s %.*s\n", label, (int)len, clean);
    else
        printf("%-18s %s\n", label, value);
}

static void status_health(const struct client *client, const json_t *health)
{
    for (size_t i = 0; i < sizeof(health_rows) / sizeof(health_rows[0]); i++) {
        const json_t *value = json_object_get(health, health_rows[i].field);
        char number[32];
        if (json_is_number(value))
            snprintf(number, sizeof(number), "%.6g", json_number_value(value));
        if (json_is_string(value) || json_is_number(value))
            status_line(client, health_rows[i].label,
                        json_is_string(value) ? json_string_value(value) : number);
    }
}

static void status_metrics(const struct client *client, const char *text)
{
    for (size_t i = 0; i < sizeof(metric_rows) / sizeof(metric_rows[0]); i++) {
        double value = metrics_sum(text, metric_rows[i].name);
        char number[32];
        if (isnan(value))
            continue;
        snprintf(number, sizeof(number), "%.12g", value);
        status_line(client, metric_rows[i].label, number);
    }
}

// status_metrics_json makes an object of name{labels} -> value.
static json_t *status_metrics_json(const char *text)
{
    json_t *object = json_object();
    const char *name, *labels;
    size_t name_len, labels_len;
    double value;

    while (object && metrics_next(&text, &name, &name_len, &labels, &labels_len, &value)) {
        char key[512];
        int n = labels ? snprintf(key, sizeof(key), "%.*s{%.*s}", (int)name_len, name,
                                  (int)labels_len, labels)
                       : snprintf(key, sizeof(key), "%.*s", (int)name_len, name);
        if (n > 0 && (size_t)n < sizeof(key) && isfinite(value))
            json_object_set_new(object, key, json_real(value));
    }
    return object;
}

int status_run(struct client *client)
{
    struct fault fault = {0};
    unsigned health_status = 0, metrics_status = 0;
    char *health_text = NULL, *metrics_text = NULL;
    size_t health_len = 0, metrics_len = 0;
    json_t *health = NULL;

    int err = client_get(client, "/health", &health_status, &health_text, &health_len, &fault);
    if (!err && !(health = json_loadb(health_text, health_len, JSON_ALLOW_NUL, NULL)))
        err = reply_error_text(health_status, health_text, health_len, &fault);
    if (!err)
        err = client_get(client, "/metrics", &metrics_status, &metrics_text, &metrics_len, &fault);
    if (err)
        goto out;

    const char *metrics = metrics_status == 200 ? metrics_text : "";
    if (client->options.json) {
        json_t *both =
            json_pack("{s:O, s:o}", "health", health, "metrics", status_metrics_json(metrics));
        client_print_json(both);
        json_decref(both);
    } else {
        status_health(client, health);
        if (!client->options.quiet)
            status_metrics(client, metrics);
    }
out:
    json_decref(health);
    free(health_text);
    free(metrics_text);
    if (err)
        return client_complain(client, &fault);
    return health_status == 200 ? EXIT_DONE : EXIT_FAILED;
}
