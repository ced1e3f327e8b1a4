// SPDX-License-Identifier: MIT
#include "model/feed.h"

#include "model/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALIGN 4096u // of offsets, lengths and memory: what O_DIRECT needs anywhere

// Two items are read while one is worked on.
#define SLOTS 3u

// Eight reads of 2 MiB: the kernel cuts each into requests of its own, so some dozens are with the
// drive.  Means of four interleaved rounds over 5.3 GB on a busy machine: 0.82 GB/s; 4 threads
// 0.58, 8 of 1 MiB 0.71, 8 of 4 MiB 0.78, 16 of 1 MiB 0.69.
#define THREADS     8u
#define PIECE_BYTES (2u << 20)

struct slot {
    uint8_t *memory[FEED_RANGES_MAX];
    struct feed_range ranges[FEED_RANGES_MAX];
    uint32_t pending; // pieces that are being read
};

// A piece of a slot, as a thread takes it.
struct piece {
    uint32_t item, range;
    uint64_t off, end, need; // in the file: aligned, aligned, and where it must reach
    uint8_t *dst;
};

// Shared by the owner and the threads under mutex; paths and fds do not change.
struct feed {
    struct feed_params params;
    int *fds; // [files_n]
    struct slot slots[SLOTS];
    uint8_t *memory;
    pthread_t threads[THREADS];
    uint32_t threads_n;
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    uint32_t queued;      // items below are known to the threads
    uint32_t item, range; // next piece to take is of this one,
    uint64_t at;          // this many bytes behind its aligned start
    uint32_t next;        // item that feed_next gives
    bool given;           // the one before is with the caller
    bool stop;
    struct fault fault; // the first failure
    uint32_t failed_item, failed_range;
};

static uint64_t align_down(uint64_t n)
{
    return n & ~(uint64_t)(ALIGN - 1);
}

static uint64_t align_up(uint64_t n)
{
    return align_down(n + ALIGN - 1);
}

/* ---------------------------------------------------------------- threads */

// cursor_settle moves the cursor on to a place where bytes are left, or to the end of what is
// queued: an item is taken in full exactly when the cursor is behind it.
static void cursor_settle(struct feed *f)
{
    while (f->item < f->queued) {
        const struct feed_range *range = &f->slots[f->item % SLOTS].ranges[f->range];
        if (range->bytes > 0 && align_down(range->off) + f->at < range->off + range->bytes)
            return;
        f->at = 0;
        f->range++;
        if (f->range == f->params.ranges_n) {
            f->range = 0;
            f->item++;
        }
    }
}

// piece_take cuts the next piece off what is queued; false: nothing is.
static bool piece_take(struct feed *f, struct piece *ret)
{
    cursor_settle(f);
    if (f->item == f->queued)
        return false;
    struct slot *slot = &f->slots[f->item % SLOTS];
    const struct feed_range *range = &slot->ranges[f->range];
    uint64_t off = align_down(range->off) + f->at, need = range->off + range->bytes;
    uint64_t left = align_up(need) - off, bytes = left < PIECE_BYTES ? left : PIECE_BYTES;

    *ret = (struct piece){.item = f->item,
                          .range = f->range,
                          .off = off,
                          .end = off + bytes,
                          .need = off + bytes < need ? off + bytes : need,
                          .dst = slot->memory[f->range] + f->at};
    f->at += bytes;
    slot->pending++;
    cursor_settle(f);
    return true;
}

// direct_drop goes on through the page cache where O_DIRECT opens but does not read.  Another
// thread may have done so already.
static bool direct_drop(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags & ~O_DIRECT) == 0;
}

// piece_read: the last piece of a file may end before its aligned end, not before `need`.
static int piece_read(int fd, const char *path, const struct piece *piece, struct fault *fault)
{
    uint64_t off = piece->off;
    bool dropped = false;

    while (off < piece->need) {
        ssize_t n =
            pread(fd, piece->dst + (off - piece->off), (size_t)(piece->end - off), (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL && !dropped && (dropped = direct_drop(fd)))
            continue;
        if (n < 0)
            return fault_set(fault, errno, "%s: reading at byte %" PRIu64 ": %s", file_label(path),
                             off, strerror(errno));
        uint64_t reached = off + (uint64_t)n;
        // A short read goes on at an aligned place; none at all is the end of the file.
        if (reached < piece->need && align_down(reached) == off)
            return fault_set(fault, EBADMSG,
                             "%s: ends at byte %" PRIu64 ", %" PRIu64 " bytes before it should",
                             file_label(path), reached, piece->need - reached);
        off = reached < piece->need ? align_down(reached) : reached;
    }
    return 0;
}

static void *feed_thread(void *user)
{
    struct feed *f = user;
    struct piece piece;

    pthread_mutex_lock(&f->mutex);
    for (;;) {
        while (!f->stop && !piece_take(f, &piece))
            pthread_cond_wait(&f->work, &f->mutex);
        if (f->stop)
            break;
        struct slot *slot = &f->slots[piece.item % SLOTS];
        uint32_t file = slot->ranges[piece.range].file;
        struct fault fault = {0};
        pthread_mutex_unlock(&f->mutex);
        int err = piece_read(f->fds[file], f->params.paths[file], &piece, &fault);
        pthread_mutex_lock(&f->mutex);
        slot->pending--;
        if (err < 0 && !f->fault.err) {
            f->fault = fault;
            f->failed_item = piece.item;
            f->failed_range = piece.range;
            f->stop = true;
            pthread_cond_broadcast(&f->work);
        }
        pthread_cond_signal(&f->done);
    }
    pthread_mutex_unlock(&f->mutex);
    return NULL;
}

/* ------------------------------------------------------------------ owner */

// items_queue tells the threads of the items for which there is a slot.  Under the mutex.
static void items_queue(struct feed *f)
{
    uint32_t oldest = f->given ? f->next - 1 : f->next;

    while (f->queued < f->params.end && f->queued - oldest < SLOTS) {
        struct slot *slot = &f->slots[f->queued % SLOTS];
        memset(slot->ranges, 0, sizeof(slot->ranges));
        f->params.ranges(f->params.user, f->queued, slot->ranges);
        for (uint32_t i = 0; i < f->params.ranges_n; i++)
            assert(slot->ranges[i].bytes <= f->params.bytes_max[i]);
        f->queued++;
    }
    pthread_cond_broadcast(&f->work);
}

int feed_next(struct feed *f, const uint8_t *ret[FEED_RANGES_MAX], struct fault *fault)
{
    int got = 1;

    pthread_mutex_lock(&f->mutex);
    f->given = false;
    if (f->next == f->params.end)
        got = 0;
    else
        items_queue(f);
    struct slot *slot = &f->slots[f->next % SLOTS];
    while (got == 1 && !f->fault.err && (f->item <= f->next || slot->pending > 0))
        pthread_cond_wait(&f->done, &f->mutex);
    if (got == 1 && f->fault.err) {
        got = -f->fault.err;
        if (fault)
            *fault = f->fault;
    }
    if (got == 1) {
        f->next++;
        f->given = true;
        for (uint32_t i = 0; i < f->params.ranges_n; i++)
            ret[i] = slot->memory[i] + slot->ranges[i].off % ALIGN;
    }
    pthread_mutex_unlock(&f->mutex);
    return got;
}

void feed_failed(const struct feed *f, uint32_t *ret_item, uint32_t *ret_range)
{
    *ret_item = f->failed_item;
    *ret_range = f->failed_range;
}

static int files_open(struct feed *f, struct fault *fault)
{
    f->fds = malloc((f->params.files_n + 1) * sizeof(*f->fds));
    if (!f->fds)
        return fault_set(fault, ENOMEM, "no memory for reading");
    for (uint32_t i = 0; i < f->params.files_n; i++)
        f->fds[i] = -1;
    for (uint32_t i = 0; i < f->params.files_n; i++) {
        uint64_t bytes;
        int err = file_open(f->params.paths[i], &f->fds[i], &bytes, fault);
        if (err < 0)
            return err;
        int flags = fcntl(f->fds[i], F_GETFL); // file systems that refuse it are read as they are
        if (flags < 0 || fcntl(f->fds[i], F_SETFL, flags | O_DIRECT) < 0)
            posix_fadvise(f->fds[i], 0, 0, POSIX_FADV_SEQUENTIAL);
    }
    return 0;
}

static int memory_make(struct feed *f, struct fault *fault)
{
    size_t of_slot = 0;

    // One more unit in front and behind: the aligned surroundings of a range.
    for (uint32_t i = 0; i < f->params.ranges_n; i++)
        of_slot += (size_t)align_up(f->params.bytes_max[i]) + 2 * ALIGN;
    f->memory = aligned_alloc(ALIGN, SLOTS * of_slot);
    if (!f->memory)
        return fault_set(fault, ENOMEM, "no memory: reading takes %zu bytes", SLOTS * of_slot);
    uint8_t *at = f->memory;
    for (uint32_t s = 0; s < SLOTS; s++)
        for (uint32_t i = 0; i < f->params.ranges_n; i++) {
            f->slots[s].memory[i] = at;
            at += (size_t)align_up(f->params.bytes_max[i]) + 2 * ALIGN;
        }
    return 0;
}

int feed_open(const struct feed_params *params, struct feed **ret, struct fault *fault)
{
    struct feed *f = calloc(1, sizeof(*f));
    if (!f)
        return fault_set(fault, ENOMEM, "no memory for reading");
    assert(params->ranges_n <= FEED_RANGES_MAX && params->first <= params->end);
    f->params = *params;
    f->queued = f->item = f->next = params->first;
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->work, NULL);
    pthread_cond_init(&f->done, NULL);

    int err = files_open(f, fault);
    if (err == 0)
        err = memory_make(f, fault);
    if (err == 0) {
        pthread_mutex_lock(&f->mutex);
        items_queue(f);
        pthread_mutex_unlock(&f->mutex);
    }
    for (; err == 0 && f->threads_n < THREADS; f->threads_n++) {
        int failed = pthread_create(&f->threads[f->threads_n], NULL, feed_thread, f);
        if (failed) {
            err = fault_set(fault, failed, "no thread for reading: %s", strerror(failed));
            break;
        }
    }
    if (err < 0) {
        feed_close(&f);
        return err;
    }
    *ret = f;
    return 0;
}

void feed_close(struct feed **feed)
{
    struct feed *f = *feed;
    if (!f)
        return;
    pthread_mutex_lock(&f->mutex);
    f->stop = true;
    pthread_cond_broadcast(&f->work);
    pthread_mutex_unlock(&f->mutex);
    for (uint32_t i = 0; i < f->threads_n; i++)
        pthread_join(f->threads[i], NULL);
    for (uint32_t i = 0; f->fds && i < f->params.files_n; i++)
        if (f->fds[i] >= 0)
            close(f->fds[i]);
    pthread_mutex_destroy(&f->mutex);
    pthread_cond_destroy(&f->work);
    pthread_cond_destroy(&f->done);
    free(f->fds);
    free(f->memory);
    free(f);
    *feed = NULL;
}
