// SPDX-License-Identifier: MIT
// ref: each kernel once more in plain C, in double where the kernel adds up: what
// vk-shaders/NAME.comp must give.  Written from the kernels' contracts, for reading, not for speed.
#pragma once
#include "tests/kernels/rig.h"

// ref_dot: sum over k of W[row, k] * x[k] with the block scales and, where xs is not NULL, x's
// scale of each 128 columns.  ret_size: the sum of the magnitudes, which errors are measured
// against.
double ref_dot(const struct heap *heap, uint32_t mat, uint32_t row, const float *x, const float *xs,
               double *ret_size);

// ref_silu_mul: silu(gate) * up.
double ref_silu_mul(double gate, double up);

// ref_quant: one group of n <= 128 channels; q[i] is the value of x[i]'s E4M3 code, s the scale.
void ref_quant(const float *x, uint32_t n, bool ue8m0, float *q, float *s);

// ref_rmsnorm: y = x * w / sqrt(mean(x^2) + eps).
void ref_rmsnorm(const float *x, const float *w, uint32_t n, double eps, double *y);

struct ref_router_params {
    uint32_t experts, k, groups, groups_kept;
    const float *bias; // or NULL
    bool normalise;
    double factor;
};
// ref_router: probabilities [experts], ids and weights [k].  p: as the device computed them, so
// that choices follow from the same numbers.
void ref_router(const struct ref_router_params *params, const float *p, uint32_t *ids,
                double *weights);

// ref_rotate: the pair (a, b) turned by the angle whose cosine and sine are cs.
void ref_rotate(float a, float b, const float cs[2], double *ret_a, double *ret_b);

// ref_softmax: in place, [n].
void ref_softmax(double *s, uint32_t n);

uint16_t ref_f16(float v); // nearest, ties to even; |v| < 65504
float ref_f16_value(uint16_t half);
