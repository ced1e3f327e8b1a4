// SPDX-License-Identifier: MIT
// routing_file: the file of --trace-routing: what routers chose (sched/routing_trace.h), gathered
// in memory and written in large pieces.  A file that cannot be written ends the trace with one
// warning, never the daemon.  Owner: ctl until the threads run, then step.
#pragma once
#include "base/fault.h"

#include <stdint.h>

struct model_config;
struct routing_file; // opaque

// routing_file_create makes the file, or empties it, and writes the trace's head.
// Errors: -errno of the file; -EINVAL the model has no routed experts, or too many for a trace.
int routing_file_create(const char *path, const struct model_config *config,
                        struct routing_file **ret, struct fault *fault);

// routing_file_step: the layers that come now belong to another step.
void routing_file_step(struct routing_file *file);

// routing_file_layer adds one layer's choice: ids [rows, k].  user: struct routing_file *; the
// signature is that of engine_routing_set.
void routing_file_layer(void *user, uint32_t layer, const uint32_t *ids, uint32_t rows, uint32_t k);

// routing_file_flush writes what is gathered.
void routing_file_flush(struct routing_file *file);

// routing_file_close writes the rest, says how much there is, and frees.
void routing_file_close(struct routing_file **file);
