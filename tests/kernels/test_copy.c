// SPDX-License-Identifier: MIT
// copies between host memory and the device's, beside kernels: every byte lands where it should and
// no other changes; kernels, the host and the next copy find what the last one wrote.
#include "vk/copy.h"

#include "tests/kernels/suites.h"

#include <errno.h>

#define BYTES   (1u << 18)
#define DEPTH   4u
#define REGIONS 5u
#define WAIT_NS 600000000000ull

static void ok(int err, const struct fault *fault)
{
    if (err)
        fprintf(stderr, "%s\n", fault->text);
    CHECK(!err);
}

static struct vk_buffer *copied_make(struct rig *rig, enum vk_memory memory)
{
    struct vk_buffer *buf;
    struct fault fault;
    ok(vk_buffer_create(
           rig->dev,
           &(struct vk_buffer_params){
               .bytes = BYTES, .memory = memory, .name = "test copies", .copied = true},
           &buf, &fault),
       &fault);
    return buf;
}

static void noise(struct rig *rig, uint8_t *bytes)
{
    for (uint32_t i = 0; i < BYTES / 4; i++) {
        uint32_t word = rig_below(rig, 0x7fffffff);
        memcpy(bytes + 4ull * i, &word, 4);
    }
}

static uint64_t submit_now(struct vk_copier *copier, const struct vk_copy_region *regions,
                           uint32_t n)
{
    struct fault fault;
    uint64_t ticket = 0;
    int err = vk_copier_submit(copier, regions, n, &ticket, &fault);
    while (err == -EBUSY)
        err = vk_copier_submit(copier, regions, n, &ticket, &fault);
    ok(err, &fault);
    CHECK(ticket > 0);
    return ticket;
}

// Ragged regions of one submission, side by side in dst: what C's memcpy does.  model: what dst
// holds.
static uint32_t regions_random(struct rig *rig, struct vk_copy_region *regions,
                               struct vk_buffer *dst, struct vk_buffer *src, const uint8_t *host,
                               uint8_t *model)
{
    uint32_t n = 1 + rig_below(rig, REGIONS), part = BYTES / n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t in = rig_below(rig, part), bytes = 1 + rig_below(rig, part - in);
        uint32_t from = rig_below(rig, BYTES - bytes + 1);
        regions[i] = (struct vk_copy_region){dst, part * i + in, src, from, bytes};
        memcpy(model + part * i + in, host + from, bytes);
    }
    return n;
}

// In flight together, as deep as may be: each ticket has its own place in dst.
static void depth_test(struct rig *rig, struct vk_copier *copier, struct vk_buffer *dst,
                       struct vk_buffer *src, uint8_t *host)
{
    struct fault fault;
    uint64_t tickets[8 * DEPTH];
    uint32_t part = BYTES / (8 * DEPTH);
    uint8_t *got = malloc(BYTES);
    CHECK(got);
    noise(rig, host);
    for (uint32_t i = 0; i < 8 * DEPTH; i++) {
        tickets[i] = submit_now(
            copier, &(struct vk_copy_region){dst, BYTES - part * (i + 1), src, part * i, part}, 1);
        CHECK(i == 0 || tickets[i] > tickets[i - 1]);
    }
    ok(vk_copier_wait(copier, tickets[8 * DEPTH - 1], WAIT_NS, &fault), &fault);
    ok(vk_buffer_read(dst, 0, got, BYTES, &fault), &fault);
    for (uint32_t i = 0; i < 8 * DEPTH; i++) {
        CHECK(vk_copier_done(copier, tickets[i]));
        CHECK(!memcmp(got + BYTES - part * (i + 1), host + part * i, part));
    }
    CHECK(!vk_copier_done(copier, tickets[8 * DEPTH - 1] + 1));
    free(got);
}

// Host to device, kernels over it, device to host; src is overwritten as soon as a copy is done.
static void rounds_test(struct rig *rig, struct vk_copier *copier, struct vk_buffer *dst,
                        struct vk_buffer *src, uint8_t *host, struct vk_buffer *back)
{
    struct vk_copy_region regions[REGIONS];
    struct fault fault;
    uint8_t *model = malloc(BYTES);
    CHECK(model);
    ok(vk_buffer_read(dst, 0, model, BYTES, &fault), &fault);
    for (uint32_t round = 0; round < 40; round++) {
        uint32_t word, sum = 0, n;
        noise(rig, host);
        n = regions_random(rig, regions, dst, src, host, model);
        uint64_t ticket = submit_now(copier, regions, n);
        if (round % 2)
            ok(vk_copier_wait(copier, ticket, WAIT_NS, &fault), &fault);
        while (!vk_copier_done(copier, ticket))
            ;
        memset(host, 0x55, BYTES);
        for (uint32_t i = 0; i < BYTES / 4; i++) {
            memcpy(&word, model + 4ull * i, 4);
            sum ^= word;
        }
        CHECK(rig_xor(rig, dst, BYTES / 16) == sum);
        ticket = submit_now(copier, &(struct vk_copy_region){back, 0, dst, 0, BYTES}, 1);
        ok(vk_copier_wait(copier, ticket, WAIT_NS, &fault), &fault);
        CHECK(!memcmp(vk_buffer_map(back), model, BYTES));
    }
    free(model);
}

static void errors_test(struct rig *rig, struct vk_copier *copier, struct vk_buffer *dst,
                        struct vk_buffer *src)
{
    struct vk_copier *none = NULL;
    struct fault fault;
    uint64_t ticket = 77;
    const struct vk_copy_region bad[] = {
        {dst, 0, src, 0, 0},     {dst, 0, src, 1, BYTES},          {dst, 1, src, 0, BYTES},
        {dst, BYTES, src, 0, 1}, {dst, 0, src, UINT64_MAX, BYTES},
    };
    for (uint32_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct vk_copy_region two[] = {{dst, 0, src, 0, 16}, bad[i]};
        CHECK(vk_copier_submit(copier, two, 2, &ticket, &fault) == -EINVAL);
    }
    CHECK(ticket == 77);
    CHECK(vk_copier_create(rig->dev, 0, &none, &fault) == -EINVAL);
    CHECK(vk_copier_create(rig->dev, UINT32_MAX, &none, &fault) == -EINVAL);
    CHECK(!none);
    vk_copier_destroy(&none);
}

static void copies_test(struct rig *rig, struct vk_buffer *src, uint8_t *host)
{
    struct vk_buffer *dst = copied_make(rig, VK_MEMORY_DEVICE);
    struct vk_buffer *back = copied_make(rig, VK_MEMORY_READBACK);
    struct vk_copier *copier = NULL;
    struct fault fault;
    ok(vk_copier_create(rig->dev, DEPTH, &copier, &fault), &fault);
    CHECK(vk_copier_done(copier, 0));
    errors_test(rig, copier, dst, src);
    rounds_test(rig, copier, dst, src, host, back);
    depth_test(rig, copier, dst, src, host);
    submit_now(copier, &(struct vk_copy_region){dst, 0, src, 0, BYTES}, 1); // nobody waits for it
    vk_copier_destroy(&copier);
    vk_buffer_destroy(&dst);
    vk_buffer_destroy(&back);
}

void test_copy(struct rig *rig)
{
    struct fault fault;
    struct vk_buffer *src = copied_make(rig, VK_MEMORY_UPLOAD);
    CHECK(vk_buffer_map(src));
    copies_test(rig, src, vk_buffer_map(src));
    vk_buffer_destroy(&src);

    uint64_t align = vk_device_limits(rig->dev)->import_align;
    if (!align || BYTES % align)
        return;
    uint8_t *host = aligned_alloc(align, BYTES);
    CHECK(host);
    ok(vk_buffer_import(rig->dev, host, BYTES, "test slots", &src, &fault), &fault);
    copies_test(rig, src, host);
    vk_buffer_destroy(&src);
    free(host);
}
