// SPDX-License-Identifier: MIT
// selftest: does this device decode all 256 E4M3 codes, by each of the three ways, as the format
// says? Real drivers differ in what they do with subnormals, whatever they report.
#include "vk/internal.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static float e4m3(uint32_t code)
{
    uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
    float value = exponent ? ldexpf(1.0f + (float)mantissa / 8.0f, (int)exponent - 7)
                           : ldexpf((float)mantissa, -9);
    return code & 0x80 ? -value : value;
}

// NaN codes are never in a loaded checkpoint and are left out.
static bool codes_match(const float *got)
{
    for (uint32_t code = 0; code < 256; code++)
        if ((code & 0x7f) != 0x7f && got[code] != e4m3(code))
            return false;
    return true;
}

// The fastest exact way: on a CPU one multiplication beats the conversion from halves.
static enum vk_e4m3 e4m3_choose(const struct vk_device *dev, float got[][256])
{
    if (dev->limits.is_cpu && codes_match(got[VK_E4M3_F32]))
        return VK_E4M3_F32;
    return codes_match(got[VK_E4M3_HALF]) ? VK_E4M3_HALF : VK_E4M3_INTEGER;
}

int vk_device_selftest(struct vk_device *dev, struct fault *fault)
{
    struct vk_buffer *in = NULL, *out = NULL;
    struct vk_cmd *cmd = NULL;
    struct vk_pipeline *pipe;
    uint64_t value;
    float got[VK_E4M3_COUNT][256];
    uint8_t codes[256];
    for (int i = 0; i < 256; i++)
        codes[i] = (uint8_t)i;

    int err = vk_buffer_create(dev,
                               &(struct vk_buffer_params){.bytes = sizeof(codes),
                                                          .memory = VK_MEMORY_DEVICE,
                                                          .name = "selftest codes"},
                               &in, fault);
    if (!err)
        err = vk_buffer_create(dev,
                               &(struct vk_buffer_params){.bytes = sizeof(got),
                                                          .memory = VK_MEMORY_READBACK,
                                                          .name = "selftest values"},
                               &out, fault);
    if (!err)
        err = vk_buffer_write(in, 0, codes, sizeof(codes), fault);
    if (!err)
        err = vk_pipeline_get(dev, KERNEL_SELFTEST, &dev->limits.subgroup, 1, &pipe, fault);
    if (!err)
        err = vk_cmd_create(dev, &cmd, fault);
    if (!err && vk_cmd_begin(cmd))
        err = fault_set(fault, EIO, "Vulkan: cannot record the self-test");
    if (err)
        goto out;
    vk_cmd_dispatch(cmd, pipe, (struct vk_bind[]){{.buf = in}, {.buf = out}}, (uint32_t[4]){0},
                    (64 + dev->limits.subgroup - 1) / dev->limits.subgroup, 1, 1);
    vk_cmd_barrier(cmd);
    err = vk_cmd_submit(cmd, &value, fault);
    if (!err)
        err = vk_wait(dev, value, 60000000000ull, fault);
    if (!err)
        err = vk_buffer_read(out, 0, got, sizeof(got), fault);
    if (err)
        goto out;
    dev->limits.e4m3 = e4m3_choose(dev, got);
    if (!codes_match(got[VK_E4M3_INTEGER]))
        err = fault_set(fault, ENOTSUP, "the Vulkan device %s decodes FP8 E4M3 wrongly",
                        dev->limits.name);
out:
    vk_cmd_destroy(&cmd);
    vk_buffer_destroy(&in);
    vk_buffer_destroy(&out);
    return err;
}
