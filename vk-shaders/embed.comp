#version 460
// SPDX-License-Identifier: MIT
// embed: x[m, :] = embedding row of the token of row m, BF16 or F32 to f32.
// A table larger than a heap comes in parts by rows: one dispatch a part, other tokens are left alone.
//
// 0 heap   the part
// 1 table  u32: rows {token, seq, position, 0}
// 2 x      f32 [rows, stride4 vec4s]
// Grid: x 8 columns a lane, y rows.   Source: model.md section 3.1.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
layout(local_size_x_id = 0) in;
HEAP(0)
layout(set = 0, binding = 1) readonly buffer table_block
{
    uvec4 rows[];
};
layout(set = 0, binding = 2) writeonly buffer x_block
{
    vec4 x[];
};
layout(push_constant) uniform push_block
{
    uint heap;
    uint w16;
    uint k16;   // 16-byte units a row
    uint cols;  // multiple of 4
    uint token0, tokens; // the part
    uint stride4;
    uint row0; // first entry of rows[]
    uint f32;  // else BF16
    uint pad[3];
}
pc;

void main()
{
    uint row = gl_WorkGroupID.y, i = gl_GlobalInvocationID.x;
    uint token = rows[pc.row0 + row].x - pc.token0;
    if (token >= pc.tokens || i * 8 >= pc.cols)
        return;
    heap_t base = HEAP_BASE(pc.heap);
    uint at = pc.w16 + token * pc.k16, to = row * pc.stride4 + i * 2;
    vec4 a, b;
    if (pc.f32 != 0) {
        a = uintBitsToFloat(heap_load(base, at + i * 2));
        b = uintBitsToFloat(heap_load(base, at + i * 2 + 1));
    } else {
        uvec4 v = heap_load(base, at + i);
        a = vec4(bf16x2(v.x), bf16x2(v.y));
        b = vec4(bf16x2(v.z), bf16x2(v.w));
    }
    x[to] = a;
    if (i * 8 + 4 < pc.cols)
        x[to + 1] = b;
}
