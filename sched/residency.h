// SPDX-License-Identifier: MIT
// residency: which experts are in which slots, and who makes room.  A key is an expert of a layer
// (0..keys_n-1, layer by layer); a slot is a place for one.
//
// Who stays: steps go through the layers in turn, so each visit of a layer tells of each of its
// experts whether it was wanted.  Two shares of visits are kept for a key, one that is halved at
// each visit and one that is halved after some 22: what runs now and what is often wanted.  Their
// sum, divided by how far off the key's layer is, is its worth: a slot is given to who is likely
// to be wanted soon.  The more recent of equals stays.  Slots in use are never given away.
// doc/residency.md has the figures.
//
// Pure and deterministic: no I/O, no clock; the same calls give the same answers, so tools/replay
// runs it on recorded traces.  Owner: one thread (step).  All memory is taken at create.
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define RESIDENCY_NONE UINT32_MAX

enum residency_policy {
    RESIDENCY_OURS,
    RESIDENCY_LRU, // for comparison: the least recently used goes
    RESIDENCY_LFU, // for comparison: the least often used goes, without ageing
    RESIDENCY_POLICY_COUNT
};
extern const char *const residency_policy_name[RESIDENCY_POLICY_COUNT]; // "ours", "lru", "lfu"

struct residency_params {
    uint32_t keys_n;  // 1..1 << 24
    uint32_t slots_n; // 1..1 << 20
    enum residency_policy policy;
    uint32_t layer_keys; // key / layer_keys is its layer, 1..keys_n; 0: all keys are of one
};

struct residency; // opaque

int residency_create(const struct residency_params *params,
                     struct residency **ret); // -EINVAL, -ENOMEM
void residency_destroy(struct residency **r);

// residency_find returns the slot of a key, or RESIDENCY_NONE.  A key whose load has begun has one.
uint32_t residency_find(const struct residency *r, uint32_t key);
// residency_key returns the key in a slot, or RESIDENCY_NONE.
uint32_t residency_key(const struct residency *r, uint32_t slot);

// residency_use counts one demand for a key, in a slot or not.  Call it once for each key of a step
// and layer, in rising order, before residency_place: a key that is of another layer than the one
// before, or not above it, begins a visit, which costs O(layer_keys).
void residency_use(struct residency *r, uint32_t key);

// residency_place gives a key that has no slot one: a free one, or that of the least worthy key
// without a hold, which loses it.  The slot is held once (see residency_hold).  Costs O(layers) and
// O(log slots); the other calls O(log slots) at most.
//
// speculative: the key is foretold for its layer's next visit: take only a free slot or one of a
// key that is worth no more than this one would be if the last visit had wanted it.
// *ret_evicted: the key that lost the slot, or RESIDENCY_NONE.
// Returns the slot, or RESIDENCY_NONE if none may be taken now (*ret_evicted is as it was then).
uint32_t residency_place(struct residency *r, uint32_t key, bool speculative,
                         uint32_t *ret_evicted);

// residency_spares says whether residency_place would find a key a free slot, or one of a key that
// is worth no more than this one is now.
bool residency_spares(const struct residency *r, uint32_t key);

// A held slot is not given away: a read goes into it or kernels read it.  Holds are counted.
void residency_hold(struct residency *r, uint32_t slot);
void residency_release(struct residency *r, uint32_t slot);
// residency_forget empties a slot (its load failed or was cancelled); holds stay as they are, and a
// slot that is held is not used again before its last release.
void residency_forget(struct residency *r, uint32_t slot);

// residency_worth orders keys by how much the policy wants to keep them now: larger stays longer.
uint64_t residency_worth(const struct residency *r, uint32_t key);
uint32_t residency_resident_n(const struct residency *r); // slots that have a key
