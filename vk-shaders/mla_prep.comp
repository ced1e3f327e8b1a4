#version 460
// SPDX-License-Identifier: MIT
// mla_prep: after the projections and before attention, one subgroup for each (row, head) and one for the
// row's latent:
//   head h:  rotates q_pe and puts it behind the absorbed query: qa[m, h, kv_lora ..]
//   head H:  c = rmsnorm(c_raw), k_pe rotated; both to the row's KV entry.
//
// 0 kv       f32 rows: c_raw, k_pe at kv_col4
// 1 vectors  norm weights
// 2 q        f32 [rows, q_stride], head h at h * q_head, q_pe behind its first `nope` values
// 3 rope     vec2 (cos, sin) [position, rope / 2]
// 4 table    u32: rows {token, seq, position, 0}, then page numbers [seq, pages_max] at pages0
// 5 qa       f32 [rows, qa_stride], head h at h * qa_head
// 6 cache    KV of this layer
// Grid: x rows, y heads + 1.   Source: model.md sections 3.3, 3.5.   C twin: tests/kernels/ref_mla_prep.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
#include "kv.glsl"
layout(local_size_x_id = 0) in; // one subgroup
layout(constant_id = 1) const bool INTERLEAVE = true;
ROWS4(0, kv_rows)
ROWS4(1, vectors)
layout(set = 0, binding = 2) readonly buffer q_block
{
    float q[];
};
layout(set = 0, binding = 3) readonly buffer rope_block
{
    vec2 rope[];
};
layout(set = 0, binding = 4) readonly buffer table_block
{
    uint table[];
};
layout(set = 0, binding = 5) writeonly buffer qa_block
{
    float qa[];
};
KV_WRITE(6)
layout(push_constant) uniform push_block
{
    uint heads;
    uint lora, rope_dim;
    uint nope;
    uint q_stride, q_head;
    uint qa_stride, qa_head;
    uint kv_stride4, kv_col4;
    uint weight4;
    float eps;
    uint entry; // values of a KV entry
    uint page_tokens, pages_max, pages0;
}
pc;

vec2 turn(vec2 v, vec2 cs)
{
    precise vec2 r = vec2(v.x * cs.x - v.y * cs.y, v.x * cs.y + v.y * cs.x);
    return r;
}

float kv_at(uint base4, uint i)
{
    return LOAD4(kv_rows, base4 + (i >> 2))[i & 3];
}

void main()
{
    uint row = gl_WorkGroupID.x, head = gl_WorkGroupID.y, lane = gl_SubgroupInvocationID;
    uint seq = table[row * 4 + 1], position = table[row * 4 + 2];
    uint half_dim = pc.rope_dim >> 1;
    if (head < pc.heads) {
        uint from = row * pc.q_stride + head * pc.q_head + pc.nope;
        uint to = row * pc.qa_stride + head * pc.qa_head + pc.lora;
        for (uint i = lane; i < half_dim; i += gl_SubgroupSize) {
            uint a = INTERLEAVE ? 2 * i : i, b = INTERLEAVE ? 2 * i + 1 : i + half_dim;
            vec2 v = turn(vec2(q[from + a], q[from + b]), rope[position * half_dim + i]);
            qa[to + a] = v.x;
            qa[to + b] = v.y;
        }
        return;
    }

    uint base = row * pc.kv_stride4 + pc.kv_col4, n4 = pc.lora >> 2;
    precise vec4 squares = vec4(0.0);
    for (uint i = lane; i < n4; i += gl_SubgroupSize) {
        vec4 v = LOAD4(kv_rows, base + i);
        squares = fma(v, v, squares);
    }
    precise float sum = subgroupAdd((squares.x + squares.y) + (squares.z + squares.w));
    precise float inverse = 1.0 / sqrt(sum / float(pc.lora) + pc.eps);
    uint page = table[pc.pages0 + seq * pc.pages_max + position / pc.page_tokens];
    uint to2 = (page * pc.page_tokens + position % pc.page_tokens) * (pc.entry >> 1);
    for (uint i = lane; i < n4; i += gl_SubgroupSize) {
        vec4 v = LOAD4(kv_rows, base + i) * inverse * LOAD4(vectors, pc.weight4 + i);
        kv_store2(to2 + i * 2, v.xy);
        kv_store2(to2 + i * 2 + 1, v.zw);
    }
    // Lane i stores the values 2 i and 2 i + 1 of k_pe, whichever pairs they belong to.
    for (uint i = lane; i < half_dim; i += gl_SubgroupSize) {
        vec2 v;
        if (INTERLEAVE) {
            v = turn(vec2(kv_at(base, pc.lora + 2 * i), kv_at(base, pc.lora + 2 * i + 1)),
                     rope[position * half_dim + i]);
        } else {
            for (uint j = 0; j < 2; j++) {
                uint at = 2 * i + j, pair = at < half_dim ? at : at - half_dim;
                vec2 t = turn(vec2(kv_at(base, pc.lora + pair),
                                   kv_at(base, pc.lora + pair + half_dim)),
                              rope[position * half_dim + pair]);
                v[j] = at < half_dim ? t.x : t.y;
            }
        }
        kv_store2(to2 + (pc.lora >> 1) + i, v);
    }
}
