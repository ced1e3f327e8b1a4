// SPDX-License-Identifier: MIT
#include "model/graph_record.h"

struct vk_pipeline *graph_pipeline(struct graph *g, enum kernel kernel, const uint32_t *spec,
                                   uint32_t n)
{
    struct vk_pipeline *pipe = NULL;
    int err = vk_pipeline_get(g->dev, kernel, spec, n, &pipe, g->fault);
    if (err && !g->err)
        g->err = err;
    return pipe;
}

struct vk_pipeline *graph_pipeline_simple(struct graph *g, enum kernel kernel)
{
    return graph_pipeline(g, kernel, &g->subgroup, 1);
}

void graph_dispatch(struct graph *g, struct vk_pipeline *pipe, const struct vk_bind *binds,
                    const void *push, uint32_t gx, uint32_t gy, uint32_t gz)
{
    if (!g->err)
        vk_cmd_dispatch(g->cmd, pipe, binds, push, gx, gy, gz);
}

void graph_barrier(struct graph *g)
{
    if (!g->err)
        vk_cmd_barrier(g->cmd);
}

// What binding H takes: the heap itself, or the table of addresses.
struct vk_bind graph_heap_bind(const struct graph *g, uint32_t heap)
{
    return graph_bind(vk_device_path(g->dev) == VK_PATH_TEXEL ? g->w->heaps[heap]
                                                              : g->w->heap_table);
}

bool graph_quantises(const struct graph *g, uint32_t mat)
{
    return g->p.numerics == NUMERICS_OFFICIAL_FP8 && graph_mat(g, mat)->dtype == WEIGHT_FP8;
}

// absorb walks kv_b_proj in steps of 8 rows; do they straddle two blocks of scales?
static bool absorb_straddles(const struct graph *g)
{
    const struct model_config *c = g->p.config;
    return c->qk_nope_head_dim % 8 || (c->qk_nope_head_dim + c->v_head_dim) % 8;
}

struct vk_pipeline *graph_pipeline_matmul(struct graph *g, enum kernel kernel, struct tile tile,
                                          const struct weight_mat *mat, bool act_scale)
{
    uint32_t decode = mat->dtype == WEIGHT_FP8 ? vk_device_limits(g->dev)->e4m3 : 0;
    bool row_scale =
        kernel == KERNEL_ABSORB ? absorb_straddles(g) : mat->scols && mat->srow0 % tile.rows != 0;
    uint32_t spec[] = {g->subgroup, tile.rows, tile.xrows, mat->dtype,
                       decode,      row_scale, act_scale,  mat->shift};
    return graph_pipeline(g, kernel, spec, sizeof(spec) / sizeof(spec[0]));
}

void graph_record_quant(struct graph *g, enum graph_buffer x, uint32_t x_stride, uint32_t s_stride,
                        uint32_t cols, uint32_t row0, uint32_t rows)
{
    uint32_t groups = graph_ceil_div(cols, 128);
    struct {
        uint32_t n, x_stride4, x_col4, q_stride4, s_stride, ue8m0, row0, pad;
    } push = {cols, x_stride / 4, 0, x_stride / 4, s_stride, g->p.config->scale_ue8m0, row0, 0};
    graph_dispatch(g, graph_pipeline_simple(g, KERNEL_QUANT),
                   (struct vk_bind[]){graph_bind(g->buf[x]), graph_bind(g->buf[BUF_Q8]),
                                      graph_bind(g->buf[BUF_Q8_SCALE])},
                   &push, graph_ceil_div(groups, g->subgroup), rows, 1);
    graph_barrier(g);
}

// A dispatch takes neighbours that one pipeline and (on the texel path) one heap can serve.
static bool mats_alike(const struct graph *g, const struct weight_mat *a,
                       const struct weight_mat *b, struct tile tile)
{
    bool row_scale_a = a->scols && a->srow0 % tile.rows != 0;
    bool row_scale_b = b->scols && b->srow0 % tile.rows != 0;
    bool heaps = a->heap == b->heap || vk_device_path(g->dev) == VK_PATH_ADDRESS;
    return a->dtype == b->dtype && row_scale_a == row_scale_b && heaps;
}

void graph_record_matmul(struct graph *g, const struct graph_matmul *mm)
{
    struct tile tile = tile_for(g->dev, graph_mat(g, mm->group.first)->k16, mm->rows);
    enum graph_buffer x = mm->x;
    bool quantised = mm->quantise && graph_quantises(g, mm->group.first);
    uint32_t cols = graph_mat(g, mm->group.first)->cols;
    if (quantised) {
        graph_record_quant(g, mm->x, mm->x_stride, graph_ceil_div(cols, 128), cols, 0, mm->rows);
        x = BUF_Q8;
    }
    for (uint32_t i = 0; i < mm->group.n;) {
        const struct weight_mat *mat = graph_mat(g, mm->group.first + i);
        uint32_t run = 1, rows = mat->rows;
        while (i + run < mm->group.n && mats_alike(g, mat, mat + run, tile)) {
            rows = mat[run].rows > rows ? mat[run].rows : rows;
            run++;
        }
        struct {
            uint32_t mat0, heap, rows, x_stride4, y_stride, xs_stride, accumulate, pad[9];
        } push = {mm->group.first + i, mat->heap,    mm->rows,
                  mm->x_stride / 4,    mm->y_stride, graph_ceil_div(cols, 128),
                  mm->accumulate,      {0}};
        graph_dispatch(g,
                       graph_pipeline_matmul(g, KERNEL_MATMUL, tile, mat,
                                             quantised && mat->dtype == WEIGHT_FP8),
                       (struct vk_bind[]){graph_heap_bind(g, mat->heap), graph_bind(g->w->mats_buf),
                                          graph_bind(g->buf[x]), graph_bind(g->buf[BUF_Q8_SCALE]),
                                          graph_bind(g->buf[mm->y]), graph_bind(g->w->vectors)},
                       &push, graph_ceil_div(rows, tile.rows), graph_ceil_div(mm->rows, tile.xrows),
                       run);
        i += run;
    }
    graph_barrier(g);
}

void graph_record_norm(struct graph *g, const struct graph_norm *norm)
{
    struct {
        uint32_t n, x_stride4, x_col4, y_stride, y_col, weight4, eps, gather, gather0, pad[3];
    } push = {
        norm->n,          norm->x_stride / 4,          norm->x_col / 4, norm->y_stride, norm->y_col,
        norm->weight / 4, graph_float_bits(norm->eps), norm->gather,    g->t.gather,    {0}};
    graph_dispatch(g, graph_pipeline_simple(g, KERNEL_RMSNORM),
                   (struct vk_bind[]){graph_bind(g->buf[norm->x]), graph_bind(g->w->vectors),
                                      graph_bind(g->buf[norm->y]), graph_bind(g->buf[BUF_TABLE])},
                   &push, norm->rows, 1, 1);
    graph_barrier(g);
}

void graph_record_residual_norm(struct graph *g, uint32_t weight)
{
    graph_record_norm(g, &(struct graph_norm){.x = BUF_X,
                                              .y = BUF_XN,
                                              .n = g->d.hidden,
                                              .x_stride = g->d.hidden_p,
                                              .y_stride = g->d.hidden_p,
                                              .weight = weight,
                                              .rows = g->n,
                                              .eps = g->p.config->rms_norm_eps});
}

void graph_record_embed(struct graph *g)
{
    for (uint32_t i = 0; i < g->w->embed.n; i++) {
        const struct weight_mat *mat = graph_mat(g, g->w->embed.first + i);
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
        graph_dispatch(g, graph_pipeline_simple(g, KERNEL_EMBED),
                       (struct vk_bind[]){graph_heap_bind(g, mat->heap),
                                          graph_bind(g->buf[BUF_TABLE]), graph_bind(g->buf[BUF_X])},
                       &push, graph_ceil_div(graph_ceil_div(mat->cols, 8), g->subgroup), g->n, 1);
    }
    graph_barrier(g);
}
