// SPDX-License-Identifier: MIT
// fuzz_api: what must hold of every request and every refusal, for the fuzz targets of api/.
#pragma once
#include "api/sampling.h"
#include "api/utf8.h"
#include "tests/check.h"

#include <jansson.h>
#include <string.h>

static const struct api_limits fuzz_limits = {
    .model = "demo",
    .vocab_size = 1000,
    .context_max = 4096,
    .choices_max = 16,
    .temperature = 0.6f,
    .top_p = 0.95f,
    .repetition_penalty = 1,
};

static inline void fuzz_sampling(const struct sampling *s)
{
    CHECK(s->temperature >= 0 && s->temperature <= 2);
    CHECK(s->top_p >= 0 && s->top_p <= 1);
    CHECK(s->min_p >= 0 && s->min_p <= 1);
    CHECK(s->frequency_penalty >= -2 && s->frequency_penalty <= 2);
    CHECK(s->presence_penalty >= -2 && s->presence_penalty <= 2);
    CHECK(s->repetition_penalty > 0 && s->repetition_penalty <= 10);
    CHECK(s->n >= 1 && s->n <= fuzz_limits.choices_max);
    CHECK(s->max_tokens >= 1);
    CHECK(s->top_logprobs <= SAMPLING_TOP_LOGPROBS);
    CHECK(s->stops_n <= SAMPLING_STOPS_MAX);
    for (uint32_t i = 0; i < s->stops_n; i++)
        CHECK(s->stops[i][0] != '\0' && strlen(s->stops[i]) <= SAMPLING_STOP_BYTES_MAX);
    for (uint32_t i = 0; i < s->bias_n; i++) {
        CHECK(s->bias[i].id < fuzz_limits.vocab_size);
        CHECK(s->bias[i].bias >= -100 && s->bias[i].bias <= 100);
    }
}

// A refusal is 400 or 404, never 500, and its JSON has the four keys.
static inline void fuzz_error(const struct api_error *err)
{
    struct buf out;

    CHECK(err->status == 400 || err->status == 404);
    buf_init(&out, 1 << 16);
    api_error_json(&out, err);
    CHECK(buf_error(&out) == 0);
    json_t *root = json_loadb(out.data, out.n, JSON_REJECT_DUPLICATES, NULL);
    CHECK(json_object_size(json_object_get(root, "error")) == 4);
    json_decref(root);
    buf_free(&out);
}
