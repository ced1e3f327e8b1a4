#version 460
// SPDX-License-Identifier: MIT
// att_values: o[split, m, h, :] = sum over t of the split of p[m, h, t] * value(t), t in rising order.
// A lane owns four columns; a subgroup takes up to HEADS heads that share a value.  Splits are at fixed
// positions, so a row's bits do not depend on the batch.
//
// 0 cache  KV of this layer; the value of head h starts at value_col + (h / heads_per_key) * value_stride
// 1 p      f32 [rows of this dispatch, heads, t_stride]
// 2 table  u32: rows {token, seq, position, 0}, then page numbers at pages0
// 3 o      f32 [splits, o_rows, heads, dim]
// Grid: x column fours by lanes, y groups of heads x splits, z rows row0 ...
// Source: model.md section 3.4, 10.3.   C twin: tests/kernels/ref_attention.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
#include "kv.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint HEADS = 8;
KV_READ(0)
layout(set = 0, binding = 1) readonly buffer p_block
{
    float p[];
};
layout(set = 0, binding = 2) readonly buffer table_block
{
    uint table[];
};
layout(set = 0, binding = 3) writeonly buffer o_block
{
    vec4 o[];
};
layout(push_constant) uniform push_block
{
    uint row0;
    uint heads, heads_per_key;
    uint dim4;
    uint value_col, value_stride;
    uint entry;
    uint page_tokens, pages_max, pages0;
    uint t_stride;
    uint split_tokens; // multiple of page_tokens
    uint groups;       // of heads
    uint o_row0, o_rows; // where the rows of this dispatch go
    uint pad;
}
pc;

void main()
{
    uint row = pc.row0 + gl_WorkGroupID.z;
    uint seq = table[row * 4 + 1], position = table[row * 4 + 2];
    uint group = gl_WorkGroupID.y % pc.groups, split = gl_WorkGroupID.y / pc.groups;
    uint from = split * pc.split_tokens, end = min(position + 1, from + pc.split_tokens);
    uint i = gl_GlobalInvocationID.x;
    if (from > position || i >= pc.dim4)
        return;
    uint groups_per_key = (pc.heads_per_key + HEADS - 1) / HEADS;
    uint key = group / groups_per_key;
    uint head0 = key * pc.heads_per_key + (group % groups_per_key) * HEADS;
    uint head_end = min((key + 1) * pc.heads_per_key, head0 + HEADS);
    uint p0[HEADS];
    [[unroll]] for (uint h = 0; h < HEADS; h++)
        p0[h] = (gl_WorkGroupID.z * pc.heads + min(head0 + h, head_end - 1)) * pc.t_stride;

    precise vec4 acc[HEADS];
    [[unroll]] for (uint h = 0; h < HEADS; h++) acc[h] = vec4(0.0);
    uint col4 = ((pc.value_col + key * pc.value_stride) >> 2) + i, entry4 = pc.entry >> 2;
    for (uint t0 = from; t0 < end; t0 += pc.page_tokens) {
        uint page = table[pc.pages0 + seq * pc.pages_max + t0 / pc.page_tokens];
        uint base4 = page * pc.page_tokens * entry4 + col4;
        uint n = min(end - t0, pc.page_tokens);
        for (uint j = 0; j < n; j++) {
            vec4 v = kv_load(base4 + j * entry4);
            [[unroll]] for (uint h = 0; h < HEADS; h++)
                acc[h] = fma(vec4(p[p0[h] + t0 + j]), v, acc[h]);
        }
    }
    [[unroll]] for (uint h = 0; h < HEADS; h++) if (head0 + h < head_end)
        o[((split * pc.o_rows + pc.o_row0 + gl_WorkGroupID.z) * pc.heads + head0 + h) * pc.dim4 + i] =
            acc[h];
}
