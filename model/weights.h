// SPDX-License-Identifier: MIT
// weights: every tensor of a checkpoint in device memory, and the table by which kernels find them.
// Matrices keep their bytes (FP8 codes, BF16, F32; F16 becomes F32) in heaps of 16-byte units, rows
// padded with zeros to 16 columns; norms and biases become one array of f32 ("vectors"). A tensor
// that does not fit one heap is cut by rows into parts. Owner: the step thread; read-only after
// weights_load.
#pragma once
#include "model/checkpoint.h"
#include "vk/buffer.h"

#define WEIGHT_NONE UINT32_MAX

enum weight_dtype { WEIGHT_FP8, WEIGHT_BF16, WEIGHT_F32, WEIGHT_DTYPE_COUNT };

// One matrix as kernels see it (struct mat of vk-shaders/matmul_core.glsl).
struct weight_mat {
    uint32_t heap;
    uint32_t w16;   // first 16-byte unit in the heap
    uint32_t s4;    // first scale, in floats from the heap's start
    uint32_t rows;  // N
    uint32_t cols;  // K
    uint32_t k16;   // 16-byte units a row
    uint32_t srow0; // row 0's place in its grid of scale blocks
    uint32_t scols; // scales a row of blocks; 0: none
    uint32_t x_col; // first float of x
    uint32_t y_col; // first float of y
    uint32_t bias;  // first float in the vectors, or WEIGHT_NONE
    uint32_t up;    // of a gate_proj: the number of its up_proj
    uint32_t down;  // and of its down_proj
    uint32_t dtype; // enum weight_dtype
    uint32_t shift; // 32-bit words from w16's unit to the first byte, 0..3 (SHIFT of the shaders)
    uint32_t pad;
};
_Static_assert(sizeof(struct weight_mat) == 64, "the shaders' struct mat");

// Matrices first .. first + n - 1 that one dispatch multiplies with the same x.
struct weight_group {
    uint32_t first, n;
};

struct weight_layer {
    bool moe;
    struct weight_group attention_in; // [q_a, kv_a], [q, kv_a] or [q, k, v], side by side in y
    struct weight_group q_b;          // n = 0 without q_lora
    uint32_t kv_b;                    // mat, for the absorbed query
    struct weight_group value_up;     // W_UV of every head: x_col = h * kv_lora, y_col = h * v
    struct weight_group o;
    struct weight_group router;
    uint32_t mlp;     // gate_proj of the dense MLP, or of the shared experts, or WEIGHT_NONE
    uint32_t expert0; // gate_proj of expert 0; expert e is at expert0 + 3 e.  With slots: of slot 0
    uint32_t input_norm, post_attention_norm, q_a_norm, kv_a_norm; // first float in the vectors
    uint32_t router_bias;                                          // or WEIGHT_NONE
};

struct weights {
    struct vk_device *dev;
    struct weight_mat *mats; // [mats_n], host copy
    uint32_t mats_n;
    struct vk_buffer *mats_buf;
    struct vk_buffer *vectors;    // f32
    struct vk_buffer **heaps;     // [heaps_n + arenas_n]
    struct vk_buffer *heap_table; // u64 addresses
    uint32_t heaps_n;
    uint64_t bytes;        // of all heaps
    uint64_t expert_bytes; // of it, routed experts

    // Routed experts in slots (model/slots.h, which fills these before weights_load): slot s has
    // its gate, up and down at slot_mat0 + 3 s.
    uint32_t slot_mat0, slots_n;
    struct vk_buffer **arenas; // [arenas_n] owned by the slots; heap heaps_n + i is arena i
    uint32_t arenas_n;
    uint64_t front_bytes; // of `bytes`, at the start of arena 0, a multiple of 4096: shared experts
                          // that a dispatch takes together with slots of that arena

    struct weight_layer *layers; // [num_hidden_layers + MTP]
    uint32_t layers_n;
    struct weight_group embed; // parts by rows
    struct weight_group head;  // parts by rows, y_col set
    uint32_t norm;
    struct weight_group mtp_eh;
    uint32_t mtp_enorm, mtp_hnorm, mtp_head_norm;
};

// weights_plan places every tensor without touching the device's memory: fills all but the buffers.
// mtp: include the MTP layer.  experts: include the routed experts; else there will be slots.
// heap_max: bytes of a heap at most, 0: what the device allows.
// Errors: -ENOTSUP a dtype or size that is not served (tensor named), -ENOMEM.
int weights_plan(const struct checkpoint *ck, struct vk_device *dev, bool mtp, bool experts,
                 uint64_t heap_max, struct weights **ret, struct fault *fault);

// weights_heap_max returns how many bytes one heap may have on a device.
uint64_t weights_heap_max(const struct vk_device *dev, uint64_t heap_max);

// weights_slots_add makes room in the table for the matrices of n slots and remembers the arenas
// [arenas_n] that they lie in (an array that the caller keeps); the first begins with front_bytes
// that weights_load fills.  Between plan and load.
int weights_slots_add(struct weights *w, uint32_t n, struct vk_buffer **arenas, uint32_t arenas_n,
                      struct fault *fault);
// weights_slot_set writes the three matrices of a slot into the table that kernels read; none of
// them may be in use.  After weights_load.
void weights_slot_set(struct weights *w, uint32_t slot, const struct weight_mat mats[3]);

// weights_dtype says how kernels read matrices of this dtype and how many 16-byte units 16 columns
// take.  -ENOTSUP for a dtype that is not served.
int weights_dtype(enum dtype dtype, uint32_t *ret, uint32_t *ret_units);
// weights_rows_pad copies rows of a tensor to rows of padded_bytes; F16 widens to F32 on the way.
void weights_rows_pad(enum dtype dtype, const uint8_t *src, uint32_t rows, uint32_t cols,
                      uint64_t padded_bytes, uint8_t *dst);

// weights_load makes the heaps and reads the checkpoint into them.
// FP8 data are scanned for NaN codes, scales for values that are not finite and positive.
// Errors: -EBADMSG with file and tensor, -EIO, -ENOMEM.
int weights_load(struct weights *w, const struct checkpoint *ck,
                 void (*progress)(void *user, uint64_t done, uint64_t total), void *user,
                 struct fault *fault);

void weights_destroy(struct weights **w);
