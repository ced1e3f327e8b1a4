// SPDX-License-Identifier: MIT
// selftest, peak_read, peak_fma: the kernels that say what a device is.
#include "tests/kernels/ref.h"
#include "tests/kernels/suites.h"

#include <errno.h>
#include <math.h>

// The way by integers is exact on every device; the device chose another only if that is exact too.
static void selftest_test(struct rig *rig)
{
    struct words codes = words_make(rig, 64), values = words_make(rig, VK_E4M3_COUNT * 256);
    struct heap heap = heap_make(32);
    heap.mats[0] = (struct weight_mat){.rows = 1, .cols = 256, .k16 = 16, .dtype = WEIGHT_FP8};
    for (uint32_t i = 0; i < 256; i++)
        heap.bytes[i] = (uint8_t)i;
    memcpy(codes.v, heap.bytes, 256);
    rig_run(rig,
            &(struct dispatch){.kernel = KERNEL_SELFTEST,
                               .binds = (struct vk_bind[]){words_inout(&codes), words_out(&values)},
                               .push = (uint32_t[4]){0},
                               .grid = {(64 + rig->lanes - 1) / rig->lanes, 1, 1}});
    float *got = words_read(&values);
    uint32_t chosen = vk_device_limits(rig->dev)->e4m3;
    for (uint32_t i = 0; i < 256; i++)
        if ((i & 0x7f) != 0x7f) {
            CHECK((double)got[VK_E4M3_INTEGER * 256 + i] == heap_weight(&heap, 0, 0, i));
            CHECK((double)got[chosen * 256 + i] == heap_weight(&heap, 0, 0, i));
        }
    free(got);
    words_free(&codes);
    words_free(&values);
    heap_free(&heap);
}

static void peak_read_test(struct rig *rig)
{
    uint32_t groups = 3, units = 8 * rig->lanes, sums[3] = {0};
    struct heap heap = heap_make(groups * units);
    for (uint32_t i = 0; i < groups * units * 4; i++) {
        uint32_t word = rig_below(rig, 0x7fffffff);
        memcpy(heap.bytes + 4ull * i, &word, 4);
        sums[i / (units * 4)] ^= word;
    }
    heap_upload(rig, &heap);
    struct words out = words_make(rig, groups);
    rig_run(rig,
            &(struct dispatch){.kernel = KERNEL_PEAK_READ,
                               .binds = (struct vk_bind[]){heap_bind(rig, &heap), words_out(&out)},
                               .push = (uint32_t[4]){units},
                               .grid = {groups, 1, 1}});
    float expected[3];
    memcpy(expected, sums, sizeof(sums));
    words_check(&out, expected, NULL, "peak_read");
    words_free(&out);
    heap_free(&heap);
}

static void peak_fma_test(struct rig *rig)
{
    uint32_t rounds = 10, push[4] = {rounds};
    float factor = 0.5f, addend = 0.25f, expected[2], error[2];
    double sum = 0;
    for (uint32_t lane = 0; lane < rig->lanes; lane++)
        for (uint32_t i = 0; i < 8; i++) {
            double v = lane + i;
            for (uint32_t r = 0; r < rounds * 4; r++)
                v = v * (double)factor + (double)addend;
            sum += 4 * v;
        }
    memcpy(&push[1], &factor, 4);
    memcpy(&push[2], &addend, 4);
    struct words out = words_make(rig, 2);
    rig_run(rig, &(struct dispatch){.kernel = KERNEL_PEAK_FMA,
                                    .binds = (struct vk_bind[]){words_out(&out)},
                                    .push = push,
                                    .grid = {2, 1, 1}});
    expected[0] = expected[1] = (float)sum;
    error[0] = error[1] = (float)(sum * 1e-5);
    words_check(&out, expected, error, "peak_fma");
    words_free(&out);
}

// What the host writes into its own memory, kernels read there, again and again.
static void import_test(struct rig *rig)
{
    uint64_t align = vk_device_limits(rig->dev)->import_align, bytes = 2 * align;
    struct vk_buffer *buf = NULL;
    struct fault fault;
    uint32_t *host = aligned_alloc(align ? align : 16, align ? bytes : 16);
    CHECK(host);
    if (!align) {
        CHECK(vk_buffer_import(rig->dev, host, 16, "host", &buf, &fault) == -ENOTSUP);
        free(host);
        return;
    }
    CHECK(vk_buffer_import(rig->dev, host, bytes - 1, "host", &buf, &fault) == -EINVAL);
    CHECK(vk_buffer_import(rig->dev, host, 0, "host", &buf, &fault) == -EINVAL);
    CHECK(vk_buffer_import(rig->dev, host + 1, align, "host", &buf, &fault) == -EINVAL);
    CHECK(!buf);
    host[bytes / 4 - 1] = 77; // contents stay
    CHECK(!vk_buffer_import(rig->dev, host, bytes, "host", &buf, &fault));
    CHECK(vk_buffer_map(buf) == host);
    CHECK(host[bytes / 4 - 1] == 77);
    for (uint32_t round = 0; round < 3; round++) {
        uint32_t units = (uint32_t)(bytes / 16) / (8 * rig->lanes) * (8 * rig->lanes), sum = 0;
        for (uint32_t i = 0; i < bytes / 4; i++) {
            host[i] = rig_below(rig, 0x7fffffff);
            sum ^= i < units * 4 ? host[i] : 0;
        }
        CHECK(rig_xor(rig, buf, units) == sum);
    }
    vk_buffer_destroy(&buf);
    host[0] = 78; // still the caller's
    free(host);
}

// A value that was submitted is reached at some time, one that was not, is not.
static void reached_test(struct rig *rig)
{
    struct fault fault;
    uint64_t value;
    CHECK(!vk_cmd_begin(rig->cmd));
    vk_cmd_barrier(rig->cmd);
    CHECK(!vk_cmd_submit(rig->cmd, &value, &fault));
    CHECK(!vk_reached(rig->dev, value + 1));
    while (!vk_reached(rig->dev, value))
        ;
    CHECK(!vk_wait(rig->dev, value, 0, &fault));
    CHECK(vk_wait(rig->dev, value + 1, 0, &fault) == -ETIME);
}

void test_device(struct rig *rig)
{
    import_test(rig);
    reached_test(rig);
    selftest_test(rig);
    peak_read_test(rig);
    peak_fma_test(rig);
}
