#version 460
// SPDX-License-Identifier: MIT
// att_scores: s[m, h, t] = scale * qa[m, h] . key(t) for t <= position of the row.  A lane is a position;
// a subgroup takes up to HEADS heads that share a key (all of MLA's, a group's of GQA).
//
// 0 cache  KV of this layer; the key of head h starts at value (h / heads_per_key) * key_stride
// 1 qa     f32 [rows, qa_stride4 vec4s], head h at h * qa_head4
// 2 table  u32: rows {token, seq, position, 0}, then page numbers at pages0
// 3 s      f32 [rows of this dispatch, heads, t_stride]
// Grid: x positions by lanes, y groups of heads, z rows row0 ...
// Source: model.md section 3.4, 10.3.   C twin: tests/kernels/ref_attention.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
#include "kv.glsl"
layout(local_size_x_id = 0) in; // one subgroup; divides page_tokens
layout(constant_id = 1) const uint HEADS = 8;
KV_READ(0)
layout(set = 0, binding = 1) readonly buffer qa_block
{
    vec4 qa[];
};
layout(set = 0, binding = 2) readonly buffer table_block
{
    uint table[];
};
layout(set = 0, binding = 3) writeonly buffer s_block
{
    float s[];
};
layout(push_constant) uniform push_block
{
    uint row0;
    uint heads, heads_per_key;
    uint dim4;      // vec4s of a key
    uint key_stride; // values between keys of one entry
    uint qa_stride4, qa_head4;
    uint entry;
    uint page_tokens, pages_max, pages0;
    uint t_stride;
    float scale;
    uint pad[3];
}
pc;

void main()
{
    uint row = pc.row0 + gl_WorkGroupID.z;
    uint seq = table[row * 4 + 1], position = table[row * 4 + 2];
    uint t0 = gl_WorkGroupID.x * gl_WorkGroupSize.x, t = t0 + gl_LocalInvocationID.x;
    if (t0 > position)
        return;
    // Groups never cross a key: heads_per_key is a multiple of HEADS or smaller.
    uint groups_per_key = (pc.heads_per_key + HEADS - 1) / HEADS;
    uint key = gl_WorkGroupID.y / groups_per_key;
    uint head0 = key * pc.heads_per_key + (gl_WorkGroupID.y % groups_per_key) * HEADS;
    uint head_end = min((key + 1) * pc.heads_per_key, head0 + HEADS);

    uint page = table[pc.pages0 + seq * pc.pages_max + t0 / pc.page_tokens];
    uint base4 = ((page * pc.page_tokens + t % pc.page_tokens) * pc.entry + key * pc.key_stride) >> 2;
    uint q4 = row * pc.qa_stride4;
    precise vec4 acc[HEADS];
    [[unroll]] for (uint h = 0; h < HEADS; h++) acc[h] = vec4(0.0);
    for (uint i = 0; i < pc.dim4; i++) {
        vec4 k = kv_load(base4 + i);
        [[unroll]] for (uint h = 0; h < HEADS; h++)
            acc[h] = fma(k, qa[q4 + min(head0 + h, head_end - 1) * pc.qa_head4 + i], acc[h]);
    }
    if (t > position)
        return;
    [[unroll]] for (uint h = 0; h < HEADS; h++) if (head0 + h < head_end)
    {
        precise float sum = (acc[h].x + acc[h].y) + (acc[h].z + acc[h].w);
        s[(gl_WorkGroupID.z * pc.heads + head0 + h) * pc.t_stride + t] = sum * pc.scale;
    }
}
