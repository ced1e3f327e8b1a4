#version 460
// SPDX-License-Identifier: MIT
// router: noaux_tc: p = sigmoid(logits); b = p + bias selects: the topk_group groups with the largest sum
// of their two largest b, then the k largest b in them; weights are the unbiased p, normalised if asked,
// times the scaling factor.  Ties take the lower number.  One subgroup a row.
//
// 0 logits   f32 [rows, experts]
// 1 vectors  f32 bias at bias0
// 2 scores   f32 [rows, 2, experts]: p, then b (masked ones -inf)
// 3 ids      u32 [rows, k], by falling b
// 4 weights  f32 [rows, k], same order
// Grid: x rows.   Source: model.md section 3.6.   C twin: tests/kernels/ref_router.c.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"
layout(local_size_x_id = 0) in; // one subgroup
layout(set = 0, binding = 0) readonly buffer logits_block
{
    float logits[];
};
ROWS4(1, vectors)
layout(set = 0, binding = 2) buffer scores_block
{
    float scores[];
};
layout(set = 0, binding = 3) buffer ids_block
{
    uint ids[];
};
layout(set = 0, binding = 4) buffer weights_block
{
    float weights[];
};
layout(push_constant) uniform push_block
{
    uint experts, k;
    uint groups, groups_kept;
    uint bias0; // 0xffffffff: none
    uint normalise;
    float factor;
    uint logits_stride;
    uint pad[4];
}
pc;

#define MINUS_INF uintBitsToFloat(0xff800000u)

// The lane-wise best (value, index) of the subgroup, ties to the lower index, known to all lanes.
void best_of(inout float value, inout uint index)
{
    float top = subgroupMax(value);
    index = subgroupMin(value == top ? index : 0xffffffffu);
    value = top;
}

// Leaves in scores only the experts of the kept groups.
void groups_mask(uint b0, uint lane)
{
    uint size = pc.experts / pc.groups;
    uint kept = 0; // bit g: group g is kept; up to 32 groups
    float sums[32];
    for (uint g = 0; g < pc.groups; g++) {
        float first = MINUS_INF;
        uint at = 0xffffffffu;
        for (uint e = lane; e < size; e += gl_SubgroupSize) {
            float v = scores[b0 + g * size + e];
            if (v > first || at == 0xffffffffu) {
                first = v;
                at = e;
            }
        }
        best_of(first, at);
        float second = MINUS_INF;
        for (uint e = lane; e < size; e += gl_SubgroupSize)
            if (e != at)
                second = max(second, scores[b0 + g * size + e]);
        second = subgroupMax(second);
        precise float sum = first + second;
        sums[g] = size == 1 ? first : sum;
    }
    for (uint i = 0; i < pc.groups_kept; i++) {
        uint best = 0xffffffffu;
        for (uint g = 0; g < pc.groups; g++)
            if ((kept >> g & 1) == 0 && (best == 0xffffffffu || sums[g] > sums[best]))
                best = g;
        kept |= 1u << best;
    }
    for (uint e = lane; e < pc.experts; e += gl_SubgroupSize)
        if ((kept >> (e / size) & 1) == 0)
            scores[b0 + e] = MINUS_INF;
}

void main()
{
    uint row = gl_WorkGroupID.x, lane = gl_SubgroupInvocationID;
    uint p0 = row * 2 * pc.experts, b0 = p0 + pc.experts;
    for (uint e = lane; e < pc.experts; e += gl_SubgroupSize) {
        float p = 1.0 / (1.0 + exp(-logits[row * pc.logits_stride + e]));
        float bias = pc.bias0 == 0xffffffffu
                         ? 0.0
                         : LOAD4(vectors, (pc.bias0 + e) >> 2)[(pc.bias0 + e) & 3];
        scores[p0 + e] = p;
        scores[b0 + e] = p + bias;
    }
    // Lanes read only what they wrote themselves: element e belongs to lane e % subgroup size as long as
    // groups start at a multiple of it; else the barrier makes others' writes visible.
    subgroupMemoryBarrierBuffer();
    subgroupBarrier();
    if (pc.groups > 1) {
        groups_mask(b0, lane);
        subgroupMemoryBarrierBuffer();
        subgroupBarrier();
    }
    float total = 0.0;
    for (uint i = 0; i < pc.k; i++) {
        float top = MINUS_INF;
        uint at = 0xffffffffu;
        for (uint e = lane; e < pc.experts; e += gl_SubgroupSize) {
            float v = scores[b0 + e];
            if (v > top) {
                top = v;
                at = e;
            }
        }
        best_of(top, at);
        // Nothing above -inf is left only if fewer than k experts were kept, which the config forbids;
        // NaN logits end here too, and take the lowest numbers so that ids stay in range.
        if (at == 0xffffffffu)
            at = i;
        precise float p = scores[p0 + at];
        total += p;
        subgroupBarrier();
        if (lane == at % gl_SubgroupSize)
            scores[b0 + at] = MINUS_INF;
        if (subgroupElect()) {
            ids[row * pc.k + i] = at;
            weights[row * pc.k + i] = p;
        }
        subgroupMemoryBarrierBuffer();
        subgroupBarrier();
    }
    if (subgroupElect()) {
        precise float sum = total + 1e-20;
        for (uint i = 0; i < pc.k; i++) {
            precise float w = weights[row * pc.k + i];
            if (pc.normalise != 0)
                w = w / sum;
            weights[row * pc.k + i] = w * pc.factor;
        }
    }
}
