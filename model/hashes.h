// SPDX-License-Identifier: MIT
// hashes: XXH3-128 of every routed expert of a checkpoint, as its files hold them: gate, up and
// down weights, then gate, up and down scales, raw bytes in this order.  Made by `expertctl hash`
// or by the daemon at the first read of each expert; later reads are compared.  One small file a
// checkpoint, written whole (temporary file, then rename).
// Owner: one thread; hashes_expert: any.
#pragma once
#include "model/checkpoint.h"

#include <stdbool.h>

struct hashes; // opaque

// hashes_path writes the file's usual place: $STATE_DIRECTORY, /var/lib/expertd if it can be
// written, $XDG_STATE_HOME/expertd or ~/.local/state/expertd, and a name made from the checkpoint's
// identity (names, sizes and headers of its shards, routers).
// Errors: -ENAMETOOLONG, -ENOENT without any of them; those of reading the headers.
int hashes_path(const struct checkpoint *ck, char *ret, size_t ret_bytes);

// hashes_create makes a list without any hash (of a dense model: of no experts).
// hashes_load reads a file into it: -ENOENT no file; -EBADMSG not a list, a damaged one or another
// checkpoint's; then the list is empty.
// hashes_save makes the directories of the path that are not there; it changes nothing on failure.
// hashes_dirs_make does that alone.
int hashes_create(const struct checkpoint *ck, struct hashes **ret, struct fault *fault);
int hashes_load(struct hashes *h, const char *path, struct fault *fault);
int hashes_save(const struct hashes *h, const char *path, struct fault *fault);
int hashes_dirs_make(const char *path, struct fault *fault);
void hashes_destroy(struct hashes **h); // accepts NULL

uint32_t hashes_n(const struct hashes *h);     // routed experts, MTP layer included
uint32_t hashes_known(const struct hashes *h); // of them with a hash
// index: (number of the MoE layer among MoE layers, MTP last) * n_routed_experts + expert.
const uint8_t *hashes_get(const struct hashes *h, uint32_t index); // [16], NULL: not known
void hashes_set(struct hashes *h, uint32_t index, const uint8_t hash[16]);

// hashes_expert computes the hash of one expert from its raw bytes.
//
// parts: [6] gate, up and down weights, gate, up and down scales; bytes: [6], 0 without scales.
// Thread: any; allocates nothing.
void hashes_expert(const void *const parts[6], const uint64_t bytes[6], uint8_t ret[16]);
