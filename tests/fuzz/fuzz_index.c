// SPDX-License-Identifier: MIT
// Any bytes as model.safetensors.index.json beside two good shards: nothing outside the directory
// is opened, and it opens whole or one sentence says why not.
#include "tests/fuzz/small_checkpoint.h"

#define SHARDS 2u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const shards[SHARDS] = {"a.safetensors", "b.safetensors"};

static void stop(void)
{
    for (uint32_t s = 0; s < SHARDS; s++)
        small_unlink(shards[s]);
    small_unlink("model.safetensors.index.json");
    small_unlink("config.json");
    rmdir(small_dir);
}

// One tensor after another goes to one shard after another; scales go to the other one.
struct writer {
    FILE *header[SHARDS];
    uint64_t data[SHARDS];
    uint32_t n;
};

static void entry_write(struct writer *writer, uint32_t shard, const char *name, const char *dtype,
                        const char *shape, uint64_t bytes)
{
    FILE *out = writer->header[shard];
    fprintf(out, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%ju,%ju]}",
            writer->data[shard] ? "," : "{", name, dtype, shape, (uintmax_t)writer->data[shard],
            (uintmax_t)(writer->data[shard] + bytes));
    writer->data[shard] += bytes;
}

static int spec_write(const struct tensor_spec *spec, void *user)
{
    struct writer *writer = user;
    uint32_t shard = writer->n++ % SHARDS;
    char shape[64], name[TENSOR_NAME_MAX];
    bool fp8 = spec->kind == TENSOR_MATRIX;

    snprintf(shape, sizeof(shape), spec->kind == TENSOR_VECTOR ? "[%u]" : "[%u,%u]",
             spec->kind == TENSOR_VECTOR ? spec->cols : spec->rows, spec->cols);
    entry_write(writer, shard, spec->name, fp8 ? "F8_E4M3" : "BF16", shape,
                (uint64_t)spec->rows * spec->cols * (fp8 ? 1 : 2));
    tensor_spec_scale_name(spec, name);
    if (fp8)
        entry_write(writer, 1 - shard, name, "F32", "[1,1]", 4);
    return 0;
}

static void start(void)
{
    struct model_config config;
    struct writer writer = {0};
    char *text[SHARDS];
    size_t len[SHARDS];

    CHECK(mkdtemp(small_dir));
    atexit(stop);
    small_write("config.json", small_config, sizeof(small_config) - 1);
    CHECK(model_config_read(small_dir, &config, NULL) == 0);
    for (uint32_t s = 0; s < SHARDS; s++)
        CHECK((writer.header[s] = open_memstream(&text[s], &len[s])));
    CHECK(tensor_spec_each(&config, spec_write, &writer) == 0);
    for (uint32_t s = 0; s < SHARDS; s++) {
        fputc('}', writer.header[s]);
        CHECK(fclose(writer.header[s]) == 0);
        uint64_t header_len = len[s];
        char *file = calloc(1, 8 + len[s] + writer.data[s]);
        CHECK(file);
        memcpy(file, &header_len, 8);
        memcpy(file + 8, text[s], len[s]);
        small_write(shards[s], file, 8 + len[s] + writer.data[s]);
        free(file);
        free(text[s]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool started;
    if (!started) {
        started = true;
        start();
        // So small a map is no use, but shows that the shards are good.
        static const char both[] = "{\"weight_map\":{\"lm_head.weight\":\"a.safetensors\","
                                   "\"model.norm.weight\":\"b.safetensors\"}}";
        small_write("model.safetensors.index.json", both, sizeof(both) - 1);
        CHECK(small_open() == 0);
    }
    small_write("model.safetensors.index.json", data, size);
    small_open();
    return 0;
}
