// SPDX-License-Identifier: MIT
// digest: lines of a table for people, and numbers of /metrics for them.
#pragma once
#include "client/client.h"

// digest_line prints a row; the value comes from elsewhere, so a terminal gets it cleaned.
void digest_line(const struct client *client, const char *label, const char *value);

// digest_number returns the metric's sum, 0 if the daemon has none of that name.
// labels: as metrics_sum.
double digest_number(const char *text, const char *name, const char *labels);

// digest_json makes an object of name{labels} -> value of the metrics whose names begin so; NULL
// without memory.  The caller's.
json_t *digest_json(const char *text, const char *prefix);
