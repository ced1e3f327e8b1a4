// SPDX-License-Identifier: MIT
// graph_record: recording of one step's dispatches; shared by the files of the graph only.
// graph.c runs steps; graph_record.c records matrices and norms, graph_attention.c attention,
// graph_mlp.c the router, the MLPs and the tables that send rows to experts.
// Errors stay in g->err; once it is set, recording does nothing.
#pragma once
#include "model/graph_buffers.h"
#include "model/tile.h"

#include <string.h>

#define GRAPH_EXPERTS_MAX 1024u // of a layer
#define GRAPH_EPS_LORA                                                                             \
    1e-6f // q_a_layernorm, kv_a_layernorm, whatever rms_norm_eps says (model.md 3.2)

// Command lists in flight: what was submitted before its turn comes again is waited for.
#define GRAPH_CMDS 4u
struct graph_cmd {
    struct vk_cmd *cmd;
    uint64_t value;  // timeline value that says it is done; 0: not submitted
    uint32_t *slots; // [n_routed_experts] expert slots that it reads
    uint32_t slots_n;
};

struct graph {
    struct graph_params p;
    struct graph_dims d;
    struct graph_table t;
    const struct weights *w;
    struct vk_device *dev;
    struct graph_cmd cmds[GRAPH_CMDS];
    uint32_t cmd_at;    // cmds[cmd_at] is being recorded
    struct vk_cmd *cmd; // its list
    struct vk_buffer *buf[BUF_COUNT];
    struct vk_buffer **kv; // [layers]
    uint32_t *table;       // host address of BUF_TABLE
    uint32_t subgroup;
    uint32_t heads_tile; // heads that one attention subgroup takes
    float score_scale;

    // The step being run.
    uint32_t n, logits_n, context; // rows, rows with logits, highest position + 1
    bool tables_moe;         // the tables of pairs are an MoE layer's that may not have run yet
    bool *row_failed;        // [rows_max] an expert that the row needs could not be had
    struct fault row_fault;  // why, the first of the step
    uint32_t foretold_layer; // whose experts the list cmds[foretold_cmd] foretells, or WEIGHT_NONE
    uint32_t foretold_cmd;
    struct engine_row
        *last_rows; // [rows_max] rows of the last main step, whose hidden states are kept
    uint32_t last_n;

    const struct expert_source *source; // NULL: experts are resident
    void (*routing)(void *user, uint32_t layer, const uint32_t *ids, uint32_t rows, uint32_t k);
    void *routing_user;
    engine_tap_fn tap;
    void *tap_user;
    float *tap_data;
    struct engine_counters counters;
    int err; // first error of the step
    struct fault *fault;
};

struct graph_matmul {
    struct weight_group group;
    enum graph_buffer x, y;
    uint32_t x_stride, y_stride, rows;
    bool accumulate;
    bool quantise; // in official-fp8, if the matrices are FP8
};

struct graph_norm {
    enum graph_buffer x, y;
    uint32_t n, x_stride, x_col, y_stride, y_col, weight, rows;
    float eps;
    bool gather; // source rows from the table's gather list
};

// What goes through the MLP kernels: tiles of pairs, and for each row of x the pairs to add up.
struct graph_moe {
    uint32_t tiles, pairs;
    uint32_t xrows; // pairs of a tile at most
    uint32_t mat0;  // one MLP for all tiles, or WEIGHT_NONE
};

// Some of them for one dispatch: matrices of one pipeline, with slots of one heap and offset.
struct graph_tiles {
    uint32_t first, n;
    uint32_t xrows, mat0; // as struct graph_moe
};

static inline uint32_t graph_ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

static inline uint32_t graph_float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

// graph_bind binds all of a buffer.
static inline struct vk_bind graph_bind(struct vk_buffer *buf)
{
    return (struct vk_bind){.buf = buf};
}

static inline const struct weight_mat *graph_mat(const struct graph *g, uint32_t idx)
{
    return &g->w->mats[idx];
}

// What binding H takes: the heap itself, or the table of addresses.
struct vk_bind graph_heap_bind(const struct graph *g, uint32_t heap);
// graph_quantises says whether official-fp8 quantises what this matrix multiplies.
bool graph_quantises(const struct graph *g, uint32_t mat);

struct vk_pipeline *graph_pipeline(struct graph *g, enum kernel kernel, const uint32_t *spec,
                                   uint32_t n);
struct vk_pipeline *graph_pipeline_simple(struct graph *g, enum kernel kernel);
struct vk_pipeline *graph_pipeline_matmul(struct graph *g, enum kernel kernel, struct tile tile,
                                          const struct weight_mat *mat, bool act_scale);
void graph_dispatch(struct graph *g, struct vk_pipeline *pipe, const struct vk_bind *binds,
                    const void *push, uint32_t gx, uint32_t gy, uint32_t gz);
void graph_barrier(struct graph *g);

// Each ends with a barrier.
// graph_record_quant quantises rows row0 .. row0 + rows - 1 of x into BUF_Q8 (official-fp8);
// s_stride: scales from row to row, at least one for 128 columns.
void graph_record_quant(struct graph *g, enum graph_buffer x, uint32_t x_stride, uint32_t s_stride,
                        uint32_t cols, uint32_t row0, uint32_t rows);
void graph_record_matmul(struct graph *g, const struct graph_matmul *mm);
void graph_record_norm(struct graph *g, const struct graph_norm *norm);
void graph_record_residual_norm(struct graph *g, uint32_t weight);
void graph_record_embed(struct graph *g);
void graph_record_attention(struct graph *g, uint32_t layer_idx);
// graph_record_router writes what the router of a layer chooses for the rows of x.
void graph_record_router(struct graph *g, const struct weight_layer *layer, enum graph_buffer x,
                         enum graph_buffer ids, enum graph_buffer weights);
void graph_record_mlp(struct graph *g, const struct weight_layer *layer,
                      const struct graph_moe *moe);

// The stages of graph_record_mlp, for experts that come one by one.  No barriers, but where a stage
// quantises (official-fp8).
void graph_record_mlp_in(struct graph *g, const struct weight_layer *layer);
void graph_record_up(struct graph *g, const struct weight_layer *layer,
                     const struct graph_tiles *tiles, uint32_t gate_idx);
void graph_record_act(struct graph *g, const struct weight_layer *layer, uint32_t mat,
                      uint32_t pair0, uint32_t pairs);
void graph_record_down(struct graph *g, const struct weight_layer *layer,
                       const struct graph_tiles *tiles, uint32_t gate_idx);
// Adds the results of pairs to x, as the table's lists at rows0 and list0 say; ends with a barrier.
void graph_record_sum(struct graph *g, enum graph_buffer x, uint32_t rows0, uint32_t list0);

// Fill BUF_TABLE for the rows of the step; ids: [n, k], read from the router.
struct graph_moe graph_table_dense(struct graph *g, uint32_t mat);
struct graph_moe graph_table_experts(struct graph *g, const struct weight_layer *layer,
                                     const uint32_t *ids);
// graph_table_pairs fills the pairs only: those of expert e are first[e] .. first[e + 1] - 1;
// first: [n_routed_experts + 1].  Rows that failed have none.
struct graph_moe graph_table_pairs(struct graph *g, const struct weight_layer *layer,
                                   const uint32_t *ids, uint32_t *first);
void graph_tile_add(struct graph *g, struct graph_moe *moe, uint32_t mat, uint32_t pair0,
                    uint32_t pairs);
void graph_tile_shared(struct graph *g, const struct weight_layer *layer, struct graph_moe *moe);

// Submissions (graph.c).  graph_begin starts the next command list; graph_submit sends it off;
// graph_wait waits for one and gives its slots back.
void graph_begin(struct graph *g);
void graph_submit(struct graph *g);
void graph_wait(struct graph *g, struct graph_cmd *cmd);

// Streamed experts (graph_experts.c).
// graph_foretell asks the router of a layer, if it is an MoE one, about the residual as it is
// before the layer's attention, in a submission of its own; graph_foretold tells the source what a
// submission foretold, if one did, waiting for it.
void graph_foretell(struct graph *g, uint32_t layer_idx);
void graph_foretold(struct graph *g);
// graph_run_experts computes the experts of a layer as the source brings them, and records the sum;
// ids: [n, k].
void graph_run_experts(struct graph *g, uint32_t layer_idx, const uint32_t *ids);
