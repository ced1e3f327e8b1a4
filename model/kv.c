// SPDX-License-Identifier: MIT
#include "model/kv.h"

#include <errno.h>
#include <stdlib.h>

struct kv {
    uint32_t sequences, pages_per_sequence;
    uint32_t free_n;
    uint32_t *free_pages; // [free_n], a stack; the lowest numbers go first
    uint32_t *pages_n;    // [sequences]
    uint32_t *table;      // [sequences, pages_per_sequence]
};

int kv_create(uint32_t sequences, uint32_t pages_per_sequence, uint32_t pages, struct kv **ret)
{
    struct kv *kv = calloc(1, sizeof(*kv));
    if (!kv)
        return -ENOMEM;
    kv->sequences = sequences;
    kv->pages_per_sequence = pages_per_sequence;
    kv->free_pages = calloc(pages, sizeof(uint32_t));
    kv->pages_n = calloc(sequences, sizeof(uint32_t));
    kv->table = calloc((size_t)sequences * pages_per_sequence, sizeof(uint32_t));
    if (!kv->free_pages || !kv->pages_n || !kv->table) {
        kv_destroy(&kv);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < pages; i++)
        kv->free_pages[i] = pages - 1 - i;
    kv->free_n = pages;
    *ret = kv;
    return 0;
}

void kv_destroy(struct kv **kvp)
{
    struct kv *kv = *kvp;
    *kvp = NULL;
    if (!kv)
        return;
    free(kv->free_pages);
    free(kv->pages_n);
    free(kv->table);
    free(kv);
}

static uint32_t pages_for(uint32_t tokens)
{
    return tokens / KV_PAGE_TOKENS + (tokens % KV_PAGE_TOKENS != 0);
}

int kv_reserve(struct kv *kv, uint32_t seq, uint32_t tokens)
{
    uint32_t want = pages_for(tokens);
    if (seq >= kv->sequences || want > kv->pages_per_sequence)
        return -EINVAL;
    uint32_t have = kv->pages_n[seq];
    if (want <= have)
        return 0;
    if (want - have > kv->free_n)
        return -ENOSPC;
    for (; have < want; have++)
        kv->table[(size_t)seq * kv->pages_per_sequence + have] = kv->free_pages[--kv->free_n];
    kv->pages_n[seq] = want;
    return 0;
}

void kv_truncate(struct kv *kv, uint32_t seq, uint32_t tokens)
{
    uint32_t keep = pages_for(tokens);
    if (seq >= kv->sequences)
        return;
    while (kv->pages_n[seq] > keep)
        kv->free_pages[kv->free_n++] =
            kv->table[(size_t)seq * kv->pages_per_sequence + --kv->pages_n[seq]];
}

uint32_t kv_pages_free(const struct kv *kv)
{
    return kv->free_n;
}

uint32_t kv_pages_of(const struct kv *kv, uint32_t seq)
{
    return kv->pages_n[seq];
}

const uint32_t *kv_table(const struct kv *kv, uint32_t seq)
{
    return kv->table + (size_t)seq * kv->pages_per_sequence;
}
