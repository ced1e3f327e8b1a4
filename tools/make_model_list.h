// SPDX-License-Identifier: MIT
// make_model_list: what a checkpoint of a config consists of: tensors, in which file and in which
// order, as the stock serializer and the released files have them.  The tensors are those of
// model/tensors.h, so that what this writes is what the loader wants.
#pragma once
#include "model/safetensors.h"
#include "model/tensors.h"

#define SHARD_NAME_MAX 64u

// One tensor of a file.
struct item {
    char name[TENSOR_NAME_MAX]; // in the file
    struct tensor_spec spec;    // its name seeds the values: a copy has the original's
    bool scale;                 // the block scales of spec, not spec itself
    enum dtype dtype;
    uint32_t rank;
    uint32_t shape[2];
    uint64_t bytes;
    uint32_t shard;
};

struct items {
    const struct model_config *config;
    struct item *list; // [n], shard by shard, each in the order of its data
    size_t n, cap;
    uint64_t bytes, fp8_bytes; // of all tensors, of those in FP8
    uint32_t shards;
};

// items_make fills a zeroed list, which the caller frees with items_free.  0 or -ENOMEM.
int items_make(const struct model_config *config, struct items *items);
void items_free(struct items *items);

// items_shard returns the first tensor of a file and how many it has.
const struct item *items_shard(const struct items *items, uint32_t shard, size_t *ret_n);

// shard_name writes the name of a file.  ret: SHARD_NAME_MAX bytes.
void shard_name(uint32_t shard, uint32_t shards, char *ret);

// shard_header makes a file's first bytes: length and header, padded so that the data begin at
// 8 mod 16 in even files and at a multiple of 16 in odd ones: released files have both, and readers
// must take both.  The caller frees *ret_text.  0 or -ENOMEM.
int shard_header(const struct item *items, size_t n, uint32_t shard, char **ret_text,
                 size_t *ret_len);
