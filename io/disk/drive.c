// SPDX-License-Identifier: MIT
#include "io/disk/drive.h"

#include <assert.h>

// 50 ms of busy time: a throttled or garbage-collecting drive answers in bursts of some 10 ms, and
// a layer's reads take some 100 ms, so the average follows within a layer.
#define DRIVE_WINDOW_NS 50000000ull
#define DRIVE_RATE_MIN  (1ull << 20) // a drive that stood still stays worth a try

void drive_init(struct drive *d, uint32_t depth)
{
    *d = (struct drive){.depth = depth, .rate = DRIVE_RATE_UNKNOWN};
}

uint64_t drive_finish_ns(const struct drive *d, uint64_t bytes)
{
    return (uint64_t)((double)(d->outstanding + bytes) / (double)d->rate * 1e9) + d->late_ns;
}

void drive_look(struct drive *d, uint64_t now_ns)
{
    d->late_ns = 0;
    uint64_t due_ns = d->heard_ns + drive_finish_ns(d, 0);
    if (d->in_flight > 0 && now_ns > due_ns)
        d->late_ns = now_ns - due_ns;
}

bool drive_has_room(const struct drive *d)
{
    return d->breaker == DRIVE_CLOSED && d->in_flight < d->depth;
}

static void pass(struct drive *d, uint64_t now_ns)
{
    if (d->in_flight > 0 && now_ns > d->event_ns) {
        d->window_ns += now_ns - d->event_ns;
        d->busy_ns += now_ns - d->event_ns;
    }
    d->event_ns = now_ns;
}

void drive_sent(struct drive *d, uint64_t bytes, uint64_t now_ns)
{
    pass(d, now_ns);
    if (d->in_flight == 0)
        d->heard_ns = now_ns;
    d->in_flight++;
    d->outstanding += bytes;
}

static void close_window(struct drive *d)
{
    double rate = (double)d->window_bytes / (double)d->window_ns * 1e9;
    // The first window counts whole; later ones a quarter: one burst does not turn the split over.
    if (d->measured)
        rate = 0.75 * (double)d->rate + 0.25 * rate;
    d->rate = rate < (double)DRIVE_RATE_MIN ? DRIVE_RATE_MIN : (uint64_t)rate;
    d->measured = true;
    d->window_bytes = 0;
    d->window_ns = 0;
}

void drive_ended(struct drive *d, uint64_t bytes, uint64_t got, uint64_t now_ns)
{
    assert(d->in_flight > 0);
    assert(d->outstanding >= bytes);
    pass(d, now_ns);
    d->heard_ns = now_ns;
    d->in_flight--;
    d->outstanding -= bytes;
    d->window_bytes += got;
    if (d->window_ns >= DRIVE_WINDOW_NS)
        close_window(d);
}

void drive_succeeded(struct drive *d)
{
    d->failures = 0;
}

bool drive_failed(struct drive *d, uint64_t now_ns)
{
    if (d->failures < DRIVE_FAILURES_MAX)
        d->failures++;
    if (d->breaker != DRIVE_CLOSED || (d->failures < DRIVE_FAILURES_MAX && d->stuck < d->depth))
        return false;
    d->breaker = DRIVE_OPEN;
    d->pause_ns = DRIVE_PAUSE_NS_MIN;
    d->probe_at_ns = now_ns + d->pause_ns;
    return true;
}

void drive_stuck(struct drive *d)
{
    d->stuck++;
}

void drive_unstuck(struct drive *d, bool good, uint64_t now_ns)
{
    assert(d->stuck > 0);
    d->stuck--;
    if (good && d->breaker == DRIVE_OPEN) // it answers again: ask at once
        d->probe_at_ns = now_ns;
}

bool drive_probe_due(struct drive *d, uint64_t now_ns)
{
    if (d->breaker != DRIVE_OPEN || now_ns < d->probe_at_ns || d->stuck >= d->depth)
        return false;
    d->breaker = DRIVE_HALF_OPEN;
    return true;
}

void drive_probe_ended(struct drive *d, bool good, uint64_t now_ns)
{
    assert(d->breaker == DRIVE_HALF_OPEN);
    if (good) {
        d->breaker = DRIVE_CLOSED;
        d->failures = 0;
        return;
    }
    d->breaker = DRIVE_OPEN;
    d->pause_ns = d->pause_ns * 2 < DRIVE_PAUSE_NS_MAX ? d->pause_ns * 2 : DRIVE_PAUSE_NS_MAX;
    d->probe_at_ns = now_ns + d->pause_ns;
}
