// SPDX-License-Identifier: MIT
// reader: pieces of files on drives, read into registered memory, many at once.
//
// One thread (disk) owns one io_uring over all drives of its group: files and destination buffers
// registered, O_DIRECT, submissions in batches, completions harvested in batches.  A read is a set
// of ranges; each is cut into pieces of read_size; a piece goes to the drive (of those that hold a
// copy of its file) that is expected to finish it first, while at most queue_depth pieces a drive
// are in flight.  Reads go in the order of their submission; speculative ones only while no wanted
// piece waits.  A failed piece is retried, on another copy first; a drive that keeps failing is
// left alone (circuit breaker) and probed until it answers.
//
// Threads: create, file_add, start, destroy: one thread before and after all else.  submit, cancel,
// want, wait: one thread (step).  stats: any thread.  What it does not do: know experts, choose
// what to read, own the destination memory.  Source: doc/streaming.md.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define DISK_DRIVES_MAX 16u
#define DISK_COPIES_MAX 8u    // files that hold the same bytes
#define DISK_RANGES_MAX 8u    // ranges of one read
#define DISK_ALIGN      4096u // of file offsets, destinations and lengths
#define DISK_READS_MAX  4096u // reads submitted and not yet done

enum disk_engine {
    DISK_ENGINE_AUTO,     // io_uring, or pread with a warning where that is forbidden
    DISK_ENGINE_IO_URING, // -ENOTSUP / -EPERM where it is forbidden (the sentence names the sysctl)
    DISK_ENGINE_PREAD,    // queue_depth threads a drive, same results
    DISK_ENGINE_COUNT
};
extern const char *const disk_engine_name[DISK_ENGINE_COUNT]; // "auto", "io_uring", "pread"

struct disk_params {
    enum disk_engine engine;
    bool buffered;        // never O_DIRECT (measurements; a file system may force it too)
    uint32_t queue_depth; // pieces in flight a drive, 1..512; 0: chosen by disk_reader_probe or 32
    uint32_t read_size;   // bytes of a piece, multiple of DISK_ALIGN, 64 KiB..16 MiB; 0: chosen by
                          // disk_reader_probe or 1 MiB
    uint64_t timeout_us;  // a piece that takes longer has failed, 10 ms..1 h
    uint32_t retries;     // of a failed piece, besides other copies: 0..10
    const struct iovec *buffers; // [buffers_n] destinations, each aligned to DISK_ALIGN, not moved
    uint32_t buffers_n;          // <= 16384.  Registered if the limits allow, else a warning
    // check is called on the disk thread when all bytes of a read are there: 0, or -EBADMSG for
    // bytes that are not what they should be (read again, then the read fails).  May be NULL.
    int (*check)(void *user, uint64_t id, const void *buffer);
    void *check_user;
    // wake is called on the disk thread after completions were queued (may be NULL).
    void (*wake)(void *user);
    void *wake_user;
};

struct disk_reader; // opaque

// disk_reader_create takes memory and the ring; no thread runs yet.
// Errors: -EPERM, -ENOTSUP as disk_engine says; -ENOMEM; -EINVAL a parameter out of range (named).
int disk_reader_create(const struct disk_params *params, struct disk_reader **ret,
                       struct fault *fault);
// disk_reader_drive_add names a drive (for messages and metrics): a directory, a device, a pack.
int disk_reader_drive_add(struct disk_reader *r, const char *name, uint32_t *ret_drive,
                          struct fault *fault);
// disk_reader_file_add opens a regular file or block device of a drive for O_DIRECT; a file system
// that refuses it, or needs more than DISK_ALIGN, is read through the page cache with one warning.
// Errors: -errno of open or stat, -EINVAL neither of the two kinds; the path is named.
int disk_reader_file_add(struct disk_reader *r, uint32_t drive, const char *path,
                         uint32_t *ret_file, struct fault *fault);
// disk_reader_probe measures read_size and queue_depth where they are 0, by short reads of the
// files into the buffers (at most some 0.5 s in all).  Before start.
int disk_reader_probe(struct disk_reader *r, struct fault *fault);
// disk_reader_start starts the thread.
int disk_reader_start(struct disk_reader *r, struct fault *fault);
// disk_reader_destroy cancels what is in flight, waits for it (a drive that never answers holds
// only its own memory: the buffers must then stay; returns false), joins and frees.
bool disk_reader_destroy(struct disk_reader **r);

// Bytes off .. off + bytes - 1 of a file (any alignment), which several files may hold alike.
// They land at buffer + dst + off % DISK_ALIGN; the whole aligned surroundings land with them, so
// round_up(off % DISK_ALIGN + bytes, DISK_ALIGN) bytes from dst on must belong to the read.
struct disk_range {
    uint64_t off, bytes;
    uint64_t dst; // in the buffer, multiple of DISK_ALIGN
    uint32_t file[DISK_COPIES_MAX];
    uint32_t files_n; // 1..DISK_COPIES_MAX
};

struct disk_read {
    uint64_t id;       // the caller's; unique among reads that are not done
    uint32_t buffer;   // number in params.buffers
    bool speculative;  // see disk_reader_want
    uint32_t ranges_n; // 1..DISK_RANGES_MAX
    struct disk_range range[DISK_RANGES_MAX];
};

// disk_reader_submit queues reads [n] in their order.  -ENOSPC beyond DISK_READS_MAX (none queued),
// -EINVAL a range beyond the buffer or file (the plan is wrong; nothing queued).
int disk_reader_submit(struct disk_reader *r, const struct disk_read *reads, uint32_t n);
// disk_reader_want makes a speculative read a wanted one, at the end of the queue of those.
void disk_reader_want(struct disk_reader *r, uint64_t id);
// disk_reader_cancel drops what has not been sent to a drive; a completion (-ECANCELED, or 0 if all
// was there already) follows as for every read.
void disk_reader_cancel(struct disk_reader *r, uint64_t id);

struct disk_done {
    uint64_t id;
    int err; // 0; -ECANCELED; -EIO; -ETIMEDOUT; -EBADMSG (check, or file shorter than asked)
    // A drive that did not answer in time may still write into the buffer: keep the buffer; a
    // second disk_done with the same id and in_flight false follows once it cannot.  With err 0
    // another copy gave the bytes: they are there and may be used, what the late drive writes are
    // the same ones.
    bool in_flight;
    uint32_t drive;                          // whose piece came last, or failed
    uint64_t queued_ns, first_ns, landed_ns; // CLOCK_MONOTONIC: submit, first piece sent, all there
    uint64_t bytes;     // read from drives for it, surroundings and retries too
    struct fault fault; // err: file, offset and reason
};

// disk_reader_wait takes completions, oldest first; waits up to timeout_us (0: does not, -1: for
// ever) for the first.  Returns how many.
uint32_t disk_reader_wait(struct disk_reader *r, struct disk_done *ret, uint32_t max,
                          int64_t timeout_us);

struct disk_drive_stats {
    char name[256];
    bool open;      // the circuit breaker is open or half-open: the drive is failing
    uint64_t bytes; // read
    uint64_t pieces, retries, errors, timeouts, mismatches;
    uint64_t busy_ns;      // time with at least one piece in flight
    uint32_t in_flight;    // now
    uint64_t bytes_second; // moving average while busy
};
uint32_t disk_reader_drives(const struct disk_reader *r);
void disk_reader_stats(const struct disk_reader *r, uint32_t drive, struct disk_drive_stats *ret);
// What was chosen, for the start log: engine, registered or not, direct or not, sizes.
int disk_reader_describe(const struct disk_reader *r, char *buf, size_t buf_bytes);
// disk_reader_warning returns the i-th warning (fallbacks, limits), NULL beyond the last; for the
// log, after start.  Valid until destroy.
const char *disk_reader_warning(const struct disk_reader *r, uint32_t i);
uint64_t disk_reader_cpu_ns(const struct disk_reader *r); // CPU time of the disk thread
