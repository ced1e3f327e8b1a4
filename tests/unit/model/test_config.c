// SPDX-License-Identifier: MIT
// config: the released models' fields arrive; whatever is missing, absurd or not served has a
// sentence that names it.
#include "model/config.h"
#include "tests/unit/model/fixture.h"

#include <errno.h>
#include <math.h>

static json_t *base_json(const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s.json", CONFIGS_DIR, name);
    json_t *json = json_load_file(path, 0, NULL);
    CHECK(json);
    return json;
}

// parse_changed parses the named config after `changes` (a JSON object, or NULL) went over it.
static int parse_changed(const char *name, const char *changes, const char *generation,
                         struct model_config *ret, struct fault *fault)
{
    json_t *json = base_json(name);
    if (changes) {
        json_t *patch = json_loads(changes, 0, NULL);
        CHECK(patch);
        CHECK(json_object_update(json, patch) == 0);
        json_decref(patch);
    }
    char *text = json_dumps(json, 0);
    CHECK(text);
    *fault = (struct fault){0};
    int err = model_config_parse(text, strlen(text), generation,
                                 generation ? strlen(generation) : 0, ret, fault);
    CHECK((err < 0) == (fault->err != 0));
    CHECK((err < 0) == (fault->text[0] != '\0'));
    free(text);
    json_decref(json);
    return err;
}

static struct model_config served(const char *name, const char *changes, const char *generation)
{
    struct model_config config;
    struct fault fault;
    int err = parse_changed(name, changes, generation, &config, &fault);
    if (err < 0)
        fprintf(stderr, "%s %s: %s\n", name, changes ? changes : "", fault.text);
    CHECK(err == 0);
    return config;
}

// refused: the error, and two pieces of the sentence.
static void refused(const char *name, const char *changes, int err, const char *piece,
                    const char *other)
{
    struct model_config config, before;
    struct fault fault;
    memset(&config, 0x5a, sizeof(config));
    memset(&before, 0x5a, sizeof(before));
    int got = parse_changed(name, changes, NULL, &config, &fault);
    if (got != -err || !strstr(fault.text, piece) || !strstr(fault.text, other))
        fprintf(stderr, "%s %s: %d, expected %d and \"%s\", \"%s\": %s\n", name,
                changes ? changes : "", got, -err, piece, other, fault.text);
    CHECK(got == -err);
    CHECK(strstr(fault.text, piece));
    CHECK(strstr(fault.text, other));
    CHECK(memcmp(&config, &before, sizeof(config)) == 0);
}

static void test_v3(void)
{
    struct model_config c = served("deepseek-v3", NULL, NULL);
    CHECK(c.arch == MODEL_ARCH_DEEPSEEK_V3);
    CHECK(strcmp(c.architecture, "DeepseekV3ForCausalLM") == 0);
    CHECK(strcmp(c.model_type, "deepseek_v3") == 0);
    CHECK(c.vocab_size == 129280 && c.hidden_size == 7168 && c.intermediate_size == 18432);
    CHECK(c.num_hidden_layers == 61 && c.num_nextn_predict_layers == 1);
    CHECK(c.num_attention_heads == 128 && c.max_position_embeddings == 163840);
    CHECK(c.q_lora_rank == 1536 && c.kv_lora_rank == 512 && c.qk_nope_head_dim == 128);
    CHECK(c.qk_rope_head_dim == 64 && c.v_head_dim == 128);
    CHECK(c.moe_intermediate_size == 2048 && c.n_routed_experts == 256 && c.n_shared_experts == 1);
    CHECK(c.num_experts_per_tok == 8 && c.first_k_dense_replace == 3 && c.moe_layer_freq == 1);
    CHECK(c.n_group == 8 && c.topk_group == 4 && c.norm_topk_prob);
    CHECK(c.routed_scaling_factor == 2.5f && c.rms_norm_eps == 1e-6f);
    CHECK(!c.tie_word_embeddings && !c.attention_bias);
    CHECK(c.rope.type == ROPE_SCALING_YARN && c.rope.theta == 10000 && c.rope.factor == 40);
    CHECK(c.rope.beta_fast == 32 && c.rope.beta_slow == 1 && c.rope.interleave);
    CHECK(c.rope.mscale == 1 && c.rope.mscale_all_dim == 1);
    CHECK(c.rope.original_max_position_embeddings == 4096);
    CHECK(c.fp8 && !c.scale_ue8m0);
    CHECK(c.bos_token_id == 0 && c.eos_n == 1 && c.eos_token_ids[0] == 1);
    CHECK(isnan(c.temperature) && isnan(c.top_p) && c.top_k == 0);
    CHECK(!model_config_layer_is_moe(&c, 2) && model_config_layer_is_moe(&c, 3));
    CHECK(model_config_layer_is_moe(&c, 61) && model_config_layers(&c) == 62);
}

static void test_family(void)
{
    struct model_config c = served("deepseek-v3.1", NULL, NULL);
    CHECK(c.fp8 && c.scale_ue8m0);

    c = served("kimi-k2-instruct", NULL, NULL);
    CHECK(c.arch == MODEL_ARCH_DEEPSEEK_V3 && strcmp(c.model_type, "kimi_k2") == 0);
    CHECK(c.n_routed_experts == 384 && c.n_group == 1 && c.topk_group == 1);
    CHECK(c.rope.beta_fast == 1 && c.rope.beta_slow == 1 && c.rope.theta == 50000);
    CHECK(c.num_nextn_predict_layers == 0 && c.eos_token_ids[0] == 163585);

    c = served("moonlight-16b", NULL, NULL);
    CHECK(c.q_lora_rank == 0 && !c.fp8 && c.rope.type == ROPE_SCALING_NONE);
    CHECK(c.rope.factor == 1);

    c = served("r1-distill-qwen-1.5b", NULL, NULL);
    CHECK(c.arch == MODEL_ARCH_QWEN2 && c.head_dim == 128 && c.num_key_value_heads == 2);
    CHECK(!c.rope.interleave && c.kv_lora_rank == 0 && c.n_routed_experts == 0);

    c = served("r1-distill-llama-8b", NULL, NULL);
    CHECK(c.arch == MODEL_ARCH_LLAMA && c.head_dim == 128 && c.num_key_value_heads == 8);
    CHECK(c.rope.type == ROPE_SCALING_LLAMA3 && c.rope.factor == 8);
    CHECK(c.rope.low_freq_factor == 1 && c.rope.high_freq_factor == 4);
    CHECK(c.rope.original_max_position_embeddings == 8192);
    CHECK(!model_config_layer_is_moe(&c, 0));
}

static void test_spellings(void)
{
    struct model_config c =
        served("deepseek-v3", "{\"vocab_size\": 129280.0, \"rope_theta\": 5e4}", NULL);
    CHECK(c.vocab_size == 129280 && c.rope.theta == 50000);

    c = served("deepseek-v3",
               "{\"rope_theta\": null, \"rope_scaling\": null, \"rope_parameters\": {"
               "\"rope_theta\": 20000, \"rope_type\": \"yarn\", \"factor\": 8,"
               "\"original_max_position_embeddings\": 2048}}",
               NULL);
    CHECK(c.rope.type == ROPE_SCALING_YARN && c.rope.theta == 20000 && c.rope.factor == 8);
    CHECK(c.rope.beta_fast == 32 && c.rope.mscale == 1 && c.rope.mscale_all_dim == 0);

    c = served("r1-distill-llama-8b", "{\"rope_scaling\": {\"rope_type\": \"default\"}}", NULL);
    CHECK(c.rope.type == ROPE_SCALING_NONE);
    c = served("r1-distill-qwen-1.5b", "{\"num_key_value_heads\": null, \"head_dim\": null}", NULL);
    CHECK(c.num_key_value_heads == 12 && c.head_dim == 128);
    c = served("deepseek-v3", "{\"n_routed_experts\": null}", NULL);
    CHECK(c.n_routed_experts == 0 && !model_config_layer_is_moe(&c, 10));
    c = served("deepseek-v3",
               "{\"n_shared_experts\": null, \"n_group\": null,"
               " \"topk_group\": null, \"moe_layer_freq\": null,"
               " \"num_nextn_predict_layers\": null}",
               NULL);
    CHECK(c.n_shared_experts == 0 && c.n_group == 1 && c.topk_group == 1);
    CHECK(c.moe_layer_freq == 1 && c.num_nextn_predict_layers == 0);
    c = served("deepseek-v3", "{\"bos_token_id\": null, \"eos_token_id\": null}", NULL);
    CHECK(c.bos_token_id == UINT32_MAX && c.eos_n == 0);
    c = served("deepseek-v3", "{\"moe_layer_freq\": 2}", NULL);
    CHECK(!model_config_layer_is_moe(&c, 3) && model_config_layer_is_moe(&c, 4));
    c = served("deepseek-v3", "{\"rope_interleave\": false, \"attention_bias\": true}", NULL);
    CHECK(!c.rope.interleave && c.attention_bias);

    // A multimodal wrapper.
    json_t *inner = base_json("deepseek-v3");
    json_t *outer =
        json_pack("{s:[s], s:s, s:o}", "architectures", "KimiK25ForConditionalGeneration",
                  "model_type", "kimi_k25", "text_config", inner);
    char *text = json_dumps(outer, 0);
    struct fault fault = {0};
    CHECK(model_config_parse(text, strlen(text), NULL, 0, &c, &fault) == 0);
    CHECK(c.hidden_size == 7168 && c.fp8);
    free(text);
    json_decref(outer);
}

static void test_generation(void)
{
    struct model_config c =
        served("deepseek-v3", "{\"eos_token_id\": [1, 7]}",
               "{\"eos_token_id\": [7, 9, 1], \"do_sample\": true, \"temperature\": 0.6,"
               " \"top_p\": 0.95, \"top_k\": 40}");
    CHECK(c.eos_n == 3);
    CHECK(model_config_is_eos(&c, 1) && model_config_is_eos(&c, 7) && model_config_is_eos(&c, 9));
    CHECK(!model_config_is_eos(&c, 0));
    CHECK(c.temperature == 0.6f && c.top_p == 0.95f && c.top_k == 40);

    c = served("deepseek-v3", NULL, "{\"eos_token_id\": 2, \"do_sample\": false}");
    CHECK(c.eos_n == 2 && c.temperature == 0 && isnan(c.top_p));
    c = served("deepseek-v3", NULL, "{\"temperature\": null, \"top_k\": -1}");
    CHECK(isnan(c.temperature) && c.top_k == 0);

    struct fault fault;
    CHECK(parse_changed("deepseek-v3", NULL, "{\"temperature\": -1}", &c, &fault) == -EINVAL);
    CHECK(strstr(fault.text, "generation_config.json") && strstr(fault.text, "temperature"));
    CHECK(parse_changed("deepseek-v3", NULL, "{\"top_p\": \"x\"}", &c, &fault) == -EINVAL);
    CHECK(parse_changed("deepseek-v3", NULL, "[]", &c, &fault) == -EINVAL);
    CHECK(parse_changed("deepseek-v3", NULL, "{", &c, &fault) == -EBADMSG);
    CHECK(strstr(fault.text, "generation_config.json"));
    CHECK(parse_changed("deepseek-v3", NULL,
                        "{\"eos_token_id\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", &c,
                        &fault) == -EINVAL);
}

static void test_not_served(void)
{
    static const struct {
        const char *name, *changes, *piece, *other;
    } rows[] = {
        {"deepseek-v3.2", NULL, "indexer", "V3.2"},
        {"deepseek-v3", "{\"index_topk\": 2048}", "index_topk", "V3.2"},
        {"deepseek-v3", "{\"model_type\": \"deepseek_v32\"}", "deepseek_v32", "indexer"},
        {"kimi-k2-thinking", NULL, "int4", "compressed-tensors"},
        {"deepseek-v2-lite", NULL, "softmax router", "V2"},
        {"deepseek-v3", "{\"scoring_func\": \"softmax\"}", "scoring_func", "softmax"},
        {"deepseek-v3", "{\"topk_method\": \"greedy\"}", "topk_method", "greedy"},
        {"r1-0528-qwen3-8b", NULL, "qwen3", "norms"},
        {"deepseek-v3", "{\"architectures\": [\"MambaForCausalLM\"]}", "MambaForCausalLM",
         "not served"},
        {"deepseek-v3", "{\"hidden_act\": \"gelu\"}", "hidden_act", "gelu"},
        {"r1-distill-qwen-1.5b", "{\"use_sliding_window\": true}", "use_sliding_window", "not"},
        {"r1-distill-qwen-1.5b", "{\"use_mrope\": true}", "use_mrope", "not"},
        {"r1-distill-llama-8b", "{\"attention_bias\": true}", "attention_bias", "not"},
        {"r1-distill-llama-8b", "{\"mlp_bias\": true}", "mlp_bias", "not"},
        {"deepseek-v3", "{\"quantization_config\": {\"quant_method\": \"gptq\"}}", "gptq", "fp8"},
        {"deepseek-v3", "{\"quantization_config\": {\"quant_method\": \"fp8\"}}",
         "weight_block_size", "128"},
        {"deepseek-v3",
         "{\"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": \"e5m2\","
         "\"weight_block_size\": [128, 128]}}",
         "fmt", "e5m2"},
        {"deepseek-v3",
         "{\"quantization_config\": {\"quant_method\": \"fp8\","
         "\"activation_scheme\": \"static\", \"weight_block_size\": [128, 128]}}",
         "activation_scheme", "static"},
        {"deepseek-v3",
         "{\"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [64, 64]}}",
         "weight_block_size", "128"},
        {"deepseek-v3",
         "{\"quantization_config\": {\"quant_method\": \"fp8\", \"scale_fmt\": \"e4m3\","
         "\"weight_block_size\": [128, 128]}}",
         "scale_fmt", "e4m3"},
        {"deepseek-v3", "{\"num_nextn_predict_layers\": 3}", "num_nextn_predict_layers", "MTP"},
        {"deepseek-v3", "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}", "linear",
         "rope_scaling"},
        {"deepseek-v3", "{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 2}}", "llama3",
         "rope_scaling"},
        {"deepseek-v3",
         "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"attention_factor\": 1.5}}",
         "attention_factor", "rope_scaling"},
        {"deepseek-v3",
         "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2, \"truncate\": false}}", "truncate",
         "rope_scaling"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        refused(rows[i].name, rows[i].changes, ENOTSUP, rows[i].piece, rows[i].other);
}

static void test_wrong(void)
{
    static const struct {
        const char *name, *changes, *piece, *other;
    } rows[] = {
        {"deepseek-v3", "{\"hidden_size\": -1}", "hidden_size", "integer"},
        {"deepseek-v3", "{\"hidden_size\": 0}", "hidden_size", "integer"},
        {"deepseek-v3", "{\"hidden_size\": 1e300}", "hidden_size", "integer"},
        {"deepseek-v3", "{\"hidden_size\": 7168.5}", "hidden_size", "integer"},
        {"deepseek-v3", "{\"hidden_size\": \"7168\"}", "hidden_size", "integer"},
        {"deepseek-v3", "{\"hidden_size\": 9223372036854775807}", "hidden_size", "integer"},
        {"deepseek-v3", "{\"hidden_size\": [7168]}", "hidden_size", "integer"},
        {"deepseek-v3", "{\"vocab_size\": 1048577}", "vocab_size", "1048576"},
        {"deepseek-v3", "{\"num_hidden_layers\": 100000}", "num_hidden_layers", "1024"},
        {"deepseek-v3", "{\"num_attention_heads\": null}", "num_attention_heads", "integer"},
        {"deepseek-v3", "{\"qk_rope_head_dim\": 63}", "qk_rope_head_dim", "odd"},
        {"deepseek-v3", "{\"n_group\": 7}", "n_group", "divide"},
        {"deepseek-v3", "{\"n_group\": 256, \"topk_group\": 256}", "n_group", "two"},
        {"deepseek-v3", "{\"topk_group\": 9}", "topk_group", "n_group"},
        {"deepseek-v3", "{\"num_experts_per_tok\": 129}", "num_experts_per_tok", "128"},
        {"deepseek-v3", "{\"norm_topk_prob\": 1}", "norm_topk_prob", "true or false"},
        {"deepseek-v3", "{\"routed_scaling_factor\": -2.5}", "routed_scaling_factor", "number"},
        {"deepseek-v3", "{\"rms_norm_eps\": 0}", "rms_norm_eps", "number"},
        {"deepseek-v3", "{\"rms_norm_eps\": null}", "rms_norm_eps", "number"},
        {"deepseek-v3", "{\"rope_theta\": 1}", "rope_theta", "number"},
        {"deepseek-v3", "{\"rope_scaling\": {\"factor\": 40}}", "rope_scaling", "rope_type"},
        {"deepseek-v3", "{\"rope_scaling\": {\"type\": \"yarn\"}}", "rope_scaling", "factor"},
        {"deepseek-v3", "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}}",
         "original_max_position_embeddings", "missing"},
        {"deepseek-v3", "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 0.5}}", "factor", "1"},
        {"deepseek-v3",
         "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, \"beta_fast\": 1,"
         " \"beta_slow\": 32}}",
         "beta_fast", "beta_slow"},
        {"deepseek-v3", "{\"rope_scaling\": 4}", "rope_scaling", "object"},
        {"deepseek-v3", "{\"bos_token_id\": 129280}", "bos_token_id", "129279"},
        {"deepseek-v3", "{\"eos_token_id\": 129280}", "eos_token_id", "129280"},
        {"deepseek-v3", "{\"eos_token_id\": [1, -1]}", "eos_token_id", "list"},
        {"deepseek-v3", "{\"architectures\": [\"LlamaForCausalLM\"]}", "LlamaForCausalLM",
         "deepseek_v3"},
        {"deepseek-v3", "{\"architectures\": 3}", "architectures", "list"},
        {"deepseek-v3", "{\"architectures\": null, \"model_type\": null}", "architectures",
         "missing"},
        {"deepseek-v3", "{\"text_config\": 3}", "text_config", "object"},
        {"deepseek-v3", "{\"quantization_config\": {}}", "quant_method", "missing"},
        {"r1-distill-qwen-1.5b", "{\"num_key_value_heads\": 5}", "num_key_value_heads", "divide"},
        {"r1-distill-qwen-1.5b", "{\"num_attention_heads\": 7, \"num_key_value_heads\": 7}",
         "num_attention_heads", "divide"},
        {"r1-distill-llama-8b", "{\"head_dim\": 127}", "head_dim", "even"},
        {"r1-distill-llama-8b",
         "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4,"
         " \"high_freq_factor\": 1, \"original_max_position_embeddings\": 8192}}",
         "high_freq_factor", "low_freq_factor"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        refused(rows[i].name, rows[i].changes, EINVAL, rows[i].piece, rows[i].other);
}

// Every field that model.md 1.1 calls required is.
static void test_missing(void)
{
    static const char *const required[] = {
        "vocab_size",           "hidden_size",           "intermediate_size",
        "num_hidden_layers",    "num_attention_heads",   "max_position_embeddings",
        "rms_norm_eps",         "q_lora_rank",           "kv_lora_rank",
        "qk_nope_head_dim",     "qk_rope_head_dim",      "v_head_dim",
        "n_routed_experts",     "moe_intermediate_size", "num_experts_per_tok",
        "rope_theta",           "first_k_dense_replace", "norm_topk_prob",
        "routed_scaling_factor"};
    for (size_t i = 0; i < ARRAY_LEN(required); i++) {
        struct model_config config;
        struct fault fault = {0};
        json_t *json = base_json("deepseek-v3");
        CHECK(json_object_del(json, required[i]) == 0);
        char *text = json_dumps(json, 0);
        CHECK(model_config_parse(text, strlen(text), NULL, 0, &config, &fault) == -EINVAL);
        CHECK(strstr(fault.text, required[i]) && strstr(fault.text, "missing"));
        free(text);
        json_decref(json);
    }
    struct model_config c = served("deepseek-v3", NULL, NULL);
    json_t *json = base_json("deepseek-v3");
    json_object_del(json, "num_nextn_predict_layers");
    json_object_del(json, "scoring_func");
    json_object_del(json, "tie_word_embeddings");
    char *text = json_dumps(json, 0);
    CHECK(model_config_parse(text, strlen(text), NULL, 0, &c, NULL) == 0);
    CHECK(c.num_nextn_predict_layers == 0 && !c.tie_word_embeddings);
    free(text);
    json_decref(json);
}

static void parse_text(const char *text, size_t len, int err)
{
    struct model_config config;
    struct fault fault = {0};
    CHECK(model_config_parse(text, len, NULL, 0, &config, &fault) == -err);
    CHECK(strstr(fault.text, "config.json"));
}

static void test_bombs(void)
{
    size_t n = 3u << 20;
    char *text = malloc(n);
    CHECK(text);

    memset(text, '[', n);
    parse_text(text, n, EFBIG); // deep
    memset(text, '{', n);
    parse_text(text, n, EFBIG);
    for (size_t i = 0; i < n; i += 2)
        memcpy(text + i, "1,", 2);
    text[0] = '[';
    parse_text(text, n, EFBIG); // wide
    memset(text, '"', n);
    parse_text(text, n, EBADMSG);
    memset(text, 0, n);
    parse_text(text, n, EBADMSG);
    free(text);

    static const char *const bad[] = {"",
                                      "{",
                                      "nonsense",
                                      "{\"a\": 1e999}",
                                      "{\"a\": NaN}",
                                      "{\"a\": 99999999999999999999}",
                                      "{\"a\": 1, \"a\": 2}",
                                      "{} {}",
                                      "{\"a\": \"\\ud800\"}",
                                      "\xff\xfe"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        parse_text(bad[i], strlen(bad[i]), EBADMSG);
    parse_text("[]", 2, EINVAL);
}

static void test_files(void)
{
    char dir[] = "/tmp/test_config.XXXXXX", missing[64];
    struct model_config config;
    struct fault fault = {0};
    CHECK(mkdtemp(dir));
    snprintf(missing, sizeof(missing), "%s/none", dir);
    CHECK(model_config_read(missing, &config, &fault) == -ENOENT);
    CHECK(strstr(fault.text, "none/config.json"));

    json_t *json = base_json("deepseek-v3");
    char *text = json_dumps(json, 0);
    fixture_write(dir, "config.json", text, strlen(text));
    CHECK(model_config_read(dir, &config, &fault) == 0);
    CHECK(isnan(config.temperature));
    fixture_write_text(dir, "generation_config.json", "{\"temperature\": 0.25}");
    CHECK(model_config_read(dir, &config, &fault) == 0 && config.temperature == 0.25f);
    fixture_write_text(dir, "generation_config.json", "{");
    CHECK(model_config_read(dir, &config, &fault) == -EBADMSG);
    CHECK(strstr(fault.text, "generation_config.json"));

    // A FIFO would block whoever opens it.
    char path[96];
    snprintf(path, sizeof(path), "%s/config.json", dir);
    CHECK(unlink(path) == 0 && mkfifo(path, 0600) == 0);
    CHECK(model_config_read(dir, &config, &fault) == -EINVAL);
    CHECK(strstr(fault.text, "not a regular file"));
    CHECK(unlink(path) == 0);
    snprintf(path, sizeof(path), "%s/generation_config.json", dir);
    CHECK(unlink(path) == 0 && rmdir(dir) == 0);
    free(text);
    json_decref(json);
}

int main(void)
{
    test_v3();
    test_family();
    test_spellings();
    test_generation();
    test_not_served();
    test_wrong();
    test_missing();
    test_bombs();
    test_files();
    return 0;
}
