// SPDX-License-Identifier: MIT
// disk_read: random reads through the reader are the files' bytes: io_uring and pread, one drive
// and three, direct and buffered.
#include "tests/unit/io/disk_fixture.h"

#define READS 400u

// One to four ranges at random places, each behind the one before in the buffer.
static struct disk_read random_read(const struct fixture *f, uint64_t id, uint64_t *seed,
                                    uint32_t *ret_file)
{
    struct disk_read read = {.id = id, .buffer = (uint32_t)(id % FIXTURE_BUFFERS)};
    uint64_t dst = 0;
    *ret_file = (uint32_t)(check_random(seed) % FIXTURE_FILES);
    read.ranges_n = 1 + (uint32_t)(check_random(seed) % 4);
    for (uint32_t i = 0; i < read.ranges_n; i++) {
        uint64_t off = check_random(seed) % FIXTURE_BYTES;
        uint64_t max = check_random(seed) % 4 ? 4096 : FIXTURE_BUFFER / 5;
        uint64_t bytes = 1 + check_random(seed) % max;
        if (check_random(seed) % 8 == 0 || bytes > FIXTURE_BYTES - off)
            bytes = FIXTURE_BYTES - off < max ? FIXTURE_BYTES - off : bytes; // to the end
        if (bytes > FIXTURE_BYTES - off)
            bytes = FIXTURE_BYTES - off;
        uint32_t drives = 1 + (uint32_t)(check_random(seed) % ((1u << f->drives_n) - 1));
        read.range[i] = fixture_range(f, *ret_file, drives, off, bytes, dst);
        dst += (off % DISK_ALIGN + bytes + DISK_ALIGN - 1) & ~(uint64_t)(DISK_ALIGN - 1);
    }
    CHECK(dst <= FIXTURE_BUFFER);
    return read;
}

static void take(const struct fixture *f, const struct disk_read *reads, const uint32_t *files,
                 uint32_t *busy)
{
    struct disk_done done = fixture_done(f);
    CHECK(done.err == 0);
    CHECK(!done.in_flight);
    CHECK(done.queued_ns <= done.first_ns && done.first_ns <= done.landed_ns);
    const struct disk_read *read = &reads[done.id % FIXTURE_BUFFERS];
    CHECK(read->id == done.id);
    CHECK(fixture_same(f, read, files[done.id % FIXTURE_BUFFERS]));
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < read->ranges_n; i++)
        bytes += read->range[i].bytes;
    CHECK(done.bytes >= bytes);
    memset(f->buffers[read->buffer].iov_base, 0x5a, 1u << 20);
    *busy &= ~(1u << done.id % FIXTURE_BUFFERS);
}

static void run(enum disk_engine engine, uint32_t drives_n, bool buffered, uint32_t depth,
                uint32_t read_size)
{
    struct fixture f;
    struct disk_read reads[FIXTURE_BUFFERS];
    uint32_t files[FIXTURE_BUFFERS], busy = 0;
    uint64_t seed = 7 + depth;
    char text[512];

    fixture_init(&f, drives_n);
    struct disk_params params = fixture_params(&f, engine);
    params.buffered = buffered;
    params.queue_depth = depth;
    params.read_size = read_size;
    fixture_open(&f, &params, NULL);
    disk_reader_describe(f.reader, text, sizeof(text));
    printf("%s\n", text);
    for (uint64_t id = 0; id < READS; id++) {
        uint32_t at = (uint32_t)(id % FIXTURE_BUFFERS);
        while (busy & 1u << at)
            take(&f, reads, files, &busy);
        reads[at] = random_read(&f, id, &seed, &files[at]);
        CHECK(disk_reader_submit(f.reader, &reads[at], 1) == 0);
        busy |= 1u << at;
    }
    while (busy)
        take(&f, reads, files, &busy);
    struct disk_done none;
    CHECK(disk_reader_wait(f.reader, &none, 1, 0) == 0);
    for (uint32_t i = 0; i < drives_n; i++) {
        struct disk_drive_stats stats;
        disk_reader_stats(f.reader, i, &stats);
        CHECK(stats.bytes > 0 && stats.errors == 0 && stats.timeouts == 0 && !stats.open);
        CHECK(stats.in_flight == 0);
    }
    CHECK(disk_reader_destroy(&f.reader));
    fixture_fini(&f);
}

static void submit_refuses(void)
{
    struct fixture f;
    fixture_init(&f, 1);
    struct disk_params params = fixture_params(&f, DISK_ENGINE_AUTO);
    fixture_open(&f, &params, NULL);
    struct disk_read good = fixture_read(&f, 1, 0, 1, 5000, 100), bad[2];

#define REFUSED(change)                                                                            \
    do {                                                                                           \
        bad[0] = good;                                                                             \
        bad[1] = good;                                                                             \
        bad[1].id = 2;                                                                             \
        bad[1].change;                                                                             \
        CHECK(disk_reader_submit(f.reader, bad, 2) == -EINVAL);                                    \
    } while (0)
    REFUSED(buffer = FIXTURE_BUFFERS);
    REFUSED(ranges_n = 0);
    REFUSED(ranges_n = DISK_RANGES_MAX + 1);
    REFUSED(range[0].bytes = 0);
    REFUSED(range[0].bytes = UINT64_MAX);
    REFUSED(range[0].bytes = FIXTURE_BYTES - 5000 + 1);
    REFUSED(range[0].off = FIXTURE_BYTES);
    REFUSED(range[0].off = UINT64_MAX);
    REFUSED(range[0].dst = 1);
    REFUSED(range[0].dst = FIXTURE_BUFFER);
    REFUSED(range[0].dst = UINT64_MAX - 4095);
    REFUSED(range[0].files_n = 0);
    REFUSED(range[0].files_n = DISK_COPIES_MAX + 1);
    REFUSED(range[0].file[0] = FIXTURE_FILES);
    struct disk_done done;
    CHECK(disk_reader_wait(f.reader, &done, 1, 20000) == 0); // nothing was queued
    CHECK(disk_reader_submit(f.reader, &good, 1) == 0);
    done = fixture_done(&f);
    CHECK(done.id == 1 && done.err == 0 && fixture_same(&f, &good, 0));
    CHECK(disk_reader_destroy(&f.reader));
    fixture_fini(&f);
}

int main(void)
{
    for (int engine = DISK_ENGINE_IO_URING; engine <= DISK_ENGINE_PREAD; engine++) {
        run((enum disk_engine)engine, 1, false, 8, 64u << 10);
        run((enum disk_engine)engine, 3, false, 4, 128u << 10);
        run((enum disk_engine)engine, 3, true, 1, 64u << 10);
    }
    submit_refuses();
    return 0;
}
