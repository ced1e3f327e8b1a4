// SPDX-License-Identifier: MIT
// expert_source: who brings routed experts into slots while a step runs.  model/ does not read
// drives: the graph says which experts a layer needs and is told in which slots they are.  The one
// implementation is stream/stream.c; tests have small ones.
// All calls come from the step thread, inside engine_step and engine_mtp_step.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stdint.h>

#define EXPERT_NO_SLOT UINT32_MAX

struct expert_ready {
    uint32_t expert; // of the layer that began
    uint32_t slot;   // held until released; EXPERT_NO_SLOT: it cannot be had (fault says why)
};

struct expert_source {
    void *user;
    // begin: the router of a layer has chosen: experts [n], unique, ascending.
    void (*begin)(void *user, uint32_t layer, const uint32_t *experts, uint32_t n);
    // next takes experts of the layer that are ready and have not been told yet, at most max.
    // block: waits for at least one, unless nothing is under way because every slot is held: then
    // 0. Returns how many; fault is filled if one of them has no slot.
    uint32_t (*next)(void *user, struct expert_ready *ret, uint32_t max, bool block,
                     struct fault *fault);
    // release: no kernel reads these slots [n] any more.
    void (*release)(void *user, const uint32_t *slots, uint32_t n);
    // curious: would it read ahead for a layer?  Foretelling costs some dispatches.
    bool (*curious)(void *user, uint32_t layer);
    // predict: the experts that a later layer will probably want (never called if nobody is
    // curious), [n] by falling probability.  It is advice: reads for them may begin if no drive has
    // anything else to do.
    void (*predict)(void *user, uint32_t layer, const uint32_t *experts, uint32_t n);
};
