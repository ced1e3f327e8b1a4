// SPDX-License-Identifier: MIT
#include "tools/make_model_list.h"

#include "tools/make_model_weights.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARD_BYTES_MAX 4300000000ull // as in DeepSeek's own files

static struct item *items_push(struct items *items)
{
    if (items->n == items->cap) {
        size_t cap = items->cap ? 2 * items->cap : 1024;
        struct item *list = realloc(items->list, cap * sizeof(*list));
        if (!list)
            return NULL;
        items->list = list;
        items->cap = cap;
    }
    struct item *item = &items->list[items->n++];
    memset(item, 0, sizeof(*item));
    return item;
}

static int item_add(struct items *items, const struct tensor_spec *spec, const char *name,
                    bool scale)
{
    struct item *item = items_push(items);
    if (!item)
        return -ENOMEM;
    snprintf(item->name, sizeof(item->name), "%s", name);
    item->spec = *spec;
    item->scale = scale;
    item->dtype = scale ? DTYPE_F32 : weights_dtype(items->config, spec);
    item->rank = spec->kind == TENSOR_VECTOR ? 1 : 2;
    item->shape[0] = scale ? tensor_scale_blocks(spec->rows) : spec->rows;
    item->shape[1] = scale ? tensor_scale_blocks(spec->cols) : spec->cols;
    item->bytes = (uint64_t)item->shape[0] * item->shape[1] * dtype_bytes[item->dtype];
    items->bytes += item->bytes;
    if (item->dtype == DTYPE_F8_E4M3)
        items->fp8_bytes += item->bytes;
    return 0;
}

static int item_collect(const struct tensor_spec *spec, void *user)
{
    struct items *items = user;
    char name[TENSOR_NAME_MAX];

    int err = item_add(items, spec, spec->name, false);
    if (err < 0 || weights_dtype(items->config, spec) != DTYPE_F8_E4M3)
        return err;
    tensor_spec_scale_name(spec, name);
    return item_add(items, spec, name, true);
}

// copies_collect adds the MTP layer's copies of embedding and head, as released files have them.
static int copies_collect(struct items *items)
{
    static const struct {
        enum tensor_role role;
        const char *name;
    } copies[] = {{ROLE_EMBED, "embed_tokens.weight"}, {ROLE_HEAD, "shared_head.head.weight"}};
    const struct model_config *config = items->config;

    for (size_t i = 0; i < 2 && config->num_nextn_predict_layers; i++) {
        struct tensor_spec spec;
        char name[TENSOR_NAME_MAX];
        int err = tensor_spec_get(config, copies[i].role, 0, 0, &spec);
        snprintf(name, sizeof(name), "model.layers.%u.%s", config->num_hidden_layers,
                 copies[i].name);
        if (err == 0)
            err = item_add(items, &spec, name, false);
        if (err < 0)
            return err;
    }
    return 0;
}

// shards_assign cuts the list into files of about the same size: two at least, so that a small
// model has an index as well.
static void shards_assign(struct items *items)
{
    uint64_t n = items->bytes / SHARD_BYTES_MAX + 1;
    uint64_t least = items->bytes > 100u << 20 ? 4 : 2;
    uint64_t shard_bytes = items->bytes / (n > least ? n : least) + 1, used = 0;
    uint32_t shard = 0;

    for (size_t i = 0; i < items->n; i++) {
        if (used > 0 && used + items->list[i].bytes > shard_bytes + shard_bytes / 16) {
            shard++;
            used = 0;
        }
        used += items->list[i].bytes;
        items->list[i].shard = shard;
    }
    items->shards = shard + 1;
}

// The stock serializer's order: wide types first, then names.
static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->shard != y->shard)
        return x->shard < y->shard ? -1 : 1;
    if (dtype_bytes[x->dtype] != dtype_bytes[y->dtype])
        return dtype_bytes[x->dtype] > dtype_bytes[y->dtype] ? -1 : 1;
    return strcmp(x->name, y->name);
}

int items_make(const struct model_config *config, struct items *items)
{
    items->config = config;
    int err = tensor_spec_each(config, item_collect, items);
    if (err == 0)
        err = copies_collect(items);
    if (err < 0)
        return err;
    shards_assign(items);
    qsort(items->list, items->n, sizeof(*items->list), compare_items);
    return 0;
}

void items_free(struct items *items)
{
    free(items->list);
    *items = (struct items){0};
}

const struct item *items_shard(const struct items *items, uint32_t shard, size_t *ret_n)
{
    size_t first = 0, end;

    while (first < items->n && items->list[first].shard < shard)
        first++;
    for (end = first; end < items->n && items->list[end].shard == shard;)
        end++;
    *ret_n = end - first;
    return &items->list[first];
}

void shard_name(uint32_t shard, uint32_t shards, char *ret)
{
    // Five digits, then six: as released.
    snprintf(ret, SHARD_NAME_MAX, "model-%05u-of-%06u.safetensors", shard + 1, shards);
}

static void header_print(FILE *out, const struct item *items, size_t n)
{
    uint64_t at = 0;

    fprintf(out, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n; i++) {
        const struct item *item = &items[i];
        fprintf(out, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", item->name, dtype_name[item->dtype]);
        if (item->rank == 2)
            fprintf(out, "%u,", item->shape[0]);
        fprintf(out, "%u],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", item->shape[1], at,
                at + item->bytes);
        at += item->bytes;
    }
    fputc('}', out);
}

int shard_header(const struct item *items, size_t n, uint32_t shard, char **ret_text,
                 size_t *ret_len)
{
    static const uint8_t no_length[8];
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return -ENOMEM;
    fwrite(no_length, sizeof(no_length), 1, out);
    header_print(out, items, n);
    while (ftello(out) % 16 != (shard % 2 ? 0 : 8))
        fputc(' ', out);
    if (fclose(out) != 0) {
        free(text);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < sizeof(no_length); i++)
        text[i] = (char)(uint8_t)((uint64_t)(len - sizeof(no_length)) >> 8 * i);
    *ret_text = text;
    *ret_len = len;
    return 0;
}
