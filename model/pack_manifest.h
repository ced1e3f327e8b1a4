// SPDX-License-Identifier: MIT
// pack_manifest: what manifest.json of a pack says, made from a checkpoint, written as text, read
// from text that anybody may have written.  The same checkpoint and parts give the same bytes: no
// times, no paths, no names of machines.  Format: doc/pack-format.md.
#pragma once
#include "model/experts.h"
#include "model/identity.h"
#include "model/pack.h"

struct pack_manifest {
    struct pack_layout layout;
    struct experts experts; // records are numbered so
    char model_type[32];
    uint32_t hidden_size, moe_intermediate_size;
    struct identity source;
    uint8_t checksums[CHECKSUM_BYTES]; // of the file DIR/checksums
};

// pack_layout_make is version 1's layout of experts of [inter, hidden], [inter, hidden] and
// [hidden, inter], cut into parts_n parts as equal as 4 KiB allow.
// Returns 0; -EINVAL less than 4 KiB a part; -EFBIG beyond 1 TiB a record.
int pack_layout_make(enum dtype dtype, uint32_t hidden, uint32_t inter, uint32_t parts_n,
                     struct pack_layout *ret);

// pack_manifest_make plans the pack of a checkpoint; checksums stays zero.
// Errors: -EINVAL no routed experts, too many parts; -ENOTSUP experts of several dtypes (named);
// as identity_make.
int pack_manifest_make(const struct checkpoint *ck, uint32_t parts_n, struct pack_manifest *ret,
                       struct fault *fault);

// pack_manifest_text returns the file's text, to be freed; NULL: out of memory.
char *pack_manifest_text(const struct pack_manifest *m);

// pack_manifest_parse takes nothing for granted: all of the layout follows from a few numbers, and
// what contradicts them is refused.
// Errors: -EBADMSG, -EFBIG, -ENOMEM; -ENOTSUP a newer version, requantised experts.  The sentence
// has no file name.
int pack_manifest_parse(const char *text, size_t len, struct pack_manifest *ret,
                        struct fault *fault);

// pack_manifest_compare checks that a pack was made from this checkpoint.
// Errors: -EBADMSG, naming the first difference; as identity_make.
int pack_manifest_compare(const struct pack_manifest *m, const struct checkpoint *ck,
                          struct fault *fault);

// pack_manifest_fini frees; accepts one that is zeroed.
void pack_manifest_fini(struct pack_manifest *m);
