#version 460
// SPDX-License-Identifier: MIT
// mlp_up: act[pair, n] = silu(gate[n] . x[row]) * (up[n] . x[row]) for the pairs of each tile.
// A pair is one row of x going through one MLP: a routed expert, the shared experts or a dense MLP.
//
// 0 heap    weights
// 1 mats    struct mat []; mats[i] is a gate_proj, mats[i].up the number of its up_proj,
//           which starts as far behind its unit (SHIFT)
// 2 x       f32 rows
// 3 xs      activation scales (official-fp8)
// 4 table   u32: tiles {mat, first pair, pairs, 0} at tiles0; the x row of each pair at pair_rows0
// 5 act     f32 [pairs, y_stride]
// Grid: x tiles of R rows of the widest MLP, y tiles.
// Source: model.md section 3.6.  C twin: tests/kernels/ref_matmul.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
HEAP(0)
ROWS4(2, x)
ROWS4(3, xs)
#include "matmul_core.glsl"
layout(set = 0, binding = 1, std430) readonly buffer mats_block
{
    mat mats[];
};
layout(set = 0, binding = 4) readonly buffer table_block
{
    uint table[];
};
layout(set = 0, binding = 5) writeonly buffer act_block
{
    float act[];
};
layout(push_constant) uniform push_block
{
    uint heap;
    uint tiles0;
    uint pair_rows0;
    uint x_stride4;
    uint y_stride;
    uint xs_stride;
    uint mat0; // 0xffffffff: as the tile says
    uint pad[9];
}
pc;

void main()
{
    uint tile = pc.tiles0 + gl_WorkGroupID.y * 4;
    uint pair0 = table[tile + 1], pairs = table[tile + 2];
    mat gate = mats[pc.mat0 == 0xffffffffu ? table[tile] : pc.mat0];
    uint row0 = gl_WorkGroupID.x * R;
    if (row0 >= gate.rows || HEAP_SKIP(gate.heap, pc.heap))
        return;
    mat up = mats[gate.up];

    uint x4[M], xs0[M];
    [[unroll]] for (uint m = 0; m < M; m++)
    {
        uint xrow = table[pc.pair_rows0 + pair0 + min(m, pairs - 1)];
        x4[m] = xrow * pc.x_stride4;
        xs0[m] = xrow * pc.xs_stride;
    }
    float gate_sum[TILE_ROWS][M], up_sum[TILE_ROWS][M];
    [[unroll]] for (uint r = 0; r < TILE_ROWS; r++)
        [[unroll]] for (uint m = 0; m < M; m++) gate_sum[r][m] = up_sum[r][m] = 0.0;
    MATMUL_TILE(gate, row0, x4, xs0, gate_sum)
    MATMUL_TILE(up, row0, x4, xs0, up_sum)

    if (!TILE_STORES)
        return;
    [[unroll]] for (uint r = 0; r < TILE_ROWS; r++)
        [[unroll]] for (uint m = 0; m < M; m++) if (TILE_ROW(row0, r) < gate.rows && m < pairs)
            act[(pair0 + m) * pc.y_stride + TILE_ROW(row0, r)] =
                gate_sum[r][m] / (1.0 + exp(-gate_sum[r][m])) * up_sum[r][m];
}
