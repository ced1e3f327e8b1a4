// SPDX-License-Identifier: MIT
// kv: which pages of the KV cache belong to which sequence.  Pure bookkeeping: a page is a number,
// the same in every layer; kernels find entries through the table.  Owner: the step thread.
#pragma once
#include <stdint.h>

#define KV_PAGE_TOKENS                                                                             \
    64u // >= every subgroup size, so that the lanes of a score never leave a page

struct kv; // opaque

// kv_create makes an empty table for sequences x pages_per_sequence over `pages` pages.  -ENOMEM.
int kv_create(uint32_t sequences, uint32_t pages_per_sequence, uint32_t pages, struct kv **ret);
void kv_destroy(struct kv **kv);

// kv_reserve makes sure that positions 0..tokens-1 of a sequence have pages.
// -ENOSPC if there are not enough (nothing changed), -EINVAL beyond pages_per_sequence or a bad
// sequence.
int kv_reserve(struct kv *kv, uint32_t seq, uint32_t tokens);
// kv_truncate gives back the pages behind position tokens-1.
void kv_truncate(struct kv *kv, uint32_t seq, uint32_t tokens);

uint32_t kv_pages_free(const struct kv *kv);
uint32_t kv_pages_of(const struct kv *kv, uint32_t seq);
// kv_table returns the page numbers of a sequence, [pages_per_sequence], of which kv_pages_of are
// valid.
const uint32_t *kv_table(const struct kv *kv, uint32_t seq);
