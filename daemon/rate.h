// SPDX-License-Identifier: MIT
// rate: requests a minute and requests at once, by key.  Pure: the time is told.
//
// A key's minute is a token bucket that holds a quarter of a minute's requests, at least one, and
// fills evenly.  It is kept as one number, the time at which the bucket is full again (the generic
// cell rate algorithm), so that front threads change it without a lock.
//
// A struct rate of zeros is one that nobody used; nothing is allocated.  Any thread, at once.
//
// For the life of a request, by the thread of its connection:
//
//     err = rate_take(rate, slot, &limits, clock_us(), &retry_s);      // once its key is judged
//     if (err != 0) { rate_error(err, &limits, retry_s, &error); refuse; }
//     ...
//     rate_release(rate, slot);        // once, when it is answered, refused or its client is gone
#pragma once
#include "api/error.h"
#include "api/keys.h"

#include <stdatomic.h>
#include <stdint.h>

#define RATE_ANONYMOUS KEYS_MAX // the slot of all requests without a key together
#define RATE_SLOTS     (KEYS_MAX + 1)

struct rate_limits {
    uint32_t per_minute;  // 0: no limit; at most KEYS_RATE_MAX
    uint32_t concurrency; // 0: no limit
};

struct rate_slot {
    _Atomic uint64_t full_ns; // when its bucket is full; in the past: it is
    atomic_uint running;      // taken and not released
};

struct rate {
    struct rate_slot slots[RATE_SLOTS /* struct key.slot, or RATE_ANONYMOUS */];
};

// rate_limits_of returns what holds for a key: its own, or the defaults where it has none.
// key: NULL: anonymous, the defaults.
struct rate_limits rate_limits_of(const struct key *key, const struct rate_limits *defaults);

// rate_take takes one request from a slot.
//
// slot:    key->slot or RATE_ANONYMOUS.
// now_us:  of clock_us; may be a little behind another thread's.
// limits:  may differ from call to call (a reload); a bucket that owes more than the new limits
//          know is cut to them.
// Returns 0: release it with rate_release;
// -EBUSY:  as many as concurrency run; nothing was taken.
// -EAGAIN: the bucket is empty; nothing was taken.
// ret_retry_after_s: on failure whole seconds after which it may work, at least 1; else untouched.
int rate_take(struct rate *rate, uint32_t slot, const struct rate_limits *limits, uint64_t now_us,
              uint32_t *ret_retry_after_s);

// rate_release gives back what rate_take took, so one more may run; the minute is not given back.
void rate_release(struct rate *rate, uint32_t slot);

// rate_running returns how many run.
uint32_t rate_running(const struct rate *rate, uint32_t slot);

// rate_error makes the 429 of what rate_take returned.  Returns -EINVAL, as api_error_set.
int rate_error(int err, const struct rate_limits *limits, uint32_t retry_after_s,
               struct api_error *error);
