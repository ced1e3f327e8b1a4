// SPDX-License-Identifier: MIT
// RoPE frequencies, angles and softmax scales against tests/golden/tables/yarn.json.
#include "model/rope.h"
#include "tests/check.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#define TOLERANCE 1e-6 // f64 printed as f32

static double number(const json_t *o, const char *key, double absent)
{
    const json_t *v = json_object_get(o, key);
    return v && json_is_number(v) ? json_number_value(v) : absent;
}

static void near(double got, double want)
{
    if (fabs(got - want) > TOLERANCE * fmax(fabs(want), 1e-3)) {
        fprintf(stderr, "got %.9g, want %.9g\n", got, want);
        CHECK_FAIL("within tolerance");
    }
}

// The softmax scale depends on qk_nope_head_dim, which the table does not carry.
static uint32_t nope_of(const char *name)
{
    static const struct {
        const char *name;
        uint32_t nope;
    } tiny[] = {{"tiny/v3-fp8", 32}, {"tiny/lite-fp8", 24}, {"tiny/v3-bf16", 16}};
    for (size_t i = 0; i < ARRAY_LEN(tiny); i++)
        if (!strcmp(name, tiny[i].name))
            return tiny[i].nope;
    return 128;
}

static void config_make(const json_t *entry, struct model_config *c)
{
    const json_t *scaling = json_object_get(entry, "rope_scaling");
    uint32_t dim = (uint32_t)number(entry, "dim", 0);
    *c = (struct model_config){.arch = MODEL_ARCH_DEEPSEEK_V3, .qk_rope_head_dim = dim};
    c->rope.theta = number(entry, "rope_theta", 0);
    c->qk_nope_head_dim = nope_of(json_string_value(json_object_get(entry, "name")));
    if (!json_is_object(scaling))
        return;
    c->rope.type = ROPE_SCALING_YARN;
    c->rope.factor = number(scaling, "factor", 1);
    c->rope.original_max_position_embeddings =
        (uint32_t)number(scaling, "original_max_position_embeddings", 0);
    c->rope.beta_fast = number(scaling, "beta_fast", 32);
    c->rope.beta_slow = number(scaling, "beta_slow", 1);
    c->rope.mscale = number(scaling, "mscale", 1);
    c->rope.mscale_all_dim = number(scaling, "mscale_all_dim", 0);
}

static void entry_check(const json_t *entry)
{
    struct model_config c;
    config_make(entry, &c);
    double freq[512], low = -1, high = -1;
    uint32_t half = rope_dim(&c) / 2;
    rope_frequencies(&c, freq, &low, &high);
    const json_t *want = json_object_get(entry, "inv_freq");
    CHECK(json_array_size(want) == half);
    for (uint32_t i = 0; i < half; i++)
        near(freq[i], json_number_value(json_array_get(want, i)));
    if (c.rope.type == ROPE_SCALING_YARN) {
        CHECK(low == number(entry, "low", -2));
        CHECK(high == number(entry, "high", -2));
    }
    near((double)rope_softmax_scale(&c), number(entry, "softmax_scale", 0));

    const json_t *positions = json_object_get(entry, "positions");
    const json_t *cosines = json_object_get(entry, "cos"), *sines = json_object_get(entry, "sin");
    size_t n = json_array_size(positions);
    CHECK(n > 0);
    uint32_t last = (uint32_t)json_integer_value(json_array_get(positions, n - 1));
    float *table = malloc((size_t)(last + 1) * half * 2 * sizeof(float));
    CHECK(table);
    rope_table(&c, last + 1, table);
    for (size_t p = 0; p < n; p++) {
        size_t at = (size_t)json_integer_value(json_array_get(positions, p)) * half;
        for (uint32_t i = 0; i < half; i++) {
            near((double)table[(at + i) * 2],
                 json_number_value(json_array_get(json_array_get(cosines, p), i)));
            near((double)table[(at + i) * 2 + 1],
                 json_number_value(json_array_get(json_array_get(sines, p), i)));
        }
    }
    free(table);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    json_t *entries = json_load_file(argv[1], 0, NULL);
    CHECK(json_array_size(entries) > 0);
    for (size_t i = 0; i < json_array_size(entries); i++)
        entry_check(json_array_get(entries, i));
    json_decref(entries);
    return 0;
}
