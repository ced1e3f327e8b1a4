// SPDX-License-Identifier: MIT
#include "io/disk/state.h"

#include "base/wake.h"

#include <errno.h>

#define LOOP_BATCH    256u         // completions taken at once
#define LOOP_HELD_NS  1000000ull   // while the seam holds something
#define LOOP_LOOK_NS  5000000ull   // while pieces wait for one drive and another has room
#define LOOP_STUCK_NS 200000000ull // destroy waits so long for pieces that have timed out
#define LOOP_STOP_US  3000000ull   // and at most so long for the others

static void loop_commands(struct disk_reader *r)
{
    struct command c;
    while (ring_pop(r->commands, &c)) {
        if (c.kind == COMMAND_SUBMIT)
            read_begin(r, c.read);
        else if (c.kind == COMMAND_WANT)
            read_want(r, c.read);
        else
            read_cancel(r, c.read);
    }
}

static void loop_timeouts(struct disk_reader *r, uint64_t now_ns)
{
    uint64_t limit = r->params.timeout_us * 1000;
    for (uint32_t i = 0; i < r->drives_n; i++) {
        struct list *flying = &r->drives[i].flying;
        while (flying->first != NONE && now_ns - r->pieces[flying->first].sent_ns >= limit)
            piece_timed_out(r, flying->first, now_ns);
        if (drive_probe_due(&r->drives[i].drive, now_ns) && !r->stopping)
            dispatch_probe(r, i, now_ns);
    }
}

// loop_sleep_ns returns how long nothing but an answer or a command can happen; -1: for ever.
static int64_t loop_sleep_ns(const struct disk_reader *r, uint64_t now_ns)
{
    uint64_t at = UINT64_MAX;
    bool waits = r->wanted.first != NONE || r->waiting.first != NONE;
    for (uint32_t i = 0; i < r->drives_n; i++) {
        const struct reader_drive *drive = &r->drives[i];
        if (drive->flying.first != NONE) {
            uint64_t end = r->pieces[drive->flying.first].sent_ns + r->params.timeout_us * 1000;
            at = end < at ? end : at;
        }
        if (drive->drive.breaker == DRIVE_OPEN && drive->drive.stuck < drive->drive.depth &&
            drive->drive.probe_at_ns < at)
            at = drive->drive.probe_at_ns;
        if (waits && drive_has_room(&drive->drive) && at > now_ns + LOOP_LOOK_NS)
            at = now_ns + LOOP_LOOK_NS;
    }
    if (r->held_n > 0 && at > now_ns + LOOP_HELD_NS)
        at = now_ns + LOOP_HELD_NS;
    if (r->stopping && at > now_ns + LOOP_STUCK_NS)
        at = now_ns + LOOP_STUCK_NS;
    return at == UINT64_MAX ? -1 : at <= now_ns ? 0 : (int64_t)(at - now_ns);
}

static void loop_publish(struct disk_reader *r)
{
    for (uint32_t i = 0; i < r->drives_n; i++) {
        struct reader_drive *d = &r->drives[i];
        const uint64_t values[] = {d->drive.breaker != DRIVE_CLOSED,
                                   d->stats.bytes,
                                   d->stats.pieces,
                                   d->stats.retries,
                                   d->stats.errors,
                                   d->stats.timeouts,
                                   d->stats.mismatches,
                                   d->drive.busy_ns,
                                   d->drive.in_flight,
                                   d->drive.measured ? d->drive.rate : 0};
        static_assert(sizeof(values) / sizeof(values[0]) == sizeof(d->out) / sizeof(d->out[0]),
                      "one place each");
        for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++)
            atomic_store_explicit(&d->out[k], values[k], memory_order_relaxed);
    }
}

// The exchange orders the push before the look at the flag; pairs with disk_reader_wait.
static void loop_tell(struct disk_reader *r)
{
    if (r->dones_new == 0)
        return;
    r->dones_new = 0;
    if (atomic_exchange_explicit(&r->step_sleeps, 0, memory_order_acq_rel))
        wake_signal(r->step_fd);
    if (r->params.wake && !r->stopping)
        r->params.wake(r->params.wake_user);
}

// loop_wait sends the batch and takes what has come.
static uint32_t loop_wait(struct disk_reader *r, struct engine_done *done)
{
    int64_t sleep_ns = loop_sleep_ns(r, clock_ns());
    // Pairs with kick in reader.c: who pushes after this exchange sees the flag and signals.
    atomic_exchange_explicit(&r->disk_sleeps, 1, memory_order_acq_rel);
    if (ring_depth(r->commands) > 0 ||
        (!r->stopping && atomic_load_explicit(&r->stop_asked, memory_order_acquire)))
        sleep_ns = 0;
    uint32_t n = r->table->wait(r->io, done, LOOP_BATCH, sleep_ns);
    atomic_store_explicit(&r->disk_sleeps, 0, memory_order_relaxed);
    return n;
}

static void loop_ended(struct disk_reader *r, const struct engine_done *done, uint32_t n,
                       uint64_t now_ns)
{
    for (uint32_t i = 0; i < n; i++)
        piece_ended(r, done[i].tag, done[i].res, now_ns);
}

static bool loop_overdue(const struct disk_reader *r, uint64_t now_ns)
{
    for (uint32_t i = 0; i < r->drives_n; i++) {
        uint32_t first = r->drives[i].flying.first;
        if (first != NONE && now_ns - r->pieces[first].sent_ns >= r->params.timeout_us * 1000)
            return true;
    }
    return false;
}

static void loop_once(struct disk_reader *r)
{
    struct engine_done done[LOOP_BATCH];
    uint32_t n = loop_wait(r, done);
    uint64_t now_ns = clock_ns();
    // Answers may lie unseen if it was we who did not run (a stopped process, a suspended machine):
    // nothing is overdue before the last of them is taken.
    loop_ended(r, done, n, now_ns);
    for (n = 1; n > 0 && loop_overdue(r, now_ns); loop_ended(r, done, n, now_ns))
        n = r->table->wait(r->io, done, LOOP_BATCH, 0);
    loop_timeouts(r, now_ns);
    loop_commands(r);
    now_ns = clock_ns(); // not before what was just submitted
    dispatch(r, now_ns);
    loop_publish(r);
    loop_tell(r);
}

// loop_stop drops all and waits for what is in flight.  false: abandoned; free the reader.
static bool loop_stop(struct disk_reader *r)
{
    r->stopping = true;
    if (r->params.timeout_us > LOOP_STOP_US) // nobody waits for these bytes any more
        r->params.timeout_us = LOOP_STOP_US;
    loop_commands(r);
    for (uint32_t i = 0; i < DISK_READS_MAX; i++)
        read_cancel(r, i);
    for (uint32_t i = 0; i < r->pieces_n; i++)
        if (r->pieces[i].state == PIECE_FLYING && !r->pieces[i].held)
            r->table->cancel(r->io, i);
    uint64_t since = 0; // only stuck pieces are left
    while (r->in_flight > 0) {
        bool flying = false;
        for (uint32_t i = 0; i < r->drives_n; i++)
            flying |= r->drives[i].flying.first != NONE;
        uint64_t now_ns = clock_ns();
        if (flying)
            since = 0;
        else if (since == 0)
            since = now_ns;
        else if (now_ns - since >= LOOP_STUCK_NS) {
            unsigned running = STOP_RUNNING;
            atomic_compare_exchange_strong(&r->stop, &running, STOP_STUCK);
            wake_signal(r->step_fd);
        }
        loop_once(r);
    }
    unsigned before = atomic_load(&r->stop);
    while (before != STOP_ABANDONED &&
           !atomic_compare_exchange_strong(&r->stop, &before, STOP_FINISHED))
        ;
    if (before == STOP_ABANDONED)
        return false;
    wake_signal(r->step_fd);
    return true;
}

void *loop_main(void *reader)
{
    struct disk_reader *r = reader;
    while (!atomic_load_explicit(&r->stop_asked, memory_order_acquire))
        loop_once(r);
    if (!loop_stop(r))
        reader_free(r);
    return NULL;
}
