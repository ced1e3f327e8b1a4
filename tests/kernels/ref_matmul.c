// SPDX-License-Identifier: MIT
#include "tests/kernels/ref.h"

#include <math.h>

double ref_dot(const struct heap *heap, uint32_t mat, uint32_t row, const float *x, const float *xs,
               double *ret_size)
{
    double sum = 0, size = 0;
    for (uint32_t k = 0; k < heap->mats[mat].cols; k++) {
        double v = heap_weight(heap, mat, row, k) * heap_scale(heap, mat, row, k) * (double)x[k];
        v *= xs ? (double)xs[k >> 7] : 1.0;
        sum += v;
        size += fabs(v);
    }
    *ret_size = size;
    return sum;
}

double ref_silu_mul(double gate, double up)
{
    return gate / (1 + exp(-gate)) * up;
}
