// SPDX-License-Identifier: MIT
#include "sched/routing_trace.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define VERSION      1u
#define VARINT_BYTES 5u // of 32 bits
#define CHECK_BYTES  2u

static const uint8_t magic[8] = {'e', 'x', 'p', 'e', 'r', 't', 'R', 'T'};

bool routing_trace_shape_ok(const struct routing_trace_shape *s)
{
    return s->layers >= 1 && s->layers <= ROUTING_TRACE_LAYERS_MAX && s->experts >= 1 &&
           s->experts <= ROUTING_TRACE_EXPERTS_MAX && s->k >= 1 && s->k <= ROUTING_TRACE_K_MAX &&
           s->k <= s->experts;
}

static uint32_t id_bits(const struct routing_trace_shape *shape)
{
    uint32_t bits = 1;
    while ((shape->experts - 1) >> bits)
        bits++;
    return bits;
}

static size_t ids_bytes(const struct routing_trace_shape *shape, uint32_t rows)
{
    return ((size_t)rows * shape->k * id_bits(shape) + 7) / 8;
}

// row_ok: ids of the model, none twice.
static bool row_ok(const struct routing_trace_shape *shape, const uint32_t *ids)
{
    uint64_t seen[ROUTING_TRACE_EXPERTS_MAX / 64] = {0};
    for (uint32_t i = 0; i < shape->k; i++) {
        if (ids[i] >= shape->experts || seen[ids[i] / 64] >> (ids[i] % 64) & 1)
            return false;
        seen[ids[i] / 64] |= 1ull << (ids[i] % 64);
    }
    return true;
}

static uint16_t check_of(const uint8_t *bytes, size_t n)
{
    uint32_t hash = 0x811c9dc5u;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * 0x01000193u;
    return (uint16_t)(hash >> 16 ^ hash);
}

static void u32_put(uint8_t *at, uint32_t value)
{
    for (uint32_t i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t u32_get(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* ------------------------------------------------------------------ writer */

int routing_trace_writer_init(struct routing_trace_writer *writer,
                              const struct routing_trace_shape *shape,
                              uint8_t ret_head[ROUTING_TRACE_HEAD_BYTES])
{
    if (!routing_trace_shape_ok(shape))
        return -EINVAL;
    *writer = (struct routing_trace_writer){.shape = *shape};
    memcpy(ret_head, magic, sizeof(magic));
    u32_put(ret_head + 8, VERSION);
    u32_put(ret_head + 12, shape->layers);
    u32_put(ret_head + 16, shape->experts);
    u32_put(ret_head + 20, shape->k);
    return 0;
}

size_t routing_trace_layer_bytes(const struct routing_trace_shape *shape, uint32_t rows)
{
    return 3 * VARINT_BYTES + ids_bytes(shape, rows) + CHECK_BYTES;
}

static size_t varint_put(uint8_t *at, uint32_t value)
{
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        at[n++] = (uint8_t)(value | 0x80);
    at[n++] = (uint8_t)value;
    return n;
}

static size_t ids_put(uint8_t *at, const uint32_t *ids, size_t n, uint32_t bits)
{
    uint64_t queue = 0; // bits that are not written yet, lowest first
    uint32_t queue_n = 0;
    size_t out = 0;

    for (size_t i = 0; i < n; i++) {
        queue |= (uint64_t)ids[i] << queue_n;
        for (queue_n += bits; queue_n >= 8; queue_n -= 8, queue >>= 8)
            at[out++] = (uint8_t)queue;
    }
    if (queue_n > 0)
        at[out++] = (uint8_t)queue;
    return out;
}

size_t routing_trace_write(struct routing_trace_writer *w, const struct routing_trace_layer *layer,
                           const uint32_t *ids, uint8_t *ret)
{
    size_t ids_n = (size_t)layer->rows * w->shape.k, n = 0;
    uint16_t check;

    if (layer->step < w->step || layer->step - w->step > UINT32_MAX ||
        layer->layer >= w->shape.layers || layer->rows < 1 || layer->rows > ROUTING_TRACE_ROWS_MAX)
        return 0;
    for (uint32_t row = 0; row < layer->rows; row++)
        if (!row_ok(&w->shape, &ids[(size_t)row * w->shape.k]))
            return 0;

    n += varint_put(ret + n, (uint32_t)(layer->step - w->step));
    n += varint_put(ret + n, layer->layer);
    n += varint_put(ret + n, layer->rows);
    n += ids_put(ret + n, ids, ids_n, id_bits(&w->shape));
    check = check_of(ret, n);
    ret[n++] = (uint8_t)check;
    ret[n++] = (uint8_t)(check >> 8);
    w->step = layer->step;
    return n;
}

/* ------------------------------------------------------------------ reader */

int routing_trace_reader_init(struct routing_trace_reader *reader, const uint8_t *bytes, size_t n,
                              struct fault *fault)
{
    struct routing_trace_shape shape;

    if (n < ROUTING_TRACE_HEAD_BYTES || memcmp(bytes, magic, sizeof(magic)) != 0)
        return fault_set(fault, EBADMSG, "this is no routing trace");
    if (u32_get(bytes + 8) != VERSION)
        return fault_set(fault, EBADMSG, "routing traces of version %" PRIu32 " are not known",
                         u32_get(bytes + 8));
    shape = (struct routing_trace_shape){
        .layers = u32_get(bytes + 12), .experts = u32_get(bytes + 16), .k = u32_get(bytes + 20)};
    if (!routing_trace_shape_ok(&shape))
        return fault_set(fault, EBADMSG,
                         "the trace's head is damaged: %" PRIu32 " layers of %" PRIu32
                         " experts, %" PRIu32 " a row",
                         shape.layers, shape.experts, shape.k);
    *reader = (struct routing_trace_reader){
        .shape = shape, .bytes = bytes, .n = n, .at = ROUTING_TRACE_HEAD_BYTES};
    return 0;
}

static int damaged(const struct routing_trace_reader *reader, const char *what, struct fault *fault)
{
    return fault_set(fault, EBADMSG, "the routing trace is damaged at byte %zu: %s", reader->at,
                     what);
}

static int cut(const struct routing_trace_reader *reader, struct fault *fault)
{
    return fault_set(fault, ENODATA, "the routing trace ends within the record at byte %zu",
                     reader->at);
}

// varint_get reads one at *at and moves behind it.
static int varint_get(const struct routing_trace_reader *r, size_t *at, uint32_t *ret,
                      struct fault *fault)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < VARINT_BYTES; i++) {
        if (*at == r->n)
            return cut(r, fault);
        uint8_t byte = r->bytes[(*at)++];
        value |= (uint64_t)(byte & 0x7f) << 7 * i;
        if (byte & 0x80)
            continue;
        if (value > UINT32_MAX || (byte == 0 && i > 0))
            break;
        *ret = (uint32_t)value;
        return 0;
    }
    return damaged(r, "a number is too long", fault);
}

// ids_get: false if the bits behind the last id are not zeros.
static bool ids_get(const uint8_t *at, uint32_t *ids, size_t n, uint32_t bits)
{
    uint64_t queue = 0;
    uint32_t queue_n = 0;
    for (size_t i = 0; i < n; i++) {
        for (; queue_n < bits; queue_n += 8)
            queue |= (uint64_t)*at++ << queue_n;
        ids[i] = (uint32_t)(queue & ((1u << bits) - 1));
        queue >>= bits;
        queue_n -= bits;
    }
    return queue == 0;
}

// layer_get reads a record's numbers at *at and moves behind them.
static int layer_get(const struct routing_trace_reader *r, size_t *at,
                     struct routing_trace_layer *ret, struct fault *fault)
{
    uint32_t step;
    int err = varint_get(r, at, &step, fault);
    if (!err)
        err = varint_get(r, at, &ret->layer, fault);
    if (!err)
        err = varint_get(r, at, &ret->rows, fault);
    if (err)
        return err;
    ret->step = r->step + step;
    if (ret->layer >= r->shape.layers)
        return damaged(r, "the model has no such layer", fault);
    if (ret->rows < 1 || ret->rows > ROUTING_TRACE_ROWS_MAX)
        return damaged(r, "a step has not so many rows", fault);
    return 0;
}

int routing_trace_read(struct routing_trace_reader *r, struct routing_trace_layer *ret,
                       uint32_t *ret_ids, struct fault *fault)
{
    struct routing_trace_layer layer;
    size_t at = r->at;

    if (at == r->n)
        return 0;
    int err = layer_get(r, &at, &layer, fault);
    if (err)
        return err;
    size_t ids_at = at;
    size_t bytes = ids_bytes(&r->shape, layer.rows);
    if (r->n - at < bytes + CHECK_BYTES)
        return cut(r, fault);
    at += bytes;
    if (check_of(r->bytes + r->at, at - r->at) !=
        (uint16_t)(r->bytes[at] | (uint32_t)r->bytes[at + 1] << 8))
        return damaged(r, "its checksum differs", fault);
    if (!ids_get(r->bytes + ids_at, ret_ids, (size_t)layer.rows * r->shape.k, id_bits(&r->shape)))
        return damaged(r, "it does not end with zeros", fault);
    for (uint32_t row = 0; row < layer.rows; row++)
        if (!row_ok(&r->shape, &ret_ids[(size_t)row * r->shape.k]))
            return damaged(r, "a row has an expert twice, or one that is not there", fault);
    r->step = layer.step;
    r->at = at + CHECK_BYTES;
    *ret = layer;
    return 1;
}
