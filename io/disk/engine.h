// SPDX-License-Identifier: MIT
// engine: how requests reach the kernel and come back: one table of functions with two rows,
// io_uring (ring.c) and a pool of threads that call pread (threads.c).
// Owner: open and close one thread before and after the disk thread, send, cancel and wait the disk
// thread alone.  Neither retries, nor knows reads, drives' rates or faults.
#pragma once
#include "io/disk/reader.h"

struct engine_file {
    int fd;
    uint32_t drive;
};

struct engine_params {
    const struct engine_file *files; // [files_n], stays
    uint32_t files_n;
    const struct iovec *buffers; // [buffers_n], stays
    uint32_t buffers_n;
    uint32_t drives_n, depth; // requests in flight a drive
    int wake_fd;              // an eventfd: wait returns when it was signalled, and clears it
};

#define ENGINE_NO_BUFFER UINT32_MAX

struct engine_request {
    uint32_t tag; // unique among those in flight
    uint32_t file;
    uint64_t off;
    uint32_t bytes;
    uint32_t buffer; // number of the buffer that dst lies in, or ENGINE_NO_BUFFER
    void *dst;
};

struct engine_done {
    uint32_t tag;
    int32_t res; // bytes, or -errno
};

struct engine_io; // each row's own

struct engine_table {
    // open: 0, or -errno with a sentence.  note: [FAULT_TEXT_MAX] a warning, "" for none.
    int (*open)(const struct engine_params *params, struct engine_io **ret, char *note,
                struct fault *fault);
    void (*close)(struct engine_io **io); // nothing is in flight
    // send queues a request; it goes at the latest with the next wait.
    void (*send)(struct engine_io *io, const struct engine_request *request);
    // cancel asks for an early end of a request, which comes back in any case, if ever.
    void (*cancel)(struct engine_io *io, uint32_t tag);
    // wait sends what is queued and takes completions; waits up to timeout_ns (-1: for ever) for
    // the first or for a wake.  Returns how many, 0 after a wake or the time.
    uint32_t (*wait)(struct engine_io *io, struct engine_done *ret, uint32_t max,
                     int64_t timeout_ns);
    int (*describe)(const struct engine_io *io, char *buf, size_t buf_bytes);
};

extern const struct engine_table ring_table;
extern const struct engine_table threads_table;

// ring_allowed says whether io_uring can be used: 0, -EPERM or -ENOTSUP with a sentence.
int ring_allowed(struct fault *fault);
