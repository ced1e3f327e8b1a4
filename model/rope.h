// SPDX-License-Identifier: MIT
// rope: frequencies, cos/sin table and softmax scale of a config.  Pure.  Source:
// model.md 3.4, 3.5, 10.3.
#pragma once
#include "model/config.h"

// rope_dim returns how many values of a head are rotated: qk_rope_head_dim, or head_dim without
// MLA.
uint32_t rope_dim(const struct model_config *config);

// rope_frequencies writes the inverse frequencies with YaRN or llama3 scaling applied.
//
// ret: [rope_dim / 2] f64.  ret_low, ret_high: YaRN's ramp, may be NULL.
void rope_frequencies(const struct model_config *config, double *ret, double *ret_low,
                      double *ret_high);

// rope_table writes cos and sin of position * frequency, times the ratio of mscales (1 for every
// known member).  Angles are f64, so that they hold at position 163839.
//
// ret: [positions, rope_dim / 2, 2] f32.
void rope_table(const struct model_config *config, uint32_t positions, float *ret);

// rope_softmax_scale returns the factor of attention scores: qk_head_dim^-1/2 times YaRN's m^2.
float rope_softmax_scale(const struct model_config *config);
