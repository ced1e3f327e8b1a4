// SPDX-License-Identifier: MIT
#include "base/histogram.h"

// 1-2.5-5 steps from a millisecond to ten minutes: a token on a GPU to a prompt read from disks.
const uint64_t histogram_bound_us[HISTOGRAM_BUCKETS] = {
    1000,   2500,    5000,    10000,   25000,    50000,    100000,    250000,
    500000, 1000000, 2500000, 5000000, 10000000, 30000000, 100000000, 600000000,
};

void histogram_observe(struct histogram *histogram, uint64_t us)
{
    uint32_t bucket = 0;
    while (bucket < HISTOGRAM_BUCKETS && us > histogram_bound_us[bucket])
        bucket++;
    atomic_fetch_add_explicit(&histogram->count[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_us, us, memory_order_relaxed);
}
