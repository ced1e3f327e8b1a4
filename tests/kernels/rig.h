// SPDX-License-Identifier: MIT
// rig: what kernel tests share: a device on one path under the validation layers, buffers whose
// every word that a kernel must not touch is watched, heaps of random matrices, comparison.
#pragma once
#include "model/weights.h"
#include "tests/check.h"
#include "vk/cmd.h"

#include <string.h>

// A word that no kernel computes: a NaN with a payload.  Outputs are filled with it, and so are the
// parts of inputs that must not be read into a result.
#define RIG_CANARY 0x7fc0dea1u

struct rig {
    struct vk_device *dev;
    struct vk_cmd *cmd;
    uint32_t lanes; // of a subgroup
    bool texel;     // the path
    uint64_t seed;
    bool ran[KERNEL_COUNT];
};

// rig_open opens the device auto on a path; ends the test with TEST_SKIPPED if there is none.
void rig_open(struct rig *rig, enum vk_path path, bool validate);
void rig_close(struct rig *rig); // fails if validation said anything

// Floats: on the host what the device should hold, and its buffer.
struct words {
    uint32_t n;
    float *v; // [n] host
    struct vk_buffer *buf;
};

// words_make makes n words filled with the canary, on both sides.  As an input they lie at the
// buffer's start (texel views have no offset), as an output between guards.
struct words words_make(struct rig *rig, uint32_t n);
void words_free(struct words *w);
// words_in uploads them as an input;  words_out binds an output;  words_inout uploads there first.
struct vk_bind words_in(const struct words *w);
struct vk_bind words_out(const struct words *w);
struct vk_bind words_inout(const struct words *w);

// words_check reads an output back.  expected[i] with the canary's bits: the word must be
// untouched, as must the guards around the buffer; else |got - expected[i]| <= error[i], or the
// same bits where error is NULL.
void words_check(const struct words *w, const float *expected, const float *error,
                 const char *what);
// words_read reads an output's n words back into a new array.
float *words_read(const struct words *w);

bool is_canary(float v);

float rig_uniform(struct rig *rig, float from, float to);
uint32_t rig_below(struct rig *rig, uint32_t n); // 0 .. n - 1

// Host copy of a heap with matrices, and their table.
#define RIG_MATS_MAX 64u
struct heap {
    uint8_t *bytes;
    uint32_t units, units_max; // of 16 bytes
    struct weight_mat mats[RIG_MATS_MAX];
    uint32_t mats_n;
    struct vk_buffer *buf, *table, *mats_buf;
};

// heap_make: an empty heap.  heap_mat_add adds a random matrix [rows, cols], with 128x128 scales if
// it is FP8 and scaled, whose row 0 is row srow0 of its grid; returns its number.  heap_upload
// makes the buffers.
struct heap heap_make(uint32_t units_max);
uint32_t heap_mat_add(struct rig *rig, struct heap *heap, enum weight_dtype dtype, uint32_t rows,
                      uint32_t cols, uint32_t srow0, bool scaled);
void heap_upload(struct rig *rig, struct heap *heap);
void heap_free(struct heap *heap);
// heap_shifted: the same matrices as kernels find them in files: shift words of 32 bits (0..3)
// behind their units, with NaN codes in front.  Its buffers are made.
struct heap heap_shifted(struct rig *rig, const struct heap *heap, uint32_t shift);
struct vk_bind heap_bind(const struct rig *rig, const struct heap *heap);

// heap_weight: W[row, col] as stored, without its scale; heap_scale: the scale of that element.
double heap_weight(const struct heap *heap, uint32_t mat, uint32_t row, uint32_t col);
double heap_scale(const struct heap *heap, uint32_t mat, uint32_t row, uint32_t col);

// rig_table uploads u32 words.
struct vk_buffer *rig_table(struct rig *rig, const uint32_t *words, uint32_t n);

// rig_run records one dispatch and waits for it.  spec: constant_id 1 ... (0 is the subgroup).
struct dispatch {
    enum kernel kernel;
    const uint32_t *spec;
    uint32_t spec_n;
    const struct vk_bind *binds;
    const void *push;
    uint32_t grid[3];
};
void rig_run(struct rig *rig, const struct dispatch *d);

// rig_xor runs peak_read over the first 16-byte units of a buffer, a multiple of 8 * lanes: what
// kernels see there, as the exclusive or of all words.
uint32_t rig_xor(struct rig *rig, struct vk_buffer *buf, uint32_t units);
