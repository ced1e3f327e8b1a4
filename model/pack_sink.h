// SPDX-License-Identifier: MIT
// pack_sink: writes records of a pack, one thread a part, past the page cache where the file system
// can, while the next records are made.  Owner: one thread; its threads have the signal mask of the
// caller.
#pragma once
#include "base/fault.h"
#include "model/pack.h"

struct pack_sink_params {
    const struct pack_layout *layout;
    const int *fds;           // [parts_n], kept
    const char *const *paths; // [parts_n], kept, for sentences
    uint32_t first;           // record that is put first; the others follow
};

struct pack_sink; // opaque

// pack_sink_open: -ENOMEM, -errno of threads.
int pack_sink_open(const struct pack_sink_params *params, struct pack_sink **ret,
                   struct fault *fault);
// pack_sink_close ends the threads without writing what waits; accepts NULL.
void pack_sink_close(struct pack_sink **sink);

// pack_sink_buffer gives [stride] bytes, aligned to 4096, for the next record: zeros, or what an
// earlier record was.  Waits until one is free.  NULL: a write has failed; pack_sink_drain tells.
uint8_t *pack_sink_buffer(struct pack_sink *sink);
// pack_sink_put hands over what pack_sink_buffer gave.
void pack_sink_put(struct pack_sink *sink);
// pack_sink_drain waits until all that was put is on the drives for good (fdatasync).
// Errors: -errno, naming the file.
int pack_sink_drain(struct pack_sink *sink, struct fault *fault);
