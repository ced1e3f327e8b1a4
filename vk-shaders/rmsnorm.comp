#version 460
// SPDX-License-Identifier: MIT
// rmsnorm: y[m, y_col + i] = x[src, x_col + i] * w[i] / sqrt(mean(x^2) + eps), one subgroup a row.
//
// 0 x        f32 rows
// 1 vectors  f32 norm weights
// 2 y        f32 rows
// 3 table    u32: source row of row m at gather0, if gather is set
// Grid: x rows.   Source: model.md section 3.2.   C twin: tests/kernels/ref_rmsnorm.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
layout(local_size_x_id = 0) in; // one subgroup
ROWS4(0, x)
ROWS4(1, vectors)
layout(set = 0, binding = 2) writeonly buffer y_block
{
    float y[];
};
layout(set = 0, binding = 3) readonly buffer table_block
{
    uint table[];
};
layout(push_constant) uniform push_block
{
    uint n;
    uint x_stride4, x_col4;
    uint y_stride, y_col;
    uint weight4; // first vec4 in vectors
    float eps;
    uint gather, gather0;
    uint pad[3];
}
pc;

// Lanes beyond the row's end see zeros.
vec4 row_load(uint base, uint i)
{
    vec4 v = LOAD4(x, base + i);
    uint left = pc.n - i * 4;
    return left >= 4 ? v : vec4(v.x, left > 1 ? v.y : 0.0, left > 2 ? v.z : 0.0, 0.0);
}

void main()
{
    uint row = gl_WorkGroupID.x, lane = gl_SubgroupInvocationID;
    uint src = pc.gather != 0 ? table[pc.gather0 + row] : row;
    uint base = src * pc.x_stride4 + pc.x_col4, n4 = (pc.n + 3) >> 2;
    precise vec4 squares = vec4(0.0);
    for (uint i = lane; i < n4; i += gl_SubgroupSize) {
        vec4 v = row_load(base, i);
        squares = fma(v, v, squares);
    }
    precise float sum = subgroupAdd((squares.x + squares.y) + (squares.z + squares.w));
    precise float inverse = 1.0 / sqrt(sum / float(pc.n) + pc.eps);
    for (uint i = lane; i < n4; i += gl_SubgroupSize) {
        vec4 v = row_load(base, i) * inverse * LOAD4(vectors, pc.weight4 + i);
        uint at = row * pc.y_stride + pc.y_col + i * 4;
        for (uint j = 0; j < 4 && i * 4 + j < pc.n; j++)
            y[at + j] = v[j];
    }
}
