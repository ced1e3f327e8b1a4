// SPDX-License-Identifier: MIT
// replay_uses: a routing trace as a cache sees it: for each step and layer the experts that any row
// chose, each once.
#pragma once
#include "base/fault.h"
#include "sched/routing_trace.h"

#include <stddef.h>
#include <stdint.h>

struct replay_uses {
    struct routing_trace_shape shape;
    uint32_t layers_n; // that have a record
    uint32_t keys_n;   // layers_n * shape.experts
    uint64_t steps_n, rows_n;
    uint64_t groups_n; // layers of steps
    uint64_t *first;   // [groups_n + 1 /* group */] index into keys
    uint32_t *keys;    // [first[groups_n]] layer's number among those with records * experts +
                       // expert, rising within a group
    double again;      // share of a row's experts that the row before it in the same layer had too,
                       // where both steps had one row
};

// replay_uses_make reads a whole trace; one that is cut counts up to its last whole record.
int replay_uses_make(const uint8_t *bytes, size_t n, struct replay_uses *ret, struct fault *fault);
void replay_uses_free(struct replay_uses *uses);

// replay_synthetic makes a trace of V3's shape from a seed: 16 requests on changing topics, each a
// prompt of 64 tokens and 128 tokens one by one.  *ret_bytes is freed by the caller.
int replay_synthetic(uint64_t seed, uint8_t **ret_bytes, size_t *ret_n);
