// SPDX-License-Identifier: MIT
// make_model_output: files of a new directory, written past the page cache where the file system
// allows it.  A file appears under its name when it is whole; when the run fails everything that it
// wrote is removed.  A pool is a file without a name whose blocks others may share.
// Threads: output_open and output_close one thread; each output_file its own thread.
#pragma once
#include "base/fault.h"
#include "tools/make_model_list.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct output {
    const char *dir;
    int dir_fd;
    bool made_dir, progress;              // progress is shown: stderr is a terminal
    const volatile sig_atomic_t *stopped; // a signal's number: the run ends
    atomic_bool failed;                   // another thread has: the run ends
    pthread_mutex_t lock;                 // of the names
    char (*names)[SHARD_NAME_MAX];        // begun so far; those not ended exist as NAME.part
    uint32_t names_n, names_cap;
    uint64_t total; // bytes of all files
    atomic_ullong done;
};

struct output_file {
    struct output *out;
    struct fault *fault; // where errors go
    char name[SHARD_NAME_MAX];
    int fd;
    bool direct;
    uint8_t *buffer;
    size_t buffered;
    uint64_t at; // bytes of the file before the buffer
};

// output_open makes the directory, which must be new or empty.
//
// out:  dir, stopped and progress are set, the rest is zero.
// need: bytes that the drive will have to hold; total: bytes that the files will show.
// Errors: -EEXIST, -ENOSPC, -ENOMEM, -errno.
int output_open(struct output *out, uint32_t files, uint64_t need, uint64_t total,
                struct fault *fault);
// output_close removes all that was written if the run failed.
void output_close(struct output *out, bool failed);

// output_file_init takes the buffer, output_file_fini drops it and a file that was not ended.
int output_file_init(struct output_file *file, struct output *out, struct fault *fault);
void output_file_fini(struct output_file *file);

// output_file_begin opens NAME.part; bytes, where not 0, are reserved, so that a full drive is
// found at once.
int output_file_begin(struct output_file *file, const char *name, uint64_t bytes);
int output_file_write(struct output_file *file, const void *data, size_t bytes);
int output_file_end(struct output_file *file);

// output_pool_begin opens a file without a name; output_pool_end writes what is buffered.  It is
// gone after output_file_fini.
// Errors: -EOPNOTSUPP the file system does not clone blocks.
int output_pool_begin(struct output_file *pool);
int output_pool_end(struct output_file *pool);

// output_block returns the size of the blocks that can be shared.
uint64_t output_block(const struct output *out);
// output_file_clone adds bytes of the pool to the file without copying them.
// off, bytes and output_file_at: multiples of output_block.
int output_file_clone(struct output_file *file, const struct output_file *pool, uint64_t off,
                      uint64_t bytes);
// output_file_at returns how many bytes the file has so far.
uint64_t output_file_at(const struct output_file *file);
