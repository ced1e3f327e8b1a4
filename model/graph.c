// SPDX-License-Identifier: MIT
#include "model/graph_buffers.h"
#include "model/rope.h"
#include "model/tile.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NORM_EPS_LORA                                                                              \
    1e-6f // q_a_layernorm and kv_a_layernorm, whatever rms_norm_eps says (model.md 3.2)
#define POSITIONS_LANE 4u              // positions a lane of att_scores owns on the texel path
#define WAIT_NS        600000000000ull // a step that takes longer has hung the device

struct graph {
    struct graph_params p;
    struct graph_dims d;
    struct graph_table t;
    const struct weights *w;
    struct vk_device *dev;
    struct vk_cmd *cmd;
    struct vk_buffer *buf[BUF_COUNT];
    struct vk_buffer **kv; // [layers]
    uint32_t *table;       // host address of BUF_TABLE
    uint32_t subgroup;
    uint32_t heads_tile; // heads that one attention subgroup takes
    float score_scale;

    // The step being run.
    uint32_t n, logits_n, context; // rows, rows with logits, highest position + 1
    struct engine_row
        *last_rows; // [rows_max] rows of the last main step, whose hidden states are kept
    uint32_t last_n;

    engine_tap_fn tap;
    void *tap_user;
    float *tap_data;
    struct engine_counters counters;
    int err; // first error of the step
    struct fault *fault;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

static uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* -------------------------------------------------------------- recording */

static struct vk_pipeline *pipeline(struct graph *g, enum kernel kernel, const uint32_t *spec,
                                    uint32_t n)
{
    struct vk_pipeline *pipe = NULL;
    int err = vk_pipeline_get(g->dev, kernel, spec, n, &pipe, g->fault);
    if (err && !g->err)
        g->err = err;
    return pipe;
}

static struct vk_pipeline *simple_pipeline(struct graph *g, enum kernel kernel)
{
    return pipeline(g, kernel, &g->subgroup, 1);
}

static void dispatch(struct graph *g, struct vk_pipeline *pipe, const struct vk_bind *binds,
                     const void *push, uint32_t gx, uint32_t gy, uint32_t gz)
{
    if (!g->err)
        vk_cmd_dispatch(g->cmd, pipe, binds, push, gx, gy, gz);
}

static void barrier(struct graph *g)
{
    if (!g->err)
        vk_cmd_barrier(g->cmd);
}

static struct vk_bind whole(struct vk_buffer *buf)
{
    return (struct vk_bind){.buf = buf};
}

// What binding H takes: the heap itself, or the table of addresses.
static struct vk_bind heap_bind(const struct graph *g, uint32_t heap)
{
    return whole(vk_device_path(g->dev) == VK_PATH_TEXEL ? g->w->heaps[heap] : g->w->heap_table);
}

static const struct weight_mat *mat_of(const struct graph *g, uint32_t idx)
{
    return &g->w->mats[idx];
}

static bool fp8_quantised(const struct graph *g, uint32_t mat)
{
    return g->p.numerics == NUMERICS_OFFICIAL_FP8 && mat_of(g, mat)->dtype == WEIGHT_FP8;
}

// absorb walks kv_b_proj in steps of 8 rows; do they straddle two blocks of scales?
static bool absorb_straddles(const struct graph *g)
{
    const struct model_config *c = g->p.config;
    return c->qk_nope_head_dim % 8 || (c->qk_nope_head_dim + c->v_head_dim) % 8;
}

static struct vk_pipeline *matmul_pipeline(struct graph *g, enum kernel kernel, struct tile tile,
                                           const struct weight_mat *mat, bool act_scale)
{
    uint32_t decode = mat->dtype == WEIGHT_FP8 ? vk_device_limits(g->dev)->e4m3 : 0;
    bool row_scale =
        kernel == KERNEL_ABSORB ? absorb_straddles(g) : mat->scols && mat->srow0 % tile.rows != 0;
    uint32_t spec[] = {g->subgroup, tile.rows, tile.xrows, mat->dtype,
                       decode,      row_scale, act_scale};
    return pipeline(g, kernel, spec, sizeof(spec) / sizeof(spec[0]));
}

// Quantises rows of x into BUF_Q8 (official-fp8).
static void record_quant(struct graph *g, enum graph_buffer x, uint32_t x_stride, uint32_t cols,
                         uint32_t rows)
{
    uint32_t groups = ceil_div(cols, 128);
    struct {
        uint32_t n, x_stride4, x_col4, q_stride4, s_stride, ue8m0, pad[2];
    } push = {cols, x_stride / 4, 0, x_stride / 4, groups, g->p.config->scale_ue8m0, {0}};
    dispatch(
        g, simple_pipeline(g, KERNEL_QUANT),
        (struct vk_bind[]){whole(g->buf[x]), whole(g->buf[BUF_Q8]), whole(g->buf[BUF_Q8_SCALE])},
        &push, ceil_div(groups, g->subgroup), rows, 1);
    barrier(g);
}

struct matmul {
    struct weight_group group;
    enum graph_buffer x, y;
    uint32_t x_stride, y_stride, rows;
    bool accumulate;
    bool quantise; // in official-fp8, if the matrices are FP8
};

// A dispatch takes neighbours that one pipeline and (on the texel path) one heap can serve.
static bool mats_alike(const struct graph *g, const struct weight_mat *a,
                       const struct weight_mat *b, struct tile tile)
{
    bool row_scale_a = a->scols && a->srow0 % tile.rows != 0;
    bool row_scale_b = b->scols && b->srow0 % tile.rows != 0;
    bool heaps = a->heap == b->heap || vk_device_path(g->dev) == VK_PATH_ADDRESS;
    return a->dtype == b->dtype && row_scale_a == row_scale_b && heaps;
}

static void record_matmul(struct graph *g, const struct matmul *mm)
{
    struct tile tile = tile_for(g->dev, mat_of(g, mm->group.first)->k16, mm->rows);
    enum graph_buffer x = mm->x;
    bool quantised = mm->quantise && fp8_quantised(g, mm->group.first);
    uint32_t cols = mat_of(g, mm->group.first)->cols;
    if (quantised) {
        record_quant(g, mm->x, mm->x_stride, cols, mm->rows);
        x = BUF_Q8;
    }
    for (uint32_t i = 0; i < mm->group.n;) {
        const struct weight_mat *mat = mat_of(g, mm->group.first + i);
        uint32_t run = 1, rows = mat->rows;
        while (i + run < mm->group.n && mats_alike(g, mat, mat + run, tile)) {
            rows = mat[run].rows > rows ? mat[run].rows : rows;
            run++;
        }
        struct {
            uint32_t mat0, heap, rows, x_stride4, y_stride, xs_stride, accumulate, pad[9];
        } push = {mm->group.first + i, mat->heap,           mm->rows,       mm->x_stride / 4,
                  mm->y_stride,        ceil_div(cols, 128), mm->accumulate, {0}};
        dispatch(
            g, matmul_pipeline(g, KERNEL_MATMUL, tile, mat, quantised && mat->dtype == WEIGHT_FP8),
            (struct vk_bind[]){heap_bind(g, mat->heap), whole(g->w->mats_buf), whole(g->buf[x]),
                               whole(g->buf[BUF_Q8_SCALE]), whole(g->buf[mm->y]),
                               whole(g->w->vectors)},
            &push, ceil_div(rows, tile.rows), ceil_div(mm->rows, tile.xrows), run);
        i += run;
    }
    barrier(g);
}

struct norm {
    enum graph_buffer x, y;
    uint32_t n, x_stride, x_col, y_stride, y_col, weight, rows;
    float eps;
    bool gather; // source rows from the table's gather list
};

static void record_norm(struct graph *g, const struct norm *norm)
{
    struct {
        uint32_t n, x_stride4, x_col4, y_stride, y_col, weight4, eps, gather, gather0, pad[3];
    } push = {norm->n,          norm->x_stride / 4,    norm->x_col / 4, norm->y_stride, norm->y_col,
              norm->weight / 4, float_bits(norm->eps), norm->gather,    g->t.gather,    {0}};
    dispatch(g, simple_pipeline(g, KERNEL_RMSNORM),
             (struct vk_bind[]){whole(g->buf[norm->x]), whole(g->w->vectors),
                                whole(g->buf[norm->y]), whole(g->buf[BUF_TABLE])},
             &push, norm->rows, 1, 1);
    barrier(g);
}

static void record_residual_norm(struct graph *g, uint32_t weight)
{
    record_norm(g, &(struct norm){.x = BUF_X,
                                  .y = BUF_XN,
                                  .n = g->d.hidden,
                                  .x_stride = g->d.hidden_p,
                                  .y_stride = g->d.hidden_p,
                                  .weight = weight,
                                  .rows = g->n,
                                  .eps = g->p.config->rms_norm_eps});
}

static void record_embed(struct graph *g)
{
    for (uint32_t i = 0; i < g->w->embed.n; i++) {
        const struct weight_mat *mat = mat_of(g, g->w->embed.first + i);
        struct {
            uint32_t heap, w16, k16, cols, token0, tokens, stride4, row0, f32, pad[3];
        } push = {mat->heap,
                  mat->w16,
                  mat->k16,
                  mat->cols,
                  mat->y_col,
                  mat->rows,
                  g->d.hidden_p / 4,
                  0,
                  mat->dtype == WEIGHT_F32,
                  {0}};
        dispatch(g, simple_pipeline(g, KERNEL_EMBED),
                 (struct vk_bind[]){heap_bind(g, mat->heap), whole(g->buf[BUF_TABLE]),
                                    whole(g->buf[BUF_X])},
                 &push, ceil_div(ceil_div(mat->cols, 8), g->subgroup), g->n, 1);
    }
    barrier(g);
}

/* -------------------------------------------------------------- attention */

static enum kernel kv_kernel(const struct graph *g, enum kernel f32)
{
    return g->p.kv_type == KV_F16 ? (enum kernel)(f32 + 1) : f32;
}

static void record_absorb(struct graph *g, const struct weight_layer *layer)
{
    const struct model_config *c = g->p.config;
    const struct weight_mat *mat = mat_of(g, layer->kv_b);
    bool q_b = c->q_lora_rank != 0;
    struct tile tile = g->n == 1 ? (struct tile){16, 1} : (struct tile){16, 8};
    struct {
        uint32_t mat_idx, rows, nope, head_rows, q_stride, q_head, out_stride, out_head, pad[4];
    } push = {layer->kv_b,
              g->n,
              c->qk_nope_head_dim,
              c->qk_nope_head_dim + c->v_head_dim,
              q_b ? g->d.q_p : g->d.attn_in_p,
              c->qk_nope_head_dim + c->qk_rope_head_dim,
              g->d.heads * g->d.key,
              g->d.key,
              {0}};
    uint32_t chunks = ceil_div(c->kv_lora_rank, 16);
    dispatch(g, matmul_pipeline(g, KERNEL_ABSORB, tile, mat, false),
             (struct vk_bind[]){heap_bind(g, mat->heap), whole(g->w->mats_buf),
                                whole(g->buf[q_b ? BUF_Q : BUF_ATTN_IN]), whole(g->buf[BUF_QA])},
             &push, ceil_div(chunks, g->subgroup), g->d.heads, ceil_div(g->n, tile.xrows));
}

static void record_mla_prep(struct graph *g, const struct weight_layer *layer, uint32_t layer_idx)
{
    const struct model_config *c = g->p.config;
    bool q_b = c->q_lora_rank != 0;
    struct {
        uint32_t heads, lora, rope_dim, nope, q_stride, q_head, qa_stride, qa_head, kv_stride4,
            kv_col4, weight4, eps, entry, page_tokens, pages_max, pages0;
    } push = {g->d.heads,
              c->kv_lora_rank,
              c->qk_rope_head_dim,
              c->qk_nope_head_dim,
              q_b ? g->d.q_p : g->d.attn_in_p,
              c->qk_nope_head_dim + c->qk_rope_head_dim,
              g->d.heads * g->d.key,
              g->d.key,
              g->d.attn_in_p / 4,
              g->d.q_cols / 4,
              layer->kv_a_norm / 4,
              float_bits(NORM_EPS_LORA),
              g->d.entry,
              KV_PAGE_TOKENS,
              g->p.pages_per_sequence,
              g->t.pages};
    uint32_t spec[] = {g->subgroup, c->rope.interleave};
    dispatch(g, pipeline(g, kv_kernel(g, KERNEL_MLA_PREP_F32), spec, 2),
             (struct vk_bind[]){whole(g->buf[BUF_ATTN_IN]), whole(g->w->vectors),
                                whole(g->buf[q_b ? BUF_Q : BUF_ATTN_IN]), whole(g->buf[BUF_ROPE]),
                                whole(g->buf[BUF_TABLE]), whole(g->buf[BUF_QA]),
                                whole(g->kv[layer_idx])},
             &push, g->n, g->d.heads + 1, 1);
    barrier(g);
}

static void record_mla_in(struct graph *g, const struct weight_layer *layer, uint32_t layer_idx)
{
    const struct model_config *c = g->p.config;
    if (c->q_lora_rank) {
        record_norm(g, &(struct norm){.x = BUF_ATTN_IN,
                                      .y = BUF_QN,
                                      .n = c->q_lora_rank,
                                      .x_stride = g->d.attn_in_p,
                                      .y_stride = g->d.qn_p,
                                      .weight = layer->q_a_norm,
                                      .rows = g->n,
                                      .eps = NORM_EPS_LORA});
        record_matmul(g, &(struct matmul){.group = layer->q_b,
                                          .x = BUF_QN,
                                          .y = BUF_Q,
                                          .x_stride = g->d.qn_p,
                                          .y_stride = g->d.q_p,
                                          .rows = g->n,
                                          .quantise = true});
    }
    record_absorb(g, layer); // writes other columns of BUF_QA than mla_prep
    record_mla_prep(g, layer, layer_idx);
}

static void record_gqa_in(struct graph *g, uint32_t layer_idx)
{
    const struct model_config *c = g->p.config;
    struct {
        uint32_t heads, kv_heads, dim, qkv_stride4, qa_stride, qa_head, entry, page_tokens,
            pages_max, pages0, pad[6];
    } push = {
        g->d.heads, g->d.kv_heads, c->head_dim,    g->d.attn_in_p / 4,      g->d.heads * g->d.key,
        g->d.key,   g->d.entry,    KV_PAGE_TOKENS, g->p.pages_per_sequence, g->t.pages,
        {0}};
    dispatch(g, simple_pipeline(g, kv_kernel(g, KERNEL_GQA_PREP_F32)),
             (struct vk_bind[]){whole(g->buf[BUF_ATTN_IN]), whole(g->buf[BUF_ROPE]),
                                whole(g->buf[BUF_TABLE]), whole(g->buf[BUF_QA]),
                                whole(g->kv[layer_idx])},
             &push, g->n, g->d.heads + g->d.kv_heads, 1);
    barrier(g);
}

// Scores, softmax and values of rows row0 .. row0 + rows - 1.
static void record_attention_rows(struct graph *g, uint32_t layer_idx, uint32_t row0, uint32_t rows)
{
    uint32_t per_key = g->d.heads / g->d.kv_heads;
    uint32_t tile = g->heads_tile < per_key ? g->heads_tile : per_key;
    uint32_t groups = ceil_div(per_key, tile) * g->d.kv_heads;
    uint32_t t_stride = (g->context + 31) & ~31u, splits = ceil_div(g->context, SPLIT_TOKENS);
    bool texel = vk_device_path(g->dev) == VK_PATH_TEXEL;
    uint32_t positions = g->subgroup * (texel ? POSITIONS_LANE : 1); // of one subgroup
    uint32_t columns = texel ? 8 : 4;                                // of one lane
    uint32_t spec[] = {g->subgroup, tile, POSITIONS_LANE};
    enum graph_buffer out = g->d.mla ? BUF_OC : BUF_ATTN;
    uint32_t key_stride = g->d.mla ? 0 : g->d.key;
    // Without splits the kernel writes the result itself; BUF_ATTN of GQA must then have no
    // padding.
    bool direct = splits == 1 && (g->d.mla || g->d.attn_p == g->d.attn_cols);
    struct vk_buffer *o = g->buf[direct ? out : BUF_PARTIAL];

    struct {
        uint32_t row0, heads, heads_per_key, dim4, key_stride, qa_stride4, qa_head4, entry,
            page_tokens, pages_max, pages0, t_stride, scale, pad[3];
    } scores = {row0,
                g->d.heads,
                per_key,
                g->d.key / 4,
                key_stride,
                g->d.heads * g->d.key / 4,
                g->d.key / 4,
                g->d.entry,
                KV_PAGE_TOKENS,
                g->p.pages_per_sequence,
                g->t.pages,
                t_stride,
                float_bits(g->score_scale),
                {0}};
    dispatch(g, pipeline(g, kv_kernel(g, KERNEL_ATT_SCORES_F32), spec, 3),
             (struct vk_bind[]){whole(g->kv[layer_idx]), whole(g->buf[BUF_QA]),
                                whole(g->buf[BUF_TABLE]), whole(g->buf[BUF_SCORES])},
             &scores, ceil_div(g->context, positions), groups, rows);
    barrier(g);

    struct {
        uint32_t row0, heads, t_stride, pad[5];
    } softmax = {row0, g->d.heads, t_stride, {0}};
    dispatch(g, simple_pipeline(g, KERNEL_ATT_SOFTMAX),
             (struct vk_bind[]){whole(g->buf[BUF_SCORES]), whole(g->buf[BUF_TABLE])}, &softmax,
             g->d.heads, rows, 1);
    barrier(g);

    struct {
        uint32_t row0, heads, heads_per_key, dim4, value_col, value_stride, entry, page_tokens,
            pages_max, pages0, t_stride, split_tokens, groups, o_row0, o_rows, pad;
    } values = {row0,
                g->d.heads,
                per_key,
                g->d.value / 4,
                g->d.mla ? 0 : g->d.kv_heads * g->d.key,
                g->d.mla ? 0 : g->d.value,
                g->d.entry,
                KV_PAGE_TOKENS,
                g->p.pages_per_sequence,
                g->t.pages,
                t_stride,
                SPLIT_TOKENS,
                groups,
                direct ? row0 : 0,
                direct ? g->n : rows,
                0};
    dispatch(g, pipeline(g, kv_kernel(g, KERNEL_ATT_VALUES_F32), spec, 2),
             (struct vk_bind[]){whole(g->kv[layer_idx]), whole(g->buf[BUF_SCORES]),
                                whole(g->buf[BUF_TABLE]), whole(o)},
             &values, ceil_div(g->d.value / columns, g->subgroup), groups * splits, rows);
    barrier(g);
    if (direct)
        return;

    struct {
        uint32_t rows, width4, split_tokens, row0, o_stride4, pad[3];
    } combine = {rows,
                 g->d.heads * g->d.value / 4,
                 SPLIT_TOKENS,
                 row0,
                 (g->d.mla ? g->d.heads * g->d.value : g->d.attn_p) / 4,
                 {0}};
    dispatch(g, simple_pipeline(g, KERNEL_ATT_COMBINE),
             (struct vk_bind[]){whole(g->buf[BUF_PARTIAL]), whole(g->buf[BUF_TABLE]),
                                whole(g->buf[out])},
             &combine, ceil_div(combine.width4, g->subgroup), rows, 1);
    barrier(g);
}

static void record_attention(struct graph *g, uint32_t layer_idx)
{
    const struct weight_layer *layer = &g->w->layers[layer_idx];
    record_residual_norm(g, layer->input_norm);
    record_matmul(g, &(struct matmul){.group = layer->attention_in,
                                      .x = BUF_XN,
                                      .y = BUF_ATTN_IN,
                                      .x_stride = g->d.hidden_p,
                                      .y_stride = g->d.attn_in_p,
                                      .rows = g->n,
                                      .quantise = true});
    if (g->d.mla)
        record_mla_in(g, layer, layer_idx);
    else
        record_gqa_in(g, layer_idx);

    for (uint32_t row = 0; row < g->n; row += g->d.attention_rows) {
        uint32_t left = g->n - row;
        record_attention_rows(g, layer_idx, row,
                              left < g->d.attention_rows ? left : g->d.attention_rows);
    }
    if (g->d.mla)
        record_matmul(g, &(struct matmul){.group = layer->value_up,
                                          .x = BUF_OC,
                                          .y = BUF_ATTN,
                                          .x_stride = g->d.heads * g->d.value,
                                          .y_stride = g->d.attn_p,
                                          .rows = g->n});
    record_matmul(g, &(struct matmul){.group = layer->o,
                                      .x = BUF_ATTN,
                                      .y = BUF_X,
                                      .x_stride = g->d.attn_p,
                                      .y_stride = g->d.hidden_p,
                                      .rows = g->n,
                                      .accumulate = true,
                                      .quantise = true});
}

/* -------------------------------------------------------------------- MLP */

static void record_router(struct graph *g, const struct weight_layer *layer)
{
    const struct model_config *c = g->p.config;
    record_matmul(g, &(struct matmul){.group = layer->router,
                                      .x = BUF_XN,
                                      .y = BUF_LOGITS_R,
                                      .x_stride = g->d.hidden_p,
                                      .y_stride = c->n_routed_experts,
                                      .rows = g->n});
    struct {
        uint32_t experts, k, groups, groups_kept, bias0, normalise, factor, logits_stride, pad[4];
    } push = {c->n_routed_experts,
              c->num_experts_per_tok,
              c->n_group,
              c->topk_group,
              layer->router_bias,
              c->norm_topk_prob,
              float_bits(c->routed_scaling_factor),
              c->n_routed_experts,
              {0}};
    dispatch(g, simple_pipeline(g, KERNEL_ROUTER),
             (struct vk_bind[]){whole(g->buf[BUF_LOGITS_R]), whole(g->w->vectors),
                                whole(g->buf[BUF_ROUTER]), whole(g->buf[BUF_IDS]),
                                whole(g->buf[BUF_WEIGHTS])},
             &push, g->n, 1, 1);
    barrier(g);
}

// What goes through the MLP kernels: tiles of pairs, and for each row of x the pairs to add up.
struct moe {
    uint32_t tiles, pairs;
    uint32_t xrows; // pairs of a tile at most
    uint32_t mat0;  // one MLP for all tiles, or WEIGHT_NONE
};

static void tile_add(struct graph *g, struct moe *moe, uint32_t mat, uint32_t pair0, uint32_t pairs)
{
    for (uint32_t i = 0; i < pairs; i += moe->xrows) {
        uint32_t *tile = g->table + g->t.tiles + moe->tiles++ * 4;
        tile[0] = mat;
        tile[1] = pair0 + i;
        tile[2] = pairs - i < moe->xrows ? pairs - i : moe->xrows;
        tile[3] = 0;
    }
}

// Dense MLP: pair i is row i.
static struct moe dense_table(struct graph *g, uint32_t mat)
{
    struct moe moe = {.xrows = tile_for(g->dev, mat_of(g, mat)->k16, g->n).xrows, .mat0 = mat};
    for (uint32_t i = 0; i < g->n; i++) {
        g->table[g->t.pair_rows + i] = i;
        g->table[g->t.sum_rows + i * 2] = i;
        g->table[g->t.sum_rows + i * 2 + 1] = 1;
        g->table[g->t.sum_list + i * 2] = i;
        g->table[g->t.sum_list + i * 2 + 1] = WEIGHT_NONE;
    }
    tile_add(g, &moe, WEIGHT_NONE, 0, g->n);
    moe.pairs = g->n;
    return moe;
}

// How many pairs a tile should hold: the least work over all experts.  first[e] .. first[e + 1] - 1
// are the pairs of expert e.
static uint32_t experts_xrows(const struct graph *g, const struct weight_layer *layer,
                              const uint32_t *first)
{
    // What a tile of 1, 2, 4, 8 pairs costs on lavapipe (instructions of the inner loop).
    static const uint32_t cost[] = {18, 22, 31, 50};
    const struct weight_mat *gate = mat_of(g, layer->expert0);
    uint32_t best = 1;
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t xrows = tile_for(g->dev, gate->k16, 1u << i).xrows;
        uint64_t tiles = ceil_div(g->n, xrows); // of the shared experts
        for (uint32_t e = 0; e < g->p.config->n_routed_experts; e++)
            tiles += ceil_div(first[e + 1] - first[e], xrows);
        if (tiles * cost[i] < least) {
            least = tiles * cost[i];
            best = xrows;
        }
    }
    return best;
}

// Routed experts in ascending number, then the shared experts; every row adds its pairs in that
// order.
static struct moe experts_table(struct graph *g, const struct weight_layer *layer,
                                const uint32_t *ids)
{
    const struct model_config *c = g->p.config;
    uint32_t k = c->num_experts_per_tok, per_row = g->d.pairs_per_row;
    uint32_t first[1024 + 1] = {0}; // pairs of each expert; n_routed_experts is at most 1024
    for (uint32_t i = 0; i < g->n * k; i++)
        first[ids[i] + 1]++;
    for (uint32_t e = 0; e < c->n_routed_experts; e++)
        first[e + 1] += first[e];
    struct moe moe = {.xrows = experts_xrows(g, layer, first), .mat0 = WEIGHT_NONE};

    uint32_t *pair_rows = g->table + g->t.pair_rows, *list = g->table + g->t.sum_list;
    uint32_t fill[1024]; // next pair of an expert
    for (uint32_t e = 0; e < c->n_routed_experts; e++)
        fill[e] = first[e];
    for (uint32_t row = 0; row < g->n; row++) {
        uint32_t order[64];
        for (uint32_t j = 0; j < k; j++) { // insertion sort by expert number; k is at most 64
            uint32_t at = j;
            for (; at > 0 && ids[row * k + order[at - 1]] > ids[row * k + j]; at--)
                order[at] = order[at - 1];
            order[at] = j;
        }
        g->table[g->t.sum_rows + row * 2] = row * per_row;
        g->table[g->t.sum_rows + row * 2 + 1] = per_row;
        for (uint32_t j = 0; j < k; j++) {
            uint32_t pair = fill[ids[row * k + order[j]]]++;
            pair_rows[pair] = row;
            list[(row * per_row + j) * 2] = pair;
            list[(row * per_row + j) * 2 + 1] = row * k + order[j];
        }
        if (layer->mlp != WEIGHT_NONE) {
            pair_rows[g->n * k + row] = row;
            list[(row * per_row + k) * 2] = g->n * k + row;
            list[(row * per_row + k) * 2 + 1] = WEIGHT_NONE;
        }
    }
    for (uint32_t e = 0; e < c->n_routed_experts; e++)
        tile_add(g, &moe, layer->expert0 + 3 * e, first[e], first[e + 1] - first[e]);
    if (layer->mlp != WEIGHT_NONE)
        tile_add(g, &moe, layer->mlp, g->n * k, g->n);
    moe.pairs = g->n * per_row;
    g->counters.expert_loads += (uint64_t)g->n * k;
    return moe;
}

// One dispatch a heap that the tiles' weights lie in (texel path), one in all (address path).
static void record_tiles(struct graph *g, enum kernel kernel, const struct moe *moe,
                         const struct weight_mat *sample, const struct vk_bind *binds,
                         const void *push, uint32_t *push_heap, uint32_t rows)
{
    struct tile tile = tile_for(g->dev, sample->k16, moe->xrows);
    struct vk_bind all[8];
    uint32_t n = (uint32_t)strlen(kernel_rows[kernel].binds);
    memcpy(all, binds, n * sizeof(all[0]));
    bool quantised = g->p.numerics == NUMERICS_OFFICIAL_FP8 && sample->dtype == WEIGHT_FP8;
    struct vk_pipeline *pipe = matmul_pipeline(g, kernel, tile, sample, quantised);
    for (uint32_t heap = 0; heap < g->w->heaps_n; heap++) {
        all[0] = heap_bind(g, heap);
        *push_heap = heap;
        dispatch(g, pipe, all, push, ceil_div(rows, tile.rows), moe->tiles, 1);
        if (vk_device_path(g->dev) == VK_PATH_ADDRESS)
            break;
    }
    barrier(g);
}

static void record_mlp(struct graph *g, const struct weight_layer *layer, const struct moe *moe)
{
    const struct model_config *c = g->p.config;
    uint32_t sample_idx = layer->moe ? layer->expert0 : layer->mlp;
    const struct weight_mat *gate = mat_of(g, sample_idx), *down = mat_of(g, gate->down);
    uint32_t inter = gate->rows;
    if (layer->moe && layer->mlp != WEIGHT_NONE && mat_of(g, layer->mlp)->rows > inter)
        inter = mat_of(g, layer->mlp)->rows;
    bool quantised = fp8_quantised(g, sample_idx);
    if (quantised)
        record_quant(g, BUF_XN, g->d.hidden_p, c->hidden_size, g->n);
    struct {
        uint32_t heap, tiles0, pair_rows0, x_stride4, y_stride, xs_stride, mat0, pad[9];
    } up = {0,
            g->t.tiles,
            g->t.pair_rows,
            g->d.hidden_p / 4,
            g->d.inter_p,
            ceil_div(c->hidden_size, 128),
            moe->mat0,
            {0}};
    record_tiles(g, KERNEL_MLP_UP, moe, gate,
                 (struct vk_bind[]){{0},
                                    whole(g->w->mats_buf),
                                    whole(g->buf[quantised ? BUF_Q8 : BUF_XN]),
                                    whole(g->buf[BUF_Q8_SCALE]),
                                    whole(g->buf[BUF_TABLE]),
                                    whole(g->buf[BUF_ACT])},
                 &up, &up.heap, inter);
    if (quantised)
        record_quant(g, BUF_ACT, g->d.inter_p, inter, moe->pairs);
    struct {
        uint32_t heap, tiles0, x_stride4, y_stride, xs_stride, mat0, pad[10];
    } dn = {0, g->t.tiles, g->d.inter_p / 4, g->d.hidden_p, ceil_div(inter, 128), moe->mat0, {0}};
    record_tiles(g, KERNEL_MLP_DOWN, moe, down,
                 (struct vk_bind[]){{0},
                                    whole(g->w->mats_buf),
                                    whole(g->buf[quantised ? BUF_Q8 : BUF_ACT]),
                                    whole(g->buf[BUF_Q8_SCALE]),
                                    whole(g->buf[BUF_TABLE]),
                                    whole(g->buf[BUF_OUT])},
                 &dn, &dn.heap, c->hidden_size);
    struct {
        uint32_t n4, rows0, list0, in_stride4, x_stride4, pad[7];
    } sum = {ceil_div(c->hidden_size, 4), g->t.sum_rows,     g->t.sum_list,
             g->d.hidden_p / 4,           g->d.hidden_p / 4, {0}};
    dispatch(g, simple_pipeline(g, KERNEL_MLP_SUM),
             (struct vk_bind[]){whole(g->buf[BUF_OUT]), whole(g->buf[BUF_WEIGHTS]),
                                whole(g->buf[BUF_TABLE]), whole(g->buf[BUF_X])},
             &sum, ceil_div(sum.n4, g->subgroup), g->n, 1);
    barrier(g);
}

/* ------------------------------------------------------------ submissions */

static void begin(struct graph *g)
{
    if (!g->err && vk_cmd_begin(g->cmd))
        g->err = fault_set(g->fault, EIO, "Vulkan: cannot record a step");
}

// Submits what was recorded and waits for it.
static void flush(struct graph *g)
{
    uint64_t value;
    if (!g->err)
        g->err = vk_cmd_submit(g->cmd, &value, g->fault);
    uint64_t from = now_ns();
    if (!g->err)
        g->err = vk_wait(g->dev, value, WAIT_NS, g->fault);
    g->counters.wait_ns += now_ns() - from;
}

static void tap_rows(struct graph *g, enum engine_tap_kind kind, uint32_t layer,
                     enum graph_buffer buffer, uint32_t rows, uint32_t stride, uint32_t cols)
{
    for (uint32_t r = 0; r < rows && !g->err; r++)
        g->err = vk_buffer_read(g->buf[buffer], 4ull * r * stride, g->tap_data + (size_t)r * cols,
                                4ull * cols, g->fault);
    if (g->err)
        return;
    struct engine_tap tap = {kind, layer, rows, cols, g->tap_data};
    bool changed = g->tap(g->tap_user, &tap);
    for (uint32_t r = 0; changed && r < rows && !g->err; r++)
        g->err = vk_buffer_write(g->buf[buffer], 4ull * r * stride, g->tap_data + (size_t)r * cols,
                                 4ull * cols, g->fault);
}

// With a tap set: runs what was recorded, shows rows of a buffer, goes on recording.
static void tap_flush(struct graph *g, enum engine_tap_kind kind, uint32_t layer,
                      enum graph_buffer buffer, uint32_t rows, uint32_t stride, uint32_t cols)
{
    if (!g->tap || g->err)
        return;
    flush(g);
    tap_rows(g, kind, layer, buffer, rows, stride, cols);
    begin(g);
}

static void tap_router(struct graph *g, uint32_t layer)
{
    const struct model_config *c = g->p.config;
    uint32_t k = c->num_experts_per_tok;
    if (!g->tap || g->err)
        return;
    tap_rows(g, ENGINE_TAP_SCORES, layer, BUF_ROUTER, g->n, 2 * c->n_routed_experts,
             c->n_routed_experts);
    const uint32_t *ids = vk_buffer_map(g->buf[BUF_IDS]);
    for (uint32_t i = 0; i < g->n * k; i++)
        g->tap_data[i] = (float)ids[i];
    g->tap(g->tap_user, &(struct engine_tap){ENGINE_TAP_EXPERTS, layer, g->n, k, g->tap_data});
    tap_rows(g, ENGINE_TAP_WEIGHTS, layer, BUF_WEIGHTS, g->n, k, k);
}

// The device wrote the ids; nothing it writes may index beyond a table.
static int ids_check(const struct graph *g, const uint32_t *ids)
{
    const struct model_config *c = g->p.config;
    for (uint32_t i = 0; i < g->n * c->num_experts_per_tok; i++)
        if (ids[i] >= c->n_routed_experts)
            return fault_set(g->fault, EIO, "the device named expert %u of %u", ids[i],
                             c->n_routed_experts);
    return 0;
}

static void run_layer(struct graph *g, uint32_t idx)
{
    const struct weight_layer *layer = &g->w->layers[idx];
    tap_flush(g, ENGINE_TAP_RESIDUAL, idx, BUF_X, g->n, g->d.hidden_p, g->d.hidden);
    record_attention(g, idx);
    record_residual_norm(g, layer->post_attention_norm);
    struct moe moe;
    if (layer->moe) {
        record_router(g, layer);
        flush(g); // the expert ids must reach the host here
        tap_router(g, idx);
        const uint32_t *ids = vk_buffer_map(g->buf[BUF_IDS]);
        if (!g->err)
            g->err = ids_check(g, ids);
        begin(g);
        if (g->err)
            return;
        moe = experts_table(g, layer, ids);
    } else {
        moe = dense_table(g, layer->mlp);
    }
    record_mlp(g, layer, &moe);
}

static void record_head(struct graph *g, uint32_t norm, uint32_t layer)
{
    if (g->logits_n == 0)
        return;
    record_norm(g, &(struct norm){.x = BUF_X,
                                  .y = BUF_NORM,
                                  .n = g->d.hidden,
                                  .x_stride = g->d.hidden_p,
                                  .y_stride = g->d.hidden_p,
                                  .weight = norm,
                                  .rows = g->logits_n,
                                  .eps = g->p.config->rms_norm_eps,
                                  .gather = true});
    tap_flush(g, ENGINE_TAP_NORM, layer, BUF_NORM, g->logits_n, g->d.hidden_p, g->d.hidden);
    record_matmul(g, &(struct matmul){.group = g->w->head,
                                      .x = BUF_NORM,
                                      .y = BUF_LOGITS,
                                      .x_stride = g->d.hidden_p,
                                      .y_stride = g->p.config->vocab_size,
                                      .rows = g->logits_n});
}

/* ------------------------------------------------------------------ steps */

static int rows_check(struct graph *g, const struct kv *kv, const struct engine_row *rows,
                      uint32_t n)
{
    if (n == 0 || n > g->p.rows_max)
        return fault_set(g->fault, EINVAL, "a step has 1 to %u rows, not %u", g->p.rows_max, n);
    uint32_t logits = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i].token >= g->p.config->vocab_size || rows[i].seq >= g->p.sequences)
            return fault_set(g->fault, EINVAL, "row %u: token %u or sequence %u out of range", i,
                             rows[i].token, rows[i].seq);
        if (rows[i].position >= kv_pages_of(kv, rows[i].seq) * KV_PAGE_TOKENS)
            return fault_set(g->fault, EINVAL, "row %u: position %u was not reserved", i,
                             rows[i].position);
        logits += rows[i].want_logits;
    }
    if (logits > g->p.logits_rows_max)
        return fault_set(g->fault, EINVAL, "at most %u rows may want logits, not %u",
                         g->p.logits_rows_max, logits);
    return 0;
}

static void tables_fill(struct graph *g, const struct kv *kv, const struct engine_row *rows,
                        uint32_t n)
{
    g->n = n;
    g->logits_n = 0;
    g->context = 0;
    uint32_t seq_done = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *row = g->table + i * 4;
        row[0] = rows[i].token;
        row[1] = rows[i].seq;
        row[2] = rows[i].position;
        row[3] = 0;
        if (rows[i].position >= g->context)
            g->context = rows[i].position + 1;
        if (rows[i].want_logits)
            g->table[g->t.gather + g->logits_n++] = i;
        if (rows[i].seq == seq_done)
            continue;
        seq_done = rows[i].seq;
        memcpy(g->table + g->t.pages + (size_t)seq_done * g->p.pages_per_sequence,
               kv_table(kv, seq_done), kv_pages_of(kv, seq_done) * sizeof(uint32_t));
    }
}

static int step_end(struct graph *g, uint64_t from_ns, uint64_t wait_before,
                    const float **ret_logits)
{
    flush(g);
    g->counters.host_ns += now_ns() - from_ns - (g->counters.wait_ns - wait_before);
    int err = g->err;
    g->fault = NULL;
    if (!err && ret_logits)
        *ret_logits = vk_buffer_map(g->buf[BUF_LOGITS]);
    return err;
}

int graph_step(struct graph *g, const struct kv *kv, const struct engine_row *rows, uint32_t n,
               const float **ret_logits, struct fault *fault)
{
    uint64_t from_ns = now_ns(), wait_before = g->counters.wait_ns;
    const struct model_config *c = g->p.config;
    g->err = 0;
    g->fault = fault;
    int err = rows_check(g, kv, rows, n);
    if (err)
        return err;
    tables_fill(g, kv, rows, n);
    begin(g);
    record_embed(g);
    for (uint32_t i = 0; i < c->num_hidden_layers && !g->err; i++)
        run_layer(g, i);
    tap_flush(g, ENGINE_TAP_RESIDUAL, c->num_hidden_layers, BUF_X, g->n, g->d.hidden_p,
              g->d.hidden);
    record_head(g, g->w->norm, c->num_hidden_layers);
    if (g->buf[BUF_NORM_ALL])
        record_norm(g, &(struct norm){.x = BUF_X,
                                      .y = BUF_NORM_ALL,
                                      .n = g->d.hidden,
                                      .x_stride = g->d.hidden_p,
                                      .y_stride = g->d.hidden_p,
                                      .weight = g->w->norm,
                                      .rows = g->n,
                                      .eps = c->rms_norm_eps});
    err = step_end(g, from_ns, wait_before, ret_logits);
    g->last_n = err ? 0 : n;
    memcpy(g->last_rows, rows, n * sizeof(*rows));
    g->counters.steps++;
    g->counters.rows += n;
    return err;
}

// Finds the row of the last main step that computed the hidden state of (seq, position).
static int last_row_find(const struct graph *g, const struct engine_row *row, uint32_t *ret)
{
    for (uint32_t i = 0; i < g->last_n; i++)
        if (g->last_rows[i].seq == row->seq && g->last_rows[i].position == row->position) {
            *ret = i;
            return 0;
        }
    return -EINVAL;
}

static void record_mtp_in(struct graph *g, const struct weights *w)
{
    struct norm norm = {.x = BUF_X,
                        .y = BUF_CAT,
                        .n = g->d.hidden,
                        .x_stride = g->d.hidden_p,
                        .y_stride = g->d.cat_p,
                        .weight = w->mtp_enorm,
                        .rows = g->n,
                        .eps = g->p.config->rms_norm_eps};
    record_embed(g);
    record_norm(g, &norm);
    norm.x = BUF_NORM_ALL;
    norm.y_col = g->d.hidden;
    norm.weight = w->mtp_hnorm;
    norm.gather = true;
    record_norm(g, &norm);
    record_matmul(g, &(struct matmul){.group = w->mtp_eh,
                                      .x = BUF_CAT,
                                      .y = BUF_X,
                                      .x_stride = g->d.cat_p,
                                      .y_stride = g->d.hidden_p,
                                      .rows = g->n});
}

int graph_mtp_step(struct graph *g, const struct kv *kv, const struct engine_row *rows, uint32_t n,
                   const float **ret_logits, struct fault *fault)
{
    uint64_t from_ns = now_ns(), wait_before = g->counters.wait_ns;
    uint32_t layer = g->p.config->num_hidden_layers;
    g->err = 0;
    g->fault = fault;
    if (g->w->layers_n <= layer)
        return fault_set(fault, ENOTSUP, "the MTP layer is not loaded");
    int err = rows_check(g, kv, rows, n);
    if (err)
        return err;
    tables_fill(g, kv, rows, n);
    uint32_t logits_gather[2048];
    memcpy(logits_gather, g->table + g->t.gather, g->logits_n * sizeof(uint32_t));
    for (uint32_t i = 0; i < n; i++)
        if (last_row_find(g, &rows[i], g->table + g->t.gather + i))
            return fault_set(fault, EINVAL, "MTP item %u: position %u is not of the last step", i,
                             rows[i].position);
    begin(g);
    record_mtp_in(g, g->w);
    // The gather list serves two norms of one step: the second needs its own values.
    flush(g);
    memcpy(g->table + g->t.gather, logits_gather, g->logits_n * sizeof(uint32_t));
    begin(g);
    if (!g->err)
        run_layer(g, layer);
    record_head(g, g->w->mtp_head_norm, layer + 1);
    err = step_end(g, from_ns, wait_before, ret_logits);
    return err;
}

/* --------------------------------------------------------- create, destroy */

static int dims_check(const struct graph_params *params, const struct graph_dims *d,
                      struct fault *fault)
{
    const struct model_config *c = params->config;
    const struct vk_limits *limits = vk_device_limits(params->dev);
    const struct {
        const char *name;
        uint32_t value, multiple;
    } needed[] = {
        {"hidden_size", c->hidden_size, 4},           {"kv_lora_rank", c->kv_lora_rank, 8},
        {"qk_rope_head_dim", c->qk_rope_head_dim, 8}, {"qk_nope_head_dim", c->qk_nope_head_dim, 4},
        {"head_dim", d->mla ? 0 : c->head_dim, 8},
    };
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        if (needed[i].value % needed[i].multiple)
            return fault_set(fault, ENOTSUP, "config.json: %s = %u is not a multiple of %u",
                             needed[i].name, needed[i].value, needed[i].multiple);
    if (c->n_routed_experts > 1024 || c->num_experts_per_tok > 64 || c->n_group > 32)
        return fault_set(fault, ENOTSUP,
                         "config.json: at most 1024 experts, 64 a token and 32 groups are served");
    if (limits->subgroup > KV_PAGE_TOKENS)
        return fault_set(fault, ENOTSUP, "the device's subgroups of %u lanes are not served",
                         limits->subgroup);
    uint64_t kv = graph_kv_layer_bytes(params, d);
    if (kv > limits->storage_range_max || kv > limits->allocation_max)
        return fault_set(fault, E2BIG,
                         "the KV cache of a layer would be %.1f MB; this device binds at most "
                         "%.1f MB: lower context_max or sequences_max",
                         (double)kv / 1e6, (double)limits->storage_range_max / 1e6);
    return 0;
}

static int rope_upload(struct graph *g, struct fault *fault)
{
    uint64_t bytes = graph_buffer_bytes(&g->p, &g->d, BUF_ROPE);
    float *table = malloc(bytes);
    if (!table)
        return fault_set(fault, ENOMEM, "out of memory");
    rope_table(g->p.config, g->d.context, table);
    int err = vk_buffer_write(g->buf[BUF_ROPE], 0, table, bytes, fault);
    free(table);
    return err;
}

static int buffers_create(struct graph *g, struct fault *fault)
{
    int err = 0;
    for (int i = 0; i < BUF_COUNT && !err; i++) {
        struct vk_buffer_params params = {
            .bytes = graph_buffer_bytes(&g->p, &g->d, (enum graph_buffer)i),
            .memory = graph_buffer_memory((enum graph_buffer)i),
            .name = graph_buffer_name[i]};
        if (params.bytes)
            err = vk_buffer_create(g->dev, &params, &g->buf[i], fault);
    }
    for (uint32_t i = 0; i < g->w->layers_n && !err; i++)
        err =
            vk_buffer_create(g->dev,
                             &(struct vk_buffer_params){.bytes = graph_kv_layer_bytes(&g->p, &g->d),
                                                        .memory = VK_MEMORY_DEVICE,
                                                        .name = "KV cache"},
                             &g->kv[i], fault);
    if (err)
        return err;
    g->table = vk_buffer_map(g->buf[BUF_TABLE]);
    if (!g->table || !vk_buffer_map(g->buf[BUF_LOGITS]) ||
        (g->buf[BUF_IDS] && !vk_buffer_map(g->buf[BUF_IDS])))
        return fault_set(fault, ENOTSUP, "the device has no memory that the host can map");
    return 0;
}

int graph_create(const struct graph_params *params, struct graph **ret, struct fault *fault)
{
    struct graph *g = calloc(1, sizeof(*g));
    if (!g)
        return fault_set(fault, ENOMEM, "out of memory");
    g->p = *params;
    g->w = params->weights;
    g->dev = params->dev;
    g->subgroup = vk_device_limits(g->dev)->subgroup;
    g->score_scale = rope_softmax_scale(params->config);
    graph_dims_get(params, &g->d);
    graph_table_get(params, &g->d, &g->t);
    g->heads_tile = 8;
    int err = dims_check(params, &g->d, fault);
    if (err)
        goto fail;
    g->kv = calloc(g->w->layers_n, sizeof(struct vk_buffer *));
    g->last_rows = calloc(params->rows_max, sizeof(*g->last_rows));
    if (!g->kv || !g->last_rows) {
        err = fault_set(fault, ENOMEM, "out of memory");
        goto fail;
    }
    err = buffers_create(g, fault);
    if (!err)
        err = rope_upload(g, fault);
    if (!err)
        err = vk_cmd_create(g->dev, &g->cmd, fault);
    if (err)
        goto fail;
    *ret = g;
    return 0;
fail:
    graph_destroy(&g);
    return err;
}

void graph_destroy(struct graph **gp)
{
    struct graph *g = *gp;
    *gp = NULL;
    if (!g)
        return;
    vk_cmd_destroy(&g->cmd);
    for (int i = 0; i < BUF_COUNT; i++)
        vk_buffer_destroy(&g->buf[i]);
    for (uint32_t i = 0; g->kv && i < g->w->layers_n; i++)
        vk_buffer_destroy(&g->kv[i]);
    free(g->kv);
    free(g->last_rows);
    free(g->tap_data);
    free(g);
}

/* -------------------------------------------------------- looking inside */

static float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 0) {
        float f = (float)mantissa * 0x1p-24f;
        return sign ? -f : f;
    }
    uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112u) << 23 | mantissa << 13;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

int graph_kv_read(struct graph *g, const struct kv *kv, uint32_t layer, uint32_t seq,
                  uint32_t position, float *ret, struct fault *fault)
{
    if (layer >= g->w->layers_n || seq >= g->p.sequences ||
        position >= kv_pages_of(kv, seq) * KV_PAGE_TOKENS)
        return fault_set(fault, EINVAL, "no KV entry of layer %u, sequence %u, position %u", layer,
                         seq, position);
    uint64_t page = kv_table(kv, seq)[position / KV_PAGE_TOKENS];
    uint64_t at = (page * KV_PAGE_TOKENS + position % KV_PAGE_TOKENS) * g->d.entry;
    if (g->p.kv_type == KV_F32)
        return vk_buffer_read(g->kv[layer], at * 4, ret, g->d.entry * 4ull, fault);

    uint16_t *halves = malloc(g->d.entry * sizeof(uint16_t));
    if (!halves)
        return fault_set(fault, ENOMEM, "out of memory");
    int err = vk_buffer_read(g->kv[layer], at * 2, halves, g->d.entry * 2ull, fault);
    for (uint32_t i = 0; i < g->d.entry && !err; i++)
        ret[i] = half_to_float(halves[i]);
    free(halves);
    return err;
}

uint32_t graph_kv_entry(const struct graph *g)
{
    return g->d.entry;
}

void graph_tap_set(struct graph *g, engine_tap_fn fn, void *user)
{
    uint64_t widest = g->d.hidden;
    if (g->p.config->n_routed_experts > widest)
        widest = g->p.config->n_routed_experts;
    if (!g->tap_data)
        g->tap_data = malloc(g->p.rows_max * widest * sizeof(float));
    g->tap = g->tap_data ? fn : NULL;
    g->tap_user = user;
}

void graph_counters_get(const struct graph *g, struct engine_counters *ret)
{
    *ret = g->counters;
}
