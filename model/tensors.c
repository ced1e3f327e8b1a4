// SPDX-License-Identifier: MIT
#include "model/tensors.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *const tensor_group_name[TENSOR_GROUP_COUNT] = {
    [TENSOR_GROUP_EMBEDDING] = "embedding",
    [TENSOR_GROUP_ATTENTION] = "attention",
    [TENSOR_GROUP_DENSE_MLP] = "dense MLP",
    [TENSOR_GROUP_ROUTER] = "router",
    [TENSOR_GROUP_SHARED_EXPERTS] = "shared experts",
    [TENSOR_GROUP_ROUTED_EXPERTS] = "routed experts",
    [TENSOR_GROUP_NORMS] = "norms",
    [TENSOR_GROUP_HEAD] = "head",
    [TENSOR_GROUP_MTP] = "MTP",
};

// Which models and layers have a row of the table.
enum when {
    WHEN_ALWAYS,
    WHEN_UNTIED,
    WHEN_MLA,
    WHEN_MLA_Q,   // q_lora_rank null
    WHEN_MLA_QA,  // q_lora_rank given
    WHEN_MLA_QAB, // and attention_bias
    WHEN_MLA_B,   // attention_bias
    WHEN_GQA,
    WHEN_GQA_B, // qwen2
    WHEN_DENSE_LAYER,
    WHEN_MOE_LAYER,
    WHEN_SHARED,
    WHEN_MTP_LAYER,
    WHEN_COUNT
};

enum dim {
    DIM_ONE, // a vector has one row
    DIM_VOCAB,
    DIM_HIDDEN,
    DIM_HIDDEN_TWICE,
    DIM_INTERMEDIATE,
    DIM_Q,          // heads * (nope + rope), or heads * head_dim
    DIM_KV,         // kv heads * head_dim
    DIM_Q_LORA,     //
    DIM_KV_LORA,    //
    DIM_KV_A,       // kv_lora + rope
    DIM_KV_B,       // heads * (nope + v)
    DIM_O,          // heads * v, or heads * head_dim
    DIM_MOE,        // moe_intermediate
    DIM_MOE_SHARED, // times n_shared_experts
    DIM_EXPERTS,
    DIM_COUNT
};

struct row {
    enum tensor_role role;
    enum tensor_kind kind;
    enum tensor_group group;
    enum when when;
    enum dim rows, cols;
    const char *name; // behind "model.layers.L." or "model.layers.L.mlp.experts.E."; global: whole
};

// The only list.  Its order is the order of tensor_spec_each within a layer.
// clang-format off
static const struct row global_rows[] = {
    {ROLE_EMBED, TENSOR_MATRIX_WIDE, TENSOR_GROUP_EMBEDDING, WHEN_ALWAYS, DIM_VOCAB, DIM_HIDDEN, "model.embed_tokens.weight"},
    {ROLE_NORM, TENSOR_VECTOR, TENSOR_GROUP_NORMS, WHEN_ALWAYS, DIM_ONE, DIM_HIDDEN, "model.norm.weight"},
    {ROLE_HEAD, TENSOR_MATRIX_WIDE, TENSOR_GROUP_HEAD, WHEN_UNTIED, DIM_VOCAB, DIM_HIDDEN, "lm_head.weight"},
};

static const struct row layer_rows[] = {
    {ROLE_MTP_ENORM, TENSOR_VECTOR, TENSOR_GROUP_MTP, WHEN_MTP_LAYER, DIM_ONE, DIM_HIDDEN, "enorm.weight"},
    {ROLE_MTP_HNORM, TENSOR_VECTOR, TENSOR_GROUP_MTP, WHEN_MTP_LAYER, DIM_ONE, DIM_HIDDEN, "hnorm.weight"},
    {ROLE_MTP_EH_PROJ, TENSOR_MATRIX_WIDE, TENSOR_GROUP_MTP, WHEN_MTP_LAYER, DIM_HIDDEN, DIM_HIDDEN_TWICE, "eh_proj.weight"},
    {ROLE_MTP_HEAD_NORM, TENSOR_VECTOR, TENSOR_GROUP_MTP, WHEN_MTP_LAYER, DIM_ONE, DIM_HIDDEN, "shared_head.norm.weight"},

    {ROLE_INPUT_NORM, TENSOR_VECTOR, TENSOR_GROUP_NORMS, WHEN_ALWAYS, DIM_ONE, DIM_HIDDEN, "input_layernorm.weight"},
    {ROLE_POST_ATTENTION_NORM, TENSOR_VECTOR, TENSOR_GROUP_NORMS, WHEN_ALWAYS, DIM_ONE, DIM_HIDDEN, "post_attention_layernorm.weight"},

    {ROLE_Q_PROJ, TENSOR_MATRIX, TENSOR_GROUP_ATTENTION, WHEN_MLA_Q, DIM_Q, DIM_HIDDEN, "self_attn.q_proj.weight"},
    {ROLE_Q_A_PROJ, TENSOR_MATRIX, TENSOR_GROUP_ATTENTION, WHEN_MLA_QA, DIM_Q_LORA, DIM_HIDDEN, "self_attn.q_a_proj.weight"},
    {ROLE_Q_A_BIAS, TENSOR_VECTOR, TENSOR_GROUP_ATTENTION, WHEN_MLA_QAB, DIM_ONE, DIM_Q_LORA, "self_attn.q_a_proj.bias"},
    {ROLE_Q_A_NORM, TENSOR_VECTOR, TENSOR_GROUP_NORMS, WHEN_MLA_QA, DIM_ONE, DIM_Q_LORA, "self_attn.q_a_layernorm.weight"},
    {ROLE_Q_B_PROJ, TENSOR_MATRIX, TENSOR_GROUP_ATTENTION, WHEN_MLA_QA, DIM_Q, DIM_Q_LORA, "self_attn.q_b_proj.weight"},
    {ROLE_KV_A_PROJ, TENSOR_MATRIX, TENSOR_GROUP_ATTENTION, WHEN_MLA, DIM_KV_A, DIM_HIDDEN, "self_attn.kv_a_proj_with_mqa.weight"},
    {ROLE_KV_A_BIAS, TENSOR_VECTOR, TENSOR_GROUP_ATTENTION, WHEN_MLA_B, DIM_ONE, DIM_KV_A, "self_attn.kv_a_proj_with_mqa.bias"},
    {ROLE_KV_A_NORM, TENSOR_VECTOR, TENSOR_GROUP_NORMS, WHEN_MLA, DIM_ONE, DIM_KV_LORA, "self_attn.kv_a_layernorm.weight"},
    {ROLE_KV_B_PROJ, TENSOR_MATRIX, TENSOR_GROUP_ATTENTION, WHEN_MLA, DIM_KV_B, DIM_KV_LORA, "self_attn.kv_b_proj.weight"},

    {ROLE_Q_PROJ, TENSOR_MATRIX, TENSOR_GROUP_ATTENTION, WHEN_GQA, DIM_Q, DIM_HIDDEN, "self_attn.q_proj.weight"},
    {ROLE_Q_BIAS, TENSOR_VECTOR, TENSOR_GROUP_ATTENTION, WHEN_GQA_B, DIM_ONE, DIM_Q, "self_attn.q_proj.bias"},
    {ROLE_K_PROJ, TENSOR_MATRIX, TENSOR_GROUP_ATTENTION, WHEN_GQA, DIM_KV, DIM_HIDDEN, "self_attn.k_proj.weight"},
    {ROLE_K_BIAS, TENSOR_VECTOR, TENSOR_GROUP_ATTENTION, WHEN_GQA_B, DIM_ONE, DIM_KV, "self_attn.k_proj.bias"},
    {ROLE_V_PROJ, TENSOR_MATRIX, TENSOR_GROUP_ATTENTION, WHEN_GQA, DIM_KV, DIM_HIDDEN, "self_attn.v_proj.weight"},
    {ROLE_V_BIAS, TENSOR_VECTOR, TENSOR_GROUP_ATTENTION, WHEN_GQA_B, DIM_ONE, DIM_KV, "self_attn.v_proj.bias"},

    {ROLE_O_PROJ, TENSOR_MATRIX, TENSOR_GROUP_ATTENTION, WHEN_ALWAYS, DIM_HIDDEN, DIM_O, "self_attn.o_proj.weight"},
    {ROLE_O_BIAS, TENSOR_VECTOR, TENSOR_GROUP_ATTENTION, WHEN_MLA_B, DIM_ONE, DIM_HIDDEN, "self_attn.o_proj.bias"},

    {ROLE_MLP_GATE, TENSOR_MATRIX, TENSOR_GROUP_DENSE_MLP, WHEN_DENSE_LAYER, DIM_INTERMEDIATE, DIM_HIDDEN, "mlp.gate_proj.weight"},
    {ROLE_MLP_UP, TENSOR_MATRIX, TENSOR_GROUP_DENSE_MLP, WHEN_DENSE_LAYER, DIM_INTERMEDIATE, DIM_HIDDEN, "mlp.up_proj.weight"},
    {ROLE_MLP_DOWN, TENSOR_MATRIX, TENSOR_GROUP_DENSE_MLP, WHEN_DENSE_LAYER, DIM_HIDDEN, DIM_INTERMEDIATE, "mlp.down_proj.weight"},

    {ROLE_ROUTER, TENSOR_MATRIX_WIDE, TENSOR_GROUP_ROUTER, WHEN_MOE_LAYER, DIM_EXPERTS, DIM_HIDDEN, "mlp.gate.weight"},
    {ROLE_ROUTER_BIAS, TENSOR_VECTOR, TENSOR_GROUP_ROUTER, WHEN_MOE_LAYER, DIM_ONE, DIM_EXPERTS, "mlp.gate.e_score_correction_bias"},
    {ROLE_SHARED_GATE, TENSOR_MATRIX, TENSOR_GROUP_SHARED_EXPERTS, WHEN_SHARED, DIM_MOE_SHARED, DIM_HIDDEN, "mlp.shared_experts.gate_proj.weight"},
    {ROLE_SHARED_UP, TENSOR_MATRIX, TENSOR_GROUP_SHARED_EXPERTS, WHEN_SHARED, DIM_MOE_SHARED, DIM_HIDDEN, "mlp.shared_experts.up_proj.weight"},
    {ROLE_SHARED_DOWN, TENSOR_MATRIX, TENSOR_GROUP_SHARED_EXPERTS, WHEN_SHARED, DIM_HIDDEN, DIM_MOE_SHARED, "mlp.shared_experts.down_proj.weight"},
};

static const struct row expert_rows[] = {
    {ROLE_EXPERT_GATE, TENSOR_MATRIX, TENSOR_GROUP_ROUTED_EXPERTS, WHEN_MOE_LAYER, DIM_MOE, DIM_HIDDEN, "gate_proj.weight"},
    {ROLE_EXPERT_UP, TENSOR_MATRIX, TENSOR_GROUP_ROUTED_EXPERTS, WHEN_MOE_LAYER, DIM_MOE, DIM_HIDDEN, "up_proj.weight"},
    {ROLE_EXPERT_DOWN, TENSOR_MATRIX, TENSOR_GROUP_ROUTED_EXPERTS, WHEN_MOE_LAYER, DIM_HIDDEN, DIM_MOE, "down_proj.weight"},
};
// clang-format on

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

static bool row_applies(const struct model_config *config, enum when when, uint32_t layer)
{
    bool mla = config->arch == MODEL_ARCH_DEEPSEEK_V3;
    bool moe = model_config_layer_is_moe(config, layer);
    const bool applies[WHEN_COUNT] = {
        [WHEN_ALWAYS] = true,
        [WHEN_UNTIED] = !config->tie_word_embeddings,
        [WHEN_MLA] = mla,
        [WHEN_MLA_Q] = mla && !config->q_lora_rank,
        [WHEN_MLA_QA] = mla && config->q_lora_rank,
        [WHEN_MLA_QAB] = mla && config->q_lora_rank && config->attention_bias,
        [WHEN_MLA_B] = mla && config->attention_bias,
        [WHEN_GQA] = !mla,
        [WHEN_GQA_B] = config->arch == MODEL_ARCH_QWEN2,
        [WHEN_DENSE_LAYER] = !moe,
        [WHEN_MOE_LAYER] = moe,
        [WHEN_SHARED] = moe && config->n_shared_experts,
        [WHEN_MTP_LAYER] = layer >= config->num_hidden_layers,
    };
    return applies[when];
}

// Every product is below 1 << 24 (config.h bounds the factors), so 32 bits hold it.
static uint32_t dim_size(const struct model_config *config, enum dim dim)
{
    bool mla = config->arch == MODEL_ARCH_DEEPSEEK_V3;
    uint32_t heads = config->num_attention_heads;
    const uint32_t sizes[DIM_COUNT] = {
        [DIM_ONE] = 1,
        [DIM_VOCAB] = config->vocab_size,
        [DIM_HIDDEN] = config->hidden_size,
        [DIM_HIDDEN_TWICE] = 2 * config->hidden_size,
        [DIM_INTERMEDIATE] = config->intermediate_size,
        [DIM_Q] =
            heads * (mla ? config->qk_nope_head_dim + config->qk_rope_head_dim : config->head_dim),
        [DIM_KV] = config->num_key_value_heads * config->head_dim,
        [DIM_Q_LORA] = config->q_lora_rank,
        [DIM_KV_LORA] = config->kv_lora_rank,
        [DIM_KV_A] = config->kv_lora_rank + config->qk_rope_head_dim,
        [DIM_KV_B] = heads * (config->qk_nope_head_dim + config->v_head_dim),
        [DIM_O] = heads * (mla ? config->v_head_dim : config->head_dim),
        [DIM_MOE] = config->moe_intermediate_size,
        [DIM_MOE_SHARED] = config->moe_intermediate_size * config->n_shared_experts,
        [DIM_EXPERTS] = config->n_routed_experts,
    };
    return sizes[dim];
}

static void spec_fill(const struct model_config *config, const struct row *row, uint32_t layer,
                      uint32_t expert, struct tensor_spec *ret)
{
    *ret = (struct tensor_spec){
        .role = row->role,
        .kind = row->kind,
        .group = row->group,
        .layer = layer,
        .expert = expert,
        .rows = dim_size(config, row->rows),
        .cols = dim_size(config, row->cols),
    };
}

static void spec_fill_global(const struct model_config *config, const struct row *row,
                             struct tensor_spec *ret)
{
    spec_fill(config, row, 0, 0, ret);
    snprintf(ret->name, sizeof(ret->name), "%s", row->name);
}

static void spec_fill_layer(const struct model_config *config, const struct row *row,
                            uint32_t layer, struct tensor_spec *ret)
{
    spec_fill(config, row, layer, 0, ret);
    snprintf(ret->name, sizeof(ret->name), "model.layers.%u.%s", layer, row->name);
}

static void spec_fill_expert(const struct model_config *config, const struct row *row,
                             uint32_t layer, uint32_t expert, struct tensor_spec *ret)
{
    spec_fill(config, row, layer, expert, ret);
    snprintf(ret->name, sizeof(ret->name), "model.layers.%u.mlp.experts.%u.%s", layer, expert,
             row->name);
}

static int layer_each(const struct model_config *config, uint32_t layer,
                      int (*fn)(const struct tensor_spec *spec, void *user), void *user)
{
    struct tensor_spec spec;
    int err = 0;

    for (size_t i = 0; i < ROWS(layer_rows) && err == 0; i++) {
        if (!row_applies(config, layer_rows[i].when, layer))
            continue;
        spec_fill_layer(config, &layer_rows[i], layer, &spec);
        err = fn(&spec, user);
    }
    if (!model_config_layer_is_moe(config, layer))
        return err;
    for (uint32_t expert = 0; expert < config->n_routed_experts; expert++)
        for (size_t i = 0; i < ROWS(expert_rows) && err == 0; i++) {
            spec_fill_expert(config, &expert_rows[i], layer, expert, &spec);
            err = fn(&spec, user);
        }
    return err;
}

int tensor_spec_each(const struct model_config *config,
                     int (*fn)(const struct tensor_spec *spec, void *user), void *user)
{
    struct tensor_spec spec;
    int err = 0;

    for (size_t i = 0; i < ROWS(global_rows) && err == 0; i++) {
        if (!row_applies(config, global_rows[i].when, 0))
            continue;
        spec_fill_global(config, &global_rows[i], &spec);
        err = fn(&spec, user);
    }
    for (uint32_t layer = 0; layer < model_config_layers(config) && err == 0; layer++)
        err = layer_each(config, layer, fn, user);
    return err;
}

// row_find returns the row of a role that this layer has, or NULL.
static const struct row *row_find(const struct model_config *config, const struct row *rows,
                                  size_t n, enum tensor_role role, uint32_t layer)
{
    for (size_t i = 0; i < n; i++)
        if (rows[i].role == role && row_applies(config, rows[i].when, layer))
            return &rows[i];
    return NULL;
}

int tensor_spec_get(const struct model_config *config, enum tensor_role role, uint32_t layer,
                    uint32_t expert, struct tensor_spec *ret)
{
    bool tied = role == ROLE_HEAD && config->tie_word_embeddings;
    const struct row *row =
        row_find(config, global_rows, ROWS(global_rows), tied ? ROLE_EMBED : role, 0);
    if (row) {
        spec_fill_global(config, row, ret);
        ret->role = role;
        return 0;
    }
    if (layer >= model_config_layers(config))
        return -ENOENT;
    row = row_find(config, layer_rows, ROWS(layer_rows), role, layer);
    if (row) {
        spec_fill_layer(config, row, layer, ret);
        return 0;
    }
    row = row_find(config, expert_rows, ROWS(expert_rows), role, layer);
    if (!row || expert >= config->n_routed_experts)
        return -ENOENT;
    spec_fill_expert(config, row, layer, expert, ret);
    return 0;
}

void tensor_spec_scale_name(const struct tensor_spec *spec, char *ret)
{
    // The longest name is "model.layers.NNNN.mlp.experts.NNNN.gate_proj.weight".
    snprintf(ret, TENSOR_NAME_MAX, "%.100s_scale_inv", spec->name);
}
