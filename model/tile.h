// SPDX-License-Identifier: MIT
// tile: how much of a matrix product one subgroup computes: rows of the matrix x rows of x.  The
// results do not depend on it (vk-shaders/matmul_core.glsl), only the speed: measured with
// tools/bench gemv, gemm and experts with --tile; doc/measurements.md.
#pragma once
#include "vk/device.h"

#define TILE_XROWS_MAX    8u
#define TILE_SHORT_ROW_16 128u // 2 KiB of 16-byte units

struct tile {
    uint32_t rows, xrows;
};

// tile_for chooses the tile for a matrix of k16 16-byte units a row and so many rows of x.
//
// Texel path (lavapipe): a lane owns whole rows, so tiles are multiples of the subgroup; four rows
// a lane hide more loads, but four long ones compete for the same cache sets when little else is
// done with them.
static inline struct tile tile_for(const struct vk_device *dev, uint32_t k16, uint32_t xrows)
{
    if (vk_device_path(dev) == VK_PATH_ADDRESS)
        return (struct tile){4, xrows > 1 ? 4 : 1};
    uint32_t lanes = vk_device_limits(dev)->subgroup;
    struct tile tile = {xrows == 1 && k16 > TILE_SHORT_ROW_16 ? 2 * lanes : 4 * lanes, 1};
    while (tile.xrows < xrows && tile.xrows < TILE_XROWS_MAX)
        tile.xrows *= 2;
    return tile;
}
