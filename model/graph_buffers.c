// SPDX-License-Identifier: MIT
#include "model/graph_buffers.h"

#include "model/rope.h"

#define SCORES_BYTES_MAX (64ull << 20) // attention scratch; more rows go in several dispatches

const char *const graph_buffer_name[BUF_COUNT] = {
    [BUF_X] = "residual",
    [BUF_XN] = "norms",
    [BUF_ATTN_IN] = "attention inputs",
    [BUF_QN] = "query latents",
    [BUF_Q] = "queries",
    [BUF_QA] = "absorbed queries",
    [BUF_SCORES] = "attention scores",
    [BUF_PARTIAL] = "attention splits",
    [BUF_OC] = "attention latents",
    [BUF_ATTN] = "attention outputs",
    [BUF_LOGITS_R] = "router logits",
    [BUF_ROUTER] = "router scores",
    [BUF_WEIGHTS] = "routing weights",
    [BUF_ACT] = "MLP activations",
    [BUF_OUT] = "MLP outputs",
    [BUF_Q8] = "quantised activations",
    [BUF_Q8_SCALE] = "activation scales",
    [BUF_NORM] = "final norms",
    [BUF_NORM_ALL] = "MTP hidden states",
    [BUF_CAT] = "MTP inputs",
    [BUF_ROPE] = "RoPE table",
    [BUF_IDS] = "expert ids",
    [BUF_X_NEXT] = "residual, foretold",
    [BUF_XN_NEXT] = "normed residual, foretold",
    [BUF_WEIGHTS_NEXT] = "routing weights, foretold",
    [BUF_IDS_NEXT] = "expert ids, foretold",
    [BUF_LOGITS] = "logits",
    [BUF_TABLE] = "step tables",
};

static uint32_t pad(uint32_t n)
{
    return (n + 31) & ~31u;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void dims_mla(const struct model_config *c, struct graph_dims *d)
{
    uint32_t q = c->num_attention_heads * (c->qk_nope_head_dim + c->qk_rope_head_dim);
    d->q_cols = ((c->q_lora_rank ? c->q_lora_rank : q) + 3) & ~3u;
    d->attn_in_p = pad(d->q_cols + c->kv_lora_rank + c->qk_rope_head_dim);
    d->qn_p = pad(c->q_lora_rank);
    d->q_p = pad(q);
    d->key = d->entry = c->kv_lora_rank + c->qk_rope_head_dim;
    d->value = c->kv_lora_rank;
    d->kv_heads = 1;
    d->attn_cols = c->num_attention_heads * c->v_head_dim;
}

static void dims_gqa(const struct model_config *c, struct graph_dims *d)
{
    d->attn_in_p = pad((c->num_attention_heads + 2 * c->num_key_value_heads) * c->head_dim);
    d->key = d->value = c->head_dim;
    d->entry = 2 * c->num_key_value_heads * c->head_dim;
    d->kv_heads = c->num_key_value_heads;
    d->attn_cols = c->num_attention_heads * c->head_dim;
}

void graph_dims_get(const struct graph_params *params, struct graph_dims *ret)
{
    const struct model_config *c = params->config;
    *ret = (struct graph_dims){.mla = c->arch == MODEL_ARCH_DEEPSEEK_V3,
                               .hidden = c->hidden_size,
                               .hidden_p = pad(c->hidden_size),
                               .heads = c->num_attention_heads,
                               .cat_p = pad(2 * c->hidden_size),
                               .pairs_per_row = 1};
    if (ret->mla)
        dims_mla(c, ret);
    else
        dims_gqa(c, ret);
    ret->attn_p = pad(ret->attn_cols);
    uint32_t inter = c->intermediate_size;
    if (c->n_routed_experts) {
        inter = max_u32(inter, c->moe_intermediate_size * max_u32(1, c->n_shared_experts));
        ret->pairs_per_row = c->num_experts_per_tok + (c->n_shared_experts ? 1 : 0);
    }
    ret->inter_p = pad(inter);
    ret->context = params->pages_per_sequence * KV_PAGE_TOKENS;

    uint64_t row_bytes = 4ull * ret->heads * ret->context;
    uint64_t partial_bytes = 4ull * ret->heads * ret->value * (ret->context / SPLIT_TOKENS + 1);
    uint64_t rows = SCORES_BYTES_MAX / (row_bytes > partial_bytes ? row_bytes : partial_bytes);
    ret->attention_rows = rows < 1                  ? 1
                          : rows > params->rows_max ? params->rows_max
                                                    : (uint32_t)rows;
}

void graph_table_get(const struct graph_params *params, const struct graph_dims *dims,
                     struct graph_table *ret)
{
    uint32_t pairs = params->rows_max * dims->pairs_per_row;
    ret->pages = params->rows_max * 4;
    ret->gather = ret->pages + params->sequences * params->pages_per_sequence;
    ret->tiles = ret->gather + params->rows_max;
    ret->pair_rows = ret->tiles + pairs * 4;
    ret->sum_rows = ret->pair_rows + pairs;
    ret->sum_list = ret->sum_rows + params->rows_max * 2;
    ret->next_rows = ret->sum_list + pairs * 2;
    ret->next_list = ret->next_rows + FORETELL_ROWS_MAX * 2;
    ret->total = ret->next_list + FORETELL_ROWS_MAX * dims->pairs_per_row * 2;
}

static uint64_t floats(uint64_t rows, uint64_t cols)
{
    return rows * cols * 4;
}

static uint64_t quantised_floats(const struct graph_params *params, const struct graph_dims *d)
{
    uint64_t rows = params->rows_max, wide = max_u32(max_u32(d->hidden_p, d->qn_p), d->attn_p);
    uint64_t x = rows * wide, act = rows * d->pairs_per_row * d->inter_p;
    return x > act ? x : act;
}

uint64_t graph_buffer_bytes(const struct graph_params *params, const struct graph_dims *d,
                            enum graph_buffer buffer)
{
    const struct model_config *c = params->config;
    uint64_t rows = params->rows_max, pairs = rows * d->pairs_per_row;
    bool moe = c->n_routed_experts != 0, official = params->numerics == NUMERICS_OFFICIAL_FP8;
    bool mtp = params->weights->layers_n > c->num_hidden_layers;
    struct graph_table table;
    switch (buffer) {
    case BUF_X:
    case BUF_XN:
        return floats(rows, d->hidden_p);
    case BUF_ATTN_IN:
        return floats(rows, d->attn_in_p);
    case BUF_QN:
        return floats(rows, d->qn_p);
    case BUF_Q:
        return c->q_lora_rank ? floats(rows, d->q_p) : 0;
    case BUF_QA:
        return floats(rows, (uint64_t)d->heads * d->key);
    case BUF_SCORES:
        return floats(d->attention_rows, (uint64_t)d->heads * d->context);
    case BUF_PARTIAL:
        return d->context <= SPLIT_TOKENS && graph_attention_direct(d)
                   ? 0
                   : floats(d->attention_rows * (d->context / SPLIT_TOKENS + 1ull),
                            (uint64_t)d->heads * d->value);
    case BUF_OC:
        // Heads of 8 n columns are read 32 at a time: the last of the last row needs some behind
        // it.
        return d->mla ? floats(rows, (uint64_t)d->heads * d->value) + floats(1, 32) : 0;
    case BUF_ATTN:
        return floats(rows, d->attn_p);
    case BUF_LOGITS_R:
        return moe ? floats(rows, c->n_routed_experts) : 0;
    case BUF_ROUTER:
        return moe ? floats(rows, 2ull * c->n_routed_experts) : 0;
    case BUF_WEIGHTS:
    case BUF_IDS:
        return moe ? floats(rows, c->num_experts_per_tok) : 0;
    case BUF_X_NEXT:
    case BUF_XN_NEXT:
        return params->slots ? floats(FORETELL_ROWS_MAX, d->hidden_p) : 0;
    case BUF_WEIGHTS_NEXT:
    case BUF_IDS_NEXT:
        return params->slots ? floats(FORETELL_ROWS_MAX, c->num_experts_per_tok) : 0;
    case BUF_ACT:
        return floats(pairs, d->inter_p);
    case BUF_OUT:
        return floats(pairs, d->hidden_p);
    case BUF_Q8:
        return official ? 4 * quantised_floats(params, d) : 0;
    case BUF_Q8_SCALE: // a scale for 128 values, strides rounded up
        return official ? 4 * (quantised_floats(params, d) / 32 + pairs + 64) : 0;
    case BUF_NORM:
        return floats(params->logits_rows_max, d->hidden_p);
    case BUF_NORM_ALL:
        return mtp ? floats(rows, d->hidden_p) : 0;
    case BUF_CAT:
        return mtp ? floats(rows, d->cat_p) : 0;
    case BUF_ROPE:
        return floats(d->context, rope_dim(c));
    case BUF_LOGITS:
        return floats(params->logits_rows_max, c->vocab_size);
    case BUF_TABLE:
        graph_table_get(params, d, &table);
        return 4ull * table.total;
    case BUF_COUNT:
        break;
    }
    return 0;
}

enum vk_memory graph_buffer_memory(enum graph_buffer buffer)
{
    switch (buffer) {
    case BUF_IDS:
    case BUF_IDS_NEXT:
    case BUF_LOGITS:
        return VK_MEMORY_READBACK;
    case BUF_TABLE:
        return VK_MEMORY_UPLOAD;
    default:
        return VK_MEMORY_DEVICE;
    }
}

uint64_t graph_kv_layer_bytes(const struct graph_params *params, const struct graph_dims *dims)
{
    uint64_t value_bytes = params->kv_type == KV_F16 ? 2 : 4;
    return (uint64_t)params->pages * KV_PAGE_TOKENS * dims->entry * value_bytes;
}

uint32_t graph_plan(const struct graph_params *params, struct graph_item ret[GRAPH_ITEMS_MAX])
{
    struct graph_dims dims;
    graph_dims_get(params, &dims);
    uint32_t n = 0;
    ret[n++] = (struct graph_item){"KV cache, a layer", params->weights->layers_n,
                                   graph_kv_layer_bytes(params, &dims)};
    for (int i = 0; i < BUF_COUNT; i++) {
        uint64_t bytes = graph_buffer_bytes(params, &dims, (enum graph_buffer)i);
        if (bytes)
            ret[n++] = (struct graph_item){graph_buffer_name[i], 1, bytes};
    }
    return n;
}

uint32_t graph_rows_fit(const struct graph_params *params, uint32_t wanted)
{
    const struct vk_limits *limits = vk_device_limits(params->dev);
    uint64_t max = limits->storage_range_max < limits->allocation_max ? limits->storage_range_max
                                                                      : limits->allocation_max;
    struct graph_params p = *params;
    for (p.rows_max = wanted; p.rows_max > 0; p.rows_max = p.rows_max * 3 / 4) {
        struct graph_dims dims;
        graph_dims_get(&p, &dims);
        bool fits = true;
        for (int i = 0; i < BUF_COUNT; i++)
            fits &= graph_buffer_bytes(&p, &dims, (enum graph_buffer)i) <= max;
        if (fits)
            return p.rows_max;
    }
    return 0;
}
