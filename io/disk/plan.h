// SPDX-License-Identifier: MIT
// plan: which aligned bytes of which files a read needs, and how they are cut into pieces.
// Pure: no I/O, no clock, allocates nothing.  Ranges become spans: aligned, in order of file and
// offset, merged where they touch both in the file and in the buffer.  A piece is taken from the
// front of the first span that is left, or from its back (for a drive that would reach it sooner
// than the one that works on the front).  What it does not do: choose drives.
#pragma once
#include "io/disk/reader.h"

struct plan_span {
    uint64_t off, end; // in the file, multiples of DISK_ALIGN: what is left to take
    uint64_t need_end; // needed bytes end here; above end - DISK_ALIGN while the back is untaken
    uint64_t dst;      // of off in the buffer
    uint32_t range;    // number of the range whose copies hold it
};

struct plan {
    struct plan_span span[DISK_RANGES_MAX];
    uint32_t first, spans_n; // spans [first, spans_n) have something left
};

struct plan_piece {
    uint64_t off, dst; // multiples of DISK_ALIGN
    uint32_t bytes;    // multiple of DISK_ALIGN, at most read_size + read_size / 4
    uint32_t need;     // 1..bytes: so many from off on must come; the file may end after them
    uint32_t span, range;
};

// plan_make plans ranges [n], n 1..DISK_RANGES_MAX, each of which has bytes and no overflow.
void plan_make(struct plan *plan, const struct disk_range *ranges, uint32_t n);
// plan_left returns the bytes that are not taken.
uint64_t plan_left(const struct plan *plan);
// plan_front and plan_back show a piece of the first span that is left; false if none is.
// A rest of less than a quarter of read_size goes with the piece before it.
bool plan_front(const struct plan *plan, uint32_t read_size, struct plan_piece *ret);
bool plan_back(const struct plan *plan, uint32_t read_size, struct plan_piece *ret);
// plan_take takes a piece that one of the two has just shown.
void plan_take(struct plan *plan, const struct plan_piece *piece);
