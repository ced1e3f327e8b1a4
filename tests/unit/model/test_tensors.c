// SPDX-License-Identifier: MIT
// tensors: the table of model.md 2.3, 5.1 and 10.2 for DeepSeek-V3 and its relatives; the list and
// the look-up agree on every tensor.
#include "model/tensors.h"
#include "tests/unit/model/fixture.h"

#include <errno.h>

static struct model_config config_of(const char *name)
{
    struct model_config config;
    char path[4096];
    size_t len;
    snprintf(path, sizeof(path), "%s/%s.json", CONFIGS_DIR, name);
    char *text = fixture_text(path, &len);
    CHECK(model_config_parse(text, len, NULL, 0, &config, NULL) == 0);
    free(text);
    return config;
}

struct expected {
    const char *name;
    enum tensor_role role;
    enum tensor_kind kind;
    enum tensor_group group;
    uint32_t layer, expert, rows, cols;
};

#define M TENSOR_MATRIX
#define W TENSOR_MATRIX_WIDE
#define V TENSOR_VECTOR

// clang-format off
static const struct expected v3[] = {
    {"model.embed_tokens.weight", ROLE_EMBED, W, TENSOR_GROUP_EMBEDDING, 0, 0, 129280, 7168},
    {"model.norm.weight", ROLE_NORM, V, TENSOR_GROUP_NORMS, 0, 0, 1, 7168},
    {"lm_head.weight", ROLE_HEAD, W, TENSOR_GROUP_HEAD, 0, 0, 129280, 7168},
    {"model.layers.0.input_layernorm.weight", ROLE_INPUT_NORM, V, TENSOR_GROUP_NORMS, 0, 0, 1, 7168},
    {"model.layers.60.post_attention_layernorm.weight", ROLE_POST_ATTENTION_NORM, V, TENSOR_GROUP_NORMS, 60, 0, 1, 7168},
    {"model.layers.5.self_attn.q_a_proj.weight", ROLE_Q_A_PROJ, M, TENSOR_GROUP_ATTENTION, 5, 0, 1536, 7168},
    {"model.layers.5.self_attn.q_a_layernorm.weight", ROLE_Q_A_NORM, V, TENSOR_GROUP_NORMS, 5, 0, 1, 1536},
    {"model.layers.5.self_attn.q_b_proj.weight", ROLE_Q_B_PROJ, M, TENSOR_GROUP_ATTENTION, 5, 0, 24576, 1536},
    {"model.layers.5.self_attn.kv_a_proj_with_mqa.weight", ROLE_KV_A_PROJ, M, TENSOR_GROUP_ATTENTION, 5, 0, 576, 7168},
    {"model.layers.5.self_attn.kv_a_layernorm.weight", ROLE_KV_A_NORM, V, TENSOR_GROUP_NORMS, 5, 0, 1, 512},
    {"model.layers.5.self_attn.kv_b_proj.weight", ROLE_KV_B_PROJ, M, TENSOR_GROUP_ATTENTION, 5, 0, 32768, 512},
    {"model.layers.5.self_attn.o_proj.weight", ROLE_O_PROJ, M, TENSOR_GROUP_ATTENTION, 5, 0, 7168, 16384},
    {"model.layers.2.mlp.gate_proj.weight", ROLE_MLP_GATE, M, TENSOR_GROUP_DENSE_MLP, 2, 0, 18432, 7168},
    {"model.layers.2.mlp.up_proj.weight", ROLE_MLP_UP, M, TENSOR_GROUP_DENSE_MLP, 2, 0, 18432, 7168},
    {"model.layers.2.mlp.down_proj.weight", ROLE_MLP_DOWN, M, TENSOR_GROUP_DENSE_MLP, 2, 0, 7168, 18432},
    {"model.layers.3.mlp.gate.weight", ROLE_ROUTER, W, TENSOR_GROUP_ROUTER, 3, 0, 256, 7168},
    {"model.layers.3.mlp.gate.e_score_correction_bias", ROLE_ROUTER_BIAS, V, TENSOR_GROUP_ROUTER, 3, 0, 1, 256},
    {"model.layers.3.mlp.shared_experts.gate_proj.weight", ROLE_SHARED_GATE, M, TENSOR_GROUP_SHARED_EXPERTS, 3, 0, 2048, 7168},
    {"model.layers.3.mlp.shared_experts.down_proj.weight", ROLE_SHARED_DOWN, M, TENSOR_GROUP_SHARED_EXPERTS, 3, 0, 7168, 2048},
    {"model.layers.60.mlp.experts.255.gate_proj.weight", ROLE_EXPERT_GATE, M, TENSOR_GROUP_ROUTED_EXPERTS, 60, 255, 2048, 7168},
    {"model.layers.60.mlp.experts.0.up_proj.weight", ROLE_EXPERT_UP, M, TENSOR_GROUP_ROUTED_EXPERTS, 60, 0, 2048, 7168},
    {"model.layers.61.mlp.experts.17.down_proj.weight", ROLE_EXPERT_DOWN, M, TENSOR_GROUP_ROUTED_EXPERTS, 61, 17, 7168, 2048},
    {"model.layers.61.enorm.weight", ROLE_MTP_ENORM, V, TENSOR_GROUP_MTP, 61, 0, 1, 7168},
    {"model.layers.61.hnorm.weight", ROLE_MTP_HNORM, V, TENSOR_GROUP_MTP, 61, 0, 1, 7168},
    {"model.layers.61.eh_proj.weight", ROLE_MTP_EH_PROJ, W, TENSOR_GROUP_MTP, 61, 0, 7168, 14336},
    {"model.layers.61.shared_head.norm.weight", ROLE_MTP_HEAD_NORM, V, TENSOR_GROUP_MTP, 61, 0, 1, 7168},
};

static const struct expected qwen[] = {
    {"model.layers.27.self_attn.q_proj.weight", ROLE_Q_PROJ, M, TENSOR_GROUP_ATTENTION, 27, 0, 1536, 1536},
    {"model.layers.27.self_attn.q_proj.bias", ROLE_Q_BIAS, V, TENSOR_GROUP_ATTENTION, 27, 0, 1, 1536},
    {"model.layers.27.self_attn.k_proj.weight", ROLE_K_PROJ, M, TENSOR_GROUP_ATTENTION, 27, 0, 256, 1536},
    {"model.layers.27.self_attn.v_proj.bias", ROLE_V_BIAS, V, TENSOR_GROUP_ATTENTION, 27, 0, 1, 256},
    {"model.layers.27.self_attn.o_proj.weight", ROLE_O_PROJ, M, TENSOR_GROUP_ATTENTION, 27, 0, 1536, 1536},
    {"model.layers.27.mlp.down_proj.weight", ROLE_MLP_DOWN, M, TENSOR_GROUP_DENSE_MLP, 27, 0, 1536, 8960},
};
// clang-format on

static void check_rows(const struct model_config *config, const struct expected *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct tensor_spec spec;
        CHECK(tensor_spec_get(config, rows[i].role, rows[i].layer, rows[i].expert, &spec) == 0);
        if (strcmp(spec.name, rows[i].name) != 0)
            fprintf(stderr, "%s, not %s\n", spec.name, rows[i].name);
        CHECK(strcmp(spec.name, rows[i].name) == 0);
        CHECK(spec.role == rows[i].role && spec.kind == rows[i].kind);
        CHECK(spec.group == rows[i].group && spec.layer == rows[i].layer);
        CHECK(spec.expert == rows[i].expert);
        CHECK(spec.rows == rows[i].rows && spec.cols == rows[i].cols);
    }
}

struct count {
    const struct model_config *config;
    uint32_t n, matrices, stop_at;
    uint64_t last; // layer, expert: rising
};

static int count_one(const struct tensor_spec *spec, void *user)
{
    struct count *count = user;
    struct tensor_spec again;
    uint64_t at = (uint64_t)spec->layer << 32 | spec->expert;

    CHECK(tensor_spec_get(count->config, spec->role, spec->layer, spec->expert, &again) == 0);
    CHECK(memcmp(&again, spec, sizeof(again)) == 0);
    CHECK(at >= count->last);
    CHECK(spec->rows > 0 && spec->cols > 0);
    CHECK(spec->kind != TENSOR_VECTOR || spec->rows == 1);
    count->last = at;
    count->n++;
    count->matrices += spec->kind == TENSOR_MATRIX;
    return count->n == count->stop_at ? 42 : 0;
}

static uint32_t count_all(const struct model_config *config)
{
    struct count count = {.config = config};
    CHECK(tensor_spec_each(config, count_one, &count) == 0);
    return count.n;
}

int main(void)
{
    struct model_config config = config_of("deepseek-v3");
    struct tensor_spec spec;
    struct count count = {.config = &config};

    check_rows(&config, v3, ARRAY_LEN(v3));
    CHECK(tensor_spec_each(&config, count_one, &count) == 0);
    CHECK(count.n + count.matrices + 2 == 91991); // scales, and two copies in the MTP layer
    count = (struct count){.config = &config, .stop_at = 5};
    CHECK(tensor_spec_each(&config, count_one, &count) == 42 && count.n == 5);

    CHECK(tensor_spec_get(&config, ROLE_MLP_GATE, 3, 0, &spec) == -ENOENT);
    CHECK(tensor_spec_get(&config, ROLE_EXPERT_UP, 2, 0, &spec) == -ENOENT);
    CHECK(tensor_spec_get(&config, ROLE_EXPERT_UP, 3, 256, &spec) == -ENOENT);
    CHECK(tensor_spec_get(&config, ROLE_ROUTER, 62, 0, &spec) == -ENOENT);
    CHECK(tensor_spec_get(&config, ROLE_MTP_ENORM, 60, 0, &spec) == -ENOENT);
    CHECK(tensor_spec_get(&config, ROLE_Q_PROJ, 0, 0, &spec) == -ENOENT);
    CHECK(tensor_spec_get(&config, ROLE_Q_A_BIAS, 0, 0, &spec) == -ENOENT);
    CHECK(tensor_spec_get(&config, ROLE_HEAD, 99, 99, &spec) == 0); // layer is ignored

    char name[TENSOR_NAME_MAX];
    CHECK(tensor_spec_get(&config, ROLE_KV_A_PROJ, 0, 0, &spec) == 0);
    tensor_spec_scale_name(&spec, name);
    CHECK(strcmp(name, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv") == 0);
    CHECK(tensor_scale_blocks(spec.rows) == 5 && tensor_scale_blocks(spec.cols) == 56);

    config.attention_bias = true;
    CHECK(tensor_spec_get(&config, ROLE_Q_A_BIAS, 0, 0, &spec) == 0 && spec.cols == 1536);
    CHECK(tensor_spec_get(&config, ROLE_KV_A_BIAS, 0, 0, &spec) == 0 && spec.cols == 576);
    CHECK(tensor_spec_get(&config, ROLE_O_BIAS, 0, 0, &spec) == 0 && spec.cols == 7168);
    CHECK(strcmp(spec.name, "model.layers.0.self_attn.o_proj.bias") == 0);

    config = config_of("moonlight-16b"); // q_lora_rank null, two shared experts
    CHECK(tensor_spec_get(&config, ROLE_Q_PROJ, 4, 0, &spec) == 0);
    CHECK(strcmp(spec.name, "model.layers.4.self_attn.q_proj.weight") == 0);
    CHECK(spec.rows == 16 * 192 && spec.cols == 2048);
    CHECK(tensor_spec_get(&config, ROLE_Q_A_NORM, 4, 0, &spec) == -ENOENT);
    CHECK(tensor_spec_get(&config, ROLE_SHARED_UP, 4, 0, &spec) == 0 && spec.rows == 2816);
    CHECK(count_all(&config) == 3 + 27 * 7 + 3 + 26 * (5 + 64 * 3));
    config.n_shared_experts = 0;
    CHECK(tensor_spec_get(&config, ROLE_SHARED_UP, 4, 0, &spec) == -ENOENT);

    config = config_of("r1-distill-qwen-1.5b");
    check_rows(&config, qwen, ARRAY_LEN(qwen));
    CHECK(count_all(&config) == 3 + 28 * 12);
    config.tie_word_embeddings = true;
    CHECK(count_all(&config) == 2 + 28 * 12);
    CHECK(tensor_spec_get(&config, ROLE_HEAD, 0, 0, &spec) == 0 && spec.role == ROLE_HEAD);
    CHECK(strcmp(spec.name, "model.embed_tokens.weight") == 0);

    config = config_of("r1-distill-llama-8b");
    CHECK(tensor_spec_get(&config, ROLE_Q_BIAS, 0, 0, &spec) == -ENOENT);
    CHECK(tensor_spec_get(&config, ROLE_K_PROJ, 0, 0, &spec) == 0 && spec.rows == 1024);
    CHECK(count_all(&config) == 3 + 32 * 9);
    return 0;
}
