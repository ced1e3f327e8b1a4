// SPDX-License-Identifier: MIT
#include "io/disk/engine.h"

#include "base/wake.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// 64 threads a drive: more reads in flight gain nothing where each costs a thread.
#define THREADS_DRIVE_MAX 64u
#define THREAD_STACK      (256u << 10) // pread needs little; the sanitizers' frames fit

struct pool;

struct pool_queue {
    struct pool *pool;
    pthread_cond_t filled;
    struct engine_request *requests; // [room], a circle
    uint32_t room, first, n;
};

// Owner of all below `lock`: whoever holds it.
struct pool {
    const struct engine_file *files;
    int wake_fd;
    pthread_t *threads;
    uint32_t threads_n, drives_n;
    pthread_mutex_t lock;
    struct pool_queue queue[DISK_DRIVES_MAX];
    struct engine_done *done; // [done_room]
    uint32_t done_n, done_room;
    bool sleeps; // the disk thread
    bool stop;
};

struct engine_io {
    struct pool pool;
};

static void pool_done(struct pool *pool, uint32_t tag, int32_t res)
{
    pool->done[pool->done_n++] = (struct engine_done){.tag = tag, .res = res};
    if (!pool->sleeps)
        return;
    pool->sleeps = false;
    wake_signal(pool->wake_fd);
}

static int32_t read_once(const struct pool *pool, const struct engine_request *request)
{
    ssize_t got;
    do
        got =
            pread(pool->files[request->file].fd, request->dst, request->bytes, (off_t)request->off);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : (int32_t)got;
}

static void *pool_main(void *argument)
{
    struct pool_queue *queue = argument;
    struct pool *pool = queue->pool;
    pthread_mutex_lock(&pool->lock);
    while (!pool->stop) {
        if (queue->n == 0) {
            pthread_cond_wait(&queue->filled, &pool->lock);
            continue;
        }
        struct engine_request request = queue->requests[queue->first];
        queue->first = (queue->first + 1) % queue->room;
        queue->n--;
        pthread_mutex_unlock(&pool->lock);
        int32_t res = read_once(pool, &request);
        pthread_mutex_lock(&pool->lock);
        pool_done(pool, request.tag, res);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void threads_close(struct engine_io **io)
{
    if (!*io)
        return;
    struct pool *pool = &(*io)->pool;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    for (uint32_t i = 0; i < pool->drives_n; i++)
        pthread_cond_broadcast(&pool->queue[i].filled);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->threads_n; i++)
        pthread_join(pool->threads[i], NULL);
    for (uint32_t i = 0; i < pool->drives_n; i++) {
        pthread_cond_destroy(&pool->queue[i].filled);
        free(pool->queue[i].requests);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool->done);
    free(*io);
    *io = NULL;
}

static int queue_init(struct pool *pool, uint32_t depth)
{
    struct pool_queue *queue = &pool->queue[pool->drives_n];
    queue->room = depth + 2; // and a probe
    queue->requests = calloc(queue->room, sizeof(*queue->requests));
    if (!queue->requests)
        return -ENOMEM;
    queue->pool = pool;
    pthread_cond_init(&queue->filled, NULL);
    pool->drives_n++;
    return 0;
}

// Fewer threads than asked for are enough, but each drive needs one.
static int pool_start(struct pool *pool, uint32_t each)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    int err = 0;
    for (uint32_t k = 0; k < each && err == 0; k++)
        for (uint32_t i = 0; i < pool->drives_n && err == 0; i++) {
            err =
                pthread_create(&pool->threads[pool->threads_n], &attr, pool_main, &pool->queue[i]);
            pool->threads_n += err == 0;
        }
    pthread_attr_destroy(&attr);
    return pool->threads_n >= pool->drives_n ? 0 : -err;
}

static int threads_open(const struct engine_params *params, struct engine_io **ret, char *note,
                        struct fault *fault)
{
    uint32_t each = params->depth < THREADS_DRIVE_MAX ? params->depth : THREADS_DRIVE_MAX;
    note[0] = '\0';
    struct engine_io *io = calloc(1, sizeof(*io));
    if (!io)
        return fault_set(fault, ENOMEM, "no memory for the threads of the drives");
    struct pool *pool = &io->pool;
    pthread_mutex_init(&pool->lock, NULL);
    pool->files = params->files;
    pool->wake_fd = params->wake_fd;
    pool->done_room = params->drives_n * (params->depth + 2);
    pool->done = calloc(pool->done_room + 1, sizeof(*pool->done));
    pool->threads = calloc(params->drives_n * each + 1, sizeof(*pool->threads));
    int err = pool->done && pool->threads ? 0 : -ENOMEM;
    for (uint32_t i = 0; i < params->drives_n && err == 0; i++)
        err = queue_init(pool, params->depth);
    if (err == 0)
        err = pool_start(pool, each);
    if (err < 0) {
        fault_set(fault, -err, "cannot start the threads of the drives: %s", strerror(-err));
        threads_close(&io);
        return err;
    }
    if (pool->threads_n < params->drives_n * each)
        snprintf(note, FAULT_TEXT_MAX,
                 "%u threads read the drives instead of %u: the system has "
                 "no more",
                 pool->threads_n, params->drives_n * each);
    *ret = io;
    return 0;
}

static void threads_send(struct engine_io *io, const struct engine_request *request)
{
    struct pool *pool = &io->pool;
    struct pool_queue *queue = &pool->queue[pool->files[request->file].drive];
    pthread_mutex_lock(&pool->lock);
    queue->requests[(queue->first + queue->n++) % queue->room] = *request;
    pthread_cond_signal(&queue->filled);
    pthread_mutex_unlock(&pool->lock);
}

// What a thread has begun cannot be taken back.
static void threads_cancel(struct engine_io *io, uint32_t tag)
{
    struct pool *pool = &io->pool;
    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < pool->drives_n; i++) {
        struct pool_queue *queue = &pool->queue[i];
        uint32_t kept = 0;
        for (uint32_t k = 0; k < queue->n; k++) {
            struct engine_request *at = &queue->requests[(queue->first + k) % queue->room];
            if (at->tag == tag)
                pool_done(pool, tag, -ECANCELED);
            else
                queue->requests[(queue->first + kept++) % queue->room] = *at;
        }
        queue->n = kept;
    }
    pthread_mutex_unlock(&pool->lock);
}

static uint32_t pool_take(struct pool *pool, struct engine_done *ret, uint32_t max, bool sleeps)
{
    pthread_mutex_lock(&pool->lock);
    uint32_t n = pool->done_n < max ? pool->done_n : max;
    memcpy(ret, pool->done, n * sizeof(*ret));
    pool->done_n -= n;
    memmove(pool->done, pool->done + n, pool->done_n * sizeof(*ret));
    pool->sleeps = sleeps && n == 0;
    pthread_mutex_unlock(&pool->lock);
    return n;
}

static uint32_t threads_wait(struct engine_io *io, struct engine_done *ret, uint32_t max,
                             int64_t timeout_ns)
{
    struct pool *pool = &io->pool;
    uint32_t n = pool_take(pool, ret, max, timeout_ns != 0);
    if (n > 0 || timeout_ns == 0)
        return n;
    struct pollfd pollfd = {.fd = pool->wake_fd, .events = POLLIN};
    struct timespec ts = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    ppoll(&pollfd, 1, timeout_ns < 0 ? NULL : &ts, NULL);
    wake_clear(pool->wake_fd);
    return pool_take(pool, ret, max, false);
}

static int threads_describe(const struct engine_io *io, char *buf, size_t buf_bytes)
{
    return snprintf(buf, buf_bytes, "pread by %u threads", io->pool.threads_n);
}

const struct engine_table threads_table = {.open = threads_open,
                                           .close = threads_close,
                                           .send = threads_send,
                                           .cancel = threads_cancel,
                                           .wait = threads_wait,
                                           .describe = threads_describe};
