// SPDX-License-Identifier: MIT
// sse: server-sent events: bytes of a stream in any pieces -> the data of each event.
// Only `data` fields matter to this API; comments (keep-alives), `event`, `id` and `retry` are
// passed over.  Source: WHATWG HTML, section 9.2.6 (event stream interpretation).
#pragma once
#include "client/text.h"

#include <stdbool.h>

// 4 MiB: one chunk with 20 alternatives a token is 2 KiB; a server that sends a line of this size
// is broken, and the client must not follow it into all of its memory.
#define SSE_EVENT_BYTES_MAX (4u << 20)

struct sse {
    struct text line; // the unfinished line
    struct text data; // data lines of the unfinished event, joined by newlines
    bool has_data;    // a data field was seen, even an empty one
    bool after_cr;    // the last byte was CR: a LF that follows belongs to it
    bool started;     // the first line is behind (a byte order mark may open it)
};

// sse_feed takes the next bytes of the stream.
//
// event: called for each complete event with its data; data is NUL-terminated, valid during the
//        call.  A value other than 0 stops and is returned.
// Returns 0, -EFBIG when a line or an event is beyond SSE_EVENT_BYTES_MAX, -ENOMEM, or event's
// value.
int sse_feed(struct sse *sse, const char *bytes, size_t len,
             int (*event)(void *user, const char *data, size_t data_len), void *user);

// sse_free forgets an unfinished event, as the end of a stream does, and frees all.
void sse_free(struct sse *sse);
