// SPDX-License-Identifier: MIT
#include "daemon/rate.h"

#include <assert.h>
#include <errno.h>

#define MINUTE_NS 60000000000ull
#define SECOND_NS 1000000000ull

// Nothing tells when a place becomes free, so clients are sent away for the shortest time there is.
#define RETRY_BUSY_S 1u

struct rate_limits rate_limits_of(const struct key *key, const struct rate_limits *defaults)
{
    struct rate_limits limits = *defaults;
    if (key && key->rate != KEYS_DEFAULT)
        limits.per_minute = key->rate;
    if (key && key->concurrency != KEYS_DEFAULT)
        limits.concurrency = key->concurrency;
    return limits;
}

// place_take counts one more that runs, never above the limit, not even for a moment: what another
// thread asks meanwhile must not be refused for this one's sake.
static bool place_take(struct rate_slot *slot, uint32_t max)
{
    uint32_t running = atomic_load_explicit(&slot->running, memory_order_relaxed);
    do {
        if (max > 0 && running >= max)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&slot->running, &running, running + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

// bucket_take takes one request of the minute.  Returns 0, or how many ns too early it is.
static uint64_t bucket_take(struct rate_slot *slot, uint32_t per_minute, uint64_t now_ns)
{
    uint64_t burst = per_minute / 4 > 1 ? per_minute / 4 : 1;
    uint64_t each_ns = (MINUTE_NS + per_minute - 1) / per_minute; // never faster than the limit
    uint64_t full_ns = atomic_load_explicit(&slot->full_ns, memory_order_relaxed);
    uint64_t next_ns, early_ns;
    do {
        uint64_t owed_ns = full_ns > now_ns ? full_ns - now_ns : 0;
        if (owed_ns > burst * each_ns) // by other limits: these know no deeper debt
            owed_ns = burst * each_ns;
        early_ns = owed_ns > (burst - 1) * each_ns ? owed_ns - (burst - 1) * each_ns : 0;
        next_ns = now_ns + owed_ns + (early_ns > 0 ? 0 : each_ns);
        if (next_ns == full_ns)
            break;
    } while (!atomic_compare_exchange_weak_explicit(&slot->full_ns, &full_ns, next_ns,
                                                    memory_order_relaxed, memory_order_relaxed));
    return early_ns;
}

int rate_take(struct rate *rate, uint32_t slot, const struct rate_limits *limits, uint64_t now_us,
              uint32_t *ret_retry_after_s)
{
    assert(slot < RATE_SLOTS);
    struct rate_slot *s = &rate->slots[slot];
    if (!place_take(s, limits->concurrency)) {
        *ret_retry_after_s = RETRY_BUSY_S;
        return -EBUSY;
    }
    uint64_t early_ns =
        limits->per_minute > 0 ? bucket_take(s, limits->per_minute, now_us * 1000) : 0;
    if (early_ns == 0)
        return 0;
    rate_release(rate, slot);
    *ret_retry_after_s = (uint32_t)((early_ns + SECOND_NS - 1) / SECOND_NS);
    return -EAGAIN;
}

void rate_release(struct rate *rate, uint32_t slot)
{
    assert(slot < RATE_SLOTS);
    uint32_t running =
        atomic_fetch_sub_explicit(&rate->slots[slot].running, 1, memory_order_relaxed);
    assert(running > 0);
    (void)running;
}

uint32_t rate_running(const struct rate *rate, uint32_t slot)
{
    assert(slot < RATE_SLOTS);
    return atomic_load_explicit(&rate->slots[slot].running, memory_order_relaxed);
}

int rate_error(int err, const struct rate_limits *limits, uint32_t retry_after_s,
               struct api_error *error)
{
    if (err == -EBUSY)
        api_error_set(error, API_ERROR_RATE, NULL,
                      "%u requests are running already, which is the limit", limits->concurrency);
    else
        api_error_set(error, API_ERROR_RATE, NULL,
                      "more than %u requests a minute; try again in %u s", limits->per_minute,
                      retry_after_s);
    error->retry_after_s = retry_after_s;
    return -EINVAL;
}
