// SPDX-License-Identifier: MIT
// Routed experts that come from drives: those that are in slots go first, the others as they land,
// each batch in a submission of its own, so that kernels and drives work side by side.  Every pair
// of a row and an expert has its own place for its result, and one last dispatch adds them up in
// ascending expert number: when an expert came, or in which wave, does not show in the bits.
#include "model/graph_record.h"
#include "model/slots.h"

#include <errno.h>

// The next layer's router is asked ahead once no more experts than these are missing: late enough
// that it sees nearly the whole residual, early enough that drives do not run dry meanwhile.
#define FORETELL_MISSING 2u

struct batch { // experts that are ready together
    struct expert_ready ready[GRAPH_EXPERTS_MAX];
    uint32_t n;
};

static uint32_t slot_gate(const struct graph *g, const struct expert_ready *ready)
{
    return g->w->slot_mat0 + 3 * ready->slot;
}

// MLPs that one dispatch can take lie in one heap (on the texel path) at one offset.
static bool gates_alike(const struct graph *g, uint32_t a, uint32_t b)
{
    const struct weight_mat *x = graph_mat(g, a), *y = graph_mat(g, b);
    const struct weight_mat *x_down = graph_mat(g, x->down), *y_down = graph_mat(g, y->down);
    bool heaps = (x->heap == y->heap && x_down->heap == y_down->heap) ||
                 vk_device_path(g->dev) == VK_PATH_ADDRESS;
    return heaps && x->shift == y->shift && x_down->shift == y_down->shift;
}

// Brings those that are alike to a gate to the front of what begins at `from`; inside a batch the
// order is free.  Returns where they end.
static uint32_t batch_gather(const struct graph *g, struct batch *batch, uint32_t from,
                             uint32_t gate)
{
    for (uint32_t i = from; i < batch->n; i++)
        if (gates_alike(g, gate, slot_gate(g, &batch->ready[i]))) {
            struct expert_ready swap = batch->ready[from];
            batch->ready[from++] = batch->ready[i];
            batch->ready[i] = swap;
        }
    return from;
}

// Sorts alike ones together, first those that go with the shared experts (mlp, or WEIGHT_NONE).
// Returns how many these are.
static uint32_t batch_sort(const struct graph *g, struct batch *batch, uint32_t mlp)
{
    uint32_t n = mlp == WEIGHT_NONE ? 0 : batch_gather(g, batch, 0, mlp);
    for (uint32_t done = n; done < batch->n;)
        done = batch_gather(g, batch, done, slot_gate(g, &batch->ready[done]));
    return n;
}

// An expert that cannot be had: the rows that chose it have no result.
static void expert_fail(struct graph *g, const uint32_t *ids, uint32_t expert,
                        const struct fault *fault)
{
    uint32_t k = g->p.config->num_experts_per_tok;
    for (uint32_t i = 0; i < g->n * k; i++) {
        uint32_t row = i / k;
        if (ids[i] != expert || g->row_failed[row])
            continue;
        g->row_failed[row] = true;
        g->table[g->t.sum_rows + row * 2 + 1] = 0;
    }
    if (!g->row_fault.err)
        g->row_fault = *fault;
}

// Takes out the experts without a slot.
static void batch_filter(struct graph *g, struct batch *batch, const uint32_t *ids,
                         const struct fault *fault)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < batch->n; i++) {
        if (batch->ready[i].slot == EXPERT_NO_SLOT)
            expert_fail(g, ids, batch->ready[i].expert, fault);
        else
            batch->ready[kept++] = batch->ready[i];
    }
    batch->n = kept;
}

struct groups { // of tiles, one for each run of alike MLPs
    struct graph_tiles tiles[GRAPH_EXPERTS_MAX + 1];
    uint32_t gates[GRAPH_EXPERTS_MAX + 1];
    uint32_t n;
};

// The tiles that are added next are of this MLP.
static void group_open(const struct graph *g, struct groups *groups, const struct graph_moe *moe,
                       uint32_t gate)
{
    if (groups->n && gates_alike(g, groups->gates[groups->n - 1], gate))
        return;
    groups->tiles[groups->n] = (struct graph_tiles){moe->tiles, 0, moe->xrows, WEIGHT_NONE};
    groups->gates[groups->n++] = gate;
}

// Appends the tiles of a batch, and of the shared experts (mlp, or WEIGHT_NONE) in the middle of
// those that they go with (graph_table_experts says why).
static void batch_tiles(struct graph *g, const struct weight_layer *layer, struct graph_moe *moe,
                        struct batch *batch, const uint32_t *first, uint32_t mlp,
                        struct groups *groups)
{
    struct graph_cmd *cmd = &g->cmds[g->cmd_at];
    uint32_t middle = batch_sort(g, batch, mlp) / 2;
    groups->n = 0;
    for (uint32_t i = 0; i <= batch->n; i++) {
        if (i == middle && mlp != WEIGHT_NONE) {
            group_open(g, groups, moe, mlp);
            graph_tile_shared(g, layer, moe);
        }
        if (i == batch->n)
            break;
        const struct expert_ready *ready = &batch->ready[i];
        group_open(g, groups, moe, slot_gate(g, ready));
        graph_tile_add(g, moe, slot_gate(g, ready), first[ready->expert],
                       first[ready->expert + 1] - first[ready->expert]);
        cmd->slots[cmd->slots_n++] = ready->slot;
    }
    for (uint32_t i = 0; i < groups->n; i++)
        groups->tiles[i].n =
            (i + 1 < groups->n ? groups->tiles[i + 1].first : moe->tiles) - groups->tiles[i].first;
}

// Quantises what goes into the down projections: pairs of neighbouring experts in one dispatch.
static void batch_act(struct graph *g, const struct weight_layer *layer, const struct batch *batch,
                      const uint32_t *first, uint32_t mlp)
{
    const struct model_config *c = g->p.config;
    bool in[GRAPH_EXPERTS_MAX] = {0};
    uint32_t pair0 = 0, end = 0; // of the run so far
    for (uint32_t i = 0; i < batch->n; i++)
        in[batch->ready[i].expert] = true;
    for (uint32_t e = 0; e < c->n_routed_experts; e++) {
        if (!in[e])
            continue;
        if (first[e] != end) {
            graph_record_act(g, layer, layer->expert0, pair0, end - pair0);
            pair0 = first[e];
        }
        end = first[e + 1];
    }
    graph_record_act(g, layer, layer->expert0, pair0, end - pair0);
    if (mlp != WEIGHT_NONE)
        graph_record_act(g, layer, mlp, g->n * c->num_experts_per_tok, g->n);
}

static void batch_record(struct graph *g, const struct weight_layer *layer, struct graph_moe *moe,
                         struct batch *batch, const uint32_t *first, bool shared)
{
    struct groups groups;
    uint32_t mlp = shared ? layer->mlp : WEIGHT_NONE;
    batch_tiles(g, layer, moe, batch, first, mlp, &groups);
    graph_record_mlp_in(g, layer);
    for (uint32_t i = 0; i < groups.n; i++)
        graph_record_up(g, layer, &groups.tiles[i], groups.gates[i]);
    graph_barrier(g);
    batch_act(g, layer, batch, first, mlp);
    for (uint32_t i = 0; i < groups.n; i++)
        graph_record_down(g, layer, &groups.tiles[i], groups.gates[i]);
    graph_barrier(g);
}

// The experts of the rows that go on, ascending.
static uint32_t experts_union(const struct graph *g, const uint32_t *first, uint32_t *ret)
{
    uint32_t n = 0;
    for (uint32_t e = 0; e < g->p.config->n_routed_experts; e++)
        if (first[e + 1] > first[e])
            ret[n++] = e;
    return n;
}

// Gives slots back whose kernels are through; those of the oldest list in any case if `wait`.
// Returns whether there was one.
static bool lists_reap(struct graph *g, bool wait)
{
    bool reaped = false;
    for (uint32_t i = 1; i < GRAPH_CMDS; i++) { // oldest first
        struct graph_cmd *cmd = &g->cmds[(g->cmd_at + i) % GRAPH_CMDS];
        if (cmd->value == 0)
            continue;
        if (!wait && !vk_reached(g->dev, cmd->value))
            break;
        graph_wait(g, cmd);
        wait = false;
        reaped = true;
    }
    return reaped;
}

// After an error in the middle of a layer: takes what the source still brings, so that no slot
// stays held.
static void experts_drain(struct graph *g, uint32_t left)
{
    struct expert_ready ready[64];
    struct fault fault = {0};
    while (left > 0) {
        uint32_t n = g->source->next(g->source->user, ready, 64, true, &fault);
        if (n == 0 && !lists_reap(g, true))
            return;
        for (uint32_t i = 0; i < n; i++)
            if (ready[i].slot != EXPERT_NO_SLOT)
                g->source->release(g->source->user, &ready[i].slot, 1);
        left -= n < left ? n : left;
    }
}

/* --------------------------------------------------------------- foretelling */

static bool foretells(const struct graph *g, uint32_t layer_idx)
{
    return g->source && !g->err && g->n <= FORETELL_ROWS_MAX &&
           layer_idx < g->p.config->num_hidden_layers && g->w->layers[layer_idx].moe &&
           g->source->curious(g->source->user, layer_idx);
}

// Asks the router of a layer about x as it is now, and submits.
static void foretell(struct graph *g, uint32_t layer_idx, enum graph_buffer x)
{
    const struct weight_layer *layer = &g->w->layers[layer_idx];
    graph_record_norm(g, &(struct graph_norm){.x = x,
                                              .y = BUF_XN_NEXT,
                                              .n = g->d.hidden,
                                              .x_stride = g->d.hidden_p,
                                              .y_stride = g->d.hidden_p,
                                              .weight = layer->post_attention_norm,
                                              .rows = g->n,
                                              .eps = g->p.config->rms_norm_eps});
    graph_record_router(g, layer, BUF_XN_NEXT, BUF_IDS_NEXT, BUF_WEIGHTS_NEXT);
    g->foretold_layer = layer_idx;
    g->foretold_cmd = g->cmd_at;
    graph_submit(g);
    graph_begin(g);
}

void graph_foretell(struct graph *g, uint32_t layer_idx)
{
    if (foretells(g, layer_idx))
        foretell(g, layer_idx, BUF_X);
}

// The residual after this layer as far as its experts are through, which is nearly all that the
// next layer's router will see: only that layer's attention is missing.
static void foretell_next(struct graph *g, uint32_t layer_idx, const uint32_t *ids,
                          const bool *computed)
{
    uint32_t per_row = g->d.pairs_per_row;
    uint32_t *rows = g->table + g->t.next_rows, *to = g->table + g->t.next_list, n = 0;
    const uint32_t *from = g->table + g->t.sum_list;
    for (uint32_t row = 0; row < g->n; row++) {
        rows[row * 2] = n;
        for (uint32_t j = 0; j < per_row && !g->row_failed[row]; j++) {
            const uint32_t *entry = &from[(row * per_row + j) * 2];
            if (entry[1] != WEIGHT_NONE && !computed[ids[entry[1]]])
                continue;
            to[n * 2] = entry[0];
            to[n * 2 + 1] = entry[1];
            n++;
        }
        rows[row * 2 + 1] = n - rows[row * 2];
    }
    if (!g->err)
        vk_cmd_copy(g->cmd, g->buf[BUF_X_NEXT], 0, g->buf[BUF_X], 0, 4ull * g->n * g->d.hidden_p);
    graph_barrier(g);
    graph_record_sum(g, BUF_X_NEXT, g->t.next_rows, g->t.next_list);
    foretell(g, layer_idx, BUF_X_NEXT);
}

// Tells the first choices of all rows before their second ones.
void graph_foretold(struct graph *g)
{
    const struct model_config *c = g->p.config;
    uint32_t k = c->num_experts_per_tok, n = 0, layer_idx = g->foretold_layer;
    if (layer_idx == WEIGHT_NONE)
        return;
    g->foretold_layer = WEIGHT_NONE;
    graph_wait(g, &g->cmds[g->foretold_cmd]);
    if (g->err)
        return;
    uint32_t ranked[FORETELL_ROWS_MAX * 64];
    bool seen[GRAPH_EXPERTS_MAX] = {0};
    const uint32_t *ids = vk_buffer_map(g->buf[BUF_IDS_NEXT]);
    for (uint32_t j = 0; j < k; j++)
        for (uint32_t row = 0; row < g->n; row++) {
            uint32_t e = ids[row * k + j];
            if (e >= c->n_routed_experts || seen[e] || g->row_failed[row])
                continue;
            seen[e] = true;
            ranked[n++] = e;
        }
    g->source->predict(g->source->user, layer_idx, ranked, n);
}

/* -------------------------------------------------------------------- a layer */

void graph_run_experts(struct graph *g, uint32_t layer_idx, const uint32_t *ids)
{
    const struct weight_layer *layer = &g->w->layers[layer_idx];
    const struct expert_source *source = g->source;
    uint32_t first[GRAPH_EXPERTS_MAX + 1], experts[GRAPH_EXPERTS_MAX];
    bool computed[GRAPH_EXPERTS_MAX] = {0};
    struct graph_moe moe = graph_table_pairs(g, layer, ids, first);
    uint32_t left = experts_union(g, first, experts);
    source->begin(source->user, layer_idx, experts, left);

    struct batch *batch = &(struct batch){0};
    bool shared = true, next = foretells(g, layer_idx + 1);
    while (!g->err && (left > 0 || shared)) {
        struct fault fault = {0};
        // What is there goes first, with the shared experts; then whatever lands.
        batch->n = source->next(source->user, batch->ready, GRAPH_EXPERTS_MAX, !shared, &fault);
        bool reaped = lists_reap(g, false);
        if (batch->n == 0 && !shared) {
            if (!reaped && !lists_reap(g, true))
                g->err = fault_set(g->fault, EIO, "layer %u: %u experts neither come nor fail",
                                   layer_idx, left);
            continue;
        }
        left -= batch->n;
        batch_filter(g, batch, ids, &fault);
        if (shared) // the lists before the router are through
            slots_settle(g->p.slots, batch->ready, batch->n);
        batch_record(g, layer, &moe, batch, first, shared);
        for (uint32_t i = 0; i < batch->n; i++)
            computed[batch->ready[i].expert] = true;
        shared = false;
        if (next && left <= FORETELL_MISSING) {
            next = false;
            foretell_next(g, layer_idx + 1, ids, computed);
            if (left > 0)
                graph_foretold(g);
        } else if (left > 0) {
            graph_submit(g);
            graph_begin(g);
        }
    }
    if (g->err)
        experts_drain(g, left);
    graph_record_sum(g, BUF_X, g->t.sum_rows, g->t.sum_list);
}
