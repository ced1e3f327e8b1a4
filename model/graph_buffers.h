// SPDX-License-Identifier: MIT
// graph_buffers: sizes and places of everything a step writes; shared by the files of the graph
// only.
#pragma once
#include "model/graph.h"

enum graph_buffer {
    BUF_X,        // residual [rows, hidden_p]
    BUF_XN,       // its norm, same shape
    BUF_ATTN_IN,  // q_a | kv_a, q | kv_a or q | k | v
    BUF_QN,       // norm of q_a
    BUF_Q,        // queries after q_b
    BUF_QA,       // absorbed and rotated queries [rows, heads, key]
    BUF_SCORES,   // attention probabilities of some rows
    BUF_PARTIAL,  // attention results of splits
    BUF_OC,       // MLA: attention over the latent [rows, heads, kv_lora]
    BUF_ATTN,     // attention output [rows, heads * v]
    BUF_LOGITS_R, // router logits [rows, experts]
    BUF_ROUTER,   // scores and selection [rows, 2, experts]
    BUF_WEIGHTS,  // routing weights [rows, k]
    BUF_ACT,      // MLP activations [pairs, inter_p]
    BUF_OUT,      // MLP results [pairs, hidden_p]
    BUF_Q8,       // quantised activations (official-fp8)
    BUF_Q8_SCALE, // their scales
    BUF_NORM,     // norm of the rows with logits [logits_rows, hidden_p]
    BUF_NORM_ALL, // norm of all rows of the last main step, for MTP
    BUF_CAT,      // MTP: embedding | hidden [rows, cat_p]
    BUF_ROPE,     // cos, sin [context, rope / 2, 2]
    BUF_IDS,      // expert ids for the host [rows, k]
    // With slots, to foretell what the next MoE layer chooses; FORETELL_ROWS_MAX rows.
    BUF_X_NEXT,       // the residual with the experts that are through
    BUF_XN_NEXT,      // its norm
    BUF_WEIGHTS_NEXT, // routing weights, not used
    BUF_IDS_NEXT,     // expert ids for the host
    BUF_LOGITS,       // logits for the host [logits_rows, vocab]
    BUF_TABLE,        // u32 tables written by the host, see struct graph_table
    BUF_COUNT
};

struct graph_dims { // floats; _p: row strides, padded so that kernels may read whole chunks
    bool mla;
    uint32_t hidden, hidden_p;
    uint32_t heads, kv_heads;
    uint32_t q_cols, attn_in_p, qn_p, q_p;
    uint32_t key, value; // values of a key and of a value, one head
    uint32_t entry;      // values of a KV entry
    uint32_t attn_cols, attn_p;
    uint32_t inter_p, pairs_per_row;
    uint32_t cat_p;
    uint32_t context;        // positions of the longest sequence, a multiple of the page
    uint32_t attention_rows; // rows whose scores fit BUF_SCORES, at the longest context at least 1
};

struct graph_table { // offsets in BUF_TABLE, u32
    uint32_t pages, gather, tiles, pair_rows, sum_rows, sum_list;
    uint32_t next_rows, next_list; // as sum_rows and sum_list, for BUF_X_NEXT
    uint32_t total;
};

// Steps of more rows choose nearly every expert of the next layer: foretelling says nothing.
#define FORETELL_ROWS_MAX 8u
#define SPLIT_TOKENS      512u // positions of one partial sum of attention; fixed, or bits would change

void graph_dims_get(const struct graph_params *params, struct graph_dims *ret);
void graph_table_get(const struct graph_params *params, const struct graph_dims *dims,
                     struct graph_table *ret);
// graph_buffer_bytes returns the size of one buffer; 0: not needed by this model.
uint64_t graph_buffer_bytes(const struct graph_params *params, const struct graph_dims *dims,
                            enum graph_buffer buffer);
uint64_t graph_kv_layer_bytes(const struct graph_params *params, const struct graph_dims *dims);
enum vk_memory graph_buffer_memory(enum graph_buffer buffer);
// graph_attention_direct says whether attention over one split can write its result in place: GQA
// writes rows without padding.
static inline bool graph_attention_direct(const struct graph_dims *dims)
{
    return dims->mla || dims->attn_p == dims->attn_cols;
}
extern const char *const graph_buffer_name[BUF_COUNT];
