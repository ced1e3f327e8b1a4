// SPDX-License-Identifier: MIT
// feed: items of files, one after another, at the speed of the drives: threads read ahead, past the
// page cache where the file system can, while the caller works on an item.  For programs that read
// a checkpoint or a pack from end to end; the daemon's reader is io/disk.
// Owner: one thread; its threads have the signal mask of the caller.
#pragma once
#include "base/fault.h"

#include <stddef.h>
#include <stdint.h>

#define FEED_RANGES_MAX 8u

struct feed_range {
    uint32_t file;
    uint64_t off, bytes; // any alignment; bytes 0: nothing
};

struct feed_params {
    const char *const *paths; // [files_n], regular files; kept until feed_close
    uint32_t files_n;
    uint32_t first, end;                 // items first .. end - 1
    uint32_t ranges_n;                   // of every item
    uint64_t bytes_max[FEED_RANGES_MAX]; // of each range, over all items
    // ranges writes what item `item` consists of.  Called on the owner's thread.
    void (*ranges)(void *user, uint32_t item, struct feed_range ret[FEED_RANGES_MAX]);
    void *user;
};

struct feed; // opaque

// feed_open opens the files and starts reading.
// Errors: as file_open; -ENOMEM; -errno of threads.
int feed_open(const struct feed_params *params, struct feed **ret, struct fault *fault);
void feed_close(struct feed **feed); // accepts NULL

// feed_next gives the next item.
//
// ret: [ranges_n] the bytes of each range, aligned as in its file modulo 4096; they are the
//      caller's to read, until the next call.
// Returns 1; 0 behind the last item; errors as file_read_at, naming file and place, after which
// only feed_close is left.
int feed_next(struct feed *feed, const uint8_t *ret[FEED_RANGES_MAX], struct fault *fault);

// feed_failed says which item and range could not be read.
void feed_failed(const struct feed *feed, uint32_t *ret_item, uint32_t *ret_range);
