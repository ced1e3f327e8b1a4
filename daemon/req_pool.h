// SPDX-License-Identifier: MIT
// req_pool: which places for requests are free.  Several front threads take and give at once, none
// waits for another: a stack whose head carries a count against ABA.
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct req_pool {
    _Atomic uint64_t head;  // count << 32 | place, or UINT32_MAX in the lower half: none is free
    _Atomic uint32_t *next; // [n] the free place below
    _Atomic uint32_t taken_n;
    uint32_t n;
};

// req_pool_init makes all n places free.  -ENOMEM.
int req_pool_init(struct req_pool *pool, uint32_t n);
void req_pool_fini(struct req_pool *pool);
// req_pool_take returns false if none is free.  Thread: any front.
bool req_pool_take(struct req_pool *pool, uint32_t *ret);
void req_pool_give(struct req_pool *pool, uint32_t place);
uint32_t req_pool_taken(const struct req_pool *pool);
