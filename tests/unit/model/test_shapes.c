// SPDX-License-Identifier: MIT
// shapes: checkpoints with dimensions at the edges of what the config allows.  Each is refused with
// a word that names the dimension, or computes: finite logits, the same bits for a prompt as a
// whole, in chunks, beside another sequence, and for any context_max; both load paths agree.
#include "model/engine.h"
#include "model/tensors.h"
#include "tests/unit/model/fixture.h"

#include <math.h>

#define PROMPT    13u
#define VOCAB_MAX 520u

struct shape {
    const char *name;
    const char *base, *changes; // JSON objects
    const char *refused;        // a word of the sentence; NULL: it is served
};

#define FP8                                                                                        \
    "\"quantization_config\": {\"activation_scheme\": \"dynamic\", \"fmt\": \"e4m3\","             \
    " \"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}"

static const char mla[] =
    "{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"model_type\": \"deepseek_v3\","
    " \"hidden_size\": 64, \"intermediate_size\": 96, \"moe_intermediate_size\": 32,"
    " \"num_hidden_layers\": 2, \"first_k_dense_replace\": 1, \"num_attention_heads\": 4,"
    " \"num_key_value_heads\": 4, \"q_lora_rank\": 24, \"kv_lora_rank\": 32,"
    " \"qk_nope_head_dim\": 16, \"qk_rope_head_dim\": 8, \"v_head_dim\": 16,"
    " \"n_routed_experts\": 8, \"num_experts_per_tok\": 2, \"n_group\": 2, \"topk_group\": 1,"
    " \"n_shared_experts\": 1, \"norm_topk_prob\": true, \"routed_scaling_factor\": 2.5,"
    " \"scoring_func\": \"sigmoid\", \"topk_method\": \"noaux_tc\", \"vocab_size\": 64,"
    " \"max_position_embeddings\": 4096, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000}";
static const char llama[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 64,"
    " \"intermediate_size\": 96, \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"
    " \"num_key_value_heads\": 2, \"head_dim\": 16, \"vocab_size\": 64,"
    " \"max_position_embeddings\": 4096, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000}";

static const struct shape shapes[] = {
    {"mla", mla, "{}", NULL},
    {"mla-fp8", mla, "{" FP8 "}", NULL},
    {"one head", mla, "{\"num_attention_heads\": 1, \"num_key_value_heads\": 1}", NULL},
    {"three heads", mla, "{\"num_attention_heads\": 3, \"v_head_dim\": 5}", NULL},
    {"v_head_dim 1", mla, "{\"v_head_dim\": 1, " FP8 "}", NULL},
    {"hidden 4", mla, "{\"hidden_size\": 4}", NULL},
    {"hidden 36", mla, "{\"hidden_size\": 36, " FP8 "}", NULL},
    {"hidden 6", mla, "{\"hidden_size\": 6}", "hidden_size"},
    {"kv_lora 8", mla, "{\"kv_lora_rank\": 8}", NULL},
    {"kv_lora 24", mla, "{\"kv_lora_rank\": 24, " FP8 "}", NULL},
    {"kv_lora 4", mla, "{\"kv_lora_rank\": 4}", "kv_lora_rank"},
    {"q_lora 1", mla, "{\"q_lora_rank\": 1}", NULL},
    {"q_lora 7", mla, "{\"q_lora_rank\": 7, " FP8 "}", NULL},
    {"q_lora null", mla, "{\"q_lora_rank\": null, \"num_attention_heads\": 3}", NULL},
    {"nope 4", mla, "{\"qk_nope_head_dim\": 4, " FP8 "}", NULL},
    {"nope 12", mla, "{\"qk_nope_head_dim\": 12, \"v_head_dim\": 3}", NULL},
    {"nope 2", mla, "{\"qk_nope_head_dim\": 2}", "qk_nope_head_dim"},
    {"rope 4", mla, "{\"qk_rope_head_dim\": 4}", "qk_rope_head_dim"},
    {"rope 24", mla, "{\"qk_rope_head_dim\": 24, \"rope_interleave\": false}", NULL},
    {"vocab 7", mla, "{\"vocab_size\": 7}", NULL},
    {"vocab 515", mla, "{\"vocab_size\": 515, \"tie_word_embeddings\": true}", NULL},
    {"inter 1", mla, "{\"moe_intermediate_size\": 1, \"intermediate_size\": 1}", NULL},
    {"inter 17", mla, "{\"moe_intermediate_size\": 17, \"intermediate_size\": 131, " FP8 "}", NULL},
    {"shared 2", mla, "{\"moe_intermediate_size\": 24, \"n_shared_experts\": 2, " FP8 "}", NULL},
    {"shared 3", mla, "{\"moe_intermediate_size\": 100, \"n_shared_experts\": 3, " FP8 "}", NULL},
    {"shared 0", mla, "{\"n_shared_experts\": 0, " FP8 "}", NULL},
    {"experts 1024", mla,
     "{\"hidden_size\": 8, \"moe_intermediate_size\": 4, \"n_routed_experts\": 1024,"
     " \"num_experts_per_tok\": 64, \"n_group\": 32, \"topk_group\": 2}",
     NULL},
    {"experts 1028", mla,
     "{\"hidden_size\": 8, \"moe_intermediate_size\": 4, \"n_routed_experts\": 1028}",
     "1024 experts"},
    {"experts 1", mla,
     "{\"n_routed_experts\": 1, \"num_experts_per_tok\": 1, \"n_group\": 1, \"topk_group\": 1}",
     NULL},
    {"experts 6 of 6", mla,
     "{\"n_routed_experts\": 6, \"num_experts_per_tok\": 6, \"n_group\": 3, \"topk_group\": 3}",
     NULL},
    {"experts 9 in 3", mla,
     "{\"n_routed_experts\": 9, \"num_experts_per_tok\": 3, \"n_group\": 3, \"topk_group\": 1,"
     " \"norm_topk_prob\": false}",
     NULL},
    {"k too large", mla, "{\"num_experts_per_tok\": 5}", "num_experts_per_tok"},
    {"groups do not divide", mla, "{\"n_group\": 3}", "n_group"},
    {"dense only", mla, "{\"n_routed_experts\": null}", NULL},
    {"all moe", mla, "{\"first_k_dense_replace\": 0, \"moe_layer_freq\": 2}", NULL},
    {"llama", llama, "{}", NULL},
    {"llama heads 1 of 8", llama,
     "{\"num_attention_heads\": 1, \"num_key_value_heads\": 1, \"head_dim\": 8}", NULL},
    {"llama heads 3 of 8", llama,
     "{\"num_attention_heads\": 3, \"num_key_value_heads\": 3, \"head_dim\": 8}", NULL},
    {"llama heads 9 over 3 of 24", llama,
     "{\"num_attention_heads\": 9, \"num_key_value_heads\": 3, \"head_dim\": 24}", NULL},
    {"llama head_dim 12", llama, "{\"head_dim\": 12}", "head_dim"},
    {"llama inter 5", llama, "{\"intermediate_size\": 5, \"hidden_size\": 20}", NULL},
};

/* ------------------------------------------------------------ a checkpoint */

struct writer {
    FILE *data;
    json_t *header;
    uint64_t at, random;
    bool fp8;
};

static float unit(struct writer *w) // about -1.7 .. 1.7, variance 1
{
    return ((float)(check_random(&w->random) >> 40) * 0x1p-24f - 0.5f) * 3.46f;
}

static void entry_add(struct writer *w, const char *name, const char *dtype, uint32_t rank,
                      uint64_t rows, uint64_t cols, uint64_t bytes)
{
    json_t *shape = rank == 1 ? json_pack("[I]", (json_int_t)cols)
                              : json_pack("[I,I]", (json_int_t)rows, (json_int_t)cols);
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtype, "shape", shape, "data_offsets",
                              (json_int_t)w->at, (json_int_t)(w->at + bytes));
    CHECK(entry && json_object_set_new(w->header, name, entry) == 0);
    w->at += bytes;
}

static void f32_put(struct writer *w, float value)
{
    CHECK(fwrite(&value, 4, 1, w->data) == 1);
}

static int tensor_write(const struct tensor_spec *spec, void *user)
{
    struct writer *w = user;
    uint64_t n = (uint64_t)spec->rows * spec->cols;
    float std = 1.0f / sqrtf((float)spec->cols);
    if (!w->fp8 || spec->kind != TENSOR_MATRIX) {
        entry_add(w, spec->name, "F32", spec->kind == TENSOR_VECTOR ? 1 : 2, spec->rows, spec->cols,
                  4 * n);
        for (uint64_t i = 0; i < n; i++)
            f32_put(w, spec->kind == TENSOR_VECTOR
                           ? 1.0f + 0.1f * unit(w)
                           : unit(w) * (spec->role == ROLE_EMBED ? 1 : std));
        return 0;
    }
    char scale[TENSOR_NAME_MAX];
    entry_add(w, spec->name, "F8_E4M3", 2, spec->rows, spec->cols, n);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t code = (uint32_t)(check_random(&w->random) >> 32) & 0xff;
        fputc((int)((code & 0x7f) == 0x7f ? code - 1 : code), w->data);
    }
    tensor_spec_scale_name(spec, scale);
    uint64_t srows = tensor_scale_blocks(spec->rows), scols = tensor_scale_blocks(spec->cols);
    entry_add(w, scale, "F32", 2, srows, scols, 4 * srows * scols);
    for (uint64_t i = 0; i < srows * scols; i++) // codes have a standard deviation of about 90
        f32_put(w, std / 90.0f * (1.0f + 0.3f * unit(w)));
    return 0;
}

// checkpoint_write makes dir a checkpoint of the shape.  Returns false if the config is refused.
static bool checkpoint_write(const char *dir, const struct shape *shape, struct fault *fault)
{
    struct model_config config;
    json_t *json = json_loads(shape->base, 0, NULL), *changes = json_loads(shape->changes, 0, NULL);
    CHECK(json && changes && json_object_update(json, changes) == 0);
    char *text = json_dumps(json, 0);
    fixture_write_text(dir, "config.json", text);
    free(text);
    json_decref(json);
    json_decref(changes);
    if (model_config_read(dir, &config, fault) < 0)
        return false;

    char path[4096];
    struct writer w = {.header = json_object(), .random = 7, .fp8 = config.fp8};
    char *data = NULL;
    size_t data_n = 0;
    w.data = open_memstream(&data, &data_n);
    CHECK(w.header && w.data && tensor_spec_each(&config, tensor_write, &w) == 0);
    CHECK(fclose(w.data) == 0 && data_n == w.at);
    char *header = json_dumps(w.header, JSON_COMPACT);
    uint64_t header_n = strlen(header);
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    FILE *file = fopen(path, "wb");
    CHECK(file && fwrite(&header_n, 8, 1, file) == 1);
    CHECK(fwrite(header, 1, header_n, file) == header_n);
    CHECK(fwrite(data, 1, data_n, file) == data_n && fclose(file) == 0);
    free(header);
    free(data);
    json_decref(w.header);
    return true;
}

/* ------------------------------------------------------------------- runs */

struct run {
    struct engine *engine;
    uint32_t vocab;
};

// Puts n rows of a sequence from position `from` into rows; tokens depend on seed and position.
static uint32_t rows_put(const struct run *r, struct engine_row *rows, uint32_t seq, uint32_t seed,
                         uint32_t from, uint32_t n)
{
    CHECK(engine_seq_reserve(r->engine, seq, from + n) == 0);
    for (uint32_t i = 0; i < n; i++)
        rows[i] =
            (struct engine_row){.token = ((from + i) * 2654435761u + seed * 40503u) % r->vocab,
                                .seq = seq,
                                .position = from + i,
                                .want_logits = true};
    return n;
}

// step computes rows and copies those of sequence seq to logits[position].
static void step(const struct run *r, const struct engine_row *rows, uint32_t n, uint32_t seq,
                 float *logits)
{
    struct fault fault = {0};
    const float *got = NULL;
    int err = engine_step(r->engine, rows, n, &got, &fault);
    if (err)
        fprintf(stderr, "%s\n", fault.text);
    CHECK(err == 0);
    for (uint32_t i = 0; i < n; i++)
        if (rows[i].seq == seq)
            memcpy(logits + (size_t)rows[i].position * r->vocab, got + (size_t)i * r->vocab,
                   r->vocab * sizeof(float));
}

static void prompt_whole(const struct run *r, float *logits)
{
    struct engine_row rows[32];
    step(r, rows, rows_put(r, rows, 0, 1, 0, PROMPT), 0, logits);
    engine_seq_truncate(r->engine, 0, 0);
}

// Chunks beside another sequence that is longer, then single rows.
static void prompt_chunks(const struct run *r, float *logits)
{
    struct engine_row rows[32];
    uint32_t at = 0, other = 0;
    static const uint32_t chunk[] = {5, 1, 3};
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t n = rows_put(r, rows, 1, 2, other, 9);
        n += rows_put(r, rows + n, 2, 1, at, chunk[i]);
        step(r, rows, n, 2, logits);
        other += 9;
        at += chunk[i];
    }
    for (; at < PROMPT; at++)
        step(r, rows, rows_put(r, rows, 2, 1, at, 1), 2, logits);
    engine_seq_truncate(r->engine, 1, 0);
    engine_seq_truncate(r->engine, 2, 0);
}

static bool engine_get(const struct checkpoint *ck, const char *cache, enum engine_loads loads,
                       enum numerics numerics, enum kv_type kv_type, uint32_t context,
                       struct run *ret, struct fault *fault)
{
    struct engine_params params = {.pipeline_cache = cache,
                                   .loads = loads,
                                   .numerics = numerics,
                                   .kv_type = kv_type,
                                   .sequences_max = 3,
                                   .context_max = context,
                                   .batch_rows_max = 32,
                                   .logits_rows_max = 32,
                                   .mtp = true};
    ret->vocab = checkpoint_config(ck)->vocab_size;
    return engine_open(ck, &params, &ret->engine, fault) == 0;
}

static int differs(const char *what, const float *a, const float *b, size_t n, float tolerance)
{
    float top = 0.0f, worst = 0.0f;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i])) {
            printf("  %s: value %zu is not finite\n", what, i);
            return 1;
        }
        top = fmaxf(top, fabsf(a[i]));
        worst = fmaxf(worst, fabsf(a[i] - b[i]));
    }
    bool same = tolerance > 0.0f ? worst <= tolerance * top : !memcmp(a, b, n * sizeof(float));
    if (!same || top == 0.0f)
        printf("  %s: differs by %g of %g\n", what, (double)worst, (double)top);
    return !same || top == 0.0f;
}

// Compares everything of one (load path, numerics); leaves the logits in ret.
static int path_run(const struct checkpoint *ck, const char *cache, enum engine_loads loads,
                    enum numerics numerics, float *ret, struct fault *fault)
{
    static float chunks[PROMPT * VOCAB_MAX], again[PROMPT * VOCAB_MAX], longer[PROMPT * VOCAB_MAX];
    size_t n = (size_t)PROMPT * checkpoint_config(ck)->vocab_size;
    struct run r = {0};
    if (!engine_get(ck, cache, loads, numerics, KV_F16, 64, &r, fault))
        return -1;
    prompt_whole(&r, ret);
    prompt_chunks(&r, chunks);
    prompt_whole(&r, again);
    engine_close(&r.engine);
    int bad = differs("chunks", ret, chunks, n, 0) + differs("again", ret, again, n, 0);
    if (loads != ENGINE_LOADS_TEXEL || numerics != NUMERICS_FP8_WEIGHTS)
        return bad;
    if (!engine_get(ck, cache, loads, numerics, KV_F16, 600, &r, fault))
        return -1;
    prompt_whole(&r, longer);
    engine_close(&r.engine);
    return bad + differs("context_max 600", ret, longer, n, 0);
}

static int shape_run(const char *dir, const char *cache, const struct shape *shape)
{
    static float texel[PROMPT * VOCAB_MAX], address[PROMPT * VOCAB_MAX];
    struct fault fault = {0};
    struct checkpoint *ck = NULL;
    int bad = 0;
    bool open = checkpoint_write(dir, shape, &fault) && checkpoint_open(dir, &ck, &fault) == 0;
    for (int numerics = 0; open && numerics < (checkpoint_config(ck)->fp8 ? 2 : 1); numerics++) {
        int err = path_run(ck, cache, ENGINE_LOADS_TEXEL, (enum numerics)numerics, texel, &fault);
        if (err >= 0) {
            bad += err;
            err =
                path_run(ck, cache, ENGINE_LOADS_ADDRESS, (enum numerics)numerics, address, &fault);
        }
        open = err >= 0;
        if (!open)
            break;
        // Quantised activations turn a last bit into a code.
        bad += err + differs("paths", texel, address,
                             (size_t)PROMPT * checkpoint_config(ck)->vocab_size,
                             numerics == NUMERICS_OFFICIAL_FP8 ? 0.2f : 1e-3f);
    }
    checkpoint_close(&ck);
    if (open == (shape->refused != NULL) || (!open && !strstr(fault.text, shape->refused)))
        bad++;
    if (bad || !open)
        printf("%s: %s%s\n", shape->name, bad ? "WRONG " : "", open ? "" : fault.text);
    return bad;
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/expertd-shapes-XXXXXX", cache[64], path[96];
    CHECK(mkdtemp(dir));
    snprintf(cache, sizeof(cache), "%s/pipelines", dir);
    int bad = 0;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        if (argc < 2 || strstr(shapes[i].name, argv[1]))
            bad += shape_run(dir, cache, &shapes[i]);
    static const char *const files[] = {"config.json", "model.safetensors", "pipelines"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        unlink(path);
    }
    rmdir(dir);
    CHECK(bad == 0);
    return 0;
}
