// SPDX-License-Identifier: MIT
// pack_write: makes a pack of a checkpoint's routed experts, and checks one that is there.
// Interrupted at any point, the same call goes on with what is finished.  The same checkpoint gives
// the same bytes.  Several threads inside; progress and damage are called on the caller's.
#pragma once
#include "model/checkpoint.h"

struct pack_write_params {
    const char *dst; // directory to be made; grows as DST.partial beside it
    const char *const
        *drives;       // [drives_n] directories that are there, one a part; NULL: one part in dst
    uint32_t drives_n; // 0..PACK_PARTS_MAX
    bool force;        // replace a pack that is there
    uint64_t batch_bytes; // finished for good at once: what a crash may cost; 0: 1 GiB
    // progress is told bytes done and bytes in all: once at the start, with what was there already,
    // then after every record.  Not 0: stop (-ECANCELED), keeping what is done.  May be NULL.
    int (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
};

// Errors: -ENOTSUP, -EINVAL a checkpoint that cannot be packed; -EBADMSG a NaN code or a bad scale;
// -ENOSPC with bytes needed and free; -ENOENT, -EEXIST, -EBUSY, -EXDEV as pack_place.h; -ECANCELED;
// -errno of reading and writing; -ENOMEM.
int pack_write(const struct checkpoint *ck, const struct pack_write_params *params,
               struct fault *fault);

struct pack_verify_params {
    const char *dir;
    const struct checkpoint *ck; // compare records with this checkpoint's experts too, or NULL
    int (*progress)(void *user, uint64_t done, uint64_t total); // as above
    // damage is told every record that is not what it should be, in a sentence.
    void (*damage)(void *user, uint32_t layer, uint32_t expert, const char *sentence);
    void *user;
};

// pack_verify reads a whole pack and compares every record with its checksum.
// ret_bad: records that are damaged; 0 errors then.
// Errors: as pack_open; -errno of reading; -ECANCELED; -ENOMEM.
int pack_verify(const struct pack_verify_params *params, uint32_t *ret_bad, struct fault *fault);
