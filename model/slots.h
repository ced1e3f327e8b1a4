// SPDX-License-Identifier: MIT
// slots: places for one routed expert each in memory that kernels read, and the way from an
// expert's bytes, as a drive delivers them, to what the kernels' table of matrices says.
//
// One tier: host memory in huge pages that a reader fills and kernels read without a copy
// (VK_EXT_external_memory_host).  Two tiers: where the device has memory of its own, device slots
// above the host's, filled by a copy; slot numbers of kernels are then those of the device tier.
// Bytes of a released checkpoint stay as they lie in the file: the kernels are told the offset.
// Only what they cannot read so (rows that are not a multiple of 16 columns, F16, odd offsets) is
// moved on landing.  Scales are small and kept in host memory, unless a pack has them in its
// records.
// Owner: the step thread; slots_check and the functions about keys may run on any.
#pragma once
#include "model/checkpoint.h"
#include "model/expert_source.h"
#include "model/hashes.h"
#include "model/pack.h"
#include "model/weights.h"

#define SLOT_RANGES_MAX 8u
#define SLOTS_MAX       16384u // of a tier: as many buffers as one ring registers

// Where bytes of an expert are in files, and where they land in a host slot.
struct slot_range {
    uint32_t file;       // the checkpoint's shard number, or the pack's part
    uint64_t off, bytes; // any alignment
    uint64_t dst;        // multiple of 4096; off lands at dst + off % 4096
};

struct slots; // opaque

// slots_plan looks at every routed expert of the layers that the weights were planned for.
// pack: whose records are read instead of the shards, or NULL; outlives the slots.
// Errors: -ENOTSUP experts of several shapes or dtypes (tensor named), -ENOMEM.
int slots_plan(struct weights *w, const struct checkpoint *ck, const struct pack *pack,
               struct slots **ret, struct fault *fault);
void slots_destroy(struct slots **s);

struct slots_params {
    uint32_t host_n;   // slots in host memory, >= 1
    uint32_t device_n; // slots in device memory; 0: one tier, kernels read the host's
    uint64_t heap_max; // as weights_plan
};
// slots_create takes the memory: populated, in huge pages where the system has them, and tells the
// weights.  Errors: -ENOMEM, -ENOTSUP one tier on a device that cannot import host memory.
int slots_create(struct slots *s, const struct slots_params *params, struct fault *fault);
// slots_host_leave: a drive that never answers may still write into host slots, so slots_destroy
// leaves their memory mapped.
void slots_host_leave(struct slots *s);
// slots_load reads the scales that stay in host memory, after weights_load.
// Errors: -EBADMSG a scale that is not finite and positive, -EIO.
int slots_load(struct slots *s, struct fault *fault);

uint32_t slots_n(const struct slots *s);                // that kernels read
uint32_t slots_host_n(const struct slots *s);           // that drives fill
bool slots_two_tiers(const struct slots *s);            //
uint64_t slots_host_bytes(const struct slots *s);       // of one host slot, multiple of 4096
uint64_t slots_device_bytes(const struct slots *s);     // of one device slot
uint64_t slots_scale_bytes(const struct slots *s);      // host memory for scales
void *slots_host(const struct slots *s, uint32_t slot); // first byte, aligned to 4096
bool slots_huge(const struct slots *s);                 // all of it lies in huge pages
const struct pack *slots_pack(const struct slots *s);   // or NULL
uint32_t slots_moved(const struct slots *s); // experts that must be moved on landing, which costs

// Keys number the routed experts: MoE layers in order, the MTP layer's last.
uint32_t slots_keys(const struct slots *s);
uint32_t slots_key(const struct slots *s, uint32_t layer, uint32_t expert);
void slots_key_name(const struct slots *s, uint32_t key, uint32_t *ret_layer, uint32_t *ret_expert);
uint64_t slots_key_bytes(const struct slots *s, uint32_t key); // useful bytes of its ranges
// slots_ranges returns what to read for a key: [*ret_n], at most SLOT_RANGES_MAX.
const struct slot_range *slots_ranges(const struct slots *s, uint32_t key, uint32_t *ret_n);

// slots_hash computes the checksum of the bytes that landed in a host slot: of the record with a
// pack, else as hashes.h says.  Any thread.
void slots_hash(const struct slots *s, uint32_t key, const void *host_slot, uint8_t ret[16]);
// slots_nan_find looks for an FP8 NaN code: false and the tensor's name in fault (-EBADMSG).
bool slots_clean(const struct slots *s, uint32_t key, const void *host_slot, struct fault *fault);

// slots_land arranges what landed in a host slot and, with one tier, makes it readable by kernels.
void slots_land(struct slots *s, uint32_t key, uint32_t slot);
// slots_settle is told once a layer which slots it is about to read, while no kernel reads any.
// When nothing has landed for two steps it moves the matrices of one of them to multiples of 16,
// where kernels read all experts in one dispatch: that pays where experts stay.
void slots_settle(struct slots *s, const struct expert_ready *ready, uint32_t n);
// Two tiers: slots_stage starts the copy of a landed host slot into a device slot, slots_unstage
// the way back, so that the host keeps what the device gives up.  *ret_ticket names the copy.
// Errors: -EAGAIN too many are under way; -EIO the device.
int slots_stage(struct slots *s, uint32_t key, uint32_t host_slot, uint32_t slot,
                uint64_t *ret_ticket, struct fault *fault);
int slots_unstage(struct slots *s, uint32_t key, uint32_t slot, uint32_t host_slot,
                  uint64_t *ret_ticket, struct fault *fault);
// slots_staged returns 0 once a copy is done (a staged expert can then be read by kernels),
// -EAGAIN before, waiting up to wait_ns for it; -EIO the device.
int slots_staged(struct slots *s, uint64_t ticket, uint64_t wait_ns, struct fault *fault);
