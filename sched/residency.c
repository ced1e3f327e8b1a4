// SPDX-License-Identifier: MIT
#include "sched/residency.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define KEYS_MAX  (1u << 24)
#define SLOTS_MAX (1u << 20)

// A worth is [proven 1 | count 23 | last use 40], so that one comparison orders keys.
#define LAST_BITS 40u
#define LAST_MAX  ((1ull << LAST_BITS) - 1)
#define COUNT_MAX ((1u << 23) - 1)
#define PROVEN    (1ull << 63)

// A use counts 16, so that a count keeps four bits behind the point when it is halved.
#define COUNT_ONE    16u
#define COUNT_PROVEN (2 * COUNT_ONE)

// Keys that were seen once keep this share of the slots against keys that were seen twice.
#define PROBATION_SHARE 8u

// Counts are halved once every key could have been used so often.
#define AGE_USES_A_KEY 8u

#define NOWHERE UINT32_MAX

enum part { PROBATION, MAIN, PART_COUNT };

const char *const residency_policy_name[RESIDENCY_POLICY_COUNT] = {
    [RESIDENCY_OURS] = "ours", [RESIDENCY_LRU] = "lru", [RESIDENCY_LFU] = "lfu"};

struct key {
    uint64_t last;  // number of its last use, 0: never
    uint32_t count; // uses, halved now and then, in units of 1 / COUNT_ONE
    uint32_t slot;  // or RESIDENCY_NONE
};

struct slot {
    uint32_t key; // or RESIDENCY_NONE
    uint32_t holds;
    uint32_t at; // index in its part's heap, or NOWHERE while it is free, empty or held
    enum part part;
};

struct entry { // of a heap
    uint64_t worth;
    uint32_t slot;
};

// The slots of a part that may be given away, the least worthy at index 0.
struct heap {
    struct entry *entries; // [slots_n]
    uint32_t n;
};

struct residency {
    struct residency_params params;
    struct key *keys;     // [keys_n]
    struct slot *slots;   // [slots_n]
    uint32_t *free_slots; // [slots_n], a stack
    struct heap heaps[PART_COUNT];
    uint32_t part_n[PART_COUNT]; // slots with a key of that part, held ones too
    uint32_t free_n, probation_min;
    uint64_t uses, age_at; // uses so far, and at which number counts are halved next
};

/* -------------------------------------------------------------------- heap */

static void heap_put(struct residency *r, struct heap *heap, uint32_t at, struct entry entry)
{
    heap->entries[at] = entry;
    r->slots[entry.slot].at = at;
}

static bool entry_before(const struct entry *a, const struct entry *b)
{
    return a->worth != b->worth ? a->worth < b->worth : a->slot < b->slot;
}

static void heap_up(struct residency *r, struct heap *heap, uint32_t at, struct entry entry)
{
    while (at > 0 && entry_before(&entry, &heap->entries[(at - 1) / 2])) {
        heap_put(r, heap, at, heap->entries[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(r, heap, at, entry);
}

static void heap_down(struct residency *r, struct heap *heap, uint32_t at, struct entry entry)
{
    for (uint32_t child; (child = 2 * at + 1) < heap->n; at = child) {
        if (child + 1 < heap->n && entry_before(&heap->entries[child + 1], &heap->entries[child]))
            child++;
        if (!entry_before(&heap->entries[child], &entry))
            break;
        heap_put(r, heap, at, heap->entries[child]);
    }
    heap_put(r, heap, at, entry);
}

static void heap_remove(struct residency *r, struct heap *heap, uint32_t at)
{
    r->slots[heap->entries[at].slot].at = NOWHERE;
    struct entry moved = heap->entries[--heap->n];
    if (at == heap->n)
        return;
    if (at > 0 && entry_before(&moved, &heap->entries[(at - 1) / 2]))
        heap_up(r, heap, at, moved);
    else
        heap_down(r, heap, at, moved);
}

/* ------------------------------------------------------------------- slots */

static enum part key_part(const struct residency *r, uint32_t key)
{
    return residency_worth(r, key) & PROVEN ? MAIN : PROBATION;
}

// slot_leave takes a slot with a key out of its part.
static void slot_leave(struct residency *r, uint32_t slot)
{
    struct slot *s = &r->slots[slot];
    r->part_n[s->part]--;
    if (s->at != NOWHERE)
        heap_remove(r, &r->heaps[s->part], s->at);
}

// slot_join puts a slot into the part of its key, and among those that may be given away unless it
// is held.
static void slot_join(struct residency *r, uint32_t slot)
{
    struct slot *s = &r->slots[slot];
    s->part = key_part(r, s->key);
    r->part_n[s->part]++;
    if (s->holds > 0)
        return;
    struct heap *heap = &r->heaps[s->part];
    heap_up(r, heap, heap->n++, (struct entry){residency_worth(r, s->key), slot});
}

/* ------------------------------------------------------------------ public */

static bool params_ok(const struct residency_params *p)
{
    return p->keys_n >= 1 && p->keys_n <= KEYS_MAX && p->slots_n >= 1 && p->slots_n <= SLOTS_MAX &&
           p->policy < RESIDENCY_POLICY_COUNT;
}

int residency_create(const struct residency_params *params, struct residency **ret)
{
    if (!params_ok(params))
        return -EINVAL;

    struct residency *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    r->params = *params;
    if (params->age_uses == 0)
        r->params.age_uses = AGE_USES_A_KEY * params->keys_n;
    r->age_at = r->params.age_uses;
    r->probation_min = params->slots_n / PROBATION_SHARE;
    r->keys = calloc(params->keys_n, sizeof(*r->keys));
    r->slots = calloc(params->slots_n, sizeof(*r->slots));
    r->free_slots = calloc(params->slots_n, sizeof(*r->free_slots));
    for (uint32_t part = 0; part < PART_COUNT; part++)
        r->heaps[part].entries = calloc(params->slots_n, sizeof(struct entry));
    if (!r->keys || !r->slots || !r->free_slots || !r->heaps[PROBATION].entries ||
        !r->heaps[MAIN].entries) {
        residency_destroy(&r);
        return -ENOMEM;
    }
    for (uint32_t key = 0; key < params->keys_n; key++)
        r->keys[key].slot = RESIDENCY_NONE;
    for (uint32_t slot = 0; slot < params->slots_n; slot++) {
        r->slots[slot] = (struct slot){.key = RESIDENCY_NONE, .at = NOWHERE};
        r->free_slots[slot] = params->slots_n - 1 - slot; // slot 0 is taken first
    }
    r->free_n = params->slots_n;
    *ret = r;
    return 0;
}

void residency_destroy(struct residency **residency)
{
    struct residency *r = *residency;
    if (!r)
        return;
    free(r->keys);
    free(r->slots);
    free(r->free_slots);
    for (uint32_t part = 0; part < PART_COUNT; part++)
        free(r->heaps[part].entries);
    free(r);
    *residency = NULL;
}

uint32_t residency_find(const struct residency *r, uint32_t key)
{
    assert(key < r->params.keys_n);
    return r->keys[key].slot;
}

uint32_t residency_key(const struct residency *r, uint32_t slot)
{
    assert(slot < r->params.slots_n);
    return r->slots[slot].key;
}

uint64_t residency_worth(const struct residency *r, uint32_t key)
{
    assert(key < r->params.keys_n);
    const struct key *k = &r->keys[key];
    uint64_t counted = (uint64_t)k->count << LAST_BITS | k->last;
    switch (r->params.policy) {
    case RESIDENCY_LRU:
        return PROVEN | k->last;
    case RESIDENCY_LFU:
        return PROVEN | counted;
    default:
        return k->count >= COUNT_PROVEN ? PROVEN | counted : k->last;
    }
}

uint32_t residency_resident_n(const struct residency *r)
{
    return r->part_n[PROBATION] + r->part_n[MAIN];
}

// residency_age halves the counts, which may send keys back on probation.  Numbers of uses are
// halved too when they would outgrow their field: what was older stays older, or becomes as old.
static void residency_age(struct residency *r)
{
    bool renumber = r->uses >= LAST_MAX / 2;

    for (uint32_t key = 0; key < r->params.keys_n; key++) {
        if (r->params.policy == RESIDENCY_OURS)
            r->keys[key].count /= 2;
        if (renumber)
            r->keys[key].last /= 2;
    }
    if (renumber)
        r->uses /= 2;
    r->age_at = r->uses + r->params.age_uses;
    for (uint32_t part = 0; part < PART_COUNT; part++)
        r->heaps[part].n = r->part_n[part] = 0;
    for (uint32_t slot = 0; slot < r->params.slots_n; slot++) {
        r->slots[slot].at = NOWHERE;
        if (r->slots[slot].key != RESIDENCY_NONE)
            slot_join(r, slot);
    }
}

void residency_use(struct residency *r, uint32_t key)
{
    assert(key < r->params.keys_n);
    if (r->uses >= r->age_at)
        residency_age(r);
    struct key *k = &r->keys[key];
    if (k->slot != RESIDENCY_NONE)
        slot_leave(r, k->slot);
    k->last = ++r->uses;
    k->count = k->count > COUNT_MAX - COUNT_ONE ? COUNT_MAX : k->count + COUNT_ONE;
    if (k->slot != RESIDENCY_NONE)
        slot_join(r, k->slot);
}

// victim_part says from which part a slot comes when none is free; PART_COUNT: all are held.
static enum part victim_part(const struct residency *r, uint32_t key)
{
    if (r->heaps[MAIN].n == 0)
        return r->heaps[PROBATION].n > 0 ? PROBATION : PART_COUNT;
    if (r->heaps[PROBATION].n == 0)
        return MAIN;
    if (key_part(r, key) == PROBATION)
        return PROBATION;
    return r->part_n[PROBATION] > r->probation_min ? PROBATION : MAIN;
}

uint32_t residency_place(struct residency *r, uint32_t key, bool speculative, uint32_t *ret_evicted)
{
    assert(residency_find(r, key) == RESIDENCY_NONE);
    uint32_t slot, evicted = RESIDENCY_NONE;

    if (r->free_n > 0) {
        slot = r->free_slots[--r->free_n];
    } else {
        enum part part = victim_part(r, key);
        if (part == PART_COUNT)
            return RESIDENCY_NONE;
        struct entry least = r->heaps[part].entries[0];
        if (speculative && least.worth > residency_worth(r, key))
            return RESIDENCY_NONE;
        slot = least.slot;
        evicted = r->slots[slot].key;
        slot_leave(r, slot);
        r->keys[evicted].slot = RESIDENCY_NONE;
    }
    r->keys[key].slot = slot;
    r->slots[slot].key = key;
    r->slots[slot].holds = 1;
    slot_join(r, slot);
    *ret_evicted = evicted;
    return slot;
}

void residency_hold(struct residency *r, uint32_t slot)
{
    assert(slot < r->params.slots_n);
    struct slot *s = &r->slots[slot];
    assert(s->key != RESIDENCY_NONE || s->holds > 0);
    if (s->holds++ == 0)
        heap_remove(r, &r->heaps[s->part], s->at);
}

void residency_release(struct residency *r, uint32_t slot)
{
    assert(slot < r->params.slots_n);
    struct slot *s = &r->slots[slot];
    assert(s->holds > 0);
    if (--s->holds > 0)
        return;
    if (s->key == RESIDENCY_NONE) {
        r->free_slots[r->free_n++] = slot;
        return;
    }
    r->part_n[s->part]--;
    slot_join(r, slot);
}

void residency_forget(struct residency *r, uint32_t slot)
{
    assert(slot < r->params.slots_n);
    struct slot *s = &r->slots[slot];
    assert(s->key != RESIDENCY_NONE);
    slot_leave(r, slot);
    r->keys[s->key].slot = RESIDENCY_NONE;
    s->key = RESIDENCY_NONE;
    if (s->holds == 0)
        r->free_slots[r->free_n++] = slot;
}
