// SPDX-License-Identifier: MIT
// stage: several files that are put in place together: each is written whole beside its place and
// synced first; only when all of them are there are they renamed.  A full drive, Ctrl-C or any
// other failure leaves everything as it was. One thread.
#pragma once
#include "base/fault.h"

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STAGE_MAX 12u

enum stage_state {
    STAGE_BESIDE,  // where it was written; or in place for good
    STAGE_SWAPPED, // in place, and what was there is beside it
    STAGE_FRESH    // in place, where nothing was
};

struct stage_file {
    char path[PATH_MAX], beside[PATH_MAX]; // symbolic links followed
    char made[PATH_MAX];                   // the directory that was made for it, or ""
    enum stage_state state;
};

struct stage {
    struct stage_file files[STAGE_MAX];
    uint32_t n;
};

// stage_add writes a file beside its place, with the group expertd where there is one and we are
// root.  Its directory is made if only the last part is missing.
//
// stage: zeroed before the first.  bytes: [n].
// Errors: -errno, with the path.
int stage_add(struct stage *stage, const char *path, const void *bytes, size_t n, mode_t mode,
              struct fault *fault);

// stage_commit renames all of them, in their order.  -errno of the first that cannot be; those
// before it are taken back then (where the file system cannot swap two names, only what is new).
int stage_commit(struct stage *stage, struct fault *fault);

// stage_drop takes away what was not renamed; accepts one that is committed, or empty.
void stage_drop(struct stage *stage);
