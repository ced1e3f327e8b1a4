// SPDX-License-Identifier: MIT
// bytes: a queue of bytes that wait, in one piece: it grows by doubling, and gives its memory back
// when it runs empty.  Zeroed memory is an empty queue.
// Owner: whoever has the struct.
#pragma once
#include <stddef.h>

struct bytes {
    char *data; // [cap]; bytes at..end wait
    size_t at, end, cap;
};

// bytes_put appends n bytes.  -ENOMEM, and then nothing changed.
int bytes_put(struct bytes *queue, const void *bytes, size_t n);

static inline size_t bytes_n(const struct bytes *queue)
{
    return queue->end - queue->at;
}

// bytes_front is the first of bytes_n that wait, valid until the next call for the queue; NULL only
// if there are none.
static inline const char *bytes_front(const struct bytes *queue)
{
    return queue->data ? queue->data + queue->at : NULL;
}

// bytes_drop forgets the first n.  An empty queue keeps its memory only if it is no more than
// keep_bytes.
void bytes_drop(struct bytes *queue, size_t n, size_t keep_bytes);

// bytes_fini frees everything and leaves an empty queue.
void bytes_fini(struct bytes *queue);
