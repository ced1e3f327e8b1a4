// SPDX-License-Identifier: MIT
// lanes: four floats at a time, for passes over a vocabulary.  SSE2 and NEON do each operation in
// one instruction, and no compiler makes that of a plain loop without leave to reorder floats.
// Only IEEE operations, so the results are the same on every machine.
#pragma once
#include <stdint.h>
#include <string.h>

typedef float lanes_f __attribute__((vector_size(16)));
typedef int32_t lanes_i __attribute__((vector_size(16)));
#define LANES 4u

static inline lanes_f lanes_load(const float *from)
{
    lanes_f x;
    memcpy(&x, from, sizeof(x));
    return x;
}

static inline lanes_f lanes_all(float x)
{
    return (lanes_f){x, x, x, x};
}

// lanes_pick returns a where the mask is -1 and b where it is 0.
static inline lanes_f lanes_pick(lanes_i mask, lanes_f a, lanes_f b)
{
    return (lanes_f)(((lanes_i)a & mask) | ((lanes_i)b & ~mask));
}

static inline lanes_f lanes_max(lanes_f a, lanes_f b)
{
    return lanes_pick(a > b, a, b);
}

// lanes_exp returns e^y for y in [-80, 0], within 2 units of the last place.
// Range reduction and polynomial: Cephes, expf.
static inline lanes_f lanes_exp(lanes_f y)
{
    const lanes_f magic = lanes_all(0x1.8p23f); // adding it rounds to a whole number
    lanes_f t = y * lanes_all(1.44269504088896341f) + magic;
    lanes_f n = t - magic;
    lanes_f r = y - n * lanes_all(0.693359375f) - n * lanes_all(-2.12194440e-4f);
    lanes_f p = lanes_all(1.9875691500e-4f);
    p = p * r + lanes_all(1.3981999507e-3f);
    p = p * r + lanes_all(8.3334519073e-3f);
    p = p * r + lanes_all(4.1665795894e-2f);
    p = p * r + lanes_all(1.6666665459e-1f);
    p = p * r + lanes_all(5.0000001201e-1f);
    p = p * r * r + r + lanes_all(1);
    lanes_i exponent = (lanes_i)t - (lanes_i)magic; // n, as an integer
    return (lanes_f)((lanes_i)p + exponent * (1 << 23));
}
