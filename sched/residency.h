// SPDX-License-Identifier: MIT
// residency: which experts are in which slots, and who makes room.  A key is an expert of a layer
// (0..keys_n-1); a slot is a place for one.  Frequency with ageing decides, the more recent of
// equals stays; a key that was asked for once does not push out one that was asked for twice
// (second-visit admission); slots in use are never given away.
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
    uint32_t age_uses; // counts are halved after so many uses; 0: the default
};

struct residency; // opaque

int residency_create(const struct residency_params *params, struct residency **ret);
void residency_destroy(struct residency **r);

// residency_find returns the slot of a key, or RESIDENCY_NONE.  A key whose load has begun has one.
uint32_t residency_find(const struct residency *r, uint32_t key);
// residency_key returns the key in a slot, or RESIDENCY_NONE.
uint32_t residency_key(const struct residency *r, uint32_t slot);

// residency_use counts one demand for a key, in a slot or not; call it once a step and layer.
void residency_use(struct residency *r, uint32_t key);

// residency_place gives a key that has no slot one: a free one, or that of the least worthy key
// without a hold, which loses it.  The slot is held once (see residency_hold).
//
// speculative: take only a free slot or one of a key that is worth no more than this one.
// *ret_evicted: the key that lost the slot, or RESIDENCY_NONE.
// Returns the slot, or RESIDENCY_NONE if none may be taken now.
uint32_t residency_place(struct residency *r, uint32_t key, bool speculative,
                         uint32_t *ret_evicted);

// A held slot is not given away: a read goes into it or kernels read it.  Holds are counted.
void residency_hold(struct residency *r, uint32_t slot);
void residency_release(struct residency *r, uint32_t slot);
// residency_forget empties a slot (its load failed or was cancelled); holds stay as they are, and a
// slot that is held is not used again before its last release.
void residency_forget(struct residency *r, uint32_t slot);

// residency_worth orders keys by how much the policy wants to keep them: larger stays longer.
uint64_t residency_worth(const struct residency *r, uint32_t key);
uint32_t residency_resident_n(const struct residency *r); // slots that have a key
