// SPDX-License-Identifier: MIT
// bench_stream_mmap: what a user would do without io/disk: map the shards and let page faults bring
// what kernels touch.  A slot's addresses are mapped over with the pages of the expert's files, so
// that the same kernels read them; the memory cgroup of the process bounds the page cache.
#include "model/slots.h"
#include "sched/residency.h"
#include "tools/bench_stream.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE        4096u
#define EXPERTS_MAX 4096u

struct bench_mmap {
    struct slots *slots;
    struct residency *residency;
    struct expert_source source;
    int *files; // [checkpoint_file_count]
    uint32_t files_n;
    uint32_t layer, wanted_n, told; // experts of the layer that began, how many have been told
    uint32_t wanted[EXPERTS_MAX];
    uint64_t bytes, asked, hits;
};

static void expert_map(struct bench_mmap *m, uint32_t key, uint32_t slot)
{
    uint32_t n;
    const struct slot_range *range = slots_ranges(m->slots, key, &n);

    for (uint32_t i = 0; i < n; i++) {
        uint64_t skip = range[i].off % PAGE;
        uint64_t bytes = (skip + range[i].bytes + PAGE - 1) / PAGE * PAGE;
        char *at = (char *)slots_host(m->slots, slot) + range[i].dst;
        if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
                 m->files[range[i].file], (off_t)(range[i].off - skip)) == MAP_FAILED)
            bench_die("an expert could not be mapped");
    }
    slots_land(m->slots, key, slot);
    m->bytes += slots_key_bytes(m->slots, key);
}

static void on_begin(void *user, uint32_t layer, const uint32_t *experts, uint32_t n)
{
    struct bench_mmap *m = user;

    if (n > EXPERTS_MAX)
        bench_die("too many experts");
    m->layer = layer;
    m->told = 0;
    m->wanted_n = n;
    memcpy(m->wanted, experts, n * sizeof(*experts));
}

static uint32_t on_next(void *user, struct expert_ready *ret, uint32_t max, bool block,
                        struct fault *fault)
{
    struct bench_mmap *m = user;
    uint32_t n = 0, evicted;

    (void)block;
    (void)fault;
    for (; n < max && m->told < m->wanted_n; n++, m->told++) {
        uint32_t key = slots_key(m->slots, m->layer, m->wanted[m->told]);
        uint32_t slot = residency_find(m->residency, key);
        if (slot != RESIDENCY_NONE) {
            residency_hold(m->residency, slot);
        } else {
            slot = residency_place(m->residency, key, false, &evicted);
            if (slot == RESIDENCY_NONE)
                break; // every slot is held
            expert_map(m, key, slot);
            m->hits--;
        }
        residency_use(m->residency, key);
        m->asked++;
        m->hits++;
        ret[n] = (struct expert_ready){m->wanted[m->told], slot};
    }
    return n;
}

static void on_release(void *user, const uint32_t *slots, uint32_t n)
{
    struct bench_mmap *m = user;
    for (uint32_t i = 0; i < n; i++)
        residency_release(m->residency, slots[i]);
}

static bool on_curious(void *user, uint32_t layer)
{
    (void)user;
    (void)layer;
    return false; // the page cache decides what is read ahead
}

struct bench_mmap *bench_mmap_create(struct engine *engine, const struct checkpoint *ck)
{
    struct bench_mmap *m = calloc(1, sizeof(*m));
    if (!m)
        bench_die("no memory");
    m->slots = engine_slots(engine);
    m->files_n = checkpoint_file_count(ck);
    m->files = calloc(m->files_n, sizeof(*m->files));
    const struct residency_params params = {.keys_n = slots_keys(m->slots),
                                            .slots_n = slots_n(m->slots)};
    if (!m->files || residency_create(&params, &m->residency) || slots_two_tiers(m->slots))
        bench_die("page faults need one tier of slots");
    for (uint32_t i = 0; i < m->files_n; i++) {
        m->files[i] = open(safetensors_path(checkpoint_file(ck, i)), O_RDONLY | O_CLOEXEC);
        if (m->files[i] < 0)
            bench_die("a shard cannot be opened");
    }
    m->source = (struct expert_source){.user = m,
                                       .begin = on_begin,
                                       .next = on_next,
                                       .release = on_release,
                                       .curious = on_curious};
    return m;
}

const struct expert_source *bench_mmap_source(struct bench_mmap *m)
{
    return &m->source;
}

uint64_t bench_mmap_bytes(const struct bench_mmap *m)
{
    return m->bytes;
}

uint64_t bench_mmap_wanted(const struct bench_mmap *m)
{
    return m->asked;
}

uint64_t bench_mmap_hits(const struct bench_mmap *m)
{
    return m->hits;
}

void bench_mmap_destroy(struct bench_mmap **m)
{
    if (!*m)
        return;
    for (uint32_t i = 0; i < (*m)->files_n; i++)
        close((*m)->files[i]);
    residency_destroy(&(*m)->residency);
    free((*m)->files);
    free(*m);
    *m = NULL;
}
