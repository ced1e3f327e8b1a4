// SPDX-License-Identifier: MIT
// embed, rmsnorm, quant, mlp_sum: kernels that go over rows.
#include "tests/kernels/ref.h"
#include "tests/kernels/suites.h"

#include <math.h>

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

static uint32_t float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static float *copy_of(const struct words *w)
{
    float *copy = malloc(4ull * w->n);
    CHECK(copy);
    memcpy(copy, w->v, 4ull * w->n);
    return copy;
}

/* ------------------------------------------------------------------ embed */

// A table of 50 tokens in two parts; rows of either, and a stride wider than a row.
static void embed_test(struct rig *rig, enum weight_dtype dtype, uint32_t cols)
{
    enum { TOKENS = 50, PART = 30, ROWS = 6 };
    static const uint32_t tokens[ROWS] = {0, 29, 30, 49, 7, 30};
    struct heap heap = heap_make(1u << 14);
    heap_mat_add(rig, &heap, dtype, PART, cols, 0, false);
    heap_mat_add(rig, &heap, dtype, TOKENS - PART, cols, 0, false);
    heap_upload(rig, &heap);
    uint32_t stride = (cols + 15) / 16 * 16 + 16, rows[(1 + ROWS) * 4] = {0};
    for (uint32_t i = 0; i < ROWS; i++)
        rows[(1 + i) * 4] = tokens[i];
    struct vk_buffer *table = rig_table(rig, rows, ARRAY_LEN(rows));
    struct words x = words_make(rig, ROWS * stride);
    float *expected = copy_of(&x);
    for (uint32_t i = 0; i < ROWS; i++)
        for (uint32_t c = 0; c < cols; c++)
            expected[i * stride + c] =
                (float)heap_weight(&heap, tokens[i] >= PART, tokens[i] % PART, c);
    struct vk_bind out = words_inout(&x);
    for (uint32_t part = 0; part < 2; part++) {
        const struct weight_mat *mat = &heap.mats[part];
        uint32_t push[12] = {0,          mat->w16, mat->k16,           cols, part * PART, mat->rows,
                             stride / 4, 1,        dtype == WEIGHT_F32};
        rig_run(rig, &(struct dispatch){
                         .kernel = KERNEL_EMBED,
                         .binds = (struct vk_bind[]){heap_bind(rig, &heap), {.buf = table}, out},
                         .push = push,
                         .grid = {ceil_div(ceil_div(cols, 8), rig->lanes), ROWS, 1}});
    }
    words_check(&x, expected, NULL, "embed");
    free(expected);
    words_free(&x);
    vk_buffer_destroy(&table);
    heap_free(&heap);
}

/* ---------------------------------------------------------------- rmsnorm */

static void rmsnorm_test(struct rig *rig, uint32_t n, uint32_t rows, bool gather)
{
    uint32_t x_stride = (n + 3) / 4 * 4 + 8, x_col = 4, y_stride = n + 7, y_col = 3, weight = 8;
    float eps = 1e-6f;
    struct words x = words_make(rig, (rows + 2) * x_stride), y = words_make(rig, rows * y_stride);
    struct words w = words_make(rig, weight + (n + 3) / 4 * 4);
    uint32_t *from = calloc(rows + 3, 4);
    float *expected = copy_of(&y), *error = calloc(y.n, 4);
    double *row = malloc(8ull * n);
    CHECK(from && error && row);
    for (uint32_t i = 0; i < n; i++)
        w.v[weight + i] = rig_uniform(rig, 0.5f, 1.5f);
    for (uint32_t r = 0; r < rows; r++) {
        from[3 + r] = gather ? (r * 7 + 1) % (rows + 2) : r;
        for (uint32_t i = 0; i < n; i++)
            x.v[from[3 + r] * x_stride + x_col + i] = rig_uniform(rig, -2, 2);
    }
    for (uint32_t r = 0; r < rows; r++) {
        ref_rmsnorm(x.v + from[3 + r] * x_stride + x_col, w.v + weight, n, (double)eps, row);
        for (uint32_t i = 0; i < n; i++) {
            expected[r * y_stride + y_col + i] = (float)row[i];
            error[r * y_stride + y_col + i] = (float)(fabs(row[i]) * 2e-6 + 1e-12);
        }
    }
    struct vk_buffer *table = rig_table(rig, from, rows + 3);
    uint32_t push[12] = {n,          x_stride / 4,    x_col / 4, y_stride, y_col,
                         weight / 4, float_bits(eps), gather,    3};
    rig_run(
        rig,
        &(struct dispatch){
            .kernel = KERNEL_RMSNORM,
            .binds = (struct vk_bind[]){words_in(&x), words_in(&w), words_out(&y), {.buf = table}},
            .push = push,
            .grid = {rows, 1, 1}});
    words_check(&y, expected, error, "rmsnorm");
    free(from);
    free(expected);
    free(error);
    free(row);
    words_free(&x);
    words_free(&y);
    words_free(&w);
    vk_buffer_destroy(&table);
}

/* ------------------------------------------------------------------ quant */

// Rows of small, large and zero values.  A quotient that a device rounds otherwise may fall to the
// other side of a tie: then q is a step away, and q * s no further from x than half a step and a
// bit.
static void quant_test(struct rig *rig, uint32_t n, uint32_t rows, bool ue8m0)
{
    uint32_t groups = ceil_div(n, 128), stride = (n + 15) / 16 * 16, q_stride = stride + 4;
    struct words x = words_make(rig, rows * stride), q = words_make(rig, rows * q_stride);
    struct words s = words_make(rig, rows * (groups + 1));
    float *expected = copy_of(&q), *q_error = calloc(q.n, 4);
    float *scales = copy_of(&s), *s_error = calloc(s.n, 4);
    CHECK(q_error && s_error);
    for (uint32_t r = 0; r < rows; r++) {
        float size = r == 1 ? 1e-7f : r == 2 ? 1e4f : 1;
        for (uint32_t i = 0; i < stride; i++)
            x.v[r * stride + i] = i < n ? size * rig_uniform(rig, -1, 1) : 0;
        for (uint32_t g = 0; g < groups; g++) {
            uint32_t at = g * 128, left = n - at < 128 ? n - at : 128;
            float *scale = &scales[r * (groups + 1) + g];
            if (r == 0 && g == 0) { // every code and the values between
                for (uint32_t i = 0; i < left; i++)
                    x.v[i] = (float)i * 448 / 127;
            }
            ref_quant(x.v + r * stride + at, left, ue8m0, expected + r * q_stride + at, scale);
            s_error[r * (groups + 1) + g] = ue8m0 ? 0 : *scale * 3e-7f;
            for (uint32_t i = 0; i < (left + 3) / 4 * 4; i++) {
                float *e = &expected[r * q_stride + at + i];
                if (i >= left)
                    *e = 0; // whole vec4s are written
                float near = x.v[r * stride + at + i] / *scale;
                float step = ldexpf(1, (fabsf(near) >= 0.015625f ? ilogbf(near) : -6) - 3);
                float off = fabsf(fabsf(near - *e) - step / 2);
                q_error[r * q_stride + at + i] = off < step * 1e-4f ? step : 0;
            }
        }
    }
    uint32_t push[8] = {n, stride / 4, 0, q_stride / 4, groups + 1, ue8m0};
    rig_run(rig, &(struct dispatch){
                     .kernel = KERNEL_QUANT,
                     .binds = (struct vk_bind[]){words_in(&x), words_out(&q), words_out(&s)},
                     .push = push,
                     .grid = {ceil_div(groups, rig->lanes), rows, 1}});
    words_check(&s, scales, s_error, "quant, scales");
    words_check(&q, expected, q_error, "quant, values");
    free(expected);
    free(q_error);
    free(scales);
    free(s_error);
    words_free(&x);
    words_free(&q);
    words_free(&s);
}

/* ---------------------------------------------------------------- mlp_sum */

static void mlp_sum_test(struct rig *rig, uint32_t n)
{
    enum { ROWS = 3, PAIRS = 7, LIST0 = 6, PER_ROW = 4 };
    uint32_t in_stride = n + 8, x_stride = n + 4, table[LIST0 + 2 * ROWS * PER_ROW] = {0};
    struct words out = words_make(rig, PAIRS * in_stride), x = words_make(rig, ROWS * x_stride);
    struct words weights = words_make(rig, 12);
    for (uint32_t i = 0; i < out.n; i++)
        if (i % in_stride < n)
            out.v[i] = rig_uniform(rig, -1, 1);
    for (uint32_t i = 0; i < 12; i++)
        weights.v[i] = rig_uniform(rig, 0, 1);
    for (uint32_t i = 0; i < x.n; i++)
        if (i % x_stride < n)
            x.v[i] = rig_uniform(rig, -1, 1);
    float *expected = copy_of(&x), *error = calloc(x.n, 4);
    CHECK(error);
    for (uint32_t r = 0; r < ROWS; r++) { // row 2 has no pairs
        table[r * 2] = r * PER_ROW;
        table[r * 2 + 1] = r == 2 ? 0 : PER_ROW - r;
        double sum[64] = {0};
        for (uint32_t j = 0; j < table[r * 2 + 1]; j++) {
            uint32_t pair = (r * 3 + j * 2) % PAIRS, weight = j == 2 ? WEIGHT_NONE : r * 4 + j;
            table[LIST0 + (r * PER_ROW + j) * 2] = pair;
            table[LIST0 + (r * PER_ROW + j) * 2 + 1] = weight;
            for (uint32_t i = 0; i < n; i++)
                sum[i] += (weight == WEIGHT_NONE ? 1 : (double)weights.v[weight]) *
                          (double)out.v[pair * in_stride + i];
        }
        for (uint32_t i = 0; i < n; i++) {
            expected[r * x_stride + i] = (float)((double)x.v[r * x_stride + i] + sum[i]);
            error[r * x_stride + i] = 1e-6f;
        }
    }
    struct vk_buffer *buf = rig_table(rig, table, ARRAY_LEN(table));
    uint32_t push[12] = {n / 4, 0, LIST0, in_stride / 4, x_stride / 4};
    rig_run(rig, &(struct dispatch){.kernel = KERNEL_MLP_SUM,
                                    .binds = (struct vk_bind[]){words_in(&out),
                                                                words_in(&weights),
                                                                {.buf = buf},
                                                                words_inout(&x)},
                                    .push = push,
                                    .grid = {ceil_div(n / 4, rig->lanes), ROWS, 1}});
    words_check(&x, expected, error, "mlp_sum");
    free(expected);
    free(error);
    words_free(&out);
    words_free(&x);
    words_free(&weights);
    vk_buffer_destroy(&buf);
}

void test_rows(struct rig *rig)
{
    embed_test(rig, WEIGHT_BF16, 8);
    embed_test(rig, WEIGHT_BF16, 172);
    embed_test(rig, WEIGHT_F32, 100);
    rmsnorm_test(rig, 1, 1, false);
    rmsnorm_test(rig, 7, 3, false);
    rmsnorm_test(rig, 130, 4, true);
    rmsnorm_test(rig, 1536, 2, false);
    quant_test(rig, 128, 3, false);
    quant_test(rig, 72, 4, true);
    quant_test(rig, 128 * 9 + 44, 3, false);
    mlp_sum_test(rig, 4);
    mlp_sum_test(rig, 60);
}
