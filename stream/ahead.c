// SPDX-License-Identifier: MIT
#include "stream/ahead.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FORETOLD_MAX 1024u
#define EXPERTS_MAX  4u // later choices are right less often
#define RANKS        8u
#define SHARE_ONE    65536u
#define SHARE_VISITS 32u // how many visits a share remembers
#define SURE         (SHARE_ONE * 5 / 6)
#define GAP_VISITS   8u

struct ahead {
    uint32_t (*right)[RANKS]; // [layers] share of visits in which choices of a rank were right
    uint64_t gap_ns;
    uint32_t layer, n;
    uint32_t experts[FORETOLD_MAX];
};

int ahead_create(uint32_t layers, struct ahead **ret)
{
    struct ahead *a = calloc(1, sizeof(*a));
    if (!a)
        return -ENOMEM;
    a->right = calloc(layers, sizeof(*a->right));
    if (!a->right) {
        free(a);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < layers; i++)
        for (uint32_t rank = 0; rank < RANKS; rank++)
            a->right[i][rank] = SURE; // one wrong choice, and it has to prove itself
    *ret = a;
    return 0;
}

void ahead_destroy(struct ahead **ahead)
{
    if (*ahead)
        free((*ahead)->right);
    free(*ahead);
    *ahead = NULL;
}

void ahead_foretold(struct ahead *a, uint32_t layer, const uint32_t *experts, uint32_t n)
{
    a->layer = layer;
    a->n = n < FORETOLD_MAX ? n : FORETOLD_MAX;
    memcpy(a->experts, experts, a->n * sizeof(*experts));
}

static uint32_t rank_of(uint32_t i, uint32_t n)
{
    return i * RANKS / n;
}

uint32_t ahead_judge(struct ahead *a, uint32_t layer, const uint32_t *experts, uint32_t n,
                     uint32_t *ret_foretold)
{
    uint32_t right_n = 0;
    *ret_foretold = 0;
    if (a->n == 0 || a->layer != layer)
        return 0;
    for (uint32_t i = 0; i < a->n; i++) {
        bool right = false;
        for (uint32_t j = 0; j < n; j++)
            right |= experts[j] == a->experts[i];
        right_n += right;
        uint32_t *share = &a->right[layer][rank_of(i, a->n)];
        *share += (right ? SHARE_ONE / SHARE_VISITS : 0) - *share / SHARE_VISITS;
    }
    *ret_foretold = a->n;
    a->n = 0;
    return right_n;
}

bool ahead_sure(const struct ahead *a, uint32_t layer, uint32_t i, uint32_t n)
{
    return a->right[layer][rank_of(i, n)] >= SURE;
}

bool ahead_hopeful(const struct ahead *a, uint32_t layer)
{
    for (uint32_t rank = 0; rank < RANKS; rank++)
        if (a->right[layer][rank] >= SURE)
            return true;
    return false;
}

void ahead_gap(struct ahead *a, uint64_t ns)
{
    a->gap_ns = a->gap_ns ? a->gap_ns - a->gap_ns / GAP_VISITS + ns / GAP_VISITS : ns;
}

uint32_t ahead_max(const struct ahead *a, uint64_t bytes_second, uint64_t expert_bytes)
{
    double n = (double)a->gap_ns * 1e-9 * (double)bytes_second / (double)expert_bytes;
    return n >= EXPERTS_MAX ? EXPERTS_MAX : (uint32_t)n + 1;
}
