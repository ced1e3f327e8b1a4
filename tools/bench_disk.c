// SPDX-License-Identifier: MIT
// bench-disk: speed of the reader of drives (io/disk) on given files; one JSON object a line.
//
//     bench-disk [OPTION...] FILE...
//
// Extents at random places of random files, as experts lie in shards, some of them in flight at a
// time; with --copies the files hold the same bytes, each on a drive of its own.
#include "io/disk/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX   64
#define BUFFERS_MAX 64u

struct bench {
    struct disk_params params;
    uint64_t extent;
    double seconds;
    bool copies, batch;
    uint32_t queued; // extents in flight
    char *const *paths;
    uint32_t files_n;
    uint64_t bytes[FILES_MAX]; // of each
    uint32_t file[FILES_MAX];  // the reader's numbers
    struct iovec buffers[BUFFERS_MAX];
    struct disk_reader *reader;
    uint64_t random;
};

static const char usage[] =
    "usage: bench-disk [OPTION...] FILE...\n"
    "  --engine auto|io_uring|pread   how (auto)\n"
    "  --read-size BYTES              of a piece (0: measured)\n"
    "  --depth N                      pieces in flight a drive (0: measured)\n"
    "  --extent BYTES                 read at a time from a random place (44040192)\n"
    "  --queued N                     extents in flight, 1..64 (8)\n"
    "  --batch                        that many at once, all of them before the next, as a layer\n"
    "  --seconds S                    how long (5)\n"
    "  --copies                       each FILE is a copy on a drive of its own\n"
    "  --buffered                     through the page cache\n";

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static int options_read(struct bench *b, int argc, char **argv)
{
    static const struct option longs[] = {
        {"engine", required_argument, NULL, 'e'}, {"read-size", required_argument, NULL, 'r'},
        {"depth", required_argument, NULL, 'd'},  {"extent", required_argument, NULL, 'x'},
        {"queued", required_argument, NULL, 'q'}, {"seconds", required_argument, NULL, 's'},
        {"copies", no_argument, NULL, 'c'},       {"buffered", no_argument, NULL, 'b'},
        {"batch", no_argument, NULL, 'a'},        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'e') {
            while (b->params.engine < DISK_ENGINE_COUNT &&
                   strcmp(optarg, disk_engine_name[b->params.engine]) != 0)
                b->params.engine++;
        } else if (c == 'r')
            b->params.read_size = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'd')
            b->params.queue_depth = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'x')
            b->extent = strtoull(optarg, NULL, 10);
        else if (c == 'q')
            b->queued = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 's')
            b->seconds = strtod(optarg, NULL);
        else if (c == 'c')
            b->copies = true;
        else if (c == 'a')
            b->batch = true;
        else if (c == 'b')
            b->params.buffered = true;
        else
            return -1;
    }
    b->paths = argv + optind;
    b->files_n = (uint32_t)(argc - optind);
    return b->files_n >= 1 && b->files_n <= FILES_MAX && b->queued >= 1 &&
                   b->queued <= BUFFERS_MAX && b->extent > 0 && b->extent <= 1u << 30
               ? 0
               : -1;
}

// Huge pages where the system gives them: the kernel then pins fewer pages for each read.
static int buffers_map(struct bench *b)
{
    size_t bytes =
        ((size_t)b->extent + 2 * DISK_ALIGN + (2u << 20) - 1) & ~((size_t)(2u << 20) - 1);
    for (uint32_t i = 0; i < b->queued; i++) {
        void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED)
            return -1;
        madvise(at, bytes, MADV_HUGEPAGE);
        memset(at, 0, bytes);
        b->buffers[i] = (struct iovec){.iov_base = at, .iov_len = bytes};
    }
    b->params.buffers = b->buffers;
    b->params.buffers_n = b->queued;
    return 0;
}

// file_bytes is right for block devices too; 0 if there is none.
static uint64_t file_bytes(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    off_t end = lseek(fd, 0, SEEK_END);
    close(fd);
    return end < 0 ? 0 : (uint64_t)end;
}

static int reader_open(struct bench *b, struct fault *fault)
{
    uint32_t drive = 0;
    int err = disk_reader_create(&b->params, &b->reader, fault);
    for (uint32_t i = 0; i < b->files_n && err == 0; i++) {
        if (i == 0 || b->copies)
            err = disk_reader_drive_add(b->reader, b->paths[i], &drive, fault);
        if (err == 0)
            err = disk_reader_file_add(b->reader, drive, b->paths[i], &b->file[i], fault);
        if (err == 0)
            b->bytes[i] = file_bytes(b->paths[i]);
        if (err == 0 && b->bytes[i] < b->extent)
            err = fault_set(fault, EINVAL, "%s is smaller than an extent", b->paths[i]);
    }
    if (err == 0 && (b->params.read_size == 0 || b->params.queue_depth == 0))
        err = disk_reader_probe(b->reader, fault);
    return err == 0 ? disk_reader_start(b->reader, fault) : err;
}

static struct disk_read extent_next(struct bench *b, uint64_t id)
{
    struct disk_read read = {.id = id, .buffer = (uint32_t)id, .ranges_n = 1};
    uint32_t file = b->copies ? 0 : (uint32_t)(random_next(&b->random) % b->files_n);
    struct disk_range *range = &read.range[0];
    uint64_t places = (b->bytes[file] - b->extent) / 8 + 1;
    range->bytes = b->extent;
    range->off = (random_next(&b->random) << 20 ^ random_next(&b->random)) % places * 8;
    range->files_n = b->copies ? b->files_n : 1;
    for (uint32_t i = 0; i < range->files_n; i++)
        range->file[i] = b->copies ? b->file[i] : b->file[file];
    return read;
}

static int extents_submit(struct bench *b, uint64_t first, uint32_t n)
{
    struct disk_read reads[BUFFERS_MAX];
    for (uint32_t i = 0; i < n; i++)
        reads[i] = extent_next(b, first + i);
    return disk_reader_submit(b->reader, reads, n);
}

static int run(struct bench *b, uint64_t *ret_useful, uint64_t *ret_read)
{
    double end = seconds_of(CLOCK_MONOTONIC) + b->seconds;
    uint32_t queued = b->queued;
    int err = extents_submit(b, 0, queued);
    while (queued > 0 && err == 0) {
        struct disk_done done;
        disk_reader_wait(b->reader, &done, 1, -1);
        if (done.err < 0) {
            fprintf(stderr, "bench-disk: %s\n", done.fault.text);
            return done.err;
        }
        *ret_useful += b->extent;
        *ret_read += done.bytes;
        queued--;
        if (seconds_of(CLOCK_MONOTONIC) >= end || (b->batch && queued > 0))
            continue;
        uint32_t more = b->batch ? b->queued : 1;
        err = extents_submit(b, b->batch ? 0 : done.id, more);
        queued += more;
    }
    return err;
}

static void print(const char *name, double value, const char *unit, const char *conditions)
{
    printf("{\"name\": \"disk_%s\", \"value\": %.4g, \"unit\": \"%s\", \"conditions\": \"%s\"}\n",
           name, value, unit, conditions);
}

static int measure(struct bench *b)
{
    struct fault fault = {0};
    char text[512];
    uint64_t useful = 0, read = 0;

    if (reader_open(b, &fault) < 0) {
        fprintf(stderr, "bench-disk: %s\n", fault.text);
        return 1;
    }
    disk_reader_describe(b->reader, text, sizeof(text));
    for (uint32_t i = 0; disk_reader_warning(b->reader, i); i++)
        fprintf(stderr, "bench-disk: %s\n", disk_reader_warning(b->reader, i));
    double start = seconds_of(CLOCK_MONOTONIC);
    double start_cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    if (run(b, &useful, &read) < 0)
        return 1;
    double wall = seconds_of(CLOCK_MONOTONIC) - start;
    double cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - start_cpu;
    print("useful", (double)useful / wall / 1e9, "GB/s", text);
    print("drive", (double)read / wall / 1e9, "GB/s",
          "with the surroundings of what was asked for");
    print("cpu", cpu / ((double)read / 1e9), "s/GB", "whole process, kernel included");
    print("cpu_thread", (double)disk_reader_cpu_ns(b->reader) / (double)read, "s/GB",
          "disk thread");
    for (uint32_t i = 0; i < disk_reader_drives(b->reader); i++) {
        struct disk_drive_stats stats;
        disk_reader_stats(b->reader, i, &stats);
        snprintf(text, sizeof(text), "drive%u_share", i);
        print(text, (double)stats.bytes / (double)read, "of all bytes", "");
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct bench *b = calloc(1, sizeof(*b));
    if (!b)
        return 1;
    *b = (struct bench){.extent = 44040192, .seconds = 5, .queued = 8, .random = 7};
    b->params.timeout_us = 60000000;
    b->params.retries = 1;
    int status = 2;
    if (options_read(b, argc, argv) < 0)
        fputs(usage, stderr);
    else if (buffers_map(b) < 0)
        fputs("bench-disk: no memory for the extents\n", stderr);
    else
        status = measure(b);
    disk_reader_destroy(&b->reader);
    for (uint32_t i = 0; i < b->params.buffers_n; i++)
        munmap(b->buffers[i].iov_base, b->buffers[i].iov_len);
    free(b);
    return status;
}
