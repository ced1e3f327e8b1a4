// SPDX-License-Identifier: MIT
#include "daemon/req_pool.h"

#include <errno.h>
#include <stdlib.h>

#define NONE UINT32_MAX

int req_pool_init(struct req_pool *pool, uint32_t n)
{
    *pool = (struct req_pool){.n = n, .next = calloc(n, sizeof(*pool->next))};
    if (!pool->next)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        pool->next[i] = i + 1 < n ? i + 1 : NONE;
    atomic_init(&pool->head, n > 0 ? 0 : NONE);
    return 0;
}

void req_pool_fini(struct req_pool *pool)
{
    free(pool->next);
    pool->next = NULL;
}

// The head after it: the count goes on, so that a head that came back is not taken for the old one.
static uint64_t head_of(uint64_t old, uint32_t place)
{
    return ((old >> 32) + 1) << 32 | place;
}

bool req_pool_take(struct req_pool *pool, uint32_t *ret)
{
    uint64_t head = atomic_load_explicit(&pool->head, memory_order_acquire);
    uint32_t place, next;
    do {
        place = (uint32_t)head;
        if (place == NONE)
            return false;
        next = atomic_load_explicit(&pool->next[place], memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(&pool->head, &head, head_of(head, next),
                                                    memory_order_acquire, memory_order_acquire));
    atomic_fetch_add_explicit(&pool->taken_n, 1, memory_order_relaxed);
    *ret = place;
    return true;
}

void req_pool_give(struct req_pool *pool, uint32_t place)
{
    uint64_t head = atomic_load_explicit(&pool->head, memory_order_relaxed);
    atomic_fetch_sub_explicit(&pool->taken_n, 1, memory_order_release);
    do
        atomic_store_explicit(&pool->next[place], (uint32_t)head, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&pool->head, &head, head_of(head, place),
                                                  memory_order_release, memory_order_relaxed));
}

uint32_t req_pool_taken(const struct req_pool *pool)
{
    return atomic_load_explicit(&pool->taken_n, memory_order_acquire);
}
