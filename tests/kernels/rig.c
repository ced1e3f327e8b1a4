// SPDX-License-Identifier: MIT
#include "tests/kernels/rig.h"

#include <math.h>

#define GUARD_BYTES 256u // in front of and behind an output; any device's offset alignment
#define GUARD_WORDS (GUARD_BYTES / 4)
#define WAIT_NS     600000000000ull

static void check_done(int err, const struct fault *fault)
{
    if (err)
        fprintf(stderr, "%s\n", fault->text);
    CHECK(!err);
}

/* ----------------------------------------------------------------- device */

void rig_open(struct rig *rig, enum vk_path path, bool validate)
{
    struct fault fault;
    struct vk_device_params params = {.select = "auto", .validate = validate, .path = (int)path};
    *rig = (struct rig){.seed = 0x9e3779b97f4a7c15ull};
    int err = vk_device_open(&params, &rig->dev, &fault);
    if (err) {
        printf("skipped: %s\n", fault.text);
        exit(TEST_SKIPPED);
    }
    check_done(vk_cmd_create(rig->dev, &rig->cmd, &fault), &fault);
    rig->lanes = vk_device_limits(rig->dev)->subgroup;
    rig->texel = path == VK_PATH_TEXEL;
}

void rig_close(struct rig *rig)
{
    vk_cmd_destroy(&rig->cmd);
    uint32_t messages = vk_device_messages(rig->dev);
    vk_device_close(&rig->dev);
    CHECK(messages == 0);
}

float rig_uniform(struct rig *rig, float from, float to)
{
    return from + (to - from) * (float)(check_random(&rig->seed) >> 40) / 16777216.0f;
}

uint32_t rig_below(struct rig *rig, uint32_t n)
{
    return (uint32_t)(check_random(&rig->seed) >> 33) % n;
}

void rig_run(struct rig *rig, const struct dispatch *d)
{
    struct vk_pipeline *pipe;
    struct fault fault;
    uint64_t value;
    uint32_t spec[VK_SPEC_MAX] = {rig->lanes};
    CHECK(d->spec_n + 1 <= VK_SPEC_MAX);
    rig->ran[d->kernel] = true;
    for (uint32_t i = 0; i < d->spec_n; i++)
        spec[i + 1] = d->spec[i];
    check_done(vk_pipeline_get(rig->dev, d->kernel, spec, d->spec_n + 1, &pipe, &fault), &fault);
    CHECK(!vk_cmd_begin(rig->cmd));
    vk_cmd_dispatch(rig->cmd, pipe, d->binds, d->push, d->grid[0], d->grid[1], d->grid[2]);
    vk_cmd_barrier(rig->cmd);
    check_done(vk_cmd_submit(rig->cmd, &value, &fault), &fault);
    check_done(vk_wait(rig->dev, value, WAIT_NS, &fault), &fault);
}

/* ---------------------------------------------------------------- buffers */

static struct vk_buffer *buffer_make(struct rig *rig, uint64_t bytes, const char *name)
{
    struct vk_buffer *buf;
    struct fault fault;
    struct vk_buffer_params params = {.bytes = bytes, .memory = VK_MEMORY_DEVICE, .name = name};
    check_done(vk_buffer_create(rig->dev, &params, &buf, &fault), &fault);
    return buf;
}

static void buffer_fill(struct vk_buffer *buf, uint64_t off, const void *src, uint64_t bytes)
{
    struct fault fault;
    check_done(vk_buffer_write(buf, off, src, bytes, &fault), &fault);
}

bool is_canary(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return bits == RIG_CANARY;
}

static float *canaries(uint32_t n)
{
    float *v = malloc(4ull * n);
    CHECK(v);
    for (uint32_t i = 0; i < n; i++)
        memcpy(&v[i], &(uint32_t){RIG_CANARY}, 4);
    return v;
}

// The buffer: guard, words, guard.
struct words words_make(struct rig *rig, uint32_t n)
{
    struct words w = {.n = n, .v = canaries(n + 2 * GUARD_WORDS)};
    w.buf = buffer_make(rig, 4ull * n + 2 * GUARD_BYTES, "test words");
    buffer_fill(w.buf, 0, w.v, 4ull * n + 2 * GUARD_BYTES);
    return w;
}

void words_free(struct words *w)
{
    vk_buffer_destroy(&w->buf);
    free(w->v);
    w->v = NULL;
}

struct vk_bind words_in(const struct words *w)
{
    buffer_fill(w->buf, 0, w->v, 4ull * w->n);
    return (struct vk_bind){.buf = w->buf};
}

struct vk_bind words_out(const struct words *w)
{
    return (struct vk_bind){.buf = w->buf, .off = GUARD_BYTES};
}

struct vk_bind words_inout(const struct words *w)
{
    buffer_fill(w->buf, GUARD_BYTES, w->v, 4ull * w->n);
    return words_out(w);
}

static float *words_read_all(const struct words *w)
{
    struct fault fault;
    float *got = malloc(4ull * w->n + 2 * GUARD_BYTES);
    CHECK(got);
    check_done(vk_buffer_read(w->buf, 0, got, 4ull * w->n + 2 * GUARD_BYTES, &fault), &fault);
    return got;
}

float *words_read(const struct words *w)
{
    float *all = words_read_all(w);
    memmove(all, all + GUARD_WORDS, 4ull * w->n);
    return all;
}

void words_check(const struct words *w, const float *expected, const float *error, const char *what)
{
    float *all = words_read_all(w), *got = all + GUARD_WORDS;
    for (uint32_t i = 0; i < GUARD_WORDS; i++) {
        CHECK(is_canary(all[i]));
        CHECK(is_canary(got[w->n + i]));
    }
    for (uint32_t i = 0; i < w->n; i++) {
        bool same = !memcmp(&got[i], &expected[i], 4);
        bool near = error && !is_canary(expected[i]) &&
                    fabs((double)got[i] - (double)expected[i]) <= (double)error[i];
        if (!same && !near)
            fprintf(stderr, "%s: word %u is %.9g, expected %.9g%s\n", what, i, (double)got[i],
                    (double)expected[i], is_canary(expected[i]) ? " (untouched)" : "");
        CHECK(same || near);
    }
    free(all);
}

struct vk_buffer *rig_table(struct rig *rig, const uint32_t *words, uint32_t n)
{
    struct vk_buffer *buf = buffer_make(rig, 4ull * n, "test table");
    buffer_fill(buf, 0, words, 4ull * n);
    return buf;
}

uint32_t rig_xor(struct rig *rig, struct vk_buffer *buf, uint32_t units)
{
    uint64_t address[2] = {vk_buffer_address(buf)};
    uint32_t words[4], sum;
    memcpy(words, address, sizeof(words));
    struct vk_buffer *table = rig_table(rig, words, 4);
    struct words out = words_make(rig, 1);
    rig_run(rig, &(struct dispatch){.kernel = KERNEL_PEAK_READ,
                                    .binds = (struct vk_bind[]){{.buf = rig->texel ? buf : table},
                                                                words_out(&out)},
                                    .push = (uint32_t[4]){units},
                                    .grid = {1, 1, 1}});
    float *got = words_read(&out);
    memcpy(&sum, got, 4);
    free(got);
    words_free(&out);
    vk_buffer_destroy(&table);
    return sum;
}

/* ------------------------------------------------------------------ heaps */

struct heap heap_make(uint32_t units_max)
{
    struct heap heap = {.units = 3, .units_max = units_max}; // no matrix starts at 0
    heap.bytes = malloc(16ull * units_max);
    CHECK(heap.bytes);
    memset(heap.bytes, 0x7f, 16ull * units_max); // NaN codes; as f32 and bf16 huge
    return heap;
}

static uint32_t units_of(enum weight_dtype dtype)
{
    return dtype == WEIGHT_FP8 ? 1 : dtype == WEIGHT_BF16 ? 2 : 4;
}

static void element_set(struct rig *rig, uint8_t *row, enum weight_dtype dtype, uint32_t col)
{
    float v = rig_uniform(rig, -1, 1);
    uint32_t bits;
    memcpy(&bits, &v, 4);
    uint16_t half = (uint16_t)(bits >> 16);
    switch (dtype) {
    case WEIGHT_FP8:
        row[col] = (uint8_t)rig_below(rig, 0x7f) | (uint8_t)(rig_below(rig, 2) << 7);
        break;
    case WEIGHT_BF16:
        memcpy(row + 2 * col, &half, 2);
        break;
    default:
        memcpy(row + 4 * col, &v, 4);
    }
}

uint32_t heap_mat_add(struct rig *rig, struct heap *heap, enum weight_dtype dtype, uint32_t rows,
                      uint32_t cols, uint32_t srow0, bool scaled)
{
    CHECK(heap->mats_n < RIG_MATS_MAX);
    uint32_t k16 = (cols + 15) / 16 * units_of(dtype);
    struct weight_mat *mat = &heap->mats[heap->mats_n];
    *mat = (struct weight_mat){.w16 = heap->units,
                               .rows = rows,
                               .cols = cols,
                               .k16 = k16,
                               .srow0 = srow0,
                               .bias = WEIGHT_NONE,
                               .dtype = dtype};
    heap->units += rows * k16 + 1; // a unit of NaNs behind
    CHECK(heap->units <= heap->units_max);
    for (uint32_t r = 0; r < rows; r++) {
        uint8_t *row = heap->bytes + 16ull * (mat->w16 + (uint64_t)r * k16);
        memset(row, 0, 16ull * k16);
        for (uint32_t c = 0; c < cols; c++)
            element_set(rig, row, dtype, c);
    }
    if (scaled) {
        mat->s4 = heap->units * 4 + 1; // scales start anywhere
        mat->scols = (cols + 127) / 128;
        uint32_t n = ((srow0 + rows + 127) / 128) * mat->scols;
        heap->units += n / 4 + 2;
        CHECK(heap->units <= heap->units_max);
        for (uint32_t i = 0; i < n; i++) {
            float scale = rig_uniform(rig, 0.001f, 0.01f);
            memcpy(heap->bytes + 4ull * (mat->s4 + i), &scale, 4);
        }
    }
    return heap->mats_n++;
}

void heap_upload(struct rig *rig, struct heap *heap)
{
    heap->buf = buffer_make(rig, 16ull * heap->units_max, "test heap");
    buffer_fill(heap->buf, 0, heap->bytes, 16ull * heap->units_max);
    uint64_t address[2] = {vk_buffer_address(heap->buf)};
    heap->table = buffer_make(rig, sizeof(address), "test heap table");
    buffer_fill(heap->table, 0, address, sizeof(address));
    heap->mats_buf = buffer_make(rig, sizeof(heap->mats), "test matrices");
    buffer_fill(heap->mats_buf, 0, heap->mats, sizeof(heap->mats));
}

struct heap heap_shifted(struct rig *rig, const struct heap *heap, uint32_t shift)
{
    struct heap moved = heap_make(heap->units_max);
    memcpy(moved.bytes, heap->bytes, 16ull * heap->units_max);
    memcpy(moved.mats, heap->mats, sizeof(heap->mats));
    moved.units = heap->units;
    moved.mats_n = heap->mats_n;
    for (uint32_t i = 0; i < heap->mats_n; i++) {
        const struct weight_mat *mat = &heap->mats[i];
        uint8_t *first = moved.bytes + 16ull * mat->w16;
        memmove(first + 4ull * shift, first, 16ull * mat->rows * mat->k16);
        memset(first, 0x7f, 4ull * shift);
    }
    heap_upload(rig, &moved);
    return moved;
}

void heap_free(struct heap *heap)
{
    vk_buffer_destroy(&heap->buf);
    vk_buffer_destroy(&heap->table);
    vk_buffer_destroy(&heap->mats_buf);
    free(heap->bytes);
    heap->bytes = NULL;
}

struct vk_bind heap_bind(const struct rig *rig, const struct heap *heap)
{
    return (struct vk_bind){.buf = rig->texel ? heap->buf : heap->table};
}

static double e4m3(uint8_t code)
{
    int exponent = code >> 3 & 15, mantissa = code & 7;
    double v = exponent ? ldexp(1 + mantissa / 8.0, exponent - 7) : ldexp(mantissa, -9);
    return code & 0x80 ? -v : v;
}

double heap_weight(const struct heap *heap, uint32_t idx, uint32_t row, uint32_t col)
{
    const struct weight_mat *mat = &heap->mats[idx];
    const uint8_t *bytes = heap->bytes + 16ull * (mat->w16 + (uint64_t)row * mat->k16);
    uint32_t bits = 0;
    float v;
    if (mat->dtype == WEIGHT_FP8)
        return e4m3(bytes[col]);
    if (mat->dtype == WEIGHT_BF16) {
        uint16_t half;
        memcpy(&half, bytes + 2 * col, 2);
        bits = (uint32_t)half << 16;
    } else {
        memcpy(&bits, bytes + 4 * col, 4);
    }
    memcpy(&v, &bits, 4);
    return (double)v;
}

double heap_scale(const struct heap *heap, uint32_t idx, uint32_t row, uint32_t col)
{
    const struct weight_mat *mat = &heap->mats[idx];
    float scale;
    if (!mat->scols)
        return 1;
    uint32_t at = mat->s4 + ((mat->srow0 + row) >> 7) * mat->scols + (col >> 7);
    memcpy(&scale, heap->bytes + 4ull * at, 4);
    return (double)scale;
}
