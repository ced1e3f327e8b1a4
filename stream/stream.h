// SPDX-License-Identifier: MIT
// stream: routed experts from drives into slots as the router selects them: joins the reader
// (io/disk), the slots (model/), and residency (sched/) behind the engine's struct expert_source.
// The only folder besides daemon/ that sees io, sched and model together, so that tools and tests
// stream without a daemon.  Read doc/streaming.md first.
// Owner: the step thread, except stream_drive_stats (any thread).
#pragma once
#include "io/disk/reader.h"
#include "model/engine.h"
#include "sched/residency.h"

struct disk_seam;

enum stream_verify {
    STREAM_VERIFY_FIRST,
    STREAM_VERIFY_ALWAYS,
    STREAM_VERIFY_OFF,
    STREAM_VERIFY_COUNT
};
enum stream_prefetch {
    STREAM_PREFETCH_AUTO,
    STREAM_PREFETCH_ON,
    STREAM_PREFETCH_OFF,
    STREAM_PREFETCH_COUNT
};
extern const char *const stream_verify_name[STREAM_VERIFY_COUNT];     // "first", "always", "off"
extern const char *const stream_prefetch_name[STREAM_PREFETCH_COUNT]; // "auto", "on", "off"

#define STREAM_DIRS_MAX 8u

struct stream_params {
    const char *shards[STREAM_DIRS_MAX]; // further directories with copies of (some of) the shards
    uint32_t shards_n;
    const char *packs[STREAM_DIRS_MAX]; // copies of one pack: then no shard is read for experts
    uint32_t packs_n;
    enum disk_engine engine;
    bool buffered;
    uint32_t queue_depth, read_size; // 0: measured at start
    uint64_t timeout_us;             // of one piece
    enum stream_verify verify;
    enum stream_prefetch prefetch;
    enum residency_policy policy;
    const char *hashes; // file of the hash list; NULL: its usual place; "": none
    // idle is called while a step waits for drives, some ten times a second; returning true gives
    // up: the step's rows fail.  May be NULL.
    bool (*idle)(void *user);
    void *idle_user;
    const struct disk_seam *seam; // of tests (io/disk/seam.h); NULL: none.  Outlives the reader
};

struct stream; // opaque

// stream_open makes reader and residency for an engine that was opened with slots, and becomes its
// source of experts.  Takes no ownership of the engine, which must be closed after it.
int stream_open(struct engine *engine, const struct checkpoint *ck,
                const struct stream_params *params, struct stream **ret, struct fault *fault);
void stream_close(struct stream **stream);

// Why a step waited for drives with nothing to compute.
enum stream_stall {
    STREAM_STALL_FIRST, // until the first missing expert of a layer
    STREAM_STALL_LAST,  // for the others
    STREAM_STALL_SLOTS, // for slots that kernels still read (waves)
    STREAM_STALL_COUNT
};
extern const char *const stream_stall_name[STREAM_STALL_COUNT]; // "first", "last", "slots"

struct stream_stats {           // sums since open
    uint64_t wanted, hits;      // experts that layers asked for; of them in a slot already
    uint64_t joined;            // of the misses: a speculative read was under way
    uint64_t reads, read_bytes; // experts read and their useful bytes
    uint64_t drive_bytes;       // with surroundings, retries and waste
    uint64_t predicted, predicted_read,
        predicted_used;       // experts foretold, read for it, then wanted
    uint64_t predicted_right; // foretold among the layer's choice (recall = right / predicted)
    uint64_t evictions;
    uint64_t failures; // experts that could not be had
    uint64_t stall_ns[STREAM_STALL_COUNT];
    uint64_t disk_cpu_ns;
    uint32_t slots, slots_used;
};
void stream_stats_read(const struct stream *stream, struct stream_stats *ret);
uint32_t stream_drives(const struct stream *stream);
void stream_drive_stats(const struct stream *stream, uint32_t drive, struct disk_drive_stats *ret);
// stream_describe writes what was chosen at start, one line an item, for the log; as snprintf.
int stream_describe(const struct stream *stream, char *buf, size_t buf_bytes);
