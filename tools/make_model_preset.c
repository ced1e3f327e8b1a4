// SPDX-License-Identifier: MIT
#include "tools/make_model_preset.h"

#include <string.h>

// clang-format off
static const char deepseek[] =
    "{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"attention_bias\": false,"
    " \"attention_dropout\": 0.0, \"bos_token_id\": 0, \"eos_token_id\": 1, \"ep_size\": 1,"
    " \"first_k_dense_replace\": 3, \"hidden_act\": \"silu\", \"hidden_size\": 7168,"
    " \"initializer_range\": 0.02, \"intermediate_size\": 18432, \"kv_lora_rank\": 512,"
    " \"max_position_embeddings\": 163840, \"model_type\": \"deepseek_v3\","
    " \"moe_intermediate_size\": 2048, \"moe_layer_freq\": 1, \"n_group\": 8,"
    " \"n_routed_experts\": 256, \"n_shared_experts\": 1, \"norm_topk_prob\": true,"
    " \"num_attention_heads\": 128, \"num_experts_per_tok\": 8, \"num_hidden_layers\": 61,"
    " \"num_key_value_heads\": 128, \"num_nextn_predict_layers\": 0, \"q_lora_rank\": 1536,"
    " \"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64,"
    " \"quantization_config\": {\"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\","
    "  \"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]},"
    " \"rms_norm_eps\": 1e-06, \"rope_scaling\": {\"beta_fast\": 32, \"beta_slow\": 1,"
    "  \"factor\": 40, \"mscale\": 1.0, \"mscale_all_dim\": 1.0,"
    "  \"original_max_position_embeddings\": 4096, \"type\": \"yarn\"}, \"rope_theta\": 10000,"
    " \"routed_scaling_factor\": 2.5, \"scoring_func\": \"sigmoid\","
    " \"tie_word_embeddings\": false, \"topk_group\": 4, \"topk_method\": \"noaux_tc\","
    " \"torch_dtype\": \"bfloat16\", \"use_cache\": true, \"v_head_dim\": 128,"
    " \"vocab_size\": 129280}";

static const char qwen2[] =
    "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\", \"bos_token_id\": 0,"
    " \"eos_token_id\": 1, \"hidden_act\": \"silu\", \"hidden_size\": 128,"
    " \"intermediate_size\": 256, \"max_position_embeddings\": 4096, \"num_attention_heads\": 4,"
    " \"num_hidden_layers\": 2, \"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-06,"
    " \"rope_theta\": 10000, \"tie_word_embeddings\": false, \"torch_dtype\": \"bfloat16\","
    " \"use_sliding_window\": false, \"vocab_size\": 512}";

static const char llama[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"bos_token_id\": 0,"
    " \"attention_bias\": false, \"mlp_bias\": false, \"eos_token_id\": 1,"
    " \"hidden_act\": \"silu\", \"hidden_size\": 128, \"intermediate_size\": 256,"
    " \"head_dim\": 32, \"max_position_embeddings\": 4096, \"num_attention_heads\": 4,"
    " \"num_hidden_layers\": 2, \"num_key_value_heads\": 1, \"rms_norm_eps\": 1e-05,"
    " \"rope_scaling\": {\"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0,"
    "  \"original_max_position_embeddings\": 512, \"rope_type\": \"llama3\"},"
    " \"rope_theta\": 500000.0, \"tie_word_embeddings\": false, \"torch_dtype\": \"bfloat16\","
    " \"vocab_size\": 512}";

#define TINY                                                                                       \
    "\"hidden_size\": 256, \"intermediate_size\": 384, \"moe_intermediate_size\": 128,"            \
    " \"num_hidden_layers\": 3, \"first_k_dense_replace\": 1, \"n_routed_experts\": 8,"            \
    " \"num_experts_per_tok\": 2, \"n_group\": 4, \"topk_group\": 2, \"q_lora_rank\": 128,"        \
    " \"kv_lora_rank\": 128, \"qk_nope_head_dim\": 32, \"qk_rope_head_dim\": 16,"                  \
    " \"v_head_dim\": 32, \"num_attention_heads\": 4, \"num_key_value_heads\": 4,"                 \
    " \"vocab_size\": 512"

const struct preset presets[] = {
    {"bench-800m", "the model of tools/bench: FP8, 8 layers, 64 experts, top 6", deepseek,
     "{\"hidden_size\": 1024, \"intermediate_size\": 4096, \"moe_intermediate_size\": 512,"
     " \"num_hidden_layers\": 8, \"first_k_dense_replace\": 1, \"n_routed_experts\": 64,"
     " \"num_experts_per_tok\": 6, \"n_shared_experts\": 2, \"n_group\": 1, \"topk_group\": 1,"
     " \"q_lora_rank\": 384, \"kv_lora_rank\": 512, \"num_attention_heads\": 16,"
     " \"num_key_value_heads\": 16, \"vocab_size\": 4096}"},
    {"bench-16b", "16 GB of FP8 for a real GPU: 27 layers, 64 experts, q_lora_rank null", deepseek,
     "{\"hidden_size\": 2048, \"intermediate_size\": 11264, \"moe_intermediate_size\": 1408,"
     " \"num_hidden_layers\": 27, \"first_k_dense_replace\": 1, \"n_routed_experts\": 64,"
     " \"num_experts_per_tok\": 6, \"n_shared_experts\": 2, \"n_group\": 1, \"topk_group\": 1,"
     " \"q_lora_rank\": null, \"num_attention_heads\": 16, \"num_key_value_heads\": 16,"
     " \"routed_scaling_factor\": 2.446, \"vocab_size\": 32768}"},
    {"v3-slice", "V3's attention and experts, 4 layers, 16,384 tokens: 34 GB", deepseek,
     "{\"intermediate_size\": 2048, \"num_hidden_layers\": 4, \"first_k_dense_replace\": 1,"
     " \"vocab_size\": 16384}"},
    {"v3-slice-small", "v3-slice with 40 experts a layer: 6.7 GB", deepseek,
     "{\"intermediate_size\": 2048, \"num_hidden_layers\": 4, \"first_k_dense_replace\": 1,"
     " \"n_routed_experts\": 40, \"vocab_size\": 16384}"},
    {"v3-load", "v3-slice with 8 experts a layer: its arithmetic, all in memory: 2.5 GB", deepseek,
     "{\"intermediate_size\": 2048, \"num_hidden_layers\": 4, \"first_k_dense_replace\": 1,"
     " \"n_routed_experts\": 8, \"n_group\": 1, \"topk_group\": 1, \"vocab_size\": 16384}"},
    {"v3-full", "the released model: 673 GB (688 with --mtp); 5 GB with --reflink", deepseek, "{}"},
    {"tiny-slice", "v3-slice in small: 64 experts, top 8, 4 layers", deepseek,
     "{\"hidden_size\": 256, \"intermediate_size\": 128, \"moe_intermediate_size\": 128,"
     " \"num_hidden_layers\": 4, \"first_k_dense_replace\": 1, \"n_routed_experts\": 64,"
     " \"q_lora_rank\": 128, \"kv_lora_rank\": 128, \"qk_nope_head_dim\": 32,"
     " \"qk_rope_head_dim\": 16, \"v_head_dim\": 32, \"num_attention_heads\": 4,"
     " \"num_key_value_heads\": 4, \"vocab_size\": 2048}"},
    {"tiny-mla", "FP8, groups of experts, ragged kv_a", deepseek, "{" TINY "}"},
    {"tiny-v31", "scales are powers of two (ue8m0)", deepseek,
     "{" TINY ", \"quantization_config\": {\"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\","
     " \"quant_method\": \"fp8\", \"scale_fmt\": \"ue8m0\", \"weight_block_size\": [128, 128]}}"},
    {"tiny-kimi", "kimi_k2: one group, 12 experts, betas 1/1", deepseek,
     "{" TINY ", \"model_type\": \"kimi_k2\", \"n_group\": 1, \"topk_group\": 1,"
     " \"n_routed_experts\": 12, \"num_experts_per_tok\": 4, \"routed_scaling_factor\": 2.827,"
     " \"rope_theta\": 50000.0, \"max_position_embeddings\": 131072,"
     " \"rope_scaling\": {\"beta_fast\": 1.0, \"beta_slow\": 1.0, \"factor\": 32.0,"
     " \"mscale\": 1.0, \"mscale_all_dim\": 1.0, \"original_max_position_embeddings\": 4096,"
     " \"type\": \"yarn\"}}"},
    {"tiny-lite", "q_lora_rank null, tied embeddings, plain RoPE, ragged blocks", deepseek,
     "{" TINY ", \"q_lora_rank\": null, \"rope_scaling\": null, \"tie_word_embeddings\": true,"
     " \"n_group\": 1, \"topk_group\": 1, \"moe_intermediate_size\": 72, \"v_head_dim\": 40,"
     " \"n_shared_experts\": 2, \"rms_norm_eps\": 1e-05}"},
    {"tiny-bf16", "tiny-mla without quantisation", deepseek,
     "{" TINY ", \"quantization_config\": null}"},
    {"tiny-qwen2", "dense, biases on q, k and v", qwen2, "{}"},
    {"tiny-llama", "dense, llama3 RoPE scaling", llama, "{}"},
    {NULL, NULL, NULL, NULL},
};
// clang-format on

const struct preset *preset_find(const char *name)
{
    for (const struct preset *preset = presets; preset->name; preset++)
        if (strcmp(preset->name, name) == 0)
            return preset;
    return NULL;
}

json_t *preset_config(const struct preset *preset, bool with_mtp)
{
    json_t *config = json_loads(preset->base, 0, NULL);
    json_t *changes = json_loads(preset->changes, 0, NULL);
    int failed = !config || !changes || json_object_update(config, changes) < 0;

    json_decref(changes);
    if (!failed && json_is_null(json_object_get(config, "quantization_config")))
        json_object_del(config,
                        "quantization_config"); // as BF16 checkpoints have it; may be absent
    if (!failed && with_mtp)
        failed = json_object_set_new(config, "num_nextn_predict_layers", json_integer(1)) < 0;
    if (!failed)
        return config;
    json_decref(config);
    return NULL;
}

json_t *preset_generation_config(const json_t *config)
{
    return json_pack("{s:b, s:O, s:O, s:b, s:f, s:f}", "_from_model_config", 1, "bos_token_id",
                     json_object_get(config, "bos_token_id"), "eos_token_id",
                     json_object_get(config, "eos_token_id"), "do_sample", 1, "temperature", 0.6,
                     "top_p", 0.95);
}
