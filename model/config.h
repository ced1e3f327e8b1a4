// SPDX-License-Identifier: MIT
// config: config.json and generation_config.json of a Hugging Face checkpoint, checked and with
// every default filled in.  Field names are those of config.json.  Read-only after
// model_config_read. Source: model.md section 1; released config.json files of DeepSeek-V3, R1,
// V3.1, Kimi-K2.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_EOS_MAX 16u // ids; released files have one to three

enum model_arch {
    MODEL_ARCH_DEEPSEEK_V3, // MLA + MoE: deepseek_v3, kimi_k2
    MODEL_ARCH_QWEN2,       // dense GQA with q/k/v bias: R1-Distill-Qwen
    MODEL_ARCH_LLAMA,       // dense GQA: R1-Distill-Llama
    MODEL_ARCH_COUNT
};

enum rope_scaling_type {
    ROPE_SCALING_NONE,
    ROPE_SCALING_YARN,
    ROPE_SCALING_LLAMA3,
    ROPE_SCALING_COUNT
};

struct rope_config {
    enum rope_scaling_type type;
    double theta;
    double factor;
    double beta_fast, beta_slow;              // yarn
    double mscale, mscale_all_dim;            // yarn
    double low_freq_factor, high_freq_factor; // llama3
    uint32_t original_max_position_embeddings;
    bool interleave; // pairs (2i, 2i+1); false: (i, i + dim/2)
};

struct model_config {
    enum model_arch arch;
    char architecture[64]; // architectures[0], for people
    char model_type[32];

    uint32_t vocab_size;
    uint32_t hidden_size;
    uint32_t intermediate_size;
    uint32_t num_hidden_layers;
    uint32_t num_nextn_predict_layers; // 0 or 1
    uint32_t num_attention_heads;
    uint32_t max_position_embeddings;
    float rms_norm_eps;
    bool tie_word_embeddings;
    bool attention_bias; // deepseek_v3: bias on q_a_proj, kv_a_proj_with_mqa, o_proj

    // Dense attention (qwen2, llama); 0 for MLA.
    uint32_t num_key_value_heads;
    uint32_t head_dim;

    // MLA; 0 for dense attention.
    uint32_t q_lora_rank; // 0: one q_proj
    uint32_t kv_lora_rank;
    uint32_t qk_nope_head_dim;
    uint32_t qk_rope_head_dim;
    uint32_t v_head_dim;

    // MoE; n_routed_experts 0 means every layer is dense.
    uint32_t moe_intermediate_size;
    uint32_t n_routed_experts;
    uint32_t n_shared_experts;
    uint32_t num_experts_per_tok;
    uint32_t first_k_dense_replace;
    uint32_t moe_layer_freq;
    uint32_t n_group, topk_group;
    float routed_scaling_factor;
    bool norm_topk_prob;

    struct rope_config rope;

    bool fp8;         // quantization_config quant_method fp8, e4m3, blocks of 128x128
    bool scale_ue8m0; // scale_fmt ue8m0: activation scales are powers of two in official-fp8

    uint32_t bos_token_id;                 // UINT32_MAX: null or absent
    uint32_t eos_token_ids[MODEL_EOS_MAX]; // union of config.json and generation_config.json
    uint32_t eos_n;

    // generation_config.json; NAN / 0 where absent.
    float temperature; // NAN: absent; 0 where do_sample is false
    float top_p;       // NAN: absent
    uint32_t top_k;    // 0: absent
};

// model_config_read reads DIR/config.json and, if there is one, DIR/generation_config.json.
//
// dir: path of the checkpoint.  ret: written whole on success, untouched on failure.
// Errors: -ENOENT no config.json; -EINVAL a field is missing or out of range (the sentence names
//         it); -EBADMSG not JSON; -EFBIG absurdly large;
//         -ENOTSUP an architecture or a feature that is not served, by name (V3.2's indexer, packed
//         int4, softmax routers, ...).
// Every dimension is bounded (<= 1 << 20; heads times their size <= 1 << 24; layers <= 1024,
// experts <= 4096; so a tensor has less than 1 << 44 elements and 64-bit sums of bytes cannot
// overflow).  Ids of bos and eos are below vocab_size.  Accepts ints for floats and whole floats
// for ints, the three spellings of RoPE scaling (type, rope_type, rope_parameters), and a
// text_config wrapper.  Fields that are absent get the value that transformers gives them, where
// model.md 1.1 does not call them required; num_nextn_predict_layers absent is 0.
int model_config_read(const char *dir, struct model_config *ret, struct fault *fault);

// model_config_parse does the same with texts in memory: the content of config.json and, where
// generation is not NULL, of generation_config.json.
int model_config_parse(const char *config, size_t config_len, const char *generation,
                       size_t generation_len, struct model_config *ret, struct fault *fault);

// model_config_layer_is_moe says whether layer `layer` (the MTP layer included) has routed experts.
bool model_config_layer_is_moe(const struct model_config *config, uint32_t layer);

// model_config_layers returns how many decoder layers the checkpoint holds, MTP included.
static inline uint32_t model_config_layers(const struct model_config *config)
{
    return config->num_hidden_layers + config->num_nextn_predict_layers;
}

// model_config_is_eos says whether `id` ends a generation.
bool model_config_is_eos(const struct model_config *config, uint32_t id);
