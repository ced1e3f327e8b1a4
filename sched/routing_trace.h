// SPDX-License-Identifier: MIT
// routing_trace: what routers chose, step by step and layer by layer, in a few bytes a token, so
// that policies can be compared on what really happened (tools/replay).  `expertd --trace-routing`
// writes one.
//
// Pure: bytes in buffers, no files.  A damaged trace gives an error, never a wrong access.
//
//     head    8 bytes "expertRT", then u32 little-endian: version 1, layers, experts, k
//     layer   step, layer, rows as LEB128 (7 bits a byte, lowest first, shortest form), step as the
//             difference to the record before; then rows x k ids of `bits` bits each, row by row,
//             lowest bit first, padded with zeros to a byte; then u16 little-endian: FNV-1a of the
//             record's bytes, upper half xor lower half
//
// bits is the width of experts - 1, at least 1.  Every row's ids are distinct; their order is the
// router's.  A trace that was cut (disk full, power) is good up to its last whole record.
// Thread: any; one thread a writer or reader.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROUTING_TRACE_HEAD_BYTES  24u
#define ROUTING_TRACE_LAYERS_MAX  1024u
#define ROUTING_TRACE_EXPERTS_MAX 4096u
#define ROUTING_TRACE_K_MAX       64u
#define ROUTING_TRACE_ROWS_MAX    2048u // of one record

struct routing_trace_shape {
    uint32_t layers;  // of the model, dense ones and the MTP layer included: numbers below are less
    uint32_t experts; // of a layer
    uint32_t k;       // that a row chooses, <= experts
};

// routing_trace_shape_ok says whether a trace can have this shape.
bool routing_trace_shape_ok(const struct routing_trace_shape *shape);

/* ------------------------------------------------------------------ writer */

struct routing_trace_writer { // opaque; in the caller's memory
    struct routing_trace_shape shape;
    uint64_t step; // of the last record
};

// routing_trace_writer_init begins a trace and writes its head.  -EINVAL: no such shape.
int routing_trace_writer_init(struct routing_trace_writer *writer,
                              const struct routing_trace_shape *shape,
                              uint8_t ret_head[ROUTING_TRACE_HEAD_BYTES]);

// routing_trace_layer_bytes returns the most bytes that a record of `rows` rows has.
size_t routing_trace_layer_bytes(const struct routing_trace_shape *shape, uint32_t rows);

// routing_trace_layer is a record.
struct routing_trace_layer {
    uint64_t step; // any numbers that do not fall, less than 2^32 apart
    uint32_t layer;
    uint32_t rows; // 1..ROUTING_TRACE_ROWS_MAX
};

// routing_trace_write writes a record.
//
// ids: [rows, k].
// ret: [routing_trace_layer_bytes(shape, rows)].
// Returns how many bytes it wrote; 0 if the record breaks a rule (nothing changed then).
size_t routing_trace_write(struct routing_trace_writer *writer,
                           const struct routing_trace_layer *layer, const uint32_t *ids,
                           uint8_t *ret);

/* ------------------------------------------------------------------ reader */

struct routing_trace_reader { // in the caller's memory
    struct routing_trace_shape shape;
    const uint8_t *bytes; // not owned
    size_t n, at;         // `at`: the next record's first byte
    uint64_t step;        // of the last record
};

// routing_trace_reader_init reads the head.  Keeps a pointer to bytes.
// -EBADMSG: no trace, or one of another version, or of a shape that cannot be.
int routing_trace_reader_init(struct routing_trace_reader *reader, const uint8_t *bytes, size_t n,
                              struct fault *fault);

// routing_trace_read reads the next record.
//
// ret_ids: [ROUTING_TRACE_ROWS_MAX, shape.k], of which rows x k are written.
// Returns 1; 0 at the end; -ENODATA if the last record is cut (reader->at is where it begins: who
// reads a stream may come back with more bytes); -EBADMSG if it is damaged.
int routing_trace_read(struct routing_trace_reader *reader, struct routing_trace_layer *ret,
                       uint32_t *ret_ids, struct fault *fault);
