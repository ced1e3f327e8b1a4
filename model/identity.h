// SPDX-License-Identifier: MIT
// identity: which checkpoint this is, without reading it: names, sizes and headers of its shards,
// and the beginning of each MoE layer's router.  Headers alone do not tell V3 from R1, whose files
// are laid out alike; routers differ, and are no routed experts, so that a damaged expert does not
// make another checkpoint.
#pragma once
#include "model/checkpoint.h"
#include "model/checksum.h"

struct identity_shard {
    char *name; // within the checkpoint's directory
    uint64_t bytes;
    uint8_t header[CHECKSUM_BYTES]; // of the length and the JSON text
};

struct identity {
    uint8_t id[CHECKSUM_BYTES]; // of all that follows and the routers
    struct identity_shard *shards;
    uint32_t shards_n;
};

// identity_make reads the headers again.
// Errors: -errno, -EBADMSG a file that ends early (named), -ENOMEM.
int identity_make(const struct checkpoint *ck, struct identity *ret, struct fault *fault);

// identity_fini frees; accepts one that is zeroed or half made.
void identity_fini(struct identity *identity);
