// SPDX-License-Identifier: MIT
// streaming: experts on drives as the daemon runs them: what [experts] and [drives] say, the stream
// (stream/stream.h) between opening and closing, and its figures on the metrics page.
// Owner: step; the page is read by anyone.  With resident experts there is no stream and nothing
// here does anything.
#pragma once
#include "daemon/conf.h"
#include "daemon/metrics.h"
#include "model/engine.h"
#include "stream/stream.h"

struct topology;

struct streaming {
    struct topology *t;
    struct stream *stream; // NULL: experts are resident
    struct stream_params params;
    char packs[CONF_LIST_MAX], shards[CONF_LIST_MAX]; // what params points into
    struct stream_stats seen;                         // as of the last publication
    uint64_t mark_us; // when the time of steps was last taken; 0: no step runs
    struct {
        uint64_t bytes;           // as of the last publication
        double sum_bytes, sum_us; // of the last ten seconds of steps or so
        double best;              // bytes a second
    } drive[DISK_DRIVES_MAX];
};

// streaming_dirs_check: what [drives] names is there, before minutes go by with loading, and no
// directory counts twice, [model] path being the first of the shards.
// Errors: -ENOENT, -ENOTDIR, -errno; -EINVAL one directory under two names; both are named.
int streaming_dirs_check(const struct conf *conf, struct fault *fault);

// streaming_init reads the configuration.  idle: see struct stream_params.
void streaming_init(struct streaming *s, struct topology *t, bool (*idle)(void *user), void *user);

// streaming_open makes the stream if the engine was opened with slots, and writes t->drives;
// without slots it logs which of [drives] nobody reads.
int streaming_open(struct streaming *s, struct engine *engine, struct fault *fault);
void streaming_close(struct streaming *s); // before the engine

// A step begins or has ended; between the two streaming_publish takes its time.
void streaming_step_begin(struct streaming *s);
void streaming_step_end(struct streaming *s);

// streaming_publish writes the figures to the metrics page.  Call it after steps, in waits and
// while idle: drives recover while nobody asks.
void streaming_publish(struct streaming *s);

// streaming_failing names the drives that fail as one sentence.  Returns false if none does.
// Thread: any.
bool streaming_failing(const struct metrics_page *page, char *ret, size_t ret_bytes);
