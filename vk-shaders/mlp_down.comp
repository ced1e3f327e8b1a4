#version 460
// SPDX-License-Identifier: MIT
// mlp_down: out[pair, n] = down[n] . act[pair] for the pairs of each tile of mlp_up.
//
// 0 heap    weights
// 1 mats    struct mat []; mats[tile's mat].down is the number of the down_proj
// 2 act     f32 [pairs, x_stride4 vec4s]
// 3 xs      activation scales of act (official-fp8)
// 4 table   u32: tiles {mat, first pair, pairs, 0} at tiles0
// 5 out     f32 [pairs, y_stride]
// Grid: x tiles of R rows, y tiles.
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
layout(set = 0, binding = 5) writeonly buffer out_block
{
    float out_rows[];
};
layout(push_constant) uniform push_block
{
    uint heap;
    uint tiles0;
    uint x_stride4;
    uint y_stride;
    uint xs_stride;
    uint mat0; // 0xffffffff: as the tile says
    uint pad[10];
}
pc;

void main()
{
    uint tile = pc.tiles0 + gl_WorkGroupID.y * 4;
    uint pair0 = table[tile + 1], pairs = table[tile + 2];
    mat down = mats[mats[pc.mat0 == 0xffffffffu ? table[tile] : pc.mat0].down];
    uint row0 = gl_WorkGroupID.x * R;
    if (row0 >= down.rows || HEAP_SKIP(down.heap, pc.heap))
        return;

    uint x4[M], xs0[M];
    [[unroll]] for (uint m = 0; m < M; m++)
    {
        uint pair = pair0 + min(m, pairs - 1);
        x4[m] = pair * pc.x_stride4;
        xs0[m] = pair * pc.xs_stride;
    }
    float acc[TILE_ROWS][M];
    [[unroll]] for (uint r = 0; r < TILE_ROWS; r++)
        [[unroll]] for (uint m = 0; m < M; m++) acc[r][m] = 0.0;
    MATMUL_TILE(down, row0, x4, xs0, acc)

    if (!TILE_STORES)
        return;
    [[unroll]] for (uint r = 0; r < TILE_ROWS; r++)
        [[unroll]] for (uint m = 0; m < M; m++) if (TILE_ROW(row0, r) < down.rows && m < pairs)
            out_rows[(pair0 + m) * pc.y_stride + TILE_ROW(row0, r)] = acc[r][m];
}
