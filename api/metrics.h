// SPDX-License-Identifier: MIT
// metrics: a list of numbers -> Prometheus text format 0.0.4.  Which metrics exist is the caller's
// list (daemon/).  Thread: any.
#pragma once
#include "api/buf.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM, METRIC_KIND_COUNT };

struct metric {
    const char *name; // expertd_...; rows of one name stand together and share help and kind
    const char *help; // one line
    enum metric_kind kind;
    const char *labels; // inside the braces, e.g. `route="chat"`, or NULL; values escaped by
                        // metrics_label
    double value;       // counter, gauge; of a histogram the sum
    // Histogram only: counts[i] observations <= bounds[i] and above the bound before; the last one
    // is above every bound.
    const double *bounds;   // [bounds_n], rising
    const uint64_t *counts; // [bounds_n + 1]
    uint32_t bounds_n;
};

void metrics_write(struct buf *out, const struct metric *metrics, size_t n);

// metrics_label appends name="value" with the value escaped.
void metrics_label(struct buf *out, const char *name, const char *value);
