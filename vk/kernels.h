// SPDX-License-Identifier: MIT
// kernels: the table of compute kernels: one row a kernel, used three times: to make pipelines
// (cmd.h), to compare each with its C twin (tests/kernels), to measure it (tools/bench). What a
// kernel computes stands at the top of its vk-shaders/NAME.comp.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum bind_kind { BIND_STORAGE, BIND_TEXEL_U32X4, BIND_TEXEL_F32X4, BIND_KIND_COUNT };

// X(enumerator, file, bindings, push constant bytes)
// bindings, one letter each, as the shader numbers them:
//   S storage buffer
//   H weight heap: texels of 16 bytes, or on the address path the table of heap addresses
//   X f32 rows read four at a time: texels, or a storage buffer on the address path
//   K KV cache in f32, k in f16: likewise
#define KERNELS(X)                                                                                 \
    X(SELFTEST, selftest, "SS", 16)                                                                \
    X(EMBED, embed, "HSS", 48)                                                                     \
    X(RMSNORM, rmsnorm, "XXSS", 48)                                                                \
    X(QUANT, quant, "XSS", 32)                                                                     \
    X(MATMUL, matmul, "HSXXSX", 64)                                                                \
    X(MLP_UP, mlp_up, "HSXXSS", 64)                                                                \
    X(MLP_DOWN, mlp_down, "HSXXSS", 64)                                                            \
    X(MLP_SUM, mlp_sum, "XSSS", 48)                                                                \
    X(ABSORB, absorb, "HSXS", 48)                                                                  \
    X(MLA_PREP_F32, mla_prep, "XXSSSSS", 64)                                                       \
    X(MLA_PREP_F16, mla_prep_f16, "XXSSSSS", 64)                                                   \
    X(GQA_PREP_F32, gqa_prep, "XSSSS", 64)                                                         \
    X(GQA_PREP_F16, gqa_prep_f16, "XSSSS", 64)                                                     \
    X(ATT_SCORES_F32, att_scores, "KXSS", 64)                                                      \
    X(ATT_SCORES_F16, att_scores_f16, "kXSS", 64)                                                  \
    X(ATT_SOFTMAX, att_softmax, "SS", 32)                                                          \
    X(ATT_VALUES_F32, att_values, "KXSS", 64)                                                      \
    X(ATT_VALUES_F16, att_values_f16, "kXSS", 64)                                                  \
    X(ATT_COMBINE, att_combine, "SSS", 32)                                                         \
    X(ROUTER, router, "SXSSS", 48)                                                                 \
    X(PEAK_READ, peak_read, "HS", 16)                                                              \
    X(PEAK_FMA, peak_fma, "S", 16)

enum kernel {
#define X(name, file, binds, push) KERNEL_##name,
    KERNELS(X)
#undef X
        KERNEL_COUNT
};

struct kernel_row {
    const char *name;    // file name without .comp
    const char *binds;   // letters above
    uint32_t push_bytes; // <= 128, multiple of 4
    const uint32_t *spirv[2 /* enum vk_path */];
    size_t spirv_bytes[2 /* enum vk_path */];
};

extern const struct kernel_row kernel_rows[KERNEL_COUNT];
