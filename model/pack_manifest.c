// SPDX-License-Identifier: MIT
#include "model/pack_manifest.h"

#include "model/file.h"
#include "model/json_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT           "expertd-pack"
#define VERSION          1
#define RECORD_BYTES_MAX (1ull << 40) // V3's has 44 MB; keeps every sum far below 2^63
#define SHARDS_MAX       4096u        // as checkpoint.c has it
#define SELF_KEY         "manifest_xxh3"

// A shard takes some 130 bytes and four values, a layer one value.
static const struct json_limits manifest_limits = {
    .bytes_max = 4u << 20, .depth_max = 5, .values_max = 32768};

/* ---------------------------------------------------------------- layout */

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

// matrix_bytes: rows are padded to 16 columns, as kernels read them.
static uint64_t matrix_bytes(enum dtype dtype, uint32_t rows, uint32_t cols)
{
    return rows * round_up(cols, 16) * dtype_bytes[dtype];
}

static uint64_t scale_bytes(uint32_t rows, uint32_t cols)
{
    return round_up(4ull * tensor_scale_blocks(rows) * tensor_scale_blocks(cols), 16);
}

int pack_layout_make(enum dtype dtype, uint32_t hidden, uint32_t inter, uint32_t parts_n,
                     struct pack_layout *ret)
{
    struct pack_layout l = {.dtype = dtype, .parts_n = parts_n};

    l.up = l.gate + matrix_bytes(dtype, inter, hidden);
    l.down = l.up + matrix_bytes(dtype, inter, hidden);
    uint64_t end = l.down + matrix_bytes(dtype, hidden, inter);
    if (dtype == DTYPE_F8_E4M3) {
        l.gate_scale = end;
        l.up_scale = l.gate_scale + scale_bytes(inter, hidden);
        l.down_scale = l.up_scale + scale_bytes(inter, hidden);
        end = l.down_scale + scale_bytes(hidden, inter);
    }
    l.stride = round_up(end, PACK_ALIGN);
    if (l.stride > RECORD_BYTES_MAX)
        return -EFBIG;
    uint64_t units = l.stride / PACK_ALIGN;
    if (units < parts_n)
        return -EINVAL;
    for (uint32_t i = 0; i < parts_n; i++)
        l.part_bytes[i] = (units / parts_n + (i < units % parts_n)) * PACK_ALIGN;
    *ret = l;
    return 0;
}

/* ------------------------------------------------------- from checkpoint */

static int one_dtype_check(const struct checkpoint *ck, const struct tensor *tensor,
                           enum dtype *dtype, const struct tensor **first, struct fault *fault)
{
    enum dtype packed = tensor->dtype == DTYPE_F16 ? DTYPE_F32 : tensor->dtype;

    if (!*first) {
        *first = tensor;
        *dtype = packed;
        return 0;
    }
    if (packed == *dtype)
        return 0;
    return fault_set(fault, ENOTSUP,
                     "%s: tensor %.128s is %s, but %.128s is %s: experts of several dtypes cannot "
                     "be packed; this checkpoint is read in place",
                     file_label(safetensors_path(checkpoint_file(ck, tensor->file_idx))),
                     tensor->name, dtype_name[tensor->dtype], (*first)->name,
                     dtype_name[(*first)->dtype]);
}

// dtype_find returns the dtype that all experts have.
static int dtype_find(const struct checkpoint *ck, const struct experts *experts, enum dtype *ret,
                      struct fault *fault)
{
    const struct tensor *first = NULL;

    for (uint32_t i = 0; i < experts_n(experts); i++) {
        uint32_t layer, expert;
        experts_name(experts, i, &layer, &expert);
        for (int role = ROLE_EXPERT_GATE; role <= ROLE_EXPERT_DOWN; role++) {
            const struct tensor *tensor;
            int err =
                checkpoint_get(ck, (enum tensor_role)role, layer, expert, NULL, &tensor, NULL);
            if (err == 0)
                err = one_dtype_check(ck, tensor, ret, &first, fault);
            if (err < 0)
                return err;
        }
    }
    return 0;
}

int pack_manifest_make(const struct checkpoint *ck, uint32_t parts_n, struct pack_manifest *ret,
                       struct fault *fault)
{
    const struct model_config *config = checkpoint_config(ck);
    const char *dir = file_label(checkpoint_dir(ck));
    struct pack_manifest m = {.hidden_size = config->hidden_size,
                              .moe_intermediate_size = config->moe_intermediate_size};
    enum dtype dtype = DTYPE_F32;

    memcpy(m.model_type, config->model_type, sizeof(m.model_type));
    experts_make(config, &m.experts);
    if (experts_n(&m.experts) == 0)
        return fault_set(fault, EINVAL, "%s: the model has no routed experts: nothing to pack",
                         dir);
    int err = dtype_find(ck, &m.experts, &dtype, fault);
    if (err < 0)
        return err;
    err = pack_layout_make(dtype, m.hidden_size, m.moe_intermediate_size, parts_n, &m.layout);
    if (err < 0)
        return fault_set(fault, -err, "%s: its experts are too %s for %u parts of 4 KiB or more",
                         dir, err == -EFBIG ? "large" : "small", parts_n);
    err = identity_make(ck, &m.source, fault);
    if (err == 0)
        *ret = m;
    return err;
}

void pack_manifest_fini(struct pack_manifest *m)
{
    identity_fini(&m->source);
}

int pack_manifest_compare(const struct pack_manifest *m, const struct checkpoint *ck,
                          struct fault *fault)
{
    const char *dir = file_label(checkpoint_dir(ck));
    struct identity have;

    int err = identity_make(ck, &have, fault);
    if (err < 0)
        return err;
    const struct identity *want = &m->source;
    if (have.shards_n != want->shards_n)
        err = fault_set(fault, EBADMSG, "made from another checkpoint: it had %u files, %s has %u",
                        want->shards_n, dir, have.shards_n);
    for (uint32_t i = 0; i < have.shards_n && err == 0; i++) {
        const struct identity_shard *a = &want->shards[i], *b = &have.shards[i];
        if (strcmp(a->name, b->name) != 0)
            err = fault_set(fault, EBADMSG,
                            "made from another checkpoint: it had a file %.80s, %s has %.80s",
                            a->name, dir, b->name);
        else if (a->bytes != b->bytes)
            err = fault_set(fault, EBADMSG,
                            "made from another checkpoint: %.80s had %" PRIu64 " bytes, that of "
                            "%s has %" PRIu64,
                            a->name, a->bytes, dir, b->bytes);
        else if (memcmp(a->header, b->header, sizeof(a->header)) != 0)
            err = fault_set(fault, EBADMSG,
                            "made from another checkpoint: %.80s had another header than in %s",
                            a->name, dir);
    }
    if (err == 0 && memcmp(have.id, want->id, sizeof(have.id)) != 0)
        err = fault_set(fault, EBADMSG,
                        "made from another checkpoint: its routers were not those of %s", dir);
    struct experts experts;
    experts_make(checkpoint_config(ck), &experts);
    // The same files under a config that numbers their experts otherwise.
    if (err == 0 && memcmp(&experts, &m->experts, sizeof(experts)) != 0)
        err = fault_set(fault, EBADMSG,
                        "made under another config.json: its MoE layers are not those of %s", dir);
    identity_fini(&have);
    return err;
}

/* --------------------------------------------------------------- to text */

static json_t *hex(const uint8_t sum[CHECKSUM_BYTES])
{
    char text[CHECKSUM_HEX];
    checksum_hex(sum, text);
    return json_string(text);
}

static json_t *source_json(const struct pack_manifest *m)
{
    json_t *shards = json_array(), *layers = json_array();
    bool full = shards && layers;

    for (uint32_t i = 0; i < m->source.shards_n && full; i++) {
        const struct identity_shard *shard = &m->source.shards[i];
        full = json_array_append_new(shards, json_pack("{s:s, s:I, s:o}", "name", shard->name,
                                                       "bytes", (json_int_t)shard->bytes,
                                                       "header_xxh3", hex(shard->header))) == 0;
    }
    for (uint32_t i = 0; i < m->experts.layers_n && full; i++)
        full = json_array_append_new(layers, json_integer(m->experts.layers[i])) == 0;
    if (!full) {
        json_decref(shards);
        json_decref(layers);
        return NULL;
    }
    return json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:o}", "model_type", m->model_type,
                     "hidden_size", (json_int_t)m->hidden_size, "moe_intermediate_size",
                     (json_int_t)m->moe_intermediate_size, "n_routed_experts",
                     (json_int_t)m->experts.per_layer, "moe_layers", layers, "identity_xxh3",
                     hex(m->source.id), "shards", shards);
}

static json_t *layout_json(const struct pack_layout *l)
{
    json_t *parts = json_array();
    for (uint32_t i = 0; i < l->parts_n; i++)
        if (json_array_append_new(parts, json_integer((json_int_t)l->part_bytes[i])) != 0) {
            json_decref(parts);
            return NULL;
        }
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "dtype",
                     dtype_name[l->dtype], "quantisation", "none", "stride", (json_int_t)l->stride,
                     "gate", (json_int_t)l->gate, "up", (json_int_t)l->up, "down",
                     (json_int_t)l->down, "gate_scale", (json_int_t)l->gate_scale, "up_scale",
                     (json_int_t)l->up_scale, "down_scale", (json_int_t)l->down_scale, "parts",
                     parts);
}

// self_sum sums the manifest without its own sum, in a form that does not depend on blanks or
// order.
static int self_sum(json_t *root, uint8_t ret[CHECKSUM_BYTES])
{
    json_object_del(root, SELF_KEY);
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text)
        return -ENOMEM;
    checksum_of(text, strlen(text), ret);
    free(text);
    return 0;
}

char *pack_manifest_text(const struct pack_manifest *m)
{
    uint8_t sum[CHECKSUM_BYTES];
    json_t *root =
        json_pack("{s:s, s:i, s:I, s:o, s:o, s:o}", "format", FORMAT, "version", VERSION, "records",
                  (json_int_t)experts_n(&m->experts), "record", layout_json(&m->layout), "source",
                  source_json(m), "checksums_xxh3", hex(m->checksums));
    char *text = NULL;
    if (root && self_sum(root, sum) == 0 && json_object_set_new(root, SELF_KEY, hex(sum)) == 0)
        text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    if (!text)
        return NULL;
    size_t len = strlen(text) + sizeof("\n");
    char *lines = malloc(len);
    if (lines)
        snprintf(lines, len, "%s\n", text);
    free(text);
    return lines;
}

/* ------------------------------------------------------------- from text */

// What a reader of fields keeps; the first wrong one is told.
struct parse {
    struct fault *fault;
    int err; // 0 or -errno
};

static void wrong(struct parse *p, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void wrong(struct parse *p, int err, const char *format, ...)
{
    char text[200];
    va_list args;

    if (p->err)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    p->err = fault_set(p->fault, err, "%s", text);
}

static uint64_t number(struct parse *p, const json_t *object, const char *key, uint64_t max)
{
    const json_t *value = json_object_get(object, key);
    json_int_t n = json_integer_value(value);

    if (!json_is_integer(value) || n < 0 || (uint64_t)n > max) {
        wrong(p, EBADMSG, "\"%s\" is missing or no number up to %" PRIu64, key, max);
        return 0;
    }
    return (uint64_t)n;
}

static void sum_read(struct parse *p, const json_t *object, const char *key,
                     uint8_t ret[CHECKSUM_BYTES])
{
    if (!checksum_from_hex(json_string_value(json_object_get(object, key)), ret))
        wrong(p, EBADMSG, "\"%s\" is missing or no checksum", key);
}

static void kind_check(struct parse *p, const json_t *root)
{
    const char *format = json_string_value(json_object_get(root, "format"));
    const json_t *record = json_object_get(root, "record");
    const char *quantisation = json_string_value(json_object_get(record, "quantisation"));

    if (!format || strcmp(format, FORMAT) != 0)
        wrong(p, EBADMSG, "is no manifest of a pack");
    uint64_t version = number(p, root, "version", 1u << 20);
    if (version != VERSION)
        wrong(p, version > VERSION ? ENOTSUP : EBADMSG,
              "format version %" PRIu64 "; this program reads version %d", version, VERSION);
    if (!quantisation || strcmp(quantisation, "none") != 0)
        wrong(p, quantisation ? ENOTSUP : EBADMSG, "experts quantised to \"%.32s\" are not served",
              quantisation ? quantisation : "");
}

static void experts_read(struct parse *p, const json_t *source, struct experts *ret)
{
    const json_t *layers = json_object_get(source, "moe_layers");
    size_t n = json_array_size(layers);

    ret->per_layer = (uint32_t)number(p, source, "n_routed_experts", 4096);
    if (n == 0 || n > EXPERTS_LAYERS_MAX || ret->per_layer == 0) {
        wrong(p, EBADMSG, "\"moe_layers\" or \"n_routed_experts\" is empty or too large");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *layer = json_array_get(layers, i);
        json_int_t value = json_integer_value(layer);
        if (!json_is_integer(layer) || value < 0 || value >= EXPERTS_LAYERS_MAX ||
            (i > 0 && value <= (json_int_t)ret->layers[i - 1])) {
            wrong(p, EBADMSG, "\"moe_layers\" is no rising list of layers");
            return;
        }
        ret->layers[i] = (uint32_t)value;
    }
    ret->layers_n = (uint32_t)n;
}

static void shards_read(struct parse *p, const json_t *source, struct identity *ret)
{
    const json_t *list = json_object_get(source, "shards");
    size_t n = json_array_size(list);

    if (n == 0 || n > SHARDS_MAX) {
        wrong(p, EBADMSG, "\"shards\" is missing or has none or more than %u", SHARDS_MAX);
        return;
    }
    ret->shards = calloc(n, sizeof(*ret->shards));
    if (!ret->shards) {
        wrong(p, ENOMEM, "no memory for its list of files");
        return;
    }
    for (size_t i = 0; i < n && !p->err; i++) {
        const json_t *row = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(row, "name"));
        struct identity_shard *shard = &ret->shards[ret->shards_n];
        shard->bytes = number(p, row, "bytes", INT64_MAX);
        sum_read(p, row, "header_xxh3", shard->header);
        if (!name)
            wrong(p, EBADMSG, "a file of \"shards\" has no name");
        shard->name = strdup(name ? name : "");
        if (!shard->name)
            wrong(p, ENOMEM, "no memory for its list of files");
        ret->shards_n++;
    }
}

static enum dtype dtype_read(struct parse *p, const json_t *record)
{
    static const enum dtype served[] = {DTYPE_F8_E4M3, DTYPE_BF16, DTYPE_F32};
    const char *name = json_string_value(json_object_get(record, "dtype"));

    for (size_t i = 0; i < sizeof(served) / sizeof(served[0]); i++)
        if (name && strcmp(name, dtype_name[served[i]]) == 0)
            return served[i];
    wrong(p, name ? ENOTSUP : EBADMSG, "experts of dtype \"%.32s\" are not served",
          name ? name : "");
    return DTYPE_F32;
}

// layout_check compares the layout that is written with the one that follows.
static void layout_check(struct parse *p, const json_t *record, const struct pack_layout *l)
{
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {
        {"stride", l->stride},
        {"gate", l->gate},
        {"up", l->up},
        {"down", l->down},
        {"gate_scale", l->gate_scale},
        {"up_scale", l->up_scale},
        {"down_scale", l->down_scale},
    };
    const json_t *parts = json_object_get(record, "parts");

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (number(p, record, rows[i].key, INT64_MAX) != rows[i].value)
            wrong(p, EBADMSG, "\"%s\" is not %" PRIu64 ", as the sizes ask for", rows[i].key,
                  rows[i].value);
    for (uint32_t i = 0; i < l->parts_n; i++)
        if (json_integer_value(json_array_get(parts, i)) != (json_int_t)l->part_bytes[i])
            wrong(p, EBADMSG, "\"parts\": part %u is not of %" PRIu64 " bytes", i,
                  l->part_bytes[i]);
}

static void layout_read(struct parse *p, const json_t *root, struct pack_manifest *m)
{
    const json_t *record = json_object_get(root, "record");
    size_t parts_n = json_array_size(json_object_get(record, "parts"));
    enum dtype dtype = dtype_read(p, record);

    if (parts_n == 0 || parts_n > PACK_PARTS_MAX)
        wrong(p, EBADMSG, "\"parts\" has none or more than %u", PACK_PARTS_MAX);
    if (!m->hidden_size || !m->moe_intermediate_size)
        wrong(p, EBADMSG, "its experts have no size");
    if (p->err)
        return;
    if (pack_layout_make(dtype, m->hidden_size, m->moe_intermediate_size, (uint32_t)parts_n,
                         &m->layout) < 0)
        wrong(p, EBADMSG, "its records are too large or too small for their parts");
    else
        layout_check(p, record, &m->layout);
    if (number(p, root, "records", UINT32_MAX) != experts_n(&m->experts))
        wrong(p, EBADMSG, "\"records\" is not %u", experts_n(&m->experts));
}

static void manifest_read(struct parse *p, json_t *root, struct pack_manifest *m)
{
    const json_t *source = json_object_get(root, "source");
    const char *type = json_string_value(json_object_get(source, "model_type"));
    uint8_t want[CHECKSUM_BYTES], have[CHECKSUM_BYTES];

    kind_check(p, root);
    snprintf(m->model_type, sizeof(m->model_type), "%s", type ? type : "");
    m->hidden_size = (uint32_t)number(p, source, "hidden_size", 1u << 20);
    m->moe_intermediate_size = (uint32_t)number(p, source, "moe_intermediate_size", 1u << 20);
    sum_read(p, source, "identity_xxh3", m->source.id);
    sum_read(p, root, "checksums_xxh3", m->checksums);
    experts_read(p, source, &m->experts);
    if (!p->err)
        layout_read(p, root, m);
    if (!p->err)
        shards_read(p, source, &m->source);
    sum_read(p, root, SELF_KEY, want);
    if (!p->err && self_sum(root, have) < 0)
        wrong(p, ENOMEM, "no memory");
    if (!p->err && memcmp(want, have, sizeof(have)) != 0)
        wrong(p, EBADMSG, "was changed since it was written (its checksum differs)");
}

int pack_manifest_parse(const char *text, size_t len, struct pack_manifest *ret,
                        struct fault *fault)
{
    struct pack_manifest m = {.hidden_size = 0};
    struct parse p = {.fault = fault};
    json_t *root = NULL;

    int err = json_text_parse(text, len, &manifest_limits, &root, fault);
    if (err < 0)
        return err;
    manifest_read(&p, root, &m);
    json_decref(root);
    if (p.err) {
        pack_manifest_fini(&m);
        return p.err;
    }
    *ret = m;
    return 0;
}
