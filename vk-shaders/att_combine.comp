#version 460
// SPDX-License-Identifier: MIT
// att_combine: o[m, :] = partial[0, m, :] + partial[1, m, :] + ... over the splits that the row reaches,
// in rising order.
//
// 0 partial  f32 [splits, rows, width]
// 1 table    u32: rows {token, seq, position, 0}
// 2 o        f32 [rows, o_stride4 vec4s]
// Grid: x vec4s by lanes, y rows.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
layout(local_size_x_id = 0) in;
layout(set = 0, binding = 0) readonly buffer partial_block
{
    vec4 partial[];
};
layout(set = 0, binding = 1) readonly buffer table_block
{
    uint table[];
};
layout(set = 0, binding = 2) writeonly buffer o_block
{
    vec4 o[];
};
layout(push_constant) uniform push_block
{
    uint rows, width4, split_tokens;
    uint row0; // of the table and of o
    uint o_stride4;
    uint pad[3];
}
pc;

void main()
{
    uint row = gl_WorkGroupID.y, i = gl_GlobalInvocationID.x;
    if (i >= pc.width4)
        return;
    uint splits = table[(pc.row0 + row) * 4 + 2] / pc.split_tokens + 1;
    precise vec4 sum = partial[row * pc.width4 + i];
    for (uint j = 1; j < splits; j++)
        sum += partial[(j * pc.rows + row) * pc.width4 + i];
    o[(pc.row0 + row) * pc.o_stride4 + i] = sum;
}
