// SPDX-License-Identifier: MIT
// Any bytes as a routing trace: records that keep the rules, or an error that says where; what was
// read is written again as the same bytes.
#include "sched/routing_trace.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void layer_check(const struct routing_trace_reader *reader,
                        const struct routing_trace_layer *layer, const uint32_t *ids)
{
    CHECK(layer->layer < reader->shape.layers);
    CHECK(layer->rows >= 1 && layer->rows <= ROUTING_TRACE_ROWS_MAX);
    for (size_t i = 0; i < (size_t)layer->rows * reader->shape.k; i++)
        CHECK(ids[i] < reader->shape.experts);
}

static void write_again(struct routing_trace_writer *writer,
                        const struct routing_trace_layer *layer, const uint32_t *ids,
                        const uint8_t *bytes, size_t n)
{
    uint8_t *again = malloc(routing_trace_layer_bytes(&writer->shape, layer->rows));
    CHECK(again);
    CHECK(routing_trace_write(writer, layer, ids, again) == n);
    CHECK(memcmp(again, bytes, n) == 0);
    free(again);
}

static void trace_read(const uint8_t *data, size_t size)
{
    struct routing_trace_reader reader;
    struct routing_trace_writer writer;
    struct routing_trace_layer layer;
    uint8_t head[ROUTING_TRACE_HEAD_BYTES];
    struct fault fault = {0};
    int got = routing_trace_reader_init(&reader, data, size, &fault);

    if (got) {
        CHECK(got == -EBADMSG && fault.text[0]);
        return;
    }
    CHECK(routing_trace_writer_init(&writer, &reader.shape, head) == 0);
    CHECK(memcmp(head, data, sizeof(head)) == 0);
    uint32_t *ids = malloc((size_t)ROUTING_TRACE_ROWS_MAX * reader.shape.k * sizeof(*ids));
    CHECK(ids);
    size_t at = reader.at;
    while ((got = routing_trace_read(&reader, &layer, ids, &fault)) == 1) {
        layer_check(&reader, &layer, ids);
        CHECK(reader.at > at && reader.at <= size);
        write_again(&writer, &layer, ids, data + at, reader.at - at);
        at = reader.at;
    }
    CHECK(got == 0 || got == -ENODATA || got == -EBADMSG);
    CHECK(reader.at == at && (got != 0 || at == size));
    CHECK(got == 0 || fault.text[0]);
    free(ids);
}

// mend makes the checksums of all records right, so that what stands behind them is tried too.
static void mend(uint8_t *bytes, size_t n)
{
    struct routing_trace_reader reader;
    size_t at = ROUTING_TRACE_HEAD_BYTES;
    if (routing_trace_reader_init(&reader, bytes, n, NULL))
        return;
    for (;;) {
        size_t begin = at;
        uint32_t number = 0, hash = 0x811c9dc5u;
        for (int i = 0; i < 3; i++) {
            number = 0;
            for (uint32_t shift = 0; at < n; shift += 7) {
                number |= shift < 32 ? (uint32_t)(bytes[at] & 0x7f) << shift : 0;
                if (!(bytes[at++] & 0x80))
                    break;
            }
        }
        if (number < 1 || number > ROUTING_TRACE_ROWS_MAX)
            return;
        size_t ids = routing_trace_layer_bytes(&reader.shape, number) -
                     routing_trace_layer_bytes(&reader.shape, 0);
        if (n - at < ids + 2)
            return;
        for (at += ids; begin < at; begin++)
            hash = (hash ^ bytes[begin]) * 0x01000193u;
        bytes[at++] = (uint8_t)(hash >> 16 ^ hash);
        bytes[at++] = (uint8_t)((hash >> 16 ^ hash) >> 8);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *mended = malloc(size + 1);
    CHECK(mended);
    memcpy(mended, data, size);
    mend(mended, size);
    trace_read(data, size);
    trace_read(mended, size);
    free(mended);
    return 0;
}
