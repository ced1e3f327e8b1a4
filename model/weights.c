// SPDX-License-Identifier: MIT
#include "model/weights.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HEAP_BYTES_MAX (2ull << 30) // w16 and s4 stay far below 2^32; texel views end at 2 GiB
#define READ_BYTES     (32u << 20)  // one read; bounds the scratch
#define SCALE_BLOCK    128u
#define LAYER_GLOBAL   UINT32_MAX
#define VECTOR_ALIGN   4u         // kernels read vectors as vec4
#define HEAP_FRONT     UINT32_MAX // while planning: the first arena, whose number is not known yet
#define FRONT_ALIGN    4096u      // slots lie behind it

// A tensor's way from the file to its place, kept between plan and load.
struct load {
    const struct tensor *tensor, *scale;
    uint32_t mat;  // WEIGHT_NONE: a vector
    uint32_t row0; // first row of this part
    uint32_t vector0, n;
};

struct plan {         // what weights_plan builds besides struct weights
    struct weights w; // first, so that the public pointer is the plan's
    const struct checkpoint *ck;
    struct load *loads;
    size_t loads_n, loads_cap, mats_cap, heaps_cap;
    uint64_t *heap_bytes;
    uint64_t heap_max;
    uint64_t front_max; // bytes in front of the slots at most
    bool experts;       // place the routed ones too
    uint32_t vectors_n;
    uint32_t layer;                   // being placed, or LAYER_GLOBAL
    uint32_t role_mat[ROLE_COUNT];    // of the layer being placed
    uint32_t role_parts[ROLE_COUNT];  // parts of that matrix
    uint32_t role_vector[ROLE_COUNT]; //
    struct fault *fault;
};

/* -------------------------------------------------------------- placement */

static int grow(void **items, size_t *cap, size_t need, size_t item_bytes)
{
    if (need <= *cap)
        return 0;
    size_t cap_new = *cap ? *cap * 2 : 256;
    void *more = realloc(*items, cap_new * item_bytes);
    if (!more)
        return -ENOMEM;
    *items = more;
    *cap = cap_new;
    return 0;
}

static int mat_add(struct plan *p, const struct weight_mat *mat, uint32_t *ret)
{
    int err = grow((void **)&p->w.mats, &p->mats_cap, p->w.mats_n + 1u, sizeof(*p->w.mats));
    if (err)
        return fault_set(p->fault, ENOMEM, "out of memory");
    *ret = p->w.mats_n;
    p->w.mats[p->w.mats_n++] = *mat;
    return 0;
}

static int load_add(struct plan *p, const struct load *load)
{
    int err = grow((void **)&p->loads, &p->loads_cap, p->loads_n + 1, sizeof(*p->loads));
    if (err)
        return fault_set(p->fault, ENOMEM, "out of memory");
    p->loads[p->loads_n++] = *load;
    return 0;
}

// Does a matrix go in front of the slots?  room: bytes that must be there for it to begin.  An
// up_proj is where its gate_proj is.
static bool front_takes(const struct plan *p, enum tensor_role role, uint64_t room)
{
    if (role == ROLE_SHARED_UP)
        return p->w.mats[p->role_mat[ROLE_SHARED_GATE]].heap == HEAP_FRONT;
    return (role == ROLE_SHARED_GATE || role == ROLE_SHARED_DOWN) &&
           p->w.front_bytes + room <= p->front_max;
}

static uint64_t front_take(struct plan *p, uint64_t bytes)
{
    uint64_t off = p->w.front_bytes;
    p->w.front_bytes += bytes;
    p->w.bytes += bytes;
    return off;
}

// Takes bytes (16-byte units) from the last heap, or from a new one if that has not room for `room`
// bytes.
static int heap_take(struct plan *p, uint64_t bytes, uint64_t room, uint32_t *ret_heap,
                     uint64_t *ret_off)
{
    bytes = (bytes + 15) & ~15ull;
    uint32_t n = p->w.heaps_n;
    if (n == 0 || p->heap_bytes[n - 1] + (room > bytes ? room : bytes) > p->heap_max) {
        if (grow((void **)&p->heap_bytes, &p->heaps_cap, n + 1u, sizeof(*p->heap_bytes)))
            return fault_set(p->fault, ENOMEM, "out of memory");
        p->heap_bytes[n] = 0;
        p->w.heaps_n = ++n;
    }
    *ret_heap = n - 1;
    *ret_off = p->heap_bytes[n - 1];
    p->heap_bytes[n - 1] += bytes;
    p->w.bytes += bytes;
    return 0;
}

int weights_dtype(enum dtype dtype, uint32_t *ret, uint32_t *ret_units)
{
    switch (dtype) { // 16-byte units of 16 columns
    case DTYPE_F8_E4M3:
        *ret = WEIGHT_FP8;
        *ret_units = 1;
        return 0;
    case DTYPE_BF16:
        *ret = WEIGHT_BF16;
        *ret_units = 2;
        return 0;
    case DTYPE_F16: // every F16 value is exact in F32, not in BF16
    case DTYPE_F32:
        *ret = WEIGHT_F32;
        *ret_units = 4;
        return 0;
    default:
        return -ENOTSUP;
    }
}

static bool role_is_wide(enum tensor_role role)
{
    return role == ROLE_EMBED || role == ROLE_HEAD;
}

// A gate_proj and the up_proj that follows it are read by one dispatch, so they lie in one heap.
static bool role_is_gate(enum tensor_role role)
{
    return role == ROLE_MLP_GATE || role == ROLE_SHARED_GATE || role == ROLE_EXPERT_GATE;
}

static int matrix_place(struct plan *p, const struct tensor_spec *spec, const struct tensor *tensor,
                        const struct tensor *scale)
{
    struct weight_mat mat = {.rows = spec->rows,
                             .cols = spec->cols,
                             .bias = WEIGHT_NONE,
                             .up = WEIGHT_NONE,
                             .down = WEIGHT_NONE};
    uint32_t units;
    if (weights_dtype(tensor->dtype, &mat.dtype, &units))
        return fault_set(p->fault, ENOTSUP, "%s: dtype %s is not served for matrices", spec->name,
                         dtype_name[tensor->dtype]);
    mat.k16 = (spec->cols + 15) / 16 * units;
    uint64_t row_bytes = mat.k16 * 16ull;
    uint32_t scale_rows = 0;
    if (scale) {
        mat.scols = (spec->cols + SCALE_BLOCK - 1) / SCALE_BLOCK;
        scale_rows = (spec->rows + SCALE_BLOCK - 1) / SCALE_BLOCK;
    }
    uint64_t scale_bytes = 4ull * scale_rows * mat.scols;
    scale_bytes = (scale_bytes + 15) & ~15ull;
    uint64_t part_rows = p->heap_max > scale_bytes ? (p->heap_max - scale_bytes) / row_bytes : 0;
    bool whole =
        scale || !role_is_wide(spec->role); // kernels know parts of embedding and head only
    uint64_t room = role_is_gate(spec->role) ? 2 * (spec->rows * row_bytes + scale_bytes) : 0;
    if (part_rows == 0 || (whole && part_rows < spec->rows) || room > p->heap_max)
        return fault_set(p->fault, ENOTSUP, "%s: %llu bytes do not fit one memory heap of %llu",
                         spec->name, (unsigned long long)tensor->bytes,
                         (unsigned long long)p->heap_max);

    for (uint32_t row0 = 0; row0 < spec->rows;) {
        uint64_t off = 0;
        mat.rows = spec->rows - row0 < part_rows ? spec->rows - row0 : (uint32_t)part_rows;
        uint64_t bytes = mat.rows * row_bytes + scale_bytes;
        int err = 0;
        if (front_takes(p, spec->role, room > bytes ? room : bytes)) {
            mat.heap = HEAP_FRONT;
            off = front_take(p, bytes);
        } else {
            err = heap_take(p, bytes, room, &mat.heap, &off);
        }
        if (err)
            return err;
        mat.w16 = (uint32_t)(off / 16);
        mat.s4 = (uint32_t)((off + mat.rows * row_bytes) / 4);
        mat.y_col = row0;
        uint32_t idx;
        err = mat_add(p, &mat, &idx);
        if (!err)
            err = load_add(
                p, &(struct load){.tensor = tensor, .scale = scale, .mat = idx, .row0 = row0});
        if (err)
            return err;
        if (row0 == 0)
            p->role_mat[spec->role] = idx;
        p->role_parts[spec->role] = idx - p->role_mat[spec->role] + 1;
        row0 += mat.rows;
    }
    if (spec->group == TENSOR_GROUP_ROUTED_EXPERTS)
        p->w.expert_bytes += spec->rows * row_bytes + scale_bytes;
    return 0;
}

static int vector_place(struct plan *p, const struct tensor_spec *spec, const struct tensor *tensor)
{
    if (tensor->dtype != DTYPE_F32 && tensor->dtype != DTYPE_BF16 && tensor->dtype != DTYPE_F16)
        return fault_set(p->fault, ENOTSUP, "%s: dtype %s is not served for vectors", spec->name,
                         dtype_name[tensor->dtype]);
    p->role_vector[spec->role] = p->vectors_n;
    int err = load_add(
        p, &(struct load){
               .tensor = tensor, .mat = WEIGHT_NONE, .vector0 = p->vectors_n, .n = spec->cols});
    p->vectors_n += (spec->cols + VECTOR_ALIGN - 1) & ~(VECTOR_ALIGN - 1);
    return err;
}

// The experts of a layer are placed as they come: gate, up, down of expert 0, of expert 1, ...
static void expert_link(struct plan *p, const struct tensor_spec *spec)
{
    struct weight_layer *layer = &p->w.layers[spec->layer];
    uint32_t idx = p->role_mat[spec->role];
    if (spec->role == ROLE_EXPERT_GATE && spec->expert == 0)
        layer->expert0 = idx;
    uint32_t gate = layer->expert0 + 3 * spec->expert;
    if (spec->role == ROLE_EXPERT_UP)
        p->w.mats[gate].up = idx;
    else if (spec->role == ROLE_EXPERT_DOWN)
        p->w.mats[gate].down = idx;
}

static bool role_is_global(enum tensor_role role)
{
    return role == ROLE_EMBED || role == ROLE_NORM || role == ROLE_HEAD;
}

// Called for every tensor of the config, in the order of tensors.h.
static int tensor_place(const struct tensor_spec *spec, void *user)
{
    struct plan *p = user;
    const struct model_config *config = checkpoint_config(p->ck);
    if (!role_is_global(spec->role) && spec->layer >= p->w.layers_n)
        return 0; // the MTP layer, not wanted
    if (spec->group == TENSOR_GROUP_ROUTED_EXPERTS && !p->experts)
        return 0;
    if (spec->role == ROLE_HEAD && config->tie_word_embeddings)
        return 0;
    const struct tensor *tensor, *scale;
    int err = checkpoint_get(p->ck, spec->role, spec->layer, spec->expert, NULL, &tensor, &scale);
    if (err)
        return fault_set(p->fault, ENOENT, "%s: tensor is missing", spec->name);
    err = spec->kind == TENSOR_VECTOR ? vector_place(p, spec, tensor)
                                      : matrix_place(p, spec, tensor, scale);
    if (err)
        return err;
    if (spec->group == TENSOR_GROUP_ROUTED_EXPERTS)
        expert_link(p, spec);
    return 0;
}

/* ----------------------------------------------------------------- groups */

// Appends a copy of a matrix with other columns; groups of one dispatch must be neighbours in the
// table.
static int mat_copy(struct plan *p, uint32_t idx, uint32_t x_col, uint32_t y_col, uint32_t bias,
                    struct weight_group *group)
{
    struct weight_mat mat = p->w.mats[idx];
    mat.x_col = x_col;
    mat.y_col = y_col;
    mat.bias = bias;
    uint32_t at;
    int err = mat_add(p, &mat, &at);
    if (group->n == 0)
        group->first = at;
    group->n++;
    return err;
}

static uint32_t round4(uint32_t n)
{
    return (n + 3) & ~3u;
}

static int dense_attention_group(struct plan *p, struct weight_layer *layer)
{
    const struct model_config *c = checkpoint_config(p->ck);
    uint32_t q = c->num_attention_heads * c->head_dim, kv = c->num_key_value_heads * c->head_dim;
    int err = mat_copy(p, p->role_mat[ROLE_Q_PROJ], 0, 0, p->role_vector[ROLE_Q_BIAS],
                       &layer->attention_in);
    if (!err)
        err = mat_copy(p, p->role_mat[ROLE_K_PROJ], 0, q, p->role_vector[ROLE_K_BIAS],
                       &layer->attention_in);
    if (!err)
        err = mat_copy(p, p->role_mat[ROLE_V_PROJ], 0, q + kv, p->role_vector[ROLE_V_BIAS],
                       &layer->attention_in);
    return err;
}

// W_UV of head h is rows h * (nope + v) + nope .. + v of kv_b_proj.
static int value_up_group(struct plan *p, struct weight_layer *layer)
{
    const struct model_config *c = checkpoint_config(p->ck);
    uint32_t head_rows = c->qk_nope_head_dim + c->v_head_dim;
    int err = 0;
    for (uint32_t h = 0; h < c->num_attention_heads && !err; h++) {
        err = mat_copy(p, layer->kv_b, h * c->kv_lora_rank, h * c->v_head_dim, WEIGHT_NONE,
                       &layer->value_up);
        if (err)
            break;
        struct weight_mat *mat = &p->w.mats[p->w.mats_n - 1];
        mat->srow0 = h * head_rows + c->qk_nope_head_dim;
        mat->w16 += mat->srow0 * mat->k16;
        mat->rows = c->v_head_dim;
    }
    return err;
}

static int mla_groups(struct plan *p, struct weight_layer *layer)
{
    const struct model_config *c = checkpoint_config(p->ck);
    uint32_t q_rows;
    int err;
    if (c->q_lora_rank) {
        q_rows = c->q_lora_rank;
        err = mat_copy(p, p->role_mat[ROLE_Q_A_PROJ], 0, 0, p->role_vector[ROLE_Q_A_BIAS],
                       &layer->attention_in);
        layer->q_b = (struct weight_group){p->role_mat[ROLE_Q_B_PROJ], 1};
    } else {
        q_rows = c->num_attention_heads * (c->qk_nope_head_dim + c->qk_rope_head_dim);
        err = mat_copy(p, p->role_mat[ROLE_Q_PROJ], 0, 0, WEIGHT_NONE, &layer->attention_in);
    }
    if (!err)
        err = mat_copy(p, p->role_mat[ROLE_KV_A_PROJ], 0, round4(q_rows),
                       p->role_vector[ROLE_KV_A_BIAS], &layer->attention_in);
    layer->kv_b = p->role_mat[ROLE_KV_B_PROJ];
    return err ? err : value_up_group(p, layer);
}

// One dispatch takes the experts of a layer, the shared ones included: their matrices must be of
// one dtype.
static int mlp_dtype_check(struct plan *p, uint32_t layer_idx)
{
    const struct weight_layer *layer = &p->w.layers[layer_idx];
    const struct model_config *c = checkpoint_config(p->ck);
    const struct weight_mat *mats = p->w.mats;
    uint32_t n = layer->moe ? c->n_routed_experts : 0;
    const struct weight_mat *first = &mats[layer->moe ? layer->expert0 : layer->mlp];
    for (uint32_t i = 0; i <= n; i++) {
        uint32_t gate = i < n ? layer->expert0 + 3 * i : layer->mlp;
        if (gate == WEIGHT_NONE)
            continue;
        if (mats[gate].dtype != first->dtype || mats[mats[gate].up].dtype != first->dtype ||
            mats[mats[gate].down].dtype != mats[first->down].dtype)
            return fault_set(p->fault, ENOTSUP,
                             "layer %u: its experts are of several dtypes, which is not served",
                             layer_idx);
    }
    return 0;
}

static void mlp_link(struct plan *p, struct weight_layer *layer, enum tensor_role gate)
{
    layer->mlp = p->role_mat[gate];
    p->w.mats[layer->mlp].up = p->role_mat[gate + 1];
    p->w.mats[layer->mlp].down = p->role_mat[gate + 2];
}

static int layer_place(struct plan *p, uint32_t idx)
{
    const struct model_config *c = checkpoint_config(p->ck);
    struct weight_layer *layer = &p->w.layers[idx];
    layer->moe = model_config_layer_is_moe(c, idx);
    layer->mlp = WEIGHT_NONE;
    int err =
        c->arch == MODEL_ARCH_DEEPSEEK_V3 ? mla_groups(p, layer) : dense_attention_group(p, layer);
    if (err)
        return err;
    err = mat_copy(p, p->role_mat[ROLE_O_PROJ], 0, 0, p->role_vector[ROLE_O_BIAS], &layer->o);
    if (!layer->moe)
        mlp_link(p, layer, ROLE_MLP_GATE);
    else if (c->n_shared_experts)
        mlp_link(p, layer, ROLE_SHARED_GATE);
    if (layer->moe)
        layer->router = (struct weight_group){p->role_mat[ROLE_ROUTER], 1};
    layer->router_bias = p->role_vector[ROLE_ROUTER_BIAS];
    layer->input_norm = p->role_vector[ROLE_INPUT_NORM];
    layer->post_attention_norm = p->role_vector[ROLE_POST_ATTENTION_NORM];
    layer->q_a_norm = p->role_vector[ROLE_Q_A_NORM];
    layer->kv_a_norm = p->role_vector[ROLE_KV_A_NORM];
    if (layer->moe && !p->experts)
        layer->expert0 = WEIGHT_NONE; // weights_slots_add
    return err || layer->expert0 == WEIGHT_NONE ? err : mlp_dtype_check(p, idx);
}

static void roles_clear(struct plan *p)
{
    for (int i = 0; i < ROLE_COUNT; i++)
        p->role_mat[i] = p->role_vector[i] = WEIGHT_NONE;
}

// All tensors of the layer (or the global ones) have been placed.
static int layer_finish(struct plan *p)
{
    const struct model_config *c = checkpoint_config(p->ck);
    if (p->layer == LAYER_GLOBAL) {
        p->w.embed = (struct weight_group){p->role_mat[ROLE_EMBED], p->role_parts[ROLE_EMBED]};
        p->w.head = c->tie_word_embeddings
                        ? p->w.embed
                        : (struct weight_group){p->role_mat[ROLE_HEAD], p->role_parts[ROLE_HEAD]};
        p->w.norm = p->role_vector[ROLE_NORM];
        return 0;
    }
    if (p->layer >= p->w.layers_n)
        return 0;
    if (p->layer == c->num_hidden_layers) {
        p->w.mtp_eh = (struct weight_group){p->role_mat[ROLE_MTP_EH_PROJ], 1};
        p->w.mtp_enorm = p->role_vector[ROLE_MTP_ENORM];
        p->w.mtp_hnorm = p->role_vector[ROLE_MTP_HNORM];
        p->w.mtp_head_norm = p->role_vector[ROLE_MTP_HEAD_NORM];
    }
    return layer_place(p, p->layer);
}

// tensors.h lists the global tensors first, then layer by layer.
static int tensor_visit(const struct tensor_spec *spec, void *user)
{
    struct plan *p = user;
    uint32_t layer = role_is_global(spec->role) ? LAYER_GLOBAL : spec->layer;
    if (layer != p->layer) {
        int err = layer_finish(p);
        if (err)
            return err;
        p->layer = layer;
        roles_clear(p);
    }
    return tensor_place(spec, p);
}

// With slots a dispatch takes what lies in one arena (texel path): shared experts in front of the
// slots go with those of the first.  A quarter of it at most; and not where the host's memory, in
// which slots may be, is not the device's.
static uint64_t front_max(const struct plan *p, const struct vk_device *dev)
{
    const struct vk_limits *limits = vk_device_limits(dev);
    bool shares = limits->is_cpu || limits->is_integrated;
    uint64_t max = p->heap_max / 4;
    bool wanted = !p->experts && shares && vk_device_path(dev) == VK_PATH_TEXEL;
    return wanted && max >= FRONT_ALIGN ? max : 0;
}

static void front_finish(struct plan *p)
{
    uint64_t pad = (FRONT_ALIGN - p->w.front_bytes % FRONT_ALIGN) % FRONT_ALIGN;
    front_take(p, pad);
    for (uint32_t i = 0; i < p->w.mats_n; i++)
        if (p->w.mats[i].heap == HEAP_FRONT)
            p->w.mats[i].heap = p->w.heaps_n;
}

uint64_t weights_heap_max(const struct vk_device *dev, uint64_t heap_max)
{
    const struct vk_limits *limits = vk_device_limits(dev);
    uint64_t max = HEAP_BYTES_MAX;
    if (limits->allocation_max < max)
        max = limits->allocation_max & ~15ull;
    if (vk_device_path(dev) == VK_PATH_TEXEL && limits->texel_elements_max * 16 < max)
        max = limits->texel_elements_max * 16;
    return heap_max && heap_max < max ? heap_max & ~15ull : max;
}

int weights_plan(const struct checkpoint *ck, struct vk_device *dev, bool mtp, bool experts,
                 uint64_t heap_max, struct weights **ret, struct fault *fault)
{
    const struct model_config *config = checkpoint_config(ck);
    struct plan *p = calloc(1, sizeof(*p));
    if (!p)
        return fault_set(fault, ENOMEM, "out of memory");
    struct weights *w = &p->w;
    *p = (struct plan){
        .ck = ck, .fault = fault, .experts = experts, .heap_max = weights_heap_max(dev, heap_max)};
    p->front_max = front_max(p, dev);
    w->dev = dev;
    w->layers_n = mtp ? model_config_layers(config) : config->num_hidden_layers;
    w->layers = calloc(w->layers_n, sizeof(*w->layers));
    p->layer = LAYER_GLOBAL;
    roles_clear(p);
    int err = w->layers ? tensor_spec_each(config, tensor_visit, p)
                        : fault_set(fault, ENOMEM, "out of memory");
    if (!err)
        err = layer_finish(p);
    front_finish(p);
    p->fault = NULL;
    if (err) {
        weights_destroy(&w);
        return err;
    }
    *ret = w;
    return 0;
}

/* ------------------------------------------------------------------ slots */

int weights_slots_add(struct weights *w, uint32_t n, struct vk_buffer **arenas, uint32_t arenas_n,
                      struct fault *fault)
{
    struct plan *p = (struct plan *)w;
    struct weight_mat *mats = realloc(w->mats, (w->mats_n + 3ull * n) * sizeof(*mats));
    if (!mats)
        return fault_set(fault, ENOMEM, "out of memory");
    memset(mats + w->mats_n, 0, 3ull * n * sizeof(*mats));
    w->mats = mats;
    w->slot_mat0 = w->mats_n;
    w->slots_n = n;
    w->mats_n += 3 * n;
    p->mats_cap = w->mats_n;
    w->arenas = arenas;
    w->arenas_n = arenas_n;
    for (uint32_t i = 0; i < w->layers_n; i++)
        if (w->layers[i].moe)
            w->layers[i].expert0 = w->slot_mat0;
    return 0;
}

void weights_slot_set(struct weights *w, uint32_t slot, const struct weight_mat mats[3])
{
    uint32_t at = w->slot_mat0 + 3 * slot;
    assert(slot < w->slots_n);
    memcpy(&w->mats[at], mats, 3 * sizeof(*mats));
    struct weight_mat *table = vk_buffer_map(w->mats_buf);
    if (table)
        memcpy(&table[at], mats, 3 * sizeof(*mats));
}

/* ------------------------------------------------------------------- load */

struct loader {
    struct plan *p;
    uint8_t *scratch, *padded; // READ_BYTES, and rows with their padding
    uint64_t done, total;
    void (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
    float *vectors;
    struct fault *fault;
};

void weights_rows_pad(enum dtype dtype, const uint8_t *src, uint32_t rows, uint32_t cols,
                      uint64_t padded_bytes, uint8_t *dst)
{
    uint64_t row_bytes = (uint64_t)cols * dtype_bytes[dtype];
    for (uint32_t r = 0; r < rows; r++) {
        uint8_t *to = dst + r * padded_bytes;
        memset(to, 0, padded_bytes);
        if (dtype == DTYPE_F16)
            checkpoint_dtype_to_f32(DTYPE_F16, src + r * row_bytes, cols, (float *)(void *)to);
        else
            memcpy(to, src + r * row_bytes, row_bytes);
    }
}

static int fp8_check(struct loader *l, const struct tensor *tensor, uint64_t off, const void *codes,
                     uint64_t bytes)
{
    int64_t at = checkpoint_fp8_nan_find(codes, bytes);
    if (at < 0)
        return 0;
    return fault_set(l->fault, EBADMSG, "%s: %s: NaN code at element %llu: the file is damaged",
                     safetensors_path(checkpoint_file(l->p->ck, tensor->file_idx)), tensor->name,
                     (unsigned long long)off + (unsigned long long)at);
}

static int matrix_load(struct loader *l, const struct load *load)
{
    const struct weight_mat *mat = &l->p->w.mats[load->mat];
    const struct tensor *tensor = load->tensor;
    uint64_t row_bytes = (uint64_t)mat->cols * dtype_bytes[tensor->dtype];
    uint64_t padded_bytes = mat->k16 * 16ull;
    uint32_t step = (uint32_t)(READ_BYTES / padded_bytes);
    if (step == 0)
        return fault_set(l->fault, ENOTSUP, "%s: rows of %u columns are too long", tensor->name,
                         mat->cols);
    for (uint32_t row = 0; row < mat->rows; row += step) {
        uint32_t rows = mat->rows - row < step ? mat->rows - row : step;
        uint64_t off = (load->row0 + row) * row_bytes;
        int err = checkpoint_read(l->p->ck, tensor, off, l->scratch, rows * row_bytes, l->fault);
        if (!err && tensor->dtype == DTYPE_F8_E4M3)
            err = fp8_check(l, tensor, off, l->scratch, rows * row_bytes);
        if (err)
            return err;
        const uint8_t *src = l->scratch;
        if (row_bytes != padded_bytes) {
            weights_rows_pad(tensor->dtype, l->scratch, rows, mat->cols, padded_bytes, l->padded);
            src = l->padded;
        }
        err = vk_buffer_write(l->p->w.heaps[mat->heap], mat->w16 * 16ull + row * padded_bytes, src,
                              rows * padded_bytes, l->fault);
        if (err)
            return err;
        l->done += rows * row_bytes;
        if (l->progress)
            l->progress(l->user, l->done, l->total);
    }
    return 0;
}

static int scales_load(struct loader *l, const struct load *load)
{
    const struct weight_mat *mat = &l->p->w.mats[load->mat];
    const struct tensor *scale = load->scale;
    float *values = (float *)(void *)l->scratch;
    if (scale->bytes > READ_BYTES)
        return fault_set(l->fault, ENOTSUP, "%s: too many scales", scale->name);
    int err = checkpoint_read(l->p->ck, scale, 0, values, scale->bytes, l->fault);
    if (err)
        return err;
    for (uint64_t i = 0; i < scale->bytes / 4; i++)
        if (!isfinite(values[i]) || values[i] <= 0.0f)
            return fault_set(l->fault, EBADMSG, "%s: %s: scale %llu is %g, not finite and positive",
                             safetensors_path(checkpoint_file(l->p->ck, scale->file_idx)),
                             scale->name, (unsigned long long)i, (double)values[i]);
    l->done += scale->bytes;
    return vk_buffer_write(l->p->w.heaps[mat->heap], mat->s4 * 4ull, values, scale->bytes,
                           l->fault);
}

static int vector_load(struct loader *l, const struct load *load)
{
    int err = checkpoint_read(l->p->ck, load->tensor, 0, l->scratch, load->tensor->bytes, l->fault);
    if (err)
        return err;
    l->done += load->tensor->bytes;
    return checkpoint_dtype_to_f32(load->tensor->dtype, l->scratch, load->n,
                                   l->vectors + load->vector0);
}

static int tables_upload(struct loader *l)
{
    struct weights *w = &l->p->w;
    uint64_t table[1];
    int err = vk_buffer_write(w->mats_buf, 0, w->mats, w->mats_n * sizeof(*w->mats), l->fault);
    if (!err)
        err = vk_buffer_write(w->vectors, 0, l->vectors, 4ull * l->p->vectors_n, l->fault);
    for (uint32_t i = 0; i < w->heaps_n + w->arenas_n && !err; i++) {
        table[0] = vk_buffer_address(w->heaps[i]);
        err = vk_buffer_write(w->heap_table, i * sizeof(table), table, sizeof(table), l->fault);
    }
    return err;
}

static int buffers_create(struct weights *w, struct fault *fault)
{
    struct plan *p = (struct plan *)w;
    w->heaps = calloc(w->heaps_n + w->arenas_n, sizeof(struct vk_buffer *));
    if (!w->heaps)
        return fault_set(fault, ENOMEM, "out of memory");
    int err = 0;
    for (uint32_t i = 0; i < w->arenas_n; i++)
        w->heaps[w->heaps_n + i] = w->arenas[i];
    for (uint32_t i = 0; i < w->heaps_n && !err; i++)
        err = vk_buffer_create(w->dev,
                               &(struct vk_buffer_params){.bytes = p->heap_bytes[i],
                                                          .memory = VK_MEMORY_DEVICE,
                                                          .name = "weights"},
                               &w->heaps[i], fault);
    const struct {
        struct vk_buffer **buf;
        uint64_t bytes;
        enum vk_memory memory;
        const char *name;
    } tables[] = {
        {&w->mats_buf, w->mats_n * sizeof(*w->mats), // those of slots change
         w->slots_n ? VK_MEMORY_UPLOAD : VK_MEMORY_DEVICE, "weight table"},
        {&w->vectors, 4ull * (p->vectors_n + 4), VK_MEMORY_DEVICE, "norms and biases"},
        {&w->heap_table, 8ull * (w->heaps_n + w->arenas_n), VK_MEMORY_DEVICE, "heap addresses"},
    };
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]) && !err; i++)
        err = vk_buffer_create(w->dev,
                               &(struct vk_buffer_params){.bytes = tables[i].bytes,
                                                          .memory = tables[i].memory,
                                                          .name = tables[i].name},
                               tables[i].buf, fault);
    return err;
}

int weights_load(struct weights *w, const struct checkpoint *ck,
                 void (*progress)(void *user, uint64_t done, uint64_t total), void *user,
                 struct fault *fault)
{
    struct plan *p = (struct plan *)w;
    assert(p->ck == ck);
    struct loader l = {.p = p, .progress = progress, .user = user, .fault = fault};
    int err = buffers_create(w, fault);
    if (err)
        return err;
    l.scratch = malloc(READ_BYTES);
    l.padded = malloc(READ_BYTES);
    l.vectors = calloc(p->vectors_n + 4u, sizeof(float));
    if (!l.scratch || !l.padded || !l.vectors)
        err = fault_set(fault, ENOMEM, "out of memory");
    for (size_t i = 0; i < p->loads_n; i++)
        l.total += p->loads[i].tensor->bytes + (p->loads[i].scale ? p->loads[i].scale->bytes : 0);
    for (size_t i = 0; i < p->loads_n && !err; i++) {
        const struct load *load = &p->loads[i];
        if (load->mat == WEIGHT_NONE) {
            err = vector_load(&l, load);
            continue;
        }
        err = matrix_load(&l, load);
        if (!err && load->scale)
            err = scales_load(&l, load);
    }
    if (!err)
        err = tables_upload(&l);
    free(l.scratch);
    free(l.padded);
    free(l.vectors);
    return err;
}

void weights_destroy(struct weights **wp)
{
    struct weights *w = *wp;
    *wp = NULL;
    if (!w)
        return;
    struct plan *p = (struct plan *)w;
    for (uint32_t i = 0; w->heaps && i < w->heaps_n; i++)
        vk_buffer_destroy(&w->heaps[i]);
    free(w->heaps);
    vk_buffer_destroy(&w->mats_buf);
    vk_buffer_destroy(&w->vectors);
    vk_buffer_destroy(&w->heap_table);
    free(w->mats);
    free(w->layers);
    free(p->loads);
    free(p->heap_bytes);
    free(p);
}
