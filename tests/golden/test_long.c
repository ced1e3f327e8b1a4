// SPDX-License-Identifier: MIT
// Contexts beyond one attention split, which golden prompts are too short for: the bits of a row
// must not depend on how the prompt was cut or on what else is in the batch, and the two load
// paths, which sum in different orders, must agree to 1e-4.  Usage: test_long MODEL
#include "model/engine.h"
#include "tests/check.h"

#include <math.h>
#include <string.h>

#define TOKENS    1200u // three splits of 512
#define TOLERANCE 1e-4

static struct fault fault;

static uint32_t token(uint32_t i, uint32_t seq)
{
    return (i * 131u + seq * 17u) % 250u + 3u;
}

// Runs the prompt as sequence 0 in chunks, a shorter stranger beside it, and keeps the last row's
// logits.
static void run(struct engine *engine, uint32_t chunk, bool stranger, float *ret)
{
    uint32_t vocab = engine_config(engine)->vocab_size;
    struct engine_row rows[512];
    CHECK(engine_seq_reserve(engine, 0, TOKENS) == 0);
    CHECK(engine_seq_reserve(engine, 1, TOKENS) == 0);
    const float *logits = NULL;
    for (uint32_t at = 0; at < TOKENS; at += chunk) {
        uint32_t n = TOKENS - at < chunk ? TOKENS - at : chunk, m = stranger ? n / 2 : 0;
        for (uint32_t i = 0; i < m; i++)
            rows[i] = (struct engine_row){token(at / 2 + i, 1), 1, at / 2 + i, false};
        for (uint32_t i = 0; i < n; i++)
            rows[m + i] = (struct engine_row){token(at + i, 0), 0, at + i, at + i + 1 == TOKENS};
        if (engine_step(engine, rows, m + n, &logits, &fault)) {
            fprintf(stderr, "%s\n", fault.text);
            CHECK_FAIL("engine_step");
        }
    }
    memcpy(ret, logits, vocab * sizeof(float));
    engine_seq_truncate(engine, 0, 0);
    engine_seq_truncate(engine, 1, 0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    struct checkpoint *ck = NULL;
    CHECK(checkpoint_open(argv[1], &ck, &fault) == 0);
    uint32_t vocab = checkpoint_config(ck)->vocab_size;
    float *want[2] = {calloc(vocab, sizeof(float)), calloc(vocab, sizeof(float))};
    float *got = calloc(vocab, sizeof(float));
    CHECK(want[0] && want[1] && got);
    static const uint32_t chunks[] = {100, 1, 7, 341};
    for (int path = 0; path < 2; path++) {
        struct engine *engine = NULL;
        struct engine_params params = {.loads = path ? ENGINE_LOADS_ADDRESS : ENGINE_LOADS_TEXEL,
                                       .kv_type = KV_F32,
                                       .sequences_max = 2,
                                       .context_max = TOKENS,
                                       .batch_rows_max = 512};
        if (engine_open(ck, &params, &engine, &fault)) {
            fprintf(stderr, "%s\n", fault.text);
            CHECK_FAIL("engine_open");
        }
        run(engine, 256, false, want[path]);
        for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
            run(engine, chunks[i], i % 2 == 0, got);
            CHECK(!memcmp(got, want[path], vocab * sizeof(float)));
        }
        engine_close(&engine);
    }
    double worst = 0, top = 0;
    for (uint32_t i = 0; i < vocab; i++) {
        worst = fmax(worst, fabs((double)want[0][i] - (double)want[1][i]));
        top = fmax(top, fabs((double)want[0][i]));
    }
    printf("texel against address path: %.2e\n", worst / top);
    CHECK(top > 0 && worst / top <= TOLERANCE);
    free(want[0]);
    free(want[1]);
    free(got);
    checkpoint_close(&ck);
    return 0;
}
