// SPDX-License-Identifier: MIT
// ring: a queue between exactly two threads: one producer, one consumer, no lock.  Entries are
// small structs copied in and out (indices and plain values, never pointers to something mutable),
// so an entry that was popped is the consumer's own. Sized once, before the threads start; a full
// ring says so and changes nothing.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// Owner: `head` the producer, `tail` the consumer; the rest is read-only after ring_create.
struct ring;

// ring_create makes a ring of `entries` (a power of two, 2..1 << 24) entries of `entry_bytes`
// (1..4096) each.  Returns 0, -EINVAL or -ENOMEM.  Thread: any, before it is shared.
int ring_create(uint32_t entries, uint32_t entry_bytes, struct ring **ret);
void ring_destroy(struct ring **ring);

// ring_push copies one entry in; false if the ring is full.  Thread: producer.
bool ring_push(struct ring *ring, const void *entry);
// ring_pop copies the oldest entry out; false if the ring is empty.  Thread: consumer.
bool ring_pop(struct ring *ring, void *ret_entry);
// ring_space returns how many pushes are sure to succeed.  Thread: producer.
uint32_t ring_space(const struct ring *ring);
// ring_depth returns how many entries wait; exact for neither side, for metrics.  Thread: any.
uint32_t ring_depth(const struct ring *ring);
