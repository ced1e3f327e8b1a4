// SPDX-License-Identifier: MIT
#include "tools/replay_cache.h"
#include "sched/residency.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

const char *const replay_policy_name[REPLAY_POLICY_COUNT] = {[REPLAY_RANDOM] = "random",
                                                             [REPLAY_LRU] = "lru",
                                                             [REPLAY_LFU] = "lfu",
                                                             [REPLAY_OURS] = "ours",
                                                             [REPLAY_BELADY] = "belady"};

// A cache under a policy: keys come in by take, which holds them, and go when others come in after
// their drop.
struct cache;
struct cache_ops {
    void (*use)(struct cache *c, uint32_t key, uint64_t use_idx);
    bool (*has)(const struct cache *c, uint32_t key);
    bool (*take)(struct cache *c, uint32_t key); // false: every slot is held
    void (*drop)(struct cache *c, uint32_t key);
};

struct want { // of a key in the future
    uint64_t use_idx;
    uint32_t key;
};

struct cache {
    const struct cache_ops *ops;
    uint32_t slots_n, used_n;
    struct residency *residency; // of the policies that it has

    // Random and Belady.
    bool *there, *held; // [keys_n]
    uint32_t *keys;     // [slots_n] Random: the keys in slots
    uint64_t random;
    uint64_t *next;     // [uses_n] Belady: the use of the same key after each use
    uint64_t *next_of;  // [keys_n] of each key after now
    struct want *wants; // [wants_n] heap of keys that may go, latest next use first; an entry that
                        // is not the key's next use any more counts for nothing
    uint64_t wants_n;
};

/* --------------------------------------------------------------- residency */

static void residency_cache_use(struct cache *c, uint32_t key, uint64_t use_idx)
{
    (void)use_idx;
    residency_use(c->residency, key);
}

static bool residency_cache_has(const struct cache *c, uint32_t key)
{
    return residency_find(c->residency, key) != RESIDENCY_NONE;
}

static bool residency_cache_take(struct cache *c, uint32_t key)
{
    uint32_t evicted, slot = residency_find(c->residency, key);
    if (slot == RESIDENCY_NONE)
        return residency_place(c->residency, key, false, &evicted) != RESIDENCY_NONE;
    residency_hold(c->residency, slot);
    return true;
}

static void residency_cache_drop(struct cache *c, uint32_t key)
{
    residency_release(c->residency, residency_find(c->residency, key));
}

static const struct cache_ops residency_ops = {residency_cache_use, residency_cache_has,
                                               residency_cache_take, residency_cache_drop};

/* ------------------------------------------------------------------ random */

static void random_use(struct cache *c, uint32_t key, uint64_t use_idx)
{
    (void)c, (void)key, (void)use_idx;
}

static bool plain_has(const struct cache *c, uint32_t key)
{
    return c->there[key];
}

static bool random_take(struct cache *c, uint32_t key)
{
    c->held[key] = true;
    if (c->there[key])
        return true;
    uint32_t at = c->used_n;
    if (c->used_n < c->slots_n) {
        c->used_n++;
    } else {
        c->random = c->random * 6364136223846793005u + 1442695040888963407u;
        at = (uint32_t)((c->random >> 33) % c->slots_n);
        uint32_t tried = 0;
        for (; tried < c->slots_n && c->held[c->keys[at]]; tried++)
            at = (at + 1) % c->slots_n;
        if (tried == c->slots_n) {
            c->held[key] = false;
            return false;
        }
        c->there[c->keys[at]] = false;
    }
    c->keys[at] = key;
    c->there[key] = true;
    return true;
}

static void random_drop(struct cache *c, uint32_t key)
{
    c->held[key] = false;
}

static const struct cache_ops random_ops = {random_use, plain_has, random_take, random_drop};

/* ------------------------------------------------------------------ Belady */

static void wants_push(struct cache *c, struct want want)
{
    uint64_t at = c->wants_n++;
    for (; at > 0 && c->wants[(at - 1) / 2].use_idx < want.use_idx; at = (at - 1) / 2)
        c->wants[at] = c->wants[(at - 1) / 2];
    c->wants[at] = want;
}

static struct want wants_pop(struct cache *c)
{
    struct want top = c->wants[0], moved = c->wants[--c->wants_n];
    uint64_t at = 0;
    for (uint64_t child; (child = 2 * at + 1) < c->wants_n; at = child) {
        if (child + 1 < c->wants_n && c->wants[child + 1].use_idx > c->wants[child].use_idx)
            child++;
        if (c->wants[child].use_idx <= moved.use_idx)
            break;
        c->wants[at] = c->wants[child];
    }
    c->wants[at] = moved;
    return top;
}

static void belady_use(struct cache *c, uint32_t key, uint64_t use_idx)
{
    c->next_of[key] = c->next[use_idx];
}

// belady_evict: false if nothing may go.
static bool belady_evict(struct cache *c)
{
    while (c->wants_n > 0) {
        struct want want = wants_pop(c);
        if (!c->there[want.key] || c->held[want.key] || c->next_of[want.key] != want.use_idx)
            continue;
        c->there[want.key] = false;
        return true;
    }
    return false;
}

static bool belady_take(struct cache *c, uint32_t key)
{
    if (!c->there[key]) {
        if (c->used_n < c->slots_n)
            c->used_n++;
        else if (!belady_evict(c))
            return false;
    }
    c->there[key] = c->held[key] = true;
    return true;
}

static void belady_drop(struct cache *c, uint32_t key)
{
    c->held[key] = false;
    wants_push(c, (struct want){c->next_of[key], key});
}

static const struct cache_ops belady_ops = {belady_use, plain_has, belady_take, belady_drop};

static void belady_foresee(struct cache *c, const struct replay_uses *uses)
{
    for (uint32_t key = 0; key < uses->keys_n; key++)
        c->next_of[key] = UINT64_MAX;
    for (uint64_t i = uses->first[uses->groups_n]; i-- > 0;) {
        c->next[i] = c->next_of[uses->keys[i]];
        c->next_of[uses->keys[i]] = i;
    }
}

/* ------------------------------------------------------------------- caches */

static void cache_fini(struct cache *c)
{
    residency_destroy(&c->residency);
    free(c->there);
    free(c->held);
    free(c->keys);
    free(c->next);
    free(c->next_of);
    free(c->wants);
}

static int cache_init_residency(struct cache *c, const struct replay_uses *uses,
                                enum residency_policy policy)
{
    c->ops = &residency_ops;
    return residency_create(&(struct residency_params){.keys_n = uses->keys_n,
                                                       .slots_n = c->slots_n,
                                                       .policy = policy,
                                                       .layer_keys = uses->shape.experts},
                            &c->residency);
}

static int cache_init_plain(struct cache *c, const struct replay_uses *uses, bool belady)
{
    uint64_t uses_n = uses->first[uses->groups_n];

    c->ops = belady ? &belady_ops : &random_ops;
    c->random = 1;
    c->there = calloc(uses->keys_n, sizeof(*c->there));
    c->held = calloc(uses->keys_n, sizeof(*c->held));
    c->keys = calloc(c->slots_n, sizeof(*c->keys));
    c->next_of = calloc(uses->keys_n, sizeof(*c->next_of));
    c->next = malloc(uses_n * sizeof(*c->next));
    c->wants = malloc(uses_n * sizeof(*c->wants));
    if (!c->there || !c->held || !c->keys || !c->next_of || !c->next || !c->wants)
        return -ENOMEM;
    if (belady)
        belady_foresee(c, uses);
    return 0;
}

static int cache_init(struct cache *c, const struct replay_uses *uses, enum replay_policy policy)
{
    switch (policy) {
    case REPLAY_LRU:
        return cache_init_residency(c, uses, RESIDENCY_LRU);
    case REPLAY_LFU:
        return cache_init_residency(c, uses, RESIDENCY_LFU);
    case REPLAY_OURS:
        return cache_init_residency(c, uses, RESIDENCY_OURS);
    default:
        return cache_init_plain(c, uses, policy == REPLAY_BELADY);
    }
}

/* -------------------------------------------------------------------- runs */

// run_wave holds keys [n], from *done on, until no slot is left; returns the hits.
static uint64_t run_wave(struct cache *c, const uint32_t *keys, uint32_t n, uint32_t *done)
{
    uint64_t hits = 0;
    for (; *done < n; ++*done) {
        bool hit = c->ops->has(c, keys[*done]);
        if (!c->ops->take(c, keys[*done]))
            break;
        hits += hit;
    }
    return hits;
}

static uint64_t run_waves(struct cache *c, const uint32_t *keys, uint32_t n)
{
    uint64_t hits = 0;
    for (uint32_t begin = 0, done = 0; begin < n; begin = done) {
        hits += run_wave(c, keys, n, &done);
        assert(done > begin); // nothing is held between waves
        for (uint32_t i = begin; i < done; i++)
            c->ops->drop(c, keys[i]);
    }
    return hits;
}

// run_at_once holds what is there before anything is given away.
static uint64_t run_at_once(struct cache *c, const uint32_t *keys, uint32_t n, bool *hit)
{
    uint64_t hits = 0;
    for (uint32_t i = 0; i < n; i++) {
        hit[i] = c->ops->has(c, keys[i]) && c->ops->take(c, keys[i]);
        hits += hit[i];
    }
    for (uint32_t i = 0; i < n; i++) {
        bool placed = hit[i] || c->ops->take(c, keys[i]);
        assert(placed);
        (void)placed;
    }
    for (uint32_t i = 0; i < n; i++)
        c->ops->drop(c, keys[i]);
    return hits;
}

int replay_cache_hits(const struct replay_uses *uses, uint32_t slots, enum replay_policy policy,
                      uint64_t *ret)
{
    static bool hit[ROUTING_TRACE_EXPERTS_MAX];
    struct cache c = {.slots_n = slots};
    uint64_t hits = 0;
    int err = slots == 0 ? -EINVAL : cache_init(&c, uses, policy);

    for (uint64_t group = 0; !err && group < uses->groups_n; group++) {
        uint64_t first = uses->first[group];
        uint32_t n = (uint32_t)(uses->first[group + 1] - first);
        const uint32_t *keys = &uses->keys[first];
        for (uint32_t i = 0; i < n; i++)
            c.ops->use(&c, keys[i], first + i);
        hits += n <= slots ? run_at_once(&c, keys, n, hit) : run_waves(&c, keys, n);
    }
    cache_fini(&c);
    if (!err)
        *ret = hits;
    return err;
}
