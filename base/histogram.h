// SPDX-License-Identifier: MIT
// histogram: how long things took, in buckets that Prometheus understands.
// Owner: one thread observes; any thread may read (counts are relaxed atomics, so a reader may see
// a sum that is one observation ahead of its bucket).
#pragma once
#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_BUCKETS 16u

// Upper bounds in microseconds, rising, inclusive; what is above the last goes to the extra bucket.
extern const uint64_t histogram_bound_us[HISTOGRAM_BUCKETS];

struct histogram { // zero-initialise
    _Atomic uint64_t count[HISTOGRAM_BUCKETS + 1 /* bucket; the last is without bound */];
    _Atomic uint64_t sum_us;
};

// histogram_observe adds one value.  Thread: the owner.
void histogram_observe(struct histogram *histogram, uint64_t us);
