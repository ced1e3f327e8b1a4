// SPDX-License-Identifier: MIT
// pack_record: one expert's bytes made into one record of a pack: rows padded with zeros to 16
// columns, F16 widened to F32, scales behind the weights.  Refuses what loaders refuse.
#pragma once
#include "model/expert_feed.h"
#include "model/pack.h"

// pack_record_fill writes an expert into a record.
//
// record: [stride], aligned to 16; zeroed before its first use: padding and gaps are not written.
// Errors: -EBADMSG an FP8 NaN code or a scale that is not finite and positive, with file, tensor
// and element.
int pack_record_fill(const struct checkpoint *ck, const struct pack_layout *layout,
                     const struct expert_bytes *expert, uint8_t *record, struct fault *fault);
