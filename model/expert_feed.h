// SPDX-License-Identifier: MIT
// expert_feed: the routed experts of a checkpoint in the order of experts.h, raw, at the speed of
// the drive.  For `expertctl pack` and `hash`.  Owner: one thread.
#pragma once
#include "model/checkpoint.h"
#include "model/experts.h"

#define EXPERT_PARTS 6u // gate, up and down weights, then gate, up and down scales

struct expert_bytes {
    uint32_t index, layer, expert;
    struct tensor_spec spec[3];                // of the weights
    const struct tensor *tensor[EXPERT_PARTS]; // NULL without scales
    const void *part[EXPERT_PARTS];            // any alignment; until the next call
    uint64_t bytes[EXPERT_PARTS];              // 0 without scales
};

struct expert_feed; // opaque

// expert_feed_open starts reading at expert number `first`; ck must stay.
// Errors: as feed_open.
int expert_feed_open(const struct checkpoint *ck, uint32_t first, struct expert_feed **ret,
                     struct fault *fault);
void expert_feed_close(struct expert_feed **feed); // accepts NULL

// expert_feed_next returns 1, 0 behind the last expert, or -errno naming tensor, file and place.
int expert_feed_next(struct expert_feed *feed, struct expert_bytes *ret, struct fault *fault);

// expert_find fills all but the bytes' addresses.
void expert_find(const struct checkpoint *ck, const struct experts *experts, uint32_t index,
                 struct expert_bytes *ret);
