// SPDX-License-Identifier: MIT
// safetensors: one shard: its header parsed and checked, its tensors findable by name, their bytes
// readable by pread.  Knows nothing of the model's config.  Source: model.md section 2.1.
#pragma once
#include "base/fault.h"

#include <stddef.h>
#include <stdint.h>

#define TENSOR_RANK_MAX 8u

enum dtype {
    DTYPE_BOOL,
    DTYPE_U8,
    DTYPE_I8,
    DTYPE_F8_E5M2,
    DTYPE_F8_E4M3,
    DTYPE_I16,
    DTYPE_U16,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_I32,
    DTYPE_U32,
    DTYPE_F32,
    DTYPE_I64,
    DTYPE_U64,
    DTYPE_F64,
    DTYPE_COUNT
};

extern const char *const dtype_name[DTYPE_COUNT]; // as written in safetensors headers
extern const uint8_t dtype_bytes[DTYPE_COUNT];    // 1, 2, 4, 8

struct tensor {
    const char *name; // owned by the file's structure
    enum dtype dtype;
    uint32_t rank;                   // 0..TENSOR_RANK_MAX
    uint64_t shape[TENSOR_RANK_MAX]; // outermost first
    uint64_t file_off;               // bytes from the start of the file
    uint64_t bytes;
    uint32_t file_idx; // shard, as numbered by the checkpoint; 0 for a single file
};

struct safetensors; // opaque; read-only after open

// safetensors_open opens PATH, checks the whole header (model.md 2.1: sizes, offsets that tile the
// buffer without holes or overlap, no duplicate names, known dtypes) and keeps the file open for
// reading.
//
// Header limit: 100 MB, 4 million JSON values, and never more than the file holds.
// Errors: -errno of open/read; -EINVAL not a regular file; -ENOTSUP a dtype that is not in the list
// above; -EFBIG a header beyond the limits; else -EBADMSG; with the file, the tensor and what is
// wrong.
int safetensors_open(const char *path, struct safetensors **ret, struct fault *fault);

// safetensors_close closes the file and frees all; accepts NULL; leaves *st NULL.
void safetensors_close(struct safetensors **st);

const char *safetensors_path(const struct safetensors *st);
uint32_t safetensors_count(const struct safetensors *st);
// safetensors_at returns tensor idx (0..count-1) in the header's order of file offset.
const struct tensor *safetensors_at(const struct safetensors *st, uint32_t idx);
// safetensors_find returns the tensor of that name or NULL.  O(log n).
const struct tensor *safetensors_find(const struct safetensors *st, const char *name);

// safetensors_read reads `bytes` bytes of the tensor from `off` on into dst.
//
// Errors: -EIO / -errno, a short file -EBADMSG; the sentence names file and tensor.
// Thread: any (pread).
int safetensors_read(const struct safetensors *st, const struct tensor *tensor, uint64_t off,
                     void *dst, size_t bytes, struct fault *fault);

// safetensors_number sets file_idx of every tensor; the checkpoint calls it once, before anybody
// else sees the file.
void safetensors_number(struct safetensors *st, uint32_t file_idx);
