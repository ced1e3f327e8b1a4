// SPDX-License-Identifier: MIT
#include "tests/kernels/ref.h"

#include <math.h>

// The two largest b of a group, added; the only one of a group of one.
static float group_sum(const float *b, uint32_t n)
{
    float first = -INFINITY, second = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        if (b[i] > first) {
            second = first;
            first = b[i];
        } else if (b[i] > second) {
            second = b[i];
        }
    }
    return n == 1 ? first : first + second;
}

static uint32_t largest(const float *v, uint32_t n)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (v[i] > v[at]) // ties take the lower number
            at = i;
    return at;
}

void ref_router(const struct ref_router_params *params, const float *p, uint32_t *ids,
                double *weights)
{
    float b[256], sums[32];
    double total = 0;
    uint32_t size = params->experts / params->groups;
    CHECK(params->experts <= 256 && params->groups <= 32);
    for (uint32_t e = 0; e < params->experts; e++)
        b[e] = p[e] + (params->bias ? params->bias[e] : 0);
    for (uint32_t g = 0; g < params->groups; g++)
        sums[g] = group_sum(b + g * size, size);
    bool kept[32] = {false};
    for (uint32_t i = 0; i < params->groups_kept; i++) {
        uint32_t g = largest(sums, params->groups);
        kept[g] = true;
        sums[g] = -INFINITY;
    }
    for (uint32_t e = 0; e < params->experts; e++)
        if (!kept[e / size])
            b[e] = -INFINITY;
    for (uint32_t i = 0; i < params->k; i++) {
        ids[i] = largest(b, params->experts);
        b[ids[i]] = -INFINITY;
        weights[i] = (double)p[ids[i]];
        total += weights[i];
    }
    for (uint32_t i = 0; i < params->k; i++)
        weights[i] *= params->factor / (params->normalise ? total + 1e-20 : 1);
}
