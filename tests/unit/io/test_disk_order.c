// SPDX-License-Identifier: MIT
// disk_order: what goes to the drive when: reads as they were submitted, speculative ones after all
// others, wanted ones at the end of the queue, cancelled ones not at all.  A gate under the reader
// holds the first piece until all is submitted, so that nothing depends on time.
#include "tests/unit/io/disk_fixture.h"

#include <stdatomic.h>

#define PIECE (64u << 10)
#define GATE  0u // offset of the read that the gate holds

struct gate {
    atomic_bool reached, open;
    uint64_t sent[256]; // offsets; the disk thread writes, read after the last completion
    uint32_t sent_n;
};

static struct disk_seam_act gate_decide(void *user, uint32_t file, uint64_t off, uint32_t bytes)
{
    struct gate *gate = user;
    (void)file;
    (void)bytes;
    CHECK(gate->sent_n < ARRAY_LEN(gate->sent));
    gate->sent[gate->sent_n++] = off;
    if (off == GATE)
        atomic_store(&gate->reached, true);
    return (struct disk_seam_act){off == GATE ? DISK_SEAM_HANG : DISK_SEAM_PASS, 0};
}

static bool gate_released(void *user)
{
    return atomic_load(&((struct gate *)user)->open);
}

struct scene {
    struct fixture f;
    struct gate gate;
    struct disk_seam seam;
    int err[64]; // by id, 1: not there yet
};

static struct scene *begin(enum disk_engine engine, uint32_t depth)
{
    struct scene *s = calloc(1, sizeof(*s));
    CHECK(s);
    fixture_init(&s->f, 1);
    s->seam = (struct disk_seam){&s->gate, gate_decide, gate_released};
    for (size_t i = 0; i < ARRAY_LEN(s->err); i++)
        s->err[i] = 1;
    struct disk_params params = fixture_params(&s->f, engine);
    params.queue_depth = depth;
    params.timeout_us = 3600000000;
    fixture_open(&s->f, &params, &s->seam);
    return s;
}

// submit asks for `pieces` pieces from piece number `at` of the file on.  Number 0 is the gate: the
// others are submitted when it holds.
static void submit(struct scene *s, uint64_t id, uint32_t at, uint32_t pieces, bool speculative)
{
    struct disk_read read =
        fixture_read(&s->f, id, 0, 1, (uint64_t)at * PIECE, (uint64_t)pieces * PIECE);
    read.speculative = speculative;
    CHECK(disk_reader_submit(s->f.reader, &read, 1) == 0);
    while (at == 0 && !atomic_load(&s->gate.reached))
        usleep(100);
}

static void finish(struct scene *s, uint32_t reads)
{
    atomic_store(&s->gate.open, true);
    for (uint32_t i = 0; i < reads; i++) {
        struct disk_done done = fixture_done(&s->f);
        CHECK(!done.in_flight && s->err[done.id] == 1);
        s->err[done.id] = done.err;
    }
    CHECK(disk_reader_destroy(&s->f.reader));
}

static void expect(struct scene *s, const uint32_t *pieces, uint32_t n)
{
    CHECK(s->gate.sent_n == n);
    for (uint32_t i = 0; i < n; i++)
        CHECK(s->gate.sent[i] == (uint64_t)pieces[i] * PIECE);
    fixture_fini(&s->f);
    free(s);
}

static void speculative_last(enum disk_engine engine)
{
    struct scene *s = begin(engine, 1);
    submit(s, 0, 0, 1, false);
    submit(s, 1, 10, 2, true);
    submit(s, 2, 20, 2, false);
    submit(s, 3, 30, 1, true);
    submit(s, 4, 40, 1, false);
    finish(s, 5);
    for (uint32_t i = 0; i < 5; i++)
        CHECK(s->err[i] == 0);
    expect(s, (const uint32_t[]){0, 20, 21, 40, 10, 11, 30}, 7);
}

static void want(enum disk_engine engine)
{
    struct scene *s = begin(engine, 1);
    submit(s, 0, 0, 1, false);
    submit(s, 1, 10, 1, true);
    submit(s, 2, 20, 1, true);
    submit(s, 3, 30, 1, false);
    disk_reader_want(s->f.reader, 2);
    disk_reader_want(s->f.reader, 2);   // twice is once
    disk_reader_want(s->f.reader, 999); // nobody's
    submit(s, 4, 40, 1, false);
    finish(s, 5);
    expect(s, (const uint32_t[]){0, 30, 20, 40, 10}, 5);
}

static void cancel(enum disk_engine engine)
{
    struct scene *s = begin(engine, 1);
    submit(s, 0, 0, 2, false); // its second piece is unsent
    submit(s, 1, 10, 2, true);
    submit(s, 2, 20, 2, false);
    submit(s, 3, 30, 1, false);
    disk_reader_cancel(s->f.reader, 0);
    disk_reader_cancel(s->f.reader, 1);
    disk_reader_cancel(s->f.reader, 2);
    disk_reader_cancel(s->f.reader, 2);
    disk_reader_want(s->f.reader, 1); // too late
    finish(s, 4);
    CHECK(s->err[0] == -ECANCELED && s->err[1] == -ECANCELED && s->err[2] == -ECANCELED);
    CHECK(s->err[3] == 0);
    expect(s, (const uint32_t[]){0, 30}, 2);
}

// All of a cancelled read had been sent: it is there.
static void cancel_late(enum disk_engine engine)
{
    struct scene *s = begin(engine, 4);
    submit(s, 0, 0, 3, false);
    submit(s, 1, 10, 1, false);
    CHECK(fixture_done(&s->f).id == 1); // so the three before it are under way
    s->err[1] = 0;
    disk_reader_cancel(s->f.reader, 0);
    finish(s, 1);
    CHECK(s->err[0] == 0);
    expect(s, (const uint32_t[]){0, 1, 2, 10}, 4);
}

// A full reader says so, and takes more once something was taken from it.
static void full(void)
{
    struct scene *s = begin(DISK_ENGINE_AUTO, 1);
    struct disk_read *reads = calloc(DISK_READS_MAX + 1, sizeof(*reads));
    CHECK(reads);
    for (uint32_t i = 0; i <= DISK_READS_MAX; i++)
        reads[i] = fixture_read(&s->f, i, 0, 1, i == 0 ? GATE : PIECE, 100);
    CHECK(disk_reader_submit(s->f.reader, reads, DISK_READS_MAX + 1) == -ENOSPC);
    CHECK(disk_reader_submit(s->f.reader, reads, DISK_READS_MAX) == 0);
    while (!atomic_load(&s->gate.reached))
        usleep(100);
    CHECK(disk_reader_submit(s->f.reader, &reads[DISK_READS_MAX], 1) == -ENOSPC);
    CHECK(disk_reader_submit(s->f.reader, reads, 0) == 0);
    for (uint32_t i = 1; i < DISK_READS_MAX; i++)
        disk_reader_cancel(s->f.reader, i);
    for (uint32_t i = 1; i < DISK_READS_MAX; i++)
        CHECK(fixture_done(&s->f).err == -ECANCELED);
    CHECK(disk_reader_submit(s->f.reader, &reads[0], 1) == -EINVAL); // the number is in use
    CHECK(disk_reader_submit(s->f.reader, &reads[DISK_READS_MAX], 1) == 0);
    atomic_store(&s->gate.open, true);
    CHECK(fixture_done(&s->f).id == 0 && fixture_done(&s->f).id == DISK_READS_MAX);
    CHECK(disk_reader_destroy(&s->f.reader));
    free(reads);
    fixture_fini(&s->f);
    free(s);
}

int main(void)
{
    for (int engine = DISK_ENGINE_IO_URING; engine <= DISK_ENGINE_PREAD; engine++) {
        speculative_last((enum disk_engine)engine);
        want((enum disk_engine)engine);
        cancel((enum disk_engine)engine);
        cancel_late((enum disk_engine)engine);
    }
    full();
    return 0;
}
