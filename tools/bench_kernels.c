// SPDX-License-Identifier: MIT
// bench-kernels gemv|gemm|experts [--device NAME] [--path texel|address] [--tile ROWSxCOLUMNS]:
// speed of the matrix kernels beside what the device can do at all: reading memory, and f32 fma in
// registers, measured in the same run, turn by turn, medians of all.  One JSON object a line;
// "cpus" says how many CPUs a device that is one got meanwhile, for these machines are shared;
// "shifted" how fast the same kernel is for matrices 8 bytes behind a unit, as most of a released
// checkpoint are in its files.
//
// The matrices are of the released models (2048x7168) and of bench-800m, FP8 with 128x128 scales or
// BF16, filled with numbers of a normal distribution.  So much of them is gone through in one
// submission that they do not stay in the caches.
#include "base/clock.h"
#include "model/tile.h"
#include "model/weights.h"
#include "vk/cmd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS        9u
#define STREAM_BYTES  (128ull << 20) // what a submission of matrix times vector reads: beyond caches
#define PEAK_UNITS    4096u          // 16-byte units a workgroup of peak_read takes: 64 KiB
#define PEAK_ROUNDS   2000u
#define PEAK_FMAS     128u // a lane and round of peak_fma
#define PEAK_GROUPS   256u
#define MATS_MAX      1024u
#define PAIRS_MAX     512u
#define EXPERTS       64u
#define EXPERTS_TOKEN 6u

enum what { WHAT_GEMV, WHAT_GEMM, WHAT_EXPERTS };

// rows: of x.  reference: what the project wants on lavapipe with two CPUs, 0: nothing named.
static const struct bench {
    enum what what;
    enum weight_dtype dtype;
    uint32_t n, k, rows;
    double reference;
} benches[] = {
    {WHAT_GEMV, WEIGHT_FP8, 2048, 7168, 1, 8},    {WHAT_GEMV, WEIGHT_FP8, 7168, 2048, 1, 8},
    {WHAT_GEMV, WEIGHT_FP8, 2048, 1024, 1, 0},    {WHAT_GEMV, WEIGHT_BF16, 2048, 7168, 1, 0},
    {WHAT_GEMM, WEIGHT_FP8, 2048, 7168, 32, 35},  {WHAT_GEMM, WEIGHT_FP8, 2048, 1024, 32, 0},
    {WHAT_GEMM, WEIGHT_FP8, 2048, 7168, 4, 0},    {WHAT_GEMM, WEIGHT_BF16, 2048, 7168, 32, 0},
    {WHAT_EXPERTS, WEIGHT_FP8, 512, 1024, 1, 0},  {WHAT_EXPERTS, WEIGHT_FP8, 512, 1024, 8, 0},
    {WHAT_EXPERTS, WEIGHT_FP8, 512, 1024, 64, 0},
};

static const char *const what_name[] = {
    [WHAT_GEMV] = "gemv", [WHAT_GEMM] = "gemm", [WHAT_EXPERTS] = "experts"};
static const char *const format_name[] = {
    [WEIGHT_FP8] = "fp8", [WEIGHT_BF16] = "bf16", [WEIGHT_F32] = "f32"};

// Everything on the device that one bench needs.
struct rig {
    struct vk_device *dev;
    struct vk_cmd *cmd;
    struct vk_buffer *heap, *heap_table, *mats_buf, *x, *act, *y, *table, *sums;
    struct weight_mat mats[MATS_MAX];
    uint32_t mats_n;
    uint64_t heap_bytes;
    struct tile tile;
    uint32_t shift;            // words that matrices are taken to start behind their units
    uint32_t tiles_n, pairs_n; // experts
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench-kernels: %s\n", what);
    exit(1);
}

static void *allocate(size_t bytes)
{
    void *p = calloc(1, bytes);
    if (!p)
        die("out of memory");
    return p;
}

static struct vk_buffer *buffer(struct vk_device *dev, uint64_t bytes, const char *name)
{
    struct vk_buffer *buf;
    struct fault fault;
    struct vk_buffer_params params = {.bytes = bytes, .memory = VK_MEMORY_DEVICE, .name = name};
    if (vk_buffer_create(dev, &params, &buf, &fault))
        die(fault.text);
    return buf;
}

static void write_all(struct vk_buffer *buf, const void *src, uint64_t bytes)
{
    struct fault fault;
    if (vk_buffer_write(buf, 0, src, bytes, &fault))
        die(fault.text);
}

/* ------------------------------------------------------------------- data */

static uint32_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*state >> 33);
}

static double normal_next(uint64_t *state)
{
    double u = ((double)random_next(state) + 1) / 2147483649.0;
    double v = (double)random_next(state) / 2147483648.0;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static uint8_t e4m3_nearest(double value)
{
    double best = 1e9;
    uint8_t code = 0;
    for (uint32_t i = 0; i < 0x7f; i++) {
        double v = i >> 3 ? ldexp(1 + (i & 7) / 8.0, (int)(i >> 3) - 7) : ldexp(i & 7, -9);
        if (fabs(v - fabs(value)) < best) {
            best = fabs(v - fabs(value));
            code = (uint8_t)i;
        }
    }
    return (uint8_t)(code | (value < 0 ? 0x80 : 0));
}

// 4096 draws of the distribution, shuffled into every matrix: a weight of four sigma is code 448.
static void weights_fill(uint8_t *bytes, uint64_t n, enum weight_dtype dtype)
{
    uint64_t state = 1;
    uint8_t fp8[4096];
    uint16_t bf16[4096];
    for (uint32_t i = 0; i < 4096; i++) {
        double v = normal_next(&state);
        float f = (float)(v / 32);
        uint32_t bits;
        memcpy(&bits, &f, 4);
        fp8[i] = e4m3_nearest(fmin(fmax(v * 112, -448), 448));
        bf16[i] = (uint16_t)(bits >> 16);
    }
    for (uint64_t i = 0; i < n; i++)
        if (dtype == WEIGHT_FP8)
            bytes[i] = fp8[random_next(&state) & 4095];
        else if (i % 2 == 0)
            memcpy(bytes + i, &bf16[random_next(&state) & 4095], 2);
}

static uint32_t format_bytes(enum weight_dtype dtype)
{
    return dtype == WEIGHT_FP8 ? 1 : dtype == WEIGHT_BF16 ? 2 : 4;
}

// Places one more matrix behind *units 16-byte units of weights.
static void mat_place(struct rig *rig, const struct bench *b, uint32_t rows, uint32_t cols,
                      uint64_t *units)
{
    if (rig->mats_n == MATS_MAX)
        die("too many matrices");
    uint32_t k16 = cols * format_bytes(b->dtype) / 16;
    rig->mats[rig->mats_n++] =
        (struct weight_mat){.w16 = (uint32_t)*units,
                            .rows = rows,
                            .cols = cols,
                            .k16 = k16,
                            .bias = WEIGHT_NONE,
                            .scols = b->dtype == WEIGHT_FP8 ? (cols + 127) / 128 : 0,
                            .dtype = b->dtype};
    *units += (uint64_t)rows * k16;
}

static void mats_place(struct rig *rig, const struct bench *b, uint64_t *units)
{
    if (b->what == WHAT_EXPERTS) {
        for (uint32_t e = 0; e < EXPERTS; e++) {
            mat_place(rig, b, b->n, b->k, units);
            mat_place(rig, b, b->n, b->k, units);
            mat_place(rig, b, b->k, b->n, units);
            rig->mats[e * 3].up = e * 3 + 1;
            rig->mats[e * 3].down = e * 3 + 2;
        }
        return;
    }
    uint64_t bytes = (uint64_t)b->n * b->k * format_bytes(b->dtype);
    uint64_t copies = b->rows == 1 ? STREAM_BYTES / bytes : 1;
    for (uint64_t i = 0; i < copies; i++)
        mat_place(rig, b, b->n, b->k, units);
}

// Weights of all matrices, then one grid of scales that all share.
static void heap_make(struct rig *rig, const struct bench *b)
{
    uint64_t units = 0, scales = (uint64_t)(b->n / 128 + 1) * (b->k / 128 + 1) + 128;
    mats_place(rig, b, &units);
    rig->heap_bytes = units * 16;
    uint64_t bytes = rig->heap_bytes + scales * 4;
    uint8_t *host = allocate(bytes);
    weights_fill(host, rig->heap_bytes, b->dtype);
    for (uint64_t i = 0; i < scales; i++) {
        float scale = 1.0f / 4096 + (float)(i % 7) / 65536;
        memcpy(host + rig->heap_bytes + i * 4, &scale, 4);
    }
    for (uint32_t i = 0; i < rig->mats_n; i++)
        rig->mats[i].s4 = (uint32_t)(rig->heap_bytes / 4);
    rig->heap = buffer(rig->dev, bytes, "heap");
    write_all(rig->heap, host, bytes);
    free(host);
    uint64_t address = vk_buffer_address(rig->heap);
    rig->heap_table = buffer(rig->dev, 16, "heap table");
    write_all(rig->heap_table, &address, sizeof(address));
    rig->mats_buf = buffer(rig->dev, sizeof(rig->mats[0]) * rig->mats_n, "matrices");
    write_all(rig->mats_buf, rig->mats, sizeof(rig->mats[0]) * rig->mats_n);
}

// Experts: every row goes to EXPERTS_TOKEN experts; tiles of the pairs of each, as graph.c makes.
static void table_make(struct rig *rig, const struct bench *b)
{
    uint32_t *table = allocate(4 * (4 * PAIRS_MAX + PAIRS_MAX));
    uint32_t *pair_rows = table + 4 * PAIRS_MAX;
    rig->tiles_n = rig->pairs_n = 0;
    for (uint32_t e = 0; e < EXPERTS; e++) {
        uint32_t first = rig->pairs_n;
        for (uint32_t row = 0; row < b->rows; row++)
            for (uint32_t i = 0; i < EXPERTS_TOKEN; i++)
                if ((row * 29 + i * 11) % EXPERTS == e)
                    pair_rows[rig->pairs_n++] = row;
        for (uint32_t p = first; p < rig->pairs_n; p += rig->tile.xrows) {
            uint32_t left = rig->pairs_n - p;
            uint32_t tile[4] = {e * 3, p, left < rig->tile.xrows ? left : rig->tile.xrows, 0};
            memcpy(table + 4 * rig->tiles_n++, tile, sizeof(tile));
        }
    }
    rig->table = buffer(rig->dev, 4ull * (4 * PAIRS_MAX + PAIRS_MAX), "table");
    write_all(rig->table, table, 4ull * (4 * PAIRS_MAX + PAIRS_MAX));
    free(table);
}

static void rig_make(struct rig *rig, const struct bench *b)
{
    uint64_t rows = b->what == WHAT_EXPERTS ? (uint64_t)b->rows * EXPERTS_TOKEN : b->rows;
    uint64_t wide = b->n > b->k ? b->n : b->k;
    heap_make(rig, b);
    float *x = allocate(4 * rows * b->k);
    for (uint64_t i = 0; i < rows * b->k; i++)
        x[i] = sinf((float)i * 0.37f);
    rig->x = buffer(rig->dev, 4 * rows * b->k, "x");
    write_all(rig->x, x, 4 * rows * b->k);
    free(x);
    rig->act = buffer(rig->dev, 4 * rows * wide, "activations");
    rig->y = buffer(rig->dev, 4 * rows * wide, "y");
    rig->sums = buffer(rig->dev, 4 * (rig->heap_bytes / PEAK_UNITS / 16 + PEAK_GROUPS), "sums");
    if (b->what == WHAT_EXPERTS)
        table_make(rig, b);
}

static void rig_free(struct rig *rig)
{
    vk_buffer_destroy(&rig->heap);
    vk_buffer_destroy(&rig->heap_table);
    vk_buffer_destroy(&rig->mats_buf);
    vk_buffer_destroy(&rig->x);
    vk_buffer_destroy(&rig->act);
    vk_buffer_destroy(&rig->y);
    vk_buffer_destroy(&rig->table);
    vk_buffer_destroy(&rig->sums);
    rig->mats_n = 0;
}

/* -------------------------------------------------------------- recording */

static struct vk_bind whole(struct vk_buffer *buf)
{
    return (struct vk_bind){.buf = buf};
}

static struct vk_bind heap_bind(const struct rig *rig)
{
    return whole(vk_device_path(rig->dev) == VK_PATH_TEXEL ? rig->heap : rig->heap_table);
}

static struct vk_pipeline *pipeline(struct rig *rig, enum kernel kernel, enum weight_dtype dtype)
{
    const struct vk_limits *limits = vk_device_limits(rig->dev);
    uint32_t spec[] = {limits->subgroup,
                       rig->tile.rows,
                       rig->tile.xrows,
                       dtype,
                       dtype == WEIGHT_FP8 ? limits->e4m3 : 0,
                       0,
                       0,
                       rig->shift};
    struct vk_pipeline *pipe;
    struct fault fault;
    bool plain = kernel == KERNEL_PEAK_READ || kernel == KERNEL_PEAK_FMA;
    if (vk_pipeline_get(rig->dev, kernel, spec, plain ? 1 : sizeof(spec) / 4, &pipe, &fault))
        die(fault.text);
    return pipe;
}

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

// One matrix after the other, as the layers of a model would be.
static void record_matmuls(struct rig *rig, const struct bench *b)
{
    struct vk_pipeline *pipe = pipeline(rig, KERNEL_MATMUL, b->dtype);
    for (uint32_t i = 0; i < rig->mats_n; i++) {
        uint32_t push[16] = {i, 0, b->rows, b->k / 4, b->n};
        vk_cmd_dispatch(
            rig->cmd, pipe,
            (struct vk_bind[]){
                heap_bind(rig), whole(rig->mats_buf), whole(rig->x), {0}, whole(rig->y), {0}},
            push, ceil_div(b->n, rig->tile.rows), ceil_div(b->rows, rig->tile.xrows), 1);
        vk_cmd_barrier(rig->cmd);
    }
}

static void record_experts(struct rig *rig, const struct bench *b)
{
    uint32_t up[16] = {0, 0, 4 * PAIRS_MAX, b->k / 4, b->n, 0, UINT32_MAX};
    vk_cmd_dispatch(rig->cmd, pipeline(rig, KERNEL_MLP_UP, b->dtype),
                    (struct vk_bind[]){heap_bind(rig),
                                       whole(rig->mats_buf),
                                       whole(rig->x),
                                       {0},
                                       whole(rig->table),
                                       whole(rig->act)},
                    up, ceil_div(b->n, rig->tile.rows), rig->tiles_n, 1);
    vk_cmd_barrier(rig->cmd);
    uint32_t down[16] = {0, 0, b->n / 4, b->k, 0, UINT32_MAX};
    vk_cmd_dispatch(rig->cmd, pipeline(rig, KERNEL_MLP_DOWN, b->dtype),
                    (struct vk_bind[]){heap_bind(rig),
                                       whole(rig->mats_buf),
                                       whole(rig->act),
                                       {0},
                                       whole(rig->table),
                                       whole(rig->y)},
                    down, ceil_div(b->k, rig->tile.rows), rig->tiles_n, 1);
    vk_cmd_barrier(rig->cmd);
}

static void record_peak_read(struct rig *rig)
{
    vk_cmd_dispatch(rig->cmd, pipeline(rig, KERNEL_PEAK_READ, WEIGHT_FP8),
                    (struct vk_bind[]){heap_bind(rig), whole(rig->sums)}, (uint32_t[4]){PEAK_UNITS},
                    (uint32_t)(rig->heap_bytes / 16 / PEAK_UNITS), 1, 1);
}

static void record_peak_fma(struct rig *rig)
{
    float factor = 0.999f, addend = 0.001f;
    uint32_t push[4] = {PEAK_ROUNDS};
    memcpy(&push[1], &factor, 4);
    memcpy(&push[2], &addend, 4);
    vk_cmd_dispatch(rig->cmd, pipeline(rig, KERNEL_PEAK_FMA, WEIGHT_FP8),
                    (struct vk_bind[]){whole(rig->sums)}, push, PEAK_GROUPS, 1, 1);
}

// CPU time of this process, which on lavapipe is the device's.
static uint64_t cpu_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

enum turn { TURN_KERNEL, TURN_SHIFTED, TURN_READ, TURN_FMA, TURN_COUNT };

static double turn_seconds(struct rig *rig, const struct bench *b, enum turn turn,
                           double *cpu_seconds)
{
    uint64_t value;
    struct fault fault;
    if (vk_cmd_begin(rig->cmd))
        die("cannot record");
    rig->shift = turn == TURN_SHIFTED ? 2 : 0;
    if (turn == TURN_READ)
        record_peak_read(rig);
    else if (turn == TURN_FMA)
        record_peak_fma(rig);
    else if (b->what == WHAT_EXPERTS)
        record_experts(rig, b);
    else
        record_matmuls(rig, b);
    vk_cmd_barrier(rig->cmd);
    uint64_t from = clock_us(), cpu_from = cpu_us();
    if (vk_cmd_submit(rig->cmd, &value, &fault) ||
        vk_wait(rig->dev, value, 600000000000ull, &fault))
        die(fault.text);
    *cpu_seconds += (double)(cpu_us() - cpu_from) / 1e6;
    return (double)(clock_us() - from) / 1e6;
}

/* ---------------------------------------------------------------- figures */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench_print(const struct rig *rig, const struct bench *b, const double *seconds,
                        double cpus)
{
    double mats = b->what == WHAT_EXPERTS ? 3.0 * rig->pairs_n : (double)rig->mats_n * b->rows;
    double flops = 2.0 * b->n * b->k * mats;
    double bytes = (double)b->n * b->k * format_bytes(b->dtype) *
                   (b->what == WHAT_EXPERTS ? 3.0 * EXPERTS_TOKEN : (double)rig->mats_n);
    double read = (double)rig->heap_bytes / seconds[TURN_READ] / 1e9;
    double fma = 2.0 * PEAK_FMAS * PEAK_ROUNDS * PEAK_GROUPS *
                 vk_device_limits(rig->dev)->subgroup / seconds[TURN_FMA] / 1e9;
    bool stream = b->rows == 1;
    double value = (stream ? bytes : flops) / seconds[TURN_KERNEL] / 1e9;
    double peak = stream ? read : fma;
    printf("{\"name\": \"%s %s %ux%u", what_name[b->what], format_name[b->dtype], b->n, b->k);
    printf(b->rows == 1 ? "\"" : ", %u rows\"", b->rows);
    printf(", \"value\": %.4g, \"unit\": \"%s\"", value, stream ? "GB/s" : "GFLOP/s");
    if (b->reference > 0)
        printf(", \"reference\": %g, \"ratio\": %.3g", b->reference, value / b->reference);
    printf(", \"peak\": %.4g, \"share\": %.2g", peak, value / peak);
    printf(", \"shifted\": %.3g", seconds[TURN_KERNEL] / seconds[TURN_SHIFTED]);
    if (vk_device_limits(rig->dev)->is_cpu)
        printf(", \"cpus\": %.2f", cpus);
    printf(", \"conditions\": \"%s, %ld CPUs, %s path, tile %ux%u\"}\n",
           vk_device_limits(rig->dev)->name, sysconf(_SC_NPROCESSORS_ONLN),
           vk_path_name[vk_device_path(rig->dev)], rig->tile.rows, rig->tile.xrows);
    fflush(stdout);
}

static void bench_run(struct rig *rig, const struct bench *b, struct tile fixed)
{
    double seconds[TURN_COUNT][ROUNDS], middle[TURN_COUNT], cpu = 0, wall = 0, ignored = 0;
    uint32_t k16 = b->k * format_bytes(b->dtype) / 16;
    uint32_t xrows =
        b->what == WHAT_EXPERTS ? (b->rows * EXPERTS_TOKEN + EXPERTS - 1) / EXPERTS : b->rows;
    rig->tile = tile_for(rig->dev, k16, xrows);
    if (fixed.rows)
        rig->tile = fixed;
    rig_make(rig, b);
    for (enum turn turn = 0; turn < TURN_COUNT; turn++)
        turn_seconds(rig, b, turn, &ignored); // compiles, touches every page
    for (uint32_t round = 0; round < ROUNDS; round++)
        for (enum turn turn = 0; turn < TURN_COUNT; turn++)
            seconds[turn][round] =
                turn_seconds(rig, b, turn, turn == TURN_KERNEL ? &cpu : &ignored);
    for (uint32_t round = 0; round < ROUNDS; round++)
        wall += seconds[TURN_KERNEL][round];
    for (enum turn turn = 0; turn < TURN_COUNT; turn++) {
        qsort(seconds[turn], ROUNDS, sizeof(seconds[turn][0]), by_value);
        middle[turn] = seconds[turn][ROUNDS / 2];
    }
    bench_print(rig, b, middle, cpu / wall);
    rig_free(rig);
}

int main(int argc, char **argv)
{
    struct vk_device_params params = {.select = "auto", .path = -1};
    struct tile tile = {0, 0};
    struct rig *rig = allocate(sizeof(*rig));
    struct fault fault;
    const char *name = argc > 1 ? argv[1] : "";
    for (int i = 2; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--device"))
            params.select = argv[i + 1];
        else if (!strcmp(argv[i], "--path"))
            params.path = strcmp(argv[i + 1], "address") ? VK_PATH_TEXEL : VK_PATH_ADDRESS;
        else if (strcmp(argv[i], "--tile") ||
                 sscanf(argv[i + 1], "%ux%u", &tile.rows, &tile.xrows) != 2)
            die("options: --device NAME, --path texel|address, --tile ROWSxCOLUMNS");
    }
    if (vk_device_open(&params, &rig->dev, &fault) || vk_cmd_create(rig->dev, &rig->cmd, &fault))
        die(fault.text);
    bool known = false;
    for (size_t i = 0; i < sizeof(benches) / sizeof(benches[0]); i++)
        if (!strcmp(name, what_name[benches[i].what])) {
            bench_run(rig, &benches[i], tile);
            known = true;
        }
    vk_cmd_destroy(&rig->cmd);
    vk_device_close(&rig->dev);
    free(rig);
    if (!known)
        die("NAME is gemv, gemm or experts");
    return 0;
}
