// SPDX-License-Identifier: MIT
#include "vk/kernels.h"

// clang-format off
#include "kernels_spirv.h" // made by vk-shaders/meson.build: one array a kernel and path
// clang-format on

const struct kernel_row kernel_rows[KERNEL_COUNT] = {
#define X(id, file, letters, push)                                                                 \
    [KERNEL_##id] = {.name = #file,                                                                \
                     .binds = letters,                                                             \
                     .push_bytes = push,                                                           \
                     .spirv = {file##_texel, file##_address},                                      \
                     .spirv_bytes = {sizeof(file##_texel), sizeof(file##_address)}},
    KERNELS(X)
#undef X
};
