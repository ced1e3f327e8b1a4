// SPDX-License-Identifier: MIT
// matmul_core: the orders of summation along K that every matrix kernel shares, whatever its tile.  A tile is
// R rows of the matrix times M rows of x; what a (row, x row) pair gives does not depend on R, M or on what else
// the tile holds, so one token and many get the same bits.
//
// Both paths cut K into chunks of 16 columns and add a chunk up as
//   p[j] = sum over i of w[4 i + j] x[4 i + j] (j = 0..3, rising i, one fma chain);  chunk = (p0 + p1) + (p2 + p3).
//
// TEXEL (Mesa's lavapipe: a fetch is a call that spills every register, cross-lane moves are one instruction):
//   a lane owns rows row0 + lane, row0 + lanes + lane, ...; block = the sum of 8 chunks in rising order;
//   acc = fma(block, scale of the 128x128 block, acc).  A fetch of x brings 16 columns of several x rows, or
//   several chunks of the one, to different lanes; a shuffle hands each value to all.  No lane waits for another.
// ADDRESS (real GPUs: coalesced 16-byte loads along K):
//   lane l of the subgroup takes chunks l, l + lanes, ...;  acc = fma(chunk, scale, acc);  subgroupAdd at the end.
//
// SHIFT: tensors of a checkpoint's file lie at any multiple of 4 bytes, and so do experts that kernels read
// as a drive delivered them.  The columns are the same and are added up in the same order: same bits.  One more
// 16-byte unit behind such a matrix is read, and thrown away, than behind an aligned one.
//
// K padding: matrix rows are padded with zeros to 16 columns, x rows with zeros to 16 floats.
layout(local_size_x_id = 0) in; // one subgroup
layout(constant_id = 1) const uint R = 16; // matrix rows of a tile; TEXEL: a multiple of the subgroup
layout(constant_id = 2) const uint M = 1;  // x rows of a tile
layout(constant_id = 3) const uint DTYPE = 0;  // enum weight_dtype: 0 FP8, 1 BF16, 2 F32
layout(constant_id = 4) const uint DECODE = 0; // of FP8: enum vk_e4m3: 0 integers, 1 halves, 2 f32
layout(constant_id = 5) const bool ROW_SCALE = false; // a tile may straddle two blocks of scales
layout(constant_id = 6) const bool ACT_SCALE = false; // x holds E4M3 values, xs their scales
layout(constant_id = 7) const uint SHIFT = 0; // words of 32 bits, 0..3: a matrix starts at w16 * 16 + SHIFT * 4

#define FP8 (DTYPE == 0)
#define HALF (DECODE == 1)

// One matrix in a heap; written by model/weights.c (struct weight_mat).
struct mat {
    uint heap;
    uint w16;   // first 16-byte unit; see SHIFT
    uint s4;    // first scale, in floats from the heap's start
    uint rows;  // N
    uint cols;  // K
    uint k16;   // 16-byte units a row
    uint srow0; // row 0's place in the grid of scale blocks
    uint scols; // scales a row of blocks; 0: no scales
    uint x_col; // first float of x, multiple of 4
    uint y_col; // first float of y
    uint bias;  // first float in the vectors; 0xffffffff: none
    uint up;    // mlp_up: the mat of up_proj;  down: of down_proj
    uint down;
    uint dtype; // DTYPE of the pipeline that may read it
    uint pad0, pad1;
};

float heap_float(heap_t base, uint i)
{
    return uintBitsToFloat(heap_load(base, i >> 2)[i & 3]);
}

vec4 decode(uint v)
{
    if (DECODE == 2)
        return e4m3_by_f32(v);
    return HALF ? e4m3_by_half(v) : e4m3_by_integer(v);
}

// 16-byte units of a chunk of 16 columns, and columns 4 i .. 4 i + 3 of the chunk in units v[at..].
#define UNITS (DTYPE == 0 ? 1 : DTYPE == 1 ? 2 : 4)
#define CHUNK4(v, at, i)                                                                           \
    (FP8          ? decode((v)[at][i])                                                             \
     : DTYPE == 1 ? vec4(bf16x2((v)[(at) + (i) / 2][(i) * 2 & 3]),                                  \
                         bf16x2((v)[(at) + (i) / 2][((i) * 2 & 3) + 1]))                            \
                  : uintBitsToFloat((v)[(at) + (i)]))

// The 16 bytes that start SHIFT words into unit a; b is the unit behind it.
uvec4 unit_shift(uvec4 a, uvec4 b)
{
    return SHIFT == 0   ? a
           : SHIFT == 1 ? uvec4(a.yzw, b.x)
           : SHIFT == 2 ? uvec4(a.zw, b.xy)
                        : uvec4(a.w, b.xyz);
}

#ifdef TEXEL
#extension GL_KHR_shader_subgroup_shuffle : enable
const uint LANES = gl_WorkGroupSize.x;
const uint G = R / LANES;  // rows a lane owns
const uint TP = LANES / 4; // chunks of x in one fetch
const uint S = M == 1 ? TP : 1;             // chunks of a step
const uint XF = M == 1 ? 1 : (M + TP - 1) / TP; // fetches of x in a step

#define TILE_ROWS G // results of a lane
#define TILE_ROW(row0, r) ((row0) + (r) * LANES + gl_LocalInvocationID.x)
#define TILE_STORES true

// Lane `from` of v for all lanes.  An index the compiler cannot see through gives one permute of 8 lanes.
#define SPREAD(v, from) (LANES == 8 ? subgroupShuffle(v, lane0 + (from)) : subgroupShuffle(v, from))

// Rows of a lane lie K apart, and short rows end before a prefetcher has learned their streams: one x row reads
// a small tile's 64-byte lines once in the order of memory first (2048x1024 from memory: +30 %).
#define TOUCH_UNITS 2048 // 32 KiB: what stays near until it is used
uint tile_touch(mat mt, uint row0)
{
    uint at = mt.w16 + row0 * mt.k16 + gl_LocalInvocationID.x * 4, touched = 0;
    uint end = mt.w16 + min(row0 + R, mt.rows) * mt.k16;
    if (M != 1 || R * mt.k16 > TOUCH_UNITS)
        end = 0;
    [[dont_unroll]] for (; at < end; at += LANES * 16) [[unroll]] for (uint i = 0; i < 4; i++)
        touched |= heap_load(0, min(at + i * LANES * 4, end - 1)).x;
    return touched;
}

// Adds up acc[r][m] for TILE_ROW(row0, r) of mt and the x rows whose first vec4 is x4[m]; xs0[m] is the first
// activation scale.  Rows beyond the matrix repeat its last row.  With a SHIFT the lane keeps the last unit of
// its row, so that each is fetched once.
#define MATMUL_TILE(mt, row0, x4, xs0, acc)                                                        \
    {                                                                                              \
        const uint lane = gl_LocalInvocationID.x, chunks = (mt.cols + 15) >> 4;                    \
        const uint lane0 = mt.cols >> 31 & tile_touch(mt, row0); /* 0 */                           \
        uint at[G], xat[XF], s0[G];                                                                \
        uvec4 kept[G];                                                                             \
        [[unroll]] for (uint g = 0; g < G; g++)                                                    \
        {                                                                                          \
            uint row = min(TILE_ROW(row0, g), mt.rows - 1);                                        \
            at[g] = mt.w16 + row * mt.k16;                                                         \
            s0[g] = mt.s4 + ((mt.srow0 + row) >> 7) * mt.scols;                                    \
            if (SHIFT != 0)                                                                        \
                kept[g] = heap_load(0, at[g]++);                                                   \
        }                                                                                          \
        [[unroll]] for (uint f = 0; f < XF; f++)                                                   \
        {                                                                                          \
            xat[f] = x4[min(f * TP, M - 1)];                                                       \
            [[unroll]] for (uint t = 1; t < TP; t++) if (M != 1 && lane >> 2 == t)                 \
                xat[f] = x4[min(f * TP + t, M - 1)];                                               \
            xat[f] += M == 1 ? lane : lane & 3;                                                    \
        }                                                                                          \
        for (uint c = 0; c < chunks;) {                                                            \
            precise float blk[G][M];                                                               \
            [[unroll]] for (uint g = 0; g < G; g++)                                                \
                [[unroll]] for (uint m = 0; m < M; m++) blk[g][m] = 0.0;                           \
            const uint block = c >> 3, end = min(c + 8, chunks);                                   \
            [[dont_unroll]] for (; c < end; c += S)                                                \
            {                                                                                      \
                vec4 xv[XF];                                                                       \
                uvec4 q[G][S * UNITS];                                                             \
                [[unroll]] for (uint f = 0; f < XF; f++) xv[f] = LOAD4(x, xat[f] + c * 4);         \
                [[unroll]] for (uint g = 0; g < G; g++)                                            \
                    [[unroll]] for (uint u = 0; u < S * UNITS; u++)                                \
                        q[g][u] = heap_load(0, at[g] + c * UNITS + u);                             \
                if (SHIFT != 0) {                                                                  \
                    [[unroll]] for (uint g = 0; g < G; g++)                                        \
                        [[unroll]] for (uint u = 0; u < S * UNITS; u++)                            \
                        {                                                                          \
                            const uvec4 unit = q[g][u];                                            \
                            q[g][u] = unit_shift(kept[g], unit);                                   \
                            kept[g] = unit;                                                        \
                        }                                                                          \
                }                                                                                  \
                [[unroll]] for (uint h = 0; h < S; h++)                                            \
                {                                                                                  \
                    vec4 wv[G][4];                                                                 \
                    [[unroll]] for (uint g = 0; g < G; g++)                                        \
                        [[unroll]] for (uint i = 0; i < 4; i++)                                    \
                            wv[g][i] = CHUNK4(q[g], h * UNITS, i);                                  \
                    [[unroll]] for (uint m = 0; m < M; m++)                                        \
                    {                                                                              \
                        const uint f = m / TP, from = M == 1 ? h * 4 : m % TP * 4;                 \
                        vec4 xb[4];                                                                \
                        [[unroll]] for (uint i = 0; i < 4; i++)                                    \
                            xb[i] = vec4(SPREAD(xv[f].x, from + i), SPREAD(xv[f].y, from + i),     \
                                         SPREAD(xv[f].z, from + i), SPREAD(xv[f].w, from + i));    \
                        [[unroll]] for (uint g = 0; g < G; g++)                                    \
                        {                                                                          \
                            precise vec4 p = wv[g][0] * xb[0];                                      \
                            p = fma(wv[g][1], xb[1], p);                                            \
                            p = fma(wv[g][2], xb[2], p);                                            \
                            p = fma(wv[g][3], xb[3], p);                                            \
                            precise float sum = blk[g][m] + ((p.x + p.y) + (p.z + p.w));           \
                            blk[g][m] = S == 1 || c + h < end ? sum : blk[g][m];                   \
                        }                                                                          \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
            float scale[G], xscale[M];                                                             \
            [[unroll]] for (uint g = 0; g < G; g++)                                                \
            {                                                                                      \
                scale[g] = g != 0 && !ROW_SCALE ? scale[0] : HALF && FP8 ? E4M3_HALF_SCALE : 1.0;  \
                if (FP8 && mt.scols != 0 && (g == 0 || ROW_SCALE))                                 \
                    scale[g] *= heap_float(0, s0[g] + block);                                      \
            }                                                                                      \
            [[unroll]] for (uint m = 0; m < M; m++)                                                \
                xscale[m] = ACT_SCALE ? LOAD4(xs, (xs0[m] + block) >> 2)[(xs0[m] + block) & 3] : 1.0; \
            [[unroll]] for (uint g = 0; g < G; g++)                                                \
                [[unroll]] for (uint m = 0; m < M; m++)                                            \
                    acc[g][m] = fma(blk[g][m], ACT_SCALE ? scale[g] * xscale[m] : scale[g], acc[g][m]); \
        }                                                                                          \
    }
#else
#define TILE_ROWS R
#define TILE_ROW(row0, r) ((row0) + (r))
#define TILE_STORES subgroupElect()

#define MATMUL_TILE(mt, row0, x4, xs0, acc)                                                        \
    {                                                                                              \
        heap_t base = HEAP_BASE(mt.heap);                                                          \
        uint chunks = (mt.cols + 15) >> 4;                                                         \
        uint last = mt.rows - 1;                                                                   \
        for (uint t = gl_SubgroupInvocationID; t < chunks; t += gl_SubgroupSize) {                 \
            float scale = HALF && FP8 ? E4M3_HALF_SCALE : 1.0;                                     \
            if (FP8 && mt.scols != 0 && !ROW_SCALE)                                                \
                scale *= heap_float(base, mt.s4 + ((mt.srow0 + row0) >> 7) * mt.scols + (t >> 3)); \
            vec4 xv[M][4];                                                                         \
            float xscale[M];                                                                       \
            [[unroll]] for (uint m = 0; m < M; m++)                                                \
            {                                                                                      \
                [[unroll]] for (uint i = 0; i < 4; i++) xv[m][i] = LOAD4(x, x4[m] + t * 4 + i);    \
                uint at = xs0[m] + (t >> 3);                                                       \
                xscale[m] = ACT_SCALE ? LOAD4(xs, at >> 2)[at & 3] : 1.0;                          \
            }                                                                                      \
            [[unroll]] for (uint r = 0; r < R; r++)                                                \
            {                                                                                      \
                uint row = min(row0 + r, last);                                                    \
                float row_scale = scale;                                                           \
                if (FP8 && mt.scols != 0 && ROW_SCALE)                                             \
                    row_scale *=                                                                   \
                        heap_float(base, mt.s4 + ((mt.srow0 + row) >> 7) * mt.scols + (t >> 3));   \
                uvec4 q[UNITS];                                                                    \
                [[unroll]] for (uint u = 0; u < UNITS; u++)                                        \
                    if (SHIFT == 0)                                                                \
                        q[u] = heap_load(base, mt.w16 + row * mt.k16 + t * UNITS + u);             \
                    else                                                                           \
                        q[u] = heap_load_words(base, mt.w16 + row * mt.k16 + t * UNITS + u, SHIFT); \
                vec4 wv[4];                                                                         \
                [[unroll]] for (uint i = 0; i < 4; i++) wv[i] = CHUNK4(q, 0, i);                    \
                [[unroll]] for (uint m = 0; m < M; m++)                                            \
                {                                                                                  \
                    precise vec4 p = wv[0] * xv[m][0];                                              \
                    p = fma(wv[1], xv[m][1], p);                                                    \
                    p = fma(wv[2], xv[m][2], p);                                                    \
                    p = fma(wv[3], xv[m][3], p);                                                    \
                    precise float chunk = (p.x + p.y) + (p.z + p.w);                               \
                    acc[r][m] = fma(chunk, ACT_SCALE ? row_scale * xscale[m] : row_scale,          \
                                    acc[r][m]);                                                    \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        [[unroll]] for (uint r = 0; r < R; r++)                                                    \
            [[unroll]] for (uint m = 0; m < M; m++) acc[r][m] = subgroupAdd(acc[r][m]);            \
    }
#endif
