// SPDX-License-Identifier: MIT
// metrics: the samples of a Prometheus text (format 0.0.4), as far as a digest needs them.
#pragma once
#include <stddef.h>

// metrics_next finds the next sample.
//
// at: where to go on, NUL-terminated text; moved behind the sample.
// ret_name: [ret_name_len] inside the text, labels left out;
// ret_labels: what stands between the braces, [ret_labels_len], or NULL.
// Returns 1, or 0 at the end.  Lines that are no sample are passed over.
int metrics_next(const char **at, const char **ret_name, size_t *ret_name_len,
                 const char **ret_labels, size_t *ret_labels_len, double *ret_value);

// metrics_sum returns the sum of the samples of that name, NAN if there are none.
//
// labels: only those with exactly these labels (`reason="stop"`); NULL: all.
double metrics_sum(const char *text, const char *name, const char *labels);
