// SPDX-License-Identifier: MIT
// att_scores, att_softmax, att_values, att_combine over a paged cache: MLA's one key for all heads
// and GQA's key for a group of heads, f32 and f16, rows of two sequences at page and split edges.
#include "tests/kernels/pages.h"
#include "tests/kernels/ref.h"
#include "tests/kernels/suites.h"

#include <math.h>

#define POSITIONS_LANE 4u // that a lane of att_scores owns on the texel path
#define SPLIT          64u
#define SPLITS         3u
#define T_STRIDE       160u // >= 150 positions
#define SHARE          2e-6 // of the sum of magnitudes

// key: values of a key; value: of a value, at value_col.  tile: heads of a subgroup.
struct shape {
    uint32_t heads, per_key, key, key_stride, value, value_col, value_stride, entry, tile;
    bool f16;
};

static const struct shape shapes[] = {
    {5, 5, 40, 0, 32, 0, 0, 40, 5, false},     {11, 11, 40, 0, 32, 0, 0, 40, 8, true},
    {16, 16, 576, 0, 512, 0, 0, 576, 8, true}, {6, 3, 16, 16, 16, 32, 16, 64, 3, false},
    {4, 1, 24, 24, 24, 96, 24, 192, 1, true},
};

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

static uint32_t groups_of(const struct shape *s)
{
    return ceil_div(s->per_key, s->tile) * (s->heads / s->per_key);
}

static const uint32_t *row_of(const struct pages *p, uint32_t row)
{
    return p->row[ROW_BASE + row];
}

static float *copy_of(const struct words *w)
{
    float *copy = malloc(4ull * w->n);
    CHECK(copy);
    memcpy(copy, w->v, 4ull * w->n);
    return copy;
}

static void scores_expect(const struct shape *s, const struct pages *p, const struct words *qa,
                          uint32_t qa_stride, float scale, float *expected, float *error)
{
    for (uint32_t r = 0; r < STEP_ROWS; r++)
        for (uint32_t h = 0; h < s->heads; h++)
            for (uint32_t t = 0; t <= row_of(p, r)[2]; t++) {
                double sum = 0, size = 0;
                for (uint32_t i = 0; i < s->key; i++) {
                    double v =
                        (double)qa->v[(ROW_BASE + r) * qa_stride + h * (s->key + 4) + i] *
                        pages_value(p, row_of(p, r)[1], t, h / s->per_key * s->key_stride + i);
                    sum += v;
                    size += fabs(v);
                }
                uint32_t at = (r * s->heads + h) * T_STRIDE + t;
                expected[at] = (float)(sum * (double)scale);
                error[at] = (float)(size * (double)scale * SHARE + 1e-9);
            }
}

static void scores_test(struct rig *rig, const struct shape *s, struct pages *p)
{
    uint32_t qa_head = s->key + 4, qa_stride = s->heads * qa_head + 8;
    struct words qa = words_make(rig, (ROW_BASE + STEP_ROWS) * qa_stride);
    struct words scores = words_make(rig, STEP_ROWS * s->heads * T_STRIDE);
    for (uint32_t r = 0; r < ROW_BASE + STEP_ROWS; r++)
        for (uint32_t h = 0; h < s->heads; h++)
            for (uint32_t i = 0; i < s->key; i++)
                qa.v[r * qa_stride + h * qa_head + i] = rig_uniform(rig, -1, 1);
    float *expected = copy_of(&scores), *error = calloc(scores.n, 4), scale = 0.125f;
    CHECK(error);
    scores_expect(s, p, &qa, qa_stride, scale, expected, error);
    uint32_t spec[] = {s->tile, POSITIONS_LANE};
    uint32_t push[16] = {ROW_BASE,      s->heads,      s->per_key,  s->key / 4,
                         s->key_stride, qa_stride / 4, qa_head / 4, s->entry,
                         PAGE_TOKENS,   PAGES_MAX,     PAGES0,      T_STRIDE};
    memcpy(&push[12], &scale, 4);
    uint32_t positions = rig->lanes * (rig->texel ? POSITIONS_LANE : 1);
    rig_run(rig,
            &(struct dispatch){.kernel = s->f16 ? KERNEL_ATT_SCORES_F16 : KERNEL_ATT_SCORES_F32,
                               .spec = spec,
                               .spec_n = 2,
                               .binds = (struct vk_bind[]){words_in(&p->cache),
                                                           words_in(&qa),
                                                           {.buf = p->table},
                                                           words_out(&scores)},
                               .push = push,
                               .grid = {ceil_div(150, positions), groups_of(s), STEP_ROWS}});
    words_check(&scores, expected, error, "att_scores");
    free(expected);
    free(error);
    words_free(&qa);
    words_free(&scores);
}

static void softmax_test(struct rig *rig, uint32_t heads, struct pages *p)
{
    struct words s = words_make(rig, STEP_ROWS * heads * T_STRIDE);
    float *expected = copy_of(&s), *error = calloc(s.n, 4);
    CHECK(error);
    for (uint32_t r = 0; r < STEP_ROWS; r++)
        for (uint32_t h = 0; h < heads; h++) {
            double row[T_STRIDE];
            uint32_t n = row_of(p, r)[2] + 1, at = (r * heads + h) * T_STRIDE;
            for (uint32_t t = 0; t < n; t++)
                row[t] = (double)(s.v[at + t] = rig_uniform(rig, -30, 30));
            ref_softmax(row, n);
            for (uint32_t t = 0; t < n; t++) {
                expected[at + t] = (float)row[t];
                error[at + t] = (float)(row[t] * 1e-5 + 1e-30);
            }
        }
    uint32_t push[8] = {ROW_BASE, heads, T_STRIDE};
    rig_run(rig, &(struct dispatch){.kernel = KERNEL_ATT_SOFTMAX,
                                    .binds = (struct vk_bind[]){words_inout(&s), {.buf = p->table}},
                                    .push = push,
                                    .grid = {heads, STEP_ROWS, 1}});
    words_check(&s, expected, error, "att_softmax");
    free(expected);
    free(error);
    words_free(&s);
}

// What one split adds up of one row and head.
static void values_expect(const struct shape *s, const struct pages *p, const struct words *prob,
                          uint32_t o_row0, uint32_t o_rows, float *expected, float *error)
{
    for (uint32_t r = 0; r < STEP_ROWS; r++)
        for (uint32_t t0 = 0; t0 <= row_of(p, r)[2]; t0 += SPLIT)
            for (uint32_t h = 0; h < s->heads; h++)
                for (uint32_t i = 0; i < s->value; i++) {
                    uint32_t col = s->value_col + h / s->per_key * s->value_stride + i;
                    double sum = 0, size = 0;
                    for (uint32_t t = t0; t < t0 + SPLIT && t <= row_of(p, r)[2]; t++) {
                        double v = (double)prob->v[(r * s->heads + h) * T_STRIDE + t] *
                                   pages_value(p, row_of(p, r)[1], t, col);
                        sum += v;
                        size += fabs(v);
                    }
                    uint32_t at =
                        ((t0 / SPLIT * o_rows + o_row0 + r) * s->heads + h) * s->value + i;
                    expected[at] = (float)sum;
                    error[at] = (float)(size * SHARE + 1e-12);
                }
}

static void values_test(struct rig *rig, const struct shape *s, struct pages *p)
{
    uint32_t o_row0 = 2, o_rows = STEP_ROWS + 3;
    struct words prob = words_make(rig, STEP_ROWS * s->heads * T_STRIDE);
    struct words o = words_make(rig, SPLITS * o_rows * s->heads * s->value);
    for (uint32_t r = 0; r < STEP_ROWS; r++)
        for (uint32_t h = 0; h < s->heads; h++)
            for (uint32_t t = 0; t <= row_of(p, r)[2]; t++)
                prob.v[(r * s->heads + h) * T_STRIDE + t] = rig_uniform(rig, 0, 0.1f);
    float *expected = copy_of(&o), *error = calloc(o.n, 4);
    CHECK(error);
    values_expect(s, p, &prob, o_row0, o_rows, expected, error);
    uint32_t columns = rig->texel ? 8 : 4;
    uint32_t push[16] = {ROW_BASE,        s->heads, s->per_key,   s->value / 4, s->value_col,
                         s->value_stride, s->entry, PAGE_TOKENS,  PAGES_MAX,    PAGES0,
                         T_STRIDE,        SPLIT,    groups_of(s), o_row0,       o_rows};
    rig_run(rig,
            &(struct dispatch){.kernel = s->f16 ? KERNEL_ATT_VALUES_F16 : KERNEL_ATT_VALUES_F32,
                               .spec = &s->tile,
                               .spec_n = 1,
                               .binds = (struct vk_bind[]){words_in(&p->cache),
                                                           words_in(&prob),
                                                           {.buf = p->table},
                                                           words_out(&o)},
                               .push = push,
                               .grid = {ceil_div(s->value / columns, rig->lanes),
                                        groups_of(s) * SPLITS, STEP_ROWS}});
    words_check(&o, expected, error, "att_values");
    free(expected);
    free(error);
    words_free(&prob);
    words_free(&o);
}

static void combine_test(struct rig *rig, uint32_t width, struct pages *p)
{
    uint32_t o_stride = width + 4;
    struct words partial = words_make(rig, SPLITS * STEP_ROWS * width);
    struct words o = words_make(rig, (ROW_BASE + STEP_ROWS) * o_stride);
    float *expected = copy_of(&o), *error = calloc(o.n, 4);
    CHECK(error);
    for (uint32_t r = 0; r < STEP_ROWS; r++)
        for (uint32_t i = 0; i < width; i++) {
            double sum = 0;
            for (uint32_t j = 0; j * SPLIT <= row_of(p, r)[2]; j++)
                sum +=
                    (double)(partial.v[(j * STEP_ROWS + r) * width + i] = rig_uniform(rig, -1, 1));
            expected[(ROW_BASE + r) * o_stride + i] = (float)sum;
            error[(ROW_BASE + r) * o_stride + i] = 1e-6f;
        }
    uint32_t push[8] = {STEP_ROWS, width / 4, SPLIT, ROW_BASE, o_stride / 4};
    rig_run(rig, &(struct dispatch){.kernel = KERNEL_ATT_COMBINE,
                                    .binds = (struct vk_bind[]){words_inout(&partial),
                                                                {.buf = p->table},
                                                                words_out(&o)},
                                    .push = push,
                                    .grid = {ceil_div(width / 4, rig->lanes), STEP_ROWS, 1}});
    words_check(&o, expected, error, "att_combine");
    free(expected);
    free(error);
    words_free(&partial);
    words_free(&o);
}

void test_attention(struct rig *rig)
{
    for (uint32_t i = 0; i < ARRAY_LEN(shapes); i++) {
        struct pages p;
        pages_make(rig, &p, shapes[i].entry, shapes[i].f16);
        pages_fill(rig, &p);
        scores_test(rig, &shapes[i], &p);
        values_test(rig, &shapes[i], &p);
        if (i == 0) {
            softmax_test(rig, 3, &p);
            combine_test(rig, 4, &p);
            combine_test(rig, 100, &p);
        }
        pages_free(&p);
    }
}
