// SPDX-License-Identifier: MIT
// stage: several files that are put in place together: each is written whole beside its place and
// synced first; only when all of them are there are they renamed.  A full drive, Ctrl-C or a
// failure before that leaves everything as it was.
// One thread.
#pragma once
#include "base/fault.h"

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STAGE_MAX 8u

struct stage {
    struct {
        char path[PATH_MAX], beside[PATH_MAX]; // symbolic links followed
        char made[PATH_MAX];                   // the directory that was made for it, or ""
    } files[STAGE_MAX];
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
// before it are in place then.
int stage_commit(struct stage *stage, struct fault *fault);

// stage_drop takes away what was not renamed; accepts one that is committed, or empty.
void stage_drop(struct stage *stage);
