// SPDX-License-Identifier: MIT
#include "model/checkpoint.h"

#include "model/file.h"
#include "model/json_file.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INDEX_NAME     "model.safetensors.index.json"
#define SINGLE_NAME    "model.safetensors"
#define PATH_BYTES_MAX 4096

// One descriptor each stays open; V3 has 163.
#define FILES_MAX 4096u

// V3's index has 9 MB and 0.2 million values.
static const struct json_limits index_limits = {
    .bytes_max = 100u * 1000u * 1000u, .depth_max = 8, .values_max = 4u << 20};

struct checkpoint {
    char *dir;
    struct model_config config;
    bool mtp_missing;
    struct safetensors **files; // [files_n]
    uint32_t files_n;
    const struct tensor **by_name; // [n], all files
    bool *used;                    // [n], same order
    uint32_t n;
};

// --- names -------------------------------------------------------------------------------------

// name_find returns the place of a name in by_name, or n.
static uint32_t name_find(const struct checkpoint *ck, const char *name)
{
    uint32_t low = 0, high = ck->n;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order = strcmp(name, ck->by_name[mid]->name);
        if (order == 0)
            return mid;
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return ck->n;
}

static const struct tensor *tensor_named(const struct checkpoint *ck, const char *name)
{
    uint32_t at = name_find(ck, name);
    return at < ck->n ? ck->by_name[at] : NULL;
}

static const char *tensor_file(const struct checkpoint *ck, const struct tensor *tensor)
{
    return file_label(safetensors_path(ck->files[tensor->file_idx]));
}

// layer_of returns L of "model.layers.L.", or UINT32_MAX; *ret_rest is what follows.
static uint32_t layer_of(const char *name, const char **ret_rest)
{
    static const char prefix[] = "model.layers.";
    size_t prefix_len = sizeof(prefix) - 1;
    uint32_t layer = 0;

    if (strncmp(name, prefix, prefix_len) != 0)
        return UINT32_MAX;
    const char *at = name + prefix_len;
    for (; *at >= '0' && *at <= '9' && layer < 100000; at++)
        layer = 10 * layer + (uint32_t)(*at - '0');
    if (at == name + prefix_len || *at != '.')
        return UINT32_MAX;
    *ret_rest = at + 1;
    return layer;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

// --- files -------------------------------------------------------------------------------------

static int compare_strings(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

// shard_name_check refuses what could leave the directory.
static int shard_name_check(const char *tensor, const char *file, struct fault *fault)
{
    if (!file)
        return fault_set(fault, EBADMSG, INDEX_NAME ": the file of tensor %.128s is not a string",
                         tensor);
    if (!*file || strchr(file, '/') || strcmp(file, ".") == 0 || strcmp(file, "..") == 0)
        return fault_set(fault, EBADMSG,
                         INDEX_NAME ": tensor %.128s is in \"%.100s\", which is not the name of a "
                                    "file in the same directory",
                         tensor, file);
    return 0;
}

// shard_names_collect gives the sorted distinct file names of the index.
//
// ret_names: [*ret_n], freed by the caller; the strings belong to map.
static int shard_names_collect(json_t *map, const char ***ret_names, uint32_t *ret_n,
                               struct fault *fault)
{
    const char **names = calloc(json_object_size(map) + 1, sizeof(*names));
    const char *tensor;
    json_t *value;
    size_t n = 0, kept = 0;

    if (!names)
        return fault_set(fault, ENOMEM, INDEX_NAME ": no memory for its names");
    json_object_foreach(map, tensor, value)
    {
        const char *file = json_string_value(value);
        int err = shard_name_check(tensor, file, fault);
        if (err < 0) {
            free(names);
            return err;
        }
        names[n++] = file;
    }
    qsort(names, n, sizeof(*names), compare_strings);
    for (size_t i = 0; i < n; i++)
        if (kept == 0 || strcmp(names[i], names[kept - 1]) != 0)
            names[kept++] = names[i];
    if (kept > FILES_MAX) {
        free(names);
        return fault_set(fault, EFBIG, INDEX_NAME ": %zu files; at most %u are served", kept,
                         FILES_MAX);
    }
    *ret_names = names;
    *ret_n = (uint32_t)kept;
    return 0;
}

static int path_join(const char *dir, const char *name, char *ret, struct fault *fault)
{
    if (snprintf(ret, PATH_BYTES_MAX, "%s/%s", dir, name) >= PATH_BYTES_MAX)
        return fault_set(fault, ENAMETOOLONG, "%s: the path is too long", file_label(dir));
    return 0;
}

static int files_open(struct checkpoint *ck, const char *const *names, uint32_t n,
                      struct fault *fault)
{
    char path[PATH_BYTES_MAX];

    ck->files = calloc(n + 1, sizeof(struct safetensors *));
    if (!ck->files)
        return fault_set(fault, ENOMEM, "%s: no memory for %u files", file_label(ck->dir), n);
    for (uint32_t i = 0; i < n; i++) {
        int err = path_join(ck->dir, names[i], path, fault);
        if (err == 0)
            err = safetensors_open(path, &ck->files[i], fault);
        if (err < 0)
            return err;
        safetensors_number(ck->files[i], i);
        ck->files_n++;
    }
    return 0;
}

static int compare_tensors(const void *a, const void *b)
{
    const struct tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int tensors_merge(struct checkpoint *ck, struct fault *fault)
{
    uint64_t n = 0;

    for (uint32_t f = 0; f < ck->files_n; f++)
        n += safetensors_count(ck->files[f]);
    if (n >= UINT32_MAX)
        return fault_set(fault, EFBIG, "%s: %" PRIu64 " tensors", file_label(ck->dir), n);
    ck->by_name = calloc(n + 1, sizeof(*ck->by_name));
    ck->used = calloc(n + 1, sizeof(*ck->used));
    if (!ck->by_name || !ck->used)
        return fault_set(fault, ENOMEM, "%s: no memory for %" PRIu64 " tensors",
                         file_label(ck->dir), n);
    for (uint32_t f = 0; f < ck->files_n; f++)
        for (uint32_t i = 0; i < safetensors_count(ck->files[f]); i++)
            ck->by_name[ck->n++] = safetensors_at(ck->files[f], i);
    qsort(ck->by_name, ck->n, sizeof(*ck->by_name), compare_tensors);

    for (uint32_t i = 1; i < ck->n; i++)
        if (strcmp(ck->by_name[i]->name, ck->by_name[i - 1]->name) == 0)
            return fault_set(fault, EBADMSG, "%s: tensor %.128s is also in %s",
                             tensor_file(ck, ck->by_name[i]), ck->by_name[i]->name,
                             tensor_file(ck, ck->by_name[i - 1]));
    return 0;
}

// index_compare checks that every tensor is in the file that the index names.
static int index_compare(const struct checkpoint *ck, json_t *map, struct fault *fault)
{
    const char *name;
    json_t *value;

    json_object_foreach(map, name, value)
    {
        const char *file = json_string_value(value);
        const struct tensor *tensor = tensor_named(ck, name);
        const char *path = tensor ? safetensors_path(ck->files[tensor->file_idx]) : "";
        if (!tensor || strcmp(path + strlen(ck->dir) + 1, file) != 0)
            return fault_set(fault, EBADMSG,
                             "%s/%.100s: " INDEX_NAME
                             " puts tensor %.128s here, but the file does not have it",
                             file_label(ck->dir), file, name);
    }
    return 0;
}

static int index_open(struct checkpoint *ck, const char *path, struct fault *fault)
{
    json_t *index = NULL;
    const char **names = NULL;
    uint32_t n = 0;

    int err = json_file_read(path, &index_limits, &index, fault);
    if (err < 0)
        return err;
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map)) {
        err = fault_set(fault, EBADMSG, "%s: weight_map is missing or not an object",
                        file_label(path));
        goto done;
    }
    err = shard_names_collect(map, &names, &n, fault);
    if (err < 0) {
        fault_prefix(fault, "%s", file_label(ck->dir));
        goto done;
    }
    err = files_open(ck, names, n, fault);
    if (err == -ENOENT)
        fault_prefix(fault, "a shard that " INDEX_NAME " names");
    if (err == 0)
        err = tensors_merge(ck, fault);
    if (err == 0)
        err = index_compare(ck, map, fault);
done:
    free(names);
    json_decref(index);
    return err;
}

static int weights_open(struct checkpoint *ck, struct fault *fault)
{
    static const char *const single[] = {SINGLE_NAME};
    char path[PATH_BYTES_MAX], index_path[PATH_BYTES_MAX];

    int err = path_join(ck->dir, SINGLE_NAME, path, fault);
    if (err == 0)
        err = path_join(ck->dir, INDEX_NAME, index_path, fault);
    if (err < 0)
        return err;
    if (access(path, F_OK) < 0 && access(index_path, F_OK) == 0)
        return index_open(ck, index_path, fault);
    if (access(path, F_OK) < 0)
        return fault_set(fault, ENOENT, "%s: neither " SINGLE_NAME " nor " INDEX_NAME,
                         file_label(ck->dir));
    err = files_open(ck, single, 1, fault);
    return err < 0 ? err : tensors_merge(ck, fault);
}

// --- what is not served ------------------------------------------------------------------------

static const struct {
    const char *part; // of a tensor's name
    const char *what;
} refusals[] = {
    {".indexer.", "the sparse attention indexer of DeepSeek-V3.2 is"},
    {".weight_packed", "packed int4 weights (compressed-tensors) are"},
    {".qweight", "packed weights (GPTQ, AWQ) are"},
    {".mlp.experts.gate_up_proj", "fused expert tensors are"},
    {".mlp.experts.down_proj", "fused expert tensors are"},
    {".self_attn.q_norm.", "per-head norms (Qwen3) are"},
    {".self_attn.k_norm.", "per-head norms (Qwen3) are"},
    {".lora_", "LoRA adapters are"},
};

static int names_check(const struct checkpoint *ck, struct fault *fault)
{
    for (uint32_t i = 0; i < ck->n; i++)
        for (size_t k = 0; k < sizeof(refusals) / sizeof(refusals[0]); k++)
            if (strstr(ck->by_name[i]->name, refusals[k].part))
                return fault_set(fault, ENOTSUP, "%s: tensor %.128s: %s not served",
                                 tensor_file(ck, ck->by_name[i]), ck->by_name[i]->name,
                                 refusals[k].what);
    return 0;
}

// unused_check refuses a bias that would change the result if it were ignored.
static int unused_check(const struct checkpoint *ck, struct fault *fault)
{
    for (uint32_t i = 0; i < ck->n; i++) {
        const char *name = ck->by_name[i]->name, *rest;
        if (!ck->used[i] && layer_of(name, &rest) < ck->config.num_hidden_layers &&
            ends_with(name, ".bias"))
            return fault_set(fault, ENOTSUP,
                             "%s: tensor %.128s: %s has no such bias here; it is not served",
                             tensor_file(ck, ck->by_name[i]), name, ck->config.architecture);
    }
    return 0;
}

// --- every tensor against the config -----------------------------------------------------------

static void shape_text(const struct tensor *tensor, char *buf, size_t bytes)
{
    size_t at = (size_t)snprintf(buf, bytes, "[");
    for (uint32_t i = 0; i < tensor->rank && at < bytes; i++)
        at += (size_t)snprintf(buf + at, bytes - at, "%s%" PRIu64, i ? ", " : "", tensor->shape[i]);
    if (at < bytes)
        snprintf(buf + at, bytes - at, "]");
}

// matrix_shape_check: a vector has rank 1, everything else rank 2.
static int matrix_shape_check(const struct checkpoint *ck, const struct tensor *tensor, bool vector,
                              uint32_t rows, uint32_t cols, struct fault *fault)
{
    char have[192], want[64];

    if (vector && tensor->rank == 1 && tensor->shape[0] == cols)
        return 0;
    if (!vector && tensor->rank == 2 && tensor->shape[0] == rows && tensor->shape[1] == cols)
        return 0;
    shape_text(tensor, have, sizeof(have));
    snprintf(want, sizeof(want), vector ? "[%u]" : "[%u, %u]", vector ? cols : rows, cols);
    return fault_set(fault, EBADMSG, "%s: tensor %.128s has shape %s; the config asks for %s",
                     tensor_file(ck, tensor), tensor->name, have, want);
}

static bool dtype_is_float(enum dtype dtype)
{
    return dtype == DTYPE_F32 || dtype == DTYPE_BF16 || dtype == DTYPE_F16;
}

static int dtype_check(const struct checkpoint *ck, const struct tensor *tensor,
                       enum tensor_kind kind, struct fault *fault)
{
    if (dtype_is_float(tensor->dtype))
        return 0;
    if (tensor->dtype == DTYPE_F8_E4M3 && kind == TENSOR_MATRIX && ck->config.fp8)
        return 0;
    if (tensor->dtype == DTYPE_F8_E4M3 && kind == TENSOR_MATRIX)
        return fault_set(fault, EBADMSG,
                         "%s: tensor %.128s is F8_E4M3, but config.json has no quantization_config",
                         tensor_file(ck, tensor), tensor->name);
    return fault_set(fault, ENOTSUP, "%s: tensor %.128s: dtype %s is not served for it",
                     tensor_file(ck, tensor), tensor->name, dtype_name[tensor->dtype]);
}

static int scale_check(const struct checkpoint *ck, const struct tensor_spec *spec,
                       const struct tensor *tensor, struct fault *fault)
{
    char name[TENSOR_NAME_MAX];
    tensor_spec_scale_name(spec, name);
    uint32_t at = name_find(ck, name);

    if (at == ck->n)
        return fault_set(fault, ENOENT, "%s: tensor %s is missing; %s needs it",
                         file_label(ck->dir), name, tensor->name);
    const struct tensor *scale = ck->by_name[at];
    ck->used[at] = true;
    if (scale->dtype != DTYPE_F32)
        return fault_set(fault, ENOTSUP, "%s: tensor %s: scales of dtype %s are not served",
                         tensor_file(ck, scale), name, dtype_name[scale->dtype]);
    return matrix_shape_check(ck, scale, false, tensor_scale_blocks(spec->rows),
                              tensor_scale_blocks(spec->cols), fault);
}

struct check {
    struct checkpoint *ck;
    struct fault *fault;
};

static int spec_check(const struct tensor_spec *spec, void *user)
{
    struct check *check = user;
    const struct checkpoint *ck = check->ck;
    uint32_t at = name_find(ck, spec->name);

    if (at == ck->n)
        return fault_set(check->fault, ENOENT, "%s: tensor %s is missing", file_label(ck->dir),
                         spec->name);
    const struct tensor *tensor = ck->by_name[at];
    ck->used[at] = true;
    int err = dtype_check(ck, tensor, spec->kind, check->fault);
    if (err == 0)
        err = matrix_shape_check(ck, tensor, spec->kind == TENSOR_VECTOR, spec->rows, spec->cols,
                                 check->fault);
    if (err == 0 && tensor->dtype == DTYPE_F8_E4M3)
        err = scale_check(ck, spec, tensor, check->fault);
    return err;
}

// mtp_settle takes the MTP layer out of the config when no file has a tensor of it.  Its copies of
// embedding and head do not make a layer.
static void mtp_settle(struct checkpoint *ck)
{
    if (!ck->config.num_nextn_predict_layers)
        return;
    for (uint32_t i = 0; i < ck->n; i++) {
        const char *rest;
        if (layer_of(ck->by_name[i]->name, &rest) == ck->config.num_hidden_layers &&
            strcmp(rest, "embed_tokens.weight") != 0 &&
            strcmp(rest, "shared_head.head.weight") != 0)
            return;
    }
    ck->config.num_nextn_predict_layers = 0;
    ck->mtp_missing = true;
}

// --- public ------------------------------------------------------------------------------------

static int checkpoint_load(struct checkpoint *ck, struct fault *fault)
{
    int err = model_config_read(ck->dir, &ck->config, fault);
    if (err == 0)
        err = weights_open(ck, fault);
    if (err == 0)
        err = names_check(ck, fault);
    if (err < 0)
        return err;
    mtp_settle(ck);
    err = tensor_spec_each(&ck->config, spec_check, &(struct check){ck, fault});
    return err < 0 ? err : unused_check(ck, fault);
}

int checkpoint_open(const char *dir, struct checkpoint **ret, struct fault *fault)
{
    struct checkpoint *ck = calloc(1, sizeof(*ck));
    if (ck)
        ck->dir = strdup(dir);
    if (!ck || !ck->dir) {
        checkpoint_close(&ck);
        return fault_set(fault, ENOMEM, "%s: no memory", file_label(dir));
    }
    int err = checkpoint_load(ck, fault);
    if (err < 0) {
        checkpoint_close(&ck);
        return err;
    }
    *ret = ck;
    return 0;
}

void checkpoint_close(struct checkpoint **ck_at)
{
    struct checkpoint *ck = *ck_at;
    if (!ck)
        return;
    for (uint32_t i = 0; ck->files && i < ck->files_n; i++)
        safetensors_close(&ck->files[i]);
    free(ck->files);
    free(ck->by_name);
    free(ck->used);
    free(ck->dir);
    free(ck);
    *ck_at = NULL;
}

const char *checkpoint_dir(const struct checkpoint *ck)
{
    return ck->dir;
}

const struct model_config *checkpoint_config(const struct checkpoint *ck)
{
    return &ck->config;
}

bool checkpoint_mtp_missing(const struct checkpoint *ck)
{
    return ck->mtp_missing;
}

uint32_t checkpoint_file_count(const struct checkpoint *ck)
{
    return ck->files_n;
}

const struct safetensors *checkpoint_file(const struct checkpoint *ck, uint32_t file_idx)
{
    assert(file_idx < ck->files_n);
    return ck->files[file_idx];
}

const struct tensor *checkpoint_find(const struct checkpoint *ck, const char *name)
{
    const char *rest;
    bool mtp = ck->config.num_nextn_predict_layers > 0 &&
               layer_of(name, &rest) == ck->config.num_hidden_layers;

    if (mtp && strcmp(rest, "embed_tokens.weight") == 0)
        name = "model.embed_tokens.weight";
    if (mtp && strcmp(rest, "shared_head.head.weight") == 0)
        name = "lm_head.weight";
    if (ck->config.tie_word_embeddings && strcmp(name, "lm_head.weight") == 0)
        name = "model.embed_tokens.weight";
    return tensor_named(ck, name);
}

bool checkpoint_uses(const struct checkpoint *ck, const struct tensor *tensor)
{
    uint32_t at = name_find(ck, tensor->name);
    return at < ck->n && ck->used[at];
}

int checkpoint_get(const struct checkpoint *ck, enum tensor_role role, uint32_t layer,
                   uint32_t expert, struct tensor_spec *ret_spec, const struct tensor **ret_tensor,
                   const struct tensor **ret_scale)
{
    struct tensor_spec spec;
    char scale_name[TENSOR_NAME_MAX];

    int err = tensor_spec_get(&ck->config, role, layer, expert, &spec);
    if (err < 0)
        return err;
    const struct tensor *tensor = tensor_named(ck, spec.name), *scale = NULL;
    assert(tensor); // checkpoint_open looked at all of them
    if (tensor->dtype == DTYPE_F8_E4M3) {
        tensor_spec_scale_name(&spec, scale_name);
        scale = tensor_named(ck, scale_name);
        assert(scale);
    }
    if (ret_spec)
        *ret_spec = spec;
    if (ret_tensor)
        *ret_tensor = tensor;
    if (ret_scale)
        *ret_scale = scale;
    return 0;
}

int checkpoint_read(const struct checkpoint *ck, const struct tensor *tensor, uint64_t off,
                    void *dst, size_t bytes, struct fault *fault)
{
    return safetensors_read(ck->files[tensor->file_idx], tensor, off, dst, bytes, fault);
}

// --- values ------------------------------------------------------------------------------------

// word_has_nan: 0x7f + 1 carries into bit 7 of its own byte only.
static uint64_t word_has_nan(uint64_t word)
{
    return ((word & 0x7f7f7f7f7f7f7f7full) + 0x0101010101010101ull) & 0x8080808080808080ull;
}

int64_t checkpoint_fp8_nan_find(const void *codes, uint64_t bytes)
{
    const uint8_t *at = codes;
    uint64_t i = 0;

    for (; i + 16 <= bytes; i += 16) {
        uint64_t words[2];
        memcpy(words, at + i, sizeof(words));
        if (word_has_nan(words[0]) | word_has_nan(words[1]))
            break;
    }
    for (; i < bytes; i++)
        if ((at[i] & 0x7f) == 0x7f)
            return (int64_t)i;
    return -1;
}

int64_t checkpoint_scale_bad_find(const float *scales, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (!(isfinite(scales[i]) && scales[i] > 0))
            return (int64_t)i;
    return -1;
}

static float f32_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float f32_from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;

    if (rest >= 0x7c00) // infinity and NaN
        return f32_from_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    // The exponent's bias differs by 112; a power of two is exact, subnormals included.
    float magnitude = f32_from_bits(rest << 13) * 0x1p112f;
    return sign ? -magnitude : magnitude;
}

int checkpoint_dtype_to_f32(enum dtype dtype, const void *src, uint64_t n, float *dst)
{
    const unsigned char *bytes = src;
    uint16_t raw;

    switch (dtype) {
    case DTYPE_F32:
        memcpy(dst, src, (size_t)n * sizeof(*dst));
        return 0;
    case DTYPE_BF16:
        for (uint64_t i = 0; i < n; i++) {
            memcpy(&raw, bytes + 2 * i, sizeof(raw));
            dst[i] = f32_from_bits((uint32_t)raw << 16);
        }
        return 0;
    case DTYPE_F16:
        for (uint64_t i = 0; i < n; i++) {
            memcpy(&raw, bytes + 2 * i, sizeof(raw));
            dst[i] = f32_from_f16(raw);
        }
        return 0;
    default:
        return -ENOTSUP;
    }
}

// --- verify ------------------------------------------------------------------------------------

#define VERIFY_BYTES (8u << 20)

struct verify {
    const struct checkpoint *ck;
    size_t chunk;   // bytes read at once
    uint64_t total; // bytes in all
    void *raw;      // [chunk]
    float *values;  // [chunk / 2]: BF16 has two bytes
    struct fault *fault;
};

static int verify_bad(const struct verify *verify, const struct tensor *tensor, uint64_t element,
                      const char *what)
{
    return fault_set(verify->fault, EBADMSG, "%s: tensor %.128s: element %" PRIu64 " is %s",
                     tensor_file(verify->ck, tensor), tensor->name, element, what);
}

// verify_chunk looks at `bytes` bytes of a tensor that begin at element `first`.
static int verify_chunk(const struct verify *verify, const struct tensor *tensor, uint64_t first,
                        size_t bytes)
{
    int64_t bad;
    uint64_t n = bytes / dtype_bytes[tensor->dtype];

    if (tensor->dtype == DTYPE_F8_E4M3) {
        bad = checkpoint_fp8_nan_find(verify->raw, bytes);
        return bad < 0 ? 0 : verify_bad(verify, tensor, first + (uint64_t)bad, "a NaN code");
    }
    int err = checkpoint_dtype_to_f32(tensor->dtype, verify->raw, n, verify->values);
    assert(err == 0); // checkpoint_open lets no other dtype through
    if (ends_with(tensor->name, "_scale_inv")) {
        bad = checkpoint_scale_bad_find(verify->values, n);
        if (bad >= 0)
            err = verify_bad(verify, tensor, first + (uint64_t)bad, "not a finite positive scale");
        return err;
    }
    for (uint64_t i = 0; i < n; i++)
        if (!isfinite(verify->values[i]))
            return verify_bad(verify, tensor, first + i, "not finite");
    return 0;
}

// used_bytes sums the tensors that are used; *ret_largest is the largest.
static uint64_t used_bytes(const struct checkpoint *ck, uint64_t *ret_largest)
{
    uint64_t bytes = 0, largest = 0;
    for (uint32_t i = 0; i < ck->n; i++) {
        uint64_t of_one = ck->used[i] ? ck->by_name[i]->bytes : 0;
        bytes += of_one;
        largest = of_one > largest ? of_one : largest;
    }
    *ret_largest = largest;
    return bytes;
}

static int verify_files(const struct verify *verify,
                        int (*progress)(void *user, uint64_t done, uint64_t total), void *user)
{
    const struct checkpoint *ck = verify->ck;
    uint64_t done = 0;

    for (uint32_t f = 0; f < ck->files_n; f++)
        for (uint32_t i = 0; i < safetensors_count(ck->files[f]); i++) {
            const struct tensor *tensor = safetensors_at(ck->files[f], i);
            if (!checkpoint_uses(ck, tensor))
                continue;
            for (uint64_t off = 0; off < tensor->bytes; off += verify->chunk) {
                uint64_t left = tensor->bytes - off;
                size_t bytes = left < verify->chunk ? (size_t)left : verify->chunk;
                int err = checkpoint_read(ck, tensor, off, verify->raw, bytes, verify->fault);
                if (err == 0)
                    err = verify_chunk(verify, tensor, off / dtype_bytes[tensor->dtype], bytes);
                if (err < 0)
                    return err;
                done += bytes;
                if (progress && progress(user, done, verify->total))
                    return fault_set(verify->fault, ECANCELED, "%s: stopped", file_label(ck->dir));
            }
        }
    return 0;
}

int checkpoint_verify(const struct checkpoint *ck,
                      int (*progress)(void *user, uint64_t done, uint64_t total), void *user,
                      struct fault *fault)
{
    struct verify verify = {.ck = ck, .fault = fault};
    uint64_t largest;
    int err;

    verify.total = used_bytes(ck, &largest);
    verify.chunk = largest < VERIFY_BYTES ? (size_t)largest : VERIFY_BYTES;
    verify.raw = malloc(verify.chunk + 1);
    verify.values = malloc((verify.chunk / 2 + 1) * sizeof(*verify.values));
    if (verify.raw && verify.values)
        err = verify_files(&verify, progress, user);
    else
        err = fault_set(fault, ENOMEM, "%s: no memory", file_label(ck->dir));
    free(verify.raw);
    free(verify.values);
    return err;
}
