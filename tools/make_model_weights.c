// SPDX-License-Identifier: MIT
#include "tools/make_model_weights.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// 8 bits a value, two values a look-up: 3 GB/s a core, as fast as the drives that this fills; 12
// bits and one value gave 0.9.
#define CODES 256u

#define SPECIALS 3u // begin, end and padding: ids 0 to 2 of the tokenizer

#define NORMALS 65536u // 16 bits a value for BF16 and F32

// The largest of a block's 16,384 normal numbers lies near this many standard deviations.
#define BLOCK_AMAX 4.0
#define FP8_MAX    448.0

// What makes routers choose about as in real models (doc/measurements.md has the figures): what a
// layer adds to the residual is small beside it, so that the next layer's choice can be foretold
// from it; and embeddings of TOPIC neighbouring ids are alike, so that tokens of one topic share
// experts while topics spread over all of them.
#define RESIDUAL_GAIN 0.42f
#define TOPIC_SHARE   0.93f // of an embedding's length

struct weights {
    uint64_t seed;
    bool ue8m0, tied, routed;
    uint16_t code_pairs[CODES * CODES];
    float normals[NORMALS]; // quantiles of the normal distribution
    uint16_t bf16[NORMALS]; // bf16_mean + bf16_std * normals
    float bf16_std, bf16_mean;
};

// --- random numbers ----------------------------------------------------------------------------

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

// splitmix64: a counter, so that consecutive words do not wait for one another.
static uint64_t next(uint64_t *state)
{
    return mix(*state += 0x9e3779b97f4a7c15ull);
}

static uint64_t name_seed(const struct weights *weights, const char *name)
{
    uint64_t hash = 0xcbf29ce484222325ull; // FNV-1a
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3ull;
    return mix(hash ^ mix(weights->seed));
}

// --- tables ------------------------------------------------------------------------------------

// normal_quantile solves Phi(x) = p for p in (0, 1/2] by bisection: once a table, exact enough.
static double normal_quantile(double p)
{
    double low = -9, high = 0;
    for (int i = 0; i < 50; i++) {
        double mid = (low + high) / 2;
        if (erfc(-mid * M_SQRT1_2) / 2 < p)
            low = mid;
        else
            high = mid;
    }
    return (low + high) / 2;
}

static double fp8_value(uint32_t code)
{
    uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
    return exponent ? ldexp(1 + mantissa / 8.0, (int)exponent - 7) : ldexp(mantissa / 8.0, -6);
}

// fp8_code rounds a magnitude up to 448 to the nearest code, ties to the even one.
static uint8_t fp8_code(double magnitude)
{
    uint32_t below = 0;
    while (below < 0x7e && fp8_value(below + 1) <= magnitude)
        below++;
    if (below == 0x7e)
        return 0x7e;
    double down = magnitude - fp8_value(below), up = fp8_value(below + 1) - magnitude;
    return (uint8_t)(below + (up < down || (up == down && below % 2)));
}

static void tables_fill(struct weights *weights)
{
    uint8_t codes[CODES];

    for (uint32_t i = 0; i < NORMALS / 2; i++) {
        double x = normal_quantile((i + 0.5) / NORMALS);
        weights->normals[i] = (float)x;
        weights->normals[NORMALS - 1 - i] = (float)-x;
    }
    for (uint32_t i = 0; i < CODES; i++) {
        double x = (double)weights->normals[i * (NORMALS / CODES) + NORMALS / CODES / 2];
        double magnitude = fmin(fabs(x) * FP8_MAX / BLOCK_AMAX, FP8_MAX);
        codes[i] = (uint8_t)((x < 0 ? 0x80 : 0) | fp8_code(magnitude));
    }
    for (uint32_t i = 0; i < CODES * CODES; i++)
        weights->code_pairs[i] = (uint16_t)(codes[i % CODES] | codes[i / CODES] << 8);
}

static uint16_t bf16_round(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void bf16_table_set(struct weights *weights, float mean, float std)
{
    if (weights->bf16_std == std && weights->bf16_mean == mean)
        return;
    for (uint32_t i = 0; i < NORMALS; i++)
        weights->bf16[i] = bf16_round(mean + std * weights->normals[i]);
    weights->bf16_mean = mean;
    weights->bf16_std = std;
}

int weights_create(uint64_t seed, const struct model_config *config, struct weights **ret)
{
    struct weights *weights = calloc(1, sizeof(*weights));
    if (!weights)
        return -ENOMEM;
    weights->seed = seed;
    weights->ue8m0 = config->scale_ue8m0;
    weights->tied = config->tie_word_embeddings;
    weights->routed = config->n_routed_experts > 0;
    tables_fill(weights);
    bf16_table_set(weights, 0, 1);
    *ret = weights;
    return 0;
}

int weights_copy(const struct weights *weights, struct weights **ret)
{
    struct weights *copy = malloc(sizeof(*copy));
    if (!copy)
        return -ENOMEM;
    memcpy(copy, weights, sizeof(*copy));
    *ret = copy;
    return 0;
}

void weights_destroy(struct weights **weights)
{
    free(*weights);
    *weights = NULL;
}

// --- what each tensor looks like ---------------------------------------------------------------

static bool adds_to_residual(enum tensor_role role)
{
    return role == ROLE_O_PROJ || role == ROLE_MLP_DOWN || role == ROLE_SHARED_DOWN ||
           role == ROLE_EXPERT_DOWN;
}

// Spread of a tensor's values.  Matrices keep the size of what passes through them; the head is
// larger, so that the choice among tokens is not flat.  An embedding that is the head as well is
// small enough for the layers to outweigh it; else every token would predict itself.
static void spread_of(const struct weights *weights, const struct tensor_spec *spec,
                      float *ret_mean, float *ret_std)
{
    *ret_mean = 0;
    *ret_std = 1 / sqrtf((float)spec->cols);
    if (spec->role == ROLE_EMBED && !weights->tied)
        *ret_std = 1;
    else if (spec->role == ROLE_EMBED || spec->role == ROLE_HEAD)
        *ret_std *= 4;
    else if (weights->routed && adds_to_residual(spec->role))
        *ret_std *= RESIDUAL_GAIN;
    else if (spec->role == ROLE_ROUTER_BIAS)
        *ret_std = 0.004f; // more would favour some experts: nobody trained it to balance
    else if (spec->kind == TENSOR_VECTOR && strstr(spec->name, ".bias"))
        *ret_std = 0.1f;
    else if (spec->kind == TENSOR_VECTOR) {
        *ret_mean = 1;
        *ret_std = 0.1f;
    }
}

enum dtype weights_dtype(const struct model_config *config, const struct tensor_spec *spec)
{
    if (spec->role == ROLE_ROUTER_BIAS)
        return DTYPE_F32;
    return config->fp8 && spec->kind == TENSOR_MATRIX ? DTYPE_F8_E4M3 : DTYPE_BF16;
}

void weights_scales(const struct weights *weights, const struct tensor_spec *spec, float *dst)
{
    uint32_t blocks = tensor_scale_blocks(spec->rows) * tensor_scale_blocks(spec->cols);
    uint64_t state = name_seed(weights, spec->name) ^ 0x5ca1e5;
    float mean, std;

    spread_of(weights, spec, &mean, &std);
    for (uint32_t i = 0; i < blocks; i++) {
        // Blocks differ by up to two, so that a wrong scale shows.
        double size = 0.7 + 0.7 * (double)(next(&state) >> 11) * 0x1p-53;
        double scale = (double)std * size * BLOCK_AMAX / FP8_MAX;
        dst[i] = (float)(weights->ue8m0 ? exp2(round(log2(scale))) : scale);
    }
}

// --- filling -----------------------------------------------------------------------------------

static void codes_fill(const struct weights *weights, uint64_t state, uint8_t *dst, size_t n)
{
    const uint16_t *pairs = weights->code_pairs;

    for (size_t i = 0; i < n; i += sizeof(uint64_t)) {
        uint64_t word = next(&state);
        uint64_t codes =
            (uint64_t)pairs[word & 0xffff] | (uint64_t)pairs[word >> 16 & 0xffff] << 16 |
            (uint64_t)pairs[word >> 32 & 0xffff] << 32 | (uint64_t)pairs[word >> 48] << 48;
        memcpy(dst + i, &codes, n - i < sizeof(codes) ? n - i : sizeof(codes));
    }
}

uint64_t weights_number(const struct weights *weights, uint64_t number)
{
    return mix(mix(weights->seed) + number);
}

void weights_codes(const struct weights *weights, uint64_t number, void *dst, size_t n)
{
    codes_fill(weights, weights_number(weights, number), dst, n);
}

// blocks_peak puts one +-448 into every block of a strip: a quantiser divides by the largest
// magnitude, so one value always has it.
static void blocks_peak(uint64_t state, uint32_t rows, uint32_t cols, uint8_t *dst)
{
    for (uint32_t first = 0; first < cols; first += 128) {
        uint64_t word = next(&state);
        uint32_t width = cols - first < 128 ? cols - first : 128;
        uint32_t row = (uint32_t)(word & 0xffff) % rows;
        uint32_t col = first + (uint32_t)(word >> 16 & 0xffff) % width;
        dst[(size_t)row * cols + col] = (uint8_t)(0x7e | (word >> 63) << 7);
    }
}

static void bf16_fill(const struct weights *weights, uint64_t state, uint8_t *dst, size_t n)
{
    uint64_t word = 0;
    for (size_t i = 0; i < n; i++, word >>= 16) {
        if (i % 4 == 0)
            word = next(&state);
        memcpy(dst + 2 * i, &weights->bf16[word & (NORMALS - 1)], 2);
    }
}

// topics_fill writes rows first .. first + n - 1 of the embedding: what a topic's tokens have in
// common, and what is theirs.
static void topics_fill(const struct weights *weights, const struct tensor_spec *spec,
                        uint32_t first, uint32_t n, uint8_t *dst)
{
    const float own_share = sqrtf(1 - TOPIC_SHARE * TOPIC_SHARE);
    uint64_t seed = name_seed(weights, spec->name);

    for (uint32_t row = first; row < first + n; row++) {
        uint64_t common = mix(seed ^ ~(uint64_t)(row / WEIGHTS_TOPIC)), own = mix(seed + row);
        for (uint32_t col = 0; col < spec->cols; col++, dst += 2) {
            uint16_t value =
                bf16_round(TOPIC_SHARE * weights->normals[next(&common) & (NORMALS - 1)] +
                           own_share * weights->normals[next(&own) & (NORMALS - 1)]);
            memcpy(dst, &value, sizeof(value));
        }
    }
}

static void f32_fill(const struct weights *weights, uint64_t state, float mean, float std,
                     uint8_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float value = mean + std * weights->normals[next(&state) & (NORMALS - 1)];
        memcpy(dst + 4 * i, &value, sizeof(value));
    }
}

void weights_strip(struct weights *weights, const struct tensor_spec *spec, enum dtype dtype,
                   uint32_t first, uint32_t n, void *dst)
{
    uint64_t state = mix(name_seed(weights, spec->name) + first);
    size_t count = (size_t)n * spec->cols;
    float mean, std;

    spread_of(weights, spec, &mean, &std);
    if (dtype == DTYPE_F8_E4M3) {
        codes_fill(weights, state, dst, count);
        blocks_peak(~state, n, spec->cols, dst);
    } else if (dtype == DTYPE_BF16 && spec->role == ROLE_EMBED && weights->routed &&
               !weights->tied) {
        topics_fill(weights, spec, first, n, dst);
    } else if (dtype == DTYPE_BF16) {
        bf16_table_set(weights, mean, std);
        bf16_fill(weights, state, dst, count);
    } else {
        f32_fill(weights, state, mean, std, dst, count);
    }
    if (spec->role == ROLE_HEAD && first == 0 && !weights->tied)
        memset(dst, 0, (size_t)(n < SPECIALS ? n : SPECIALS) * spec->cols * dtype_bytes[dtype]);
}
