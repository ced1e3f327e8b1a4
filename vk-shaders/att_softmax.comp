#version 460
// SPDX-License-Identifier: MIT
// att_softmax: s[m, h, 0 .. position] becomes its softmax, in place; one subgroup a (row, head).
//
// 0 s      f32 [rows of this dispatch, heads, t_stride]
// 1 table  u32: rows {token, seq, position, 0}
// Grid: x heads, y rows row0 ...   Source: model.md section 3.4.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
layout(local_size_x_id = 0) in; // one subgroup
layout(set = 0, binding = 0) buffer s_block
{
    float s[];
};
layout(set = 0, binding = 1) readonly buffer table_block
{
    uint table[];
};
layout(push_constant) uniform push_block
{
    uint row0, heads, t_stride;
    uint pad[5];
}
pc;

void main()
{
    uint n = table[(pc.row0 + gl_WorkGroupID.y) * 4 + 2] + 1, lane = gl_SubgroupInvocationID;
    uint base = (gl_WorkGroupID.y * pc.heads + gl_WorkGroupID.x) * pc.t_stride;
    float top = -3.4e38;
    for (uint t = lane; t < n; t += gl_SubgroupSize)
        top = max(top, s[base + t]);
    top = subgroupMax(top);
    precise float sum = 0.0;
    for (uint t = lane; t < n; t += gl_SubgroupSize) {
        float e = exp(s[base + t] - top);
        s[base + t] = e;
        sum += e;
    }
    precise float inverse = 1.0 / subgroupAdd(sum);
    for (uint t = lane; t < n; t += gl_SubgroupSize)
        s[base + t] = s[base + t] * inverse;
}
