// SPDX-License-Identifier: MIT
// absorb, mla_prep, gqa_prep: what stands between the projections and attention.
#include "tests/kernels/pages.h"
#include "tests/kernels/ref.h"
#include "tests/kernels/suites.h"

#include <math.h>

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

static float *copy_of(const struct words *w)
{
    float *copy = malloc(4ull * w->n);
    CHECK(copy);
    memcpy(copy, w->v, 4ull * w->n);
    return copy;
}

/* ----------------------------------------------------------------- absorb */

struct absorb_shape {
    enum weight_dtype dtype;
    uint32_t heads, nope, value, lora, rows;
};

static const struct absorb_shape absorb_shapes[] = {
    {WEIGHT_FP8, 3, 16, 24, 72, 9},    {WEIGHT_FP8, 2, 12, 8, 144, 3}, // heads that straddle steps
    {WEIGHT_FP8, 2, 128, 128, 512, 1}, {WEIGHT_BF16, 3, 16, 8, 40, 2}, {WEIGHT_F32, 1, 8, 8, 16, 5},
};

static void absorb_test(struct rig *rig, const struct absorb_shape *s)
{
    uint32_t head_rows = s->nope + s->value, q_head = s->nope + 8, q_stride = s->heads * q_head + 4;
    uint32_t out_head = s->lora + 3, out_stride = s->heads * out_head + 5;
    struct heap heap = heap_make(1u << 16);
    heap_mat_add(rig, &heap, s->dtype, s->heads * head_rows, s->lora, 0, s->dtype == WEIGHT_FP8);
    heap_upload(rig, &heap);
    struct words q = words_make(rig, s->rows * q_stride),
                 out = words_make(rig, s->rows * out_stride);
    for (uint32_t m = 0; m < s->rows; m++)
        for (uint32_t h = 0; h < s->heads; h++)
            for (uint32_t d = 0; d < s->nope; d++)
                q.v[m * q_stride + h * q_head + d] = rig_uniform(rig, -1, 1);
    float *expected = copy_of(&out), *error = calloc(out.n, 4), *first = NULL;
    CHECK(error);
    for (uint32_t m = 0; m < s->rows; m++)
        for (uint32_t h = 0; h < s->heads; h++)
            for (uint32_t c = 0; c < s->lora; c++) {
                double sum = 0, size = 0;
                for (uint32_t d = 0; d < s->nope; d++) {
                    uint32_t row = h * head_rows + d;
                    double v = heap_weight(&heap, 0, row, c) * heap_scale(&heap, 0, row, c) *
                               (double)q.v[m * q_stride + h * q_head + d];
                    sum += v;
                    size += fabs(v);
                }
                expected[m * out_stride + h * out_head + c] = (float)sum;
                error[m * out_stride + h * out_head + c] = (float)(size * 2e-6 + 1e-9);
            }
    bool straddles = s->nope % 8 || head_rows % 8;
    uint32_t decode = s->dtype == WEIGHT_FP8 ? vk_device_limits(rig->dev)->e4m3 : 0;
    uint32_t push[12] = {0, s->rows, s->nope, head_rows, q_stride, q_head, out_stride, out_head};
    for (uint32_t xrows = 1; xrows <= 4; xrows *= 4) {
        uint32_t spec[] = {2 * rig->lanes, xrows, s->dtype, decode, straddles, 0};
        rig_run(rig, &(struct dispatch){.kernel = KERNEL_ABSORB,
                                        .spec = spec,
                                        .spec_n = ARRAY_LEN(spec),
                                        .binds = (struct vk_bind[]){heap_bind(rig, &heap),
                                                                    {.buf = heap.mats_buf},
                                                                    words_in(&q),
                                                                    words_inout(&out)},
                                        .push = push,
                                        .grid = {ceil_div(ceil_div(s->lora, 16), rig->lanes),
                                                 s->heads, ceil_div(s->rows, xrows)}});
        if (!first)
            first = words_read(&out);
        words_check(&out, expected, error, "absorb");
        words_check(&out, first, NULL, "absorb, another tile");
    }
    free(first);
    free(expected);
    free(error);
    words_free(&q);
    words_free(&out);
    heap_free(&heap);
}

/* ------------------------------------------------------- rows into the cache */

#define POSITIONS 150u

struct prep {
    struct pages pages;
    struct words rope; // (cos, sin) [position, pairs]
    float *cache;      // [values] expected; canaries elsewhere
    uint32_t cache_n;
};

static void prep_make(struct rig *rig, struct prep *p, uint32_t entry, bool f16, uint32_t pairs)
{
    pages_make(rig, &p->pages, entry, f16);
    p->rope = words_make(rig, POSITIONS * pairs * 2);
    for (uint32_t i = 0; i < POSITIONS * pairs; i++) {
        float angle = rig_uniform(rig, 0, 6.28f);
        p->rope.v[i * 2] = cosf(angle);
        p->rope.v[i * 2 + 1] = sinf(angle);
    }
    p->cache_n = PAGES * PAGE_TOKENS * entry;
    struct words blank = words_make(rig, p->cache_n);
    p->cache = copy_of(&blank);
    words_free(&blank);
}

static void prep_free(struct prep *p)
{
    pages_free(&p->pages);
    words_free(&p->rope);
    free(p->cache);
}

static const float *rope_at(const struct prep *p, uint32_t position, uint32_t pairs, uint32_t pair)
{
    return p->rope.v + (position * pairs + pair) * 2;
}

// The cache against p->cache: f16 is rounded by the device in a way it may choose.
static void cache_check(const struct prep *p, const char *what)
{
    if (!p->pages.f16) {
        float *error = malloc(4ull * p->cache_n);
        CHECK(error);
        for (uint32_t i = 0; i < p->cache_n; i++)
            error[i] = 3e-6f;
        words_check(&p->pages.cache, p->cache, error, what);
        free(error);
        return;
    }
    float *got = words_read(&p->pages.cache);
    for (uint32_t i = 0; i < p->cache_n; i += 2) {
        uint32_t pair;
        memcpy(&pair, &got[i / 2], 4);
        if (is_canary(p->cache[i])) {
            CHECK(is_canary(got[i / 2]));
            continue;
        }
        for (uint32_t j = 0; j < 2; j++) {
            float v = ref_f16_value((uint16_t)(pair >> 16 * j)), e = p->cache[i + j];
            CHECK(fabsf(v - e) <= fabsf(e) / 1000 + 3e-6f);
        }
    }
    free(got);
}

static float *random_rows(struct rig *rig, struct words *w)
{
    for (uint32_t i = 0; i < w->n; i++)
        w->v[i] = rig_uniform(rig, -1, 1);
    return w->v;
}

// Where turned pair `pair` of n values lies: neighbours, or n / 2 apart.
static void pair_of(bool interleave, uint32_t n, uint32_t pair, uint32_t *a, uint32_t *b)
{
    *a = interleave ? 2 * pair : pair;
    *b = interleave ? 2 * pair + 1 : pair + n / 2;
}

static void rotate_into(const struct prep *p, const float *from, uint32_t n, uint32_t position,
                        bool interleave, float *to)
{
    for (uint32_t i = 0; i < n / 2; i++) {
        uint32_t a, b;
        double turned_a, turned_b;
        pair_of(interleave, n, i, &a, &b);
        ref_rotate(from[a], from[b], rope_at(p, position, n / 2, i), &turned_a, &turned_b);
        to[a] = (float)turned_a;
        to[b] = (float)turned_b;
    }
}

#define ROWS (ROW_BASE + STEP_ROWS) // a dispatch starts at row 0

static float *errors_make(uint32_t n)
{
    float *error = malloc(4ull * n);
    CHECK(error);
    for (uint32_t i = 0; i < n; i++)
        error[i] = 1e-6f;
    return error;
}

// Row 0 of the table is at a position without a page: the tests here give it one.
static void row0_fix(struct rig *rig, struct pages *p)
{
    uint32_t table[PAGES0 + SEQS * PAGES_MAX];
    p->row[0][2] = 11;
    memcpy(table, p->row, sizeof(p->row));
    memcpy(table + PAGES0, p->page, sizeof(p->page));
    vk_buffer_destroy(&p->table);
    p->table = rig_table(rig, table, ARRAY_LEN(table));
}

static void mla_prep_test(struct rig *rig, uint32_t heads, uint32_t lora, uint32_t rope_dim,
                          bool interleave, bool f16)
{
    uint32_t nope = 12, q_head = nope + rope_dim, q_stride = heads * q_head + 3, kv_col = 8;
    uint32_t qa_head = lora + rope_dim + 2, qa_stride = heads * qa_head + 1;
    uint32_t kv_stride = kv_col + lora + rope_dim + 4, weight = 4;
    float eps = 1e-6f;
    struct prep p;
    prep_make(rig, &p, lora + rope_dim, f16, rope_dim / 2);
    row0_fix(rig, &p.pages);
    struct words kv = words_make(rig, ROWS * kv_stride), vectors = words_make(rig, weight + lora);
    struct words q = words_make(rig, ROWS * q_stride), qa = words_make(rig, ROWS * qa_stride);
    random_rows(rig, &kv);
    random_rows(rig, &vectors);
    random_rows(rig, &q);
    float *expected = copy_of(&qa), *error = errors_make(qa.n);
    double *norm = malloc(8ull * lora);
    CHECK(norm);
    for (uint32_t r = 0; r < ROWS; r++) {
        uint32_t seq = p.pages.row[r][1], position = p.pages.row[r][2];
        const float *c = kv.v + r * kv_stride + kv_col;
        float *entry = p.cache + pages_at(&p.pages, seq, position, 0);
        for (uint32_t h = 0; h < heads; h++)
            rotate_into(&p, q.v + r * q_stride + h * q_head + nope, rope_dim, position, interleave,
                        expected + r * qa_stride + h * qa_head + lora);
        ref_rmsnorm(c, vectors.v + weight, lora, (double)eps, norm);
        for (uint32_t i = 0; i < lora; i++)
            entry[i] = (float)norm[i];
        rotate_into(&p, c + lora, rope_dim, position, interleave, entry + lora);
    }
    uint32_t push[16] = {heads,           lora,        rope_dim,   nope,
                         q_stride,        q_head,      qa_stride,  qa_head,
                         kv_stride / 4,   kv_col / 4,  weight / 4, 0,
                         lora + rope_dim, PAGE_TOKENS, PAGES_MAX,  PAGES0};
    memcpy(&push[11], &eps, 4);
    rig_run(rig, &(struct dispatch){.kernel = f16 ? KERNEL_MLA_PREP_F16 : KERNEL_MLA_PREP_F32,
                                    .spec = (uint32_t[]){interleave},
                                    .spec_n = 1,
                                    .binds = (struct vk_bind[]){words_in(&kv),
                                                                words_in(&vectors),
                                                                words_inout(&q),
                                                                words_inout(&p.rope),
                                                                {.buf = p.pages.table},
                                                                words_out(&qa),
                                                                words_out(&p.pages.cache)},
                                    .push = push,
                                    .grid = {ROWS, heads + 1, 1}});
    words_check(&qa, expected, error, "mla_prep, query");
    cache_check(&p, "mla_prep, cache");
    free(expected);
    free(error);
    free(norm);
    words_free(&kv);
    words_free(&vectors);
    words_free(&q);
    words_free(&qa);
    prep_free(&p);
}

static void gqa_prep_test(struct rig *rig, uint32_t heads, uint32_t kv_heads, uint32_t dim,
                          bool f16)
{
    uint32_t stride = (heads + 2 * kv_heads) * dim + 4, qa_head = dim + 1;
    uint32_t qa_stride = heads * qa_head + 2, entry = 2 * kv_heads * dim;
    struct prep p;
    prep_make(rig, &p, entry, f16, dim / 2);
    row0_fix(rig, &p.pages);
    struct words qkv = words_make(rig, ROWS * stride), qa = words_make(rig, ROWS * qa_stride);
    random_rows(rig, &qkv);
    float *expected = copy_of(&qa), *error = errors_make(qa.n);
    for (uint32_t r = 0; r < ROWS; r++) {
        uint32_t seq = p.pages.row[r][1], position = p.pages.row[r][2];
        const float *q = qkv.v + r * stride, *k = q + heads * dim, *v = k + kv_heads * dim;
        float *to = p.cache + pages_at(&p.pages, seq, position, 0);
        for (uint32_t h = 0; h < heads; h++)
            rotate_into(&p, q + h * dim, dim, position, false,
                        expected + r * qa_stride + h * qa_head);
        for (uint32_t h = 0; h < kv_heads; h++)
            rotate_into(&p, k + h * dim, dim, position, false, to + h * dim);
        memcpy(to + kv_heads * dim, v, 4ull * kv_heads * dim);
    }
    uint32_t push[16] = {heads,   kv_heads, dim,         stride / 4, qa_stride,
                         qa_head, entry,    PAGE_TOKENS, PAGES_MAX,  PAGES0};
    rig_run(rig, &(struct dispatch){.kernel = f16 ? KERNEL_GQA_PREP_F16 : KERNEL_GQA_PREP_F32,
                                    .binds = (struct vk_bind[]){words_in(&qkv),
                                                                words_inout(&p.rope),
                                                                {.buf = p.pages.table},
                                                                words_out(&qa),
                                                                words_out(&p.pages.cache)},
                                    .push = push,
                                    .grid = {ROWS, heads + kv_heads, 1}});
    words_check(&qa, expected, error, "gqa_prep, query");
    cache_check(&p, "gqa_prep, cache");
    free(expected);
    free(error);
    words_free(&qkv);
    words_free(&qa);
    prep_free(&p);
}

void test_prep(struct rig *rig)
{
    for (uint32_t i = 0; i < ARRAY_LEN(absorb_shapes); i++)
        absorb_test(rig, &absorb_shapes[i]);
    mla_prep_test(rig, 3, 24, 8, true, false);
    mla_prep_test(rig, 2, 512, 64, true, true);
    mla_prep_test(rig, 1, 40, 16, false, true);
    mla_prep_test(rig, 2, 8, 24, false, false);
    gqa_prep_test(rig, 3, 1, 8, false);
    gqa_prep_test(rig, 4, 2, 64, true);
}
