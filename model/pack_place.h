// SPDX-License-Identifier: MIT
// pack_place: where a pack grows: DST.partial beside DST, parts of other drives beside their final
// names, what is finished, and the step by which all of it becomes DST.  Whatever stops the
// program, the same call finds what was finished, or begins anew.  One process at a time.
//
//   DST.partial/plan.json   the manifest as it will be, but for the checksums: whose pack this is
//   DST.partial/checksums   of the records that are on the drives for good, and the lock
//   DST.partial/experts.N   records, or a link to DRIVE/experts.N.ID (pack_parts.h)
//
// Owner: one thread.
#pragma once
#include "model/pack_manifest.h"

#define PACK_PATH_MAX 4096

struct pack_place_params {
    const char *dst;
    const char *const *drives; // [parts_n] directories that are there; NULL: all in dst
    bool force;                // replace a pack that is there
};

struct pack_place {
    const struct pack_layout *layout; // of the manifest given to pack_place_open
    bool force;
    bool made; // partial was made by this call
    char *dst, *partial;
    char *drive[PACK_PARTS_MAX]; // absolute; NULL: all in dst
    char *path[PACK_PARTS_MAX];  // of each part while it grows
    char *final[PACK_PARTS_MAX]; // NULL where that does not change
    int fds[PACK_PARTS_MAX];     // read and write
    int journal;
    uint32_t records, done;          // done: on the drives for good
    uint8_t (*sums)[CHECKSUM_BYTES]; // [records], filled by the caller from `done` on
};

// pack_place_open makes or finds the place, takes the lock, reserves the space.
// manifest: kept.
// Errors: -ENOENT dst's parent or a drive is not there; -EINVAL two drives are one; -EEXIST
// something is there that this call may not replace; -EBUSY another process is at it; -ENOSPC with
// bytes needed and free; -EXDEV dst is a mount point; -errno.
int pack_place_open(const struct pack_place_params *params, const struct pack_manifest *manifest,
                    struct pack_place *ret, struct fault *fault);

// pack_place_restart forgets what was finished.
int pack_place_restart(struct pack_place *place, struct fault *fault);

// pack_place_direct lets the parts be written past the page cache where the file system can: from
// then on with everything aligned to PACK_ALIGN.
void pack_place_direct(struct pack_place *place);

// pack_place_journal notes that records below `done` are on the drives and sums are theirs.
int pack_place_journal(struct pack_place *place, uint32_t done, struct fault *fault);

// pack_place_commit turns the place into DST when all records are done.  manifest->checksums is
// set.
int pack_place_commit(struct pack_place *place, struct pack_manifest *manifest,
                      struct fault *fault);

// pack_place_abandon removes the place if this call has made it and nothing is finished yet. Nobody
// writes to it any more.
void pack_place_abandon(struct pack_place *place);

// pack_place_full makes the sentence for a file system that became full on the way.
int pack_place_full(const struct pack_place *place, int err, struct fault *fault);

// pack_place_fini closes; what is finished stays.  Accepts a zeroed or half made one.
void pack_place_fini(struct pack_place *place);
