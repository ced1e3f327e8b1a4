// SPDX-License-Identifier: MIT
// bench-sampler: time of one choice over a vocabulary of DeepSeek's size; one JSON object a line.
//
//     bench-sampler [VOCABULARY]
#include "model/sampler.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define VOCABULARY 129280u
#define CHOICES    50u

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// Logits as a model gives them: a wide bell, and a few tokens far above it.
static void fill(float *logits, uint32_t n)
{
    uint32_t state = 7;

    for (uint32_t i = 0; i < n; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) {
            state = state * 1664525u + 1013904223u;
            sum += (float)(state >> 8) / (float)(1u << 24) - 0.5f;
        }
        logits[i] = 4 * sum;
    }
    for (uint32_t i = 0; i < 20 && i < n; i++)
        logits[(i * 6151) % n] = 16 - (float)i * 0.7f;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        struct sampler_params params;
        bool want_logprob;
    } rows[] = {
        {"greedy", {.temperature = 0, .top_p = 1, .repetition_penalty = 1}, false},
        {"greedy_logprob", {.temperature = 0, .top_p = 1, .repetition_penalty = 1}, true},
        {"top_p_0.95", {.temperature = 0.6f, .top_p = 0.95f, .repetition_penalty = 1}, false},
        {"top_k_50", {.temperature = 1, .top_k = 50, .top_p = 1, .repetition_penalty = 1}, false},
        {"plain", {.temperature = 1, .top_p = 1, .repetition_penalty = 1}, false},
        {"hot_top_p_0.95", {.temperature = 3, .top_p = 0.95f, .repetition_penalty = 1}, false},
    };
    uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : VOCABULARY;
    struct sampler *sampler = NULL;
    struct sampler_result result = {0};
    float *logits = calloc(n ? n : 1, sizeof(*logits));
    uint32_t history[CHOICES] = {0};

    if (n == 0 || !logits || sampler_create(n, NULL, &sampler)) {
        fprintf(stderr, "bench-sampler: no vocabulary, or no memory for it\n");
        free(logits);
        return 1;
    }
    fill(logits, n);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double start = cpu_seconds();
        for (uint32_t k = 0; k < CHOICES; k++)
            sampler_choose(sampler, &rows[i].params, logits, history, k, k, 0, rows[i].want_logprob,
                           rows[i].want_logprob ? 5 : 0, false, &result);
        printf("{\"name\": \"sampler_%s\", \"value\": %.1f, \"unit\": \"us\", \"conditions\": "
               "\"one of %u tokens, CPU time\"}\n",
               rows[i].name, (cpu_seconds() - start) * 1e6 / CHOICES, n);
    }
    sampler_destroy(&sampler);
    free(logits);
    return 0;
}
