// SPDX-License-Identifier: MIT
// matmul_core: the one order of summation along K that every matrix kernel shares, whatever its tile:
//
//   lane l of the subgroup takes chunks t = l, l + lanes, ... of 16 columns;
//   within a chunk, one fma chain over vec4s, then (x + y) + (z + w);
//   acc = fma(chunk, scale of its 128x128 block, acc);
//   subgroupAdd at the end.
//
// A tile is R rows of the matrix times M rows of x; the result of one (row, x row) pair does not depend
// on R or M, so one token and many get the same bits.
// K padding: matrix rows are padded with zeros to 16 columns, x rows with zeros to 16 floats.
layout(local_size_x_id = 0) in; // one subgroup
layout(constant_id = 1) const uint R = 16;        // matrix rows of a tile, divides 128 or is divided by it
layout(constant_id = 2) const uint M = 1;         // x rows of a tile
layout(constant_id = 3) const uint DTYPE = 0;     // enum weight_dtype: 0 FP8, 1 BF16, 2 F32
layout(constant_id = 4) const bool HALF = false;  // decode FP8 through fp16
layout(constant_id = 5) const bool ROW_SCALE = false; // a tile may straddle two blocks of scales
layout(constant_id = 6) const bool ACT_SCALE = false; // x holds E4M3 values, xs their scales

#define FP8 (DTYPE == 0)

// One matrix in a heap; written by model/weights.c (struct weight_mat).
struct mat {
    uint heap;
    uint w16;   // first 16-byte unit
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
    return HALF ? e4m3_by_half(v) : e4m3_by_integer(v);
}

// Adds up acc[r][m] for rows row0.. of w and x rows whose first vec4 is x4[m]; xs4[m] is the first
// activation scale.  Rows beyond the matrix repeat its last row.
#define MATMUL_TILE(mt, row0, x4, xs0, acc)                                                         \
    {                                                                                              \
        heap_t base = HEAP_BASE(mt.heap);                                                           \
        uint chunks = (mt.cols + 15) >> 4;                                                          \
        uint last = mt.rows - 1;                                                                    \
        for (uint t = gl_SubgroupInvocationID; t < chunks; t += gl_SubgroupSize) {                 \
            float scale = HALF && FP8 ? E4M3_HALF_SCALE : 1.0;                                     \
            if (FP8 && mt.scols != 0 && !ROW_SCALE)                                                 \
                scale *= heap_float(base, mt.s4 + ((mt.srow0 + row0) >> 7) * mt.scols + (t >> 3));    \
            vec4 xv[M][4];                                                                         \
            [[unroll]] for (uint m = 0; m < M; m++)                                                \
                [[unroll]] for (uint i = 0; i < 4; i++) xv[m][i] = LOAD4(x, x4[m] + t * 4 + i);    \
            float xscale[M];                                                                       \
            [[unroll]] for (uint m = 0; m < M; m++)                                                \
                xscale[m] = ACT_SCALE ? LOAD4(xs, (xs0[m] + (t >> 3)) >> 2)[(xs0[m] + (t >> 3)) & 3] : 1.0;      \
            [[unroll]] for (uint r = 0; r < R; r++)                                                \
            {                                                                                      \
                uint row = min(row0 + r, last);                                                    \
                float row_scale = scale;                                                           \
                if (FP8 && mt.scols != 0 && ROW_SCALE)                                              \
                    row_scale *=                                                                   \
                        heap_float(base, mt.s4 + ((mt.srow0 + row) >> 7) * mt.scols + (t >> 3));      \
                vec4 w0, w1, w2, w3;                                                               \
                if (FP8) {                                                                         \
                    uvec4 v = heap_load(base, mt.w16 + row * mt.k16 + t);                            \
                    w0 = decode(v.x), w1 = decode(v.y), w2 = decode(v.z), w3 = decode(v.w);        \
                } else if (DTYPE == 1) {                                                           \
                    uvec4 v = heap_load(base, mt.w16 + row * mt.k16 + t * 2);                      \
                    uvec4 u = heap_load(base, mt.w16 + row * mt.k16 + t * 2 + 1);                  \
                    w0 = vec4(bf16x2(v.x), bf16x2(v.y)), w1 = vec4(bf16x2(v.z), bf16x2(v.w));      \
                    w2 = vec4(bf16x2(u.x), bf16x2(u.y)), w3 = vec4(bf16x2(u.z), bf16x2(u.w));      \
                } else {                                                                           \
                    uint at = mt.w16 + row * mt.k16 + t * 4;                                       \
                    w0 = uintBitsToFloat(heap_load(base, at));                                     \
                    w1 = uintBitsToFloat(heap_load(base, at + 1));                                 \
                    w2 = uintBitsToFloat(heap_load(base, at + 2));                                 \
                    w3 = uintBitsToFloat(heap_load(base, at + 3));                                 \
                }                                                                                  \
                [[unroll]] for (uint m = 0; m < M; m++)                                            \
                {                                                                                  \
                    precise vec4 p = w0 * xv[m][0];                                                \
                    p = fma(w1, xv[m][1], p);                                                      \
                    p = fma(w2, xv[m][2], p);                                                      \
                    p = fma(w3, xv[m][3], p);                                                      \
                    precise float chunk = (p.x + p.y) + (p.z + p.w);                               \
                    acc[r][m] = fma(chunk, ACT_SCALE ? row_scale * xscale[m] : row_scale,          \
                                    acc[r][m]);                                                    \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        [[unroll]] for (uint r = 0; r < R; r++)                                                    \
            [[unroll]] for (uint m = 0; m < M; m++) acc[r][m] = subgroupAdd(acc[r][m]);            \
    }
