// SPDX-License-Identifier: MIT
// routing_trace: what is written is read again, records that break a rule are refused, and a trace
// is good up to where it was cut or damaged.
#include "sched/routing_trace.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>

#define RECORDS 200u
#define IDS_MAX (ROUTING_TRACE_ROWS_MAX * ROUTING_TRACE_K_MAX)

static uint32_t ids[IDS_MAX], got_ids[IDS_MAX];

static uint32_t below(uint64_t *state, uint32_t limit)
{
    return (uint32_t)(check_random(state) % limit);
}

static struct routing_trace_layer record_make(const struct routing_trace_shape *shape,
                                              uint64_t *state, uint64_t step)
{
    static const uint32_t rows_max[] = {1, 4, 200};
    struct routing_trace_layer layer = {.step = step, .layer = below(state, shape->layers)};
    layer.rows = 1 + below(state, rows_max[below(state, ARRAY_LEN(rows_max))]);
    for (uint32_t row = 0; row < layer.rows; row++) {
        uint32_t first = below(state, shape->experts);
        for (uint32_t i = 0; i < shape->k; i++)
            ids[row * shape->k + i] = (first + shape->k - i) % shape->experts;
    }
    return layer;
}

// A trace of random records, read again whole, then from every place where it may be cut.
static void test_again(const struct routing_trace_shape *shape)
{
    static uint8_t bytes[8u << 20];
    static struct routing_trace_layer layers[RECORDS];
    static size_t ends[RECORDS];
    struct routing_trace_writer writer;
    struct routing_trace_reader reader;
    struct routing_trace_layer got;
    struct fault fault = {0};
    uint64_t state = 77, again = 77, step = 0;
    size_t n = ROUTING_TRACE_HEAD_BYTES;

    CHECK(routing_trace_writer_init(&writer, shape, bytes) == 0);
    for (uint32_t i = 0; i < RECORDS; i++) {
        layers[i] = record_make(shape, &state, step);
        size_t max = routing_trace_layer_bytes(shape, layers[i].rows);
        CHECK(n + max <= sizeof(bytes));
        size_t wrote = routing_trace_write(&writer, &layers[i], ids, bytes + n);
        CHECK(wrote > 0 && wrote <= max);
        n += wrote;
        ends[i] = n;
        step += i % 7 == 0 ? i * 20000000u : i % 3;
    }
    CHECK(routing_trace_reader_init(&reader, bytes, n, &fault) == 0);
    CHECK(memcmp(&reader.shape, shape, sizeof(*shape)) == 0);
    step = 0;
    for (uint32_t i = 0; i < RECORDS; i++) {
        record_make(shape, &again, 0);
        CHECK(routing_trace_read(&reader, &got, got_ids, &fault) == 1);
        CHECK(got.step == layers[i].step && got.layer == layers[i].layer);
        CHECK(got.rows == layers[i].rows && reader.at == ends[i]);
        CHECK(memcmp(ids, got_ids, (size_t)got.rows * shape->k * sizeof(*ids)) == 0);
    }
    CHECK(routing_trace_read(&reader, &got, got_ids, &fault) == 0);

    size_t begin = ends[RECORDS - 2];
    for (size_t cut = begin + 1; cut < n; cut++) {
        CHECK(routing_trace_reader_init(&reader, bytes, cut, &fault) == 0);
        for (uint32_t i = 0; i + 1 < RECORDS; i++)
            CHECK(routing_trace_read(&reader, &got, got_ids, NULL) == 1);
        CHECK(routing_trace_read(&reader, &got, got_ids, &fault) == -ENODATA);
        CHECK(reader.at == begin);
        reader.n = n; // the rest has come
        CHECK(routing_trace_read(&reader, &got, got_ids, &fault) == 1);
        if (cut > begin + 40)
            cut += 97; // not every byte of a long one
    }
}

static void test_damage(void)
{
    static const struct routing_trace_shape shape = {61, 256, 8};
    uint8_t bytes[ROUTING_TRACE_HEAD_BYTES + 64], bad[sizeof(bytes)];
    struct routing_trace_writer writer;
    struct routing_trace_reader reader;
    struct routing_trace_layer got;
    struct fault fault = {0};
    for (uint32_t i = 0; i < 8; i++)
        ids[i] = 10 * i;
    CHECK(routing_trace_writer_init(&writer, &shape, bytes) == 0);
    size_t n = ROUTING_TRACE_HEAD_BYTES;
    n += routing_trace_write(&writer, &(struct routing_trace_layer){7, 3, 1}, ids, bytes + n);
    CHECK(n == ROUTING_TRACE_HEAD_BYTES + 3 + 8 + 2);

    for (size_t bit = 0; bit < 8 * n; bit++) {
        memcpy(bad, bytes, n);
        bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int err = routing_trace_reader_init(&reader, bad, n, &fault);
        if (err == 0 && bit / 8 >= ROUTING_TRACE_HEAD_BYTES) {
            err = routing_trace_read(&reader, &got, got_ids, &fault);
            CHECK((err == -EBADMSG || err == -ENODATA) && fault.text[0]);
            CHECK(reader.at == ROUTING_TRACE_HEAD_BYTES);
        }
        CHECK(err != 0 || (bit / 8 >= 12 && bit / 8 < ROUTING_TRACE_HEAD_BYTES)); // another shape
    }
    for (size_t cut = 0; cut < ROUTING_TRACE_HEAD_BYTES; cut++)
        CHECK(routing_trace_reader_init(&reader, bytes, cut, &fault) == -EBADMSG);
}

static void test_refused(void)
{
    static const struct routing_trace_shape bad[] = {
        {0, 8, 2}, {1, 0, 1}, {1, 8, 0}, {1, 8, 9}, {1025, 8, 2}, {1, 4097, 2}, {1, 100, 65}};
    static const struct routing_trace_shape shape = {4, 8, 2};
    uint8_t bytes[64];
    struct routing_trace_writer writer;
    for (uint32_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(routing_trace_writer_init(&writer, &bad[i], bytes) == -EINVAL);

    CHECK(routing_trace_writer_init(&writer, &shape, bytes) == 0);
    struct routing_trace_layer layer = {.step = 5, .layer = 3, .rows = 1};
    CHECK(routing_trace_write(&writer, &layer, (uint32_t[]){7, 0}, bytes) > 0);
    CHECK(routing_trace_write(&writer, &layer, (uint32_t[]){7, 7}, bytes) == 0);
    CHECK(routing_trace_write(&writer, &layer, (uint32_t[]){8, 0}, bytes) == 0);
    layer.layer = 4;
    CHECK(routing_trace_write(&writer, &layer, (uint32_t[]){7, 0}, bytes) == 0);
    layer = (struct routing_trace_layer){.step = 4, .layer = 3, .rows = 1}; // back in time
    CHECK(routing_trace_write(&writer, &layer, (uint32_t[]){7, 0}, bytes) == 0);
    layer.step = 6 + (uint64_t)UINT32_MAX;
    CHECK(routing_trace_write(&writer, &layer, (uint32_t[]){7, 0}, bytes) == 0);
    layer = (struct routing_trace_layer){.step = 5, .layer = 3, .rows = 0};
    CHECK(routing_trace_write(&writer, &layer, ids, bytes) == 0);
    layer.rows = ROUTING_TRACE_ROWS_MAX + 1;
    CHECK(routing_trace_write(&writer, &layer, ids, bytes) == 0);
}

int main(void)
{
    static const struct routing_trace_shape shapes[] = {
        {61, 256, 8}, {5, 16, 4}, {1, 1, 1}, {3, 100, 3}, {1024, 4096, 64}, {2, 257, 9}};
    for (uint32_t i = 0; i < ARRAY_LEN(shapes); i++)
        test_again(&shapes[i]);
    test_damage();
    test_refused();
    return 0;
}
