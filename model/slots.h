// SPDX-License-Identifier: MIT
// slots: places for one routed expert each in memory that kernels read, and the way from an
// expert's bytes, as a drive delivers them, to what the kernels' table of matrices says.
//
// Host tier: huge pages that a reader fills and (VK_EXT_external_memory_host) kernels read without
// a copy; where the device has memory of its own, a device tier above it, filled by a transfer
// queue. A slot number is one of the tier that kernels read.  Owner: the step thread.
#pragma once
#include "model/checkpoint.h"
#include "model/hashes.h"
#include "model/pack.h"
#include "vk/buffer.h"

#define SLOT_RANGES_MAX 8u

// Where the bytes of an expert are in files, and where they land in a host slot.
struct slot_range {
    uint32_t file; // checkpoint's shard number, or the pack's part
    uint64_t off, bytes;
    uint64_t dst; // multiple of 4096: see struct disk_range
};

struct slots; // opaque

uint32_t slots_n(const struct slots *s);          // that kernels read
uint32_t slots_host_n(const struct slots *s);     // that drives fill; the same ones with one tier
uint64_t slots_host_bytes(const struct slots *s); // of one
void *slots_host(const struct slots *s, uint32_t slot); // its first byte, aligned to 4096
bool slots_two_tiers(const struct slots *s);

uint32_t slots_keys(const struct slots *s); // routed experts of all MoE layers, MTP layer included
uint32_t slots_key(const struct slots *s, uint32_t layer, uint32_t expert);
void slots_key_name(const struct slots *s, uint32_t key, uint32_t *ret_layer, uint32_t *ret_expert);
uint64_t slots_key_bytes(const struct slots *s, uint32_t key); // useful bytes of its ranges
// slots_ranges writes what to read for a key.  Returns how many.
uint32_t slots_ranges(const struct slots *s, uint32_t key, struct slot_range ret[SLOT_RANGES_MAX]);

// slots_check compares the bytes that landed in a host slot with the checksum of the pack, or with
// the hash list (NULL: none).  Pure: any thread.  0 or -EBADMSG; scan looks for FP8 NaN codes too.
// *ret_hash: [16] what was computed for the hash list, if h has none for the key; *ret_known false.
int slots_check(const struct slots *s, uint32_t key, const void *host_slot, const struct hashes *h,
                uint8_t ret_hash[16], bool *ret_known);

// slots_land makes the expert whose bytes are in a host slot readable by kernels there.
void slots_land(struct slots *s, uint32_t key, uint32_t slot);
