#version 460
// SPDX-License-Identifier: MIT
// gqa_prep: rotates q and k (half-split pairs, all of head_dim) of dense attention; k and v go to the row's
// KV entry [k of all kv heads | v of all kv heads].
//
// 0 qkv     f32 rows: q heads, k heads, v heads, head_dim each
// 1 rope    vec2 (cos, sin) [position, head_dim / 2]
// 2 table   u32: rows {token, seq, position, 0}, then page numbers at pages0
// 3 qa      f32 [rows, qa_stride]
// 4 cache   KV of this layer
// Grid: x rows, y heads + kv_heads.   Source: model.md section 10.3.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
#include "kv.glsl"
layout(local_size_x_id = 0) in; // one subgroup
ROWS4(0, qkv)
layout(set = 0, binding = 1) readonly buffer rope_block
{
    vec2 rope[];
};
layout(set = 0, binding = 2) readonly buffer table_block
{
    uint table[];
};
layout(set = 0, binding = 3) writeonly buffer qa_block
{
    float qa[];
};
KV_WRITE(4)
layout(push_constant) uniform push_block
{
    uint heads, kv_heads, dim;
    uint qkv_stride4;
    uint qa_stride, qa_head;
    uint entry;
    uint page_tokens, pages_max, pages0;
    uint pad[6];
}
pc;

float qkv_at(uint base4, uint i)
{
    return LOAD4(qkv, base4 + (i >> 2))[i & 3];
}

// Value i of the rotated head that starts at float `from` of the row.
float rotated(uint base4, uint from, uint i, uint position)
{
    uint half_dim = pc.dim >> 1, pair = i < half_dim ? i : i - half_dim;
    float a = qkv_at(base4, from + pair), b = qkv_at(base4, from + pair + half_dim);
    vec2 cs = rope[position * half_dim + pair];
    precise float r = i < half_dim ? a * cs.x - b * cs.y : a * cs.y + b * cs.x;
    return r;
}

void main()
{
    uint row = gl_WorkGroupID.x, head = gl_WorkGroupID.y, lane = gl_SubgroupInvocationID;
    uint seq = table[row * 4 + 1], position = table[row * 4 + 2];
    uint base4 = row * pc.qkv_stride4;
    if (head < pc.heads) {
        for (uint i = lane; i < pc.dim; i += gl_SubgroupSize)
            qa[row * pc.qa_stride + head * pc.qa_head + i] =
                rotated(base4, head * pc.dim, i, position);
        return;
    }
    uint kv_head = head - pc.heads;
    uint k0 = (pc.heads + kv_head) * pc.dim, v0 = (pc.heads + pc.kv_heads + kv_head) * pc.dim;
    uint page = table[pc.pages0 + seq * pc.pages_max + position / pc.page_tokens];
    uint to2 = (page * pc.page_tokens + position % pc.page_tokens) * (pc.entry >> 1);
    uint v_to2 = to2 + ((pc.kv_heads * pc.dim) >> 1);
    for (uint i = lane; i < pc.dim >> 1; i += gl_SubgroupSize) {
        uint at = ((kv_head * pc.dim) >> 1) + i;
        vec2 k = vec2(rotated(base4, k0, 2 * i, position), rotated(base4, k0, 2 * i + 1, position));
        kv_store2(to2 + at, k);
        kv_store2(v_to2 + at,
                  vec2(qkv_at(base4, v0 + 2 * i), qkv_at(base4, v0 + 2 * i + 1)));
    }
}
