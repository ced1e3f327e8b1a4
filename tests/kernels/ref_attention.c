// SPDX-License-Identifier: MIT
#include "tests/kernels/ref.h"

#include <math.h>

void ref_softmax(double *s, uint32_t n)
{
    double top = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++)
        top = fmax(top, s[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += s[i] = exp(s[i] - top);
    for (uint32_t i = 0; i < n; i++)
        s[i] /= sum;
}

float ref_f16_value(uint16_t half)
{
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    float v = exponent == 31 ? (mantissa ? NAN : INFINITY)
              : exponent     ? ldexpf(1024.0f + (float)mantissa, exponent - 25)
                             : ldexpf((float)mantissa, -24);
    return half & 0x8000 ? -v : v;
}

uint16_t ref_f16(float v)
{
    float a = fabsf(v);
    int exponent = a < ldexpf(1, -14) ? -14 : ilogbf(a);
    float steps = nearbyintf(ldexpf(a, 10 - exponent)); // 1024 .. 2048 of a normal value
    uint32_t bits =
        exponent == -14 ? (uint32_t)steps : ((uint32_t)(exponent + 14) << 10) + (uint32_t)steps;
    return (uint16_t)(bits | (v < 0 ? 0x8000u : 0));
}
