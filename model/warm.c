// SPDX-License-Identifier: MIT
#include "model/warm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct warm {
    struct expert_source source;
    struct slots *slots;
    uint32_t *free; // [slots_n], a stack
    uint32_t free_n;
    uint32_t layer;
    const uint32_t *experts; // of the layer, [n]; the graph's, valid until the layer ends
    uint32_t n, next;
};

static void begin(void *user, uint32_t layer, const uint32_t *experts, uint32_t n)
{
    struct warm *w = user;
    w->layer = layer;
    w->experts = experts;
    w->n = n;
    w->next = 0;
}

// Device slots are filled from host slot 0, whose bytes are zeros.
static int slot_stage(struct warm *w, uint32_t key, uint32_t slot, struct fault *fault)
{
    uint64_t ticket;
    slots_land(w->slots, key, 0);
    int err = slots_stage(w->slots, key, 0, slot, &ticket, fault);
    return err ? err : slots_staged(w->slots, ticket, UINT64_MAX, fault);
}

static uint32_t next(void *user, struct expert_ready *ret, uint32_t max, bool block,
                     struct fault *fault)
{
    struct warm *w = user;
    uint32_t n = 0;
    (void)block; // nothing is ever under way
    while (n < max && w->next < w->n && w->free_n > 0) {
        uint32_t expert = w->experts[w->next++], slot = w->free[w->free_n - 1];
        uint32_t key = slots_key(w->slots, w->layer, expert);
        ret[n] = (struct expert_ready){expert, slot};
        if (!slots_two_tiers(w->slots))
            slots_land(w->slots, key, slot);
        else if (slot_stage(w, key, slot, fault))
            ret[n].slot = EXPERT_NO_SLOT;
        if (ret[n++].slot != EXPERT_NO_SLOT)
            w->free_n--;
    }
    return n;
}

static void release(void *user, const uint32_t *slots, uint32_t n)
{
    struct warm *w = user;
    memcpy(w->free + w->free_n, slots, n * sizeof(*slots));
    w->free_n += n;
}

// Yes, so that what foretelling runs is compiled, too.
static bool curious(void *user, uint32_t layer)
{
    (void)user;
    (void)layer;
    return true;
}

static void predict(void *user, uint32_t layer, const uint32_t *experts, uint32_t n)
{
    (void)user;
    (void)layer;
    (void)experts;
    (void)n;
}

int warm_create(struct slots *slots, struct warm **ret)
{
    struct warm *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->source = (struct expert_source){w, begin, next, release, curious, predict};
    w->slots = slots;
    w->free_n = slots_n(slots);
    w->free = calloc(w->free_n, sizeof(*w->free));
    if (!w->free) {
        free(w);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < w->free_n; i++)
        w->free[i] = w->free_n - 1 - i;
    *ret = w;
    return 0;
}

void warm_destroy(struct warm **warm)
{
    if (*warm)
        free((*warm)->free);
    free(*warm);
    *warm = NULL;
}

const struct expert_source *warm_source(const struct warm *w)
{
    return &w->source;
}
