#version 460
// SPDX-License-Identifier: MIT
// att_scores: s[m, h, t] = scale * qa[m, h] . key(t) for t <= position of the row.  A lane owns one or
// more positions; a subgroup takes up to HEADS heads that share a key (all of MLA's, a group's of GQA).
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
layout(constant_id = 2) const uint GROUPS = 4; // texel path: a lane owns this many positions
KV_READ(0)
ROWS4(1, qa)
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
    uint zero; // 0, known at run time only: see BROADCAST
    uint pad[2];
}
pc;

// Groups of heads never cross a key: heads_per_key is a multiple of HEADS or smaller.
void heads_of_group(out uint key, out uint head0, out uint head_end)
{
    uint groups_per_key = (pc.heads_per_key + HEADS - 1) / HEADS;
    key = gl_WorkGroupID.y / groups_per_key;
    head0 = key * pc.heads_per_key + (gl_WorkGroupID.y % groups_per_key) * HEADS;
    head_end = min((key + 1) * pc.heads_per_key, head0 + HEADS);
}

uint entry_of(uint seq, uint t)
{
    uint page = table[pc.pages0 + seq * pc.pages_max + t / pc.page_tokens];
    return (page * pc.page_tokens + t % pc.page_tokens) * pc.entry;
}

#ifdef TEXEL
// Keys are rows of a matrix and queries its right-hand sides: a lane owns GROUPS positions, a step is 8 values
// of a key.  One fetch brings 8 values of LANES / 2 queries, which shuffles hand to all lanes.  The shuffle's
// index must not be a constant: llvmpipe then makes one permutation of it instead of a loop.
#define BROADCAST(v, lane) subgroupShuffle(v, pc.zero + (lane))
#define QUERIES (gl_WorkGroupSize.x / 2)
#define Q_FETCHES ((HEADS + QUERIES - 1) / QUERIES)
void main()
{
    uint row = pc.row0 + gl_WorkGroupID.z, lane = gl_LocalInvocationID.x;
    uint seq = table[row * 4 + 1], position = table[row * 4 + 2];
    uint lanes = gl_WorkGroupSize.x, t0 = gl_WorkGroupID.x * lanes * GROUPS;
    if (t0 > position)
        return;
    uint key, head0, head_end;
    heads_of_group(key, head0, head_end);
    uint k8[GROUPS], q4[Q_FETCHES];
    [[unroll]] for (uint g = 0; g < GROUPS; g++)
        k8[g] = (entry_of(seq, min(t0 + g * lanes + lane, position)) + key * pc.key_stride) /
                (8 / KV_FETCHES);
    [[unroll]] for (uint f = 0; f < Q_FETCHES; f++)
        q4[f] = row * pc.qa_stride4 +
                min(head0 + f * QUERIES + (lane >> 1), head_end - 1) * pc.qa_head4 + (lane & 1);

    precise float acc[GROUPS][HEADS];
    [[unroll]] for (uint g = 0; g < GROUPS; g++)
        [[unroll]] for (uint h = 0; h < HEADS; h++) acc[g][h] = 0.0;
    for (uint i = 0; i < pc.dim4; i += 2) {
        vec4 q[Q_FETCHES];
        kv_fetch_t raw[GROUPS][KV_FETCHES];
        [[unroll]] for (uint f = 0; f < Q_FETCHES; f++) q[f] = LOAD4(qa, q4[f] + i);
        [[unroll]] for (uint g = 0; g < GROUPS; g++)
            [[unroll]] for (uint j = 0; j < KV_FETCHES; j++)
                raw[g][j] = kv_fetch(k8[g] + (i >> 1) * KV_FETCHES + j);
        float k[GROUPS][8];
        [[unroll]] for (uint g = 0; g < GROUPS; g++) kv_decode8(raw[g], k[g]);
        [[unroll]] for (uint h = 0; h < HEADS; h++)
        {
            float b[8];
            [[unroll]] for (uint j = 0; j < 8; j++)
                b[j] = BROADCAST(q[h / QUERIES][j & 3], (h % QUERIES) * 2 + (j >> 2));
            [[unroll]] for (uint g = 0; g < GROUPS; g++)
            {
                precise float even = k[g][0] * b[0], odd = k[g][1] * b[1];
                [[unroll]] for (uint j = 2; j < 8; j += 2)
                {
                    even = fma(k[g][j], b[j], even);
                    odd = fma(k[g][j + 1], b[j + 1], odd);
                }
                acc[g][h] += even + odd;
            }
        }
    }
    [[unroll]] for (uint g = 0; g < GROUPS; g++)
    {
        uint t = t0 + g * lanes + lane;
        [[unroll]] for (uint h = 0; h < HEADS; h++) if (t <= position && head0 + h < head_end)
            s[(gl_WorkGroupID.z * pc.heads + head0 + h) * pc.t_stride + t] = acc[g][h] * pc.scale;
    }
}
#else
void main()
{
    uint row = pc.row0 + gl_WorkGroupID.z;
    uint seq = table[row * 4 + 1], position = table[row * 4 + 2];
    uint t0 = gl_WorkGroupID.x * gl_WorkGroupSize.x, t = t0 + gl_LocalInvocationID.x;
    if (t > position)
        return;
    uint key, head0, head_end;
    heads_of_group(key, head0, head_end);
    uint base4 = (entry_of(seq, t) + key * pc.key_stride) >> 2, q4 = row * pc.qa_stride4;
    precise vec4 acc[HEADS];
    [[unroll]] for (uint h = 0; h < HEADS; h++) acc[h] = vec4(0.0);
    for (uint i = 0; i < pc.dim4; i++) {
        vec4 k = kv_load(base4 + i);
        [[unroll]] for (uint h = 0; h < HEADS; h++)
            acc[h] = fma(k, LOAD4(qa, q4 + min(head0 + h, head_end - 1) * pc.qa_head4 + i), acc[h]);
    }
    [[unroll]] for (uint h = 0; h < HEADS; h++) if (head0 + h < head_end)
    {
        precise float sum = (acc[h].x + acc[h].y) + (acc[h].z + acc[h].w);
        s[(gl_WorkGroupID.z * pc.heads + head0 + h) * pc.t_stride + t] = sum * pc.scale;
    }
}
#endif
