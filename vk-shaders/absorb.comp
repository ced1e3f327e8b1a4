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
// Source: model.md section 3.4.  C twin: tests/kernels/test_prep.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
HEAP(0)
#include "matmul_core.glsl"
layout(set = 0, binding = 1, std430) readonly buffer mats_block
{
    mat mats[];
};
ROWS4(2, q)
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
    uint zero; // 0, known at run time only: see BROADCAST
    uint pad[3];
}
pc;

// 16 columns of one row of the matrix; FETCHES 16-byte units of it are read first.
#define FETCHES (DTYPE == 0 ? 1 : DTYPE == 1 ? 2 : 4)
void decode16(uvec4 raw[4], out float w[16])
{
    [[unroll]] for (uint i = 0; i < 4; i++)
    {
        vec4 v;
        if (DTYPE == 0)
            v = decode(raw[0][i]);
        else if (DTYPE == 1)
            v = vec4(bf16x2(raw[i >> 1][(i & 1) * 2]), bf16x2(raw[i >> 1][(i & 1) * 2 + 1]));
        else
            v = uintBitsToFloat(raw[i]);
        [[unroll]] for (uint j = 0; j < 4; j++) w[i * 4 + j] = v[j];
    }
}

// A step is 8 rows of the matrix.  One fetch brings 8 values of LANES / 2 queries, handed to all lanes by
// shuffles with an index that is not a constant (see att_scores); on the address path lanes just read them.
#ifdef TEXEL
#define BROADCAST(v, lane) subgroupShuffle(v, pc.zero + (lane))
#define QUERIES (gl_WorkGroupSize.x / 2)
#else
#define BROADCAST(v, lane) (v)
#define QUERIES 1
#endif
#define Q_FETCHES ((M + QUERIES - 1) / QUERIES)
#define STEP 8

void main()
{
    mat w = mats[pc.mat_idx];
    uint head = gl_WorkGroupID.y, m0 = gl_WorkGroupID.z * M, lane = gl_LocalInvocationID.x;
    uint chunks = (w.cols + 15) >> 4, chunk = min(gl_GlobalInvocationID.x, chunks - 1);
    heap_t base = HEAP_BASE(w.heap);
    precise float acc[M][16];
    [[unroll]] for (uint m = 0; m < M; m++)
        [[unroll]] for (uint c = 0; c < 16; c++) acc[m][c] = 0.0;

    for (uint d0 = 0; d0 < pc.nope; d0 += STEP) {
        uint left = min(pc.nope - d0, STEP);
#ifdef TEXEL
        vec4 qv[Q_FETCHES];
        [[unroll]] for (uint f = 0; f < Q_FETCHES; f++)
            qv[f] = LOAD4(q, ((min(m0 + f * QUERIES + (lane >> 1), pc.rows - 1) * pc.q_stride +
                               head * pc.q_head + d0) >> 2) + (lane & 1));
#define QUERY(m, j) BROADCAST(qv[(m) / QUERIES][(j) & 3], ((m) % QUERIES) * 2 + ((j) >> 2))
#else
#define QUERY(m, j)                                                                                \
    LOAD4(q, (min(m0 + (m), pc.rows - 1) * pc.q_stride + head * pc.q_head + d0 + (j)) >> 2)[(j) & 3]
#endif
        uvec4 raw[STEP][4];
        float scale[STEP];
        [[unroll]] for (uint j = 0; j < STEP; j++)
        {
            uint row = head * pc.head_rows + d0 + min(j, left - 1);
            [[unroll]] for (uint i = 0; i < FETCHES; i++)
                raw[j][i] = heap_load(base, w.w16 + row * w.k16 + chunk * FETCHES + i);
            // Heads of 8 n rows never straddle two blocks within a step.
            scale[j] = HALF && FP8 ? E4M3_HALF_SCALE : 1.0;
            if (FP8 && w.scols != 0 && (ROW_SCALE || j == 0))
                scale[j] *= heap_float(base, w.s4 + (row >> 7) * w.scols + (chunk >> 3));
            else if (j > 0)
                scale[j] = scale[0];
        }
        float wv[STEP][16];
        [[unroll]] for (uint j = 0; j < STEP; j++) decode16(raw[j], wv[j]);
        [[unroll]] for (uint m = 0; m < M; m++)
        {
            precise float qs[STEP];
            [[unroll]] for (uint j = 0; j < STEP; j++)
                qs[j] = j < left ? QUERY(m, j) * scale[j] : 0.0;
            [[unroll]] for (uint c = 0; c < 16; c++)
            {
                precise float sum = wv[0][c] * qs[0];
                [[unroll]] for (uint j = 1; j < STEP; j++) sum = fma(wv[j][c], qs[j], sum);
                acc[m][c] += sum;
            }
        }
    }
    if (gl_GlobalInvocationID.x >= chunks)
        return;
    [[unroll]] for (uint m = 0; m < M; m++)
    {
        if (m0 + m >= pc.rows)
            break;
        uint at = (m0 + m) * pc.out_stride + head * pc.out_head + chunk * 16;
        for (uint j = 0; j < 16 && chunk * 16 + j < w.cols; j++)
            out_rows[at + j] = acc[m][j];
    }
}
