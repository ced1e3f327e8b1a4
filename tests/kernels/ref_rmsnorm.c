// SPDX-License-Identifier: MIT
#include "tests/kernels/ref.h"

#include <math.h>

void ref_rmsnorm(const float *x, const float *w, uint32_t n, double eps, double *y)
{
    double squares = 0;
    for (uint32_t i = 0; i < n; i++)
        squares += (double)x[i] * (double)x[i];
    for (uint32_t i = 0; i < n; i++)
        y[i] = (double)x[i] * (double)w[i] / sqrt(squares / n + eps);
}
