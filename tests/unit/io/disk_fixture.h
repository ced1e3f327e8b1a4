// SPDX-License-Identifier: MIT
// disk_fixture: what the tests of the reader share: files of known bytes in directories of their
// own ("drives"), a reader over them, reads at random places and their comparison.
#pragma once
#include "io/disk/reader.h"
#include "io/disk/seam.h"
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIXTURE_DRIVES  3u
#define FIXTURE_FILES   2u                   // on every drive the same
#define FIXTURE_BYTES   ((5u << 20) + 1234u) // of a file: no multiple of anything
#define FIXTURE_BUFFER  (4u << 20)
#define FIXTURE_BUFFERS 16u

struct fixture {
    char dir[256];
    uint32_t drives_n;
    unsigned char *bytes[FIXTURE_FILES]; // what is in the files
    struct iovec buffers[FIXTURE_BUFFERS];
    struct disk_reader *reader;
    uint32_t file[FIXTURE_DRIVES][FIXTURE_FILES];
};

static char fixture_dir[256]; // of the one fixture that is there; "": none

// fixture_sweep removes the files, after a failed CHECK too.
static inline void fixture_sweep(void)
{
    char path[512];
    for (uint32_t i = 0; fixture_dir[0] && i < FIXTURE_DRIVES * FIXTURE_FILES; i++) {
        snprintf(path, sizeof(path), "%s/d%u.%u", fixture_dir, i / FIXTURE_FILES,
                 i % FIXTURE_FILES);
        unlink(path);
    }
    if (fixture_dir[0])
        rmdir(fixture_dir);
    fixture_dir[0] = '\0';
}

static inline void fixture_path(const struct fixture *f, uint32_t drive, uint32_t file, char *ret)
{
    snprintf(ret, 512, "%s/d%u.%u", f->dir, drive, file);
}

static inline void fixture_write(const char *path, const unsigned char *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, bytes, n) == (ssize_t)n);
    CHECK(close(fd) == 0);
}

// fixture_init writes the files into a new folder.
static inline void fixture_init(struct fixture *f, uint32_t drives_n)
{
    uint64_t seed = 42;
    const char *tmp = getenv("TMPDIR");
    *f = (struct fixture){.drives_n = drives_n};
    snprintf(f->dir, sizeof(f->dir), "%s/expertd-disk-XXXXXX", tmp ? tmp : "/var/tmp");
    CHECK(mkdtemp(f->dir));
    static bool armed;
    if (!armed)
        atexit(fixture_sweep);
    armed = true;
    memcpy(fixture_dir, f->dir, sizeof(fixture_dir));
    for (uint32_t i = 0; i < FIXTURE_FILES; i++) {
        f->bytes[i] = malloc(FIXTURE_BYTES + 8);
        CHECK(f->bytes[i]);
        for (size_t k = 0; k < FIXTURE_BYTES; k += 8) {
            uint64_t word = check_random(&seed);
            memcpy(f->bytes[i] + k, &word, 8);
        }
        for (uint32_t d = 0; d < drives_n; d++) {
            char path[512];
            fixture_path(f, d, i, path);
            fixture_write(path, f->bytes[i], FIXTURE_BYTES);
        }
    }
    for (uint32_t i = 0; i < FIXTURE_BUFFERS; i++) {
        f->buffers[i].iov_len = FIXTURE_BUFFER;
        f->buffers[i].iov_base =
            mmap(NULL, FIXTURE_BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(f->buffers[i].iov_base != MAP_FAILED);
    }
}

static inline void fixture_fini(struct fixture *f)
{
    for (uint32_t i = 0; i < FIXTURE_FILES; i++)
        free(f->bytes[i]);
    for (uint32_t i = 0; i < FIXTURE_BUFFERS; i++)
        munmap(f->buffers[i].iov_base, FIXTURE_BUFFER);
    fixture_sweep();
}

static inline struct disk_params fixture_params(const struct fixture *f, enum disk_engine engine)
{
    return (struct disk_params){.engine = engine,
                                .queue_depth = 8,
                                .read_size = 64u << 10,
                                .timeout_us = 60000000,
                                .retries = 2,
                                .buffers = f->buffers,
                                .buffers_n = FIXTURE_BUFFERS};
}

// fixture_open makes and starts a reader.
static inline void fixture_open(struct fixture *f, const struct disk_params *params,
                                const struct disk_seam *seam)
{
    struct fault fault = {0};
    if (disk_reader_create(params, &f->reader, &fault) < 0)
        CHECK_FAIL(fault.text);
    for (uint32_t d = 0; d < f->drives_n; d++) {
        char name[512];
        uint32_t drive;
        snprintf(name, sizeof(name), "drive%u", d);
        CHECK(disk_reader_drive_add(f->reader, name, &drive, &fault) == 0);
        for (uint32_t i = 0; i < FIXTURE_FILES; i++) {
            fixture_path(f, d, i, name);
            if (disk_reader_file_add(f->reader, drive, name, &f->file[d][i], &fault) < 0)
                CHECK_FAIL(fault.text);
        }
    }
    disk_reader_seam_set(f->reader, seam);
    if (disk_reader_start(f->reader, &fault) < 0)
        CHECK_FAIL(fault.text);
}

// fixture_range asks for bytes of a file from the drives of a mask.
static inline struct disk_range fixture_range(const struct fixture *f, uint32_t file,
                                              uint32_t drives, uint64_t off, uint64_t bytes,
                                              uint64_t dst)
{
    struct disk_range range = {.off = off, .bytes = bytes, .dst = dst};
    for (uint32_t d = 0; d < f->drives_n; d++)
        if (drives & 1u << d)
            range.file[range.files_n++] = f->file[d][file];
    return range;
}

static inline struct disk_read fixture_read(const struct fixture *f, uint64_t id, uint32_t file,
                                            uint32_t drives, uint64_t off, uint64_t bytes)
{
    struct disk_read read = {.id = id, .buffer = (uint32_t)(id % FIXTURE_BUFFERS), .ranges_n = 1};
    read.range[0] = fixture_range(f, file, drives, off, bytes, 0);
    return read;
}

static inline bool fixture_same(const struct fixture *f, const struct disk_read *read,
                                uint32_t file)
{
    const unsigned char *buffer = f->buffers[read->buffer].iov_base;
    for (uint32_t i = 0; i < read->ranges_n; i++) {
        const struct disk_range *range = &read->range[i];
        if (memcmp(buffer + range->dst + range->off % DISK_ALIGN, f->bytes[file] + range->off,
                   range->bytes) != 0)
            return false;
    }
    return true;
}

// fixture_done waits for the next completion, as long as it takes.
static inline struct disk_done fixture_done(const struct fixture *f)
{
    struct disk_done done;
    CHECK(disk_reader_wait(f->reader, &done, 1, -1) == 1);
    return done;
}
