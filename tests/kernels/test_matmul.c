// SPDX-License-Identifier: MIT
// matmul, mlp_up, mlp_down: against ref_matmul.c for ragged shapes, every way of decoding, scales
// by tile and by row, activation scales, bias, residual; and the same bits whatever the tile.
#include "tests/kernels/ref.h"
#include "tests/kernels/suites.h"

#define ERROR_SHARE 2e-6 // of the sum of magnitudes: 30 roundings of f32
#define XROWS_MAX   11u
#define SHIFT_MAX   3u // words: a unit is four

struct tile {
    uint32_t rows, xrows;
};

struct shape {
    enum weight_dtype dtype;
    uint32_t rows[2], cols, srow0, xrows;
    bool scaled, row_scale, act_scale, bias, accumulate;
};

// cols: below a chunk, ragged, beyond one block, many blocks.  rows: ragged, beyond a tile.
static const struct shape shapes[] = {
    {WEIGHT_FP8, {1, 5}, 16, 0, 1, true, false, false, false, false},
    {WEIGHT_FP8, {7, 33}, 20, 0, 3, true, false, false, true, false},
    {WEIGHT_FP8, {129, 40}, 300, 0, 9, true, false, false, false, true},
    {WEIGHT_FP8, {64, 70}, 1040, 0, 2, true, false, false, false, false},
    {WEIGHT_FP8, {40, 100}, 144, 100, 11, true, true, false, false, false},
    {WEIGHT_FP8, {40, 17}, 272, 0, 5, true, false, true, false, false},
    {WEIGHT_FP8, {24, 9}, 48, 0, 4, false, false, false, false, false},
    {WEIGHT_BF16, {35, 64}, 136, 0, 7, false, false, false, true, true},
    {WEIGHT_BF16, {9, 1}, 1, 0, 1, false, false, false, false, false},
    {WEIGHT_F32, {33, 16}, 264, 0, 8, false, false, false, false, false},
};

// The tiles of graph.c and others: none may change a bit.
static uint32_t tiles_of(const struct rig *rig, struct tile *tiles)
{
    static const struct tile address[] = {{4, 1}, {16, 1}, {4, 4}, {1, 2}};
    static const struct tile lanes[] = {{4, 1}, {2, 1}, {1, 1}, {4, 2}, {4, 4}, {4, 8}, {1, 3}};
    if (!rig->texel) {
        memcpy(tiles, address, sizeof(address));
        return ARRAY_LEN(address);
    }
    for (uint32_t i = 0; i < ARRAY_LEN(lanes); i++)
        tiles[i] = (struct tile){lanes[i].rows * rig->lanes, lanes[i].xrows};
    return ARRAY_LEN(lanes);
}

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

/* ----------------------------------------------------------------- matmul */

// Two matrices of one dispatch that read different columns of x and write different columns of y.
struct matmul_case {
    const struct shape *shape;
    struct heap heap;
    struct words x, xs, y, vectors;
    uint32_t x_stride, y_stride, xs_stride, y_n;
    float *expected, *error;
};

static void case_inputs(struct rig *rig, struct matmul_case *c)
{
    const struct shape *shape = c->shape;
    uint32_t padded = (shape->cols + 15) / 16 * 16;
    c->x_stride = padded + 12 + padded; // matrix 1 starts 12 floats behind matrix 0's columns
    c->xs_stride = ceil_div(shape->cols, 128) + 1;
    c->x = words_make(rig, shape->xrows * c->x_stride);
    c->xs = words_make(rig, (shape->xrows * c->xs_stride + 3) / 4 * 4);
    c->vectors = words_make(rig, 256);
    for (uint32_t m = 0; m < shape->xrows; m++) {
        for (uint32_t k = 0; k < padded; k++)
            for (uint32_t i = 0; i < 2; i++)
                c->x.v[m * c->x_stride + i * (padded + 12) + k] =
                    k < shape->cols ? rig_uniform(rig, -1, 1) : 0;
        for (uint32_t b = 0; b < c->xs_stride; b++)
            c->xs.v[m * c->xs_stride + b] = rig_uniform(rig, 0.01f, 0.02f);
    }
    for (uint32_t i = 0; i < 256; i++)
        c->vectors.v[i] = rig_uniform(rig, -1, 1);

    c->heap = heap_make(1u << 16);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t at = heap_mat_add(rig, &c->heap, shape->dtype, shape->rows[i], shape->cols,
                                   shape->srow0, shape->scaled);
        c->heap.mats[at].x_col = i * (padded + 12);
        c->heap.mats[at].y_col = i * (shape->rows[0] + 3);
        c->heap.mats[at].bias = shape->bias && i == 0 ? 5 : WEIGHT_NONE;
    }
    heap_upload(rig, &c->heap);
}

static void case_expect(struct rig *rig, struct matmul_case *c)
{
    const struct shape *shape = c->shape;
    c->y_stride = shape->rows[0] + 3 + shape->rows[1] + 5;
    c->y_n = shape->xrows * c->y_stride;
    c->y = words_make(rig, c->y_n);
    c->expected = malloc(4ull * c->y_n);
    c->error = calloc(c->y_n, 4);
    CHECK(c->expected && c->error);
    memcpy(c->expected, c->y.v, 4ull * c->y_n);
    for (uint32_t i = 0; i < 2; i++)
        for (uint32_t m = 0; m < shape->xrows; m++)
            for (uint32_t r = 0; r < shape->rows[i]; r++) {
                const struct weight_mat *mat = &c->heap.mats[i];
                uint32_t at = m * c->y_stride + mat->y_col + r;
                double size, before = 0;
                double sum = ref_dot(&c->heap, i, r, c->x.v + m * c->x_stride + mat->x_col,
                                     shape->act_scale ? c->xs.v + m * c->xs_stride : NULL, &size);
                if (mat->bias != WEIGHT_NONE)
                    sum += (double)c->vectors.v[mat->bias + r];
                if (shape->accumulate) {
                    c->y.v[at] = rig_uniform(rig, -1, 1);
                    before = (double)c->y.v[at];
                }
                c->expected[at] = (float)(sum + before);
                c->error[at] = (float)((size + 2) * ERROR_SHARE);
            }
}

static void case_run(struct rig *rig, struct matmul_case *c, struct tile tile, uint32_t decode,
                     uint32_t shift)
{
    const struct shape *shape = c->shape;
    uint32_t rows = shape->rows[0] > shape->rows[1] ? shape->rows[0] : shape->rows[1];
    uint32_t spec[] = {tile.rows,        tile.xrows,       shape->dtype, decode,
                       shape->row_scale, shape->act_scale, shift};
    uint32_t push[16] = {
        0, 0, shape->xrows, c->x_stride / 4, c->y_stride, c->xs_stride, shape->accumulate};
    rig_run(rig, &(struct dispatch){
                     .kernel = KERNEL_MATMUL,
                     .spec = spec,
                     .spec_n = ARRAY_LEN(spec),
                     .binds = (struct vk_bind[]){heap_bind(rig, &c->heap),
                                                 {.buf = c->heap.mats_buf},
                                                 words_in(&c->x),
                                                 words_in(&c->xs),
                                                 words_inout(&c->y),
                                                 words_in(&c->vectors)},
                     .push = push,
                     .grid = {ceil_div(rows, tile.rows), ceil_div(shape->xrows, tile.xrows), 2}});
}

// The same weights wherever they start: the same bits.
static void case_shifts(struct rig *rig, struct matmul_case *c, const struct tile *tiles,
                        uint32_t tiles_n, const float *aligned)
{
    uint32_t decode = c->shape->dtype == WEIGHT_FP8 ? vk_device_limits(rig->dev)->e4m3 : 0;
    struct heap heap = c->heap;
    for (uint32_t shift = 1; shift <= SHIFT_MAX; shift++) {
        c->heap = heap_shifted(rig, &heap, shift);
        for (uint32_t i = 0; i < tiles_n; i++) {
            if (!c->shape->row_scale && c->shape->srow0 % tiles[i].rows != 0)
                continue;
            case_run(rig, c, tiles[i], decode, shift);
            words_check(&c->y, aligned, NULL, "matmul, another start");
        }
        heap_free(&c->heap);
    }
    c->heap = heap;
}

static void case_test(struct rig *rig, const struct shape *shape)
{
    struct matmul_case c = {.shape = shape};
    struct tile tiles[8];
    float *first = NULL;
    case_inputs(rig, &c);
    case_expect(rig, &c);
    uint32_t tiles_n = tiles_of(rig, tiles);
    uint32_t best = shape->dtype == WEIGHT_FP8 ? vk_device_limits(rig->dev)->e4m3 : 0;
    for (uint32_t i = 0; i <= tiles_n; i++) {
        // The last turn decodes by integers: the values are the same, and so are the sums.
        struct tile tile = tiles[i < tiles_n ? i : 0];
        if (shape->row_scale ? false : shape->srow0 % tile.rows != 0)
            continue;
        case_run(rig, &c, tile, i < tiles_n ? best : VK_E4M3_INTEGER, 0);
        if (!first)
            first = words_read(&c.y);
        words_check(&c.y, c.expected, c.error, "matmul against C");
        words_check(&c.y, first, NULL, "matmul, another tile");
    }
    case_shifts(rig, &c, tiles, tiles_n, first);
    free(first);
    free(c.expected);
    free(c.error);
    words_free(&c.x);
    words_free(&c.xs);
    words_free(&c.y);
    words_free(&c.vectors);
    heap_free(&c.heap);
}

void test_matmul(struct rig *rig)
{
    for (uint32_t i = 0; i < ARRAY_LEN(shapes); i++)
        case_test(rig, &shapes[i]);
}

/* -------------------------------------------------------------------- MLP */

// Four experts and shared experts twice as wide; pairs of 9 rows in tiles.
#define MLPS   5u
#define HIDDEN 72u
#define INTER  40u
#define ROWS   9u
#define PAIRS  29u

struct mlp_case {
    struct heap heap;
    enum weight_dtype dtype;
    bool act_scale;
    struct words x, xs, act, acts, out; // xs, acts: scales of x and of act
    uint32_t table[4 * PAIRS + PAIRS], tiles, pair_mlp[PAIRS], pair_row[PAIRS];
    struct vk_buffer *table_buf;
    uint32_t x_stride, act_stride, out_stride;
};

static uint32_t inter_of(uint32_t mlp)
{
    return mlp + 1 == MLPS ? 2 * INTER : INTER;
}

static void mlp_inputs(struct rig *rig, struct mlp_case *c)
{
    c->x_stride = (HIDDEN + 15) / 16 * 16 + 4;
    c->act_stride = (2 * INTER + 15) / 16 * 16;
    c->out_stride = HIDDEN + 1;
    c->x = words_make(rig, ROWS * c->x_stride);
    c->xs = words_make(rig, (ROWS + 3) / 4 * 4);
    c->act = words_make(rig, PAIRS * c->act_stride);
    c->acts = words_make(rig, (PAIRS + 3) / 4 * 4);
    c->out = words_make(rig, PAIRS * c->out_stride);
    for (uint32_t i = 0; i < c->x.n; i++)
        c->x.v[i] = i % c->x_stride < HIDDEN ? rig_uniform(rig, -1, 1) : 0;
    for (uint32_t i = 0; i < c->xs.n; i++)
        c->xs.v[i] = rig_uniform(rig, 0.5f, 1.5f);
    for (uint32_t i = 0; i < c->acts.n; i++)
        c->acts.v[i] = rig_uniform(rig, 0.5f, 1.5f);
    c->heap = heap_make(1u << 14);
    bool scaled = c->dtype == WEIGHT_FP8;
    for (uint32_t i = 0; i < MLPS; i++) {
        uint32_t gate = heap_mat_add(rig, &c->heap, c->dtype, inter_of(i), HIDDEN, 0, scaled);
        c->heap.mats[gate].up =
            heap_mat_add(rig, &c->heap, c->dtype, inter_of(i), HIDDEN, 0, scaled);
        c->heap.mats[gate].down =
            heap_mat_add(rig, &c->heap, c->dtype, HIDDEN, inter_of(i), 0, scaled);
    }
    heap_upload(rig, &c->heap);
}

static void mlp_table(struct rig *rig, struct mlp_case *c, uint32_t xrows)
{
    static const uint32_t pairs_of[MLPS] = {1, 10, 0, 9, 9};
    uint32_t pair = 0;
    c->tiles = 0;
    for (uint32_t i = 0; i < MLPS; i++)
        for (uint32_t p = 0; p < pairs_of[i]; p += xrows) {
            uint32_t left = pairs_of[i] - p, n = left < xrows ? left : xrows;
            memcpy(c->table + 4 * c->tiles++, (uint32_t[4]){i * 3, pair, n, 0}, 16);
            for (uint32_t j = 0; j < n; j++, pair++) {
                c->pair_mlp[pair] = i;
                c->pair_row[pair] = c->table[4 * PAIRS + pair] = (pair * 5 + i) % ROWS;
            }
        }
    CHECK(pair == PAIRS);
    vk_buffer_destroy(&c->table_buf);
    c->table_buf = rig_table(rig, c->table, ARRAY_LEN(c->table));
}

static void mlp_up_run(struct rig *rig, struct mlp_case *c, const uint32_t *spec)
{
    uint32_t push[16] = {0, 0, 4 * PAIRS, c->x_stride / 4, c->act_stride, 1, WEIGHT_NONE};
    rig_run(rig, &(struct dispatch){.kernel = KERNEL_MLP_UP,
                                    .spec = spec,
                                    .spec_n = 7,
                                    .binds = (struct vk_bind[]){heap_bind(rig, &c->heap),
                                                                {.buf = c->heap.mats_buf},
                                                                words_in(&c->x),
                                                                words_in(&c->xs),
                                                                {.buf = c->table_buf},
                                                                words_inout(&c->act)},
                                    .push = push,
                                    .grid = {ceil_div(2 * INTER, spec[0]), c->tiles, 1}});
}

static void mlp_up_check(struct mlp_case *c)
{
    float *expected = malloc(4ull * c->act.n), *error = calloc(c->act.n, 4);
    CHECK(expected && error);
    memcpy(expected, c->act.v, 4ull * c->act.n);
    for (uint32_t p = 0; p < PAIRS; p++)
        for (uint32_t r = 0; r < inter_of(c->pair_mlp[p]); r++) {
            uint32_t mat = c->pair_mlp[p] * 3, at = p * c->act_stride + r;
            const float *x = c->x.v + c->pair_row[p] * c->x_stride;
            const float *xs = c->act_scale ? c->xs.v + c->pair_row[p] : NULL;
            double gate_size, up_size;
            double gate = ref_dot(&c->heap, mat, r, x, xs, &gate_size);
            double up = ref_dot(&c->heap, mat + 1, r, x, xs, &up_size);
            expected[at] = (float)ref_silu_mul(gate, up);
            error[at] = (float)((gate_size + 1) * (up_size + 1) * 4 * ERROR_SHARE);
        }
    words_check(&c->act, expected, error, "mlp_up against C");
    free(expected);
    free(error);
}

static void mlp_down_run(struct rig *rig, struct mlp_case *c, const struct words *act,
                         const uint32_t *spec)
{
    uint32_t push[16] = {0, 0, c->act_stride / 4, c->out_stride, 1, WEIGHT_NONE};
    rig_run(rig, &(struct dispatch){.kernel = KERNEL_MLP_DOWN,
                                    .spec = spec,
                                    .spec_n = 7,
                                    .binds = (struct vk_bind[]){heap_bind(rig, &c->heap),
                                                                {.buf = c->heap.mats_buf},
                                                                words_in(act),
                                                                words_in(&c->acts),
                                                                {.buf = c->table_buf},
                                                                words_inout(&c->out)},
                                    .push = push,
                                    .grid = {ceil_div(HIDDEN, spec[0]), c->tiles, 1}});
}

static void mlp_down_check(struct mlp_case *c, const struct words *act)
{
    float *expected = malloc(4ull * c->out.n), *error = calloc(c->out.n, 4);
    CHECK(expected && error);
    memcpy(expected, c->out.v, 4ull * c->out.n);
    for (uint32_t p = 0; p < PAIRS; p++)
        for (uint32_t r = 0; r < HIDDEN; r++) {
            double size,
                sum = ref_dot(&c->heap, c->pair_mlp[p] * 3 + 2, r, act->v + p * c->act_stride,
                              c->act_scale ? c->acts.v + p : NULL, &size);
            expected[p * c->out_stride + r] = (float)sum;
            error[p * c->out_stride + r] = (float)((size + 1) * ERROR_SHARE);
        }
    words_check(&c->out, expected, error, "mlp_down against C");
    free(expected);
    free(error);
}

// act rows as mlp_down reads them: random, zeros up to a whole chunk, canaries behind.
static struct words act_rows(struct rig *rig, const struct mlp_case *c)
{
    struct words act = words_make(rig, PAIRS * c->act_stride);
    for (uint32_t p = 0; p < PAIRS; p++)
        for (uint32_t k = 0; k < (inter_of(c->pair_mlp[p]) + 15) / 16 * 16; k++)
            act.v[p * c->act_stride + k] =
                k < inter_of(c->pair_mlp[p]) ? rig_uniform(rig, -1, 1) : 0;
    return act;
}

// The same weights in other places: the same bits.
static void mlp_shift(struct rig *rig, struct mlp_case *c, const struct words *act,
                      const uint32_t *aligned, uint32_t shift)
{
    uint32_t spec[7];
    struct heap heap = c->heap;
    memcpy(spec, aligned, sizeof(spec));
    spec[6] = shift;
    c->heap = heap_shifted(rig, &heap, shift);
    mlp_up_run(rig, c, spec);
    mlp_down_run(rig, c, act, spec);
    heap_free(&c->heap);
    c->heap = heap;
}

static void mlp_test(struct rig *rig, enum weight_dtype dtype, bool act_scale)
{
    struct mlp_case c = {.dtype = dtype, .act_scale = act_scale};
    struct tile tiles[8];
    struct words act = {0};
    float *up_first = NULL, *down_first = NULL;
    mlp_inputs(rig, &c);
    uint32_t tiles_n = tiles_of(rig, tiles);
    uint32_t decode = dtype == WEIGHT_FP8 ? vk_device_limits(rig->dev)->e4m3 : 0;
    for (uint32_t i = 0; i < tiles_n; i++) {
        uint32_t spec[] = {tiles[i].rows, tiles[i].xrows, dtype, decode, 0, act_scale, 0};
        mlp_table(rig, &c, tiles[i].xrows);
        if (!act.buf)
            act = act_rows(rig, &c);
        mlp_up_run(rig, &c, spec);
        mlp_up_check(&c);
        mlp_down_run(rig, &c, &act, spec);
        mlp_down_check(&c, &act);
        if (!up_first) {
            up_first = words_read(&c.act);
            down_first = words_read(&c.out);
        }
        words_check(&c.act, up_first, NULL, "mlp_up, another tile");
        words_check(&c.out, down_first, NULL, "mlp_down, another tile");
        for (uint32_t shift = 1; shift <= SHIFT_MAX; shift++) {
            mlp_shift(rig, &c, &act, spec, shift);
            words_check(&c.act, up_first, NULL, "mlp_up, another start");
            words_check(&c.out, down_first, NULL, "mlp_down, another start");
        }
    }
    free(up_first);
    free(down_first);
    words_free(&act);
    words_free(&c.x);
    words_free(&c.xs);
    words_free(&c.act);
    words_free(&c.acts);
    words_free(&c.out);
    vk_buffer_destroy(&c.table_buf);
    heap_free(&c.heap);
}

void test_mlp(struct rig *rig)
{
    mlp_test(rig, WEIGHT_FP8, false);
    mlp_test(rig, WEIGHT_FP8, true);
    mlp_test(rig, WEIGHT_BF16, false);
}
