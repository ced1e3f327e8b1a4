// SPDX-License-Identifier: MIT
// ahead: which of the experts that were foretold are read before the router asks for them.  Keeps,
// for each layer, how often its foretold choices of a rank were right, and how long drives had
// nothing wanted to do between layers.  doc/streaming.md has the figures behind the limits.
// Pure: no I/O, no clock.  Owner: the step thread.
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct ahead; // opaque

int ahead_create(uint32_t layers, struct ahead **ret); // -ENOMEM
void ahead_destroy(struct ahead **ahead);

// ahead_foretold remembers what was foretold for a layer: experts [n] by falling probability, at
// most 1024.
void ahead_foretold(struct ahead *ahead, uint32_t layer, const uint32_t *experts, uint32_t n);

// ahead_judge compares it with what the layer wants, experts [n].  *ret_foretold: how many were
// foretold for it, returns how many of them were right.
uint32_t ahead_judge(struct ahead *ahead, uint32_t layer, const uint32_t *experts, uint32_t n,
                     uint32_t *ret_foretold);

// ahead_sure says whether choice i of n foretold for a layer is of a rank that is right in four of
// five cases (trusted until seen); ahead_hopeful whether any rank is.
bool ahead_sure(const struct ahead *ahead, uint32_t layer, uint32_t i, uint32_t n);
bool ahead_hopeful(const struct ahead *ahead, uint32_t layer);

// ahead_gap tells for how long drives had nothing wanted to do before a layer.
void ahead_gap(struct ahead *ahead, uint64_t ns);
// ahead_max returns how many experts of so many bytes drives of so many bytes a second can bring in
// such a gap: 1..4.
uint32_t ahead_max(const struct ahead *ahead, uint64_t bytes_second, uint64_t expert_bytes);
