// SPDX-License-Identifier: MIT
#include "tests/kernels/ref.h"

#include <math.h>

// The E4M3 value nearest to v, ties to the even mantissa, |v| <= 448 (model.md section 4).
static float e4m3_nearest(float v)
{
    float a = fabsf(v);
    int exponent = -6; // of the least normal value
    if (a >= ldexpf(1, -6))
        exponent = ilogbf(a);
    float step = ldexpf(1, exponent - 3);
    float rounded = nearbyintf(a / step) * step; // exact: powers of two
    return copysignf(fminf(rounded, 448), v);
}

void ref_quant(const float *x, uint32_t n, bool ue8m0, float *q, float *s)
{
    float most = 1e-4f;
    for (uint32_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(x[i]));
    *s = most / 448;
    if (ue8m0)
        *s = exp2f(ceilf(log2f(*s)));
    for (uint32_t i = 0; i < n; i++)
        q[i] = e4m3_nearest(x[i] / *s);
}
