// SPDX-License-Identifier: MIT
#include "model/card.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#define WORKSPACE_BYTES_DEFAULT (256ull << 20)

const char *const model_plan_verdict_name[MODEL_PLAN_VERDICT_COUNT] = {
    [MODEL_PLAN_DEVICE] = "device",
    [MODEL_PLAN_HOST] = "host",
    [MODEL_PLAN_STREAMED] = "streamed",
    [MODEL_PLAN_TOO_BIG] = "too-big",
};

const char *const model_plan_verdict_text[MODEL_PLAN_VERDICT_COUNT] = {
    [MODEL_PLAN_DEVICE] = "everything fits in device memory",
    [MODEL_PLAN_HOST] = "the experts need device and host memory together; no drive is read",
    [MODEL_PLAN_STREAMED] = "some experts must be read from the drive for every token",
    [MODEL_PLAN_TOO_BIG] = "the resident weights, the KV cache and one token's experts do not fit",
};

// --- counting ----------------------------------------------------------------------------------

struct counter {
    struct model_card *card;
    const struct model_config *config;
    const struct checkpoint *ck; // NULL: as released
    uint64_t expert_bytes;       // of the expert being counted: gate, up, down come in a row
    uint64_t expert_params;      // routed, main model
};

static void line_add(struct model_card_line *line, uint64_t tensors, uint64_t params,
                     uint64_t bytes)
{
    line->tensors += tensors;
    line->params += params;
    line->bytes += bytes;
}

// One tensor of the model with its scales.
struct weight {
    enum dtype dtype;
    uint64_t params, bytes, scale_bytes;
};

static struct weight weight_released(const struct model_config *config,
                                     const struct tensor_spec *spec)
{
    struct weight weight = {.dtype = DTYPE_BF16, .params = (uint64_t)spec->rows * spec->cols};

    if (spec->role == ROLE_ROUTER_BIAS)
        weight.dtype = DTYPE_F32;
    if (spec->kind == TENSOR_MATRIX && config->fp8) {
        weight.dtype = DTYPE_F8_E4M3;
        weight.scale_bytes = (uint64_t)tensor_scale_blocks(spec->rows) *
                             tensor_scale_blocks(spec->cols) * dtype_bytes[DTYPE_F32];
    }
    weight.bytes = weight.params * dtype_bytes[weight.dtype];
    return weight;
}

static struct weight weight_stored(const struct checkpoint *ck, const struct tensor_spec *spec)
{
    const struct tensor *tensor, *scale;
    int err = checkpoint_get(ck, spec->role, spec->layer, spec->expert, NULL, &tensor, &scale);
    if (err < 0) // cannot be: the spec is of this config
        return (struct weight){0};
    return (struct weight){.dtype = tensor->dtype,
                           .params = (uint64_t)spec->rows * spec->cols,
                           .bytes = tensor->bytes,
                           .scale_bytes = scale ? scale->bytes : 0};
}

static bool role_is_expert(enum tensor_role role)
{
    return role == ROLE_EXPERT_GATE || role == ROLE_EXPERT_UP || role == ROLE_EXPERT_DOWN;
}

static void expert_count(struct counter *counter, const struct tensor_spec *spec, uint64_t bytes)
{
    if (spec->role == ROLE_EXPERT_GATE)
        counter->expert_bytes = 0;
    counter->expert_bytes += bytes;
    if (spec->role == ROLE_EXPERT_DOWN && counter->expert_bytes > counter->card->expert_bytes_max)
        counter->card->expert_bytes_max = counter->expert_bytes;
}

static int spec_count(const struct tensor_spec *spec, void *user)
{
    struct counter *counter = user;
    struct model_card *card = counter->card;
    bool mtp = spec->layer >= counter->config->num_hidden_layers;
    bool expert = role_is_expert(spec->role);
    struct weight weight =
        counter->ck ? weight_stored(counter->ck, spec) : weight_released(counter->config, spec);
    uint64_t bytes = weight.bytes + weight.scale_bytes;
    uint64_t tensors = weight.scale_bytes ? 2 : 1;

    line_add(&card->groups[mtp ? TENSOR_GROUP_MTP : spec->group], tensors, weight.params, bytes);
    if (!counter->ck) { // a checkpoint's total is what its files hold
        line_add(&card->total, tensors, weight.params, bytes);
        card->dtype_bytes[weight.dtype] += weight.bytes;
        card->dtype_bytes[DTYPE_F32] += weight.scale_bytes;
    }
    if (expert)
        expert_count(counter, spec, bytes);
    if (mtp) {
        card->params_mtp += weight.params;
        *(expert ? &card->mtp_experts_bytes : &card->mtp_resident_bytes) += bytes;
        return 0;
    }
    card->params += weight.params;
    *(expert ? &card->experts_bytes : &card->resident_bytes) += bytes;
    counter->expert_params += expert ? weight.params : 0;
    return 0;
}

// copies_count adds the released MTP layer's copies of embedding and head.
static void copies_count(const struct model_config *config, struct model_card *card)
{
    uint64_t params = (uint64_t)config->vocab_size * config->hidden_size;
    uint64_t bytes = params * dtype_bytes[DTYPE_BF16];

    if (!config->num_nextn_predict_layers)
        return;
    line_add(&card->unused, 2, 2 * params, 2 * bytes);
    line_add(&card->total, 2, 2 * params, 2 * bytes);
    card->dtype_bytes[DTYPE_BF16] += 2 * bytes;
}

static bool name_is_scale(const char *name)
{
    static const char end[] = "_scale_inv";
    size_t len = strlen(name);
    return len >= sizeof(end) && strcmp(name + len - sizeof(end) + 1, end) == 0;
}

static void files_count(const struct checkpoint *ck, struct model_card *card)
{
    card->files = checkpoint_file_count(ck);
    for (uint32_t f = 0; f < card->files; f++) {
        const struct safetensors *file = checkpoint_file(ck, f);
        for (uint32_t i = 0; i < safetensors_count(file); i++) {
            const struct tensor *tensor = safetensors_at(file, i);
            uint64_t params = tensor->bytes / dtype_bytes[tensor->dtype];
            if (name_is_scale(tensor->name))
                params = 0;
            line_add(&card->total, 1, params, tensor->bytes);
            card->dtype_bytes[tensor->dtype] += tensor->bytes;
            if (!checkpoint_uses(ck, tensor))
                line_add(&card->unused, 1, params, tensor->bytes);
        }
    }
}

static void config_describe(const struct model_config *config, struct model_card *card)
{
    snprintf(card->architecture, sizeof(card->architecture), "%s", config->architecture);
    snprintf(card->model_type, sizeof(card->model_type), "%s", config->model_type);
    card->arch = config->arch;
    card->fp8 = config->fp8;
    card->has_mtp = config->num_nextn_predict_layers > 0;
    card->layers = config->num_hidden_layers;
    for (uint32_t layer = 0; layer < config->num_hidden_layers; layer++)
        card->moe_layers += model_config_layer_is_moe(config, layer);
    card->dense_layers = card->layers - card->moe_layers;
    card->hidden_size = config->hidden_size;
    card->vocab_size = config->vocab_size;
    card->heads = config->num_attention_heads;
    card->context_max = config->max_position_embeddings;
    card->experts = config->n_routed_experts;
    card->experts_per_token = config->n_routed_experts ? config->num_experts_per_tok : 0;
    card->shared_experts = config->n_routed_experts ? config->n_shared_experts : 0;
    card->expert_n = (uint64_t)card->moe_layers * card->experts;

    uint32_t kv = config->arch == MODEL_ARCH_DEEPSEEK_V3
                      ? config->kv_lora_rank + config->qk_rope_head_dim
                      : 2 * config->num_key_value_heads * config->head_dim;
    card->kv_values = card->layers * kv;
    card->kv_values_mtp = card->has_mtp ? kv : 0;
}

// per_token scales what all experts have to what one token uses: exact, since all have one shape.
static uint64_t per_token(const struct model_card *card, uint64_t all)
{
    return card->experts ? all / card->experts * card->experts_per_token : 0;
}

static void card_fill(const struct model_config *config, const struct checkpoint *ck,
                      struct model_card *ret)
{
    struct model_card card = {0};
    struct counter counter = {.card = &card, .config = config, .ck = ck};

    config_describe(config, &card);
    tensor_spec_each(config, spec_count, &counter);
    if (ck)
        files_count(ck, &card);
    else
        copies_count(config, &card);

    // A token reads one row of the embedding, unless it is the head as well.
    uint64_t embedding = (uint64_t)config->vocab_size * config->hidden_size;
    card.resident_read = card.resident_bytes;
    if (!config->tie_word_embeddings) {
        uint64_t bytes = card.groups[TENSOR_GROUP_EMBEDDING].bytes;
        card.resident_read -= bytes - bytes / config->vocab_size;
    }
    card.experts_read = per_token(&card, card.experts_bytes);
    card.params_active =
        card.params - counter.expert_params + per_token(&card, counter.expert_params);
    if (!config->tie_word_embeddings)
        card.params_active -= embedding - config->hidden_size;
    *ret = card;
}

int model_card_make(const struct checkpoint *ck, struct model_card *ret)
{
    card_fill(checkpoint_config(ck), ck, ret);
    ret->mtp_missing = checkpoint_mtp_missing(ck);
    return 0;
}

void model_card_from_config(const struct model_config *config, struct model_card *ret)
{
    card_fill(config, NULL, ret);
}

// --- plan --------------------------------------------------------------------------------------

static void experts_place(const struct model_card *card, uint64_t device_left,
                          struct model_plan *plan)
{
    uint64_t slot = card->expert_bytes_max, left = plan->experts_n;

    if (plan->experts_bytes <= device_left) {
        plan->experts_device_n = left;
        plan->device_used_bytes += plan->experts_bytes;
        plan->verdict = MODEL_PLAN_DEVICE;
        return;
    }
    plan->experts_device_n = device_left / slot < left ? device_left / slot : left;
    plan->device_used_bytes += plan->experts_device_n * slot;
    left -= plan->experts_device_n;
    plan->experts_host_n =
        plan->params.host_bytes / slot < left ? plan->params.host_bytes / slot : left;
    left -= plan->experts_host_n;
    plan->experts_streamed_n = left;
    plan->experts_streamed_bytes = left * slot;
    plan->verdict = left ? MODEL_PLAN_STREAMED : MODEL_PLAN_HOST;
    // A share of what a token reads: as many experts as are streamed of all there are.
    plan->token_stream_bytes =
        (uint64_t)((double)card->experts_read * ((double)left / (double)plan->experts_n));
}

void model_plan_make(const struct model_card *card, const struct model_plan_params *params,
                     struct model_plan *ret)
{
    struct model_plan plan = {.params = *params};
    bool mtp = params->mtp && card->has_mtp;

    if (!plan.params.workspace_bytes)
        plan.params.workspace_bytes = WORKSPACE_BYTES_DEFAULT;
    if (!plan.params.kv_tokens)
        plan.params.kv_tokens = card->context_max;
    if (!plan.params.kv_value_bytes)
        plan.params.kv_value_bytes = 2;
    plan.params.mtp = mtp;

    plan.resident_bytes = card->resident_bytes + (mtp ? card->mtp_resident_bytes : 0);
    plan.kv_bytes_token =
        (uint64_t)plan.params.kv_value_bytes * (card->kv_values + (mtp ? card->kv_values_mtp : 0));
    plan.kv_bytes = plan.kv_bytes_token * plan.params.kv_tokens;
    plan.experts_bytes = card->experts_bytes + (mtp ? card->mtp_experts_bytes : 0);
    plan.experts_n = card->expert_n + (mtp ? card->experts : 0);

    // One layer's experts of one token are in memory at the same time.
    uint64_t least = card->expert_bytes_max * card->experts_per_token;
    uint64_t fixed = plan.resident_bytes + plan.kv_bytes + plan.params.workspace_bytes;
    plan.device_used_bytes = fixed;
    if (fixed + least > params->device_bytes) {
        plan.verdict = MODEL_PLAN_TOO_BIG;
        plan.missing_bytes = fixed + least - params->device_bytes;
    } else {
        experts_place(card, params->device_bytes - fixed, &plan);
    }
    *ret = plan;
}

// --- text --------------------------------------------------------------------------------------

struct words {
    char text[32];
};

// scaled writes a number with three or four digits and the unit that fits.
static struct words scaled(uint64_t n, const char *const *units)
{
    struct words words;
    double value = (double)n;
    uint32_t unit = 0;

    while (value >= 999.5 && units[unit + 1]) {
        value /= 1000;
        unit++;
    }
    int digits = unit == 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(words.text, sizeof(words.text), "%.*f%s", digits, value, units[unit]);
    return words;
}

static struct words in_bytes(uint64_t n)
{
    static const char *const units[] = {" B", " kB", " MB", " GB", " TB", " PB", NULL};
    return scaled(n, units);
}

static struct words in_params(uint64_t n)
{
    static const char *const units[] = {"", " thousand", " million", " billion", " trillion", NULL};
    return scaled(n, units);
}

static void head_text(const struct model_card *card, FILE *out)
{
    fprintf(out, "%s (%s), %s weights\n", card->architecture, card->model_type,
            card->fp8 ? "FP8 128x128" : "unquantised");
    fprintf(out, "  parameters   %s, %s active for a token", in_params(card->params).text,
            in_params(card->params_active).text);
    if (card->has_mtp)
        fprintf(out, "; MTP layer %s", in_params(card->params_mtp).text);
    fprintf(out, "\n  layers       %u: %u dense, %u MoE", card->layers, card->dense_layers,
            card->moe_layers);
    fprintf(out, "%s\n",
            card->has_mtp       ? "; 1 MTP layer"
            : card->mtp_missing ? "; MTP layer promised by config.json, not in the files"
                                : "");
    fprintf(out, "  shape        hidden %u, %u heads, vocabulary %u, context %u\n",
            card->hidden_size, card->heads, card->vocab_size, card->context_max);
    if (card->experts)
        fprintf(out, "  experts      %u a layer, %u for a token, %u shared; one has up to %s\n",
                card->experts, card->experts_per_token, card->shared_experts,
                in_bytes(card->expert_bytes_max).text);
    fprintf(out, "  files        ");
    if (card->files)
        fprintf(out, "%u, ", card->files);
    fprintf(out, "%" PRIu64 " tensors, %s:", card->total.tensors, in_bytes(card->total.bytes).text);
    const char *comma = "";
    for (uint32_t d = 0; d < DTYPE_COUNT; d++) {
        if (!card->dtype_bytes[d])
            continue;
        fprintf(out, "%s %s %s", comma, dtype_name[d], in_bytes(card->dtype_bytes[d]).text);
        comma = ",";
    }
    fprintf(out, "\n");
}

static void line_text(const char *name, const struct model_card_line *line, FILE *out)
{
    if (line->tensors)
        fprintf(out, "  %-20s %9" PRIu64 " %15s %12s\n", name, line->tensors,
                in_params(line->params).text, in_bytes(line->bytes).text);
}

static void groups_text(const struct model_card *card, FILE *out)
{
    fprintf(out, "\n  %-20s %9s %15s %12s\n", "group", "tensors", "parameters", "bytes");
    for (uint32_t g = 0; g < TENSOR_GROUP_COUNT; g++)
        line_text(g == TENSOR_GROUP_MTP ? "MTP layer" : tensor_group_name[g], &card->groups[g],
                  out);
    line_text("not used", &card->unused, out);
    line_text("all", &card->total, out);
    fprintf(out, "\n  resident     %s, of which a token reads %s\n",
            in_bytes(card->resident_bytes).text, in_bytes(card->resident_read).text);
    if (card->expert_n)
        fprintf(out, "  experts      %s in %" PRIu64 " experts, of which a token reads %s\n",
                in_bytes(card->experts_bytes).text, card->expert_n,
                in_bytes(card->experts_read).text);
    fprintf(out, "  KV cache     %u values a token: %s as f16, %s as f32\n", card->kv_values,
            in_bytes(2ull * card->kv_values).text, in_bytes(4ull * card->kv_values).text);
}

static void plan_text(const struct model_plan *plan, FILE *out)
{
    const struct model_plan_params *params = &plan->params;

    fprintf(out, "\nmemory plan: %s of device memory", in_bytes(params->device_bytes).text);
    if (params->host_bytes)
        fprintf(out, ", %s of host memory for experts", in_bytes(params->host_bytes).text);
    fprintf(out, "\n  weights      %s resident%s\n", in_bytes(plan->resident_bytes).text,
            params->mtp ? ", MTP layer included" : "");
    fprintf(out, "  KV cache     %s: %" PRIu64 " tokens x %s\n", in_bytes(plan->kv_bytes).text,
            params->kv_tokens, in_bytes(plan->kv_bytes_token).text);
    fprintf(out, "  workspace    %s\n", in_bytes(params->workspace_bytes).text);
    if (plan->experts_n && plan->verdict != MODEL_PLAN_TOO_BIG)
        fprintf(out,
                "  experts      %" PRIu64 " in device memory, %" PRIu64 " in host memory, %" PRIu64
                " streamed\n",
                plan->experts_device_n, plan->experts_host_n, plan->experts_streamed_n);
    if (plan->experts_streamed_n)
        fprintf(out, "  streamed     %s on the drive; some %s of reads a token\n",
                in_bytes(plan->experts_streamed_bytes).text,
                in_bytes(plan->token_stream_bytes).text);
    fprintf(out, "  verdict      %s", model_plan_verdict_text[plan->verdict]);
    if (plan->missing_bytes)
        fprintf(out, ": %s short", in_bytes(plan->missing_bytes).text);
    fprintf(out, "\n");
}

int model_card_text(const struct model_card *card, const struct model_plan *plan, FILE *out)
{
    head_text(card, out);
    groups_text(card, out);
    if (plan)
        plan_text(plan, out);
    return ferror(out) ? -EIO : 0;
}

// --- JSON --------------------------------------------------------------------------------------

// One row a member: the writer below is only a loop.
struct member {
    const char *name;
    size_t offset, bytes; // 1: bool, 4 and 8: unsigned
};

#define MEMBER(type, name)                                                                         \
    {                                                                                              \
#name, offsetof(struct type, name), sizeof(((struct type *)0)->name)                       \
    }

static const struct member card_members[] = {
    MEMBER(model_card, fp8),
    MEMBER(model_card, has_mtp),
    MEMBER(model_card, mtp_missing),
    MEMBER(model_card, layers),
    MEMBER(model_card, dense_layers),
    MEMBER(model_card, moe_layers),
    MEMBER(model_card, hidden_size),
    MEMBER(model_card, vocab_size),
    MEMBER(model_card, heads),
    MEMBER(model_card, context_max),
    MEMBER(model_card, experts),
    MEMBER(model_card, experts_per_token),
    MEMBER(model_card, shared_experts),
    MEMBER(model_card, params),
    MEMBER(model_card, params_active),
    MEMBER(model_card, params_mtp),
    MEMBER(model_card, files),
    MEMBER(model_card, resident_bytes),
    MEMBER(model_card, resident_read),
    MEMBER(model_card, experts_bytes),
    MEMBER(model_card, expert_n),
    MEMBER(model_card, expert_bytes_max),
    MEMBER(model_card, experts_read),
    MEMBER(model_card, mtp_resident_bytes),
    MEMBER(model_card, mtp_experts_bytes),
    MEMBER(model_card, kv_values),
    MEMBER(model_card, kv_values_mtp),
};

static const struct member plan_members[] = {
    MEMBER(model_plan, params.device_bytes),
    MEMBER(model_plan, params.host_bytes),
    MEMBER(model_plan, params.workspace_bytes),
    MEMBER(model_plan, params.kv_tokens),
    MEMBER(model_plan, params.kv_value_bytes),
    MEMBER(model_plan, params.mtp),
    MEMBER(model_plan, resident_bytes),
    MEMBER(model_plan, kv_bytes_token),
    MEMBER(model_plan, kv_bytes),
    MEMBER(model_plan, experts_bytes),
    MEMBER(model_plan, experts_n),
    MEMBER(model_plan, experts_device_n),
    MEMBER(model_plan, experts_host_n),
    MEMBER(model_plan, experts_streamed_n),
    MEMBER(model_plan, experts_streamed_bytes),
    MEMBER(model_plan, device_used_bytes),
    MEMBER(model_plan, missing_bytes),
    MEMBER(model_plan, token_stream_bytes),
};

static json_t *member_json(const struct member *member, const void *object)
{
    const char *at = (const char *)object + member->offset;
    uint64_t wide = 0;
    uint32_t narrow;
    bool flag;

    if (member->bytes == sizeof(flag)) {
        memcpy(&flag, at, sizeof(flag));
        return json_boolean(flag);
    }
    if (member->bytes == sizeof(narrow)) {
        memcpy(&narrow, at, sizeof(narrow));
        wide = narrow;
    } else {
        memcpy(&wide, at, sizeof(wide));
    }
    return json_integer((json_int_t)wide);
}

static int members_json(const struct member *members, size_t n, const void *object, json_t *json)
{
    for (size_t i = 0; i < n; i++) {
        const char *dot = strchr(members[i].name, '.');
        const char *name = dot ? dot + 1 : members[i].name;
        if (json_object_set_new(json, name, member_json(&members[i], object)) < 0)
            return -ENOMEM;
    }
    return 0;
}

static json_t *line_json(const struct model_card_line *line)
{
    return json_pack("{s:I, s:I, s:I}", "tensors", (json_int_t)line->tensors, "params",
                     (json_int_t)line->params, "bytes", (json_int_t)line->bytes);
}

static int groups_json(const struct model_card *card, json_t *json)
{
    json_t *groups = json_object(), *dtypes = json_object();
    int failed = json_object_set_new(json, "groups", groups);

    failed |= json_object_set_new(json, "dtype_bytes", dtypes);
    for (uint32_t g = 0; g < TENSOR_GROUP_COUNT; g++)
        failed |= json_object_set_new(groups, tensor_group_name[g], line_json(&card->groups[g]));
    for (uint32_t d = 0; d < DTYPE_COUNT; d++)
        if (card->dtype_bytes[d])
            failed |= json_object_set_new(dtypes, dtype_name[d],
                                          json_integer((json_int_t)card->dtype_bytes[d]));
    failed |= json_object_set_new(json, "unused", line_json(&card->unused));
    failed |= json_object_set_new(json, "total", line_json(&card->total));
    return failed ? -ENOMEM : 0;
}

static json_t *plan_json(const struct model_plan *plan)
{
    json_t *json = json_pack("{s:s, s:s}", "verdict", model_plan_verdict_name[plan->verdict],
                             "verdict_text", model_plan_verdict_text[plan->verdict]);
    if (json && members_json(plan_members, sizeof(plan_members) / sizeof(plan_members[0]), plan,
                             json) < 0) {
        json_decref(json);
        return NULL;
    }
    return json;
}

int model_card_json(const struct model_card *card, const struct model_plan *plan, FILE *out)
{
    json_t *json =
        json_pack("{s:s, s:s}", "architecture", card->architecture, "model_type", card->model_type);
    int err;

    if (!json)
        return -ENOMEM;
    err = members_json(card_members, sizeof(card_members) / sizeof(card_members[0]), card, json);
    if (err == 0)
        err = groups_json(card, json);
    if (err == 0 && plan && json_object_set_new(json, "plan", plan_json(plan)) < 0)
        err = -ENOMEM;
    if (err < 0)
        goto done;
    if (json_dumpf(json, out, JSON_COMPACT) < 0 || fputc('\n', out) == EOF)
        err = ferror(out) ? -EIO : -ENOMEM;
done:
    json_decref(json);
    return err;
}
