// SPDX-License-Identifier: MIT
#include "sched/residency.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define KEYS_MAX  (1u << 24)
#define SLOTS_MAX (1u << 20)

// A share of visits is 0..SHARE_ONE; the weights of a visit are 2^-NOW_SHIFT and 2^-OFTEN_SHIFT.
// Chosen with tools/replay (doc/residency.md): OFTEN_SHIFT 3 loses up to 0.5 points of hits, 4 and
// 6 are within 0.2 of this.
#define SHARE_ONE   (1u << 24)
#define NOW_SHIFT   1u
#define OFTEN_SHIFT 5u

// A distance of d layers of n counts 10 * d + n: a visit that is due at once is worth some ten
// times one that is a whole step away.  3 instead of 10 changes hits by -0.3 to +0.3 points, no
// distance at all by 0 to -2.
#define DISTANCE_UNIT 10u

#define NOWHERE UINT32_MAX

const char *const residency_policy_name[RESIDENCY_POLICY_COUNT] = {
    [RESIDENCY_OURS] = "ours", [RESIDENCY_LRU] = "lru", [RESIDENCY_LFU] = "lfu"};

struct key {
    uint32_t now, often; // shares of its layer's visits that wanted it
    uint32_t slot;       // or RESIDENCY_NONE
    uint64_t uses;
    uint64_t last; // number of its last use, 0: never
};

struct slot {
    uint32_t key; // or RESIDENCY_NONE
    uint32_t holds;
    uint32_t at; // index in its layer's heap, or NOWHERE while it is empty or held
};

struct entry { // of a heap
    uint64_t rank, last;
    uint32_t slot;
};

// The slots with keys of one layer that may be given away, the least worthy at index 0.  Within a
// layer the order of keys changes only when it is visited; between layers, all the time.
struct heap {
    struct entry *entries; // [layer_keys or slots_n, whichever is less]
    uint32_t n;
};

struct residency {
    struct residency_params params;
    uint32_t layers_n;
    struct key *keys;      // [keys_n]
    struct slot *slots;    // [slots_n]
    uint32_t *free_slots;  // [slots_n], a stack
    struct heap *heaps;    // [layers_n]
    struct entry *entries; // of all heaps
    uint32_t free_n, resident_n;
    uint32_t last_key; // that was used, RESIDENCY_NONE: none yet
    uint64_t uses;
};

static uint32_t layer_of(const struct residency *r, uint32_t key)
{
    return key / r->params.layer_keys;
}

// key_rank orders the keys of one layer.
static uint64_t key_rank(const struct residency *r, uint32_t key)
{
    const struct key *k = &r->keys[key];
    switch (r->params.policy) {
    case RESIDENCY_LRU:
        return k->last;
    case RESIDENCY_LFU:
        return k->uses;
    default:
        return (uint64_t)k->now + k->often;
    }
}

// layer_worth makes a rank comparable with those of other layers: the nearer a layer's next visit,
// the less it costs to keep what that visit may want.
static uint64_t layer_worth(const struct residency *r, uint32_t layer, uint64_t rank)
{
    if (r->params.policy != RESIDENCY_OURS)
        return rank;
    uint32_t here = r->last_key == RESIDENCY_NONE ? r->layers_n - 1 : layer_of(r, r->last_key);
    uint64_t distance = layer > here ? layer - here : layer + r->layers_n - here;
    return (rank << 32) / (DISTANCE_UNIT * distance + r->layers_n);
}

/* -------------------------------------------------------------------- heap */

static void heap_put(struct residency *r, struct heap *heap, uint32_t at, struct entry entry)
{
    heap->entries[at] = entry;
    r->slots[entry.slot].at = at;
}

static bool entry_before(const struct entry *a, const struct entry *b)
{
    if (a->rank != b->rank)
        return a->rank < b->rank;
    return a->last != b->last ? a->last < b->last : a->slot < b->slot;
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

/* ------------------------------------------------------------------- slots */

static struct heap *slot_heap(const struct residency *r, uint32_t slot)
{
    return &r->heaps[layer_of(r, r->slots[slot].key)];
}

// slot_offer puts a slot with a key among those that may be given away.
static void slot_offer(struct residency *r, uint32_t slot)
{
    uint32_t key = r->slots[slot].key;
    struct heap *heap = slot_heap(r, slot);
    heap_up(r, heap, heap->n++, (struct entry){key_rank(r, key), r->keys[key].last, slot});
}

// slot_withdraw takes it out from among them, if it is there.
static void slot_withdraw(struct residency *r, uint32_t slot)
{
    struct heap *heap = slot_heap(r, slot);
    uint32_t at = r->slots[slot].at;
    if (at == NOWHERE)
        return;
    r->slots[slot].at = NOWHERE;
    struct entry moved = heap->entries[--heap->n];
    if (at == heap->n)
        return;
    if (at > 0 && entry_before(&moved, &heap->entries[(at - 1) / 2]))
        heap_up(r, heap, at, moved);
    else
        heap_down(r, heap, at, moved);
}

static void slot_empty(struct residency *r, uint32_t slot)
{
    slot_withdraw(r, slot);
    r->keys[r->slots[slot].key].slot = RESIDENCY_NONE;
    r->slots[slot].key = RESIDENCY_NONE;
    r->resident_n--;
}

// least returns the slot of the least worthy key that may lose it, or RESIDENCY_NONE.
static uint32_t least(const struct residency *r, uint64_t *ret_worth)
{
    const struct entry *best = NULL;
    uint64_t best_worth = 0;
    for (uint32_t layer = 0; layer < r->layers_n; layer++) {
        if (r->heaps[layer].n == 0)
            continue;
        const struct entry *entry = &r->heaps[layer].entries[0];
        uint64_t worth = layer_worth(r, layer, entry->rank);
        if (best && (worth > best_worth || (worth == best_worth && entry->last >= best->last)))
            continue;
        best = entry;
        best_worth = worth;
    }
    *ret_worth = best_worth;
    return best ? best->slot : RESIDENCY_NONE;
}

/* ------------------------------------------------------------------ public */

static bool params_ok(const struct residency_params *p)
{
    return p->keys_n >= 1 && p->keys_n <= KEYS_MAX && p->slots_n >= 1 && p->slots_n <= SLOTS_MAX &&
           p->layer_keys <= p->keys_n && p->policy < RESIDENCY_POLICY_COUNT;
}

// heaps_create: a layer has no more slots than keys.
static int heaps_create(struct residency *r)
{
    uint32_t max =
        r->params.layer_keys < r->params.slots_n ? r->params.layer_keys : r->params.slots_n;
    r->heaps = calloc(r->layers_n, sizeof(*r->heaps));
    r->entries = calloc((size_t)r->layers_n * max, sizeof(*r->entries));
    if (!r->heaps || !r->entries)
        return -ENOMEM;
    for (uint32_t layer = 0; layer < r->layers_n; layer++)
        r->heaps[layer].entries = &r->entries[(size_t)layer * max];
    return 0;
}

int residency_create(const struct residency_params *params, struct residency **ret)
{
    if (!params_ok(params))
        return -EINVAL;

    struct residency *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    r->params = *params;
    if (params->layer_keys == 0 || params->policy != RESIDENCY_OURS)
        r->params.layer_keys = params->keys_n; // the others know no layers
    r->layers_n = (params->keys_n - 1) / r->params.layer_keys + 1;
    r->last_key = RESIDENCY_NONE;
    r->keys = calloc(params->keys_n, sizeof(*r->keys));
    r->slots = calloc(params->slots_n, sizeof(*r->slots));
    r->free_slots = calloc(params->slots_n, sizeof(*r->free_slots));
    if (!r->keys || !r->slots || !r->free_slots || heaps_create(r)) {
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
    free(r->heaps);
    free(r->entries);
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
    return layer_worth(r, layer_of(r, key), key_rank(r, key));
}

uint32_t residency_resident_n(const struct residency *r)
{
    return r->resident_n;
}

// visit_begin lets the shares of a layer's keys fall; residency_use raises those of the wanted.
static void visit_begin(struct residency *r, uint32_t layer)
{
    uint32_t first = layer * r->params.layer_keys, left = r->params.keys_n - first;
    uint32_t n = left < r->params.layer_keys ? left : r->params.layer_keys;
    struct heap *heap = &r->heaps[layer];

    for (uint32_t key = first; key < first + n; key++) {
        r->keys[key].now -= r->keys[key].now >> NOW_SHIFT;
        r->keys[key].often -= r->keys[key].often >> OFTEN_SHIFT;
    }
    // Neighbours may have become equal, or equals neighbours: the heap is built anew, in place.
    uint32_t heap_n = heap->n;
    for (heap->n = 0; heap->n < heap_n;)
        slot_offer(r, heap->entries[heap->n].slot);
}

void residency_use(struct residency *r, uint32_t key)
{
    assert(key < r->params.keys_n);
    struct key *k = &r->keys[key];
    uint32_t last_key = r->last_key;

    r->last_key = key;
    if (r->params.policy == RESIDENCY_OURS &&
        (last_key == RESIDENCY_NONE || layer_of(r, last_key) != layer_of(r, key) ||
         last_key >= key))
        visit_begin(r, layer_of(r, key));
    bool offered = k->slot != RESIDENCY_NONE && r->slots[k->slot].holds == 0;
    if (offered)
        slot_withdraw(r, k->slot);
    k->now += SHARE_ONE >> NOW_SHIFT;
    k->often += SHARE_ONE >> OFTEN_SHIFT;
    k->uses++;
    k->last = ++r->uses;
    if (offered)
        slot_offer(r, k->slot);
}

// What a key would be worth had its layer's last visit wanted it.
static uint64_t worth_wanted(const struct residency *r, uint32_t key)
{
    if (r->params.policy != RESIDENCY_OURS)
        return r->params.policy == RESIDENCY_LRU ? UINT64_MAX : residency_worth(r, key) + 1;
    uint64_t use = (SHARE_ONE >> NOW_SHIFT) + (SHARE_ONE >> OFTEN_SHIFT);
    return layer_worth(r, layer_of(r, key), key_rank(r, key) + use);
}

uint32_t residency_place(struct residency *r, uint32_t key, bool speculative, uint32_t *ret_evicted)
{
    assert(residency_find(r, key) == RESIDENCY_NONE);
    uint32_t slot, evicted = RESIDENCY_NONE;

    if (r->free_n > 0) {
        slot = r->free_slots[--r->free_n];
    } else {
        uint64_t worth;
        slot = least(r, &worth);
        if (slot == RESIDENCY_NONE || (speculative && worth > worth_wanted(r, key)))
            return RESIDENCY_NONE;
        evicted = r->slots[slot].key;
        slot_empty(r, slot);
    }
    r->keys[key].slot = slot;
    r->slots[slot].key = key;
    r->slots[slot].holds = 1;
    r->resident_n++;
    *ret_evicted = evicted;
    return slot;
}

bool residency_spares(const struct residency *r, uint32_t key)
{
    uint64_t worth;
    return r->free_n > 0 ||
           (least(r, &worth) != RESIDENCY_NONE && worth <= residency_worth(r, key));
}

void residency_hold(struct residency *r, uint32_t slot)
{
    assert(slot < r->params.slots_n);
    struct slot *s = &r->slots[slot];
    assert(s->key != RESIDENCY_NONE || s->holds > 0);
    if (s->holds++ == 0)
        slot_withdraw(r, slot);
}

void residency_release(struct residency *r, uint32_t slot)
{
    assert(slot < r->params.slots_n);
    struct slot *s = &r->slots[slot];
    assert(s->holds > 0);
    if (--s->holds > 0)
        return;
    if (s->key != RESIDENCY_NONE)
        slot_offer(r, slot);
    else
        r->free_slots[r->free_n++] = slot;
}

void residency_forget(struct residency *r, uint32_t slot)
{
    assert(slot < r->params.slots_n);
    assert(r->slots[slot].key != RESIDENCY_NONE);
    slot_empty(r, slot);
    if (r->slots[slot].holds == 0)
        r->free_slots[r->free_n++] = slot;
}
