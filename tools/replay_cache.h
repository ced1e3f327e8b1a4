// SPDX-License-Identifier: MIT
// replay_cache: how often the experts of a trace are in a slot when they are wanted, under one
// policy and nothing but demand (no speculative reads).
//
// As the engine does it: the experts of a step's layer are used together; those in slots are held,
// the others get slots, and nothing of the layer is given away before the layer is done.  A layer
// that wants more experts than there are slots goes in waves of rising number.
#pragma once
#include "tools/replay_uses.h"

enum replay_policy {
    REPLAY_RANDOM, // anyone goes
    REPLAY_LRU,
    REPLAY_LFU,
    REPLAY_OURS,
    REPLAY_BELADY, // who is wanted last in the future goes: the best that can be
    REPLAY_POLICY_COUNT
};
extern const char *const replay_policy_name[REPLAY_POLICY_COUNT];

// replay_cache_hits counts the uses that found their expert in a slot.  slots: 1..1 << 20.
// -EINVAL, -ENOMEM.
int replay_cache_hits(const struct replay_uses *uses, uint32_t slots, enum replay_policy policy,
                      uint64_t *ret);
