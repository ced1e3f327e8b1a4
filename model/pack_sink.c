// SPDX-License-Identifier: MIT
#include "model/pack_sink.h"

#include "model/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS 3u // one being filled, one being written, one between them

struct part {
    struct pack_sink *sink;
    pthread_t thread;
    uint32_t written; // records
};

// Shared under mutex but for params and the buffers between put and written.
struct pack_sink {
    struct pack_sink_params params;
    struct part parts[PACK_PARTS_MAX];
    uint64_t part_off[PACK_PARTS_MAX]; // in a record
    uint32_t threads_n;
    uint8_t *memory; // [SLOTS][stride]
    pthread_mutex_t mutex;
    pthread_cond_t more, less; // records were put, were written
    uint32_t put;              // records
    bool stop;
    struct fault fault; // the first failure
};

static uint8_t *slot(const struct pack_sink *s, uint32_t n)
{
    return s->memory + n % SLOTS * s->params.layout->stride;
}

/* ---------------------------------------------------------------- threads */

static int part_write(const struct pack_sink *s, uint32_t part, uint32_t n, struct fault *fault)
{
    const uint64_t bytes = s->params.layout->part_bytes[part];
    const uint8_t *from = slot(s, n) + s->part_off[part];
    const uint64_t off = (s->params.first + (uint64_t)n) * bytes;
    int fd = s->params.fds[part];

    for (uint64_t at = 0; at < bytes;) {
        ssize_t wrote = pwrite(fd, from + at, (size_t)(bytes - at), (off_t)(off + at));
        int flags;
        if (wrote < 0 && errno == EINTR)
            continue;
        // O_DIRECT that opens but does not write, or goes on at an odd place.
        if (wrote < 0 && errno == EINVAL && (flags = fcntl(fd, F_GETFL)) >= 0 && flags & O_DIRECT &&
            fcntl(fd, F_SETFL, flags & ~O_DIRECT) == 0)
            continue;
        if (wrote <= 0)
            return fault_set(fault, wrote < 0 ? errno : EIO, "%s: writing at byte %llu: %s",
                             file_label(s->params.paths[part]), (unsigned long long)(off + at),
                             strerror(wrote < 0 ? errno : EIO));
        at += (uint64_t)wrote;
    }
    // Nothing to do after O_DIRECT; else the drive begins now and not at the next fdatasync.
    sync_file_range(fd, (off_t)off, (off_t)bytes, SYNC_FILE_RANGE_WRITE);
    return 0;
}

static void *part_thread(void *user)
{
    struct part *part = user;
    struct pack_sink *s = part->sink;
    uint32_t idx = (uint32_t)(part - s->parts);

    pthread_mutex_lock(&s->mutex);
    for (;;) {
        while (!s->stop && part->written == s->put)
            pthread_cond_wait(&s->more, &s->mutex);
        if (s->stop)
            break;
        struct fault fault = {0};
        uint32_t n = part->written;
        pthread_mutex_unlock(&s->mutex);
        int err = part_write(s, idx, n, &fault);
        pthread_mutex_lock(&s->mutex);
        part->written++;
        if (err < 0 && !s->fault.err) {
            s->fault = fault;
            s->stop = true;
            pthread_cond_broadcast(&s->more);
        }
        pthread_cond_signal(&s->less);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* ------------------------------------------------------------------ owner */

// written returns how many records all parts have written.  Under the mutex.
static uint32_t written(const struct pack_sink *s)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t i = 0; i < s->params.layout->parts_n; i++)
        if (s->parts[i].written < least)
            least = s->parts[i].written;
    return least;
}

uint8_t *pack_sink_buffer(struct pack_sink *s)
{
    pthread_mutex_lock(&s->mutex);
    while (!s->fault.err && s->put - written(s) >= SLOTS)
        pthread_cond_wait(&s->less, &s->mutex);
    bool failed = s->fault.err != 0;
    pthread_mutex_unlock(&s->mutex);
    return failed ? NULL : slot(s, s->put);
}

void pack_sink_put(struct pack_sink *s)
{
    pthread_mutex_lock(&s->mutex);
    s->put++;
    pthread_cond_broadcast(&s->more);
    pthread_mutex_unlock(&s->mutex);
}

int pack_sink_drain(struct pack_sink *s, struct fault *fault)
{
    pthread_mutex_lock(&s->mutex);
    while (!s->fault.err && written(s) < s->put)
        pthread_cond_wait(&s->less, &s->mutex);
    int err = -s->fault.err;
    if (err && fault)
        *fault = s->fault;
    pthread_mutex_unlock(&s->mutex);
    for (uint32_t i = 0; err == 0 && i < s->params.layout->parts_n; i++)
        if (fdatasync(s->params.fds[i]) < 0)
            err = fault_set(fault, errno, "%s: writing: %s", file_label(s->params.paths[i]),
                            strerror(errno));
    return err;
}

int pack_sink_open(const struct pack_sink_params *params, struct pack_sink **ret,
                   struct fault *fault)
{
    const struct pack_layout *layout = params->layout;
    struct pack_sink *s = calloc(1, sizeof(*s));
    if (!s)
        return fault_set(fault, ENOMEM, "no memory for writing");
    s->params = *params;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->more, NULL);
    pthread_cond_init(&s->less, NULL);

    int err = 0;
    s->memory = aligned_alloc(PACK_ALIGN, SLOTS * layout->stride);
    if (!s->memory)
        err = fault_set(fault, ENOMEM, "no memory: writing takes %llu bytes",
                        (unsigned long long)(SLOTS * layout->stride));
    else
        memset(s->memory, 0, SLOTS * layout->stride);
    for (uint32_t i = 1; i < layout->parts_n; i++)
        s->part_off[i] = s->part_off[i - 1] + layout->part_bytes[i - 1];
    for (; err == 0 && s->threads_n < layout->parts_n; s->threads_n++) {
        struct part *part = &s->parts[s->threads_n];
        part->sink = s;
        int failed = pthread_create(&part->thread, NULL, part_thread, part);
        if (failed) {
            err = fault_set(fault, failed, "no thread for writing: %s", strerror(failed));
            break;
        }
    }
    if (err < 0) {
        pack_sink_close(&s);
        return err;
    }
    *ret = s;
    return 0;
}

void pack_sink_close(struct pack_sink **sink)
{
    struct pack_sink *s = *sink;
    if (!s)
        return;
    pthread_mutex_lock(&s->mutex);
    s->stop = true;
    pthread_cond_broadcast(&s->more);
    pthread_mutex_unlock(&s->mutex);
    for (uint32_t i = 0; i < s->threads_n; i++)
        pthread_join(s->parts[i].thread, NULL);
    pthread_mutex_destroy(&s->mutex);
    pthread_cond_destroy(&s->more);
    pthread_cond_destroy(&s->less);
    free(s->memory);
    free(s);
    *sink = NULL;
}
