// SPDX-License-Identifier: MIT
// kv: how kernels find a token's entry in the paged KV cache and read or write it, f32 or f16.
// An entry is `stride` values (multiple of 4); page p of a layer holds page_tokens entries.
//
//   KV_READ(b)    the cache for reading; kv_load(i) gives values 4 i .. 4 i + 3 (address path);
//                 on the texel path kv_fetch reads 16 bytes and kv_decode8 makes 8 values of
//                 KV_FETCHES of them: fetches are calls that spill registers, so they come first
//   KV_WRITE(b)   for writing;           kv_store2(i, v) stores values 2 i, 2 i + 1
#ifdef KV_F16
#ifdef TEXEL
#define KV_READ(b) layout(set = 0, binding = b) uniform usamplerBuffer kv_texels;
#define kv_fetch_t uvec4
#define KV_FETCHES 1 // 16-byte fetches for 8 values
#define kv_fetch(i) texelFetch(kv_texels, int(i))
void kv_decode8(uvec4 v[1], out float f[8])
{
    [[unroll]] for (int i = 0; i < 4; i++)
    {
        vec2 h = unpackHalf2x16(v[0][i]);
        f[2 * i] = h.x;
        f[2 * i + 1] = h.y;
    }
}
#else
#define KV_READ(b)                                                                                 \
    layout(set = 0, binding = b) readonly buffer kv_block                                          \
    {                                                                                              \
        uvec2 kv[];                                                                                \
    };
#define kv_load(i) vec4(unpackHalf2x16(kv[i].x), unpackHalf2x16(kv[i].y))
#endif
#define KV_WRITE(b)                                                                                \
    layout(set = 0, binding = b) writeonly buffer kv_out_block                                     \
    {                                                                                              \
        uint kv_out[];                                                                             \
    };
#define kv_store2(i, v) kv_out[i] = packHalf2x16(v)
#else
#ifdef TEXEL
#define KV_READ(b) layout(set = 0, binding = b) uniform samplerBuffer kv_texels;
#define kv_fetch_t vec4
#define KV_FETCHES 2
#define kv_fetch(i) texelFetch(kv_texels, int(i))
void kv_decode8(vec4 v[2], out float f[8])
{
    [[unroll]] for (int i = 0; i < 8; i++) f[i] = v[i >> 2][i & 3];
}
#else
#define KV_READ(b)                                                                                 \
    layout(set = 0, binding = b) readonly buffer kv_block                                          \
    {                                                                                              \
        vec4 kv[];                                                                                 \
    };
#define kv_load(i) kv[i]
#endif
#define KV_WRITE(b)                                                                                \
    layout(set = 0, binding = b) writeonly buffer kv_out_block                                     \
    {                                                                                              \
        vec2 kv_out[];                                                                             \
    };
#define kv_store2(i, v) kv_out[i] = v
#endif
