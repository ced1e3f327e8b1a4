#version 460
// SPDX-License-Identifier: MIT
// peak_read: reads a heap as fast as the device can and keeps a checksum: the limit for GB/s of weights.
// 0 heap   1 out u32 [workgroups]    Grid: x runs of `units` 16-byte units.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
layout(local_size_x_id = 0) in; // one subgroup
HEAP(0)
layout(set = 0, binding = 1) writeonly buffer out_block
{
    uint sums[];
};
layout(push_constant) uniform push_block
{
    uint units; // a workgroup, multiple of 4 x subgroup size
    uint pad[3];
}
pc;
void main()
{
    heap_t base = HEAP_BASE(0);
    uint from = gl_WorkGroupID.x * pc.units + gl_SubgroupInvocationID;
    uvec4 a = uvec4(0), b = uvec4(0), c = uvec4(0), d = uvec4(0);
    for (uint i = 0; i < pc.units; i += 4 * gl_SubgroupSize) {
        a ^= heap_load(base, from + i);
        b ^= heap_load(base, from + i + gl_SubgroupSize);
        c ^= heap_load(base, from + i + 2 * gl_SubgroupSize);
        d ^= heap_load(base, from + i + 3 * gl_SubgroupSize);
    }
    a ^= b ^ c ^ d;
    uint sum = subgroupXor(a.x ^ a.y ^ a.z ^ a.w);
    if (subgroupElect())
        sums[gl_WorkGroupID.x] = sum;
}
