// SPDX-License-Identifier: MIT
// card: what a checkpoint is and what it needs, in numbers: parameters, tensors by group with
// bytes, bytes that stay resident against routed experts, KV bytes a token, and a memory plan for
// given amounts of memory.  Pure: reads no device and no weights; `expertctl inspect` prints it.
// Source: model.md sections 0, 2.2, 11.1, 11.2.
#pragma once
#include "model/checkpoint.h"

#include <stdio.h>

// One line of the table.  params counts weights (scales are not parameters); bytes counts data in
// the files, scales included; tensors counts both.
struct model_card_line {
    uint64_t tensors, params, bytes;
};

struct model_card {
    char architecture[64]; // "DeepseekV3ForCausalLM"
    char model_type[32];
    enum model_arch arch;
    bool fp8; // config says 128x128 FP8 blocks
    bool has_mtp;
    bool mtp_missing; // the config promises an MTP layer, the files have none

    uint32_t layers, dense_layers, moe_layers; // decoder layers without MTP
    uint32_t hidden_size, vocab_size, heads, context_max;
    uint32_t experts, experts_per_token, shared_experts; // a layer; 0 for dense models

    uint64_t params;        // main model: embedding, head and every expert, without MTP
    uint64_t params_active; // used for one token: routed experts picked, one row of the embedding
    uint64_t params_mtp;    // MTP layer without its copies of embedding and head

    // Main model by group; [TENSOR_GROUP_MTP] is the whole MTP layer, its experts included.
    struct model_card_line groups[TENSOR_GROUP_COUNT];
    struct model_card_line unused; // in the files, not needed: copies of embedding and head, junk
    struct model_card_line total;  // everything in the files; V3: 91,991 tensors, 688,574,839,360 B
    uint64_t dtype_bytes[DTYPE_COUNT]; // total.bytes by dtype
    uint32_t files;                    // shards; 0 when made from a config alone

    uint64_t resident_bytes;     // main model without routed experts; V3: 19,082,195,296
    uint64_t resident_read;      // bytes of it that one token reads (embedding: one row only)
    uint64_t experts_bytes;      // routed experts of the main model; V3: 654,068,416,512
    uint64_t expert_n;           // how many: moe_layers * experts
    uint64_t expert_bytes_max;   // the largest one with scales; V3: 44,050,944
    uint64_t experts_read;       // bytes of routed experts that one token reads
    uint64_t mtp_resident_bytes; // MTP layer without its routed experts; V3: 440,469,728
    uint64_t mtp_experts_bytes;

    uint32_t kv_values; // a token, main layers: MLA kv_lora + rope, else 2 * kv heads * head_dim
    uint32_t kv_values_mtp; // a token, MTP layer
};

// model_card_make counts what the checkpoint's files really hold.
// Returns 0 or -ENOMEM.  Cost: one look-up a tensor (V3: some 0.1 s).
int model_card_make(const struct checkpoint *ck, struct model_card *ret);

// model_card_from_config says what a released checkpoint of this config holds: matrices FP8 with
// F32 scales where config.fp8, else BF16; router bias F32; the rest BF16; the MTP layer with its
// copies of embedding and head.  For sizes without weights.
void model_card_from_config(const struct model_config *config, struct model_card *ret);

// What a machine offers.  The caller asks the device; this file never does.
struct model_plan_params {
    uint64_t device_bytes;    // memory of the Vulkan device that this may take
    uint64_t host_bytes;      // host memory that this may take for experts; 0: none.  Where device
                              // and host share memory (lavapipe, integrated GPUs): give it once
    uint64_t workspace_bytes; // activations, staging, pipelines; 0: 256 MiB
    uint64_t kv_tokens;       // tokens of KV over all sequences; 0: one context_max
    uint32_t kv_value_bytes;  // 2 (f16) or 4 (f32); 0: 2
    bool mtp;                 // load the MTP layer where there is one
};

enum model_plan_verdict {
    MODEL_PLAN_DEVICE,   // everything fits in device memory
    MODEL_PLAN_HOST,     // all experts fit in device and host memory together: no drive is read
    MODEL_PLAN_STREAMED, // the resident part fits; some experts are read from the drive each token
    MODEL_PLAN_TOO_BIG,  // not even the resident part, KV and one token's experts fit
    MODEL_PLAN_VERDICT_COUNT
};
extern const char *const model_plan_verdict_name[MODEL_PLAN_VERDICT_COUNT]; // one word each
extern const char *const model_plan_verdict_text[MODEL_PLAN_VERDICT_COUNT]; // one sentence each

struct model_plan {
    struct model_plan_params params; // as given, zeros replaced
    uint64_t resident_bytes;         // non-routed weights, MTP's included if it is loaded
    uint64_t kv_bytes_token;         // KV of one token
    uint64_t kv_bytes;
    uint64_t experts_bytes, experts_n; // MTP's included if it is loaded
    uint64_t experts_device_n;         // fit in device memory beside the rest
    uint64_t experts_host_n;           // fit in host memory, of those left
    uint64_t experts_streamed_n;       // the others
    uint64_t experts_streamed_bytes;
    uint64_t device_used_bytes;  // of params.device_bytes
    uint64_t missing_bytes;      // MODEL_PLAN_TOO_BIG: how much device memory is short; else 0
    uint64_t token_stream_bytes; // a decoded token from the drive, routing uniform, no MTP
    enum model_plan_verdict verdict;
};

// model_plan_make divides the given memory: resident weights, workspace and KV first, in device
// memory; then experts into what is left of device memory, then of host memory.  Pure.
void model_plan_make(const struct model_card *card, const struct model_plan_params *params,
                     struct model_plan *ret);

// model_card_text writes the card for people, every line ended by a newline, at most 100 columns.
// plan: may be NULL (card only).  Returns 0, or -EIO if out fails.
int model_card_text(const struct model_card *card, const struct model_plan *plan, FILE *out);

// model_card_json writes one JSON object (and a newline); field names are those of the structs,
// integers exact.  plan: may be NULL.  Returns 0, -ENOMEM or -EIO.
int model_card_json(const struct model_card *card, const struct model_plan *plan, FILE *out);
