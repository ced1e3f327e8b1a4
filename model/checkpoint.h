// SPDX-License-Identifier: MIT
// checkpoint: a model directory as Hugging Face lays it out: config, index, shards; every tensor
// the config asks for is there with the right shape and a dtype that is served.  Read-only after
// open. Never converted: readers get bytes in place.  Source: model.md section 2.
#pragma once
#include "model/config.h"
#include "model/safetensors.h"
#include "model/tensors.h"

struct checkpoint; // opaque

// checkpoint_open reads DIR and checks it whole: config, index or single file, every shard's
// header, every tensor of tensors.h (shape, dtype, scale shape [ceil(out/128), ceil(in/128)] F32).
// model.safetensors goes before an index, as in transformers.  No tensor data are read here:
// loaders call checkpoint_fp8_nan_find and checkpoint_scale_bad_find on what they read,
// checkpoint_verify does so for the whole checkpoint.
//
// A config that promises an MTP layer over files that have no tensor of it (repacks drop it) is
// taken without MTP: checkpoint_config then says 0, checkpoint_mtp_missing true.  Tensors that
// nobody needs (rotary_emb.inv_freq, the MTP layer's copies of embedding and head) are ignored; a
// bias in a decoder layer that the architecture does not have is not.
//
// Refused by name (-ENOTSUP): V3.2's indexer, packed int4, fused expert tensors, F8_E5M2 weights.
// Errors: as config and safetensors; a missing tensor or shard -ENOENT; a wrong shape, a name in
//         two shards, an index that contradicts the shards or leaves the directory -EBADMSG; all
//         name file and tensor.
int checkpoint_open(const char *dir, struct checkpoint **ret, struct fault *fault);
void checkpoint_close(struct checkpoint **ck);

const char *checkpoint_dir(const struct checkpoint *ck);
const struct model_config *checkpoint_config(const struct checkpoint *ck);

// checkpoint_mtp_missing says whether the config promises an MTP layer that the files do not have.
bool checkpoint_mtp_missing(const struct checkpoint *ck);

uint32_t checkpoint_file_count(const struct checkpoint *ck);
const struct safetensors *checkpoint_file(const struct checkpoint *ck, uint32_t file_idx);

// checkpoint_find returns the tensor of that name, or NULL.  lm_head of a tied model and the MTP
// layer's shared embedding and head resolve to the main tensors (tensors.h lists them once).
const struct tensor *checkpoint_find(const struct checkpoint *ck, const char *name);

// checkpoint_uses says whether a tensor of this checkpoint's files is one that the config asks for,
// or the scales of one.
bool checkpoint_uses(const struct checkpoint *ck, const struct tensor *tensor);

// checkpoint_get finds tensor and, for an FP8 matrix, its scales by role.
//
// ret_spec, ret_tensor, ret_scale: any may be NULL; *ret_scale is NULL for a matrix without scales.
// Returns 0, or -ENOENT if a model of this config has no such tensor (layer, expert included).
// ROLE_HEAD of a tied model gives the embedding.
int checkpoint_get(const struct checkpoint *ck, enum tensor_role role, uint32_t layer,
                   uint32_t expert, struct tensor_spec *ret_spec, const struct tensor **ret_tensor,
                   const struct tensor **ret_scale);

// checkpoint_read reads part of a tensor; see safetensors_read.
int checkpoint_read(const struct checkpoint *ck, const struct tensor *tensor, uint64_t off,
                    void *dst, size_t bytes, struct fault *fault);

// checkpoint_fp8_nan_find returns the index of the first E4M3 NaN code (0x7f, 0xff) in `bytes`
// bytes, or -1.  16 bytes a step; loaders call it on every FP8 matrix they read.
int64_t checkpoint_fp8_nan_find(const void *codes, uint64_t bytes);

// checkpoint_scale_bad_find returns the index of the first scale that is not finite and positive,
// or -1.
int64_t checkpoint_scale_bad_find(const float *scales, uint64_t n);

// checkpoint_verify reads every tensor that is used, in file order, and looks for NaN codes, bad
// scales and other weights that are not finite.
//
// progress is told bytes done and bytes in all, some 8 MiB apart, and may be NULL; returning not 0
// stops with -ECANCELED.
// Errors: -EBADMSG with file, tensor and element; as safetensors_read; -ENOMEM.
int checkpoint_verify(const struct checkpoint *ck,
                      int (*progress)(void *user, uint64_t done, uint64_t total), void *user,
                      struct fault *fault);

// checkpoint_dtype_to_f32 converts n values of F32, BF16 or F16 to float.  -ENOTSUP for other
// dtypes.
int checkpoint_dtype_to_f32(enum dtype dtype, const void *src, uint64_t n, float *dst);
