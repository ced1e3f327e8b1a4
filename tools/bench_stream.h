// SPDX-License-Identifier: MIT
// bench_stream: what the parts of bench-stream share.
#pragma once
#include "base/fault.h"
#include "model/engine.h"

#include <stdint.h>

struct bench_options {
    const char *model, *device;
    const char *reader; // "stream", "mmap", "resident"
    const char *trace;  // of the reads to replay
    const char *pack;
    uint64_t slots_bytes;
    uint32_t prefetch; // enum stream_prefetch
    uint32_t verify;   // enum stream_verify
    uint32_t engine;   // enum disk_engine
    uint32_t depth, read_size;
};

_Noreturn void bench_die(const char *what);

// bench_line reads one command.  Returns false at the end of the input.
bool bench_line(char *ret, size_t bytes);

// bench_reads: replays a trace's reads through io/disk alone, once for each line `reads`.
void bench_reads(const struct bench_options *options, const struct checkpoint *ck);

// Experts through page faults: slots whose addresses show the files' pages.
struct bench_mmap; // opaque
struct bench_mmap *bench_mmap_create(struct engine *engine, const struct checkpoint *ck);
const struct expert_source *bench_mmap_source(struct bench_mmap *m);
uint64_t bench_mmap_bytes(const struct bench_mmap *m);  // of experts asked for and not in a slot
uint64_t bench_mmap_wanted(const struct bench_mmap *m); // experts
uint64_t bench_mmap_hits(const struct bench_mmap *m);
void bench_mmap_destroy(struct bench_mmap **m);
