// SPDX-License-Identifier: MIT
#include "model/graph_record.h"

#define POSITIONS_LANE 4u // positions a lane of att_scores owns on the texel path

static enum kernel kv_kernel(const struct graph *g, enum kernel f32)
{
    return g->p.kv_type == KV_F16 ? (enum kernel)(f32 + 1) : f32;
}

static void record_absorb(struct graph *g, const struct weight_layer *layer)
{
    const struct model_config *c = g->p.config;
    const struct weight_mat *mat = graph_mat(g, layer->kv_b);
    bool q_b = c->q_lora_rank != 0;
    struct tile tile = g->n == 1 ? (struct tile){16, 1} : (struct tile){16, 4};
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
    uint32_t chunks = graph_ceil_div(c->kv_lora_rank, 16);
    graph_dispatch(g, graph_pipeline_matmul(g, KERNEL_ABSORB, tile, mat, false),
                   (struct vk_bind[]){graph_heap_bind(g, mat->heap), graph_bind(g->w->mats_buf),
                                      graph_bind(g->buf[q_b ? BUF_Q : BUF_ATTN_IN]),
                                      graph_bind(g->buf[BUF_QA])},
                   &push, graph_ceil_div(chunks, g->subgroup), g->d.heads,
                   graph_ceil_div(g->n, tile.xrows));
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
              graph_float_bits(GRAPH_EPS_LORA),
              g->d.entry,
              KV_PAGE_TOKENS,
              g->p.pages_per_sequence,
              g->t.pages};
    uint32_t spec[] = {g->subgroup, c->rope.interleave};
    graph_dispatch(g, graph_pipeline(g, kv_kernel(g, KERNEL_MLA_PREP_F32), spec, 2),
                   (struct vk_bind[]){graph_bind(g->buf[BUF_ATTN_IN]), graph_bind(g->w->vectors),
                                      graph_bind(g->buf[q_b ? BUF_Q : BUF_ATTN_IN]),
                                      graph_bind(g->buf[BUF_ROPE]), graph_bind(g->buf[BUF_TABLE]),
                                      graph_bind(g->buf[BUF_QA]), graph_bind(g->kv[layer_idx])},
                   &push, g->n, g->d.heads + 1, 1);
    graph_barrier(g);
}

static void record_mla_in(struct graph *g, const struct weight_layer *layer, uint32_t layer_idx)
{
    const struct model_config *c = g->p.config;
    if (c->q_lora_rank) {
        graph_record_norm(g, &(struct graph_norm){.x = BUF_ATTN_IN,
                                                  .y = BUF_QN,
                                                  .n = c->q_lora_rank,
                                                  .x_stride = g->d.attn_in_p,
                                                  .y_stride = g->d.qn_p,
                                                  .weight = layer->q_a_norm,
                                                  .rows = g->n,
                                                  .eps = GRAPH_EPS_LORA});
        graph_record_matmul(g, &(struct graph_matmul){.group = layer->q_b,
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
    graph_dispatch(g, graph_pipeline_simple(g, kv_kernel(g, KERNEL_GQA_PREP_F32)),
                   (struct vk_bind[]){graph_bind(g->buf[BUF_ATTN_IN]), graph_bind(g->buf[BUF_ROPE]),
                                      graph_bind(g->buf[BUF_TABLE]), graph_bind(g->buf[BUF_QA]),
                                      graph_bind(g->kv[layer_idx])},
                   &push, g->n, g->d.heads + g->d.kv_heads, 1);
    graph_barrier(g);
}

// What the kernels of one attention share: some rows of the step, heads in groups that share a key.
struct attention {
    uint32_t layer, row0, rows;
    uint32_t per_key, tile, groups; // heads that share a key, heads and number of the groups
    uint32_t t_stride, splits;
    bool direct; // values go straight to their place, without BUF_PARTIAL
    enum graph_buffer out;
};

static struct attention attention_of(const struct graph *g, uint32_t layer_idx, uint32_t row0,
                                     uint32_t rows)
{
    struct attention a = {.layer = layer_idx, .row0 = row0, .rows = rows};
    a.per_key = g->d.heads / g->d.kv_heads;
    a.tile = g->heads_tile < a.per_key ? g->heads_tile : a.per_key;
    a.groups = graph_ceil_div(a.per_key, a.tile) * g->d.kv_heads;
    a.t_stride = (g->context + 31) & ~31u;
    a.splits = graph_ceil_div(g->context, SPLIT_TOKENS);
    a.direct = a.splits == 1 && graph_attention_direct(&g->d);
    a.out = g->d.mla ? BUF_OC : BUF_ATTN;
    return a;
}

static void record_scores(struct graph *g, const struct attention *a)
{
    bool texel = vk_device_path(g->dev) == VK_PATH_TEXEL;
    uint32_t positions = g->subgroup * (texel ? POSITIONS_LANE : 1); // of one subgroup
    uint32_t spec[] = {g->subgroup, a->tile, POSITIONS_LANE};
    struct {
        uint32_t row0, heads, heads_per_key, dim4, key_stride, qa_stride4, qa_head4, entry,
            page_tokens, pages_max, pages0, t_stride, scale, pad[3];
    } push = {a->row0,
              g->d.heads,
              a->per_key,
              g->d.key / 4,
              g->d.mla ? 0 : g->d.key,
              g->d.heads * g->d.key / 4,
              g->d.key / 4,
              g->d.entry,
              KV_PAGE_TOKENS,
              g->p.pages_per_sequence,
              g->t.pages,
              a->t_stride,
              graph_float_bits(g->score_scale),
              {0}};
    graph_dispatch(g, graph_pipeline(g, kv_kernel(g, KERNEL_ATT_SCORES_F32), spec, 3),
                   (struct vk_bind[]){graph_bind(g->kv[a->layer]), graph_bind(g->buf[BUF_QA]),
                                      graph_bind(g->buf[BUF_TABLE]),
                                      graph_bind(g->buf[BUF_SCORES])},
                   &push, graph_ceil_div(g->context, positions), a->groups, a->rows);
    graph_barrier(g);
}

static void record_softmax(struct graph *g, const struct attention *a)
{
    struct {
        uint32_t row0, heads, t_stride, pad[5];
    } push = {a->row0, g->d.heads, a->t_stride, {0}};
    graph_dispatch(
        g, graph_pipeline_simple(g, KERNEL_ATT_SOFTMAX),
        (struct vk_bind[]){graph_bind(g->buf[BUF_SCORES]), graph_bind(g->buf[BUF_TABLE])}, &push,
        g->d.heads, a->rows, 1);
    graph_barrier(g);
}

static void record_values(struct graph *g, const struct attention *a)
{
    uint32_t columns = vk_device_path(g->dev) == VK_PATH_TEXEL ? 8 : 4; // of one lane
    uint32_t spec[] = {g->subgroup, a->tile};
    struct vk_buffer *o = g->buf[a->direct ? a->out : BUF_PARTIAL];
    struct {
        uint32_t row0, heads, heads_per_key, dim4, value_col, value_stride, entry, page_tokens,
            pages_max, pages0, t_stride, split_tokens, groups, o_row0, o_rows, pad;
    } push = {a->row0,
              g->d.heads,
              a->per_key,
              g->d.value / 4,
              g->d.mla ? 0 : g->d.kv_heads * g->d.key,
              g->d.mla ? 0 : g->d.value,
              g->d.entry,
              KV_PAGE_TOKENS,
              g->p.pages_per_sequence,
              g->t.pages,
              a->t_stride,
              SPLIT_TOKENS,
              a->groups,
              a->direct ? a->row0 : 0,
              a->direct ? g->n : a->rows,
              0};
    graph_dispatch(g, graph_pipeline(g, kv_kernel(g, KERNEL_ATT_VALUES_F32), spec, 2),
                   (struct vk_bind[]){graph_bind(g->kv[a->layer]), graph_bind(g->buf[BUF_SCORES]),
                                      graph_bind(g->buf[BUF_TABLE]), graph_bind(o)},
                   &push, graph_ceil_div(g->d.value / columns, g->subgroup), a->groups * a->splits,
                   a->rows);
    graph_barrier(g);
}

static void record_combine(struct graph *g, const struct attention *a)
{
    struct {
        uint32_t rows, width4, split_tokens, row0, o_stride4, pad[3];
    } push = {a->rows,
              g->d.heads * g->d.value / 4,
              SPLIT_TOKENS,
              a->row0,
              (g->d.mla ? g->d.heads * g->d.value : g->d.attn_p) / 4,
              {0}};
    graph_dispatch(g, graph_pipeline_simple(g, KERNEL_ATT_COMBINE),
                   (struct vk_bind[]){graph_bind(g->buf[BUF_PARTIAL]),
                                      graph_bind(g->buf[BUF_TABLE]), graph_bind(g->buf[a->out])},
                   &push, graph_ceil_div(push.width4, g->subgroup), a->rows, 1);
    graph_barrier(g);
}

// Attention of rows row0 .. row0 + rows - 1.
static void record_attention_rows(struct graph *g, uint32_t layer_idx, uint32_t row0, uint32_t rows)
{
    struct attention a = attention_of(g, layer_idx, row0, rows);
    record_scores(g, &a);
    record_softmax(g, &a);
    record_values(g, &a);
    if (!a.direct)
        record_combine(g, &a);
}

void graph_record_attention(struct graph *g, uint32_t layer_idx)
{
    const struct weight_layer *layer = &g->w->layers[layer_idx];
    graph_record_residual_norm(g, layer->input_norm);
    graph_record_matmul(g, &(struct graph_matmul){.group = layer->attention_in,
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
        graph_record_matmul(g, &(struct graph_matmul){.group = layer->value_up,
                                                      .x = BUF_OC,
                                                      .y = BUF_ATTN,
                                                      .x_stride = g->d.heads * g->d.value,
                                                      .y_stride = g->d.attn_p,
                                                      .rows = g->n});
    graph_record_matmul(g, &(struct graph_matmul){.group = layer->o,
                                                  .x = BUF_ATTN,
                                                  .y = BUF_X,
                                                  .x_stride = g->d.attn_p,
                                                  .y_stride = g->d.hidden_p,
                                                  .rows = g->n,
                                                  .accumulate = true,
                                                  .quantise = true});
}
