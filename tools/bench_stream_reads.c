// SPDX-License-Identifier: MIT
// bench_stream_reads: a decode's own sequence of reads without its kernels: the misses of a layer
// are submitted together, those of the next layer when all have landed, as a router asks for them.
#include "base/clock.h"
#include "io/disk/reader.h"
#include "model/checkpoint.h"
#include "sched/residency.h"
#include "sched/routing_trace.h"
#include "tools/bench_stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE (2u << 20)

// Where an expert's matrices are: one range where they are neighbours in their file.
struct place {
    struct disk_read read; // without buffer
    uint64_t useful;
};

struct replay {
    const struct model_config *config;
    struct disk_reader *reader;
    struct place *places; // [keys]
    uint32_t keys, slots_n;
    uint64_t slot_bytes;
    struct iovec *buffers; // [slots_n]
    void *memory;
    uint64_t memory_bytes;
    uint8_t *trace;
    size_t trace_bytes;
};

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

static int by_offset(const void *a, const void *b)
{
    const struct tensor *x = *(const struct tensor *const *)a;
    const struct tensor *y = *(const struct tensor *const *)b;
    if (x->file_idx != y->file_idx)
        return x->file_idx < y->file_idx ? -1 : 1;
    return (x->file_off > y->file_off) - (x->file_off < y->file_off);
}

static void place_fill(const struct checkpoint *ck, uint32_t layer, uint32_t expert,
                       struct place *ret)
{
    static const enum tensor_role roles[] = {ROLE_EXPERT_GATE, ROLE_EXPERT_UP, ROLE_EXPERT_DOWN};
    const struct tensor *tensors[3];
    struct disk_range *range = NULL;
    uint64_t dst = 0;

    for (uint32_t i = 0; i < 3; i++) {
        if (checkpoint_get(ck, roles[i], layer, expert, NULL, &tensors[i], NULL))
            bench_die("an expert is missing");
        ret->useful += tensors[i]->bytes;
    }
    qsort(tensors, 3, sizeof(tensors[0]), by_offset);
    for (uint32_t i = 0; i < 3; i++) {
        const struct tensor *t = tensors[i];
        if (range && range->file[0] == t->file_idx && range->off + range->bytes == t->file_off) {
            range->bytes += t->bytes;
            continue;
        }
        if (range)
            dst = round_up(dst + range->off % DISK_ALIGN + range->bytes, DISK_ALIGN);
        range = &ret->read.range[ret->read.ranges_n++];
        *range = (struct disk_range){
            .off = t->file_off, .bytes = t->bytes, .dst = dst, .file = {t->file_idx}, .files_n = 1};
    }
}

static uint64_t place_bytes(const struct place *place)
{
    const struct disk_range *last = &place->read.range[place->read.ranges_n - 1];
    return round_up(last->dst + last->off % DISK_ALIGN + last->bytes, DISK_ALIGN);
}

static uint32_t key_of(const struct replay *r, uint32_t layer, uint32_t expert)
{
    return (layer - r->config->first_k_dense_replace) * r->config->n_routed_experts + expert;
}

static void places_make(struct replay *r, const struct checkpoint *ck)
{
    const struct model_config *c = r->config;

    r->keys = (c->num_hidden_layers - c->first_k_dense_replace) * c->n_routed_experts;
    r->places = calloc(r->keys, sizeof(*r->places));
    if (!r->keys || !r->places)
        bench_die("no experts, or no memory");
    for (uint32_t l = c->first_k_dense_replace; l < c->num_hidden_layers; l++)
        for (uint32_t e = 0; e < c->n_routed_experts; e++) {
            struct place *place = &r->places[key_of(r, l, e)];
            place_fill(ck, l, e, place);
            r->slot_bytes = place_bytes(place) > r->slot_bytes ? place_bytes(place) : r->slot_bytes;
        }
}

static void memory_take(struct replay *r, uint64_t slots_bytes)
{
    r->slot_bytes = round_up(r->slot_bytes, HUGE_PAGE);
    r->slots_n = (uint32_t)(slots_bytes / r->slot_bytes);
    if (r->slots_n < r->config->num_experts_per_tok)
        bench_die("--slots-mb is less than one token's experts of a layer");
    r->memory_bytes = r->slot_bytes * r->slots_n + HUGE_PAGE;
    r->memory =
        mmap(NULL, r->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    r->buffers = calloc(r->slots_n, sizeof(*r->buffers));
    if (r->memory == MAP_FAILED || !r->buffers)
        bench_die("no memory for slots");
    madvise(r->memory, r->memory_bytes, MADV_HUGEPAGE);
    char *first = (char *)round_up((uint64_t)(uintptr_t)r->memory, HUGE_PAGE);
    for (uint32_t i = 0; i < r->slots_n; i++) {
        r->buffers[i] = (struct iovec){first + i * r->slot_bytes, r->slot_bytes};
        memset(r->buffers[i].iov_base, 0, r->slot_bytes);
    }
}

static void reader_open(struct replay *r, const struct bench_options *o,
                        const struct checkpoint *ck)
{
    const struct disk_params params = {.engine = (enum disk_engine)o->engine,
                                       .queue_depth = o->depth,
                                       .read_size = o->read_size,
                                       .timeout_us = 60000000,
                                       .retries = 1,
                                       .buffers = r->buffers,
                                       .buffers_n = r->slots_n};
    struct fault fault;
    uint32_t drive, file;
    char text[1024];

    if (disk_reader_create(&params, &r->reader, &fault) ||
        disk_reader_drive_add(r->reader, checkpoint_dir(ck), &drive, &fault))
        bench_die(fault.text);
    for (uint32_t i = 0; i < checkpoint_file_count(ck); i++)
        if (disk_reader_file_add(r->reader, drive, safetensors_path(checkpoint_file(ck, i)), &file,
                                 &fault))
            bench_die(fault.text);
    if (disk_reader_probe(r->reader, &fault) || disk_reader_start(r->reader, &fault))
        bench_die(fault.text);
    disk_reader_describe(r->reader, text, sizeof(text));
    fprintf(stderr, "%s", text);
}

static void trace_load(struct replay *r, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        bench_die("the trace cannot be opened");
    long n = ftell(file);
    rewind(file);
    r->trace_bytes = n > 0 ? (size_t)n : 0;
    r->trace = malloc(r->trace_bytes + 1);
    if (!r->trace || fread(r->trace, 1, r->trace_bytes, file) != r->trace_bytes)
        bench_die("the trace cannot be read");
    fclose(file);
}

struct sums {
    uint64_t useful, drive, reads, hits;
};

static void wait_all(struct replay *r, uint32_t n, struct sums *sums)
{
    struct disk_done done[ROUTING_TRACE_K_MAX];

    while (n > 0) {
        uint32_t got = disk_reader_wait(r->reader, done, ROUTING_TRACE_K_MAX, -1);
        for (uint32_t i = 0; i < got; i++) {
            if (done[i].err)
                bench_die(done[i].fault.text);
            sums->drive += done[i].bytes;
        }
        n -= got;
    }
}

// layer_read brings what a layer of a step of one row asks for.
static void layer_read(struct replay *r, struct residency *residency, uint32_t layer,
                       const uint32_t *ids, uint32_t k, struct sums *sums)
{
    struct disk_read reads[ROUTING_TRACE_K_MAX];
    uint32_t held[ROUTING_TRACE_K_MAX], n = 0, evicted;

    for (uint32_t i = 0; i < k; i++) {
        uint32_t key = key_of(r, layer, ids[i]);
        held[i] = residency_find(residency, key);
        if (held[i] == RESIDENCY_NONE) {
            held[i] = residency_place(residency, key, false, &evicted);
            reads[n] = r->places[key].read;
            reads[n].id = key;
            reads[n++].buffer = held[i];
            sums->useful += r->places[key].useful;
        } else {
            residency_hold(residency, held[i]);
            sums->hits++;
        }
        residency_use(residency, key);
    }
    if (n && disk_reader_submit(r->reader, reads, n))
        bench_die("reads were refused");
    wait_all(r, n, sums);
    sums->reads += n;
    for (uint32_t i = 0; i < k; i++)
        residency_release(residency, held[i]);
}

static void replay_once(struct replay *r)
{
    static uint32_t ids[ROUTING_TRACE_ROWS_MAX * ROUTING_TRACE_K_MAX];
    const struct residency_params params = {.keys_n = r->keys, .slots_n = r->slots_n};
    struct residency *residency = NULL;
    struct routing_trace_reader trace;
    struct routing_trace_layer layer;
    struct sums sums = {0};
    struct fault fault;
    int got;

    if (routing_trace_reader_init(&trace, r->trace, r->trace_bytes, &fault))
        bench_die(fault.text);
    if (trace.shape.experts != r->config->n_routed_experts ||
        trace.shape.layers < r->config->num_hidden_layers)
        bench_die("the trace is another model's");
    if (residency_create(&params, &residency))
        bench_die("no memory");
    uint64_t cpu = disk_reader_cpu_ns(r->reader), from = clock_us();
    while ((got = routing_trace_read(&trace, &layer, ids, &fault)) == 1) {
        if (layer.rows != 1 || layer.layer < r->config->first_k_dense_replace ||
            layer.layer >= r->config->num_hidden_layers)
            bench_die("the trace is no decode of one sequence");
        layer_read(r, residency, layer.layer, ids, trace.shape.k, &sums);
    }
    double wall = (double)(clock_us() - from) / 1e6;
    if (got < 0)
        bench_die("the trace is damaged");
    printf("{\"useful_bytes\": %llu, \"drive_bytes\": %llu, \"reads\": %llu, \"hits\": %llu, "
           "\"wall_s\": %.6f, \"disk_cpu_s\": %.6f}\n",
           (unsigned long long)sums.useful, (unsigned long long)sums.drive,
           (unsigned long long)sums.reads, (unsigned long long)sums.hits, wall,
           (double)(disk_reader_cpu_ns(r->reader) - cpu) / 1e9);
    fflush(stdout);
    residency_destroy(&residency);
}

void bench_reads(const struct bench_options *o, const struct checkpoint *ck)
{
    struct replay r = {.config = checkpoint_config(ck)};
    char line[64];

    places_make(&r, ck);
    memory_take(&r, o->slots_bytes);
    trace_load(&r, o->trace);
    reader_open(&r, o, ck);
    printf("{\"ready\": true, \"slots\": %u}\n", r.slots_n);
    fflush(stdout);
    while (bench_line(line, sizeof(line)))
        replay_once(&r);
    disk_reader_destroy(&r.reader);
    munmap(r.memory, r.memory_bytes);
    free(r.buffers);
    free(r.places);
    free(r.trace);
}
