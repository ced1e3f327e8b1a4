// SPDX-License-Identifier: MIT
// suites: the tests of the kernels, one function for kernels that belong together.
#pragma once
#include "tests/kernels/rig.h"

void test_matmul(struct rig *rig);    // matmul
void test_mlp(struct rig *rig);       // mlp_up, mlp_down
void test_rows(struct rig *rig);      // embed, rmsnorm, quant, mlp_sum
void test_router(struct rig *rig);    // router
void test_prep(struct rig *rig);      // absorb, mla_prep, gqa_prep
void test_attention(struct rig *rig); // att_scores, att_softmax, att_values, att_combine
void test_copy(struct rig *rig);      // vk/copy.h
void test_device(struct rig *rig);    // selftest, peak_read, peak_fma
