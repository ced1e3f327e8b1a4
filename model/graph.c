// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include "model/graph_record.h"
#include "model/rope.h"

#include <errno.h>
#include <stdlib.h>

#define WAIT_NS 600000000000ull // a step that takes longer has hung the device

/* ------------------------------------------------------------ submissions */

void graph_wait(struct graph *g, struct graph_cmd *cmd)
{
    if (cmd->value) {
        uint64_t from = clock_ns();
        int err = vk_wait(g->dev, cmd->value, WAIT_NS, g->fault);
        g->counters.wait_ns += clock_ns() - from;
        if (err && !g->err)
            g->err = err;
    }
    cmd->value = 0;
    if (cmd->slots_n)
        g->source->release(g->source->user, cmd->slots, cmd->slots_n);
    cmd->slots_n = 0;
}

void graph_begin(struct graph *g)
{
    g->cmd_at = (g->cmd_at + 1) % GRAPH_CMDS;
    graph_wait(g, &g->cmds[g->cmd_at]);
    g->cmd = g->cmds[g->cmd_at].cmd;
    if (!g->err && vk_cmd_begin(g->cmd))
        g->err = fault_set(g->fault, EIO, "Vulkan: cannot record a step");
}

void graph_submit(struct graph *g)
{
    uint64_t value;
    if (!g->err)
        g->err = vk_cmd_submit(g->cmd, &value, g->fault);
    if (!g->err)
        g->cmds[g->cmd_at].value = value;
}

static void wait_all(struct graph *g)
{
    for (uint32_t i = 1; i <= GRAPH_CMDS; i++)
        graph_wait(g, &g->cmds[(g->cmd_at + i) % GRAPH_CMDS]);
}

static void flush(struct graph *g)
{
    graph_submit(g);
    wait_all(g);
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
    graph_begin(g);
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

// A dense layer's tables take the place of those before it.  Dense layers in a row have the same;
// an MoE layer's have to be read first (moe_layer_freq above 1).
static void tables_free(struct graph *g)
{
    if (!g->tables_moe)
        return;
    flush(g);
    graph_begin(g);
}

// Runs what was recorded up to a router and returns what it chose, or NULL.
static const uint32_t *router_ids(struct graph *g, uint32_t idx)
{
    graph_submit(g);
    graph_foretold(g); // while the layers before the router run
    wait_all(g);
    tap_router(g, idx);
    const uint32_t *ids = vk_buffer_map(g->buf[BUF_IDS]);
    if (!g->err)
        g->err = ids_check(g, ids);
    if (!g->err && g->routing)
        g->routing(g->routing_user, idx, ids, g->n, g->p.config->num_experts_per_tok);
    return g->err ? NULL : ids;
}

static void run_layer(struct graph *g, uint32_t idx)
{
    const struct weight_layer *layer = &g->w->layers[idx];
    tap_flush(g, ENGINE_TAP_RESIDUAL, idx, BUF_X, g->n, g->d.hidden_p, g->d.hidden);
    graph_record_attention(g, idx);
    graph_record_residual_norm(g, layer->post_attention_norm);
    struct graph_moe moe;
    if (layer->moe) {
        graph_record_router(g, layer, BUF_XN, BUF_IDS, BUF_WEIGHTS);
        const uint32_t *ids = router_ids(g, idx);
        graph_begin(g);
        g->tables_moe = true;
        if (!ids)
            return;
        if (g->source) {
            graph_run_experts(g, idx, ids);
            return;
        }
        moe = graph_table_experts(g, layer, ids);
    } else {
        tables_free(g);
        moe = graph_table_dense(g, layer->mlp);
        g->tables_moe = false;
    }
    graph_record_mlp(g, layer, &moe);
    if (!layer->moe)
        graph_foretell(g, idx + 1);
}

static void record_head(struct graph *g, uint32_t norm, uint32_t layer)
{
    if (g->logits_n == 0)
        return;
    graph_record_norm(g, &(struct graph_norm){.x = BUF_X,
                                              .y = BUF_NORM,
                                              .n = g->d.hidden,
                                              .x_stride = g->d.hidden_p,
                                              .y_stride = g->d.hidden_p,
                                              .weight = norm,
                                              .rows = g->logits_n,
                                              .eps = g->p.config->rms_norm_eps,
                                              .gather = true});
    tap_flush(g, ENGINE_TAP_NORM, layer, BUF_NORM, g->logits_n, g->d.hidden_p, g->d.hidden);
    graph_record_matmul(g, &(struct graph_matmul){.group = g->w->head,
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
    g->tables_moe = false;
    g->foretold_layer = WEIGHT_NONE;
    memset(g->row_failed, 0, n * sizeof(*g->row_failed));
    g->row_fault = (struct fault){0};
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
    g->counters.host_ns += clock_ns() - from_ns - (g->counters.wait_ns - wait_before);
    int err = g->err;
    g->fault = NULL;
    if (err)
        return err;
    float *logits = vk_buffer_map(g->buf[BUF_LOGITS]);
    uint64_t vocab = g->p.config->vocab_size;
    for (uint32_t i = 0; i < g->logits_n; i++)
        if (g->row_failed[g->table[g->t.gather + i]])
            memset(logits + i * vocab, 0, vocab * sizeof(*logits));
    if (ret_logits)
        *ret_logits = logits;
    return 0;
}

int graph_step(struct graph *g, const struct kv *kv, const struct engine_row *rows, uint32_t n,
               const float **ret_logits, struct fault *fault)
{
    uint64_t from_ns = clock_ns(), wait_before = g->counters.wait_ns;
    const struct model_config *c = g->p.config;
    g->err = 0;
    g->fault = fault;
    int err = rows_check(g, kv, rows, n);
    if (err)
        return err;
    tables_fill(g, kv, rows, n);
    graph_begin(g);
    graph_record_embed(g);
    graph_foretell(g, 0);
    for (uint32_t i = 0; i < c->num_hidden_layers && !g->err; i++)
        run_layer(g, i);
    tap_flush(g, ENGINE_TAP_RESIDUAL, c->num_hidden_layers, BUF_X, g->n, g->d.hidden_p,
              g->d.hidden);
    record_head(g, g->w->norm, c->num_hidden_layers);
    if (g->buf[BUF_NORM_ALL])
        graph_record_norm(g, &(struct graph_norm){.x = BUF_X,
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
    struct graph_norm norm = {.x = BUF_X,
                              .y = BUF_CAT,
                              .n = g->d.hidden,
                              .x_stride = g->d.hidden_p,
                              .y_stride = g->d.cat_p,
                              .weight = w->mtp_enorm,
                              .rows = g->n,
                              .eps = g->p.config->rms_norm_eps};
    graph_record_embed(g);
    graph_record_norm(g, &norm);
    norm.x = BUF_NORM_ALL;
    norm.y_col = g->d.hidden;
    norm.weight = w->mtp_hnorm;
    norm.gather = true;
    graph_record_norm(g, &norm);
    graph_record_matmul(g, &(struct graph_matmul){.group = w->mtp_eh,
                                                  .x = BUF_CAT,
                                                  .y = BUF_X,
                                                  .x_stride = g->d.cat_p,
                                                  .y_stride = g->d.hidden_p,
                                                  .rows = g->n});
}

int graph_mtp_step(struct graph *g, const struct kv *kv, const struct engine_row *rows, uint32_t n,
                   const float **ret_logits, struct fault *fault)
{
    uint64_t from_ns = clock_ns(), wait_before = g->counters.wait_ns;
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
    graph_begin(g);
    record_mtp_in(g, g->w);
    // The gather list serves two norms of one step: the second needs its own values.
    flush(g);
    memcpy(g->table + g->t.gather, logits_gather, g->logits_n * sizeof(uint32_t));
    graph_begin(g);
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

static int lists_create(struct graph *g, struct fault *fault)
{
    int err = 0;
    for (uint32_t i = 0; i < GRAPH_CMDS && !err; i++) {
        err = vk_cmd_create(g->dev, &g->cmds[i].cmd, fault);
        g->cmds[i].slots = calloc(g->p.config->n_routed_experts + 1u, sizeof(uint32_t));
        if (!err && !g->cmds[i].slots)
            err = fault_set(fault, ENOMEM, "out of memory");
    }
    return err;
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
    g->row_failed = calloc(params->rows_max, sizeof(*g->row_failed));
    if (!g->kv || !g->last_rows || !g->row_failed) {
        err = fault_set(fault, ENOMEM, "out of memory");
        goto fail;
    }
    err = buffers_create(g, fault);
    if (!err)
        err = rope_upload(g, fault);
    if (!err)
        err = lists_create(g, fault);
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
    for (uint32_t i = 0; i < GRAPH_CMDS; i++) {
        vk_cmd_destroy(&g->cmds[i].cmd);
        free(g->cmds[i].slots);
    }
    for (int i = 0; i < BUF_COUNT; i++)
        vk_buffer_destroy(&g->buf[i]);
    for (uint32_t i = 0; g->kv && i < g->w->layers_n; i++)
        vk_buffer_destroy(&g->kv[i]);
    free(g->kv);
    free(g->last_rows);
    free(g->row_failed);
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

void graph_source_set(struct graph *g, const struct expert_source *source)
{
    g->source = source;
}

const struct fault *graph_row_fault(const struct graph *g, uint32_t row)
{
    return row < g->n && g->row_failed[row] ? &g->row_fault : NULL;
}

void graph_routing_set(struct graph *g,
                       void (*fn)(void *user, uint32_t layer, const uint32_t *ids, uint32_t rows,
                                  uint32_t k),
                       void *user)
{
    g->routing = fn;
    g->routing_user = user;
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
