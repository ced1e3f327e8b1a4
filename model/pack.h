// SPDX-License-Identifier: MIT
// pack: routed experts of a checkpoint as expert-major records of fixed stride, for one aligned
// read each: gate | up | down | scales, in the layout that kernels read.  Made by `expertctl pack`
// (pack_write.h), read in place by the daemon.  Format: doc/pack-format.md.
//
//   DIR/manifest.json   format version, source's identity and hashes, layout, parts, dtype
//   DIR/checksums       XXH3-128 of every record, in record order
//   DIR/experts.N       records; with --drives a record is cut into 4 KiB-aligned parts, one a
//                       drive, and this is a symbolic link to the part's file there
//
// Records are in the order (MoE layer incl. MTP, expert).  Read-only after open.
#pragma once
#include "model/checkpoint.h"

#define PACK_PARTS_MAX 8u
#define PACK_ALIGN     4096u // of records and of their parts: what O_DIRECT needs anywhere

struct pack_layout {                           // of every record, bytes from its start
    uint64_t stride;                           // multiple of 4096
    uint64_t gate, up, down;                   // first byte, multiples of 16
    uint64_t gate_scale, up_scale, down_scale; // f32, multiples of 16; 0 without scales
    enum dtype dtype;                          // F8_E4M3, BF16 or F32 (F16 is widened)
    uint32_t parts_n;                          // 1..PACK_PARTS_MAX
    uint64_t part_bytes[PACK_PARTS_MAX];       // multiples of 4096; they add up to stride
};

struct pack; // opaque

// pack_open reads and checks the manifest and the checksums, and that every part file is there in
// full, and that it was made from this checkpoint (ck may be NULL: then only its own consistency).
// Records are not read: whoever does compares pack_checksum.
// Errors: -ENOENT, -errno; -EBADMSG manifest, checksums or sizes are wrong, or another
// checkpoint's (named); -ENOTSUP a newer format, requantised experts.
int pack_open(const char *dir, const struct checkpoint *ck, struct pack **ret, struct fault *fault);
void pack_close(struct pack **pack); // accepts NULL

const struct pack_layout *pack_layout(const struct pack *pack);
uint32_t pack_records(const struct pack *pack);
// pack_part_path returns the file of part i (0..parts_n-1); record n of it is at n * part_bytes[i].
const char *pack_part_path(const struct pack *pack, uint32_t part);
// pack_record returns the record of an expert, or UINT32_MAX.  layer: num_hidden_layers is the MTP
// layer's.
uint32_t pack_record(const struct pack *pack, uint32_t layer, uint32_t expert);
// pack_record_name is its reverse, for a record below pack_records.
void pack_record_name(const struct pack *pack, uint32_t record, uint32_t *ret_layer,
                      uint32_t *ret_expert);
// pack_checksum returns the 16 bytes (XXH3-128, canonical order) of a record.
const uint8_t *pack_checksum(const struct pack *pack, uint32_t record);
