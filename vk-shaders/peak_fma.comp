#version 460
// SPDX-License-Identifier: MIT
// peak_fma: independent chains of f32 fma in registers: the limit for GFLOP/s.
// 0 out f32 [workgroups]    Grid: x workgroups of 32 x 4 x rounds fmas a lane.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
layout(local_size_x_id = 0) in; // one subgroup
layout(set = 0, binding = 0) writeonly buffer out_block
{
    float sums[];
};
layout(push_constant) uniform push_block
{
    uint rounds;
    float a, b;
    uint pad;
}
pc;
void main()
{
    vec4 v[8];
    [[unroll]] for (uint i = 0; i < 8; i++) v[i] = vec4(float(gl_SubgroupInvocationID + i));
    for (uint r = 0; r < pc.rounds; r++)
        [[unroll]] for (uint j = 0; j < 4; j++)
            [[unroll]] for (uint i = 0; i < 8; i++) v[i] = fma(v[i], vec4(pc.a), vec4(pc.b));
    vec4 s = vec4(0.0);
    [[unroll]] for (uint i = 0; i < 8; i++) s += v[i];
    float sum = subgroupAdd(s.x + s.y + s.z + s.w);
    if (subgroupElect())
        sums[gl_WorkGroupID.x] = sum;
}
