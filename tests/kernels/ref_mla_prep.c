// SPDX-License-Identifier: MIT
#include "tests/kernels/ref.h"

void ref_rotate(float a, float b, const float cs[2], double *ret_a, double *ret_b)
{
    *ret_a = (double)a * (double)cs[0] - (double)b * (double)cs[1];
    *ret_b = (double)a * (double)cs[1] + (double)b * (double)cs[0];
}
