// SPDX-License-Identifier: MIT
#include "io/net/bytes.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_CAP_MIN 512u // what a token in its SSE event takes, with TLS around it

int bytes_put(struct bytes *queue, const void *bytes, size_t n)
{
    size_t waiting = bytes_n(queue);
    if (n == 0)
        return 0;
    if (n > SIZE_MAX / 4 - waiting)
        return -ENOMEM;
    // Moved only when that frees a third, so that a long queue taken in small bites costs little.
    if (queue->end + n > queue->cap && queue->at > waiting / 2) {
        memmove(queue->data, queue->data + queue->at, waiting);
        queue->at = 0;
        queue->end = waiting;
    }
    if (queue->end + n > queue->cap) {
        size_t cap = queue->cap < BYTES_CAP_MIN ? BYTES_CAP_MIN : queue->cap;
        while (cap < queue->end + n)
            cap *= 2;
        char *data = realloc(queue->data, cap);
        if (!data)
            return -ENOMEM;
        queue->data = data;
        queue->cap = cap;
    }
    memcpy(queue->data + queue->end, bytes, n);
    queue->end += n;
    return 0;
}

void bytes_drop(struct bytes *queue, size_t n, size_t keep_bytes)
{
    assert(n <= bytes_n(queue));
    queue->at += n;
    if (queue->at < queue->end)
        return;
    queue->at = queue->end = 0;
    if (queue->cap > keep_bytes)
        bytes_fini(queue);
}

void bytes_fini(struct bytes *queue)
{
    free(queue->data);
    *queue = (struct bytes){0};
}
