// SPDX-License-Identifier: MIT
#include "model/slots.h"

#include "vk/copy.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES    (2ull << 20)
#define PAGE_BYTES    4096ull
#define GAP_MAX       65536u // bytes between two tensors that one range reads along
#define NUDGE_BYTES   64u    // by how much matrices of a range may be moved on
#define SLACK_BYTES   16u    // kernels read up to a unit behind a matrix that has an offset
#define COPIES_FLYING 16u    // tickets of the copier
#define SETTLE_STEPS  2u     // without a landing

enum { GATE, UP, DOWN, MATS };
static const enum tensor_role mat_role[MATS] = {ROLE_EXPERT_GATE, ROLE_EXPERT_UP, ROLE_EXPERT_DOWN};

// How the bytes of a key get from where they land to where kernels read them.
enum landing {
    LAND_STRAIGHT, // they are there
    LAND_NUDGED,   // a few bytes further on: odd offsets, gate and up in different shards
    LAND_PADDED,   // row by row: they land behind the slot's body
};

struct place { // of a key's bytes in a host slot
    uint32_t ranges_n;
    enum landing landing;
    uint64_t raw[MATS]; // where a matrix lands
    uint64_t at[MATS];  // where kernels read it
};

struct arena {
    void *host; // NULL: device memory
    uint64_t host_bytes;
    bool huge;
};

struct tier {
    uint32_t n, arenas_n;
    uint32_t first_n, per_arena; // slots in the first arena and in the others
    uint64_t front_bytes;        // of the first, before its slots: weights' (weights.h)
    uint64_t slot_bytes;
    struct arena *arenas;
    struct vk_buffer **bufs; // [arenas_n]
};

struct staged { // a copy that was submitted
    uint64_t ticket;
    uint32_t key, slot; // slot: of the device, or WEIGHT_NONE for a copy back
};

struct slots {
    const struct checkpoint *ck;
    const struct model_config *config;
    const struct pack *pack;
    struct weights *w;
    uint32_t layers_n;  // MoE layers
    uint32_t *layer_of; // [layers_n] the layer's number
    uint32_t *ordinal;  // [weights' layers] number among MoE layers, or WEIGHT_NONE
    uint32_t keys_n, ranges_max;
    struct place *places;      // [keys_n]
    struct slot_range *ranges; // [keys_n][ranges_max]
    enum dtype dtype;
    struct weight_mat shape[MATS];
    uint64_t mat_bytes[MATS];   // as kernels read them
    uint64_t raw_bytes[MATS];   // as files hold them
    uint64_t scale_bytes[MATS]; // 0: none
    uint64_t scale_at[MATS];    // in a host slot
    uint8_t *scales;            // [keys_n][sum of scale_bytes]; NULL: in the records or none
    uint64_t scales_stride;
    uint64_t body_bytes, raw_at;
    uint32_t moved_n; // keys that do not land straight
    uint64_t device_at[MATS], device_scale_at[MATS];
    struct tier host, device;
    struct vk_copier *copier;
    struct staged flying[COPIES_FLYING];
    uint32_t flying_n;
    uint64_t layers_since; // the last landing
    bool host_left;        // its memory outlives us
};

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

// Where a slot is: its arena, and the offset in it.
static uint64_t slot_at(const struct tier *tier, uint32_t slot, uint32_t *ret_arena)
{
    assert(slot < tier->n);
    *ret_arena = 0;
    if (slot < tier->first_n)
        return tier->front_bytes + slot * tier->slot_bytes;
    slot -= tier->first_n;
    *ret_arena = 1 + slot / tier->per_arena;
    return slot % tier->per_arena * tier->slot_bytes;
}

// The matrix that is n-th in the slot.
static int nth_mat(const uint64_t at[MATS], int n)
{
    for (int i = 0; i < MATS; i++) {
        int before = 0;
        for (int j = 0; j < MATS; j++)
            before += at[j] < at[i];
        if (before == n)
            return i;
    }
    return GATE; // no two are at one place
}

/* -------------------------------------------------------------------- plan */

static int key_tensors(const struct slots *s, uint32_t key, const struct tensor *mats[MATS],
                       const struct tensor *scales[MATS], struct fault *fault)
{
    uint32_t layer = s->layer_of[key / s->config->n_routed_experts];
    uint32_t expert = key % s->config->n_routed_experts;
    for (int i = 0; i < MATS; i++)
        if (checkpoint_get(s->ck, mat_role[i], layer, expert, NULL, &mats[i], &scales[i]))
            return fault_set(fault, ENOENT, "layer %u, expert %u: a tensor is missing", layer,
                             expert);
    return 0;
}

// What all experts have in common, taken from the first.
static int shape_take(struct slots *s, struct fault *fault)
{
    const struct tensor *mats[MATS], *scales[MATS];
    int err = key_tensors(s, 0, mats, scales, fault);
    if (err)
        return err;
    s->dtype = mats[0]->dtype;
    for (int i = 0; i < MATS; i++) {
        struct tensor_spec spec;
        struct weight_mat *mat = &s->shape[i];
        uint32_t units;
        checkpoint_get(s->ck, mat_role[i], s->layer_of[0], 0, &spec, NULL, NULL);
        *mat = (struct weight_mat){.rows = spec.rows,
                                   .cols = spec.cols,
                                   .bias = WEIGHT_NONE,
                                   .up = WEIGHT_NONE,
                                   .down = WEIGHT_NONE};
        if (weights_dtype(s->dtype, &mat->dtype, &units))
            return fault_set(fault, ENOTSUP, "%s: dtype %s is not served for matrices", spec.name,
                             dtype_name[s->dtype]);
        mat->k16 = (spec.cols + 15) / 16 * units;
        mat->scols = scales[i] ? tensor_scale_blocks(spec.cols) : 0;
        s->mat_bytes[i] = spec.rows * (mat->k16 * 16ull);
        s->raw_bytes[i] = mats[i]->bytes;
        s->scale_bytes[i] = scales[i] ? scales[i]->bytes : 0;
    }
    return 0;
}

static int shape_check(const struct slots *s, const struct tensor *const mats[MATS],
                       const struct tensor *const scales[MATS], struct fault *fault)
{
    for (int i = 0; i < MATS; i++) {
        if (mats[i]->dtype != s->dtype)
            return fault_set(fault, ENOTSUP,
                             "%s: dtype %s, but other experts have %s: experts of several dtypes "
                             "are not streamed",
                             mats[i]->name, dtype_name[mats[i]->dtype], dtype_name[s->dtype]);
        if (mats[i]->bytes != s->raw_bytes[i] ||
            (scales[i] ? scales[i]->bytes : 0) != s->scale_bytes[i])
            return fault_set(fault, ENOTSUP,
                             "%s: another size than in other experts: such are not streamed",
                             mats[i]->name);
    }
    return 0;
}

// Lists what to read for three matrices: neighbours in a file become one range.
static void ranges_make(struct slots *s, uint32_t key, const struct tensor *const mats[MATS])
{
    struct place *place = &s->places[key];
    struct slot_range *range = &s->ranges[(size_t)key * s->ranges_max];
    uint32_t order[MATS] = {0, 1, 2};
    for (int i = 1; i < MATS; i++) // by file and offset
        for (int j = i; j > 0; j--) {
            const struct tensor *a = mats[order[j - 1]], *b = mats[order[j]];
            if (a->file_idx < b->file_idx ||
                (a->file_idx == b->file_idx && a->file_off <= b->file_off))
                break;
            uint32_t swap = order[j];
            order[j] = order[j - 1];
            order[j - 1] = swap;
        }
    uint64_t dst = 0;
    uint32_t n = 0;
    for (int i = 0; i < MATS; i++) {
        const struct tensor *t = mats[order[i]];
        struct slot_range *last = n ? &range[n - 1] : NULL;
        if (last && last->file == t->file_idx && t->file_off - (last->off + last->bytes) <= GAP_MAX)
            last->bytes = t->file_off + t->bytes - last->off;
        else
            range[n++] =
                (struct slot_range){.file = t->file_idx, .off = t->file_off, .bytes = t->bytes};
    }
    for (uint32_t i = 0; i < n; i++) {
        range[i].dst = dst;
        dst += round_up(range[i].off % PAGE_BYTES + range[i].bytes + NUDGE_BYTES, PAGE_BYTES);
    }
    place->ranges_n = n;
    for (int i = 0; i < MATS; i++)
        for (uint32_t r = 0; r < n; r++)
            if (range[r].file == mats[i]->file_idx && mats[i]->file_off >= range[r].off &&
                mats[i]->file_off < range[r].off + range[r].bytes)
                place->raw[i] =
                    range[r].dst + range[r].off % PAGE_BYTES + (mats[i]->file_off - range[r].off);
}

// Finds where kernels read the matrices: where they land if they can.  Gate and up go through one
// dispatch, which takes one offset.
static void landing_choose(struct slots *s, struct place *place)
{
    place->landing = LAND_STRAIGHT;
    for (int i = 0; i < MATS; i++)
        if (s->raw_bytes[i] != s->mat_bytes[i])
            place->landing = LAND_PADDED;
    uint64_t gate = place->raw[GATE] % 4 ? 0 : place->raw[GATE] % 16, end = 0;
    for (int done = 0; done < MATS && place->landing != LAND_PADDED; done++) {
        int i = nth_mat(place->raw, done);
        uint64_t at = place->raw[i] > end ? place->raw[i] : end;
        if (i != DOWN || at % 4)
            at += (gate + 16 - at % 16) % 16;
        place->at[i] = at;
        end = at + s->mat_bytes[i];
        if (at != place->raw[i])
            place->landing = LAND_NUDGED;
    }
    uint64_t body = 0;
    for (int i = 0; i < MATS && place->landing == LAND_PADDED; i++) {
        place->at[i] = body;
        body += round_up(s->mat_bytes[i], 16);
    }
}

static uint64_t ranges_end(const struct slots *s, uint32_t key)
{
    const struct slot_range *last =
        &s->ranges[(size_t)key * s->ranges_max + s->places[key].ranges_n - 1];
    return last->dst + round_up(last->off % PAGE_BYTES + last->bytes + NUDGE_BYTES, PAGE_BYTES);
}

// What lands behind the body lands there from raw_at on.
static void raw_shift(struct slots *s, uint32_t key)
{
    struct place *place = &s->places[key];
    if (place->landing != LAND_PADDED)
        return;
    for (uint32_t r = 0; r < place->ranges_n; r++)
        s->ranges[(size_t)key * s->ranges_max + r].dst += s->raw_at;
    for (int i = 0; i < MATS; i++)
        place->raw[i] += s->raw_at;
}

static int places_make(struct slots *s, struct fault *fault)
{
    uint64_t raw_bytes = 0;
    for (uint32_t key = 0; key < s->keys_n; key++) {
        const struct tensor *mats[MATS], *scales[MATS];
        struct place *place = &s->places[key];
        int err = key_tensors(s, key, mats, scales, fault);
        if (!err)
            err = shape_check(s, mats, scales, fault);
        if (err)
            return err;
        ranges_make(s, key, mats);
        landing_choose(s, place);
        uint64_t end = ranges_end(s, key), body = end;
        if (place->landing == LAND_PADDED) {
            raw_bytes = end > raw_bytes ? end : raw_bytes;
            body = place->at[DOWN] + round_up(s->mat_bytes[DOWN], 16);
        }
        s->body_bytes = body > s->body_bytes ? body : s->body_bytes;
        s->moved_n += place->landing != LAND_STRAIGHT;
    }
    uint64_t at = round_up(s->body_bytes + SLACK_BYTES, 16);
    for (int i = 0; i < MATS; i++) {
        s->scale_at[i] = at;
        at += round_up(s->scale_bytes[i], 16);
        s->scales_stride += s->scale_bytes[i];
    }
    s->raw_at = round_up(at, PAGE_BYTES);
    for (uint32_t key = 0; key < s->keys_n; key++)
        raw_shift(s, key);
    s->host.slot_bytes = s->raw_at + raw_bytes;
    return 0;
}

// Records of a pack are as kernels read them, scales included.
static int places_pack(struct slots *s, struct fault *fault)
{
    const struct pack_layout *layout = pack_layout(s->pack);
    const uint64_t at[MATS] = {layout->gate, layout->up, layout->down};
    const uint64_t scale_at[MATS] = {layout->gate_scale, layout->up_scale, layout->down_scale};
    s->dtype = layout->dtype;
    for (int i = 0; i < MATS; i++) {
        uint32_t units;
        s->scale_at[i] = scale_at[i];
        if (weights_dtype(layout->dtype, &s->shape[i].dtype, &units))
            return fault_set(fault, ENOTSUP, "the pack's dtype %s is not served",
                             dtype_name[layout->dtype]);
        s->shape[i].k16 = (s->shape[i].cols + 15) / 16 * units;
        s->mat_bytes[i] = s->raw_bytes[i] = s->shape[i].rows * (s->shape[i].k16 * 16ull);
    }
    for (uint32_t key = 0; key < s->keys_n; key++) {
        uint32_t layer, expert;
        slots_key_name(s, key, &layer, &expert);
        uint32_t record = pack_record(s->pack, layer, expert);
        if (record == UINT32_MAX)
            return fault_set(fault, ENOENT, "the pack has no record of layer %u, expert %u", layer,
                             expert);
        struct place *place = &s->places[key];
        memcpy(place->raw, at, sizeof(at));
        memcpy(place->at, at, sizeof(at));
        place->ranges_n = layout->parts_n;
        uint64_t dst = 0;
        for (uint32_t i = 0; i < layout->parts_n; i++) {
            s->ranges[(size_t)key * s->ranges_max + i] =
                (struct slot_range){.file = i,
                                    .off = record * layout->part_bytes[i],
                                    .bytes = layout->part_bytes[i],
                                    .dst = dst};
            dst += layout->part_bytes[i];
        }
    }
    s->body_bytes = layout->stride;
    s->raw_at = s->host.slot_bytes = round_up(layout->stride + SLACK_BYTES, PAGE_BYTES);
    return 0;
}

// One pipeline takes the routed and the shared experts of a layer.
static int shared_check(const struct slots *s, struct fault *fault)
{
    for (uint32_t i = 0; i < s->layers_n; i++) {
        uint32_t mlp = s->w->layers[s->layer_of[i]].mlp;
        if (mlp == WEIGHT_NONE)
            continue;
        const struct weight_mat *gate = &s->w->mats[mlp];
        if (gate->dtype != s->shape[GATE].dtype ||
            s->w->mats[gate->down].dtype != s->shape[DOWN].dtype)
            return fault_set(fault, ENOTSUP,
                             "layer %u: its experts are of several dtypes, which is not served",
                             s->layer_of[i]);
    }
    return 0;
}

static int layers_list(struct slots *s, struct fault *fault)
{
    s->ordinal = calloc(s->w->layers_n, sizeof(*s->ordinal));
    s->layer_of = calloc(s->w->layers_n, sizeof(*s->layer_of));
    if (!s->ordinal || !s->layer_of)
        return fault_set(fault, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < s->w->layers_n; i++) {
        bool moe = model_config_layer_is_moe(s->config, i);
        s->ordinal[i] = moe ? s->layers_n : WEIGHT_NONE;
        if (moe)
            s->layer_of[s->layers_n++] = i;
    }
    if (s->layers_n == 0)
        return fault_set(fault, ENOTSUP, "the model has no routed experts to stream");
    s->keys_n = s->layers_n * s->config->n_routed_experts;
    s->ranges_max = s->pack ? pack_layout(s->pack)->parts_n : MATS;
    s->places = calloc(s->keys_n, sizeof(*s->places));
    s->ranges = calloc((size_t)s->keys_n * s->ranges_max, sizeof(*s->ranges));
    return s->places && s->ranges ? 0 : fault_set(fault, ENOMEM, "out of memory");
}

int slots_plan(struct weights *w, const struct checkpoint *ck, const struct pack *pack,
               struct slots **ret, struct fault *fault)
{
    struct slots *s = calloc(1, sizeof(*s));
    if (!s)
        return fault_set(fault, ENOMEM, "out of memory");
    s->w = w;
    s->ck = ck;
    s->config = checkpoint_config(ck);
    s->pack = pack;
    int err = layers_list(s, fault);
    if (!err)
        err = shape_take(s, fault);
    if (!err)
        err = pack ? places_pack(s, fault) : places_make(s, fault);
    if (!err)
        err = shared_check(s, fault);
    if (err) {
        slots_destroy(&s);
        return err;
    }
    uint64_t at = 0;
    for (int i = 0; i < MATS; i++) {
        s->device_at[i] = at;
        at += round_up(s->mat_bytes[i], 16);
    }
    for (int i = 0; i < MATS; i++) {
        s->device_scale_at[i] = at;
        at += round_up(s->scale_bytes[i], 16);
    }
    s->device.slot_bytes = round_up(at, 256);
    *ret = s;
    return 0;
}

/* ------------------------------------------------------------------ memory */

// Huge pages spare the GPU's and the drive's page tables: reserved ones, else transparent ones.
static int arena_map(struct arena *arena, uint64_t bytes, struct fault *fault)
{
    arena->host_bytes = round_up(bytes, HUGE_BYTES);
    void *host = mmap(NULL, arena->host_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    arena->huge = host != MAP_FAILED;
    if (!arena->huge) {
        // As transparent ones they need an address that is a multiple of their size.
        uint64_t more = arena->host_bytes + HUGE_BYTES;
        host = mmap(NULL, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (host == MAP_FAILED)
            return fault_set(fault, ENOMEM, "expert slots: no address space for %.1f MB",
                             (double)bytes / 1e6);
        uint64_t head = round_up((uintptr_t)host, HUGE_BYTES) - (uintptr_t)host;
        if (head)
            munmap(host, head);
        host = (char *)host + head;
        if (HUGE_BYTES - head)
            munmap((char *)host + arena->host_bytes, HUGE_BYTES - head);
        madvise(host, arena->host_bytes, MADV_HUGEPAGE);
    }
    arena->host = host;
    madvise(host, arena->host_bytes, MADV_DONTDUMP); // a core of them would tell nothing
    if (madvise(host, arena->host_bytes, MADV_POPULATE_WRITE) && errno != EINVAL)
        return fault_set(fault, ENOMEM, "expert slots: %.1f MB of memory are not there: %s",
                         (double)bytes / 1e6, strerror(errno));
    mlock(host, arena->host_bytes); // best effort: registered buffers are pinned besides
    return 0;
}

// How many slots go where.
static int tier_size(const struct slots *s, struct tier *tier, const struct slots_params *params,
                     struct fault *fault)
{
    uint64_t max = weights_heap_max(s->w->dev, params->heap_max);
    uint64_t per = max / tier->slot_bytes, first = (max - tier->front_bytes) / tier->slot_bytes;
    if (per == 0)
        return fault_set(fault, ENOTSUP, "an expert slot of %.1f MB does not fit one memory heap",
                         (double)tier->slot_bytes / 1e6);
    tier->first_n = first < tier->n ? (uint32_t)first : tier->n;
    tier->per_arena = per < tier->n ? (uint32_t)per : tier->n;
    tier->arenas_n = 1 + (tier->n - tier->first_n + tier->per_arena - 1) / tier->per_arena;
    return 0;
}

static int tier_create(struct slots *s, struct tier *tier, const struct slots_params *params,
                       struct fault *fault)
{
    bool device = tier == &s->device;
    int err = tier_size(s, tier, params, fault);
    if (err)
        return err;
    tier->arenas = calloc(tier->arenas_n, sizeof(*tier->arenas));
    tier->bufs = calloc(tier->arenas_n, sizeof(struct vk_buffer *));
    if (!tier->arenas || !tier->bufs)
        return fault_set(fault, ENOMEM, "out of memory");
    uint32_t left = tier->n, slots = tier->first_n;
    for (uint32_t i = 0; i < tier->arenas_n && !err; i++, slots = tier->per_arena) {
        slots = slots < left ? slots : left;
        left -= slots;
        uint64_t bytes = (i == 0 ? tier->front_bytes : 0) + slots * tier->slot_bytes;
        if (device) {
            err = vk_buffer_create(s->w->dev,
                                   &(struct vk_buffer_params){.bytes = bytes,
                                                              .memory = VK_MEMORY_DEVICE,
                                                              .copied = true,
                                                              .name = "expert slots"},
                                   &tier->bufs[i], fault);
            continue;
        }
        err = arena_map(&tier->arenas[i], bytes, fault);
        if (!err)
            err = vk_buffer_import(s->w->dev, tier->arenas[i].host, bytes, "expert slots",
                                   &tier->bufs[i], fault);
    }
    return err;
}

static void tier_destroy(struct tier *tier, bool leave)
{
    for (uint32_t i = 0; i < tier->arenas_n; i++) {
        if (tier->bufs)
            vk_buffer_destroy(&tier->bufs[i]);
        if (!leave && tier->arenas && tier->arenas[i].host)
            munmap(tier->arenas[i].host, tier->arenas[i].host_bytes);
    }
    free(tier->arenas);
    free(tier->bufs);
}

int slots_create(struct slots *s, const struct slots_params *params, struct fault *fault)
{
    struct tier *kernels = params->device_n ? &s->device : &s->host;
    s->host.n = params->host_n;
    s->device.n = params->device_n;
    kernels->front_bytes = s->w->front_bytes;
    int err = tier_create(s, &s->host, params, fault);
    if (!err && params->device_n) {
        err = tier_create(s, &s->device, params, fault);
        if (!err)
            err = vk_copier_create(s->w->dev, COPIES_FLYING, &s->copier, fault);
    }
    return err ? err : weights_slots_add(s->w, kernels->n, kernels->bufs, kernels->arenas_n, fault);
}

void slots_destroy(struct slots **sp)
{
    struct slots *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    vk_copier_destroy(&s->copier);
    tier_destroy(&s->device, false);
    tier_destroy(&s->host, s->host_left);
    free(s->layer_of);
    free(s->ordinal);
    free(s->places);
    free(s->ranges);
    free(s->scales);
    free(s);
}

void slots_host_leave(struct slots *s)
{
    s->host_left = true;
}

static int key_scales_load(struct slots *s, uint32_t key, struct fault *fault)
{
    const struct tensor *mats[MATS], *scales[MATS];
    uint8_t *dst = s->scales + key * s->scales_stride;
    int err = key_tensors(s, key, mats, scales, fault);
    for (int i = 0; i < MATS && !err; i++) {
        if (!s->scale_bytes[i])
            continue;
        err = checkpoint_read(s->ck, scales[i], 0, dst, s->scale_bytes[i], fault);
        if (err)
            break;
        int64_t bad =
            checkpoint_scale_bad_find((const float *)(const void *)dst, s->scale_bytes[i] / 4);
        if (bad >= 0)
            err = fault_set(fault, EBADMSG, "%s: %s: scale %lld is not finite and positive",
                            safetensors_path(checkpoint_file(s->ck, scales[i]->file_idx)),
                            scales[i]->name, (long long)bad);
        dst += s->scale_bytes[i];
    }
    return err;
}

int slots_load(struct slots *s, struct fault *fault)
{
    int err = 0;
    if (!s->pack && s->scales_stride) {
        s->scales = malloc(s->keys_n * s->scales_stride);
        if (!s->scales)
            return fault_set(fault, ENOMEM, "out of memory for %.1f MB of scales",
                             (double)slots_scale_bytes(s) / 1e6);
        for (uint32_t key = 0; key < s->keys_n && !err; key++)
            err = key_scales_load(s, key, fault);
    }
    // Slots say what shape they have before anything is in them: pipelines are made for it.
    for (uint32_t i = 0; i < slots_n(s) && !err; i++)
        weights_slot_set(s->w, i, s->shape);
    return err;
}

/* -------------------------------------------------------------------- keys */

uint32_t slots_n(const struct slots *s)
{
    return s->device.n ? s->device.n : s->host.n;
}

uint32_t slots_host_n(const struct slots *s)
{
    return s->host.n;
}

bool slots_two_tiers(const struct slots *s)
{
    return s->device.n != 0;
}

uint64_t slots_host_bytes(const struct slots *s)
{
    return s->host.slot_bytes;
}

uint64_t slots_device_bytes(const struct slots *s)
{
    return s->device.slot_bytes;
}

uint64_t slots_scale_bytes(const struct slots *s)
{
    return s->pack ? 0 : s->keys_n * s->scales_stride;
}

void *slots_host(const struct slots *s, uint32_t slot)
{
    uint32_t arena;
    uint64_t at = slot_at(&s->host, slot, &arena);
    return (char *)s->host.arenas[arena].host + at;
}

bool slots_huge(const struct slots *s)
{
    bool huge = true;
    for (uint32_t i = 0; i < s->host.arenas_n; i++)
        huge &= s->host.arenas[i].huge;
    return huge;
}

const struct pack *slots_pack(const struct slots *s)
{
    return s->pack;
}

uint32_t slots_moved(const struct slots *s)
{
    return s->moved_n;
}

uint32_t slots_keys(const struct slots *s)
{
    return s->keys_n;
}

uint32_t slots_key(const struct slots *s, uint32_t layer, uint32_t expert)
{
    assert(s->ordinal[layer] != WEIGHT_NONE && expert < s->config->n_routed_experts);
    return s->ordinal[layer] * s->config->n_routed_experts + expert;
}

void slots_key_name(const struct slots *s, uint32_t key, uint32_t *ret_layer, uint32_t *ret_expert)
{
    *ret_layer = s->layer_of[key / s->config->n_routed_experts];
    *ret_expert = key % s->config->n_routed_experts;
}

uint64_t slots_key_bytes(const struct slots *s, uint32_t key)
{
    uint64_t bytes = 0;
    for (int i = 0; i < MATS; i++)
        bytes += s->raw_bytes[i] + (s->pack ? s->scale_bytes[i] : 0);
    (void)key; // all experts have one size
    return bytes;
}

const struct slot_range *slots_ranges(const struct slots *s, uint32_t key, uint32_t *ret_n)
{
    *ret_n = s->places[key].ranges_n;
    return &s->ranges[(size_t)key * s->ranges_max];
}

void slots_hash(const struct slots *s, uint32_t key, const void *host_slot, uint8_t ret[16])
{
    const uint8_t *slot = host_slot;
    const void *parts[2 * MATS] = {slot};
    uint64_t bytes[2 * MATS] = {0};
    if (s->pack) {
        bytes[0] = pack_layout(s->pack)->stride;
        hashes_expert(parts, bytes, ret);
        return;
    }
    const uint8_t *scale = s->scales ? s->scales + key * s->scales_stride : NULL;
    for (int i = 0; i < MATS; i++) {
        parts[i] = slot + s->places[key].raw[i];
        bytes[i] = s->raw_bytes[i];
        parts[MATS + i] = scale;
        bytes[MATS + i] = s->scale_bytes[i];
        scale = scale ? scale + s->scale_bytes[i] : NULL;
    }
    hashes_expert(parts, bytes, ret);
}

bool slots_clean(const struct slots *s, uint32_t key, const void *host_slot, struct fault *fault)
{
    const uint8_t *slot = host_slot;
    for (int i = 0; i < MATS && s->dtype == DTYPE_F8_E4M3; i++) {
        int64_t at = checkpoint_fp8_nan_find(slot + s->places[key].raw[i], s->raw_bytes[i]);
        if (at < 0)
            continue;
        uint32_t layer, expert;
        struct tensor_spec spec;
        slots_key_name(s, key, &layer, &expert);
        checkpoint_get(s->ck, mat_role[i], layer, expert, &spec, NULL, NULL);
        fault_set(fault, EBADMSG, "%s: NaN code at element %lld: the file is damaged", spec.name,
                  (long long)at);
        return false;
    }
    return true;
}

/* ----------------------------------------------------------------- landing */

// Tells kernels where the matrices of a slot are.
static void mats_set(struct slots *s, const struct tier *tier, uint32_t slot,
                     const uint64_t at[MATS], const uint64_t scale_at[MATS])
{
    struct weight_mat mats[MATS];
    uint32_t arena, first = s->w->slot_mat0 + MATS * slot;
    uint64_t base = slot_at(tier, slot, &arena);
    for (int i = 0; i < MATS; i++) {
        mats[i] = s->shape[i];
        mats[i].heap = s->w->heaps_n + arena;
        mats[i].w16 = (uint32_t)((base + at[i]) / 16);
        mats[i].shift = (uint32_t)(at[i] % 16 / 4);
        mats[i].s4 = (uint32_t)((base + scale_at[i]) / 4);
    }
    mats[GATE].up = first + UP;
    mats[GATE].down = first + DOWN;
    weights_slot_set(s->w, slot, mats);
}

// Moves rows to where kernels read them, and puts the scales beside.
static void host_arrange(struct slots *s, uint32_t key, uint32_t slot)
{
    uint8_t *host = slots_host(s, slot);
    const struct place *place = &s->places[key];
    for (int i = 0; i < MATS && place->landing == LAND_PADDED; i++)
        weights_rows_pad(s->dtype, host + place->raw[i], s->shape[i].rows, s->shape[i].cols,
                         s->shape[i].k16 * 16ull, host + place->at[i]);
    for (int done = MATS; done-- > 0 && place->landing == LAND_NUDGED;) { // the last one first
        int i = nth_mat(place->raw, done);
        memmove(host + place->at[i], host + place->raw[i], s->mat_bytes[i]);
    }
    const uint8_t *scale = s->scales ? s->scales + key * s->scales_stride : NULL;
    for (int i = 0; i < MATS && scale; i++) {
        memcpy(host + s->scale_at[i], scale, s->scale_bytes[i]);
        scale += s->scale_bytes[i];
    }
}

void slots_land(struct slots *s, uint32_t key, uint32_t slot)
{
    host_arrange(s, key, slot);
    s->layers_since = 0;
    if (!s->device.n)
        mats_set(s, &s->host, slot, s->places[key].at, s->scale_at);
}

// Moves matrices down to multiples of 16, the first one first: as their sizes are multiples too,
// one never reaches the one before.  Returns whether there was one to move.
static bool slot_align(struct slots *s, uint32_t slot)
{
    const struct weight_mat *mats = &s->w->mats[s->w->slot_mat0 + MATS * slot];
    uint8_t *host = slots_host(s, slot);
    uint32_t arena;
    uint64_t at[MATS], base = slot_at(&s->host, slot, &arena);
    if (!(mats[GATE].shift | mats[UP].shift | mats[DOWN].shift))
        return false;
    for (int i = 0; i < MATS; i++)
        at[i] = mats[i].w16 * 16ull + mats[i].shift * 4ull - base;
    for (int done = 0; done < MATS; done++) {
        int i = nth_mat(at, done);
        uint64_t to = at[i] / 16 * 16;
        memmove(host + to, host + at[i], s->mat_bytes[i]);
        at[i] = to;
    }
    mats_set(s, &s->host, slot, at, s->scale_at);
    return true;
}

void slots_settle(struct slots *s, const struct expert_ready *ready, uint32_t n)
{
    if (s->device.n || s->layers_since++ < SETTLE_STEPS * s->layers_n)
        return;
    for (uint32_t i = 0; i < n; i++)
        if (slot_align(s, ready[i].slot))
            return;
}

/* --------------------------------------------------------------- two tiers */

static int copy_submit(struct slots *s, uint32_t key, uint32_t host_slot, uint32_t slot, bool back,
                       uint64_t *ret_ticket, struct fault *fault)
{
    struct vk_copy_region regions[2 * MATS];
    uint32_t n = 0, host_arena, device_arena;
    uint64_t host_at = slot_at(&s->host, host_slot, &host_arena);
    uint64_t device_at = slot_at(&s->device, slot, &device_arena);
    struct vk_buffer *host = s->host.bufs[host_arena];
    struct vk_buffer *device = s->device.bufs[device_arena];
    const struct place *place = &s->places[key];
    for (int i = 0; i < 2 * MATS; i++) {
        int m = i % MATS;
        uint64_t bytes = i < MATS ? s->mat_bytes[m] : s->scale_bytes[m];
        uint64_t from = host_at + (i < MATS ? place->at[m] : s->scale_at[m]);
        uint64_t to = device_at + (i < MATS ? s->device_at[m] : s->device_scale_at[m]);
        if (!bytes)
            continue;
        regions[n++] = back ? (struct vk_copy_region){host, from, device, to, bytes}
                            : (struct vk_copy_region){device, to, host, from, bytes};
    }
    if (s->flying_n == COPIES_FLYING)
        return fault_set(fault, EAGAIN, "too many copies are under way");
    int err = vk_copier_submit(s->copier, regions, n, ret_ticket, fault);
    if (!err)
        s->flying[s->flying_n++] =
            (struct staged){.ticket = *ret_ticket, .key = key, .slot = back ? WEIGHT_NONE : slot};
    return err;
}

int slots_stage(struct slots *s, uint32_t key, uint32_t host_slot, uint32_t slot,
                uint64_t *ret_ticket, struct fault *fault)
{
    return copy_submit(s, key, host_slot, slot, false, ret_ticket, fault);
}

int slots_unstage(struct slots *s, uint32_t key, uint32_t slot, uint32_t host_slot,
                  uint64_t *ret_ticket, struct fault *fault)
{
    return copy_submit(s, key, host_slot, slot, true, ret_ticket, fault);
}

int slots_staged(struct slots *s, uint64_t ticket, uint64_t wait_ns, struct fault *fault)
{
    if (!wait_ns && !vk_copier_done(s->copier, ticket))
        return -EAGAIN;
    int err = vk_copier_wait(s->copier, ticket, wait_ns, fault);
    if (err)
        return err == -ETIME ? -EAGAIN : err;
    for (uint32_t i = 0; i < s->flying_n; i++)
        if (s->flying[i].ticket == ticket) {
            if (s->flying[i].slot != WEIGHT_NONE)
                mats_set(s, &s->device, s->flying[i].slot, s->device_at, s->device_scale_at);
            s->flying[i] = s->flying[--s->flying_n];
            break;
        }
    return 0;
}
