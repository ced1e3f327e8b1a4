// SPDX-License-Identifier: MIT
// pages: a paged KV cache and rows of a step for the tests of attention.
#pragma once
#include "tests/kernels/rig.h"

#define PAGE_TOKENS 64u // kv.h's
#define PAGES_MAX   3u  // of a sequence
#define PAGES       7u
#define SEQS        2u
#define STEP_ROWS   5u
#define ROW_BASE    1u // the dispatch starts at this row of the table

struct pages {
    uint32_t entry; // values of a token
    bool f16;
    uint32_t row[ROW_BASE + STEP_ROWS][4]; // {token, seq, position, 0}
    uint32_t page[SEQS][PAGES_MAX];        // in no order
    struct words cache;                    // f32, or pairs of f16
    struct vk_buffer *table;
};

// pages_make: sequence 0 has positions up to 149, sequence 1 up to 20.  The cache is canaries.
void pages_make(struct rig *rig, struct pages *p, uint32_t entry, bool f16);
// pages_fill gives every position of both sequences random values in -1..1.
void pages_fill(struct rig *rig, struct pages *p);
void pages_free(struct pages *p);

// First word of the table of pages.
#define PAGES0 ((ROW_BASE + STEP_ROWS) * 4)

// pages_at: the number of value i of a position's entry, in values.
uint32_t pages_at(const struct pages *p, uint32_t seq, uint32_t position, uint32_t i);
// pages_value: that value as the kernels read it.
double pages_value(const struct pages *p, uint32_t seq, uint32_t position, uint32_t i);
