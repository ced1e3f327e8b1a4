// SPDX-License-Identifier: MIT
// tensors: the only list of the tensors that a model of a given config has: name, shape, dtype
// rule, group.  Checked against a checkpoint by checkpoint.c, written by tools/make-model, summed
// by the model card, loaded by weights.c.  Source: model.md sections 2.3, 5.1, 10.2.
#pragma once
#include "model/config.h"

#define TENSOR_NAME_MAX 128u

enum tensor_group { // for people: the model card's lines
    TENSOR_GROUP_EMBEDDING,
    TENSOR_GROUP_ATTENTION,
    TENSOR_GROUP_DENSE_MLP,
    TENSOR_GROUP_ROUTER,
    TENSOR_GROUP_SHARED_EXPERTS,
    TENSOR_GROUP_ROUTED_EXPERTS,
    TENSOR_GROUP_NORMS,
    TENSOR_GROUP_HEAD,
    TENSOR_GROUP_MTP, // eh_proj, enorm, hnorm, shared_head.norm
    TENSOR_GROUP_COUNT
};
extern const char *const tensor_group_name[TENSOR_GROUP_COUNT];

enum tensor_kind {
    TENSOR_MATRIX,      // linear [out, in]: F8_E4M3 with weight_scale_inv when config.fp8, or
                        // BF16/F16/F32
    TENSOR_MATRIX_WIDE, // never FP8: embedding, head, router gate, eh_proj: BF16/F16/F32
    TENSOR_VECTOR,      // norm weight, bias: F32, BF16 or F16
};

// What the tensor is in its layer; weights.c finds tensors by (layer, role, expert).
enum tensor_role {
    ROLE_EMBED,
    ROLE_NORM,
    ROLE_HEAD,
    ROLE_INPUT_NORM,
    ROLE_POST_ATTENTION_NORM,
    ROLE_Q_PROJ, // also MLA with q_lora_rank null
    ROLE_K_PROJ,
    ROLE_V_PROJ,
    ROLE_Q_BIAS,
    ROLE_K_BIAS,
    ROLE_V_BIAS,
    ROLE_Q_A_PROJ,
    ROLE_Q_A_BIAS,
    ROLE_Q_A_NORM,
    ROLE_Q_B_PROJ,
    ROLE_KV_A_PROJ,
    ROLE_KV_A_BIAS,
    ROLE_KV_A_NORM,
    ROLE_KV_B_PROJ,
    ROLE_O_PROJ,
    ROLE_O_BIAS,
    ROLE_MLP_GATE,
    ROLE_MLP_UP,
    ROLE_MLP_DOWN,
    ROLE_ROUTER,
    ROLE_ROUTER_BIAS,
    ROLE_SHARED_GATE,
    ROLE_SHARED_UP,
    ROLE_SHARED_DOWN,
    ROLE_EXPERT_GATE,
    ROLE_EXPERT_UP,
    ROLE_EXPERT_DOWN,
    ROLE_MTP_ENORM,
    ROLE_MTP_HNORM,
    ROLE_MTP_EH_PROJ,
    ROLE_MTP_HEAD_NORM,
    ROLE_COUNT
};

struct tensor_spec {
    char name[TENSOR_NAME_MAX]; // as in the checkpoint, with ".weight" where it has it
    enum tensor_role role;
    enum tensor_kind kind;
    enum tensor_group group;
    uint32_t layer;      // 0 for the global ones
    uint32_t expert;     // ROLE_EXPERT_* only
    uint32_t rows, cols; // [out, in]; a vector has cols = its length and rows = 1
};

// tensor_spec_each calls fn for every tensor that a model of this config needs, in the order
// global, layer by layer, expert by expert; scales (weight_scale_inv) are implied by kind and not
// listed. A tied head is not listed, nor are the MTP layer's copies of embedding and head.
// Stops and returns fn's value when that is not 0; else returns 0.
int tensor_spec_each(const struct model_config *config,
                     int (*fn)(const struct tensor_spec *spec, void *user), void *user);

// tensor_spec_get fills *ret for one (layer, role, expert).  Returns 0, or -ENOENT if a model of
// this config has no such tensor.  layer and expert are ignored where the role has none.
// ROLE_HEAD of a tied model is the embedding: its name, role ROLE_HEAD.
int tensor_spec_get(const struct model_config *config, enum tensor_role role, uint32_t layer,
                    uint32_t expert, struct tensor_spec *ret);

// tensor_spec_scale_name writes the name of a matrix's block scales, "..._scale_inv".
// ret: TENSOR_NAME_MAX bytes.
void tensor_spec_scale_name(const struct tensor_spec *spec, char *ret);

// tensor_scale_blocks returns how many 128-wide blocks cover n rows or columns.
static inline uint32_t tensor_scale_blocks(uint32_t n)
{
    return n / 128 + (n % 128 != 0);
}
