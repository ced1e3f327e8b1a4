// SPDX-License-Identifier: MIT
#include "io/disk/engine.h"

#include "base/wake.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

// User data of what is no request of the reader.
#define RING_WAKE   (1ull << 32)
#define RING_CANCEL (1ull << 33)

#define RING_ENTRIES_MAX 4096u        // of one batch; more only means another submission
#define RING_BUFFERS_MAX 16384u       // the kernel's limit
#define RING_BUFFER_MAX  (1ull << 30) // the kernel's limit: larger ones are registered in parts

struct engine_io {
    struct io_uring ring;
    bool ring_open, enabled, armed;
    bool files_registered, buffers_registered;
    const char *mode;
    const struct engine_file *files;
    const struct iovec *buffers;
    uint32_t *buffer_first; // [buffers_n] registered number of a buffer's first part
    int wake_fd;
    uint64_t registered_bytes;
};

static int forbidden(int err, struct fault *fault)
{
    if (err == EPERM || err == EACCES)
        return fault_set(fault, EPERM,
                         "io_uring is forbidden here: allow it (sysctl kernel.io_uring_disabled=0, "
                         "and in the container's seccomp profile), or set engine pread");
    if (err == ENOSYS || err == EINVAL || err == EOPNOTSUPP)
        return fault_set(fault, ENOTSUP,
                         "this kernel has no io_uring that expertd can use (5.11 or later is "
                         "needed): set engine pread");
    return fault_set(fault, err, "cannot make an io_uring: %s", strerror(err));
}

int ring_allowed(struct fault *fault)
{
    struct io_uring ring;
    int err = io_uring_queue_init(4, &ring, 0);
    if (err < 0)
        return forbidden(-err, fault);
    bool usable = ring.features & IORING_FEAT_EXT_ARG; // a wait with a time
    io_uring_queue_exit(&ring);
    return usable ? 0 : forbidden(ENOSYS, fault);
}

// ring_restrict: once enabled the ring reads, polls and cancels, and nothing else: a filter of
// system calls does not see what a ring opens, connects or writes.
static int ring_restrict(struct engine_io *io)
{
    static const uint8_t operations[] = {IORING_OP_READ, IORING_OP_READ_FIXED, IORING_OP_POLL_ADD,
                                         IORING_OP_ASYNC_CANCEL};
    struct io_uring_restriction list[sizeof(operations) + 1] = {
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE}};
    for (size_t i = 0; i < sizeof(operations); i++) {
        list[i + 1].opcode = IORING_RESTRICTION_SQE_OP;
        list[i + 1].sqe_op = operations[i];
    }
    long err = syscall(__NR_io_uring_register, io->ring.ring_fd, IORING_REGISTER_RESTRICTIONS, list,
                       sizeof(list) / sizeof(list[0]));
    return err < 0 ? -errno : 0;
}

// DEFER_TASKRUN: completions are worked on when the disk thread asks, not by interrupting it.  The
// ring starts disabled, so that the thread that enables it becomes its only issuer.
// Completions have room for every request and its cancellation, however few go in one batch.
static int ring_init(struct engine_io *io, uint32_t wanted)
{
    static const struct {
        unsigned flags;
        const char *mode;
    } tries[] = {
        {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, "deferred"}, // 6.1
        {IORING_SETUP_COOP_TASKRUN, "cooperative"},                            // 5.19
        {0, "plain"},
    };
    uint32_t entries = 8, completions = 16;
    while (entries < wanted && entries < RING_ENTRIES_MAX)
        entries *= 2;
    while (completions < 2 * wanted)
        completions *= 2;
    int err = -EINVAL;
    for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]) && err == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = tries[i].flags | IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
            .cq_entries = completions,
        };
        err = io_uring_queue_init_params(entries, &io->ring, &params);
        io->mode = tries[i].mode;
    }
    io->ring_open = err == 0;
    return err == 0 ? ring_restrict(io) : err;
}

static uint32_t parts(const struct iovec *buffer)
{
    return buffer->iov_len == 0
               ? 1
               : (uint32_t)((buffer->iov_len + RING_BUFFER_MAX - 1) / RING_BUFFER_MAX);
}

static void register_note(const struct engine_io *io, int err, char *note)
{
    struct rlimit limit = {0};
    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (err == -ENOMEM && limit.rlim_cur != RLIM_INFINITY)
        snprintf(note, FAULT_TEXT_MAX,
                 "%llu MiB of buffers cannot be registered with io_uring, the limit of locked "
                 "memory is %llu KiB (ulimit -l, LimitMEMLOCK=): reads cost more CPU time",
                 (unsigned long long)(io->registered_bytes >> 20),
                 (unsigned long long)limit.rlim_cur >> 10);
    else
        snprintf(note, FAULT_TEXT_MAX,
                 "%llu MiB of buffers cannot be registered with io_uring (%s): reads cost more CPU "
                 "time",
                 (unsigned long long)(io->registered_bytes >> 20), strerror(-err));
}

static int register_buffers(struct engine_io *io, const struct engine_params *params, char *note)
{
    uint32_t total = 0;
    io->buffer_first = malloc((params->buffers_n + 1) * sizeof(*io->buffer_first));
    if (!io->buffer_first)
        return -ENOMEM;
    for (uint32_t i = 0; i < params->buffers_n; i++) {
        io->buffer_first[i] = total;
        total += parts(&params->buffers[i]);
        io->registered_bytes += params->buffers[i].iov_len;
    }
    struct iovec *list = total ? calloc(total, sizeof(*list)) : NULL;
    if (total && !list)
        return -ENOMEM;
    for (uint32_t i = 0; i < params->buffers_n; i++)
        for (uint32_t k = 0; k < parts(&params->buffers[i]); k++) {
            uint64_t from = k * RING_BUFFER_MAX;
            uint64_t left = params->buffers[i].iov_len - from;
            list[io->buffer_first[i] + k] = (struct iovec){
                .iov_base = (char *)params->buffers[i].iov_base + from,
                .iov_len = left < RING_BUFFER_MAX ? left : RING_BUFFER_MAX,
            };
        }
    int err = total == 0                 ? -ENOENT
              : total > RING_BUFFERS_MAX ? -E2BIG
                                         : io_uring_register_buffers(&io->ring, list, total);
    free(list);
    io->buffers_registered = err == 0;
    if (err < 0 && total > 0)
        register_note(io, err, note);
    return 0;
}

static int register_files(struct engine_io *io, const struct engine_params *params, char *note)
{
    int *fds = calloc(params->files_n + 1, sizeof(*fds));
    if (!fds)
        return -ENOMEM;
    for (uint32_t i = 0; i < params->files_n; i++)
        fds[i] = params->files[i].fd;
    int err = io_uring_register_files(&io->ring, fds, params->files_n);
    free(fds);
    io->files_registered = err == 0;
    if (err < 0 && !note[0])
        snprintf(note, FAULT_TEXT_MAX, "%u files cannot be registered with io_uring (%s)",
                 params->files_n, strerror(-err));
    return 0;
}

static void ring_close(struct engine_io **io)
{
    if (!*io)
        return;
    if ((*io)->ring_open)
        io_uring_queue_exit(&(*io)->ring);
    free((*io)->buffer_first);
    free(*io);
    *io = NULL;
}

static int ring_open(const struct engine_params *params, struct engine_io **ret, char *note,
                     struct fault *fault)
{
    note[0] = '\0';

    struct engine_io *io = calloc(1, sizeof(*io));
    if (!io)
        return fault_set(fault, ENOMEM, "no memory for the drives' ring");
    io->files = params->files;
    io->buffers = params->buffers;
    io->wake_fd = params->wake_fd;

    int err = ring_init(io, params->drives_n * (params->depth + 1) + 1);
    if (err < 0) {
        forbidden(-err, fault);
        goto fail;
    }
    err = register_buffers(io, params, note);
    if (err == 0 && params->files_n > 0)
        err = register_files(io, params, note);
    if (err < 0) {
        fault_set(fault, -err, "no memory for the drives' ring");
        goto fail;
    }
    *ret = io;
    return 0;

fail:
    ring_close(&io);
    return err;
}

static struct io_uring_sqe *ring_sqe(struct engine_io *io)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
    while (!sqe) { // the batch is full: send it
        io_uring_submit(&io->ring);
        sqe = io_uring_get_sqe(&io->ring);
    }
    return sqe;
}

// The disk thread sleeps in one place: the eventfd is one more request of the ring.
static void ring_arm(struct engine_io *io)
{
    struct io_uring_sqe *sqe = ring_sqe(io);
    io_uring_prep_poll_add(sqe, io->wake_fd, POLLIN);
    sqe->user_data = RING_WAKE;
    io->armed = true;
}

static void ring_begin(struct engine_io *io)
{
    if (io->enabled)
        return;
    io->enabled = true;
    // liburing 2.3 declares io_uring_enable_rings but does not export it.
    long err =
        syscall(__NR_io_uring_register, io->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    assert(err == 0); // ours: it was made disabled
    (void)err;
}

static void ring_send(struct engine_io *io, const struct engine_request *request)
{
    ring_begin(io);
    const struct engine_file *file = &io->files[request->file];
    int fd = io->files_registered ? (int)request->file : file->fd;
    uint32_t index = 0;
    bool fixed = io->buffers_registered && request->buffer != ENGINE_NO_BUFFER;
    if (fixed) {
        const char *base = io->buffers[request->buffer].iov_base;
        uint64_t at = (uint64_t)((const char *)request->dst - base);
        // A piece over the seam of two registered parts goes as an ordinary read.
        fixed = at / RING_BUFFER_MAX == (at + request->bytes - 1) / RING_BUFFER_MAX;
        index = io->buffer_first[request->buffer] + (uint32_t)(at / RING_BUFFER_MAX);
    }

    struct io_uring_sqe *sqe = ring_sqe(io);
    if (fixed)
        io_uring_prep_read_fixed(sqe, fd, request->dst, request->bytes, request->off, (int)index);
    else
        io_uring_prep_read(sqe, fd, request->dst, request->bytes, request->off);
    if (io->files_registered)
        sqe->flags |= IOSQE_FIXED_FILE;
    sqe->user_data = request->tag;
}

static void ring_cancel(struct engine_io *io, uint32_t tag)
{
    struct io_uring_sqe *sqe = ring_sqe(io);
    io_uring_prep_cancel64(sqe, tag, 0);
    sqe->user_data = RING_CANCEL;
}

static uint32_t ring_take(struct engine_io *io, struct engine_done *ret, uint32_t max)
{
    uint32_t n = 0;
    struct io_uring_cqe *cqe;
    while (n < max && io_uring_peek_cqe(&io->ring, &cqe) == 0) {
        if (cqe->user_data == RING_WAKE) {
            io->armed = false;
            wake_clear(io->wake_fd);
        } else if (cqe->user_data != RING_CANCEL) {
            ret[n++] = (struct engine_done){.tag = (uint32_t)cqe->user_data, .res = cqe->res};
        }
        io_uring_cqe_seen(&io->ring, cqe);
    }
    return n;
}

static uint32_t ring_wait(struct engine_io *io, struct engine_done *ret, uint32_t max,
                          int64_t timeout_ns)
{
    ring_begin(io);
    if (!io->armed)
        ring_arm(io);
    if (timeout_ns == 0) {
        io_uring_submit_and_get_events(&io->ring);
        return ring_take(io, ret, max);
    }
    struct io_uring_cqe *cqe;
    struct __kernel_timespec ts = {.tv_sec = timeout_ns / 1000000000,
                                   .tv_nsec = timeout_ns % 1000000000};
    io_uring_submit_and_wait_timeout(&io->ring, &cqe, 1, timeout_ns < 0 ? NULL : &ts, NULL);
    return ring_take(io, ret, max);
}

static int ring_describe(const struct engine_io *io, char *buf, size_t buf_bytes)
{
    return snprintf(buf, buf_bytes, "io_uring (%s task work), buffers %s, files %s", io->mode,
                    io->buffers_registered ? "registered" : "not registered",
                    io->files_registered ? "registered" : "not registered");
}

const struct engine_table ring_table = {.open = ring_open,
                                        .close = ring_close,
                                        .send = ring_send,
                                        .cancel = ring_cancel,
                                        .wait = ring_wait,
                                        .describe = ring_describe};
