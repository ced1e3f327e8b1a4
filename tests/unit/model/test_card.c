// SPDX-License-Identifier: MIT
// card: the figures of model.md 2.2 and 11.1 from DeepSeek-V3's config alone; the golden and demo
// models counted from their files; plans for machines of every size.
#include "model/card.h"
#include "tests/unit/model/fixture.h"

#define GB 1000000000ull

static struct model_config config_of(const char *name)
{
    struct model_config config;
    struct fault fault = {0};
    char path[4096];
    size_t len;

    snprintf(path, sizeof(path), "%s/%s.json", CONFIGS_DIR, name);
    char *text = fixture_text(path, &len);
    int err = model_config_parse(text, len, NULL, 0, &config, &fault);
    if (err < 0)
        fprintf(stderr, "%s: %s\n", name, fault.text);
    CHECK(err == 0);
    free(text);
    return config;
}

static void test_v3(void)
{
    struct model_config config = config_of("deepseek-v3");
    struct model_card card;
    model_card_from_config(&config, &card);

    CHECK(card.total.tensors == 91991);
    CHECK(card.total.bytes == 688574839360);
    CHECK(card.total.bytes == card.dtype_bytes[DTYPE_F8_E4M3] + card.dtype_bytes[DTYPE_BF16] +
                                  card.dtype_bytes[DTYPE_F32]);
    CHECK(card.unused.tensors == 2);
    CHECK(card.unused.bytes == 2 * 1853358080ull);
    CHECK(card.params == 671026419200); // the released model's "671B"
    CHECK(card.params_active > 36500000000 && card.params_active < 37500000000);
    CHECK(card.params_mtp > 11500000000 && card.params_mtp < 11700000000);
    CHECK(card.layers == 61 && card.dense_layers == 3 && card.moe_layers == 58 && card.has_mtp);

    CHECK(card.expert_bytes_max == 44050944);
    CHECK(card.expert_n == 58 * 256);
    CHECK(card.experts_bytes == 654068416512);
    CHECK(card.experts_read == 20439638016);
    CHECK(card.resident_bytes == 19082195296);
    CHECK(card.resident_read == 17228837216 + 14336); // the table leaves out the embedding's row
    CHECK(card.mtp_resident_bytes == 440469728);
    CHECK(card.mtp_experts_bytes == 11277041664);
    CHECK(card.groups[TENSOR_GROUP_EMBEDDING].bytes == 1853358080);
    CHECK(card.groups[TENSOR_GROUP_HEAD].bytes == 1853358080);
    CHECK(card.groups[TENSOR_GROUP_ATTENTION].bytes == 11416215392);
    CHECK(card.groups[TENSOR_GROUP_SHARED_EXPERTS].bytes == 2554954752);
    CHECK(card.groups[TENSOR_GROUP_DENSE_MLP].bytes == 1189375488);
    CHECK(card.groups[TENSOR_GROUP_ROUTER].bytes == 212920320);
    CHECK(card.groups[TENSOR_GROUP_ROUTED_EXPERTS].bytes == card.experts_bytes);
    CHECK(card.groups[TENSOR_GROUP_MTP].bytes == card.mtp_resident_bytes + card.mtp_experts_bytes);
    CHECK(card.kv_values == 35136 && card.kv_values_mtp == 576);
}

static void test_others(void)
{
    struct model_card card;
    struct model_config config = config_of("kimi-k2-instruct");
    model_card_from_config(&config, &card);
    CHECK(card.params > 1020 * GB && card.params < 1030 * GB); // "1T"
    CHECK(card.params_active > 31 * GB && card.params_active < 33 * GB);
    CHECK(!card.has_mtp && card.unused.tensors == 0 && card.moe_layers == 60);

    config = config_of("moonlight-16b");
    model_card_from_config(&config, &card);
    CHECK(card.params > 15 * GB && card.params < 17 * GB);
    CHECK(card.params_active > 2 * GB && card.params_active < 3 * GB);
    CHECK(card.total.bytes > 2 * card.params && card.total.bytes < 2 * card.params + 100000);

    config = config_of("r1-distill-qwen-1.5b");
    model_card_from_config(&config, &card);
    CHECK(card.params == 1777088000); // Qwen2.5-Math-1.5B with an untied head
    CHECK(card.resident_bytes == 2 * card.params && card.experts_bytes == 0);
    CHECK(card.kv_values == 28 * 2 * 2 * 128);

    config = config_of("r1-distill-llama-8b");
    model_card_from_config(&config, &card);
    CHECK(card.params == 8030261248);
    CHECK(card.kv_values == 32 * 2 * 8 * 128);
}

// The files of a checkpoint and its config must agree where both speak.
static void test_files(const char *dir)
{
    struct checkpoint *ck = NULL;
    struct fault fault = {0};
    struct model_card card, expected;

    int err = checkpoint_open(dir, &ck, &fault);
    if (err < 0)
        fprintf(stderr, "%s\n", fault.text);
    CHECK(err == 0);
    CHECK(model_card_make(ck, &card) == 0);
    model_card_from_config(checkpoint_config(ck), &expected);

    uint64_t bytes = card.unused.bytes, tensors = card.unused.tensors, stored = 0;
    for (uint32_t g = 0; g < TENSOR_GROUP_COUNT; g++) {
        CHECK(card.groups[g].params == expected.groups[g].params);
        CHECK(card.groups[g].tensors == expected.groups[g].tensors);
        bytes += card.groups[g].bytes;
        tensors += card.groups[g].tensors;
    }
    for (uint32_t d = 0; d < DTYPE_COUNT; d++)
        stored += card.dtype_bytes[d];
    CHECK(bytes == card.total.bytes && bytes == stored);
    CHECK(tensors == card.total.tensors);
    CHECK(card.params == expected.params && card.params_active == expected.params_active);
    CHECK(card.params_active <= card.params);
    CHECK(card.files == checkpoint_file_count(ck));
    checkpoint_close(&ck);
}

static struct model_plan plan_of(const struct model_card *card, struct model_plan_params params)
{
    struct model_plan plan;
    model_plan_make(card, &params, &plan);
    CHECK(plan.experts_device_n + plan.experts_host_n + plan.experts_streamed_n == plan.experts_n ||
          plan.verdict == MODEL_PLAN_TOO_BIG);
    CHECK(plan.device_used_bytes <= params.device_bytes || plan.verdict == MODEL_PLAN_TOO_BIG);
    return plan;
}

static void test_plans(void)
{
    struct model_config config = config_of("deepseek-v3");
    struct model_card card;
    struct model_plan plan;
    model_card_from_config(&config, &card);

    plan = plan_of(&card, (struct model_plan_params){.device_bytes = 16 * GB});
    CHECK(plan.verdict == MODEL_PLAN_TOO_BIG);
    CHECK(plan.missing_bytes == plan.resident_bytes + plan.kv_bytes + plan.params.workspace_bytes +
                                    8 * 44050944ull - 16 * GB);
    CHECK(plan.kv_bytes_token == 70272);

    plan = plan_of(&card, (struct model_plan_params){
                              .device_bytes = 32 * GB, .host_bytes = 64 * GB, .kv_tokens = 32768});
    CHECK(plan.verdict == MODEL_PLAN_STREAMED);
    CHECK(plan.kv_bytes == 2302672896);
    CHECK(plan.experts_host_n == 64 * GB / 44050944);
    CHECK(plan.experts_streamed_n > 14848 * 8 / 10);
    CHECK(plan.token_stream_bytes < card.experts_read);
    CHECK(plan.token_stream_bytes > card.experts_read / 2);

    plan =
        plan_of(&card, (struct model_plan_params){
                           .device_bytes = 96 * GB, .host_bytes = 1000 * GB, .kv_value_bytes = 4});
    CHECK(plan.verdict == MODEL_PLAN_HOST);
    CHECK(plan.experts_streamed_n == 0 && plan.token_stream_bytes == 0);
    CHECK(plan.kv_bytes == 163840ull * 35136 * 4);

    plan = plan_of(&card, (struct model_plan_params){.device_bytes = 800 * GB, .mtp = true});
    CHECK(plan.verdict == MODEL_PLAN_DEVICE);
    CHECK(plan.experts_n == 59 * 256 && plan.kv_bytes_token == 71424);
    CHECK(plan.resident_bytes == 19082195296 + 440469728);

    config = config_of("r1-distill-qwen-1.5b");
    model_card_from_config(&config, &card);
    plan = plan_of(&card, (struct model_plan_params){.device_bytes = 16 * GB, .mtp = true});
    CHECK(plan.verdict == MODEL_PLAN_DEVICE && !plan.params.mtp);
    plan = plan_of(&card, (struct model_plan_params){.device_bytes = 0});
    CHECK(plan.verdict == MODEL_PLAN_TOO_BIG);
}

static void test_writers(void)
{
    struct model_config config = config_of("deepseek-v3");
    struct model_card card;
    char *text = NULL, *json_text = NULL;
    size_t len;
    model_card_from_config(&config, &card);
    struct model_plan plan = plan_of(&card, (struct model_plan_params){.device_bytes = 32 * GB});

    FILE *out = open_memstream(&text, &len);
    CHECK(out);
    CHECK(model_card_text(&card, &plan, out) == 0);
    CHECK(fclose(out) == 0);
    CHECK(strstr(text, "671 billion, 36.6 billion active"));
    CHECK(strstr(text, "19.1 GB, of which a token reads 17.2 GB"));
    CHECK(strstr(text, "memory plan: 32.0 GB of device memory"));
    for (const char *line = text; *line;) {
        size_t columns = strcspn(line, "\n");
        CHECK(columns <= 100);
        CHECK(line[columns] == '\n');
        line += columns + 1;
    }
    printf("%s", text);

    out = open_memstream(&json_text, &len);
    CHECK(out);
    CHECK(model_card_json(&card, &plan, out) == 0);
    CHECK(fclose(out) == 0);
    json_t *json = json_loads(json_text, 0, NULL);
    CHECK(json);
    CHECK(json_integer_value(json_object_get(json, "resident_bytes")) == 19082195296);
    CHECK(json_integer_value(json_object_get(json_object_get(json, "total"), "tensors")) == 91991);
    CHECK(json_is_true(json_object_get(json, "fp8")));
    json_t *plan_json = json_object_get(json, "plan");
    CHECK(strcmp(json_string_value(json_object_get(plan_json, "verdict")), "streamed") == 0);
    CHECK(json_integer_value(json_object_get(plan_json, "device_bytes")) == 32 * GB);
    json_decref(json);

    out = fopen("/dev/full", "w");
    CHECK(out);
    setvbuf(out, NULL, _IONBF, 0);
    CHECK(model_card_text(&card, NULL, out) < 0);
    CHECK(model_card_json(&card, NULL, out) < 0);
    fclose(out);
    free(text);
    free(json_text);
}

int main(void)
{
    static const char *const golden[] = {"v3-fp8",  "lite-fp8",      "v31-ue8m0",
                                         "v3-bf16", "distill-qwen2", "distill-llama"};
    char dir[4096];

    test_v3();
    test_others();
    for (size_t i = 0; i < ARRAY_LEN(golden); i++) {
        snprintf(dir, sizeof(dir), "%s/models/%s", GOLDEN_DIR, golden[i]);
        test_files(dir);
    }
    test_files(DEMO_MODEL_DIR);
    test_plans();
    test_writers();
    return 0;
}
