// SPDX-License-Identifier: MIT
// common: what every kernel includes: the two ways to load (TEXEL or ADDRESS, chosen at build time) and
// exact FP8 E4M3 and BF16 decoding.
//
// Bindings are declared by these macros so that a kernel reads the same on both paths:
//   HEAP(b)            weight heap at binding b;  heap_load(base, i) reads 16 bytes at 16-byte unit i
//   heap_load_words(base, i, shift)  the 16 bytes that start `shift` words behind unit i (ADDRESS only)
//   HEAP_BASE(h)       what heap_load wants for heap number h
//   ROWS4(b, name)     f32 buffer read as vec4;   LOAD4(name, i)
#extension GL_EXT_control_flow_attributes : enable
#extension GL_KHR_shader_subgroup_basic : enable
#extension GL_KHR_shader_subgroup_arithmetic : enable
#extension GL_KHR_shader_subgroup_shuffle : enable

#ifdef TEXEL
#define HEAP(b) layout(set = 0, binding = b) uniform usamplerBuffer heap_texels;
#define HEAP_BASE(h) 0u
#define heap_load(base, i) texelFetch(heap_texels, int(i))
#define heap_t uint
#define ROWS4(b, name) layout(set = 0, binding = b) uniform samplerBuffer name;
#define LOAD4(name, i) texelFetch(name, int(i))
// On the texel path a dispatch sees one heap; entries of others are another dispatch's.
#define HEAP_SKIP(entry_heap, dispatch_heap) ((entry_heap) != (dispatch_heap))
#else
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
layout(buffer_reference, std430, buffer_reference_align = 16) readonly buffer heap_ref
{
    uvec4 v;
};
layout(buffer_reference, std430, buffer_reference_align = 4) readonly buffer heap_words_ref
{
    uint v[4];
};
#define HEAP(b)                                                                                    \
    layout(set = 0, binding = b) readonly buffer heap_table                                        \
    {                                                                                              \
        uint64_t heap_address[];                                                                   \
    };
#define HEAP_BASE(h) heap_address[h]
#define heap_load(base, i) (heap_ref((base) + uint64_t(i) * 16ul).v)
#define heap_t uint64_t
uvec4 heap_load_words(heap_t base, uint i, uint shift)
{
    heap_words_ref words = heap_words_ref(base + uint64_t(i) * 16ul + uint64_t(shift) * 4ul);
    return uvec4(words.v[0], words.v[1], words.v[2], words.v[3]);
}
#define ROWS4(b, name)                                                                             \
    layout(set = 0, binding = b) readonly buffer name##_block                                      \
    {                                                                                              \
        vec4 name[];                                                                               \
    };
#define LOAD4(name, i) name[i]
#define HEAP_SKIP(entry_heap, dispatch_heap) false
#endif

// Four E4M3 codes, lowest byte first.  Integer re-bias into f32 with a select for subnormals: depends
// on nothing.
vec4 e4m3_by_integer(uint v)
{
    uvec4 b = uvec4(v << 24, v << 16, v << 8, v);
    uvec4 m = (b >> 4) & 0x07f00000u;
    vec4 normal = uintBitsToFloat(m + 0x3c000000u);
    vec4 subnormal = uintBitsToFloat(m + 0x3c800000u) - 0.015625;
    vec4 r = mix(normal, subnormal, lessThan(m, uvec4(0x00800000u)));
    return uintBitsToFloat(floatBitsToUint(r) | (b & 0x80000000u));
}

// The same codes divided by 256, through fp16 whose exponent field is one bit wider: the fastest way where
// the device keeps fp16 subnormals (codes 1..7).  Multiply the block scale by E4M3_HALF_SCALE.
#define E4M3_HALF_SCALE 256.0
vec4 e4m3_by_half(uint v)
{
    uint odd = (v & 0x80008000u) | ((v & 0x7f007f00u) >> 1);
    uint t = v << 8;
    uint even = (t & 0x80008000u) | ((t & 0x7f007f00u) >> 1);
    vec2 a = unpackHalf2x16(even), b = unpackHalf2x16(odd);
    return vec4(a.x, b.x, a.y, b.y);
}

// The same codes with sign, exponent and mantissa moved to their f32 places are the values times 2^-120, f32
// subnormals for codes 1..7: one multiplication repairs that where the device's f32 keeps subnormals.
vec4 e4m3_by_f32(uint v)
{
    uvec4 b = uvec4(ivec4(v << 24, v << 16, v << 8, v) >> 4) & 0x87f00000u;
    return uintBitsToFloat(b) * 1.329227995784916e36;
}

// Two BF16 values, low half first.
vec2 bf16x2(uint v)
{
    return vec2(uintBitsToFloat(v << 16), uintBitsToFloat(v & 0xffff0000u));
}
