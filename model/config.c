// SPDX-License-Identifier: MIT
#include "model/config.h"

#include "model/file.h"
#include "model/json_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIM_MAX      (1 << 20)
#define LAYERS_MAX   1024
#define EXPERTS_MAX  4096
#define HEADS_MAX    4096 // times HEAD_DIM_MAX: 1 << 24 rows
#define HEAD_DIM_MAX 2048 // of each part; nope + rope and nope + v stay within 4096
#define POSITION_MAX (1 << 26)

#define PATH_BYTES_MAX 4096

// Released files have some 2 KB and three levels; auto_map and quantisation lists need more.
static const struct json_limits config_limits = {
    .bytes_max = 4u << 20, .depth_max = 32, .values_max = 200000};

// One JSON object and the words that name it in a sentence.
struct source {
    const json_t *object;
    const char *label;
    struct fault *fault;
};

// --- single values -----------------------------------------------------------------------------

enum presence {
    REQUIRED, // absent: an error; null: too
    NULLABLE, // absent: an error; null: the value for null
    OPTIONAL, // absent: the default; null: the value for null
};

static int fail_missing(const struct source *src, const char *key)
{
    return fault_set(src->fault, EINVAL, "%s: %s is missing", src->label, key);
}

// value_int takes 40 and 40.0 alike.
static bool value_int(const json_t *value, long long min, long long max, long long *ret)
{
    if (json_is_integer(value)) {
        *ret = json_integer_value(value);
    } else if (json_is_real(value)) {
        double real = json_real_value(value);
        if (!(real >= -9e15 && real <= 9e15) || real != floor(real))
            return false;
        *ret = (long long)real;
    } else {
        return false;
    }
    return *ret >= min && *ret <= max;
}

struct u32_field {
    const char *key;
    size_t offset; // in struct model_config
    uint32_t min, max;
    enum presence presence;
    uint32_t absent, null;
};

static int u32_read(const struct source *src, const struct u32_field *field, uint32_t *ret)
{
    const json_t *value = json_object_get(src->object, field->key);
    long long number;

    if (!value && field->presence == OPTIONAL) {
        *ret = field->absent;
    } else if (json_is_null(value) && field->presence != REQUIRED) {
        *ret = field->null;
    } else if (!value) {
        return fail_missing(src, field->key);
    } else if (!value_int(value, field->min, field->max, &number)) {
        return fault_set(src->fault, EINVAL, "%s: %s must be an integer from %u to %u", src->label,
                         field->key, field->min, field->max);
    } else {
        *ret = (uint32_t)number;
    }
    return 0;
}

static int u32_fields_read(const struct source *src, const struct u32_field *fields, size_t n,
                           struct model_config *config)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t *at = (uint32_t *)(void *)((char *)config + fields[i].offset);
        int err = u32_read(src, &fields[i], at);
        if (err < 0)
            return err;
    }
    return 0;
}

// real_read reads a number; absent or null gives *ret as it was, or an error where required.
static int real_read(const struct source *src, const char *key, enum presence presence, double min,
                     double max, double *ret)
{
    const json_t *value = json_object_get(src->object, key);
    if ((!value || json_is_null(value)) && presence != REQUIRED)
        return 0;
    if (!value)
        return fail_missing(src, key);
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    if (!(number >= min && number <= max))
        return fault_set(src->fault, EINVAL, "%s: %s must be a number from %g to %g", src->label,
                         key, min, max);
    *ret = number;
    return 0;
}

static int bool_read(const struct source *src, const char *key, enum presence presence, bool *ret)
{
    const json_t *value = json_object_get(src->object, key);
    if ((!value || json_is_null(value)) && presence != REQUIRED)
        return 0;
    if (!value)
        return fail_missing(src, key);
    if (!json_is_boolean(value))
        return fault_set(src->fault, EINVAL, "%s: %s must be true or false", src->label, key);
    *ret = json_boolean_value(value);
    return 0;
}

// word_read returns the string of key; *ret is NULL where it is absent or null.
static int word_read(const struct source *src, const char *key, const char **ret)
{
    const json_t *value = json_object_get(src->object, key);
    *ret = NULL;
    if (!value || json_is_null(value))
        return 0;
    *ret = json_string_value(value);
    if (!*ret)
        return fault_set(src->fault, EINVAL, "%s: %s must be a string", src->label, key);
    return 0;
}

// word_require refuses every value of key but `served` (and absence).
static int word_require(const struct source *src, const char *key, const char *served,
                        const char *why)
{
    const char *word;
    int err = word_read(src, key, &word);
    if (err < 0)
        return err;
    if (word && strcmp(word, served) != 0)
        return fault_set(src->fault, ENOTSUP, "%s: %s \"%.60s\" is not served%s; only \"%s\" is",
                         src->label, key, word, why, served);
    return 0;
}

// object_read returns the object of key; *ret is NULL where it is absent or null.
static int object_read(const struct source *src, const char *key, const json_t **ret)
{
    const json_t *value = json_object_get(src->object, key);
    *ret = NULL;
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_object(value))
        return fault_set(src->fault, EINVAL, "%s: %s must be an object", src->label, key);
    *ret = value;
    return 0;
}

// --- which architecture ------------------------------------------------------------------------

struct arch_row {
    const char *name; // an architecture or a model_type
    enum model_arch arch;
    const char *refusal; // not NULL: known, and not served
};

#define REFUSED MODEL_ARCH_COUNT
static const struct arch_row arch_rows[] = {
    {"DeepseekV3ForCausalLM", MODEL_ARCH_DEEPSEEK_V3, NULL},
    {"deepseek_v3", MODEL_ARCH_DEEPSEEK_V3, NULL},
    {"kimi_k2", MODEL_ARCH_DEEPSEEK_V3, NULL},
    {"Qwen2ForCausalLM", MODEL_ARCH_QWEN2, NULL},
    {"qwen2", MODEL_ARCH_QWEN2, NULL},
    {"LlamaForCausalLM", MODEL_ARCH_LLAMA, NULL},
    {"llama", MODEL_ARCH_LLAMA, NULL},
    {"DeepseekV32ForCausalLM", REFUSED, "the sparse attention indexer of DeepSeek-V3.2"},
    {"deepseek_v32", REFUSED, "the sparse attention indexer of DeepSeek-V3.2"},
    {"DeepseekV2ForCausalLM", REFUSED, "the softmax router of DeepSeek-V2"},
    {"deepseek_v2", REFUSED, "the softmax router of DeepSeek-V2"},
    {"Qwen3ForCausalLM", REFUSED, "the per-head norms of Qwen3"},
    {"qwen3", REFUSED, "the per-head norms of Qwen3"},
    {"Qwen3MoeForCausalLM", REFUSED, "Qwen3's mixture of experts"},
    {"qwen3_moe", REFUSED, "Qwen3's mixture of experts"},
    {"Qwen2MoeForCausalLM", REFUSED, "Qwen2's mixture of experts"},
    {"qwen2_moe", REFUSED, "Qwen2's mixture of experts"},
};

static const struct arch_row *arch_row_find(const char *name)
{
    for (size_t i = 0; name && i < sizeof(arch_rows) / sizeof(arch_rows[0]); i++)
        if (strcmp(arch_rows[i].name, name) == 0)
            return &arch_rows[i];
    return NULL;
}

static int arch_row_check(const struct source *src, const char *key, const char *name,
                          const struct arch_row **ret)
{
    *ret = arch_row_find(name);
    if (name && !*ret)
        return fault_set(
            src->fault, ENOTSUP,
            "%s: %s \"%.60s\" is not served; deepseek_v3, kimi_k2, qwen2 and llama are", src->label,
            key, name);
    if (*ret && (*ret)->refusal)
        return fault_set(src->fault, ENOTSUP, "%s: %s \"%s\": %s is not served", src->label, key,
                         name, (*ret)->refusal);
    return 0;
}

static int arch_read(const struct source *src, struct model_config *config)
{
    const struct arch_row *by_type, *by_name;
    const char *type;
    const json_t *list = json_object_get(src->object, "architectures");
    const char *name = json_string_value(json_array_get(list, 0));

    if (list && !json_is_null(list) && !name)
        return fault_set(src->fault, EINVAL, "%s: architectures must be a list of strings",
                         src->label);
    int err = word_read(src, "model_type", &type);
    if (err < 0)
        return err;
    err = arch_row_check(src, "model_type", type, &by_type);
    if (err == 0)
        err = arch_row_check(src, "architecture", name, &by_name);
    if (err < 0)
        return err;
    if (!by_type && !by_name)
        return fault_set(src->fault, EINVAL, "%s: architectures and model_type are missing",
                         src->label);
    if (by_type && by_name && by_type->arch != by_name->arch)
        return fault_set(src->fault, EINVAL,
                         "%s: architecture \"%s\" contradicts model_type \"%s\"", src->label, name,
                         type);
    config->arch = by_name ? by_name->arch : by_type->arch;
    snprintf(config->architecture, sizeof(config->architecture), "%s", name ? name : type);
    snprintf(config->model_type, sizeof(config->model_type), "%s", type ? type : "");
    return 0;
}

// --- features that change the maths and are not served -----------------------------------------

static int flag_refuse(const struct source *src, const char *key)
{
    bool flag = false;
    int err = bool_read(src, key, OPTIONAL, &flag);
    if (err < 0)
        return err;
    return flag ? fault_set(src->fault, ENOTSUP, "%s: %s is not served", src->label, key) : 0;
}

static int dense_features_check(const struct source *src, const struct model_config *config)
{
    static const char *const flags[] = {"use_sliding_window", "use_mrope", "mlp_bias",
                                        "attention_bias"};
    // Qwen2 always has biases on q, k and v and says nothing about them.
    size_t n = config->arch == MODEL_ARCH_QWEN2 ? 3 : 4;
    for (size_t i = 0; i < n; i++) {
        int err = flag_refuse(src, flags[i]);
        if (err < 0)
            return err;
    }
    return 0;
}

static int mla_features_check(const struct source *src)
{
    static const char *const indexer[] = {"index_head_dim", "index_n_heads", "index_topk"};
    for (size_t i = 0; i < sizeof(indexer) / sizeof(indexer[0]); i++) {
        const json_t *value = json_object_get(src->object, indexer[i]);
        if (value && !json_is_null(value))
            return fault_set(src->fault, ENOTSUP,
                             "%s: %s: the sparse attention indexer of DeepSeek-V3.2 is not served",
                             src->label, indexer[i]);
    }
    int err = word_require(src, "scoring_func", "sigmoid", " (softmax routers are V2's)");
    if (err == 0)
        err = word_require(src, "topk_method", "noaux_tc", " (other routers are V2's)");
    return err;
}

static int features_check(const struct source *src, const struct model_config *config)
{
    int err = word_require(src, "hidden_act", "silu", "");
    if (err < 0)
        return err;
    return config->arch == MODEL_ARCH_DEEPSEEK_V3 ? mla_features_check(src)
                                                  : dense_features_check(src, config);
}

// --- quantisation ------------------------------------------------------------------------------

static int block_size_check(const struct source *src)
{
    const json_t *list = json_object_get(src->object, "weight_block_size");
    if (json_array_size(list) == 2 && json_integer_value(json_array_get(list, 0)) == 128 &&
        json_integer_value(json_array_get(list, 1)) == 128)
        return 0;
    return fault_set(src->fault, ENOTSUP,
                     "%s: weight_block_size other than [128, 128] is not served", src->label);
}

static int quantization_read(const struct source *outer, struct model_config *config)
{
    struct source src = *outer;
    const char *method, *scale_fmt;
    const json_t *object;
    char label[FAULT_TEXT_MAX];

    int err = object_read(outer, "quantization_config", &object);
    if (err < 0 || !object)
        return err;
    snprintf(label, sizeof(label), "%s: quantization_config", outer->label);
    src.label = label;
    src.object = object;
    err = word_read(&src, "quant_method", &method);
    if (err < 0)
        return err;
    if (!method)
        return fail_missing(&src, "quant_method");
    if (strcmp(method, "compressed-tensors") == 0)
        return fault_set(src.fault, ENOTSUP,
                         "%s: packed int4 weights (compressed-tensors) are not served", label);
    err = word_require(&src, "quant_method", "fp8", "");
    if (err == 0)
        err = word_require(&src, "fmt", "e4m3", "");
    if (err == 0)
        err = word_require(&src, "activation_scheme", "dynamic", "");
    if (err == 0)
        err = block_size_check(&src);
    if (err == 0)
        err = word_read(&src, "scale_fmt", &scale_fmt);
    if (err < 0)
        return err;
    config->fp8 = true;
    config->scale_ue8m0 = scale_fmt && strcmp(scale_fmt, "ue8m0") == 0;
    if (scale_fmt && !config->scale_ue8m0 && strcmp(scale_fmt, "float") != 0)
        return word_require(&src, "scale_fmt", "ue8m0", "");
    return 0;
}

// --- positions ---------------------------------------------------------------------------------

static int yarn_read(const struct source *src, struct rope_config *rope)
{
    bool truncate = true;
    const json_t *factor = json_object_get(src->object, "attention_factor");

    // Defaults of DeepSeek's own rotary embedding; every released file spells them out.
    rope->type = ROPE_SCALING_YARN;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    rope->mscale = 1;
    rope->mscale_all_dim = 0;
    if (factor && !json_is_null(factor))
        return fault_set(src->fault, ENOTSUP, "%s: attention_factor is not served", src->label);
    int err = bool_read(src, "truncate", OPTIONAL, &truncate);
    if (err == 0 && !truncate)
        err = fault_set(src->fault, ENOTSUP, "%s: truncate false is not served", src->label);
    if (err == 0)
        err = real_read(src, "beta_fast", OPTIONAL, 1e-3, 1e6, &rope->beta_fast);
    if (err == 0)
        err = real_read(src, "beta_slow", OPTIONAL, 1e-3, 1e6, &rope->beta_slow);
    if (err == 0)
        err = real_read(src, "mscale", OPTIONAL, 0, 100, &rope->mscale);
    if (err == 0)
        err = real_read(src, "mscale_all_dim", OPTIONAL, 0, 100, &rope->mscale_all_dim);
    if (err == 0 && rope->beta_fast < rope->beta_slow)
        err = fault_set(src->fault, EINVAL, "%s: beta_fast is below beta_slow", src->label);
    return err;
}

static int llama3_read(const struct source *src, struct rope_config *rope)
{
    rope->type = ROPE_SCALING_LLAMA3;
    int err = real_read(src, "low_freq_factor", REQUIRED, 1e-3, 1e6, &rope->low_freq_factor);
    if (err == 0)
        err = real_read(src, "high_freq_factor", REQUIRED, 1e-3, 1e6, &rope->high_freq_factor);
    if (err == 0 && rope->high_freq_factor <= rope->low_freq_factor)
        err = fault_set(src->fault, EINVAL, "%s: high_freq_factor must be above low_freq_factor",
                        src->label);
    return err;
}

static int scaling_read(const struct source *src, struct model_config *config)
{
    static const struct u32_field original = {
        .key = "original_max_position_embeddings", .min = 1, .max = POSITION_MAX};
    struct rope_config *rope = &config->rope;
    const char *type;

    int err = word_read(src, "rope_type", &type);
    if (err == 0 && !type)
        err = word_read(src, "type", &type);
    if (err < 0)
        return err;
    if (!type)
        return fail_missing(src, "rope_type");
    if (strcmp(type, "default") == 0)
        return 0;

    bool dense = config->arch != MODEL_ARCH_DEEPSEEK_V3;
    if (strcmp(type, "yarn") == 0)
        err = yarn_read(src, rope);
    else if (strcmp(type, "llama3") == 0 && dense)
        err = llama3_read(src, rope);
    else
        return fault_set(src->fault, ENOTSUP, "%s: RoPE scaling \"%.60s\" is not served%s",
                         src->label, type, dense ? "" : " for this architecture");
    if (err == 0)
        err = real_read(src, "factor", REQUIRED, 1, 1e6, &rope->factor);
    if (err == 0)
        err = u32_read(src, &original, &rope->original_max_position_embeddings);
    return err;
}

// rope_read accepts rope_theta + rope_scaling and the newer rope_parameters, which holds both.
static int rope_read(const struct source *src, struct model_config *config)
{
    struct rope_config *rope = &config->rope;
    const json_t *parameters, *scaling;
    char label[FAULT_TEXT_MAX];

    *rope = (struct rope_config){.factor = 1, .theta = -1};
    rope->interleave = config->arch == MODEL_ARCH_DEEPSEEK_V3;
    int err = object_read(src, "rope_parameters", &parameters);
    if (err == 0)
        err = object_read(src, "rope_scaling", &scaling);
    if (err < 0)
        return err;

    struct source inner = *src;
    inner.label = label;
    inner.object = parameters ? parameters : scaling;
    snprintf(label, sizeof(label), "%s: %s", src->label,
             parameters ? "rope_parameters" : "rope_scaling");
    if (inner.object) {
        err = real_read(&inner, "rope_theta", OPTIONAL, 1.0001, 1e15, &rope->theta);
        if (err == 0)
            err = scaling_read(&inner, config);
    }
    if (err == 0)
        err = real_read(src, "rope_theta", rope->theta > 0 ? OPTIONAL : REQUIRED, 1.0001, 1e15,
                        &rope->theta);
    if (err == 0 && config->arch == MODEL_ARCH_DEEPSEEK_V3)
        err = bool_read(src, "rope_interleave", OPTIONAL, &rope->interleave);
    return err;
}

// --- shapes ------------------------------------------------------------------------------------

#define AT(member) .offset = offsetof(struct model_config, member)

static const struct u32_field common_fields[] = {
    {"vocab_size", AT(vocab_size), .min = 1, .max = DIM_MAX},
    {"hidden_size", AT(hidden_size), .min = 1, .max = DIM_MAX},
    {"intermediate_size", AT(intermediate_size), .min = 1, .max = DIM_MAX},
    {"num_hidden_layers", AT(num_hidden_layers), .min = 1, .max = LAYERS_MAX},
    {"num_attention_heads", AT(num_attention_heads), .min = 1, .max = HEADS_MAX},
    {"max_position_embeddings", AT(max_position_embeddings), .min = 1, .max = POSITION_MAX},
};

static const struct u32_field mla_fields[] = {
    {"q_lora_rank", AT(q_lora_rank), .min = 1, .max = DIM_MAX, .presence = NULLABLE},
    {"kv_lora_rank", AT(kv_lora_rank), .min = 1, .max = DIM_MAX},
    {"qk_nope_head_dim", AT(qk_nope_head_dim), .min = 1, .max = HEAD_DIM_MAX},
    {"qk_rope_head_dim", AT(qk_rope_head_dim), .min = 2, .max = HEAD_DIM_MAX},
    {"v_head_dim", AT(v_head_dim), .min = 1, .max = HEAD_DIM_MAX},
    {"n_routed_experts", AT(n_routed_experts), .min = 0, .max = EXPERTS_MAX, .presence = NULLABLE},
    {"num_nextn_predict_layers", AT(num_nextn_predict_layers), .min = 0, .max = LAYERS_MAX,
     .presence = OPTIONAL},
};

// Read only where n_routed_experts is not null.  Values for absence are those of transformers.
static const struct u32_field moe_fields[] = {
    {"moe_intermediate_size", AT(moe_intermediate_size), .min = 1, .max = DIM_MAX},
    {"n_shared_experts", AT(n_shared_experts), .min = 0, .max = 64, .presence = OPTIONAL,
     .absent = 1},
    {"num_experts_per_tok", AT(num_experts_per_tok), .min = 1, .max = EXPERTS_MAX},
    {"first_k_dense_replace", AT(first_k_dense_replace), .min = 0, .max = LAYERS_MAX},
    {"moe_layer_freq", AT(moe_layer_freq), .min = 1, .max = LAYERS_MAX, .presence = OPTIONAL,
     .absent = 1, .null = 1},
    {"n_group", AT(n_group), .min = 1, .max = EXPERTS_MAX, .presence = OPTIONAL, .absent = 8,
     .null = 1},
    {"topk_group", AT(topk_group), .min = 1, .max = EXPERTS_MAX, .presence = OPTIONAL, .absent = 4,
     .null = 1},
};

static const struct u32_field dense_fields[] = {
    {"num_key_value_heads", AT(num_key_value_heads), .min = 1, .max = HEADS_MAX,
     .presence = OPTIONAL},
    {"head_dim", AT(head_dim), .min = 2, .max = HEAD_DIM_MAX, .presence = OPTIONAL},
};

#define FIELDS_READ(src, fields, config)                                                           \
    u32_fields_read(src, fields, sizeof(fields) / sizeof((fields)[0]), config)

static int router_check(const struct source *src, const struct model_config *config)
{
    uint32_t group = config->n_group ? config->n_routed_experts / config->n_group : 0;

    if (group == 0 || config->n_routed_experts % config->n_group)
        return fault_set(src->fault, EINVAL, "%s: n_group %u does not divide n_routed_experts %u",
                         src->label, config->n_group, config->n_routed_experts);
    if (config->n_group > 1 && group < 2)
        return fault_set(src->fault, EINVAL,
                         "%s: n_group %u leaves groups of one expert; their score needs two",
                         src->label, config->n_group);
    if (config->topk_group > config->n_group)
        return fault_set(src->fault, EINVAL, "%s: topk_group %u is above n_group %u", src->label,
                         config->topk_group, config->n_group);
    if (config->num_experts_per_tok > group * config->topk_group)
        return fault_set(src->fault, EINVAL,
                         "%s: num_experts_per_tok %u is more than topk_group groups hold (%u)",
                         src->label, config->num_experts_per_tok, group * config->topk_group);
    if ((uint64_t)config->n_shared_experts * config->moe_intermediate_size > DIM_MAX)
        return fault_set(src->fault, EINVAL,
                         "%s: n_shared_experts times moe_intermediate_size is "
                         "above %d",
                         src->label, DIM_MAX);
    return 0;
}

static int moe_read(const struct source *src, struct model_config *config)
{
    double scale = 1;
    int err = FIELDS_READ(src, moe_fields, config);
    if (err == 0)
        err = bool_read(src, "norm_topk_prob", REQUIRED, &config->norm_topk_prob);
    if (err == 0)
        err = real_read(src, "routed_scaling_factor", REQUIRED, 1e-6, 1e6, &scale);
    if (err < 0)
        return err;
    config->routed_scaling_factor = (float)scale;
    return router_check(src, config);
}

static int mla_read(const struct source *src, struct model_config *config)
{
    int err = FIELDS_READ(src, mla_fields, config);
    if (err == 0)
        err = bool_read(src, "attention_bias", OPTIONAL, &config->attention_bias);
    if (err < 0)
        return err;
    if (config->qk_rope_head_dim % 2)
        return fault_set(src->fault, EINVAL, "%s: qk_rope_head_dim %u is odd", src->label,
                         config->qk_rope_head_dim);
    if (config->num_nextn_predict_layers > 1)
        return fault_set(src->fault, ENOTSUP,
                         "%s: num_nextn_predict_layers %u: more than one MTP layer is not served",
                         src->label, config->num_nextn_predict_layers);
    return config->n_routed_experts ? moe_read(src, config) : 0;
}

static int dense_read(const struct source *src, struct model_config *config)
{
    int err = FIELDS_READ(src, dense_fields, config);
    if (err < 0)
        return err;
    if (!config->num_key_value_heads)
        config->num_key_value_heads = config->num_attention_heads;
    if (config->num_attention_heads % config->num_key_value_heads)
        return fault_set(src->fault, EINVAL,
                         "%s: num_key_value_heads %u does not divide num_attention_heads %u",
                         src->label, config->num_key_value_heads, config->num_attention_heads);
    if (!config->head_dim) {
        if (config->hidden_size % config->num_attention_heads)
            return fault_set(src->fault, EINVAL,
                             "%s: num_attention_heads %u does not divide hidden_size %u",
                             src->label, config->num_attention_heads, config->hidden_size);
        config->head_dim = config->hidden_size / config->num_attention_heads;
    }
    if (config->head_dim % 2 || config->head_dim > HEAD_DIM_MAX)
        return fault_set(src->fault, EINVAL, "%s: head_dim %u must be even and at most %d",
                         src->label, config->head_dim, HEAD_DIM_MAX);
    return 0;
}

static int shapes_read(const struct source *src, struct model_config *config)
{
    double eps = 0;
    int err = FIELDS_READ(src, common_fields, config);
    if (err == 0)
        err = real_read(src, "rms_norm_eps", REQUIRED, 1e-20, 1, &eps);
    if (err == 0)
        err = bool_read(src, "tie_word_embeddings", OPTIONAL, &config->tie_word_embeddings);
    if (err < 0)
        return err;
    config->rms_norm_eps = (float)eps;
    return config->arch == MODEL_ARCH_DEEPSEEK_V3 ? mla_read(src, config) : dense_read(src, config);
}

// --- ids and sampling --------------------------------------------------------------------------

static int eos_add(const struct source *src, const json_t *value, struct model_config *config)
{
    long long id;
    if (!value_int(value, 0, (long long)config->vocab_size - 1, &id))
        return fault_set(src->fault, EINVAL,
                         "%s: eos_token_id must be an id below vocab_size %u, or a list of them",
                         src->label, config->vocab_size);
    if (model_config_is_eos(config, (uint32_t)id))
        return 0;
    if (config->eos_n == MODEL_EOS_MAX)
        return fault_set(src->fault, EINVAL, "%s: more than %u ids in eos_token_id", src->label,
                         MODEL_EOS_MAX);
    config->eos_token_ids[config->eos_n++] = (uint32_t)id;
    return 0;
}

static int eos_read(const struct source *src, struct model_config *config)
{
    const json_t *value = json_object_get(src->object, "eos_token_id");
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_array(value))
        return eos_add(src, value, config);

    int err = 0;
    for (size_t i = 0; err == 0 && i < json_array_size(value); i++)
        err = eos_add(src, json_array_get(value, i), config);
    return err;
}

static int generation_read(const struct source *src, struct model_config *config)
{
    static const struct u32_field top_k_field = {
        .key = "top_k", .min = 0, .max = INT32_MAX, .presence = OPTIONAL};
    double temperature = (double)NAN, top_p = (double)NAN;
    bool sample = true;
    long long off;

    int err = eos_read(src, config);
    if (err == 0)
        err = real_read(src, "temperature", OPTIONAL, 0, 100, &temperature);
    if (err == 0)
        err = real_read(src, "top_p", OPTIONAL, 0, 1, &top_p);
    if (err == 0 && !value_int(json_object_get(src->object, "top_k"), -1, -1, &off)) // -1: off
        err = u32_read(src, &top_k_field, &config->top_k);
    if (err == 0)
        err = bool_read(src, "do_sample", OPTIONAL, &sample);
    if (err < 0)
        return err;
    config->temperature = sample ? (float)temperature : 0;
    config->top_p = (float)top_p;
    return 0;
}

static int config_object_read(const struct source *outer, struct model_config *config)
{
    static const struct u32_field bos_base = {
        .key = "bos_token_id", .presence = OPTIONAL, .absent = UINT32_MAX, .null = UINT32_MAX};
    struct source src = *outer;
    const json_t *text_config;

    int err = object_read(outer, "text_config", &text_config);
    if (err < 0)
        return err;
    if (text_config) // multimodal wrappers keep the language model's fields inside
        src.object = text_config;
    err = arch_read(&src, config);
    if (err == 0)
        err = quantization_read(outer, config);
    if (err == 0 && text_config)
        err = quantization_read(&src, config);
    if (err == 0)
        err = features_check(&src, config);
    if (err == 0)
        err = shapes_read(&src, config);
    if (err == 0)
        err = rope_read(&src, config);
    if (err < 0)
        return err;

    struct u32_field bos = bos_base;
    bos.max = config->vocab_size - 1;
    err = u32_read(&src, &bos, &config->bos_token_id);
    return err < 0 ? err : eos_read(&src, config);
}

static int config_build(const struct source *config_src, const struct source *generation_src,
                        struct model_config *ret)
{
    struct model_config config = {.temperature = NAN, .top_p = NAN};
    int err = 0;

    if (!json_is_object(config_src->object))
        return fault_set(config_src->fault, EINVAL, "%s: not a JSON object", config_src->label);
    err = config_object_read(config_src, &config);
    if (err == 0 && generation_src->object && !json_is_object(generation_src->object))
        err = fault_set(generation_src->fault, EINVAL, "%s: not a JSON object",
                        generation_src->label);
    if (err == 0 && generation_src->object)
        err = generation_read(generation_src, &config);
    if (err == 0)
        *ret = config;
    return err;
}

int model_config_parse(const char *config, size_t config_len, const char *generation,
                       size_t generation_len, struct model_config *ret, struct fault *fault)
{
    json_t *config_json = NULL, *generation_json = NULL;
    const char *label = "config.json";

    int err = json_text_parse(config, config_len, &config_limits, &config_json, fault);
    if (err == 0 && generation) {
        label = "generation_config.json";
        err = json_text_parse(generation, generation_len, &config_limits, &generation_json, fault);
    }
    if (err < 0)
        fault_prefix(fault, "%s", label);
    else
        err = config_build(&(struct source){config_json, "config.json", fault},
                           &(struct source){generation_json, "generation_config.json", fault}, ret);
    json_decref(config_json);
    json_decref(generation_json);
    return err;
}

int model_config_read(const char *dir, struct model_config *ret, struct fault *fault)
{
    char config_path[PATH_BYTES_MAX], generation_path[PATH_BYTES_MAX];
    json_t *config_json = NULL, *generation_json = NULL;

    int len = snprintf(config_path, sizeof(config_path), "%s/config.json", dir);
    int generation_len =
        snprintf(generation_path, sizeof(generation_path), "%s/generation_config.json", dir);
    if (len >= PATH_BYTES_MAX || generation_len >= PATH_BYTES_MAX)
        return fault_set(fault, ENAMETOOLONG, "%s: the path is too long", file_label(dir));

    int err = json_file_read(config_path, &config_limits, &config_json, fault);
    if (err == 0 && access(generation_path, F_OK) == 0)
        err = json_file_read(generation_path, &config_limits, &generation_json, fault);
    if (err == 0)
        err = config_build(&(struct source){config_json, file_label(config_path), fault},
                           &(struct source){generation_json, file_label(generation_path), fault},
                           ret);
    json_decref(config_json);
    json_decref(generation_json);
    return err;
}

// --- questions ---------------------------------------------------------------------------------

bool model_config_layer_is_moe(const struct model_config *config, uint32_t layer)
{
    return config->n_routed_experts > 0 && layer >= config->first_k_dense_replace &&
           layer % config->moe_layer_freq == 0;
}

bool model_config_is_eos(const struct model_config *config, uint32_t id)
{
    for (uint32_t i = 0; i < config->eos_n; i++)
        if (config->eos_token_ids[i] == id)
            return true;
    return false;
}
