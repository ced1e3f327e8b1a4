// SPDX-License-Identifier: MIT
// The quantiser and router kernels on the device against tests/golden/tables: codes and ids
// exactly, scales and weights to 1e-6.  Runs both load paths.  Usage: test_tables FP8.safetensors
// ROUTER.safetensors
#include "model/safetensors.h"
#include "tests/check.h"
#include "vk/cmd.h"

#include <math.h>
#include <string.h>

#define TOLERANCE 1e-6
#define E4M3_MAX  448.0f

static struct fault fault;

#define OK(call)                                                                                   \
    do {                                                                                           \
        if (call) {                                                                                \
            fprintf(stderr, "%s\n", fault.text);                                                   \
            CHECK_FAIL(#call);                                                                     \
        }                                                                                          \
    } while (0)

static void *tensor_get(const struct safetensors *st, const char *name)
{
    const struct tensor *t = safetensors_find(st, name);
    CHECK(t);
    void *bytes = malloc(t->bytes);
    CHECK(bytes);
    OK(safetensors_read(st, t, 0, bytes, t->bytes, &fault));
    return bytes;
}

static struct vk_buffer *buffer(struct vk_device *dev, uint64_t bytes, const void *src)
{
    struct vk_buffer *buf = NULL;
    OK(vk_buffer_create(
        dev,
        &(struct vk_buffer_params){.bytes = bytes, .memory = VK_MEMORY_READBACK, .name = "test"},
        &buf, &fault));
    if (src)
        OK(vk_buffer_write(buf, 0, src, bytes, &fault));
    return buf;
}

static void run(struct vk_device *dev, enum kernel kernel, const struct vk_bind *binds,
                const void *push, uint32_t gx, uint32_t gy)
{
    struct vk_pipeline *pipe;
    struct vk_cmd *cmd = NULL;
    uint64_t value;
    OK(vk_pipeline_get(dev, kernel, &vk_device_limits(dev)->subgroup, 1, &pipe, &fault));
    OK(vk_cmd_create(dev, &cmd, &fault));
    CHECK(vk_cmd_begin(cmd) == 0);
    vk_cmd_dispatch(cmd, pipe, binds, push, gx, gy, 1);
    vk_cmd_barrier(cmd);
    OK(vk_cmd_submit(cmd, &value, &fault));
    OK(vk_wait(dev, value, 60000000000ull, &fault));
    vk_cmd_destroy(&cmd);
}

static float e4m3(uint8_t code)
{
    int e = code >> 3 & 15, m = code & 7;
    float v = e ? ldexpf(1.0f + (float)m / 8.0f, e - 7) : ldexpf((float)m, -9);
    return code & 0x80 ? -v : v;
}

static void quant_check(struct vk_device *dev, const struct safetensors *st, bool ue8m0)
{
    enum { ROWS = 20, COLS = 128 };
    float *x = tensor_get(st, "act.x");
    uint8_t *codes = tensor_get(st, ue8m0 ? "act.ue8m0.code" : "act.f32.code");
    float *scales = tensor_get(st, ue8m0 ? "act.ue8m0.scale" : "act.f32.scale");
    struct vk_buffer *in = buffer(dev, ROWS * COLS * 4, x), *q = buffer(dev, ROWS * COLS * 4, NULL),
                     *s = buffer(dev, ROWS * 4, NULL);
    uint32_t push[8] = {COLS, COLS / 4, 0, COLS / 4, 1, ue8m0};
    run(dev, KERNEL_QUANT, (struct vk_bind[]){{.buf = in}, {.buf = q}, {.buf = s}}, push, 1, ROWS);
    float got[ROWS * COLS], got_scale[ROWS];
    OK(vk_buffer_read(q, 0, got, sizeof(got), &fault));
    OK(vk_buffer_read(s, 0, got_scale, sizeof(got_scale), &fault));
    for (int i = 0; i < ROWS * COLS; i++)
        CHECK(got[i] == e4m3(codes[i]));
    for (int i = 0; i < ROWS; i++)
        CHECK(got_scale[i] == scales[i]);
    vk_buffer_destroy(&in);
    vk_buffer_destroy(&q);
    vk_buffer_destroy(&s);
    free(x);
    free(codes);
    free(scales);
}

// encode.x through the quantiser: a group whose largest value is 448 has scale 1, so that each
// other value of the group is encoded as it is.
static void encode_check(struct vk_device *dev, const struct safetensors *st)
{
    enum { ROWS = 16, COLS = 128, N = 1354 };
    float *x = tensor_get(st, "encode.x"), rows[ROWS * COLS] = {0};
    uint8_t *codes = tensor_get(st, "encode.code");
    CHECK(N <= ROWS * (COLS - 1));
    for (int i = 0; i < ROWS * COLS; i++) {
        int at = i / COLS * (COLS - 1) + i % COLS - 1;
        rows[i] = i % COLS == 0 ? E4M3_MAX : at < N ? fminf(fmaxf(x[at], -448), 448) : 0;
    }
    struct vk_buffer *in = buffer(dev, sizeof(rows), rows), *q = buffer(dev, sizeof(rows), NULL),
                     *s = buffer(dev, ROWS * 4, NULL);
    uint32_t push[8] = {COLS, COLS / 4, 0, COLS / 4, 1, 0};
    run(dev, KERNEL_QUANT, (struct vk_bind[]){{.buf = in}, {.buf = q}, {.buf = s}}, push, 1, ROWS);
    float got[ROWS * COLS];
    OK(vk_buffer_read(q, 0, got, sizeof(got), &fault));
    for (int i = 0; i < N; i++)
        CHECK(got[i / (COLS - 1) * COLS + i % (COLS - 1) + 1] == e4m3(codes[i]));
    vk_buffer_destroy(&in);
    vk_buffer_destroy(&q);
    vk_buffer_destroy(&s);
    free(x);
    free(codes);
}

static void router_check(struct vk_device *dev, const struct safetensors *st)
{
    enum { ROWS = 64, EXPERTS = 256, K = 8, BIASES = 4 };
    float *logits = tensor_get(st, "logits"), *bias = tensor_get(st, "bias"),
          *weights = tensor_get(st, "weights");
    int32_t *ids = tensor_get(st, "ids"), *row_bias = tensor_get(st, "row_bias");
    struct vk_buffer *b = buffer(dev, BIASES * EXPERTS * 4, bias),
                     *scores = buffer(dev, 2 * EXPERTS * 4, NULL), *out = buffer(dev, K * 4, NULL),
                     *w = buffer(dev, K * 4, NULL);
    for (int r = 0; r < ROWS; r++) {
        struct vk_buffer *in = buffer(dev, EXPERTS * 4, logits + r * EXPERTS);
        uint32_t push[12] = {EXPERTS, K, 8, 4, (uint32_t)row_bias[r] * EXPERTS, 1, 0, EXPERTS};
        memcpy(&push[6], &(float){2.5f}, 4);
        run(dev, KERNEL_ROUTER,
            (struct vk_bind[]){{.buf = in}, {.buf = b}, {.buf = scores}, {.buf = out}, {.buf = w}},
            push, 1, 1);
        int32_t got[K];
        float got_weight[K];
        OK(vk_buffer_read(out, 0, got, sizeof(got), &fault));
        OK(vk_buffer_read(w, 0, got_weight, sizeof(got_weight), &fault));
        for (int i = 0; i < K; i++) {
            CHECK(got[i] == ids[r * K + i]);
            CHECK(fabsf(got_weight[i] - weights[r * K + i]) <=
                  (float)TOLERANCE * fmaxf(weights[r * K + i], 1e-3f));
        }
        vk_buffer_destroy(&in);
    }
    vk_buffer_destroy(&b);
    vk_buffer_destroy(&scores);
    vk_buffer_destroy(&out);
    vk_buffer_destroy(&w);
    free(logits);
    free(bias);
    free(weights);
    free(ids);
    free(row_bias);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    struct safetensors *fp8 = NULL, *router = NULL;
    OK(safetensors_open(argv[1], &fp8, &fault));
    OK(safetensors_open(argv[2], &router, &fault));
    for (int path = 0; path < VK_PATH_COUNT; path++) {
        struct vk_device *dev = NULL;
        OK(vk_device_open(&(struct vk_device_params){.path = path}, &dev, &fault));
        quant_check(dev, fp8, false);
        quant_check(dev, fp8, true);
        encode_check(dev, fp8);
        router_check(dev, router);
        vk_device_close(&dev);
    }
    safetensors_close(&fp8);
    safetensors_close(&router);
    return 0;
}
