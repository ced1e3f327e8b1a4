// SPDX-License-Identifier: MIT
// disk_storm: many random reads from three drives that fail at random in every way the seam
// knows, with cancellations and wants between: each read ends exactly once (or twice, if a drive
// holds on to its buffer), with the files' bytes or with an error that has a sentence; nothing is
// lost when the storm is over.
#include "tests/unit/io/disk_fixture.h"

#include <stdatomic.h>

#define READS 1500u

struct storm {
    uint64_t seed; // disk thread
    atomic_bool over;
    struct disk_read reads[FIXTURE_BUFFERS]; // by buffer
    const struct fixture *f;
};

static struct disk_seam_act storm_decide(void *user, uint32_t file, uint64_t off, uint32_t bytes)
{
    struct storm *s = user;
    uint64_t dice = check_random(&s->seed) % 1000;
    uint64_t value = check_random(&s->seed);
    (void)off;
    if (atomic_load(&s->over))
        return (struct disk_seam_act){DISK_SEAM_PASS, 0};
    if (dice < (file / FIXTURE_FILES == 0 ? 200 : 20)) // the first drive is the worst
        return (struct disk_seam_act){DISK_SEAM_ERROR, EIO};
    if (dice < 250)
        return (struct disk_seam_act){DISK_SEAM_SHORT, value % bytes};
    if (dice < 260)
        return (struct disk_seam_act){DISK_SEAM_FLIP, value};
    if (dice < 280)
        return (struct disk_seam_act){DISK_SEAM_DELAY, value % 3000000};
    if (dice < 282)
        return (struct disk_seam_act){DISK_SEAM_HANG, 0};
    return (struct disk_seam_act){DISK_SEAM_PASS, 0};
}

// Hanging pieces come back in bursts.
static bool storm_released(void *user)
{
    struct storm *s = user;
    return atomic_load(&s->over) || check_random(&s->seed) % 1024 == 0;
}

static int storm_check(void *user, uint64_t id, const void *buffer)
{
    const struct storm *s = user;
    const struct disk_read *read = &s->reads[id % FIXTURE_BUFFERS];
    (void)buffer;
    return fixture_same(s->f, read, 0) ? 0 : -EBADMSG;
}

static bool busy[FIXTURE_BUFFERS], told[FIXTURE_BUFFERS];
static uint32_t good, bad, late;

static void take(const struct fixture *f, const struct storm *s)
{
    struct disk_done done = fixture_done(f);
    uint32_t at = (uint32_t)(done.id % FIXTURE_BUFFERS);
    CHECK(busy[at] && s->reads[at].id == done.id);
    CHECK(done.err <= 0 && (done.err < 0) == (done.fault.text[0] != '\0'));
    CHECK(done.err == 0 || done.err == -EIO || done.err == -ETIMEDOUT || done.err == -EBADMSG ||
          done.err == -ECANCELED);
    if (!told[at]) {
        // A flipped bit of a late piece may come after the check: only then are bytes not compared.
        if (done.err == 0 && !done.in_flight)
            CHECK(fixture_same(f, &s->reads[at], 0));
        good += done.err == 0;
        bad += done.err < 0;
    } else {
        CHECK(!done.in_flight);
        late++;
    }
    told[at] = done.in_flight;
    busy[at] = done.in_flight;
}

static void submit(const struct fixture *f, struct storm *s, uint64_t id, uint64_t *seed)
{
    uint32_t at = (uint32_t)(id % FIXTURE_BUFFERS);
    uint64_t off = check_random(seed) % (FIXTURE_BYTES - 300000);
    uint32_t drives = check_random(seed) % 4 ? 7 : 1 + (uint32_t)(check_random(seed) % 7);
    s->reads[at] = fixture_read(f, id, 0, drives, off, 1 + check_random(seed) % 300000);
    s->reads[at].speculative = check_random(seed) % 4 == 0;
    memset(f->buffers[at].iov_base, 0, 1u << 20);
    busy[at] = true;
    CHECK(disk_reader_submit(f->reader, &s->reads[at], 1) == 0);
    uint64_t other = id - check_random(seed) % FIXTURE_BUFFERS;
    if (id >= FIXTURE_BUFFERS && check_random(seed) % 8 == 0)
        disk_reader_cancel(f->reader, other);
    if (id >= FIXTURE_BUFFERS && check_random(seed) % 4 == 0)
        disk_reader_want(f->reader, other);
}

// While no drive works, reads fail at once: a storm of those would soon be over.
static void wait_for_drive(const struct fixture *f)
{
    for (;; usleep(1000))
        for (uint32_t i = 0; i < f->drives_n; i++) {
            struct disk_drive_stats stats;
            disk_reader_stats(f->reader, i, &stats);
            if (!stats.open)
                return;
        }
}

static bool any_busy(void)
{
    for (uint32_t i = 0; i < FIXTURE_BUFFERS; i++)
        if (busy[i])
            return true;
    return false;
}

static void run(enum disk_engine engine)
{
    struct fixture f;
    struct storm s = {.seed = 5, .f = &f};
    const struct disk_seam seam = {&s, storm_decide, storm_released};
    uint64_t seed = 9;

    good = bad = late = 0;
    fixture_init(&f, 3);
    struct disk_params params = fixture_params(&f, engine);
    params.timeout_us = 1000000; // a real piece that takes longer is an error like others here
    params.queue_depth = 4;
    params.check = storm_check;
    params.check_user = &s;
    fixture_open(&f, &params, &seam);
    for (uint64_t id = 0; id < READS; id++) {
        while (busy[id % FIXTURE_BUFFERS])
            take(&f, &s);
        wait_for_drive(&f);
        submit(&f, &s, id, &seed);
    }
    atomic_store(&s.over, true);
    while (any_busy())
        take(&f, &s);
    printf("%s: %u good, %u bad, %u late\n", disk_engine_name[engine], good, bad, late);
    CHECK(good + bad == READS);
    CHECK(good > READS / 10 && bad > 0);
    for (uint32_t i = 0; i < 3; i++) {
        struct disk_drive_stats stats;
        do { // closes by its probe
            disk_reader_stats(f.reader, i, &stats);
            usleep(1000);
        } while (stats.open);
        CHECK(stats.in_flight == 0 && stats.errors > 0 && stats.retries > 0);
    }
    CHECK(disk_reader_destroy(&f.reader));
    fixture_fini(&f);
}

// Two preads of the same bytes into one place, a late one and the one that took over, are what the
// header allows; the thread sanitizer does not.
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

int main(void)
{
    run(DISK_ENGINE_IO_URING);
#ifndef __SANITIZE_THREAD__
    run(DISK_ENGINE_PREAD);
#endif
    return 0;
}
