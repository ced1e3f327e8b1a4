// SPDX-License-Identifier: MIT
#include "model/safetensors.h"

#include "model/file.h"
#include "model/json_file.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const dtype_name[DTYPE_COUNT] = {
    [DTYPE_BOOL] = "BOOL",       [DTYPE_U8] = "U8",           [DTYPE_I8] = "I8",
    [DTYPE_F8_E5M2] = "F8_E5M2", [DTYPE_F8_E4M3] = "F8_E4M3", [DTYPE_I16] = "I16",
    [DTYPE_U16] = "U16",         [DTYPE_F16] = "F16",         [DTYPE_BF16] = "BF16",
    [DTYPE_I32] = "I32",         [DTYPE_U32] = "U32",         [DTYPE_F32] = "F32",
    [DTYPE_I64] = "I64",         [DTYPE_U64] = "U64",         [DTYPE_F64] = "F64",
};

const uint8_t dtype_bytes[DTYPE_COUNT] = {
    [DTYPE_BOOL] = 1, [DTYPE_U8] = 1,  [DTYPE_I8] = 1,  [DTYPE_F8_E5M2] = 1, [DTYPE_F8_E4M3] = 1,
    [DTYPE_I16] = 2,  [DTYPE_U16] = 2, [DTYPE_F16] = 2, [DTYPE_BF16] = 2,    [DTYPE_I32] = 4,
    [DTYPE_U32] = 4,  [DTYPE_F32] = 4, [DTYPE_I64] = 8, [DTYPE_U64] = 8,     [DTYPE_F64] = 8,
};

// The cap of the reference implementation.  A header of V3 in one file would have 14 MB and 0.7
// million values; one tensor is some eight values.
static const struct json_limits header_limits = {
    .bytes_max = 100u * 1000u * 1000u, .depth_max = 8, .values_max = 4u << 20};

#define LENGTH_BYTES 8u // of the number in front of the header

struct safetensors {
    char *path;
    int fd;
    uint64_t bytes;    // of the file
    uint64_t data_off; // of the buffer in the file
    uint32_t n;
    struct tensor *tensors;        // [n], by file offset
    const struct tensor **by_name; // [n], by name
    char *names;
};

// One tensor being parsed: for the sentence.
struct entry {
    const struct safetensors *st;
    const char *name;
    const json_t *json;
    struct fault *fault;
};

#define entry_fail(entry, err, format, ...)                                                        \
    fault_set((entry)->fault, err, "%s: tensor %.128s: " format, file_label((entry)->st->path),    \
              (entry)->name, __VA_ARGS__)

static int entry_dtype(const struct entry *entry, struct tensor *tensor)
{
    const char *word = json_string_value(json_object_get(entry->json, "dtype"));
    if (!word)
        return entry_fail(entry, EBADMSG, "%s", "dtype is missing or not a string");
    for (uint32_t i = 0; i < DTYPE_COUNT; i++)
        if (strcmp(word, dtype_name[i]) == 0) {
            tensor->dtype = (enum dtype)i;
            return 0;
        }
    return entry_fail(entry, ENOTSUP, "dtype %.32s is not served", word);
}

static bool json_u64(const json_t *value, uint64_t *ret)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *ret = (uint64_t)json_integer_value(value);
    return true;
}

// entry_shape also gives the bytes that shape and dtype ask for.
static int entry_shape(const struct entry *entry, struct tensor *tensor, uint64_t *ret_bytes)
{
    const json_t *list = json_object_get(entry->json, "shape");
    uint64_t bytes = dtype_bytes[tensor->dtype];
    bool empty = false, overflow = false;

    if (!json_is_array(list))
        return entry_fail(entry, EBADMSG, "%s", "shape is missing or not a list");
    if (json_array_size(list) > TENSOR_RANK_MAX)
        return entry_fail(entry, EBADMSG, "%zu dimensions; at most %u are served",
                          json_array_size(list), TENSOR_RANK_MAX);
    tensor->rank = (uint32_t)json_array_size(list);
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (!json_u64(json_array_get(list, i), &tensor->shape[i]))
            return entry_fail(entry, EBADMSG, "dimension %u of shape is not a whole number", i);
        empty = empty || tensor->shape[i] == 0;
        overflow = __builtin_mul_overflow(bytes, tensor->shape[i], &bytes) || overflow;
    }
    if (overflow && !empty)
        return entry_fail(entry, EBADMSG, "%s", "its shape has more than 2^64 bytes");
    *ret_bytes = empty ? 0 : bytes;
    return 0;
}

static int entry_offsets(const struct entry *entry, uint64_t shape_bytes, struct tensor *tensor)
{
    const json_t *list = json_object_get(entry->json, "data_offsets");
    uint64_t begin, end, buffer = entry->st->bytes - entry->st->data_off;

    if (json_array_size(list) != 2 || !json_u64(json_array_get(list, 0), &begin) ||
        !json_u64(json_array_get(list, 1), &end) || begin > end)
        return entry_fail(entry, EBADMSG, "%s",
                          "data_offsets is not a pair of rising whole numbers");
    if (end - begin != shape_bytes)
        return entry_fail(entry, EBADMSG,
                          "data_offsets hold %" PRIu64 " bytes, dtype and shape need %" PRIu64,
                          end - begin, shape_bytes);
    if (end > buffer)
        return entry_fail(entry, EBADMSG,
                          "ends at byte %" PRIu64 " of the data, but the file holds %" PRIu64
                          " (truncated?)",
                          end, buffer);
    tensor->file_off = entry->st->data_off + begin;
    tensor->bytes = shape_bytes;
    return 0;
}

static int entry_parse(const struct entry *entry, struct tensor *tensor)
{
    uint64_t bytes = 0;

    if (!json_is_object(entry->json))
        return entry_fail(entry, EBADMSG, "%s", "not a JSON object");
    int err = entry_dtype(entry, tensor);
    if (err == 0)
        err = entry_shape(entry, tensor, &bytes);
    if (err == 0)
        err = entry_offsets(entry, bytes, tensor);
    return err;
}

static int metadata_check(const struct safetensors *st, json_t *json, struct fault *fault)
{
    const char *key;
    json_t *value;

    if (!json_is_object(json))
        return fault_set(fault, EBADMSG, "%s: __metadata__ is not a JSON object",
                         file_label(st->path));
    json_object_foreach(json, key, value) if (!json_is_string(value)) return fault_set(
        fault, EBADMSG, "%s: __metadata__: %.60s is not a string", file_label(st->path), key);
    return 0;
}

static bool key_is_metadata(const char *key)
{
    return strcmp(key, "__metadata__") == 0;
}

// tensors_allocate makes room for every tensor of the header and its name.
static int tensors_allocate(struct safetensors *st, json_t *header, struct fault *fault)
{
    size_t names_bytes = 0, n = 0;
    const char *key;
    json_t *value;

    json_object_foreach(header, key, value)
    {
        names_bytes += strlen(key) + 1;
        n += !key_is_metadata(key);
    }
    st->tensors = calloc(n + 1, sizeof(*st->tensors));
    st->by_name = calloc(n + 1, sizeof(*st->by_name));
    st->names = malloc(names_bytes + 1);
    if (!st->tensors || !st->by_name || !st->names)
        return fault_set(fault, ENOMEM, "%s: no memory for %zu tensors", file_label(st->path), n);
    return 0;
}

static int tensors_parse(struct safetensors *st, json_t *header, struct fault *fault)
{
    const char *key;
    json_t *value;

    int err = tensors_allocate(st, header, fault);
    char *name = st->names;
    if (err < 0)
        return err;
    json_object_foreach(header, key, value)
    {
        if (key_is_metadata(key)) {
            err = metadata_check(st, value, fault);
        } else {
            struct tensor *tensor = &st->tensors[st->n++];
            struct entry entry = {st, key, value, fault};
            size_t bytes = strlen(key) + 1; // there is room: tensors_allocate measured
            tensor->name = memcpy(name, key, bytes);
            name += bytes;
            err = entry_parse(&entry, tensor);
        }
        if (err < 0)
            return err;
    }
    return 0;
}

static int compare_offsets(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    if (x->file_off != y->file_off)
        return x->file_off < y->file_off ? -1 : 1;
    if (x->bytes != y->bytes) // empty ones first, so that they do not look like an overlap
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int compare_names(const void *a, const void *b)
{
    const struct tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

// tensors_tile checks that the tensors, by offset, cover the buffer without holes or overlap.
static int tensors_tile(const struct safetensors *st, struct fault *fault)
{
    uint64_t at = st->data_off;

    for (uint32_t i = 0; i < st->n; i++) {
        const struct tensor *tensor = &st->tensors[i];
        if (tensor->file_off < at)
            return fault_set(fault, EBADMSG, "%s: tensor %.128s overlaps tensor %.128s",
                             file_label(st->path), tensor->name, st->tensors[i - 1].name);
        if (tensor->file_off > at)
            return fault_set(fault, EBADMSG, "%s: a hole of %" PRIu64 " bytes before tensor %.128s",
                             file_label(st->path), tensor->file_off - at, tensor->name);
        at += tensor->bytes;
    }
    if (at != st->bytes)
        return fault_set(fault, EBADMSG, "%s: %" PRIu64 " bytes behind the last tensor",
                         file_label(st->path), st->bytes - at);
    return 0;
}

static int header_length(const struct safetensors *st, uint64_t *ret, struct fault *fault)
{
    uint8_t raw[LENGTH_BYTES];
    uint64_t len = 0;

    if (st->bytes < LENGTH_BYTES)
        return fault_set(fault, EBADMSG, "%s: %" PRIu64 " bytes are no safetensors file",
                         file_label(st->path), st->bytes);
    int err = file_read_at(st->fd, st->path, 0, raw, sizeof(raw), fault);
    if (err < 0)
        return err;
    for (uint32_t i = 0; i < LENGTH_BYTES; i++)
        len |= (uint64_t)raw[i] << 8 * i;
    if (len > header_limits.bytes_max)
        return fault_set(fault, EFBIG, "%s: a header of %" PRIu64 " bytes; the limit is %" PRIu64,
                         file_label(st->path), len, header_limits.bytes_max);
    if (len > st->bytes - LENGTH_BYTES)
        return fault_set(fault, EBADMSG,
                         "%s: a header of %" PRIu64 " bytes in a file of %" PRIu64 " (truncated?)",
                         file_label(st->path), len, st->bytes);
    *ret = len;
    return 0;
}

static int header_read(struct safetensors *st, json_t **ret, struct fault *fault)
{
    uint64_t len = 0;
    int err = header_length(st, &len, fault);
    if (err < 0)
        return err;
    st->data_off = LENGTH_BYTES + len;

    char *text = malloc((size_t)len + 1);
    if (!text)
        return fault_set(fault, ENOMEM, "%s: no memory for a header of %" PRIu64 " bytes",
                         file_label(st->path), len);
    err = file_read_at(st->fd, st->path, LENGTH_BYTES, text, (size_t)len, fault);
    if (err == 0 && (len == 0 || text[0] != '{'))
        err =
            fault_set(fault, EBADMSG, "%s: the header does not begin with {", file_label(st->path));
    if (err == 0) {
        err = json_text_parse(text, (size_t)len, &header_limits, ret, fault);
        if (err < 0)
            fault_prefix(fault, "%s: header", file_label(st->path));
    }
    free(text);
    return err;
}

static int header_parse(struct safetensors *st, struct fault *fault)
{
    json_t *header = NULL;
    int err = header_read(st, &header, fault);
    if (err == 0)
        err = tensors_parse(st, header, fault);
    json_decref(header);
    if (err < 0)
        return err;

    qsort(st->tensors, st->n, sizeof(*st->tensors), compare_offsets);
    for (uint32_t i = 0; i < st->n; i++)
        st->by_name[i] = &st->tensors[i];
    qsort(st->by_name, st->n, sizeof(*st->by_name), compare_names);
    return tensors_tile(st, fault);
}

int safetensors_open(const char *path, struct safetensors **ret, struct fault *fault)
{
    struct safetensors *st = calloc(1, sizeof(*st));
    if (!st)
        return fault_set(fault, ENOMEM, "%s: no memory", file_label(path));
    st->fd = -1;

    int err = -ENOMEM;
    st->path = strdup(path);
    if (!st->path) {
        fault_set(fault, ENOMEM, "%s: no memory", file_label(path));
        goto fail;
    }
    err = file_open(path, &st->fd, &st->bytes, fault);
    if (err < 0)
        goto fail;
    err = header_parse(st, fault);
    if (err < 0)
        goto fail;
    *ret = st;
    return 0;

fail:
    safetensors_close(&st);
    return err;
}

void safetensors_close(struct safetensors **st_at)
{
    struct safetensors *st = *st_at;
    if (!st)
        return;
    if (st->fd >= 0)
        close(st->fd);
    free(st->path);
    free(st->tensors);
    free(st->by_name);
    free(st->names);
    free(st);
    *st_at = NULL;
}

const char *safetensors_path(const struct safetensors *st)
{
    return st->path;
}

uint32_t safetensors_count(const struct safetensors *st)
{
    return st->n;
}

const struct tensor *safetensors_at(const struct safetensors *st, uint32_t idx)
{
    assert(idx < st->n);
    return &st->tensors[idx];
}

const struct tensor *safetensors_find(const struct safetensors *st, const char *name)
{
    uint32_t low = 0, high = st->n;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order = strcmp(name, st->by_name[mid]->name);
        if (order == 0)
            return st->by_name[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

int safetensors_read(const struct safetensors *st, const struct tensor *tensor, uint64_t off,
                     void *dst, size_t bytes, struct fault *fault)
{
    assert(off <= tensor->bytes);
    assert(bytes <= tensor->bytes - off);

    int err = file_read_at(st->fd, st->path, tensor->file_off + off, dst, bytes, fault);
    if (err < 0)
        fault_prefix(fault, "tensor %.128s", tensor->name);
    return err;
}

void safetensors_number(struct safetensors *st, uint32_t file_idx)
{
    for (uint32_t i = 0; i < st->n; i++)
        st->tensors[i].file_idx = file_idx;
}
