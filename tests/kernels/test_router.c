// SPDX-License-Identifier: MIT
// router: probabilities against C; choices and weights as ref_router.c makes them of the device's
// own probabilities, so that rounding cannot turn a near tie; real ties take the lower number.
#include "tests/kernels/ref.h"
#include "tests/kernels/suites.h"

#include <math.h>

#define ROWS 4u

struct shape {
    uint32_t experts, k, groups, groups_kept;
    bool bias, normalise, ties;
};

static const struct shape shapes[] = {
    {256, 8, 8, 4, true, true, false}, {64, 6, 1, 1, true, true, false},
    {48, 5, 4, 2, false, false, true}, {12, 3, 6, 3, true, true, true},
    {9, 9, 1, 1, false, true, false},  {20, 1, 20, 2, true, false, false},
};

static void scores_check(const struct words *logits, uint32_t stride, uint32_t experts,
                         const float *scores)
{
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t e = 0; e < experts; e++) {
            double p = 1 / (1 + exp(-(double)logits->v[r * stride + e]));
            CHECK(fabs((double)scores[r * 2 * experts + e] - p) <= 2e-6 * p);
        }
}

static void router_test(struct rig *rig, const struct shape *shape)
{
    uint32_t stride = shape->experts + 3, bias0 = 5;
    struct words logits = words_make(rig, ROWS * stride);
    struct words vectors = words_make(rig, (bias0 + shape->experts + 3) / 4 * 4);
    struct words scores = words_make(rig, ROWS * 2 * shape->experts);
    struct words ids = words_make(rig, ROWS * shape->k), weights = words_make(rig, ROWS * shape->k);
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t e = 0; e < shape->experts; e++)
            logits.v[r * stride + e] =
                shape->ties ? (float)rig_below(rig, 3) - 1 : rig_uniform(rig, -6, 6);
    for (uint32_t e = 0; e < shape->experts; e++)
        vectors.v[bias0 + e] = shape->ties ? 0.25f : rig_uniform(rig, -0.7f, 0.3f);
    float factor = 2.5f;
    uint32_t push[12] = {shape->experts,
                         shape->k,
                         shape->groups,
                         shape->groups_kept,
                         shape->bias ? bias0 : WEIGHT_NONE,
                         shape->normalise,
                         0,
                         stride};
    memcpy(&push[6], &factor, 4);
    rig_run(rig,
            &(struct dispatch){.kernel = KERNEL_ROUTER,
                               .binds = (struct vk_bind[]){words_inout(&logits), words_in(&vectors),
                                                           words_out(&scores), words_out(&ids),
                                                           words_out(&weights)},
                               .push = push,
                               .grid = {ROWS, 1, 1}});

    float *got = words_read(&scores);
    scores_check(&logits, stride, shape->experts, got);
    float *want_ids = malloc(4ull * ids.n), *want = malloc(4ull * weights.n);
    float *error = malloc(4ull * weights.n);
    CHECK(want_ids && want && error);
    struct ref_router_params params = {.experts = shape->experts,
                                       .k = shape->k,
                                       .groups = shape->groups,
                                       .groups_kept = shape->groups_kept,
                                       .bias = shape->bias ? vectors.v + bias0 : NULL,
                                       .normalise = shape->normalise,
                                       .factor = (double)factor};
    for (uint32_t r = 0; r < ROWS; r++) {
        uint32_t chosen[16];
        double w[16];
        ref_router(&params, got + r * 2 * shape->experts, chosen, w);
        memcpy(want_ids + r * shape->k, chosen, 4ull * shape->k);
        for (uint32_t i = 0; i < shape->k; i++) {
            want[r * shape->k + i] = (float)w[i];
            error[r * shape->k + i] = (float)(w[i] * 1e-6);
        }
    }
    words_check(&ids, want_ids, NULL, "router, ids");
    words_check(&weights, want, error, "router, weights");
    free(got);
    free(want_ids);
    free(want);
    free(error);
    words_free(&logits);
    words_free(&vectors);
    words_free(&scores);
    words_free(&ids);
    words_free(&weights);
}

void test_router(struct rig *rig)
{
    for (uint32_t i = 0; i < ARRAY_LEN(shapes); i++)
        router_test(rig, &shapes[i]);
}
