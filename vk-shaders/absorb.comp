#version 460
// SPDX-License-Identifier: MIT
// absorb: qc[m, h, c] = sum_d q[m, h, d] * W_UK[h][d, c]: the query in the space of the latent cache.
// W_UK[h] is rows h * (nope + v) .. + nope of kv_b_proj; d runs in rising order.
//
// 0 heap  kv_b_proj
// 1 mats  struct mat []; the matrix is mats[pc.mat]
// 2 q     f32 [rows, q_stride], head h at h * q_head
// 3 out   f32 [rows, out_stride], head h at h * out_head
// Grid: x chunks of 16 columns by lanes, y heads, z tiles of M rows.
// Source: model.md section 3.4.  C twin: tests/kernels/ref_absorb.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
HEAP(0)
#include "matmul_core.glsl"
layout(set = 0, binding = 1, std430) readonly buffer mats_block
{
    mat mats[];
};
layout(set = 0, binding = 2) readonly buffer q_block
{
    float q[];
};
layout(set = 0, binding = 3) writeonly buffer out_block
{
    float out_rows[];
};
layout(push_constant) uniform push_block
{
    uint mat_idx;
    uint rows;
    uint nope, head_rows; // head_rows = nope + v
    uint q_stride, q_head;
    uint out_stride, out_head;
    uint pad[4];
}
pc;

void main()
{
    mat w = mats[pc.mat_idx];
    uint chunk = gl_GlobalInvocationID.x, head = gl_WorkGroupID.y, m0 = gl_WorkGroupID.z * M;
    if (chunk * 16 >= w.cols)
        return;
    heap_t base = HEAP_BASE(w.heap);
    vec4 acc[M][4];
    [[unroll]] for (uint m = 0; m < M; m++)
        [[unroll]] for (uint i = 0; i < 4; i++) acc[m][i] = vec4(0.0);
    uint q0[M];
    [[unroll]] for (uint m = 0; m < M; m++)
        q0[m] = min(m0 + m, pc.rows - 1) * pc.q_stride + head * pc.q_head;

    float scale = HALF && FP8 ? E4M3_HALF_SCALE : 1.0;
    for (uint d = 0; d < pc.nope; d++) {
        uint row = head * pc.head_rows + d;
        if (FP8 && w.scols != 0 && (d == 0 || (row & 127) == 0))
            scale = (HALF ? E4M3_HALF_SCALE : 1.0) *
                    heap_float(base, w.s4 + (row >> 7) * w.scols + (chunk >> 3));
        vec4 w0, w1, w2, w3;
        if (FP8) {
            uvec4 v = heap_load(base, w.w16 + row * w.k16 + chunk);
            w0 = decode(v.x), w1 = decode(v.y), w2 = decode(v.z), w3 = decode(v.w);
        } else if (DTYPE == 1) {
            uvec4 v = heap_load(base, w.w16 + row * w.k16 + chunk * 2);
            uvec4 u = heap_load(base, w.w16 + row * w.k16 + chunk * 2 + 1);
            w0 = vec4(bf16x2(v.x), bf16x2(v.y)), w1 = vec4(bf16x2(v.z), bf16x2(v.w));
            w2 = vec4(bf16x2(u.x), bf16x2(u.y)), w3 = vec4(bf16x2(u.z), bf16x2(u.w));
        } else {
            uint at = w.w16 + row * w.k16 + chunk * 4;
            w0 = uintBitsToFloat(heap_load(base, at));
            w1 = uintBitsToFloat(heap_load(base, at + 1));
            w2 = uintBitsToFloat(heap_load(base, at + 2));
            w3 = uintBitsToFloat(heap_load(base, at + 3));
        }
        [[unroll]] for (uint m = 0; m < M; m++)
        {
            precise float qs = q[q0[m] + d] * scale;
            acc[m][0] = fma(vec4(qs), w0, acc[m][0]);
            acc[m][1] = fma(vec4(qs), w1, acc[m][1]);
            acc[m][2] = fma(vec4(qs), w2, acc[m][2]);
            acc[m][3] = fma(vec4(qs), w3, acc[m][3]);
        }
    }
    [[unroll]] for (uint m = 0; m < M; m++)
    {
        if (m0 + m >= pc.rows)
            break;
        uint at = (m0 + m) * pc.out_stride + head * pc.out_head + chunk * 16;
        for (uint j = 0; j < 16 && chunk * 16 + j < w.cols; j++)
            out_rows[at + j] = acc[m][j >> 2][j & 3];
    }
}
