// SPDX-License-Identifier: MIT
#include "model/graph_record.h"

void graph_record_router(struct graph *g, const struct weight_layer *layer, enum graph_buffer x,
                         enum graph_buffer ids, enum graph_buffer weights)
{
    const struct model_config *c = g->p.config;
    graph_record_matmul(g, &(struct graph_matmul){.group = layer->router,
                                                  .x = x,
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
              graph_float_bits(c->routed_scaling_factor),
              c->n_routed_experts,
              {0}};
    graph_dispatch(g, graph_pipeline_simple(g, KERNEL_ROUTER),
                   (struct vk_bind[]){graph_bind(g->buf[BUF_LOGITS_R]), graph_bind(g->w->vectors),
                                      graph_bind(g->buf[BUF_ROUTER]), graph_bind(g->buf[ids]),
                                      graph_bind(g->buf[weights])},
                   &push, g->n, 1, 1);
    graph_barrier(g);
}

void graph_tile_add(struct graph *g, struct graph_moe *moe, uint32_t mat, uint32_t pair0,
                    uint32_t pairs)
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
struct graph_moe graph_table_dense(struct graph *g, uint32_t mat)
{
    struct graph_moe moe = {.xrows = tile_for(g->dev, graph_mat(g, mat)->k16, g->n).xrows,
                            .mat0 = mat};
    for (uint32_t i = 0; i < g->n; i++) {
        g->table[g->t.pair_rows + i] = i;
        g->table[g->t.sum_rows + i * 2] = i;
        g->table[g->t.sum_rows + i * 2 + 1] = 1;
        g->table[g->t.sum_list + i * 2] = i;
        g->table[g->t.sum_list + i * 2 + 1] = WEIGHT_NONE;
    }
    graph_tile_add(g, &moe, WEIGHT_NONE, 0, g->n);
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
    const struct weight_mat *gate = graph_mat(g, layer->expert0);
    uint32_t best = 1;
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t xrows = tile_for(g->dev, gate->k16, 1u << i).xrows;
        uint64_t tiles = graph_ceil_div(g->n, xrows); // of the shared experts
        for (uint32_t e = 0; e < g->p.config->n_routed_experts; e++)
            tiles += graph_ceil_div(first[e + 1] - first[e], xrows);
        if (tiles * cost[i] < least) {
            least = tiles * cost[i];
            best = xrows;
        }
    }
    return best;
}

// The pairs of one row in the order in which they are added up: ascending expert number, the shared
// experts last.  fill[e] is the next free pair of expert e.
static void row_pairs(struct graph *g, const struct weight_layer *layer, const uint32_t *ids,
                      uint32_t row, uint32_t *fill)
{
    uint32_t k = g->p.config->num_experts_per_tok, per_row = g->d.pairs_per_row;
    uint32_t *pair_rows = g->table + g->t.pair_rows, *list = g->table + g->t.sum_list;
    uint32_t order[64];
    for (uint32_t j = 0; j < k; j++) { // insertion sort by expert number; k is at most 64
        uint32_t at = j;
        for (; at > 0 && ids[row * k + order[at - 1]] > ids[row * k + j]; at--)
            order[at] = order[at - 1];
        order[at] = j;
    }
    for (uint32_t j = 0; j < k; j++) {
        uint32_t pair = fill[ids[row * k + order[j]]]++;
        pair_rows[pair] = row;
        list[(row * per_row + j) * 2] = pair;
        list[(row * per_row + j) * 2 + 1] = row * k + order[j];
    }
    if (layer->mlp != WEIGHT_NONE) {
        list[(row * per_row + k) * 2] = g->n * k + row;
        list[(row * per_row + k) * 2 + 1] = WEIGHT_NONE;
    }
}

struct graph_moe graph_table_pairs(struct graph *g, const struct weight_layer *layer,
                                   const uint32_t *ids, uint32_t *first)
{
    const struct model_config *c = g->p.config;
    uint32_t k = c->num_experts_per_tok, per_row = g->d.pairs_per_row;
    memset(first, 0, (c->n_routed_experts + 1) * sizeof(*first));
    for (uint32_t i = 0; i < g->n * k; i++)
        first[ids[i] + 1] += !g->row_failed[i / k];
    for (uint32_t e = 0; e < c->n_routed_experts; e++)
        first[e + 1] += first[e];
    uint32_t fill[GRAPH_EXPERTS_MAX];
    memcpy(fill, first, c->n_routed_experts * sizeof(*fill));
    for (uint32_t row = 0; row < g->n; row++) {
        g->table[g->t.sum_rows + row * 2] = row * per_row;
        g->table[g->t.sum_rows + row * 2 + 1] = g->row_failed[row] ? 0 : per_row;
        if (layer->mlp != WEIGHT_NONE)
            g->table[g->t.pair_rows + g->n * k + row] = row;
        if (!g->row_failed[row])
            row_pairs(g, layer, ids, row, fill);
    }
    g->counters.expert_loads += first[c->n_routed_experts];
    return (struct graph_moe){
        .pairs = g->n * per_row, .xrows = experts_xrows(g, layer, first), .mat0 = WEIGHT_NONE};
}

void graph_tile_shared(struct graph *g, const struct weight_layer *layer, struct graph_moe *moe)
{
    if (layer->mlp != WEIGHT_NONE)
        graph_tile_add(g, moe, layer->mlp, g->n * g->p.config->num_experts_per_tok, g->n);
}

// Resident experts in ascending number, the shared ones in the middle: lavapipe gives each of its
// threads one run of a dispatch's workgroups, and theirs have the most work.
struct graph_moe graph_table_experts(struct graph *g, const struct weight_layer *layer,
                                     const uint32_t *ids)
{
    uint32_t first[GRAPH_EXPERTS_MAX + 1];
    struct graph_moe moe = graph_table_pairs(g, layer, ids, first);
    uint32_t experts = g->p.config->n_routed_experts, middle = 0;
    while (middle < experts && first[middle] < first[experts] / 2)
        middle++;
    for (uint32_t e = 0; e <= experts; e++) {
        if (e == middle)
            graph_tile_shared(g, layer, &moe);
        if (e < experts)
            graph_tile_add(g, &moe, layer->expert0 + 3 * e, first[e], first[e + 1] - first[e]);
    }
    return moe;
}

// The heaps between which the weights of some tiles lie.  One dispatch reaches all on the address
// path, where reading back the table, in the device's memory, would be slow besides.
static void tile_heaps(const struct graph *g, enum kernel kernel, const struct graph_tiles *tiles,
                       uint32_t *ret_first, uint32_t *ret_last)
{
    bool address = vk_device_path(g->dev) == VK_PATH_ADDRESS;
    *ret_first = address ? 0 : UINT32_MAX;
    *ret_last = 0;
    for (uint32_t i = tiles->first; i < tiles->first + tiles->n && !address; i++) {
        const uint32_t *tile = g->table + g->t.tiles + i * 4;
        const struct weight_mat *mat =
            graph_mat(g, tiles->mat0 == WEIGHT_NONE ? tile[0] : tiles->mat0);
        uint32_t heap = kernel == KERNEL_MLP_DOWN ? graph_mat(g, mat->down)->heap : mat->heap;
        *ret_first = heap < *ret_first ? heap : *ret_first;
        *ret_last = heap > *ret_last ? heap : *ret_last;
    }
}

// One dispatch a heap that the tiles' weights lie in (texel path), one in all (address path).
static void record_tiles(struct graph *g, enum kernel kernel, const struct graph_tiles *tiles,
                         const struct weight_mat *sample, const struct vk_bind *binds,
                         const void *push, uint32_t *push_heap, uint32_t rows)
{
    struct tile tile = tile_for(g->dev, sample->k16, tiles->xrows);
    struct vk_bind all[8];
    uint32_t n = (uint32_t)strlen(kernel_rows[kernel].binds);
    memcpy(all, binds, n * sizeof(all[0]));
    bool quantised = g->p.numerics == NUMERICS_OFFICIAL_FP8 && sample->dtype == WEIGHT_FP8;
    struct vk_pipeline *pipe = graph_pipeline_matmul(g, kernel, tile, sample, quantised);
    uint32_t first, last;
    tile_heaps(g, kernel, tiles, &first, &last);
    for (uint32_t heap = first; heap <= last; heap++) {
        all[0] = graph_heap_bind(g, heap);
        *push_heap = heap;
        graph_dispatch(g, pipe, all, push, graph_ceil_div(rows, tile.rows), tiles->n, 1);
    }
}

// Values of an activation row: the widest of the MLPs of a layer.
static uint32_t layer_inter(const struct graph *g, const struct weight_layer *layer)
{
    uint32_t routed = layer->moe ? graph_mat(g, layer->expert0)->rows : 0;
    uint32_t other = layer->mlp != WEIGHT_NONE ? graph_mat(g, layer->mlp)->rows : 0;
    return routed > other ? routed : other;
}

void graph_record_mlp_in(struct graph *g, const struct weight_layer *layer)
{
    const struct model_config *c = g->p.config;
    if (graph_quantises(g, layer->moe ? layer->expert0 : layer->mlp))
        graph_record_quant(g, BUF_XN, g->d.hidden_p, graph_ceil_div(c->hidden_size, 128),
                           c->hidden_size, 0, g->n);
}

void graph_record_up(struct graph *g, const struct weight_layer *layer,
                     const struct graph_tiles *tiles, uint32_t gate_idx)
{
    const struct model_config *c = g->p.config;
    struct {
        uint32_t heap, tiles0, pair_rows0, x_stride4, y_stride, xs_stride, mat0, pad[9];
    } push = {0,
              g->t.tiles + tiles->first * 4,
              g->t.pair_rows,
              g->d.hidden_p / 4,
              g->d.inter_p,
              graph_ceil_div(c->hidden_size, 128),
              tiles->mat0,
              {0}};
    enum graph_buffer x = graph_quantises(g, gate_idx) ? BUF_Q8 : BUF_XN;
    record_tiles(g, KERNEL_MLP_UP, tiles, graph_mat(g, gate_idx),
                 (struct vk_bind[]){{0},
                                    graph_bind(g->w->mats_buf),
                                    graph_bind(g->buf[x]),
                                    graph_bind(g->buf[BUF_Q8_SCALE]),
                                    graph_bind(g->buf[BUF_TABLE]),
                                    graph_bind(g->buf[BUF_ACT])},
                 &push, &push.heap, layer_inter(g, layer));
}

// Pairs of routed experts may be narrower than those of the shared ones: what other layers left in
// the columns between must not decide about a scale.
void graph_record_act(struct graph *g, const struct weight_layer *layer, uint32_t mat,
                      uint32_t pair0, uint32_t pairs)
{
    if (pairs && graph_quantises(g, mat))
        graph_record_quant(g, BUF_ACT, g->d.inter_p, graph_ceil_div(layer_inter(g, layer), 128),
                           graph_mat(g, mat)->rows, pair0, pairs);
}

void graph_record_down(struct graph *g, const struct weight_layer *layer,
                       const struct graph_tiles *tiles, uint32_t gate_idx)
{
    struct {
        uint32_t heap, tiles0, x_stride4, y_stride, xs_stride, mat0, pad[10];
    } push = {0,
              g->t.tiles + tiles->first * 4,
              g->d.inter_p / 4,
              g->d.hidden_p,
              graph_ceil_div(layer_inter(g, layer), 128),
              tiles->mat0,
              {0}};
    enum graph_buffer x = graph_quantises(g, gate_idx) ? BUF_Q8 : BUF_ACT;
    record_tiles(g, KERNEL_MLP_DOWN, tiles, graph_mat(g, graph_mat(g, gate_idx)->down),
                 (struct vk_bind[]){{0},
                                    graph_bind(g->w->mats_buf),
                                    graph_bind(g->buf[x]),
                                    graph_bind(g->buf[BUF_Q8_SCALE]),
                                    graph_bind(g->buf[BUF_TABLE]),
                                    graph_bind(g->buf[BUF_OUT])},
                 &push, &push.heap, g->p.config->hidden_size);
}

void graph_record_sum(struct graph *g, enum graph_buffer x, uint32_t rows0, uint32_t list0)
{
    struct {
        uint32_t n4, rows0, list0, in_stride4, x_stride4, pad[7];
    } push = {graph_ceil_div(g->p.config->hidden_size, 4),
              rows0,
              list0,
              g->d.hidden_p / 4,
              g->d.hidden_p / 4,
              {0}};
    graph_dispatch(g, graph_pipeline_simple(g, KERNEL_MLP_SUM),
                   (struct vk_bind[]){graph_bind(g->buf[BUF_OUT]), graph_bind(g->buf[BUF_WEIGHTS]),
                                      graph_bind(g->buf[BUF_TABLE]), graph_bind(g->buf[x])},
                   &push, graph_ceil_div(push.n4, g->subgroup), g->n, 1);
    graph_barrier(g);
}

void graph_record_mlp(struct graph *g, const struct weight_layer *layer,
                      const struct graph_moe *moe)
{
    uint32_t gate = layer->moe ? layer->expert0 : layer->mlp;
    struct graph_tiles all = {.n = moe->tiles, .xrows = moe->xrows, .mat0 = moe->mat0};
    uint32_t routed = layer->moe ? g->n * g->p.config->num_experts_per_tok : 0;
    graph_record_mlp_in(g, layer);
    graph_record_up(g, layer, &all, gate);
    graph_barrier(g);
    graph_record_act(g, layer, gate, 0, routed);
    graph_record_act(g, layer, layer->mlp, routed, moe->pairs - routed);
    graph_record_down(g, layer, &all, gate);
    graph_barrier(g);
    graph_record_sum(g, BUF_X, g->t.sum_rows, g->t.sum_list);
}
