// SPDX-License-Identifier: MIT
// make_model_shards: writes the safetensors files of a checkpoint, several at a time, with
// make_model_weights.h's numbers.
#pragma once
#include "tools/make_model_list.h"
#include "tools/make_model_output.h"
#include "tools/make_model_weights.h"

// shards_need returns how many bytes of the drive the files take.
uint64_t shards_need(const struct items *items, bool reflink);

// shards_write writes all of them.
//
// reflink: FP8 matrices are made of the blocks of one pool of random codes, at random places of it:
//          files of any size on little space.  Scales, routers, embedding and head are their own.
// Errors: as output_file_*; -EOPNOTSUPP the file system does not clone blocks.
int shards_write(struct output *out, const struct weights *weights, const struct items *items,
                 bool reflink, struct fault *fault);
