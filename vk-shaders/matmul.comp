#version 460
// SPDX-License-Identifier: MIT
// matmul: y[m, y_col + n] (+)= bias[n] + sum_k W[n, k] * x[m, x_col + k] for one or more matrices.
//
// 0 heap       FP8 E4M3 with 128x128 scales, or BF16
// 1 mats       struct mat []
// 2 x          f32 rows, x_stride4 vec4s apart
// 3 xs         f32 activation scales [rows, xs_stride] (official-fp8), else not read
// 4 y          f32 rows, y_stride floats apart
// 5 vectors    f32, biases
// Grid: x tiles of R rows of the largest matrix, y tiles of M x rows, z matrices mat0, mat0 + 1, ...
// Source: model.md sections 3.3, 3.8, 4; vulkan.md.  C twin: tests/kernels/ref_matmul.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
HEAP(0)
ROWS4(2, x)
ROWS4(3, xs)
ROWS4(5, vectors)
#include "matmul_core.glsl"
layout(set = 0, binding = 1, std430) readonly buffer mats_block
{
    mat mats[];
};
layout(set = 0, binding = 4) buffer y_block
{
    float y[];
};
layout(push_constant) uniform push_block
{
    uint mat0;
    uint heap;
    uint rows; // of x
    uint x_stride4;
    uint y_stride;
    uint xs_stride;
    uint accumulate; // 1: y += (the residual)
    uint pad[9];
}
pc;

void main()
{
    mat w = mats[pc.mat0 + gl_WorkGroupID.z];
    uint row0 = gl_WorkGroupID.x * R, m0 = gl_WorkGroupID.y * M;
    if (row0 >= w.rows || HEAP_SKIP(w.heap, pc.heap))
        return;

    uint x4[M], xs0[M];
    [[unroll]] for (uint m = 0; m < M; m++)
    {
        uint xrow = min(m0 + m, pc.rows - 1);
        x4[m] = xrow * pc.x_stride4 + (w.x_col >> 2);
        xs0[m] = xrow * pc.xs_stride;
    }
    float acc[TILE_ROWS][M];
    [[unroll]] for (uint r = 0; r < TILE_ROWS; r++)
        [[unroll]] for (uint m = 0; m < M; m++) acc[r][m] = 0.0;
    MATMUL_TILE(w, row0, x4, xs0, acc)

    if (!TILE_STORES)
        return;
    [[unroll]] for (uint r = 0; r < TILE_ROWS; r++)
        [[unroll]] for (uint m = 0; m < M; m++)
        {
            uint row = TILE_ROW(row0, r), xrow = m0 + m;
            if (row >= w.rows || xrow >= pc.rows)
                continue;
            uint at = xrow * pc.y_stride + w.y_col + row;
            float v = acc[r][m];
            if (w.bias != 0xffffffffu)
                v += LOAD4(vectors, (w.bias + row) >> 2)[(w.bias + row) & 3];
            y[at] = pc.accumulate != 0 ? y[at] + v : v;
        }
}
