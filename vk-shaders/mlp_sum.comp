#version 460
// SPDX-License-Identifier: MIT
// mlp_sum: x[row] += sum of w * out[pair] over the row's pairs in the order of its list: ascending expert
// number, the shared experts last, so that the bits do not depend on slots or batch.
//
// 0 out      f32 [pairs, in_stride4 vec4s]
// 1 weights  f32 routing weights
// 2 table    u32: per row {first, count} at rows0; entries {pair, index of weight or 0xffffffff for 1}
//            at list0
// 3 x        f32 [rows, x_stride], the residual, in place
// Grid: x vec4s of a row by lanes, y rows.   Source: model.md section 3.6.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
layout(local_size_x_id = 0) in;
ROWS4(0, out_rows)
layout(set = 0, binding = 1) readonly buffer weights_block
{
    float weights[];
};
layout(set = 0, binding = 2) readonly buffer table_block
{
    uint table[];
};
layout(set = 0, binding = 3) buffer x_block
{
    vec4 x[];
};
layout(push_constant) uniform push_block
{
    uint n4; // vec4s of a row
    uint rows0;
    uint list0;
    uint in_stride4;
    uint x_stride4;
    uint pad[7];
}
pc;

void main()
{
    uint row = gl_WorkGroupID.y, i = gl_GlobalInvocationID.x;
    uint first = table[pc.rows0 + row * 2], count = table[pc.rows0 + row * 2 + 1];
    if (i >= pc.n4)
        return;
    precise vec4 sum = vec4(0.0);
    for (uint j = 0; j < count; j++) {
        uint pair = table[pc.list0 + (first + j) * 2];
        uint at = table[pc.list0 + (first + j) * 2 + 1];
        float w = at == 0xffffffffu ? 1.0 : weights[at];
        sum = fma(vec4(w), LOAD4(out_rows, pair * pc.in_stride4 + i), sum);
    }
    x[row * pc.x_stride4 + i] = x[row * pc.x_stride4 + i] + sum;
}
