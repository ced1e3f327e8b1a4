// SPDX-License-Identifier: MIT
#include "daemon/metrics.h"

#include "api/metrics.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define HISTOGRAMS 3u

// histogram_metric copies one histogram; counts: [HISTOGRAM_BUCKETS + 1], in the caller's memory.
static struct metric histogram_metric(const char *name, const char *help,
                                      const struct histogram *from, const double *bounds,
                                      uint64_t *counts)
{
    for (uint32_t i = 0; i <= HISTOGRAM_BUCKETS; i++)
        counts[i] = atomic_load_explicit(&from->count[i], memory_order_relaxed);
    uint64_t sum_us = atomic_load_explicit(&from->sum_us, memory_order_relaxed);
    return (struct metric){.name = name,
                           .help = help,
                           .kind = METRIC_HISTOGRAM,
                           .value = (double)sum_us / 1e6,
                           .bounds = bounds,
                           .counts = counts,
                           .bounds_n = HISTOGRAM_BUCKETS};
}

void metrics_drives_set(struct metrics_page *page, const char *const *names, uint32_t n)
{
    assert(n <= DISK_DRIVES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        struct drive_page *drive = &page->drive[i];
        struct buf label;
        snprintf(drive->name, sizeof(drive->name), "%s", names[i]);
        buf_init(&label, sizeof(drive->label) - 1);
        metrics_label(&label, "drive", drive->name);
        if (buf_error(&label) == 0)
            memcpy(drive->label, label.data, label.n);
        else // no memory: a number is a name, too
            snprintf(drive->label, sizeof(drive->label), "drive=\"%u\"", i);
        buf_free(&label);
    }
    atomic_store_explicit(&page->drives_n, n, memory_order_release);
}

// drive_rows writes the rows of the drives, [DRIVE_METRIC_ID_COUNT * drives]; those of one name
// stand together.
static uint32_t drive_rows(const struct metrics_page *page, struct metric *rows)
{
    static const struct metric kinds[DRIVE_METRIC_ID_COUNT] = {
#define DRIVE_METRICS_ROW(id, name_, kind_, help_)                                                 \
    [DRIVE_METRIC_ID_##id] = {.name = "expertd_" #name_, .help = help_, .kind = METRIC_##kind_},
        DRIVE_METRICS(DRIVE_METRICS_ROW)
#undef DRIVE_METRICS_ROW
    };
    uint32_t n = 0, drives = metrics_drives_n(page);
    for (uint32_t id = 0; id < DRIVE_METRIC_ID_COUNT; id++) {
        for (uint32_t i = 0; i < drives; i++) {
            rows[n] = kinds[id];
            rows[n].labels = page->drive[i].label;
            rows[n++].value = (double)metrics_drive_get(page, i, (enum drive_metric_id)id);
        }
    }
    return n;
}

void metrics_page_write(struct buf *out, const struct metrics_page *page)
{
    struct metric metrics[METRIC_ID_COUNT + HISTOGRAMS + DRIVE_METRIC_ID_COUNT * DISK_DRIVES_MAX] =
        {
#define METRICS_ROW(id, name_, kind_, labels_, writer, help_)                                      \
    [METRIC_ID_##id] = {.name = "expertd_" #name_,                                                 \
                        .help = help_,                                                             \
                        .kind = METRIC_##kind_,                                                    \
                        .labels = labels_,                                                         \
                        .value = (double)metrics_get(page, METRIC_ID_##id)},
            METRICS(METRICS_ROW)
#undef METRICS_ROW
        };
    double bounds[HISTOGRAM_BUCKETS];
    uint64_t counts[HISTOGRAMS][HISTOGRAM_BUCKETS + 1];
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        bounds[i] = (double)histogram_bound_us[i] / 1e6;
    metrics[METRIC_ID_COUNT] =
        histogram_metric("expertd_first_token_seconds", "From request to first token",
                         &page->first_token, bounds, counts[0]);
    metrics[METRIC_ID_COUNT + 1] =
        histogram_metric("expertd_request_seconds", "From request to end of answer", &page->request,
                         bounds, counts[1]);
    metrics[METRIC_ID_COUNT + 2] = histogram_metric(
        "expertd_step_seconds", "One step through the model", &page->step, bounds, counts[2]);
    uint32_t drives = drive_rows(page, &metrics[METRIC_ID_COUNT + HISTOGRAMS]);
    metrics_write(out, metrics, METRIC_ID_COUNT + HISTOGRAMS + drives);
}
