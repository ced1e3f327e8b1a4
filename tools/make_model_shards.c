// SPDX-License-Identifier: MIT
#include "tools/make_model_shards.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS_MAX 8u

// The pool of shared blocks: large enough that experts are not copies of one another.  A clone
// takes up to CLONE_BYTES: an expert of V3 comes from three places or so.
#define POOL_SHARE     16u // of the FP8 bytes
#define POOL_BYTES_MAX (1ull << 30)
#define CLONE_BYTES    (16ull << 20)
#define CODES_BYTES    (1u << 20) // random codes made at a time

struct job {
    struct output *out;
    const struct items *items;
    const struct output_file *pool; // NULL: every byte is written
    uint64_t pool_bytes;
    atomic_uint *next; // shard that nobody writes yet
    struct weights *weights;
    struct fault fault;
    int err;
    pthread_t thread;
};

static uint64_t pool_size(const struct items *items, uint64_t block)
{
    uint64_t bytes = items->fp8_bytes / POOL_SHARE;
    bytes = bytes < POOL_BYTES_MAX ? bytes : POOL_BYTES_MAX;
    return bytes / block * block + 64 * block;
}

uint64_t shards_need(const struct items *items, bool reflink)
{
    return reflink ? items->bytes - items->fp8_bytes + pool_size(items, 65536) : items->bytes;
}

// --- bytes of tensors --------------------------------------------------------------------------

static int item_write(struct output_file *file, struct weights *weights, const struct item *item)
{
    const struct tensor_spec *spec = &item->spec;
    size_t row_bytes = (size_t)spec->cols * dtype_bytes[item->dtype];
    void *strip = malloc(item->scale ? (size_t)item->bytes : WEIGHTS_STRIP_ROWS * row_bytes);
    int err = 0;

    if (!strip)
        return fault_set(file->fault, ENOMEM, "no memory for tensor %s", item->name);
    if (item->scale) {
        weights_scales(weights, spec, strip);
        err = output_file_write(file, strip, (size_t)item->bytes);
    }
    for (uint32_t row = 0; !item->scale && row < spec->rows && err == 0;
         row += WEIGHTS_STRIP_ROWS) {
        uint32_t left = spec->rows - row;
        uint32_t n = left < WEIGHTS_STRIP_ROWS ? left : WEIGHTS_STRIP_ROWS;
        weights_strip(weights, spec, item->dtype, row, n, strip);
        err = output_file_write(file, strip, n * row_bytes);
    }
    free(strip);
    return err;
}

// codes_write writes random codes that belong to no tensor in particular.
static int codes_write(struct output_file *file, const struct weights *weights, uint64_t number,
                       uint64_t bytes)
{
    uint8_t *codes = malloc(CODES_BYTES);
    int err = codes ? 0 : fault_set(file->fault, ENOMEM, "no memory for weights");

    while (bytes > 0 && err == 0) {
        size_t n = bytes < CODES_BYTES ? (size_t)bytes : CODES_BYTES;
        weights_codes(weights, number++, codes, n);
        err = output_file_write(file, codes, n);
        bytes -= n;
    }
    free(codes);
    return err;
}

// clones_write writes the FP8 part of a file, which ends it: whole blocks are the pool's, what is
// before and behind them is written.
static int clones_write(struct job *job, struct output_file *file, uint32_t shard, uint64_t bytes)
{
    uint64_t block = output_block(job->out), number = (uint64_t)(shard + 1) << 32;
    uint64_t head = (block - output_file_at(file) % block) % block;

    head = head < bytes ? head : bytes;
    int err = codes_write(file, job->weights, number, head);
    for (bytes -= head; bytes >= block && err == 0;) {
        uint64_t n = bytes < CLONE_BYTES ? bytes / block * block : CLONE_BYTES;
        n = n < job->pool_bytes / 4 ? n : job->pool_bytes / 4 / block * block;
        uint64_t places = (job->pool_bytes - n) / block + 1;
        uint64_t place = weights_number(job->weights, ++number) % places;
        err = output_file_clone(file, job->pool, place * block, n);
        bytes -= n;
    }
    return err < 0 ? err : codes_write(file, job->weights, ++number, bytes);
}

// --- files -------------------------------------------------------------------------------------

static int shard_write(struct job *job, struct output_file *file, uint32_t shard)
{
    size_t n, header_bytes;
    const struct item *list = items_shard(job->items, shard, &n);
    char name[SHARD_NAME_MAX], *header = NULL;
    uint64_t bytes = 0, fp8 = 0;

    shard_name(shard, job->items->shards, name);
    if (shard_header(list, n, shard, &header, &header_bytes) < 0)
        return fault_set(file->fault, ENOMEM, "no memory for the header of %s", name);
    for (size_t i = 0; i < n; i++) {
        bytes += list[i].bytes;
        fp8 += list[i].dtype == DTYPE_F8_E4M3 ? list[i].bytes : 0;
    }
    // Blocks that are reserved would have to be freed again before they are shared.
    int err = output_file_begin(file, name, job->pool ? 0 : header_bytes + bytes);
    if (err == 0)
        err = output_file_write(file, header, header_bytes);
    free(header);
    for (size_t i = 0; i < n && err == 0; i++)
        if (!job->pool || list[i].dtype != DTYPE_F8_E4M3)
            err = item_write(file, job->weights, &list[i]);
    if (err == 0 && job->pool)
        err = clones_write(job, file, shard, fp8);
    return err < 0 ? err : output_file_end(file);
}

static void *job_run(void *user)
{
    struct job *job = user;
    struct output_file file;

    job->err = output_file_init(&file, job->out, &job->fault);
    while (job->err == 0) {
        uint32_t shard = atomic_fetch_add_explicit(job->next, 1, memory_order_relaxed);
        if (shard >= job->items->shards)
            break;
        job->err = shard_write(job, &file, shard);
    }
    output_file_fini(&file);
    if (job->err < 0)
        atomic_store_explicit(&job->out->failed, true, memory_order_relaxed);
    return NULL;
}

static uint32_t jobs_count(const struct items *items)
{
    // Two a core: one writes while the other makes numbers.
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t n = cpus > 0 && cpus < (long)THREADS_MAX / 2 ? 2 * (uint32_t)cpus : THREADS_MAX;
    return n < items->shards ? n : items->shards;
}

// jobs_join returns the error that came first: others were stopped by it.
static int jobs_join(struct job *jobs, uint32_t n, struct fault *fault)
{
    int err = 0;

    for (uint32_t i = 0; i < n; i++) {
        pthread_join(jobs[i].thread, NULL);
        weights_destroy(&jobs[i].weights);
        if (jobs[i].err < 0 && (err == 0 || err == -EINTR)) {
            err = jobs[i].err;
            *fault = jobs[i].fault;
        }
    }
    return err;
}

static int jobs_start(struct job *jobs, uint32_t n, const struct job *model,
                      const struct weights *weights, struct fault *fault)
{
    uint32_t started = 0;
    int err = 0;

    for (; started < n && err == 0; started++) {
        struct job *job = &jobs[started];
        *job = *model;
        err = weights_copy(weights, &job->weights);
        if (err == 0)
            err = -pthread_create(&job->thread, NULL, job_run, job);
        if (err < 0) {
            weights_destroy(&job->weights);
            break;
        }
    }
    if (err < 0 && started == 0)
        return fault_set(fault, -err, "no memory to write files");
    return jobs_join(jobs, started, fault); // fewer threads write as well
}

static int pool_fill(struct output_file *pool, const struct weights *weights, uint64_t bytes)
{
    int err = output_pool_begin(pool);
    if (err == 0)
        err = codes_write(pool, weights, 0, bytes);
    return err < 0 ? err : output_pool_end(pool);
}

int shards_write(struct output *out, const struct weights *weights, const struct items *items,
                 bool reflink, struct fault *fault)
{
    struct job jobs[THREADS_MAX];
    struct output_file pool;
    atomic_uint next = 0;
    struct job model = {.out = out, .items = items, .next = &next};

    if (!reflink)
        return jobs_start(jobs, jobs_count(items), &model, weights, fault);
    int err = output_file_init(&pool, out, fault);
    if (err == 0) {
        model.pool = &pool;
        model.pool_bytes = pool_size(items, output_block(out));
        err = pool_fill(&pool, weights, model.pool_bytes);
    }
    if (err == 0)
        err = jobs_start(jobs, jobs_count(items), &model, weights, fault);
    output_file_fini(&pool);
    return err;
}
