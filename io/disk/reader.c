// SPDX-License-Identifier: MIT
#include "io/disk/reader.h"

#include "base/wake.h"
#include "io/disk/state.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE_MIN (64u << 10)
#define READ_SIZE_MAX (16u << 20)
#define DEPTH_MAX     512u
#define BUFFERS_MAX   16384u
#define TIMEOUT_MIN   10000ull
#define TIMEOUT_MAX   3600000000ull
#define RETRIES_MAX   10u

const char *const disk_engine_name[DISK_ENGINE_COUNT] = {
    [DISK_ENGINE_AUTO] = "auto",
    [DISK_ENGINE_IO_URING] = "io_uring",
    [DISK_ENGINE_PREAD] = "pread",
};

static uint64_t clockid_ns(clockid_t clock)
{
    struct timespec ts;
    if (clock_gettime(clock, &ts) < 0)
        return 0;
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void reader_warn(struct disk_reader *r, const char *format, ...)
{
    if (r->warnings_n == WARNINGS_MAX)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(r->warnings[r->warnings_n++], FAULT_TEXT_MAX, format, args);
    va_end(args);
}

const char *disk_reader_warning(const struct disk_reader *r, uint32_t i)
{
    return i < r->warnings_n ? r->warnings[i] : NULL;
}

// Parameters come from a configuration: each is named.
static int params_check(const struct disk_params *p, struct fault *fault)
{
    if ((unsigned)p->engine >= DISK_ENGINE_COUNT)
        return fault_set(fault, EINVAL, "engine %u: there is no such", (unsigned)p->engine);
    if (p->queue_depth > DEPTH_MAX)
        return fault_set(fault, EINVAL, "queue_depth %u: 0 (chosen) to %u", p->queue_depth,
                         DEPTH_MAX);
    if (p->read_size != 0 && (p->read_size % DISK_ALIGN != 0 || p->read_size < READ_SIZE_MIN ||
                              p->read_size > READ_SIZE_MAX))
        return fault_set(fault, EINVAL,
                         "read_size %u: 0 (chosen), or a multiple of %u from %u to %u",
                         p->read_size, DISK_ALIGN, READ_SIZE_MIN, READ_SIZE_MAX);
    if (p->timeout_us < TIMEOUT_MIN || p->timeout_us > TIMEOUT_MAX)
        return fault_set(fault, EINVAL, "timeout_us %llu: 10 ms to 1 h",
                         (unsigned long long)p->timeout_us);
    if (p->retries > RETRIES_MAX)
        return fault_set(fault, EINVAL, "retries %u: 0 to %u", p->retries, RETRIES_MAX);
    if (p->buffers_n == 0 || p->buffers_n > BUFFERS_MAX)
        return fault_set(fault, EINVAL, "buffers_n %u: 1 to %u", p->buffers_n, BUFFERS_MAX);
    for (uint32_t i = 0; i < p->buffers_n; i++)
        if ((uintptr_t)p->buffers[i].iov_base % DISK_ALIGN != 0)
            return fault_set(fault, EINVAL, "buffer %u is not aligned to %u", i, DISK_ALIGN);
    return 0;
}

static int choose_engine(struct disk_reader *r, struct fault *fault)
{
    struct fault why = {0};
    r->table = &threads_table;
    if (r->params.engine == DISK_ENGINE_PREAD)
        return 0;
    int err = ring_allowed(&why);
    if (err == 0) {
        r->table = &ring_table;
        return 0;
    }
    if (r->params.engine == DISK_ENGINE_IO_URING)
        return fault_set(fault, why.err, "%s", why.text);
    reader_warn(r, "%s; reading with pread", why.text);
    return 0;
}

static int reader_alloc(struct disk_reader *r)
{
    const struct disk_params *p = &r->params;
    r->buffers = malloc(p->buffers_n * sizeof(*r->buffers));
    r->drives = calloc(DISK_DRIVES_MAX, sizeof(*r->drives));
    r->ids = calloc(IDS_N, sizeof(*r->ids));
    r->reads = calloc(DISK_READS_MAX, sizeof(*r->reads));
    if (!r->buffers || !r->drives || !r->ids || !r->reads)
        return -ENOMEM;
    memcpy(r->buffers, p->buffers, p->buffers_n * sizeof(*r->buffers));
    r->params.buffers = r->buffers;
    for (uint32_t i = 0; i < DISK_READS_MAX; i++)
        r->reads[i].next = i + 1 < DISK_READS_MAX ? i + 1 : NONE;
    int err = ring_create(COMMANDS_N, sizeof(struct command), &r->commands);
    if (err == 0)
        err = ring_create(DONES_N, sizeof(struct done_entry), &r->dones);
    if (err == 0)
        err = r->disk_fd = wake_open();
    if (err >= 0)
        err = r->step_fd = wake_open();
    return err < 0 ? err : 0;
}

void reader_free(struct disk_reader *r)
{
    if (r->io)
        r->table->close(&r->io);
    for (uint32_t i = 0; i < r->files_n; i++) {
        close(r->engine_files[i].fd);
        free(r->files[i].path);
    }
    free(r->files);
    free(r->engine_files);
    if (r->disk_fd >= 0)
        close(r->disk_fd);
    if (r->step_fd >= 0)
        close(r->step_fd);
    ring_destroy(&r->commands);
    ring_destroy(&r->dones);
    free(r->probe_memory);
    free(r->pieces);
    free(r->reads);
    free(r->ids);
    free(r->drives);
    free(r->buffers);
    free(r);
}

int disk_reader_create(const struct disk_params *params, struct disk_reader **ret,
                       struct fault *fault)
{
    int err = params_check(params, fault);
    if (err < 0)
        return err;
    struct disk_reader *r = calloc(1, sizeof(*r));
    if (!r)
        return fault_set(fault, ENOMEM, "no memory for the reader of the drives");
    r->params = *params;
    r->disk_fd = r->step_fd = -1;
    r->wanted = r->speculative = r->waiting = (struct list){NONE, NONE};
    err = choose_engine(r, fault);
    if (err == 0) {
        err = reader_alloc(r);
        if (err < 0)
            fault_set(fault, -err, "cannot make the reader of the drives: %s", strerror(-err));
    }
    if (err < 0) {
        reader_free(r);
        return err;
    }
    *ret = r;
    return 0;
}

int disk_reader_drive_add(struct disk_reader *r, const char *name, uint32_t *ret_drive,
                          struct fault *fault)
{
    if (r->drives_n == DISK_DRIVES_MAX)
        return fault_set(fault, EINVAL, "%s: more than %u drives", name, DISK_DRIVES_MAX);
    struct reader_drive *drive = &r->drives[r->drives_n];
    snprintf(drive->name, sizeof(drive->name), "%s", name);
    drive->flying = (struct list){NONE, NONE};
    drive_init(&drive->drive, DEPTH_DEFAULT);
    *ret_drive = r->drives_n++;
    return 0;
}

void disk_reader_seam_set(struct disk_reader *r, const struct disk_seam *seam)
{
    r->seam = seam;
}

// What depends on the number of drives and the depth.
static int pieces_alloc(struct disk_reader *r)
{
    // Twice what may fly: a piece that is stuck and the one that took its job over.
    r->pieces_n = r->drives_n * (1 + 2 * r->params.queue_depth);
    r->pieces = calloc(r->pieces_n + 1, sizeof(*r->pieces));
    r->probe_memory = aligned_alloc(DISK_ALIGN, (size_t)(r->drives_n + 1) * DISK_ALIGN);
    if (!r->pieces || !r->probe_memory)
        return -ENOMEM;
    r->free_pieces = NONE;
    for (uint32_t i = r->pieces_n; i-- > r->drives_n;) {
        r->pieces[i].next = r->free_pieces;
        r->free_pieces = i;
        r->pieces_free_n++;
    }
    return 0;
}

int disk_reader_start(struct disk_reader *r, struct fault *fault)
{
    char note[FAULT_TEXT_MAX] = "";
    if (r->params.queue_depth == 0)
        r->params.queue_depth = DEPTH_DEFAULT;
    if (r->params.read_size == 0)
        r->params.read_size = SIZE_DEFAULT;
    for (uint32_t i = 0; i < r->drives_n; i++)
        drive_init(&r->drives[i].drive, r->params.queue_depth);
    if (pieces_alloc(r) < 0)
        return fault_set(fault, ENOMEM, "no memory for %u drives at queue_depth %u", r->drives_n,
                         r->params.queue_depth);
    struct engine_params params = {
        .files = r->engine_files,
        .files_n = r->files_n,
        .buffers = r->buffers,
        .buffers_n = r->params.buffers_n,
        .drives_n = r->drives_n,
        .depth = r->params.queue_depth,
        .wake_fd = r->disk_fd,
    };
    int err = r->table->open(&params, &r->io, note, fault);
    if (err < 0)
        return err;
    if (note[0])
        reader_warn(r, "%s", note);
    err = pthread_create(&r->thread, NULL, loop_main, r);
    if (err != 0)
        return fault_set(fault, err, "cannot start the thread of the drives: %s", strerror(err));
    pthread_setname_np(r->thread, "disk");
    if (pthread_getcpuclockid(r->thread, &r->thread_clock) != 0)
        r->thread_clock = CLOCK_THREAD_CPUTIME_ID;
    r->started = true;
    return 0;
}

static void wait_readable(int fd, int64_t timeout_us)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    struct timespec ts = {.tv_sec = timeout_us / 1000000, .tv_nsec = timeout_us % 1000000 * 1000};
    ppoll(&pollfd, 1, timeout_us < 0 ? NULL : &ts, NULL); // EINTR: the caller looks again
    wake_clear(fd);
}

bool disk_reader_destroy(struct disk_reader **pr)
{
    struct disk_reader *r = *pr;
    *pr = NULL;
    if (!r)
        return true;
    if (r->started) {
        pthread_t thread = r->thread;
        atomic_store_explicit(&r->stop_asked, 1, memory_order_release);
        wake_signal(r->disk_fd);
        for (;;) {
            unsigned state = STOP_STUCK;
            // From here on the thread may free the reader at any time.
            if (atomic_compare_exchange_strong(&r->stop, &state, STOP_ABANDONED)) {
                pthread_detach(thread);
                return false;
            }
            if (state == STOP_FINISHED)
                break;
            wait_readable(r->step_fd, -1);
        }
        pthread_join(thread, NULL);
    }
    reader_free(r);
    return true;
}

// The table of ids: open addressing, a hole is never left before an entry (backward shift).
static uint32_t ids_home(uint64_t id)
{
    return (uint32_t)((id * 0x9e3779b97f4a7c15ull) >> 51) & (IDS_N - 1);
}

static uint32_t ids_find(const struct disk_reader *r, uint64_t id)
{
    for (uint32_t i = ids_home(id);; i = (i + 1) & (IDS_N - 1)) {
        if (r->ids[i] == 0)
            return NONE;
        if (r->reads[r->ids[i] - 1].in.id == id)
            return i;
    }
}

static void ids_add(struct disk_reader *r, uint32_t read)
{
    uint32_t i = ids_home(r->reads[read].in.id);
    while (r->ids[i] != 0)
        i = (i + 1) & (IDS_N - 1);
    r->ids[i] = read + 1;
}

static void ids_remove(struct disk_reader *r, uint64_t id)
{
    uint32_t hole = ids_find(r, id);
    assert(hole != NONE);
    for (uint32_t i = (hole + 1) & (IDS_N - 1); r->ids[i] != 0; i = (i + 1) & (IDS_N - 1)) {
        uint32_t home = ids_home(r->reads[r->ids[i] - 1].in.id);
        if (((i - home) & (IDS_N - 1)) < ((i - hole) & (IDS_N - 1)))
            continue; // it would come before its home
        r->ids[hole] = r->ids[i];
        hole = i;
    }
    r->ids[hole] = 0;
}

static bool range_valid(const struct disk_reader *r, const struct disk_range *range,
                        uint64_t buffer_bytes)
{
    if (range->bytes == 0 || range->files_n == 0 || range->files_n > DISK_COPIES_MAX ||
        range->dst % DISK_ALIGN != 0 || range->bytes > buffer_bytes)
        return false;
    uint64_t landed =
        (range->off % DISK_ALIGN + range->bytes + DISK_ALIGN - 1) & ~(uint64_t)(DISK_ALIGN - 1);
    if (landed > buffer_bytes || range->dst > buffer_bytes - landed)
        return false;
    for (uint32_t i = 0; i < range->files_n; i++)
        if (range->file[i] >= r->files_n || range->off > r->files[range->file[i]].bytes ||
            range->bytes > r->files[range->file[i]].bytes - range->off)
            return false;
    return true;
}

static bool read_valid(const struct disk_reader *r, const struct disk_read *read)
{
    if (read->buffer >= r->params.buffers_n || read->ranges_n == 0 ||
        read->ranges_n > DISK_RANGES_MAX || ids_find(r, read->id) != NONE)
        return false;
    for (uint32_t i = 0; i < read->ranges_n; i++)
        if (!range_valid(r, &read->range[i], r->buffers[read->buffer].iov_len))
            return false;
    return true;
}

// kick wakes the disk thread if it sleeps; pairs with loop_wait.
static void kick(struct disk_reader *r)
{
    if (atomic_exchange_explicit(&r->disk_sleeps, 0, memory_order_acq_rel))
        wake_signal(r->disk_fd);
}

static void command_push(struct disk_reader *r, enum command_kind kind, uint32_t read)
{
    struct command command = {.kind = (uint32_t)kind, .read = read};
    bool pushed = ring_push(r->commands, &command);
    assert(pushed); // sized for all that can wait
    (void)pushed;
}

int disk_reader_submit(struct disk_reader *r, const struct disk_read *reads, uint32_t n)
{
    if (n > DISK_READS_MAX - r->reads_n)
        return -ENOSPC;
    for (uint32_t i = 0; i < n; i++)
        if (!read_valid(r, &reads[i]))
            return -EINVAL;
    uint64_t now_ns = clock_ns();
    for (uint32_t i = 0; i < n; i++) {
        uint32_t number = r->free_reads;
        struct reading *read = &r->reads[number];
        r->free_reads = read->next;
        r->reads_n++;
        read->in = reads[i];
        read->done = (struct disk_done){.id = reads[i].id, .queued_ns = now_ns};
        read->want_told = !reads[i].speculative;
        read->cancel_told = false;
        ids_add(r, number);
        command_push(r, COMMAND_SUBMIT, number);
    }
    if (n > 0)
        kick(r);
    return 0;
}

void disk_reader_want(struct disk_reader *r, uint64_t id)
{
    uint32_t at = ids_find(r, id);
    if (at == NONE || r->reads[r->ids[at] - 1].want_told)
        return;
    r->reads[r->ids[at] - 1].want_told = true;
    command_push(r, COMMAND_WANT, r->ids[at] - 1);
    kick(r);
}

void disk_reader_cancel(struct disk_reader *r, uint64_t id)
{
    uint32_t at = ids_find(r, id);
    if (at == NONE || r->reads[r->ids[at] - 1].cancel_told)
        return;
    r->reads[r->ids[at] - 1].cancel_told = true;
    command_push(r, COMMAND_CANCEL, r->ids[at] - 1);
    kick(r);
}

static uint32_t take_dones(struct disk_reader *r, struct disk_done *ret, uint32_t max)
{
    uint32_t n = 0;
    struct done_entry entry;
    while (n < max && ring_pop(r->dones, &entry)) {
        struct reading *read = &r->reads[entry.read];
        ret[n] = read->done;
        if (entry.kind == DONE_SECOND)
            ret[n].in_flight = false;
        n++;
        if (entry.kind == DONE_FIRST)
            continue;
        ids_remove(r, read->in.id);
        read->next = r->free_reads;
        r->free_reads = entry.read;
        r->reads_n--;
    }
    return n;
}

uint32_t disk_reader_wait(struct disk_reader *r, struct disk_done *ret, uint32_t max,
                          int64_t timeout_us)
{
    uint64_t end_ns = timeout_us > 0 ? clock_ns() + (uint64_t)timeout_us * 1000 : 0;
    for (;;) {
        uint32_t n = take_dones(r, ret, max);
        if (n > 0 || timeout_us == 0 || max == 0)
            return n;
        int64_t left_us = -1;
        if (timeout_us > 0) {
            uint64_t now_ns = clock_ns();
            if (now_ns >= end_ns)
                return 0;
            left_us = (int64_t)((end_ns - now_ns + 999) / 1000);
        }
        // Pairs with loop_tell: who pushes after this exchange sees the flag and signals.
        atomic_exchange_explicit(&r->step_sleeps, 1, memory_order_acq_rel);
        if (ring_depth(r->dones) == 0)
            wait_readable(r->step_fd, left_us);
        atomic_store_explicit(&r->step_sleeps, 0, memory_order_relaxed);
    }
}

uint32_t disk_reader_drives(const struct disk_reader *r)
{
    return r->drives_n;
}

void disk_reader_stats(const struct disk_reader *r, uint32_t drive, struct disk_drive_stats *ret)
{
    assert(drive < r->drives_n);
    const struct reader_drive *d = &r->drives[drive];
    uint64_t v[sizeof(d->out) / sizeof(d->out[0])];
    for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++)
        v[i] = atomic_load_explicit(&d->out[i], memory_order_relaxed);
    *ret = (struct disk_drive_stats){.open = v[0],
                                     .bytes = v[1],
                                     .pieces = v[2],
                                     .retries = v[3],
                                     .errors = v[4],
                                     .timeouts = v[5],
                                     .mismatches = v[6],
                                     .busy_ns = v[7],
                                     .in_flight = (uint32_t)v[8],
                                     .bytes_second = v[9]};
    memcpy(ret->name, d->name, sizeof(ret->name));
}

int disk_reader_describe(const struct disk_reader *r, char *buf, size_t buf_bytes)
{
    char engine[128] = "not started";
    uint32_t direct = 0;
    for (uint32_t i = 0; i < r->files_n; i++)
        direct += r->files[i].direct;
    if (r->io)
        r->table->describe(r->io, engine, sizeof(engine));
    return snprintf(
        buf, buf_bytes, "%s; %u file%s on %u drive%s, %s; pieces of %u KiB, %u in flight a drive%s",
        engine, r->files_n, r->files_n == 1 ? "" : "s", r->drives_n, r->drives_n == 1 ? "" : "s",
        direct == r->files_n ? "direct"
        : direct == 0        ? "through the page cache"
                             : "some through the page cache",
        r->params.read_size >> 10, r->params.queue_depth, r->chosen_by_probe ? " (measured)" : "");
}

uint64_t disk_reader_cpu_ns(const struct disk_reader *r)
{
    return r->started ? clockid_ns(r->thread_clock) : 0;
}
