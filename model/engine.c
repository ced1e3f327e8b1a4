// SPDX-License-Identifier: MIT
#include "model/engine.h"

#include "model/graph_buffers.h"
#include "model/slots.h"
#include "model/warm.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_RESERVE_BYTES (256ull << 20) // of free memory, left to the rest of the machine
#define VENDOR_NVIDIA       0x10deu        // of PCI

const char *const numerics_name[NUMERICS_COUNT] = {
    [NUMERICS_FP8_WEIGHTS] = "fp8-weights",
    [NUMERICS_OFFICIAL_FP8] = "official-fp8",
};
const char *const engine_loads_name[ENGINE_LOADS_COUNT] = {
    [ENGINE_LOADS_AUTO] = "auto",
    [ENGINE_LOADS_TEXEL] = "texel",
    [ENGINE_LOADS_ADDRESS] = "address",
};
const char *const slots_path_name[SLOTS_PATH_COUNT] = {
    [SLOTS_PATH_AUTO] = "auto",
    [SLOTS_PATH_IMPORT] = "import",
    [SLOTS_PATH_STAGING] = "staging",
};
const char *const kv_type_name[KV_TYPE_COUNT] = {[KV_F16] = "f16", [KV_F32] = "f32"};

struct engine {
    const struct checkpoint *ck;
    struct engine_params params; // with defaults filled in
    struct vk_device *dev;
    struct weights *weights;
    struct pack *pack;   // NULL: none
    struct slots *slots; // NULL: routed experts are resident
    struct slots_params slots_params;
    struct kv *kv;
    struct graph *graph;
    struct graph_params graph_params;
    bool whole;  // the plan is made as if nobody else had memory of the device
    bool source; // with slots: somebody brings experts
    bool lost;   // a step failed on the device; nothing after it can be trusted
};

static uint32_t pages_for(uint32_t tokens)
{
    return tokens / KV_PAGE_TOKENS + (tokens % KV_PAGE_TOKENS != 0);
}

static int params_check(struct engine *e, const struct engine_params *params, struct fault *fault)
{
    const struct model_config *c = checkpoint_config(e->ck);
    e->params = *params;
    if (params->sequences_max < 1 || params->sequences_max > 512)
        return fault_set(fault, EINVAL, "sequences_max is 1..512, not %u", params->sequences_max);
    if (params->batch_rows_max < 1 || params->batch_rows_max > 2048)
        return fault_set(fault, EINVAL, "batch_rows_max is 1..2048, not %u",
                         params->batch_rows_max);
    if (params->context_max < 1 || params->context_max > c->max_position_embeddings)
        return fault_set(fault, EINVAL, "context_max is 1..%u for this model, not %u",
                         c->max_position_embeddings, params->context_max);
    if (e->params.kv_tokens == 0)
        e->params.kv_tokens = params->sequences_max * params->context_max;
    if (e->params.logits_rows_max == 0)
        e->params.logits_rows_max = 2 * params->sequences_max < 16 ? 16 : 2 * params->sequences_max;
    e->params.mtp = params->mtp && c->num_nextn_predict_layers > 0;
    return 0;
}

static int graph_params_make(struct engine *e, struct fault *fault)
{
    struct engine_params *p = &e->params;
    struct graph_params *g = &e->graph_params;
    *g = (struct graph_params){
        .dev = e->dev,
        .weights = e->weights,
        .config = checkpoint_config(e->ck),
        .numerics = p->numerics,
        .kv_type = p->kv_type,
        .logits_rows_max = p->logits_rows_max,
        .sequences = p->sequences_max,
        .pages_per_sequence = pages_for(p->context_max),
        .pages = pages_for(p->kv_tokens),
        .slots = e->slots,
    };
    if (g->pages < g->pages_per_sequence)
        g->pages = g->pages_per_sequence;
    g->rows_max = graph_rows_fit(g, p->batch_rows_max);
    if (g->rows_max == 0)
        return fault_set(fault, E2BIG,
                         "not even one row fits the device's buffer limits: lower context_max or "
                         "sequences_max");
    p->batch_rows_max = g->rows_max;
    return 0;
}

static uint64_t graph_bytes(const struct graph_params *params)
{
    struct graph_item items[GRAPH_ITEMS_MAX];
    uint32_t n = graph_plan(params, items);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += items[i].count * items[i].bytes;
    return sum;
}

// Device memory that may be taken.
static uint64_t memory_have(const struct engine *e)
{
    const struct vk_limits *limits = vk_device_limits(e->dev);
    uint64_t have = e->whole ? limits->memory_bytes : limits->memory_available;
    return e->params.memory_max && e->params.memory_max < have ? e->params.memory_max : have;
}

// All weights in memory.  *ret_large: they do not fit, -ENOMEM.
static int plan_resident(struct engine *e, bool *ret_large, struct fault *fault)
{
    int err =
        weights_plan(e->ck, e->dev, e->params.mtp, true, e->params.heap_max, &e->weights, fault);
    if (!err)
        err = graph_params_make(e, fault);
    if (err)
        return err;
    uint64_t need = e->weights->bytes + graph_bytes(&e->graph_params);
    *ret_large = need > memory_have(e);
    if (!*ret_large)
        return 0;
    return fault_set(fault, ENOMEM,
                     "the memory plan needs %.2f GB on %s (%.2f GB of weights, of which routed "
                     "experts %.2f GB; %.2f GB of KV cache and activations) and %.2f GB are free: "
                     "lower kv_tokens_max, context_max or sequences_max, or use a device with more "
                     "memory",
                     (double)need / 1e9, vk_device_limits(e->dev)->name,
                     (double)e->weights->bytes / 1e9, (double)e->weights->expert_bytes / 1e9,
                     (double)(need - e->weights->bytes) / 1e9, (double)memory_have(e) / 1e9);
}

// How many slots of a tier: what was asked for, or what is free without a reserve for the rest of
// the machine; never more than there are experts.
static uint32_t slots_count(const struct engine *e, uint64_t asked, uint64_t bytes, uint64_t free)
{
    uint64_t reserve = free / 16 + SLOTS_RESERVE_BYTES;
    uint64_t take = asked ? asked : free > reserve ? free - reserve : 0;
    uint64_t n = (take < free ? take : free) / bytes;
    n = n < SLOTS_MAX ? n : SLOTS_MAX;
    return n < slots_keys(e->slots) ? (uint32_t)n : slots_keys(e->slots);
}

// slots_too_few: the memory that the user gave to slots does not hold a row's experts.
static int slots_too_few(uint64_t asked, const char *key, uint64_t bytes, uint32_t k,
                         struct fault *fault)
{
    return fault_set(fault, ENOMEM,
                     "experts.%s gives %" PRIu64 " bytes, room for %" PRIu64 " slots of %" PRIu64
                     " bytes; a row's %u experts need %u slots: set it to %" PRIu64
                     " (%.1f MB) or more, or to 0 for what is free",
                     key, asked, asked / bytes, bytes, k, k, k * bytes, (double)(k * bytes) / 1e6);
}

// Dense weights, KV and activations first; the slots get what is free.
static int slots_size(struct engine *e, struct fault *fault)
{
    const struct engine_params *p = &e->params;
    const struct vk_limits *limits = vk_device_limits(e->dev);
    struct slots_params *s = &e->slots_params;
    bool shares = limits->is_cpu || limits->is_integrated;
    bool staging = p->slots_path == SLOTS_PATH_AUTO ? !shares : p->slots_path == SLOTS_PATH_STAGING;
    uint64_t need = e->weights->bytes + graph_bytes(&e->graph_params), have = memory_have(e);
    uint64_t scales = slots_scale_bytes(e->slots);
    uint64_t device = have > need ? have - need : 0;
    uint64_t host = shares ? device : limits->host_available;
    host = host > scales ? host - scales : 0;
    s->heap_max = p->heap_max;
    if (staging) {
        s->device_n = slots_count(e, p->slots_vram, slots_device_bytes(e->slots), device);
        if (shares) // both tiers come from the same memory
            host -= s->device_n * slots_device_bytes(e->slots) < host
                        ? s->device_n * slots_device_bytes(e->slots)
                        : host;
    }
    s->host_n = slots_count(e, p->slots_ram, slots_host_bytes(e->slots), host);
    uint32_t k = checkpoint_config(e->ck)->num_experts_per_tok;
    if (need <= have && s->host_n >= k && (!staging || s->device_n >= k))
        return 0;
    if (p->slots_ram && p->slots_ram / slots_host_bytes(e->slots) < k)
        return slots_too_few(p->slots_ram, "ram", slots_host_bytes(e->slots), k, fault);
    if (staging && p->slots_vram && p->slots_vram / slots_device_bytes(e->slots) < k)
        return slots_too_few(p->slots_vram, "vram", slots_device_bytes(e->slots), k, fault);
    bool host_short = !shares && need <= have && s->host_n < k;
    uint64_t least = k * slots_host_bytes(e->slots);
    if (!p->slots_ram) // what slots_count leaves to others comes on top
        least = (least + SLOTS_RESERVE_BYTES) / 15 * 16 + 16;
    return fault_set(
        fault, ENOMEM,
        "the memory plan needs %.2f GB on %s (%.2f GB of dense weights; %.2f GB of KV "
        "cache and activations; slots for at least %u experts of %.1f MB, and a reserve "
        "for others) and %.2f GB are free: lower kv_tokens_max, context_max or "
        "sequences_max, or raise experts.ram (or vram)",
        (double)(need + least) / 1e9, limits->name, (double)e->weights->bytes / 1e9,
        (double)(need - e->weights->bytes) / 1e9, k, (double)slots_host_bytes(e->slots) / 1e6,
        (double)(host_short ? host : have) / 1e9);
}

// Routed experts in slots, filled as the router selects them.
static int plan_slots(struct engine *e, struct fault *fault)
{
    const struct engine_params *p = &e->params;
    weights_destroy(&e->weights);
    int err = p->pack ? pack_open(p->pack, e->ck, &e->pack, fault) : 0;
    if (!err)
        err = weights_plan(e->ck, e->dev, p->mtp, false, p->heap_max, &e->weights, fault);
    if (!err)
        err = slots_plan(e->weights, e->ck, e->pack, &e->slots, fault);
    if (!err)
        err = graph_params_make(e, fault);
    return err ? err : slots_size(e, fault);
}

// auto: slots where the user gave them a pack or less memory than all experts take.
static bool slots_asked(const struct engine *e)
{
    const struct engine_params *p = &e->params;
    return p->pack || (p->slots_ram && p->slots_ram < e->weights->expert_bytes);
}

static int plan_make(struct engine *e, struct fault *fault)
{
    const struct engine_params *p = &e->params;
    bool moe = checkpoint_config(e->ck)->n_routed_experts != 0, large = false;
    if (p->experts == ENGINE_EXPERTS_SLOTS)
        return plan_slots(e, fault);
    int err = plan_resident(e, &large, fault);
    if (!moe || p->experts != ENGINE_EXPERTS_AUTO || (err && !large))
        return err;
    return large || slots_asked(e) ? plan_slots(e, fault) : 0;
}

// Runs the shapes of work once, so that no request waits for a shader compiler: tiles of 1, 2, 4, 8
// rows, MTP, attention in splits.  The rows hold one token, so experts see tiles of each size too.
static int warm_up(struct engine *e, struct fault *fault)
{
    struct engine_row rows[8];
    uint32_t many = e->params.batch_rows_max < 8 ? e->params.batch_rows_max : 8;
    if (many > e->params.context_max)
        many = e->params.context_max;
    for (uint32_t i = 0; i < 8; i++)
        rows[i] = (struct engine_row){.position = i, .want_logits = i < e->params.logits_rows_max};
    int err = kv_reserve(e->kv, 0, many);
    for (uint32_t n = 1; n <= many && !err; n *= 2) {
        err = graph_step(e->graph, e->kv, rows, n, NULL, fault);
        if (!err && e->params.mtp)
            err = graph_mtp_step(e->graph, e->kv, rows, n, NULL, fault);
    }
    if (!err && e->params.context_max > SPLIT_TOKENS) {
        rows[0].position = SPLIT_TOKENS;
        err = kv_reserve(e->kv, 0, SPLIT_TOKENS + 1);
        if (!err)
            err = graph_step(e->graph, e->kv, rows, 1, NULL, fault);
    }
    kv_truncate(e->kv, 0, 0);
    if (!err)
        vk_device_cache_save(e->dev); // best effort: without it the next start compiles again
    return err;
}

// The same with slots, without reading an expert.
static int warm_slots(struct engine *e, struct fault *fault)
{
    struct warm *warm = NULL;
    if (warm_create(e->slots, &warm))
        return fault_set(fault, ENOMEM, "out of memory");
    graph_source_set(e->graph, warm_source(warm));
    int err = warm_up(e, fault);
    graph_source_set(e->graph, NULL);
    warm_destroy(&warm);
    return err;
}

// engine_begin opens the device and makes the plan.  *ret is to be closed also where it fails.
static int engine_begin(const struct checkpoint *ck, const struct engine_params *params, bool whole,
                        struct engine **ret, struct fault *fault)
{
    struct engine *e = *ret = calloc(1, sizeof(*e));
    if (!e)
        return fault_set(fault, ENOMEM, "out of memory");
    e->ck = ck;
    e->whole = whole;
    int err = params_check(e, params, fault);
    if (!err)
        err = vk_device_open(&(struct vk_device_params){.select = params->device_select,
                                                        .pipeline_cache = params->pipeline_cache,
                                                        .validate = params->validate,
                                                        .path = (int)params->loads - 1},
                             &e->dev, fault);
    return err ? err : plan_make(e, fault);
}

int engine_fits(const struct checkpoint *ck, const struct engine_params *params, bool whole,
                struct engine_room *ret, struct fault *fault)
{
    const struct model_config *config = checkpoint_config(ck);
    struct engine *e;

    int err = engine_begin(ck, params, whole, &e, fault);
    if (!err) {
        const struct slots_params *s = &e->slots_params;
        uint64_t layers = config->num_hidden_layers - config->first_k_dense_replace + e->params.mtp;
        uint64_t experts = layers * config->n_routed_experts;
        *ret = (struct engine_room){
            .need_bytes = e->weights->bytes + graph_bytes(&e->graph_params),
            .have_bytes = memory_have(e),
            .experts_n = experts,
            .experts_held_n =
                e->slots ? s->host_n > s->device_n ? s->host_n : s->device_n : experts,
        };
    }
    engine_close(&e);
    return err;
}

int engine_open(const struct checkpoint *ck, const struct engine_params *params,
                struct engine **ret, struct fault *fault)
{
    struct engine *e;
    int err = engine_begin(ck, params, false, &e, fault);
    if (!err && kv_create(e->graph_params.sequences, e->graph_params.pages_per_sequence,
                          e->graph_params.pages, &e->kv))
        err = fault_set(fault, ENOMEM, "out of memory");
    if (!err)
        err = graph_create(&e->graph_params, &e->graph, fault);
    if (!err && e->slots)
        err = slots_create(e->slots, &e->slots_params, fault);
    if (!err)
        err = weights_load(e->weights, ck, params->progress, params->progress_user, fault);
    if (!err && e->slots)
        err = slots_load(e->slots, fault);
    if (!err)
        err = e->slots ? warm_slots(e, fault) : warm_up(e, fault);
    if (err) {
        engine_close(&e);
        return err;
    }
    *ret = e;
    return 0;
}

void engine_close(struct engine **ep)
{
    struct engine *e = *ep;
    *ep = NULL;
    if (!e)
        return;
    graph_destroy(&e->graph);
    kv_destroy(&e->kv);
    slots_destroy(&e->slots);
    weights_destroy(&e->weights);
    pack_close(&e->pack);
    vk_device_close(&e->dev);
    free(e);
}

const struct model_config *engine_config(const struct engine *e)
{
    return checkpoint_config(e->ck);
}

const char *engine_device_name(const struct engine *e)
{
    return vk_device_limits(e->dev)->name;
}

bool engine_device_makes_code(const struct engine *e)
{
    const struct vk_limits *limits = vk_device_limits(e->dev);
    return limits->is_cpu || limits->vendor_id == VENDOR_NVIDIA;
}

// Bytes of slots in the memory that engine_plan_text adds up.
static uint64_t slots_bytes(const struct engine *e)
{
    const struct vk_limits *limits = vk_device_limits(e->dev);
    if (!e->slots)
        return 0;
    uint64_t bytes = e->slots_params.device_n * slots_device_bytes(e->slots);
    if (limits->is_cpu || limits->is_integrated)
        bytes += e->slots_params.host_n * slots_host_bytes(e->slots) + slots_scale_bytes(e->slots);
    return bytes;
}

int engine_plan_text(const struct engine *e, char *buf, size_t buf_bytes)
{
    struct graph_item items[GRAPH_ITEMS_MAX];
    uint32_t n = graph_plan(&e->graph_params, items);
    const struct weights *w = e->weights;
    size_t used = 0;
#define LINE(...)                                                                                  \
    used += (size_t)snprintf(used < buf_bytes ? buf + used : NULL,                                 \
                             used < buf_bytes ? buf_bytes - used : 0, __VA_ARGS__)
    LINE("%-24s %4u x %9.3f MB  %s\n", "weights, resident", 1u,
         (double)(w->bytes - w->expert_bytes) / 1e6, "device");
    if (w->expert_bytes)
        LINE("%-24s %4u x %9.3f MB  %s\n", "weights, routed experts", 1u,
             (double)w->expert_bytes / 1e6, "device");
    for (uint32_t i = 0; i < n; i++)
        LINE("%-24s %4llu x %9.3f MB  %s\n", items[i].name, (unsigned long long)items[i].count,
             (double)items[i].bytes / 1e6, "device");
    if (e->slots) {
        if (slots_two_tiers(e->slots))
            LINE("%-24s %4u x %9.3f MB  %s\n", "expert slots", e->slots_params.device_n,
                 (double)slots_device_bytes(e->slots) / 1e6, "device");
        LINE("%-24s %4u x %9.3f MB  %s\n", "expert slots", e->slots_params.host_n,
             (double)slots_host_bytes(e->slots) / 1e6, "host");
        if (slots_scale_bytes(e->slots))
            LINE("%-24s %4u x %9.3f MB  %s\n", "scales of experts", 1u,
                 (double)slots_scale_bytes(e->slots) / 1e6, "host");
    }
    LINE("%-24s        %9.3f MB of %.3f MB free on %s\n", "in all",
         (double)(w->bytes + graph_bytes(&e->graph_params) + slots_bytes(e)) / 1e6,
         (double)vk_device_limits(e->dev)->memory_available / 1e6, vk_device_limits(e->dev)->name);
#undef LINE
    return (int)used;
}

int engine_seq_reserve(struct engine *e, uint32_t seq, uint32_t tokens)
{
    return tokens > e->params.context_max ? -EINVAL : kv_reserve(e->kv, seq, tokens);
}

void engine_seq_truncate(struct engine *e, uint32_t seq, uint32_t tokens)
{
    kv_truncate(e->kv, seq, tokens);
}

uint32_t engine_kv_tokens_free(const struct engine *e)
{
    return kv_pages_free(e->kv) * KV_PAGE_TOKENS;
}

static int step_check(const struct engine *e, struct fault *fault)
{
    if (e->lost)
        return fault_set(fault, EIO, "the device failed in an earlier step");
    if (e->slots && !e->source)
        return fault_set(fault, EINVAL, "nobody brings experts into the slots");
    return 0;
}

static int step_result(struct engine *e, int err)
{
    if (err && err != -EINVAL && err != -ENOTSUP) // those change nothing
        e->lost = true;
    return err;
}

int engine_step(struct engine *e, const struct engine_row *rows, uint32_t n,
                const float **ret_logits, struct fault *fault)
{
    int err = step_check(e, fault);
    if (err)
        return err;
    return step_result(e, graph_step(e->graph, e->kv, rows, n, ret_logits, fault));
}

struct slots *engine_slots(struct engine *e)
{
    return e->slots;
}

void engine_source_set(struct engine *e, const struct expert_source *source)
{
    graph_source_set(e->graph, source);
    e->source = source != NULL;
}

const struct fault *engine_row_fault(const struct engine *e, uint32_t row)
{
    return graph_row_fault(e->graph, row);
}

void engine_routing_set(struct engine *e,
                        void (*fn)(void *user, uint32_t layer, const uint32_t *ids, uint32_t rows,
                                   uint32_t k),
                        void *user)
{
    graph_routing_set(e->graph, fn, user);
}

bool engine_mtp(const struct engine *e)
{
    return e->params.mtp;
}

int engine_mtp_step(struct engine *e, const struct engine_row *rows, uint32_t n,
                    const float **ret_logits, struct fault *fault)
{
    int err = step_check(e, fault);
    if (err)
        return err;
    return step_result(e, graph_mtp_step(e->graph, e->kv, rows, n, ret_logits, fault));
}

void engine_tap_set(struct engine *e, engine_tap_fn fn, void *user)
{
    graph_tap_set(e->graph, fn, user);
}

int engine_kv_read(struct engine *e, uint32_t layer, uint32_t seq, uint32_t position, float *ret,
                   struct fault *fault)
{
    return graph_kv_read(e->graph, e->kv, layer, seq, position, ret, fault);
}

uint32_t engine_kv_entry(const struct engine *e)
{
    return graph_kv_entry(e->graph);
}

uint32_t engine_batch_rows_max(const struct engine *e)
{
    return e->params.batch_rows_max;
}

uint32_t engine_validation_messages(const struct engine *e)
{
    return vk_device_messages(e->dev);
}

void engine_counters_get(const struct engine *e, struct engine_counters *ret)
{
    graph_counters_get(e->graph, ret);
}
