#version 460
// SPDX-License-Identifier: MIT
// att_values: o[split, m, h, :] = sum over t of the split of p[m, h, t] * value(t), t in rising order.
// A lane owns four columns (eight on the texel path); a subgroup takes up to HEADS heads that share a value.
// Splits are at fixed positions, so a row's bits do not depend on the batch.
//
// 0 cache  KV of this layer; the value of head h starts at value_col + (h / heads_per_key) * value_stride
// 1 p      f32 [rows of this dispatch, heads, t_stride]
// 2 table  u32: rows {token, seq, position, 0}, then page numbers at pages0
// 3 o      f32 [splits, o_rows, heads, dim]
// Grid: x a lane's columns by lanes, y groups of heads x splits, z rows row0 ...
// Source: model.md section 3.4, 10.3.   C twin: tests/kernels/ref_attention.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
#include "kv.glsl"
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint HEADS = 8;
KV_READ(0)
ROWS4(1, p)
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
    uint zero; // 0, known at run time only: see BROADCAST
}
pc;

void heads_of_group(uint group, out uint key, out uint head0, out uint head_end)
{
    uint groups_per_key = (pc.heads_per_key + HEADS - 1) / HEADS;
    key = group / groups_per_key;
    head0 = key * pc.heads_per_key + (group % groups_per_key) * HEADS;
    head_end = min((key + 1) * pc.heads_per_key, head0 + HEADS);
}

uint entry_of(uint seq, uint t)
{
    uint page = table[pc.pages0 + seq * pc.pages_max + t / pc.page_tokens];
    return (page * pc.page_tokens + t % pc.page_tokens) * pc.entry;
}

#ifdef TEXEL
// A step is 8 positions.  One fetch brings the 8 probabilities of LANES / 2 heads (see att_scores).
#define BROADCAST(v, lane) subgroupShuffle(v, pc.zero + (lane))
#define QUERIES (gl_WorkGroupSize.x / 2)
#define P_FETCHES ((HEADS + QUERIES - 1) / QUERIES)
#define STEP 8
void main()
{
    uint row = pc.row0 + gl_WorkGroupID.z, lane = gl_LocalInvocationID.x;
    uint seq = table[row * 4 + 1], position = table[row * 4 + 2];
    uint split = gl_WorkGroupID.y / pc.groups;
    uint from = split * pc.split_tokens, end = min(position + 1, from + pc.split_tokens);
    if (from > position)
        return;
    uint key, head0, head_end;
    heads_of_group(gl_WorkGroupID.y % pc.groups, key, head0, head_end);
    // Lanes beyond the last column repeat it: shuffles need every lane.
    uint col8 = min(gl_GlobalInvocationID.x, (pc.dim4 >> 1) - 1);
    uint value = pc.value_col + key * pc.value_stride + col8 * 8;
    uint p4[P_FETCHES];
    [[unroll]] for (uint f = 0; f < P_FETCHES; f++)
        p4[f] = ((gl_WorkGroupID.z * pc.heads +
                  min(head0 + f * QUERIES + (lane >> 1), head_end - 1)) * pc.t_stride >> 2) +
                (lane & 1);

    precise float acc[HEADS][8];
    [[unroll]] for (uint h = 0; h < HEADS; h++)
        [[unroll]] for (uint c = 0; c < 8; c++) acc[h][c] = 0.0;
    for (uint t0 = from; t0 < end; t0 += STEP) {
        vec4 q[P_FETCHES];
        kv_fetch_t raw[STEP][KV_FETCHES];
        [[unroll]] for (uint f = 0; f < P_FETCHES; f++) q[f] = LOAD4(p, p4[f] + (t0 >> 2));
        // A step never leaves a page; behind the end it repeats the last position with probability 0.
        uint entry0 = entry_of(seq, t0);
        [[unroll]] for (uint j = 0; j < STEP; j++)
            [[unroll]] for (uint i = 0; i < KV_FETCHES; i++)
                raw[j][i] = kv_fetch((entry0 + min(j, end - 1 - t0) * pc.entry + value) /
                                     (8 / KV_FETCHES) + i);
        float v[STEP][8];
        [[unroll]] for (uint j = 0; j < STEP; j++) kv_decode8(raw[j], v[j]);
        uint t_lane = t0 + (lane & 1) * 4;
        [[unroll]] for (uint f = 0; f < P_FETCHES; f++)
            [[unroll]] for (uint j = 0; j < 4; j++) q[f][j] = t_lane + j < end ? q[f][j] : 0.0;
        [[unroll]] for (uint h = 0; h < HEADS; h++)
        {
            float b[STEP];
            [[unroll]] for (uint j = 0; j < STEP; j++)
                b[j] = BROADCAST(q[h / QUERIES][j & 3], (h % QUERIES) * 2 + (j >> 2));
            [[unroll]] for (uint c = 0; c < 8; c++)
            {
                precise float sum = v[0][c] * b[0];
                [[unroll]] for (uint j = 1; j < STEP; j++) sum = fma(v[j][c], b[j], sum);
                acc[h][c] += sum;
            }
        }
    }
    if (gl_GlobalInvocationID.x * 2 >= pc.dim4)
        return;
    [[unroll]] for (uint h = 0; h < HEADS; h++) if (head0 + h < head_end)
    {
        uint at = ((split * pc.o_rows + pc.o_row0 + gl_WorkGroupID.z) * pc.heads + head0 + h) *
                      pc.dim4 + col8 * 2;
        o[at] = vec4(acc[h][0], acc[h][1], acc[h][2], acc[h][3]);
        o[at + 1] = vec4(acc[h][4], acc[h][5], acc[h][6], acc[h][7]);
    }
}
#else
void main()
{
    uint row = pc.row0 + gl_WorkGroupID.z;
    uint seq = table[row * 4 + 1], position = table[row * 4 + 2];
    uint split = gl_WorkGroupID.y / pc.groups, i = gl_GlobalInvocationID.x;
    uint from = split * pc.split_tokens, end = min(position + 1, from + pc.split_tokens);
    if (from > position || i >= pc.dim4)
        return;
    uint key, head0, head_end;
    heads_of_group(gl_WorkGroupID.y % pc.groups, key, head0, head_end);
    uint p0[HEADS];
    [[unroll]] for (uint h = 0; h < HEADS; h++)
        p0[h] = (gl_WorkGroupID.z * pc.heads + min(head0 + h, head_end - 1)) * pc.t_stride;

    precise vec4 acc[HEADS];
    [[unroll]] for (uint h = 0; h < HEADS; h++) acc[h] = vec4(0.0);
    uint col4 = ((pc.value_col + key * pc.value_stride) >> 2) + i;
    for (uint t = from; t < end; t++) {
        vec4 v = kv_load((entry_of(seq, t) >> 2) + col4);
        [[unroll]] for (uint h = 0; h < HEADS; h++)
            acc[h] = fma(vec4(LOAD4(p, (p0[h] + t) >> 2)[t & 3]), v, acc[h]);
    }
    [[unroll]] for (uint h = 0; h < HEADS; h++) if (head0 + h < head_end)
        o[((split * pc.o_rows + pc.o_row0 + gl_WorkGroupID.z) * pc.heads + head0 + h) * pc.dim4 + i] =
            acc[h];
}
#endif
