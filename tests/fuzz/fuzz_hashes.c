// SPDX-License-Identifier: MIT
// Any bytes as the list of hashes of a small checkpoint: taken whole, or refused with a sentence
// and nothing of it known.  Each input is tried a second time with head and checksum that fit.
#include "model/checksum.h"
#include "model/hashes.h"
#include "tests/fuzz/small_checkpoint.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct hashes *list;
static uint8_t *good; // an empty list as it is saved
static size_t good_n;

static void stop(void)
{
    hashes_destroy(&list);
    free(good);
    small_unlink("model.safetensors");
    small_unlink("config.json");
    small_unlink("list");
    rmdir(small_dir);
}

// One tensor after another, all in one file.
struct writer {
    FILE *header;
    uint64_t data;
};

static void entry_write(struct writer *writer, const char *name, const char *dtype,
                        const char *shape, uint64_t bytes)
{
    fprintf(writer->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%ju,%ju]}",
            writer->data ? "," : "{", name, dtype, shape, (uintmax_t)writer->data,
            (uintmax_t)(writer->data + bytes));
    writer->data += bytes;
}

static int spec_write(const struct tensor_spec *spec, void *user)
{
    char shape[64], name[TENSOR_NAME_MAX];
    bool fp8 = spec->kind == TENSOR_MATRIX;

    snprintf(shape, sizeof(shape), spec->kind == TENSOR_VECTOR ? "[%u]" : "[%u,%u]",
             spec->kind == TENSOR_VECTOR ? spec->cols : spec->rows, spec->cols);
    entry_write(user, spec->name, fp8 ? "F8_E4M3" : "BF16", shape,
                (uint64_t)spec->rows * spec->cols * (fp8 ? 1 : 2));
    tensor_spec_scale_name(spec, name);
    if (fp8)
        entry_write(user, name, "F32", "[1,1]", 4);
    return 0;
}

static void checkpoint_write(void)
{
    struct model_config config;
    struct writer writer = {0};
    char *text;
    size_t len;

    small_write("config.json", small_config, sizeof(small_config) - 1);
    CHECK(model_config_read(small_dir, &config, NULL) == 0);
    CHECK((writer.header = open_memstream(&text, &len)));
    CHECK(tensor_spec_each(&config, spec_write, &writer) == 0);
    fputc('}', writer.header);
    CHECK(fclose(writer.header) == 0);
    uint64_t header_len = len;
    uint8_t *file = calloc(1, 8 + len + writer.data);
    CHECK(file);
    memcpy(file, &header_len, 8);
    memcpy(file + 8, text, len);
    small_write("model.safetensors", file, 8 + len + writer.data);
    free(file);
    free(text);
}

static void path_make(char ret[128])
{
    snprintf(ret, 128, "%s/list", small_dir);
}

static void start(void)
{
    struct checkpoint *ck = NULL;
    char path[128];

    CHECK(mkdtemp(small_dir));
    atexit(stop);
    checkpoint_write();
    CHECK(checkpoint_open(small_dir, &ck, NULL) == 0);
    CHECK(hashes_create(ck, &list, NULL) == 0);
    checkpoint_close(&ck);
    path_make(path);
    CHECK(hashes_save(list, path, NULL) == 0);
    FILE *file = fopen(path, "rb");
    CHECK(file && (good = malloc(4096)));
    good_n = fread(good, 1, 4096, file);
    fclose(file);
    CHECK(hashes_n(list) == 4 && good_n == 64 + 1 + 4 * 16 + 16);
}

static void one(const uint8_t *data, size_t size)
{
    struct fault fault = {0};
    char path[128];
    uint32_t known = 0;

    small_write("list", data, size);
    path_make(path);
    int err = hashes_load(list, path, &fault);
    for (uint32_t i = 0; i < hashes_n(list); i++)
        known += hashes_get(list, i) != NULL;
    CHECK(known == hashes_known(list));
    CHECK(err == 0 || (err == -EBADMSG && known == 0 && fault.text[0]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!list)
        start();
    one(data, size);
    if (size > 4096 || size < good_n)
        return 0;
    uint8_t fits[4096];
    memcpy(fits, data, size);
    memcpy(fits, good, 64);
    checksum_of(fits, good_n - 16, fits + good_n - 16);
    one(fits, good_n);
    CHECK(hashes_known(list) == (uint32_t)__builtin_popcount(fits[64] & 15));
    return 0;
}
