// SPDX-License-Identifier: MIT
// verify: are the bytes of an expert what they should be?  Checksums of a pack's records, or of the
// checkpoint's hash list, which the first read of an expert fills in where it has none; FP8 NaN
// codes at the first read.  One wrong byte and the read is repeated, then it fails.
// verifier_check: the thread disk; the rest on the step thread, before and after.
#pragma once
#include "model/slots.h"

struct stream_params; // stream/stream.h
struct verifier;      // opaque

int verifier_create(const struct slots *slots, const struct checkpoint *ck,
                    const struct stream_params *params, struct verifier **ret, struct fault *fault);
// verifier_destroy saves the hash list if it has grown (best effort, with a warning).
void verifier_destroy(struct verifier **v);

// verifier_check is struct disk_params' check; id is that of the read: key << 32 | slot.
int verifier_check(void *verifier, uint64_t id, const void *buffer);
