#version 460
// SPDX-License-Identifier: MIT
// quant: the activation quantiser of official-fp8: per row and 128 channels
//   a = max(max|x|, 1e-4); s = a / 448 (ue8m0: the next power of two); q = E4M3(x / s), nearest even.
// q is stored as the f32 value of its code, s apart.
//
// 0 x   f32 rows
// 1 q   f32 [rows, q_stride]
// 2 s   f32 [rows, s_stride]
// Grid: x groups by lanes, y rows row0 ...   Source: model.md section 3.8.   C twin: tests/kernels/ref_quant.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
layout(local_size_x_id = 0) in;
ROWS4(0, x)
layout(set = 0, binding = 1) writeonly buffer q_block
{
    vec4 q[];
};
layout(set = 0, binding = 2) writeonly buffer s_block
{
    float s[];
};
layout(push_constant) uniform push_block
{
    uint n;
    uint x_stride4, x_col4;
    uint q_stride4;
    uint s_stride;
    uint ue8m0;
    uint row0; // first row of x, q and s
    uint pad;
}
pc;

// The E4M3 value nearest to v (ties to even), |v| <= 448, as f32.  In integers: one unit in the last
// place is 2^(e - 3) for normal values and 2^-9 below 2^-6.
float e4m3_round(float v)
{
    precise float a = abs(v);
    uint bits = floatBitsToUint(a);
    uint e = max(bits >> 23, 121u); // 121: 2^-6, the least normal exponent
    // Adding and taking away 2^(e + 20) rounds a to a multiple of 2^(e - 3).
    precise float magic = uintBitsToFloat((e + 20u) << 23);
    precise float sum = a + magic;
    precise float r = sum - magic;
    return v < 0.0 ? -min(r, 448.0) : min(r, 448.0);
}

// Columns from n on count as zeros: another row's width may have left values there.
vec4 x_load(uint row, uint i)
{
    vec4 v = LOAD4(x, row * pc.x_stride4 + pc.x_col4 + i);
    uint left = pc.n - i * 4;
    return left >= 4 ? v : vec4(v.x, left > 1 ? v.y : 0.0, left > 2 ? v.z : 0.0, 0.0);
}

void main()
{
    uint row = pc.row0 + gl_WorkGroupID.y, group = gl_GlobalInvocationID.x;
    if (group * 128 >= pc.n)
        return;
    uint n4 = min(32, (pc.n - group * 128 + 3) >> 2);
    vec4 m = vec4(0.0);
    for (uint i = 0; i < n4; i++)
        m = max(m, abs(x_load(row, group * 32 + i)));
    precise float scale = max(max(max(m.x, m.y), max(m.z, m.w)), 1e-4) / 448.0;
    if (pc.ue8m0 != 0) {
        uint bits = floatBitsToUint(scale);
        scale = uintBitsToFloat(((bits + 0x7fffffu) >> 23) << 23);
    }
    for (uint i = 0; i < n4; i++) {
        precise vec4 v = x_load(row, group * 32 + i) / scale;
        q[row * pc.q_stride4 + group * 32 + i] =
            vec4(e4m3_round(v.x), e4m3_round(v.y), e4m3_round(v.z), e4m3_round(v.w));
    }
    s[row * pc.s_stride + group] = scale;
}
