// SPDX-License-Identifier: MIT
// status: /health and a digest of /metrics.
#include "client/client.h"
#include "client/digest.h"
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
};

static void status_health(const struct client *client, const json_t *health)
{
    for (size_t i = 0; i < sizeof(health_rows) / sizeof(health_rows[0]); i++) {
        const json_t *value = json_object_get(health, health_rows[i].field);
        char number[32];
        if (json_is_number(value))
            snprintf(number, sizeof(number), "%.0f %%", 100 * json_number_value(value)); // progress
        if (json_is_string(value) || json_is_number(value))
            digest_line(client, health_rows[i].label,
                        json_is_string(value) ? json_string_value(value) : number);
    }
}

// status_failing names the drives that fail, one a line.
static void status_failing(const struct client *client, const char *text)
{
    static const char failing[] = "expertd_drive_failing", drive[] = "drive=\"";
    const char *name, *labels;
    size_t name_len, labels_len;
    double value;

    while (metrics_next(&text, &name, &name_len, &labels, &labels_len, &value)) {
        if (name_len != strlen(failing) || memcmp(name, failing, name_len) != 0 || value == 0)
            continue;
        if (!labels || labels_len <= strlen(drive) || memcmp(labels, drive, strlen(drive)) != 0)
            continue;
        char line[256]; // without the quotes
        snprintf(line, sizeof(line), "%.*s", (int)(labels_len - strlen(drive) - 1),
                 labels + strlen(drive));
        digest_line(client, "failing", line);
    }
}

// status_experts: what drives and slots do, where experts are not resident.
static void status_experts(const struct client *client, const char *text)
{
    char line[256];
    double slots = digest_number(text, "expertd_expert_slot", NULL);
    double hits = digest_number(text, "expertd_expert_hit", NULL);
    double wanted = hits + digest_number(text, "expertd_expert_miss", NULL);
    double useful = digest_number(text, "expertd_expert_read_bytes", NULL);
    double drives = digest_number(text, "expertd_expert_drive_bytes", NULL);
    double rate = digest_number(text, "expertd_drive_bytes_second", NULL);
    double best = digest_number(text, "expertd_drive_best_bytes_second", NULL);
    double stall_us = digest_number(text, "expertd_expert_stall_us", NULL);
    double steps_us = 1e6 * digest_number(text, "expertd_step_seconds_sum", NULL);
    double foretold = digest_number(text, "expertd_expert_predicted", NULL);
    double ahead = digest_number(text, "expertd_expert_predicted_read", NULL);

    if (slots == 0)
        return;
    snprintf(line, sizeof(line), "%.0f wanted, %.1f %% found in slots; %.0f of %.0f slots used",
             wanted, wanted > 0 ? 100 * hits / wanted : 0,
             digest_number(text, "expertd_expert_slot_used", NULL), slots);
    digest_line(client, "experts", line);
    snprintf(line, sizeof(line),
             "%.2f GB/s, %.0f %% of their best; %.2f GB read, %.1f %% more than used", rate / 1e9,
             best > 0 ? 100 * rate / best : 0, drives / 1e9,
             useful > 0 ? 100 * (drives / useful - 1) : 0);
    digest_line(client, "drives", line);
    snprintf(line, sizeof(line), "%.2f s of waiting for drives, %.1f %% of the steps' time",
             stall_us / 1e6, steps_us > 0 ? 100 * stall_us / steps_us : 0);
    digest_line(client, "stalls", line);
    if (foretold > 0) {
        snprintf(
            line, sizeof(line), "%.1f %% foretold rightly; %.0f read, %.1f %% of them used",
            100 * digest_number(text, "expertd_expert_predicted_right", NULL) / foretold, ahead,
            ahead > 0 ? 100 * digest_number(text, "expertd_expert_predicted_used", NULL) / ahead
                      : 0);
        digest_line(client, "read ahead", line);
    }
    status_failing(client, text);
}

static void status_metrics(const struct client *client, const char *text)
{
    char line[256];
    double steps = digest_number(text, "expertd_step", NULL);
    double host_us = digest_number(text, "expertd_step_host_us", NULL);
    double step_us = host_us + digest_number(text, "expertd_step_wait_us", NULL);
    double drafts = digest_number(text, "expertd_draft_token", NULL);

    snprintf(line, sizeof(line), "%.0f running, %.0f waiting",
             digest_number(text, "expertd_sequence_running", NULL),
             digest_number(text, "expertd_sequence_waiting", NULL));
    digest_line(client, "answers", line);
    snprintf(line, sizeof(line), "%.0f complete, %.0f cut at a limit, %.0f cancelled, %.0f failed",
             digest_number(text, "expertd_request_finished", "reason=\"stop\""),
             digest_number(text, "expertd_request_finished", "reason=\"length\""),
             digest_number(text, "expertd_request_finished", "reason=\"cancelled\""),
             digest_number(text, "expertd_request_finished", "reason=\"failed\""));
    digest_line(client, "ended", line);
    snprintf(line, sizeof(line), "%.0f of prompts, %.0f of prompts from cache, %.0f generated",
             digest_number(text, "expertd_prompt_token_computed", NULL),
             digest_number(text, "expertd_prompt_token_cached", NULL),
             digest_number(text, "expertd_generated_token", NULL));
    digest_line(client, "tokens", line);
    if (drafts > 0) {
        snprintf(line, sizeof(line), "%.0f, %.1f %% right", drafts,
                 100 * digest_number(text, "expertd_draft_token_accepted", NULL) / drafts);
        digest_line(client, "drafts", line);
    }
    if (steps > 0 && step_us > 0) {
        snprintf(line, sizeof(line), "%.0f of %.2f ms each, %.1f %% of that on the host", steps,
                 step_us / steps / 1e3, 100 * host_us / step_us);
        digest_line(client, "steps", line);
    }
    status_experts(client, text);
    snprintf(line, sizeof(line), "%.0f tokens free",
             digest_number(text, "expertd_kv_token_free", NULL));
    digest_line(client, "KV memory", line);
    snprintf(line, sizeof(line), "%.0f", digest_number(text, "expertd_connection", NULL));
    digest_line(client, "connections", line);
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
            json_pack("{s:O, s:o}", "health", health, "metrics", digest_json(metrics, ""));
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
