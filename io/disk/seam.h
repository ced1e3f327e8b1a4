// SPDX-License-Identifier: MIT
// seam: where a test decides what happens to a request under the reader.  In production no seam is
// set, which costs one comparison a piece.
#pragma once
#include "io/disk/reader.h"

enum disk_seam_kind {
    DISK_SEAM_PASS,
    DISK_SEAM_ERROR, // value: errno that it ends with
    DISK_SEAM_SHORT, // value: bytes that come at most
    DISK_SEAM_FLIP,  // value: bit of the piece that is turned over (modulo its length)
    DISK_SEAM_DELAY, // value: ns before it goes to the drive
    DISK_SEAM_HANG,  // goes to the drive once released() says true, and cannot be cancelled
    DISK_SEAM_COUNT
};

struct disk_seam_act {
    enum disk_seam_kind kind;
    uint64_t value;
};

struct disk_seam {
    void *user;
    // Both are called on the disk thread.  A probe of the circuit breaker asks too.
    struct disk_seam_act (*decide)(void *user, uint32_t file, uint64_t off, uint32_t bytes);
    bool (*released)(void *user);
};

// disk_reader_seam_set puts a seam in; it stays the caller's.  Before disk_reader_start.
void disk_reader_seam_set(struct disk_reader *r, const struct disk_seam *seam);
