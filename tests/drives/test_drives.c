// SPDX-License-Identifier: MIT
// The bandwidth of drives adds up: three alike of copies, a fast and a slow one, and one set of
// reads whose ranges lie on different drives.  Called by throttled with four mount points: three
// drives of one rate, then a slower one.  Each figure has its own reference in the same run.
#include "io/disk/reader.h"
#include "tests/check.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define DRIVES       4u
#define ALIKE        3u // drives 0..2; drive 3 is slower
#define FILE_BYTES   (128u << 20)
#define READ_BYTES   (8u << 20)
#define BUFFER_BYTES (READ_BYTES + DRIVES * 2 * DISK_ALIGN) // ranges with their surroundings
#define BUFFERS      24u                                    // reads in flight: 192 MiB
#define READ_OFFSET  1234u                                  // so that no read is aligned
#define WARM_NS      500000000u  // what a throttle lets through after a pause is over by then
#define RUN_NS       3000000000u // twenty times what is in flight a drive
#define ROUNDS_MAX   4u          // other work on the machine only takes away: the best counts

static const char *dirs[DRIVES];
static uint8_t *memory; // [BUFFERS, BUFFER_BYTES]

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

// The word at offset off of every file, a multiple of 8.
static uint64_t word_at(uint64_t off)
{
    uint64_t state = off + 1;
    return check_random(&state);
}

static void file_make(const char *dir)
{
    static uint64_t words[(1u << 20) / sizeof(uint64_t)];
    char path[256];
    CHECK((size_t)snprintf(path, sizeof(path), "%s/file", dir) < sizeof(path));
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    for (uint64_t off = 0; off < FILE_BYTES; off += sizeof(words)) {
        for (uint64_t i = 0; i < ARRAY_LEN(words); i++)
            words[i] = word_at(off + i * sizeof(words[0]));
        CHECK(pwrite(fd, words, sizeof(words), (off_t)off) == (ssize_t)sizeof(words));
    }
    CHECK(!fsync(fd));
    CHECK(!close(fd));
}

// A word in every 4 KiB and the last one.
static void range_check(const uint8_t *buffer, const struct disk_range *range)
{
    const uint8_t *bytes = buffer + range->dst + range->off % DISK_ALIGN;
    const uint64_t first = (8 - range->off % 8) % 8;
    for (uint64_t i = first;; i += 4096) {
        if (i + 8 > range->bytes)
            i = first + (range->bytes - first - 8) / 8 * 8;
        uint64_t word;
        memcpy(&word, bytes + i, sizeof(word));
        CHECK(word == word_at(range->off + i));
        if (i + 16 > range->bytes)
            return;
    }
}

// A reader over some of the drives.
struct rig {
    struct disk_reader *reader;
    uint32_t drives_n, files[DRIVES];
    struct disk_read reads[BUFFERS /* buffer */];
    uint64_t next, bytes_done;
    bool parts; // ranges on different drives, instead of copies
};

static void rig_open(struct rig *rig, const uint32_t *drives, uint32_t n, bool parts)
{
    struct iovec buffers[BUFFERS];
    for (uint32_t i = 0; i < BUFFERS; i++)
        buffers[i] = (struct iovec){memory + (size_t)i * BUFFER_BYTES, BUFFER_BYTES};
    const struct disk_params params = {
        .timeout_us = 60000000, .retries = 2, .buffers = buffers, .buffers_n = BUFFERS};
    struct fault fault;

    *rig = (struct rig){.drives_n = n, .parts = parts};
    CHECK(!disk_reader_create(&params, &rig->reader, &fault));
    for (uint32_t i = 0; i < n; i++) {
        char path[256];
        uint32_t drive;
        CHECK((size_t)snprintf(path, sizeof(path), "%s/file", dirs[drives[i]]) < sizeof(path));
        CHECK(!disk_reader_drive_add(rig->reader, dirs[drives[i]], &drive, &fault));
        CHECK(!disk_reader_file_add(rig->reader, drive, path, &rig->files[i], &fault));
    }
    CHECK(!disk_reader_start(rig->reader, &fault));
}

// The next READ_BYTES: all of them on every drive, or a share of them on each.
static void rig_submit(struct rig *rig, uint32_t buffer)
{
    struct disk_read *read = &rig->reads[buffer];
    const uint32_t shares = rig->parts ? rig->drives_n : 1;
    const uint64_t slots = (FILE_BYTES - READ_BYTES) / READ_BYTES, bytes = READ_BYTES / shares;

    *read = (struct disk_read){.id = buffer, .buffer = buffer, .ranges_n = shares};
    for (uint32_t i = 0; i < shares; i++) {
        struct disk_range *range = &read->range[i];
        *range =
            (struct disk_range){.off = rig->next % slots * READ_BYTES + READ_OFFSET + i * bytes,
                                .bytes = bytes,
                                .dst = i * ((bytes + 2 * DISK_ALIGN) / DISK_ALIGN * DISK_ALIGN),
                                .files_n = rig->parts ? 1 : rig->drives_n};
        for (uint32_t file = 0; file < range->files_n; file++)
            range->file[file] = rig->files[rig->parts ? i : file];
    }
    rig->next++;
    CHECK(!disk_reader_submit(rig->reader, read, 1));
}

static void rig_take(struct rig *rig, const struct disk_done *done)
{
    if (done->err)
        CHECK_FAIL(done->fault.text);
    const struct disk_read *read = &rig->reads[done->id];
    const uint8_t *buffer = memory + (size_t)read->buffer * BUFFER_BYTES;
    for (uint32_t i = 0; i < read->ranges_n; i++) {
        range_check(buffer, &read->range[i]);
        rig->bytes_done += read->range[i].bytes;
    }
}

// Bytes a second over RUN_NS, counted until the last read is there.
static double drives_run(const uint32_t *drives, uint32_t n, bool parts)
{
    static struct rig rig;
    rig_open(&rig, drives, n, parts);
    for (uint32_t i = 0; i < BUFFERS; i++)
        rig_submit(&rig, i);

    const uint64_t begin = now_ns();
    uint64_t start = 0, start_bytes = 0, end = begin;
    for (uint32_t in_flight = BUFFERS; in_flight;) {
        struct disk_done done[BUFFERS];
        const uint32_t done_n = disk_reader_wait(rig.reader, done, BUFFERS, -1);
        end = now_ns();
        for (uint32_t i = 0; i < done_n; i++) {
            rig_take(&rig, &done[i]);
            if (end - begin < WARM_NS + RUN_NS)
                rig_submit(&rig, (uint32_t)done[i].id);
            else
                in_flight--;
        }
        if (!start && end - begin >= WARM_NS) {
            start = end;
            start_bytes = rig.bytes_done;
        }
    }
    CHECK(start && end > start);
    const double rate = (double)(rig.bytes_done - start_bytes) * 1e9 / (double)(end - start);

    printf("%s of %" PRIu32 ": %.1f MB/s;", parts ? "parts" : "copies", n, rate / 1e6);
    for (uint32_t i = 0; i < n; i++) {
        struct disk_drive_stats stats;
        disk_reader_stats(rig.reader, i, &stats);
        CHECK(!stats.errors && !stats.timeouts);
        printf(" %.0f MB", (double)stats.bytes / 1e6);
    }
    puts("");
    fflush(stdout);
    CHECK(disk_reader_destroy(&rig.reader));
    return rate;
}

static void best(double *of, double rate)
{
    if (rate > *of)
        *of = rate;
}

int main(int argc, char **argv)
{
    if (argc != 1 + DRIVES) {
        puts("called by tests/drives/throttled with four mount points");
        return TEST_SKIPPED;
    }
    for (uint32_t i = 0; i < DRIVES; i++) {
        dirs[i] = argv[1 + i];
        file_make(dirs[i]);
    }
    memory = mmap(NULL, (size_t)BUFFERS * BUFFER_BYTES, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);

    const uint32_t fast[] = {0}, slow[] = {ALIKE}, alike[] = {0, 1, 2}, unequal[] = {0, ALIKE};
    double one = 0, slow_one = 0, three = 0, pair = 0, parts = 0;
    for (uint32_t round = 0; round < ROUNDS_MAX; round++) {
        best(&one, drives_run(fast, 1, false));
        best(&three, drives_run(alike, ALIKE, false));
        best(&slow_one, drives_run(slow, 1, false));
        best(&pair, drives_run(unequal, 2, false));
        best(&parts, drives_run(alike, ALIKE, true));
        printf("three: %.2f times one; parts: %.2f times one; pair: %.3f of the sum\n", three / one,
               parts / one, pair / (one + slow_one));
        if (three >= 2.8 * one && parts >= 2.8 * one && pair >= 0.95 * (one + slow_one))
            return 0;
    }
    CHECK_FAIL("bandwidth does not add up");
}
