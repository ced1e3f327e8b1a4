// SPDX-License-Identifier: MIT
#include "base/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define RING_ENTRIES_MAX     (1u << 24)
#define RING_ENTRY_BYTES_MAX 4096u

struct ring {
    _Alignas(64) atomic_uint head; // entries pushed so far, wraps
    _Alignas(64) atomic_uint tail; // entries popped so far, wraps
    _Alignas(64) uint32_t mask;
    uint32_t entry_bytes;
    unsigned char *slots; // [mask + 1][entry_bytes]
};

int ring_create(uint32_t entries, uint32_t entry_bytes, struct ring **ret)
{
    if (entries < 2 || entries > RING_ENTRIES_MAX || (entries & (entries - 1)) != 0)
        return -EINVAL;
    if (entry_bytes == 0 || entry_bytes > RING_ENTRY_BYTES_MAX)
        return -EINVAL;

    struct ring *ring = aligned_alloc(64, sizeof(*ring));
    if (!ring)
        return -ENOMEM;
    memset(ring, 0, sizeof(*ring));
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    ring->mask = entries - 1;
    ring->entry_bytes = entry_bytes;
    ring->slots = calloc(entries, entry_bytes);
    if (!ring->slots) {
        ring_destroy(&ring);
        return -ENOMEM;
    }
    *ret = ring;
    return 0;
}

void ring_destroy(struct ring **ring)
{
    if (!*ring)
        return;
    free((*ring)->slots);
    free(*ring);
    *ring = NULL;
}

static unsigned char *ring_slot(const struct ring *ring, uint32_t count)
{
    return ring->slots + (size_t)(count & ring->mask) * ring->entry_bytes;
}

bool ring_push(struct ring *ring, const void *entry)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire); // pairs with ring_pop
    if (head - tail > ring->mask)
        return false;
    memcpy(ring_slot(ring, head), entry, ring->entry_bytes);
    atomic_store_explicit(&ring->head, head + 1, memory_order_release); // publishes the slot
    return true;
}

bool ring_pop(struct ring *ring, void *ret_entry)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire); // pairs with ring_push
    if (head == tail)
        return false;
    memcpy(ret_entry, ring_slot(ring, tail), ring->entry_bytes);
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release); // gives the slot back
    return true;
}

uint32_t ring_space(const struct ring *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire); // pairs with ring_pop
    return ring->mask + 1 - (head - tail);
}

uint32_t ring_depth(const struct ring *ring)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t depth = head - tail;
    return depth > ring->mask + 1 ? 0 : depth;
}
