#version 460
// SPDX-License-Identifier: MIT
// selftest: decodes all 256 E4M3 codes each way, so that the host can see what this device does.
// in:  u32 [64], four codes each.   out: f32 [3][256]: by integers, by half precision (x 256), by f32.
// One lane a word of four codes.  Source: model.md section 4; C twin: vk/selftest.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
layout(local_size_x_id = 0) in;
layout(set = 0, binding = 0) readonly buffer in_block
{
    uint codes[];
};
layout(set = 0, binding = 1) writeonly buffer out_block
{
    float values[];
};
void main()
{
    uint i = gl_GlobalInvocationID.x;
    if (i >= 64)
        return;
    vec4 integer_way = e4m3_by_integer(codes[i]);
    vec4 half_way = e4m3_by_half(codes[i]) * E4M3_HALF_SCALE;
    vec4 f32_way = e4m3_by_f32(codes[i]);
    for (uint j = 0; j < 4; j++) {
        values[i * 4 + j] = integer_way[j];
        values[256 + i * 4 + j] = half_way[j];
        values[512 + i * 4 + j] = f32_way[j];
    }
}
