// SPDX-License-Identifier: MIT
// checkpoint: every golden model and the demo model open and verify; each way of being broken or
// unserved, done to a copy of one, has its error and a sentence that names file and tensor.
#include "model/checkpoint.h"
#include "tests/unit/model/fixture.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>

static char root[] = "/tmp/test_checkpoint.XXXXXX";
static char copy[64]; // the directory that tests break

static struct checkpoint *open_good(const char *dir)
{
    struct checkpoint *ck = NULL;
    struct fault fault = {0};
    int err = checkpoint_open(dir, &ck, &fault);
    if (err < 0)
        fprintf(stderr, "%s\n", fault.text);
    CHECK(err == 0);
    return ck;
}

static struct checkpoint *open_golden(const char *name)
{
    char dir[4096];
    snprintf(dir, sizeof(dir), "%s/models/%s", GOLDEN_DIR, name);
    return open_good(dir);
}

// --- a copy to break ---------------------------------------------------------------------------

static void copy_clear(void)
{
    struct dirent *entry;
    DIR *stream = opendir(copy);
    if (!stream)
        return;
    while ((entry = readdir(stream)))
        if (entry->d_name[0] != '.')
            CHECK(unlinkat(dirfd(stream), entry->d_name, 0) == 0);
    closedir(stream);
    CHECK(rmdir(copy) == 0);
}

static void copy_golden(const char *name)
{
    char from[4096], path[4096];
    struct dirent *entry;

    copy_clear();
    CHECK(mkdir(copy, 0700) == 0);
    snprintf(from, sizeof(from), "%s/models/%s", GOLDEN_DIR, name);
    DIR *stream = opendir(from);
    CHECK(stream);
    while ((entry = readdir(stream))) {
        size_t len;
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, "golden", 6) == 0)
            continue;
        CHECK(snprintf(path, sizeof(path), "%s/%s", from, entry->d_name) < (int)sizeof(path));
        char *data = fixture_text(path, &len);
        fixture_write(copy, entry->d_name, data, len);
        free(data);
    }
    closedir(stream);
}

static json_t *copy_json(const char *name)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", copy, name);
    json_t *json = json_load_file(path, 0, NULL);
    CHECK(json);
    return json;
}

static void copy_json_write(const char *name, json_t *json)
{
    char *text = json_dumps(json, 0);
    CHECK(text);
    fixture_write(copy, name, text, strlen(text));
    free(text);
    json_decref(json);
}

// config_set changes one field of config.json.
static void config_set(const char *key, json_t *value)
{
    json_t *json = copy_json("config.json");
    CHECK(json_object_set_new(json, key, value) == 0);
    copy_json_write("config.json", json);
}

// One shard, taken apart.
struct shard {
    char name[64];
    char *bytes;
    size_t len, data_off;
    json_t *header;
};

static struct shard shard_open(const char *name)
{
    struct shard shard;
    char path[192];
    uint64_t header_len;

    snprintf(shard.name, sizeof(shard.name), "%s", name);
    snprintf(path, sizeof(path), "%s/%s", copy, name);
    shard.bytes = fixture_text(path, &shard.len);
    memcpy(&header_len, shard.bytes, sizeof(header_len));
    shard.data_off = 8 + (size_t)header_len;
    shard.header = json_loadb(shard.bytes + 8, (size_t)header_len, 0, NULL);
    CHECK(shard.header);
    return shard;
}

static void shard_close(struct shard *shard)
{
    char *text = json_dumps(shard->header, 0);
    CHECK(text);
    uint64_t header_len = strlen(text);
    size_t data = shard->len - shard->data_off;
    char *out = malloc(8 + header_len + data);
    CHECK(out);
    memcpy(out, &header_len, 8);
    memcpy(out + 8, text, header_len);
    memcpy(out + 8 + header_len, shard->bytes + shard->data_off, data);
    fixture_write(copy, shard->name, out, 8 + header_len + data);
    free(out);
    free(text);
    free(shard->bytes);
    json_decref(shard->header);
}

static json_t *shard_entry(struct shard *shard, const char *tensor)
{
    json_t *entry = json_object_get(shard->header, tensor);
    CHECK(entry);
    return entry;
}

// tensor_set changes a field of one tensor's header entry.
static void tensor_set(const char *file, const char *tensor, const char *key, json_t *value)
{
    struct shard shard = shard_open(file);
    CHECK(json_object_set_new(shard_entry(&shard, tensor), key, value) == 0);
    shard_close(&shard);
}

// tensor_rename also corrects the index, where there is one.
static void tensor_rename(const char *file, const char *from, const char *to)
{
    char path[128];
    struct shard shard = shard_open(file);
    CHECK(json_object_set(shard.header, to, shard_entry(&shard, from)) == 0);
    CHECK(json_object_del(shard.header, from) == 0);
    shard_close(&shard);

    snprintf(path, sizeof(path), "%s/model.safetensors.index.json", copy);
    if (access(path, F_OK) < 0)
        return;
    json_t *index = copy_json("model.safetensors.index.json");
    json_t *map = json_object_get(index, "weight_map");
    CHECK(json_object_set(map, to, json_object_get(map, from)) == 0);
    CHECK(json_object_del(map, from) == 0);
    copy_json_write("model.safetensors.index.json", index);
}

// tensor_data returns where a tensor's bytes are in an opened shard.
static char *tensor_data(struct shard *shard, const char *tensor)
{
    json_t *offsets = json_object_get(shard_entry(shard, tensor), "data_offsets");
    return shard->bytes + shard->data_off + json_integer_value(json_array_get(offsets, 0));
}

static void refused_open(int line, int err, const char *piece, const char *other)
{
    struct checkpoint *ck = NULL;
    struct fault fault = {0};
    int got = checkpoint_open(copy, &ck, &fault);
    if (got != -err || !strstr(fault.text, piece) || !strstr(fault.text, other))
        fprintf(stderr, "line %d: %d, expected %d and \"%s\", \"%s\": %s\n", line, got, -err, piece,
                other, fault.text);
    CHECK(got == -err);
    CHECK(ck == NULL);
    CHECK(strstr(fault.text, piece));
    CHECK(strstr(fault.text, other));
}
#define REFUSED(err, piece, other) refused_open(__LINE__, err, piece, other)

// --- good ones ---------------------------------------------------------------------------------

struct tally {
    const struct checkpoint *ck;
    uint64_t bytes;
};

static int tally_one(const struct tensor_spec *spec, void *user)
{
    struct tally *tally = user;
    const struct tensor *tensor = NULL, *scale = NULL;
    struct tensor_spec again;

    CHECK(checkpoint_get(tally->ck, spec->role, spec->layer, spec->expert, &again, &tensor,
                         &scale) == 0);
    CHECK(memcmp(&again, spec, sizeof(again)) == 0);
    CHECK(tensor == checkpoint_find(tally->ck, spec->name));
    CHECK((tensor->dtype == DTYPE_F8_E4M3) == (scale != NULL));
    CHECK(checkpoint_uses(tally->ck, tensor) && (!scale || checkpoint_uses(tally->ck, scale)));
    CHECK(tensor->file_idx < checkpoint_file_count(tally->ck));
    tally->bytes += tensor->bytes + (scale ? scale->bytes : 0);
    return 0;
}

static int progress_check(void *user, uint64_t done, uint64_t total)
{
    uint64_t *seen = user;
    CHECK(done > seen[0] && done <= total);
    seen[0] = done;
    seen[1] = total;
    return 0;
}

static void check_good(struct checkpoint *ck, uint32_t files)
{
    struct fault fault = {0};
    struct tally tally = {.ck = ck};
    uint64_t seen[2] = {0};

    CHECK(checkpoint_file_count(ck) == files);
    CHECK(tensor_spec_each(checkpoint_config(ck), tally_one, &tally) == 0);
    CHECK(checkpoint_verify(ck, progress_check, seen, &fault) == 0);
    CHECK(seen[0] == seen[1] && seen[1] == tally.bytes);
    CHECK(!checkpoint_find(ck, "no.such.tensor"));
    checkpoint_close(&ck);
    CHECK(!ck);
    checkpoint_close(&ck);
}

static void test_good(void)
{
    check_good(open_golden("v3-fp8"), 3);
    check_good(open_golden("lite-fp8"), 1);
    check_good(open_golden("v31-ue8m0"), 2);
    check_good(open_golden("v3-bf16"), 1);
    check_good(open_golden("distill-qwen2"), 2);
    check_good(open_golden("distill-llama"), 1);
    check_good(open_good(DEMO_MODEL_DIR), 2);
}

static void test_roles(void)
{
    const struct tensor *tensor, *scale;
    struct tensor_spec spec;

    // MTP: the copies of embedding and head resolve to the main tensors.
    struct checkpoint *ck = open_golden("v3-fp8");
    CHECK(checkpoint_config(ck)->num_nextn_predict_layers == 1 && !checkpoint_mtp_missing(ck));
    CHECK(checkpoint_find(ck, "model.layers.2.embed_tokens.weight") ==
          checkpoint_find(ck, "model.embed_tokens.weight"));
    CHECK(checkpoint_find(ck, "model.layers.2.shared_head.head.weight") ==
          checkpoint_find(ck, "lm_head.weight"));
    CHECK(checkpoint_get(ck, ROLE_KV_A_PROJ, 0, 0, &spec, &tensor, &scale) == 0);
    CHECK(spec.rows == 144 && tensor->dtype == DTYPE_F8_E4M3 && scale->shape[0] == 2);
    CHECK(checkpoint_get(ck, ROLE_EXPERT_UP, 0, 0, NULL, NULL, NULL) == -ENOENT);
    CHECK(checkpoint_get(ck, ROLE_EXPERT_UP, 1, 6, NULL, NULL, NULL) == -ENOENT);
    CHECK(checkpoint_get(ck, ROLE_EXPERT_UP, 3, 0, NULL, NULL, NULL) == -ENOENT);
    CHECK(checkpoint_get(ck, ROLE_EXPERT_UP, 2, 5, NULL, NULL, NULL) == 0);
    checkpoint_close(&ck);

    ck = open_golden("lite-fp8"); // tied
    CHECK(checkpoint_get(ck, ROLE_HEAD, 0, 0, &spec, &tensor, &scale) == 0);
    CHECK(spec.role == ROLE_HEAD && !scale);
    CHECK(tensor == checkpoint_find(ck, "model.embed_tokens.weight"));
    CHECK(tensor == checkpoint_find(ck, "lm_head.weight"));
    checkpoint_close(&ck);

    ck = open_golden("v31-ue8m0"); // scales in the other shard, norms F32
    CHECK(checkpoint_get(ck, ROLE_O_PROJ, 0, 0, NULL, &tensor, &scale) == 0);
    CHECK(tensor->file_idx != scale->file_idx);
    CHECK(checkpoint_get(ck, ROLE_NORM, 0, 0, NULL, &tensor, &scale) == 0);
    CHECK(tensor->dtype == DTYPE_F32);
    checkpoint_close(&ck);
}

// --- bad ones ----------------------------------------------------------------------------------

#define SHARD_1  "model-00001-of-000003.safetensors"
#define SHARD_2  "model-00002-of-000003.safetensors"
#define SHARD_3  "model-00003-of-000003.safetensors"
#define INDEX    "model.safetensors.index.json"
#define Q_A      "model.layers.0.self_attn.q_a_proj.weight"
#define SINGLE   "model.safetensors"
#define EXPERT_0 "model.layers.1.mlp.experts.0.gate_proj.weight"

// file_of returns the shard that the copy's index names.
static const char *file_of(const char *tensor)
{
    static char name[64];
    json_t *index = copy_json(INDEX);
    const char *file =
        json_string_value(json_object_get(json_object_get(index, "weight_map"), tensor));
    CHECK(file);
    snprintf(name, sizeof(name), "%s", file);
    json_decref(index);
    return name;
}

static void index_set(const char *tensor, json_t *file)
{
    json_t *index = copy_json(INDEX);
    CHECK(json_object_set_new(json_object_get(index, "weight_map"), tensor, file) == 0);
    copy_json_write(INDEX, index);
}

static void copy_unlink(const char *name)
{
    char path[192];
    snprintf(path, sizeof(path), "%s/%s", copy, name);
    CHECK(unlink(path) == 0);
}

static void test_files(void)
{
    char path[192];

    copy_golden("v3-fp8");
    copy_unlink(SHARD_2);
    REFUSED(ENOENT, SHARD_2, INDEX);
    snprintf(path, sizeof(path), "%s/" SHARD_2, copy);
    CHECK(mkdir(path, 0700) == 0);
    REFUSED(EINVAL, SHARD_2, "not a regular file");
    CHECK(rmdir(path) == 0);

    copy_golden("v3-fp8");
    snprintf(path, sizeof(path), "%s/" SHARD_3, copy);
    CHECK(truncate(path, 300000) == 0);
    REFUSED(EBADMSG, SHARD_3, "truncated");
    CHECK(truncate(path, 100) == 0);
    REFUSED(EBADMSG, SHARD_3, "truncated");
    CHECK(truncate(path, 0) == 0);
    REFUSED(EBADMSG, SHARD_3, "no safetensors file");

    copy_golden("v3-fp8");
    copy_unlink(INDEX);
    REFUSED(ENOENT, SINGLE, INDEX);
    fixture_write_text(copy, INDEX, "{");
    REFUSED(EBADMSG, INDEX, "JSON");
    fixture_write_text(copy, INDEX, "{}");
    REFUSED(EBADMSG, INDEX, "weight_map");
    fixture_write_text(copy, INDEX, "[]");
    REFUSED(EBADMSG, INDEX, "weight_map");
    fixture_write_text(copy, INDEX, "{\"weight_map\":{}}");
    REFUSED(ENOENT, "model.embed_tokens.weight", "missing");
    fixture_write_text(copy, INDEX, "{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}");
    REFUSED(EBADMSG, INDEX, "duplicate");
    copy_unlink("config.json");
    REFUSED(ENOENT, "config.json", "No such file");
}

static void test_index(void)
{
    static const char *const names[] = {
        "../model.safetensors", "/etc/passwd", "a/b", "", ".", ".."};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        copy_golden("v3-fp8");
        index_set(Q_A, json_string(names[i]));
        REFUSED(EBADMSG, Q_A, "not the name of a file");
    }
    index_set(Q_A, json_integer(3));
    REFUSED(EBADMSG, Q_A, "not a string");

    copy_golden("v3-fp8");
    index_set("model.layers.0.extra", json_string(SHARD_1));
    REFUSED(EBADMSG, SHARD_1, "model.layers.0.extra");

    // The index says another shard than the one that has it.
    copy_golden("v3-fp8");
    const char *other = strcmp(file_of(Q_A), SHARD_1) == 0 ? SHARD_2 : SHARD_1;
    index_set(Q_A, json_string(other));
    REFUSED(EBADMSG, other, Q_A);

    // One name in two shards.
    copy_golden("v3-fp8");
    other = strcmp(file_of(Q_A), SHARD_1) == 0 ? SHARD_2 : SHARD_1;
    struct shard shard = shard_open(other);
    json_t *empty =
        json_pack("{s:s, s:[i], s:[i, i]}", "dtype", "U8", "shape", 0, "data_offsets", 0, 0);
    CHECK(json_object_set_new(shard.header, Q_A, empty) == 0);
    shard_close(&shard);
    REFUSED(EBADMSG, Q_A, "is also in");
}

static void test_tensors(void)
{
    // Missing: a matrix, an expert, scales, a norm.
    static const char *const missing[] = {Q_A,
                                          EXPERT_0,
                                          Q_A "_scale_inv",
                                          "model.norm.weight",
                                          "model.layers.2.eh_proj.weight",
                                          "model.layers.1.mlp.gate.e_score_correction_bias"};
    for (size_t i = 0; i < ARRAY_LEN(missing); i++) {
        copy_golden("v3-fp8");
        tensor_rename(file_of(missing[i]), missing[i], "junk");
        REFUSED(ENOENT, missing[i], "is missing");
    }

    copy_golden("v3-fp8");
    tensor_set(file_of(EXPERT_0), EXPERT_0, "shape", json_pack("[i]", 128 * 128));
    REFUSED(EBADMSG, EXPERT_0, "[16384]; the config asks for [128, 128]");
    copy_golden("v3-fp8");
    tensor_set(file_of("lm_head.weight"), "lm_head.weight", "shape", json_pack("[i, i]", 128, 304));
    REFUSED(EBADMSG, "lm_head.weight", "[128, 304]; the config asks for [304, 128]");
    copy_golden("v3-fp8");
    tensor_set(file_of("model.norm.weight"), "model.norm.weight", "shape",
               json_pack("[i, i]", 1, 128));
    REFUSED(EBADMSG, "model.norm.weight", "[1, 128]; the config asks for [128]");
    copy_golden("v3-fp8");
    const char kv_a[] = "model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv";
    tensor_set(file_of(kv_a), kv_a, "shape", json_pack("[i, i]", 1, 2));
    REFUSED(EBADMSG, kv_a, "[1, 2]; the config asks for [2, 1]");
    copy_golden("v3-fp8");
    config_set("hidden_size", json_integer(256));
    REFUSED(EBADMSG, "model.embed_tokens.weight", "[304, 256]");

    copy_golden("v3-fp8");
    tensor_set(file_of(Q_A), Q_A, "dtype", json_string("F8_E5M2"));
    REFUSED(ENOTSUP, Q_A, "F8_E5M2");
    tensor_set(file_of(Q_A), Q_A, "dtype", json_string("I8"));
    REFUSED(ENOTSUP, Q_A, "I8");
    copy_golden("v3-fp8");
    const char scale[] = Q_A "_scale_inv";
    tensor_set(file_of(scale), scale, "dtype", json_string("I32"));
    REFUSED(ENOTSUP, scale, "I32");
    copy_golden("v3-fp8");
    config_set("quantization_config", json_null());
    REFUSED(EBADMSG, "F8_E4M3", "quantization_config");
}

static void test_not_served(void)
{
    static const struct {
        const char *name, *what;
    } rows[] = {
        {"model.layers.0.self_attn.indexer.wk.weight", "indexer"},
        {"model.layers.1.mlp.experts.0.up_proj.weight_packed", "int4"},
        {"model.layers.1.mlp.experts.gate_up_proj", "fused"},
        {"model.layers.1.mlp.experts.down_proj", "fused"},
        {"model.layers.0.self_attn.o_proj.qweight", "GPTQ"},
        {"model.layers.0.self_attn.q_norm.weight", "Qwen3"},
        {"model.layers.0.self_attn.q_b_proj.lora_A.weight", "LoRA"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        copy_golden("v3-fp8");
        tensor_rename(file_of(Q_A), Q_A, rows[i].name);
        REFUSED(ENOTSUP, rows[i].name, rows[i].what);
    }
    // A bias that would be ignored.
    copy_golden("v3-bf16");
    tensor_rename(SINGLE, "model.layers.3.shared_head.norm.weight",
                  "model.layers.1.self_attn.q_a_proj.bias");
    config_set("num_nextn_predict_layers", json_integer(0));
    REFUSED(ENOTSUP, "model.layers.1.self_attn.q_a_proj.bias", "bias");

    copy_golden("v3-fp8");
    config_set("model_type", json_string("deepseek_v32"));
    REFUSED(ENOTSUP, "config.json", "indexer");
}

static void test_tolerated(void)
{
    // Junk of released files; the router's bias in BF16; norms in F16.
    copy_golden("v3-fp8");
    struct shard shard = shard_open(SHARD_1);
    json_t *junk =
        json_pack("{s:s, s:[i], s:[i, i]}", "dtype", "F32", "shape", 0, "data_offsets", 0, 0);
    CHECK(json_object_set_new(shard.header, "model.layers.0.self_attn.rotary_emb.inv_freq", junk) ==
          0);
    shard_close(&shard);
    struct checkpoint *ck = open_good(copy);
    const struct tensor *tensor =
        checkpoint_find(ck, "model.layers.0.self_attn.rotary_emb.inv_freq");
    CHECK(tensor && !checkpoint_uses(ck, tensor));
    checkpoint_close(&ck);

    copy_golden("v3-fp8");
    tensor_set(file_of("model.norm.weight"), "model.norm.weight", "dtype", json_string("F16"));
    ck = open_good(copy);
    checkpoint_close(&ck);

    // Repacks that drop the MTP layer, wholly or but for its copies.
    copy_golden("lite-fp8");
    config_set("num_nextn_predict_layers", json_integer(1));
    ck = open_good(copy);
    CHECK(checkpoint_config(ck)->num_nextn_predict_layers == 0 && checkpoint_mtp_missing(ck));
    checkpoint_close(&ck);

    // And those that keep the layer but drop its copies of embedding and head.
    copy_golden("v3-bf16");
    ck = open_good(copy);
    CHECK(checkpoint_config(ck)->num_nextn_predict_layers == 1);
    CHECK(checkpoint_find(ck, "model.layers.3.embed_tokens.weight") ==
          checkpoint_find(ck, "model.embed_tokens.weight"));
    checkpoint_close(&ck);

    // A single file goes before an index, as in transformers.
    fixture_write_text(copy, INDEX, "{");
    ck = open_good(copy);
    checkpoint_close(&ck);
}

// --- values ------------------------------------------------------------------------------------

static void verify_refused(const char *piece, const char *other)
{
    struct checkpoint *ck = open_good(copy);
    struct fault fault = {0};
    CHECK(checkpoint_verify(ck, NULL, NULL, &fault) == -EBADMSG);
    if (!strstr(fault.text, piece) || !strstr(fault.text, other))
        fprintf(stderr, "expected \"%s\", \"%s\": %s\n", piece, other, fault.text);
    CHECK(strstr(fault.text, piece) && strstr(fault.text, other));
    checkpoint_close(&ck);
}

static int progress_stop(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    return done < total;
}

static void test_verify(void)
{
    static const float bad_scales[] = {0, -1, INFINITY, NAN};
    static const unsigned char nans[] = {0x7f, 0xff};
    const char scale[] = Q_A "_scale_inv";
    struct fault fault = {0};

    for (size_t i = 0; i < ARRAY_LEN(nans); i++) {
        copy_golden("v3-fp8");
        struct shard shard = shard_open(file_of(EXPERT_0));
        tensor_data(&shard, EXPERT_0)[1234] = (char)nans[i];
        shard_close(&shard);
        verify_refused(EXPERT_0, "element 1234 is a NaN code");
    }
    for (size_t i = 0; i < ARRAY_LEN(bad_scales); i++) {
        copy_golden("v3-fp8");
        struct shard shard = shard_open(file_of(scale));
        memcpy(tensor_data(&shard, scale), &bad_scales[i], sizeof(float));
        shard_close(&shard);
        verify_refused(scale, "element 0 is not a finite positive scale");
    }
    copy_golden("v3-fp8");
    struct shard shard = shard_open(file_of("model.norm.weight"));
    memcpy(tensor_data(&shard, "model.norm.weight") + 6, "\x80\x7f", 2); // BF16 infinity
    shard_close(&shard);
    verify_refused("model.norm.weight", "element 3 is not finite");

    struct checkpoint *ck = open_golden("v3-fp8");
    CHECK(checkpoint_verify(ck, progress_stop, NULL, &fault) == -ECANCELED);
    checkpoint_close(&ck);
}

static void test_nan_find(void)
{
    unsigned char codes[300];
    for (size_t i = 0; i < sizeof(codes); i++)
        codes[i] = (unsigned char)(i % 127 | (i & 1) << 7); // every code that is a number
    for (size_t n = 0; n <= sizeof(codes); n++)
        CHECK(checkpoint_fp8_nan_find(codes, n) == -1);
    for (size_t at = 0; at < sizeof(codes); at++) {
        unsigned char kept = codes[at];
        codes[at] = at % 2 ? 0x7f : 0xff;
        CHECK(checkpoint_fp8_nan_find(codes, sizeof(codes)) == (int64_t)at);
        CHECK(checkpoint_fp8_nan_find(codes, at) == -1);
        CHECK(checkpoint_fp8_nan_find(codes + at, 1) == 0);
        codes[at] = kept;
    }
    float scales[] = {1, 0x1p-149f, 3e38f, NAN};
    CHECK(checkpoint_scale_bad_find(scales, 3) == -1);
    CHECK(checkpoint_scale_bad_find(scales, 4) == 3);
}

static void test_dtypes(void)
{
    static const uint16_t bf16[] = {0x3f80, 0xc000, 0x0000, 0x7f80, 0x0001};
    static const uint16_t f16[] = {0x3c00, 0xc000, 0x8000, 0x7bff, 0x0001,
                                   0x7c00, 0xfc00, 0x7e00, 0x03ff, 0x0400};
    static const float f32[] = {1.5f, -0.0f};
    float out[10];

    CHECK(checkpoint_dtype_to_f32(DTYPE_BF16, bf16, 5, out) == 0);
    CHECK(out[0] == 1 && out[1] == -2 && out[2] == 0 && isinf(out[3]) && out[4] == 0x1p-133f);
    CHECK(checkpoint_dtype_to_f32(DTYPE_F16, f16, 10, out) == 0);
    CHECK(out[0] == 1 && out[1] == -2 && out[2] == 0 && signbit(out[2]));
    CHECK(out[3] == 65504 && out[4] == 0x1p-24f && isinf(out[5]) && out[5] > 0);
    CHECK(isinf(out[6]) && out[6] < 0 && isnan(out[7]));
    CHECK(out[8] == 1023 * 0x1p-24f && out[9] == 0x1p-14f);
    CHECK(checkpoint_dtype_to_f32(DTYPE_F32, f32, 2, out) == 0);
    CHECK(out[0] == 1.5f && signbit(out[1]));
    CHECK(checkpoint_dtype_to_f32(DTYPE_F8_E4M3, f32, 1, out) == -ENOTSUP);
    CHECK(checkpoint_dtype_to_f32(DTYPE_I32, f32, 1, out) == -ENOTSUP);
}

int main(void)
{
    CHECK(mkdtemp(root));
    snprintf(copy, sizeof(copy), "%s/copy", root);
    test_good();
    test_roles();
    test_files();
    test_index();
    test_tensors();
    test_not_served();
    test_tolerated();
    test_verify();
    test_nan_find();
    test_dtypes();
    copy_clear();
    CHECK(rmdir(root) == 0);
    return 0;
}
