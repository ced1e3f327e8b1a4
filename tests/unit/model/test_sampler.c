// SPDX-License-Identifier: MIT
// sampler: each stage against a plain reading of its definition, the random numbers against known
// answers, and the frequencies of many draws against the probabilities (fixed seeds).
#include "model/philox.h"
#include "model/sampler.h"
#include "tests/check.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define VOCAB_MAX 4096u

static struct sampler_params defaults(void)
{
    return (struct sampler_params){.temperature = 1, .top_p = 1, .repetition_penalty = 1};
}

static struct sampler *make(uint32_t vocab)
{
    struct sampler *s;
    CHECK(sampler_create(vocab, NULL, &s) == 0);
    return s;
}

static uint32_t choose(struct sampler *s, const struct sampler_params *p, const float *logits,
                       uint32_t position)
{
    static const uint32_t history[1u << 20];
    struct sampler_result result;

    CHECK(position <= ARRAY_LEN(history));
    CHECK(sampler_choose(s, p, logits, history, position, position, 0, false, 0, false, &result) ==
          0);
    CHECK(result.logprob == 0 && result.top_n == 0);
    return result.id;
}

// ---- random numbers ----

// Known answers of the Random123 library (kat_vectors, philox4x32 10).
static void test_philox(void)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } rows[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    uint32_t out[4];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        philox4x32(rows[i].key, rows[i].counter, out);
        CHECK(memcmp(out, rows[i].out, sizeof(out)) == 0);
    }
}

static void test_random(void)
{
    unsigned bins[64] = {0};
    double sum = 0, chi2 = 0;
    const unsigned n = 64000;

    for (uint32_t i = 0; i < n; i++) {
        double u = sampler_random(7, i % 3, i);
        CHECK(u >= 0 && u < 1);
        bins[(unsigned)(u * 64)]++;
        sum += u;
    }
    for (unsigned i = 0; i < 64; i++)
        chi2 += (bins[i] - n / 64.0) * (bins[i] - n / 64.0) / (n / 64.0);
    CHECK(fabs(sum / n - 0.5) < 0.005);
    CHECK(chi2 > 30 && chi2 < 103); // 63 degrees of freedom: both tails 0.1 %
    CHECK(sampler_random(1, 2, 3) == sampler_random(1, 2, 3));
    CHECK(sampler_random(1, 2, 3) != sampler_random(1, 3, 2));
    CHECK(sampler_random(1, 2, 3) != sampler_random(1ull << 32 | 1, 2, 3));
}

// ---- greedy ----

static void test_greedy(void)
{
    float logits[37];
    struct sampler_params p = defaults();
    p.temperature = 0;

    for (uint32_t n = 1; n <= ARRAY_LEN(logits); n++) {
        struct sampler *s = make(n);
        for (uint32_t best = 0; best < n; best++) {
            for (uint32_t i = 0; i < n; i++)
                logits[i] = i == best ? -2.0f : -3.0f - (float)(i % 5);
            CHECK(choose(s, &p, logits, 5) == best);
            for (uint32_t i = best; i < n; i++)
                logits[i] = -2.0f; // ties: the lowest id
            CHECK(choose(s, &p, logits, 5) == best);
        }
        sampler_destroy(&s);
    }
}

static void test_refused(void)
{
    float logits[9] = {0};
    struct sampler *s = make(9);
    struct sampler_params p = defaults();
    struct sampler_result r = {.id = 77};
    const uint32_t history[2] = {0};

    for (unsigned i = 0; i < 9; i++) {
        logits[i] = NAN;
        CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 1, false, &r) == -EDOM);
        logits[i] = INFINITY;
        CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 1, false, &r) == -EDOM);
        logits[i] = 0;
    }
    for (unsigned i = 0; i < 9; i++)
        logits[i] = -INFINITY;
    CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 1, false, &r) == -EDOM);
    memset(logits, 0, sizeof(logits));
    CHECK(sampler_choose(s, &p, logits, history, 1, 2, 0, true, 1, false, &r) == -EINVAL);
    CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 21, false, &r) == -EINVAL);
    p.temperature = -1;
    CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 1, false, &r) == -EINVAL);
    p = defaults();
    p.top_p = NAN;
    CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 1, false, &r) == -EINVAL);
    p = defaults();
    p.repetition_penalty = 0;
    CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 1, false, &r) == -EINVAL);
    CHECK(r.id == 77); // untouched by all of these
    sampler_destroy(&s);
}

// ---- the distribution, computed the slow and plain way ----

struct model {
    uint32_t n;
    double p[VOCAB_MAX]; // 0: cut
};

static const float *sort_logits;

static int by_falling_logit(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (sort_logits[x] != sort_logits[y])
        return sort_logits[x] > sort_logits[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

// Temperature, top_k, top_p, min_p, each renormalised before the next.
static void model_fill(struct model *m, const float *logits, uint32_t n,
                       const struct sampler_params *params)
{
    static uint32_t order[VOCAB_MAX];
    double sum = 0, cumulated = 0;
    uint32_t kept = params->top_k && params->top_k < n ? params->top_k : n, last;

    m->n = n;
    for (uint32_t i = 0; i < n; i++) {
        order[i] = i;
        m->p[i] = 0;
    }
    sort_logits = logits;
    qsort(order, n, sizeof(*order), by_falling_logit);
    for (uint32_t i = 0; i < kept; i++)
        sum += m->p[order[i]] = exp(((double)logits[order[i]] - (double)logits[order[0]]) /
                                    (double)params->temperature);
    for (last = 0; last < kept; last++) {
        cumulated += m->p[order[last]] / sum;
        if (params->top_p < 1 && cumulated >= (double)params->top_p)
            break;
    }
    for (uint32_t i = last + 1; i < kept; i++)
        m->p[order[i]] = 0;
    for (uint32_t i = 1; i < kept; i++)
        if (m->p[order[i]] < (double)params->min_p * m->p[order[0]])
            m->p[order[i]] = 0;
    sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += m->p[i];
    for (uint32_t i = 0; i < n; i++)
        m->p[i] /= sum;
}

// The ids that stay, and with which probability: asked by their log-probabilities.
static void check_support(struct sampler *s, const struct sampler_params *params,
                          const float *logits, const struct model *m)
{
    struct sampler_result r;
    uint32_t support = 0;

    for (uint32_t i = 0; i < m->n; i++)
        support += m->p[i] > 0;
    CHECK(sampler_choose(s, params, logits, NULL, 0, 0, 0, true, SAMPLER_LOGPROB_MAX, true, &r) ==
          0);
    CHECK(r.top_n == (support < SAMPLER_LOGPROB_MAX ? support : SAMPLER_LOGPROB_MAX));
    CHECK(fabs((double)r.logprob - log(m->p[r.id])) < 1e-5);
    for (uint32_t i = 0; i < r.top_n; i++) {
        CHECK(m->p[r.top[i].id] > 0);
        CHECK(fabs((double)r.top[i].logprob - log(m->p[r.top[i].id])) < 1e-5);
        CHECK(i == 0 || r.top[i - 1].logprob > r.top[i].logprob ||
              (r.top[i - 1].logprob == r.top[i].logprob && r.top[i - 1].id < r.top[i].id));
    }
}

// Draws many times and compares frequencies: chi-square over cells that expect 5 or more.
static void check_frequencies(struct sampler *s, const struct sampler_params *params,
                              const float *logits, const struct model *m, uint32_t draws)
{
    static uint32_t seen[VOCAB_MAX];
    double chi2 = 0, rest_expected = 0, rest_seen = 0;
    double cells = -1;

    memset(seen, 0, sizeof(seen));
    for (uint32_t i = 0; i < draws; i++)
        seen[choose(s, params, logits, i)]++;
    for (uint32_t i = 0; i < m->n; i++) {
        double expected = m->p[i] * draws;
        if (m->p[i] == 0)
            CHECK(seen[i] == 0);
        if (expected < 5) {
            rest_expected += expected;
            rest_seen += seen[i];
            continue;
        }
        chi2 += (seen[i] - expected) * (seen[i] - expected) / expected;
        cells++;
    }
    if (rest_expected >= 5) {
        chi2 += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
        cells++;
    }
    // Mean `cells`, variance 2 cells; four standard deviations either way, and some for few cells.
    CHECK(chi2 <= cells + 4 * sqrt(2 * cells) + 8);
    CHECK(cells < 30 || chi2 >= cells - 4 * sqrt(2 * cells));
}

static void test_distribution(void)
{
    static const struct {
        uint32_t vocab, top_k;
        float temperature, top_p, min_p;
    } rows[] = {
        {2, 0, 1, 1, 0},          {10, 0, 1, 1, 0},
        {300, 0, 0.6f, 1, 0},     {300, 0, 3, 1, 0},
        {300, 40, 1, 1, 0},       {300, 1, 1, 1, 0},
        {300, 299, 1, 1, 0},      {300, 0, 1, 0.95f, 0},
        {300, 0, 0.6f, 0.95f, 0}, {300, 0, 1, 0.0f, 0},
        {300, 0, 1, 0.999f, 0},   {300, 0, 1, 1, 0.1f},
        {300, 0, 1, 1, 1},        {300, 50, 0.8f, 0.9f, 0.05f},
        {4096, 0, 1, 0.9f, 0},    {4096, 100, 1.5f, 0.99f, 0.01f},
        {7, 3, 2, 0.5f, 0.3f},
    };
    static float logits[VOCAB_MAX];
    static struct model m;
    uint64_t random = 42;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sampler *s = make(rows[i].vocab);
        struct sampler_params p = defaults();
        p.temperature = rows[i].temperature;
        p.top_k = rows[i].top_k;
        p.top_p = rows[i].top_p;
        p.min_p = rows[i].min_p;
        p.seed = i;
        for (uint32_t k = 0; k < rows[i].vocab; k++) // coarse steps: many ties
            logits[k] = (float)(check_random(&random) % 64) / 8 - 3;
        model_fill(&m, logits, rows[i].vocab, &p);
        check_support(s, &p, logits, &m);
        check_frequencies(s, &p, logits, &m, 20000);
        sampler_destroy(&s);
    }
}

// Support of the cuts over many random logits, also flat ones and ones with a single peak.
static void test_cuts(void)
{
    static float logits[VOCAB_MAX];
    static struct model m;
    uint64_t random = 9;
    struct sampler *s = make(513);

    for (unsigned round = 0; round < 400; round++) {
        struct sampler_params p = defaults();
        double steps = (double)(1 + check_random(&random) % 1000);
        for (uint32_t k = 0; k < 513; k++)
            logits[k] = (float)((double)(check_random(&random) % 1000) / steps);
        p.temperature = 0.25f + (float)(check_random(&random) % 8) / 4;
        p.top_k = (uint32_t)(check_random(&random) % 600);
        p.top_p = (float)(check_random(&random) % 101) / 100;
        p.min_p = (float)(check_random(&random) % 20) / 100;
        p.seed = round;
        model_fill(&m, logits, 513, &p);
        check_support(s, &p, logits, &m);
    }
    sampler_destroy(&s);
}

// ---- bias and penalties ----

static uint32_t greedy_with(struct sampler *s, struct sampler_params p, const float *logits,
                            const uint32_t *history, uint32_t history_n, uint32_t prompt_n)
{
    struct sampler_result r;
    p.temperature = 0;
    CHECK(sampler_choose(s, &p, logits, history, history_n, prompt_n, 0, false, 0, false, &r) == 0);
    return r.id;
}

static void test_bias(void)
{
    const float logits[4] = {1, 2, 3, 4};
    const struct sampler_bias ban[] = {{3, -100}, {99, 100}};
    const struct sampler_bias twice[] = {{0, 2}, {0, 1.5f}};
    struct sampler *s = make(4);
    struct sampler_params p = defaults();

    p.bias = ban;
    p.bias_n = 2; // 99 is no id here
    CHECK(greedy_with(s, p, logits, NULL, 0, 0) == 2);
    p.bias = twice;
    CHECK(greedy_with(s, p, logits, NULL, 0, 0) == 0);
    p.bias_n = 1;
    CHECK(greedy_with(s, p, logits, NULL, 0, 0) == 3);
    sampler_destroy(&s);
}

static void test_penalties(void)
{
    const float logits[4] = {-1, 1.5f, 1, 2};
    const uint32_t history[] = {3, 3, 1, 3, 1, 500};
    struct sampler *s = make(4);
    struct sampler_params p = defaults();

    // Generated: history[2..]: 1, 3, 1.  The prompt's 3, 3 do not count.
    p.presence_penalty = 0.4f; // 3: 1.6, 1: 1.1
    CHECK(greedy_with(s, p, logits, history, 6, 2) == 3);
    p.presence_penalty = 1.1f; // 3: 0.9, 1: 0.4, 2: 1
    CHECK(greedy_with(s, p, logits, history, 6, 2) == 2);
    CHECK(greedy_with(s, p, logits, history, 6, 6) == 3);
    p = defaults();
    p.frequency_penalty = 0.6f; // 3: 1.4, 1: 0.3
    CHECK(greedy_with(s, p, logits, history, 6, 2) == 3);
    p.frequency_penalty = 1.01f; // 3: 0.99, 1: -0.52
    CHECK(greedy_with(s, p, logits, history, 6, 2) == 2);
    p = defaults();
    p.repetition_penalty = 2.5f; // 3: 0.8, 1: 0.6 once each, prompt and all
    CHECK(greedy_with(s, p, logits, history, 2, 2) == 1);
    CHECK(greedy_with(s, p, logits, history, 6, 6) == 2);
    const float negative[3] = {-1, -2, -1.5f};
    const uint32_t zero[] = {0, 0};
    p.repetition_penalty = 1.6f; // a negative logit is multiplied: 0: -1.6
    struct sampler *t = make(3);
    CHECK(greedy_with(t, p, negative, zero, 2, 2) == 2);
    sampler_destroy(&t);
    CHECK(greedy_with(s, defaults(), logits, history, 6, 2) == 3); // nothing is left behind
    sampler_destroy(&s);
}

// ---- log-probabilities ----

static void test_logprobs(void)
{
    static float logits[1000];
    struct sampler *s = make(1000);
    struct sampler_params p = defaults();
    struct sampler_result r;
    const struct sampler_bias bias = {5, 100};
    uint64_t random = 3;
    double sum = 0;

    for (uint32_t i = 0; i < 1000; i++) {
        logits[i] = (float)(check_random(&random) % 2000) / 100 - 10;
        sum += exp((double)logits[i]);
    }
    p.bias = &bias;
    p.bias_n = 1;
    p.temperature = 0.1f;
    for (int greedy = 0; greedy < 2; greedy++) {
        p.temperature = greedy ? 0 : 0.1f;
        CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 20, false, &r) == 0);
        CHECK(r.id == 5); // the bias decides, the log-probability is the model's own
        CHECK(fabs((double)r.logprob - ((double)logits[5] - log(sum))) < 1e-6);
        CHECK(r.top_n == 20);
        for (uint32_t i = 0; i < 20; i++) {
            uint32_t better = 0;
            for (uint32_t k = 0; k < 1000; k++)
                better += logits[k] > logits[r.top[i].id] ||
                          (logits[k] == logits[r.top[i].id] && k < r.top[i].id);
            CHECK(better == i);
            CHECK(fabs((double)r.top[i].logprob - ((double)logits[r.top[i].id] - log(sum))) < 1e-5);
        }
    }
    CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 20, true, &r) == 0);
    CHECK(r.id == 5 && r.logprob == 0 && r.top_n == 1 && r.top[0].id == 5);
    sampler_destroy(&s);
}

// Logits whose exponentials overflow, or are all denormal, still give finite log-probabilities.
static void test_range(void)
{
    float logits[3] = {3e38f, 3e38f, -3e38f};
    struct sampler *s = make(3);
    struct sampler_params p = defaults();
    struct sampler_result r;

    CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 3, false, &r) == 0);
    CHECK(r.id < 2 && fabs((double)r.logprob + log(2)) < 1e-6);
    p.temperature = 1e-38f;
    CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 3, true, &r) == 0);
    CHECK(r.id < 2 && fabs((double)r.logprob + log(2)) < 1e-6 && r.top_n == 2);
    logits[0] = logits[1] = logits[2] = -1e4f;
    p.temperature = 1;
    CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 3, false, &r) == 0);
    CHECK(fabs((double)r.logprob + log(3)) < 1e-6);
    sampler_destroy(&s);
}

// ---- ids without a token ----

static void test_mask(const char *golden)
{
    char dir[1024];
    struct tokenizer *tok;
    struct sampler *s;
    struct sampler_result r;
    struct sampler_params p = defaults();
    struct fault fault;
    float logits[304] = {0}; // 304 rows, 298 tokens

    CHECK(snprintf(dir, sizeof(dir), "%s/models/v3-fp8", golden) < (int)sizeof(dir));
    CHECK(tokenizer_open(dir, &tok, &fault) == 0);
    uint32_t tokens = tokenizer_vocab(tok);
    CHECK(tokens == 298);
    CHECK(sampler_create(304, tok, &s) == 0);
    for (uint32_t i = tokens; i < 304; i++)
        logits[i] = 50;
    logits[297] = 1;
    p.temperature = 0;
    CHECK(sampler_choose(s, &p, logits, NULL, 0, 0, 0, true, 2, false, &r) == 0);
    CHECK(r.id == 297);
    CHECK(fabs((double)r.logprob - (1 - log(297 + exp(1)))) < 1e-6);
    p.temperature = 2;
    for (uint32_t i = 0; i < 500; i++)
        CHECK(choose(s, &p, logits, i) < tokens);
    sampler_destroy(&s);
    tokenizer_close(&tok);
}

// ---- one seed, one text ----

static void test_repeatable(void)
{
    static float logits[2000];
    struct sampler *a = make(2000), *b = make(2000);
    struct sampler_params p = defaults();
    uint64_t random = 77;
    unsigned same = 0;

    p.top_p = 0.9f;
    for (uint32_t i = 0; i < 200; i++) {
        for (uint32_t k = 0; k < 2000; k++)
            logits[k] = (float)(check_random(&random) % 8000) / 1000;
        p.seed = 5;
        uint32_t first = choose(a, &p, logits, i);
        p.seed = 6;
        uint32_t other = choose(b, &p, logits, i); // other requests in between
        p.seed = 5;
        CHECK(choose(b, &p, logits, i) == first);
        same += other == first;
    }
    CHECK(same < 20);
    sampler_destroy(&a);
    sampler_destroy(&b);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    test_philox();
    test_random();
    test_greedy();
    test_refused();
    test_distribution();
    test_cuts();
    test_bias();
    test_penalties();
    test_logprobs();
    test_range();
    test_mask(argv[1]);
    test_repeatable();
    return 0;
}
