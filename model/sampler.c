// SPDX-License-Identifier: MIT
#include "model/sampler.h"
#include "model/lanes.h"
#include "model/philox.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// Tokens less likely than e^-60 of the likeliest are left out of a draw: all of a vocabulary of
// 2^20 of them together weigh less than the last bit of a 53-bit random number.
#define WEIGHT_LOG_MIN 60.0f

// top_k looks at the largest logit of each block first: a vocabulary has some hundred blocks, so
// that the k-th of these bounds the k-th of all logits from below for every usual k.
#define BLOCK 256u

struct candidate {
    float weight; // e^((logit - max) / temperature): 1 for the likeliest
    float logit;
    uint32_t id;
};

struct sampler {
    uint32_t vocab_size;
    uint32_t ids_n;  // above the highest id that has a token
    uint32_t *holes; // [holes_n] ids below ids_n without a token
    uint32_t holes_n;
    float *adjusted;              // [vocab_size] logits after mask, bias and penalties
    float *weights;               // [vocab_size]
    uint32_t *counts;             // [vocab_size] zero between calls
    struct candidate *candidates; // [vocab_size] rising ids
    struct candidate *spare;      // [vocab_size] what a selection shuffles
    uint32_t candidates_n;
};

// ---- creation ----

static int find_holes(struct sampler *s, const struct tokenizer *tok)
{
    uint32_t holes_n = 0;

    while (s->ids_n && !tokenizer_has(tok, s->ids_n - 1))
        s->ids_n--;
    for (uint32_t id = 0; id < s->ids_n; id++)
        holes_n += !tokenizer_has(tok, id);
    if (holes_n == 0)
        return 0;
    s->holes = malloc(holes_n * sizeof(*s->holes));
    if (!s->holes)
        return -ENOMEM;
    for (uint32_t id = 0; id < s->ids_n; id++)
        if (!tokenizer_has(tok, id))
            s->holes[s->holes_n++] = id;
    return 0;
}

int sampler_create(uint32_t vocab_size, const struct tokenizer *tok, struct sampler **ret)
{
    struct sampler *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    s->vocab_size = s->ids_n = vocab_size;
    s->adjusted = calloc(vocab_size, sizeof(*s->adjusted));
    s->weights = calloc(vocab_size, sizeof(*s->weights));
    s->counts = calloc(vocab_size, sizeof(*s->counts));
    s->candidates = calloc(vocab_size, sizeof(*s->candidates));
    s->spare = calloc(vocab_size, sizeof(*s->spare));
    if (!s->adjusted || !s->weights || !s->counts || !s->candidates || !s->spare ||
        (tok && find_holes(s, tok))) {
        sampler_destroy(&s);
        return -ENOMEM;
    }
    *ret = s;
    return 0;
}

void sampler_destroy(struct sampler **sampler)
{
    if (!*sampler)
        return;
    free((*sampler)->holes);
    free((*sampler)->adjusted);
    free((*sampler)->weights);
    free((*sampler)->counts);
    free((*sampler)->candidates);
    free((*sampler)->spare);
    free(*sampler);
    *sampler = NULL;
}

// ---- random numbers ----

double sampler_random(uint64_t seed, uint32_t sequence, uint32_t position)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {sequence, position, 0, 0};
    uint32_t out[4];

    philox4x32(key, counter, out);
    uint64_t bits = ((uint64_t)out[0] << 32 | out[1]) >> 11;
    return (double)bits * 0x1p-53;
}

// ---- one pass over the logits ----

// Returns the largest of n logits; *ret_bad if one is NaN or +infinity.
static float max_of(const float *logits, uint32_t n, bool *ret_bad)
{
    lanes_f max = lanes_all(-INFINITY);
    lanes_i good = {-1, -1, -1, -1};
    float best = -INFINITY;
    bool bad = false;
    uint32_t i = 0;

    for (; i + LANES <= n; i += LANES) {
        lanes_f x = lanes_load(logits + i);
        good &= x <= lanes_all(FLT_MAX); // false for NaN too
        max = lanes_max(x, max);
    }
    for (; i < n; i++) {
        bad |= !(logits[i] <= FLT_MAX);
        best = logits[i] > best ? logits[i] : best;
    }
    for (uint32_t k = 0; k < LANES; k++) {
        bad |= !good[k];
        best = max[k] > best ? max[k] : best;
    }
    *ret_bad = bad;
    return best;
}

static uint32_t first_equal(const float *logits, uint32_t n, float value)
{
    for (uint32_t i = 0; i < n; i++)
        if (logits[i] == value)
            return i;
    return TOKEN_NONE;
}

// ---- bias and penalties ----

static bool has_penalties(const struct sampler_params *p)
{
    return p->frequency_penalty != 0 || p->presence_penalty != 0 || p->repetition_penalty != 1;
}

static void penalize_repetition(struct sampler *s, float penalty, const uint32_t *history,
                                uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = history[i];
        if (id >= s->ids_n || s->counts[id]++)
            continue;
        float x = s->adjusted[id];
        s->adjusted[id] = x > 0 ? x / penalty : x * penalty;
    }
    for (uint32_t i = 0; i < n; i++)
        if (history[i] < s->ids_n)
            s->counts[history[i]] = 0;
}

static void penalize_counts(struct sampler *s, const struct sampler_params *p,
                            const uint32_t *generated, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (generated[i] < s->ids_n)
            s->counts[generated[i]]++;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = generated[i];
        if (id >= s->ids_n || s->counts[id] == 0)
            continue;
        s->adjusted[id] -= p->frequency_penalty * (float)s->counts[id] + p->presence_penalty;
        s->counts[id] = 0;
    }
}

// Returns the logits to draw from: those given, or a changed copy.
static const float *adjust(struct sampler *s, const struct sampler_params *p, const float *logits,
                           const uint32_t *history, uint32_t history_n, uint32_t prompt_n)
{
    if (s->holes_n == 0 && p->bias_n == 0 && !has_penalties(p))
        return logits;
    memcpy(s->adjusted, logits, s->ids_n * sizeof(*logits));
    for (uint32_t i = 0; i < p->bias_n; i++)
        if (p->bias[i].id < s->ids_n)
            s->adjusted[p->bias[i].id] += p->bias[i].bias;
    if (p->repetition_penalty != 1)
        penalize_repetition(s, p->repetition_penalty, history, history_n);
    if (p->frequency_penalty != 0 || p->presence_penalty != 0)
        penalize_counts(s, p, prompt_n ? history + prompt_n : history, history_n - prompt_n);
    for (uint32_t i = 0; i < s->holes_n; i++)
        s->adjusted[s->holes[i]] = -INFINITY;
    return s->adjusted;
}

// ---- cuts ----

// Falling logit, then rising id: a total order, so that every cut has one answer.
static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static void swap(struct candidate *a, struct candidate *b)
{
    struct candidate t = *a;
    *a = *b;
    *b = t;
}

// Moves the middle one of three samples to c[0] and everything before it in front; returns where
// it ends up.
static uint32_t partition(struct candidate *c, uint32_t n)
{
    struct candidate *middle = &c[n / 2], *last = &c[n - 1];
    uint32_t at = 0;

    if (before(middle, c) != before(middle, last))
        swap(c, middle);
    else if (before(last, c) != before(last, middle))
        swap(c, last);
    for (uint32_t i = 1; i < n; i++)
        if (before(&c[i], &c[0]))
            swap(&c[i], &c[++at]);
    swap(&c[0], &c[at]);
    return at;
}

static double sum_of(const struct candidate *c, uint32_t n, bool count)
{
    double sum = 0;
    if (count)
        return n;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)c[i].weight;
    return sum;
}

// Finds the last candidate of the shortest prefix, in falling order, that weighs `need` or more
// (count: that has `need` members).  Expected time O(n); nothing is sorted.
static struct candidate prefix_end(struct sampler *s, double need, bool count)
{
    struct candidate *c = s->spare;
    uint32_t n = s->candidates_n;
    struct candidate end = s->candidates[0];

    memcpy(c, s->candidates, n * sizeof(*c));
    while (n > 0) {
        uint32_t at = partition(c, n);
        double front = sum_of(c, at, count), own = count ? 1 : (double)c[at].weight;
        if (front >= need) {
            n = at;
            continue;
        }
        end = c[at];
        if (front + own >= need)
            break;
        need -= front + own;
        c += at + 1;
        n -= at + 1;
    }
    return end;
}

// Keeps the candidates up to `end` in falling order; their ids go on rising.
static void keep_up_to(struct sampler *s, struct candidate end)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < s->candidates_n; i++)
        if (!before(&end, &s->candidates[i]))
            s->candidates[kept++] = s->candidates[i];
    s->candidates_n = kept;
}

// Returns a logit that at least k others reach: everything below can be left aside.
static float top_k_bound(struct sampler *s, const float *logits, uint32_t k)
{
    uint32_t blocks = (s->ids_n + BLOCK - 1) / BLOCK;
    bool bad;

    if (k > blocks)
        return -FLT_MAX;
    for (uint32_t i = 0; i < blocks; i++) {
        uint32_t start = i * BLOCK, n = s->ids_n - start < BLOCK ? s->ids_n - start : BLOCK;
        s->candidates[i] = (struct candidate){0, max_of(logits + start, n, &bad), i};
    }
    s->candidates_n = blocks;
    return prefix_end(s, k, true).logit;
}

static void cut_top_k(struct sampler *s, const float *logits, uint32_t top_k)
{
    float bound = top_k_bound(s, logits, top_k);
    uint32_t n = 0;

    for (uint32_t id = 0; id < s->ids_n; id++)
        if (logits[id] >= bound)
            s->candidates[n++] = (struct candidate){0, logits[id], id};
    s->candidates_n = n;
    if (top_k < n)
        keep_up_to(s, prefix_end(s, top_k, true));
}

// Weighs four logits.
static lanes_f weigh_lanes(lanes_f x, lanes_f max, lanes_f temperature)
{
    const lanes_f least = lanes_all(-WEIGHT_LOG_MIN);
    lanes_f y = (x - max) / temperature;
    return lanes_pick(y >= least, lanes_exp(lanes_max(y, least)), lanes_all(0));
}

// Weighs n logits; returns the sum.  weights may be logits.
static double weigh(const float *logits, uint32_t n, float max, float temperature, float *weights)
{
    const lanes_f max_all = lanes_all(max), temperature_all = lanes_all(temperature);
    uint32_t whole = n / LANES * LANES;
    double sum = 0;

    for (uint32_t i = 0; i < whole; i += LANES) {
        lanes_f w = weigh_lanes(lanes_load(logits + i), max_all, temperature_all);
        memcpy(weights + i, &w, sizeof(w));
        sum += (double)(w[0] + w[1] + (w[2] + w[3]));
    }
    for (uint32_t i = whole; i < n; i++) {
        weights[i] = weigh_lanes(lanes_all(logits[i]), max_all, temperature_all)[0];
        sum += (double)weights[i];
    }
    return sum;
}

// Weighs the candidates that top_k left.
static double weigh_candidates(struct sampler *s, float max, float temperature)
{
    for (uint32_t i = 0; i < s->candidates_n; i++)
        s->weights[i] = s->candidates[i].logit;
    double sum = weigh(s->weights, s->candidates_n, max, temperature, s->weights);
    for (uint32_t i = 0; i < s->candidates_n; i++)
        s->candidates[i].weight = s->weights[i];
    return sum;
}

// Weighs all ids and makes candidates of those that a cut at top_p can keep: tokens lighter than
// (1 - top_p) / n of the sum weigh less than 1 - top_p of it together.
static double weigh_all(struct sampler *s, const float *logits, float max,
                        const struct sampler_params *p)
{
    double sum = weigh(logits, s->ids_n, max, p->temperature, s->weights);
    double least = p->top_p < 1 ? (1 - (double)p->top_p) * sum / s->ids_n : 0;
    float bound = (float)(least * 0.999); // rounding must not cost a token
    uint32_t n = 0;

    for (uint32_t id = 0; id < s->ids_n; id++)
        if (s->weights[id] > bound)
            s->candidates[n++] = (struct candidate){s->weights[id], logits[id], id};
    s->candidates_n = n;
    return sum;
}

static void cut_top_p(struct sampler *s, float top_p, double sum)
{
    if (top_p >= 1)
        return;
    double need = (double)top_p * sum;
    keep_up_to(s, prefix_end(s, need > 0 ? need : DBL_MIN, false));
}

static void cut_min_p(struct sampler *s, float min_p)
{
    uint32_t kept = 0;

    if (min_p <= 0)
        return;
    for (uint32_t i = 0; i < s->candidates_n; i++) // the likeliest weighs exactly 1
        if (s->candidates[i].weight >= min_p)
            s->candidates[kept++] = s->candidates[i];
    s->candidates_n = kept;
}

// Draws by weight, going through rising ids.
static uint32_t draw(const struct sampler *s, double random)
{
    double target = random * sum_of(s->candidates, s->candidates_n, false), sum = 0;

    for (uint32_t i = 0; i < s->candidates_n; i++) {
        sum += (double)s->candidates[i].weight;
        if (target < sum)
            return s->candidates[i].id;
    }
    return s->candidates[s->candidates_n - 1].id; // rounding: the sum is the same, so not reached
}

// ---- log-probabilities ----

// Puts an entry into the falling list; ids come in rising order, so equal ones stay behind.
static void top_insert(struct sampler_result *ret, uint32_t top_n, uint32_t id, float logit)
{
    uint32_t at = ret->top_n;

    if (at == top_n && !(logit > ret->top[at - 1].logprob))
        return;
    if (at == top_n)
        at--;
    else
        ret->top_n++;
    for (; at > 0 && logit > ret->top[at - 1].logprob; at--)
        ret->top[at] = ret->top[at - 1];
    ret->top[at] = (struct sampler_logprob){id, logit};
}

static bool is_hole(const struct sampler *s, uint32_t id, uint32_t *next)
{
    if (*next == s->holes_n || s->holes[*next] != id)
        return false;
    ++*next;
    return true;
}

// The largest logit of an id that has a token.
static float own_max(const struct sampler *s, const float *logits)
{
    float max = -INFINITY;
    uint32_t next = 0;
    bool bad;

    if (s->holes_n == 0)
        return max_of(logits, s->ids_n, &bad);
    for (uint32_t id = 0; id < s->ids_n; id++)
        if (!is_hole(s, id, &next) && logits[id] > max)
            max = logits[id];
    return max;
}

// The model's own: log-softmax over the ids that have a token.
static void own_logprobs(const struct sampler *s, const float *logits, uint32_t top_n,
                         struct sampler_result *ret)
{
    float max = own_max(s, logits);
    uint32_t next = 0;
    double sum = 0;

    for (uint32_t id = 0; id < s->ids_n; id++) {
        if (is_hole(s, id, &next))
            continue;
        sum += exp((double)logits[id] - (double)max);
        if (top_n && logits[id] > -INFINITY)
            top_insert(ret, top_n, id, logits[id]);
    }
    double log_sum = log(sum); // max is taken off first: beside 1e38 it would be lost
    ret->logprob = (float)((double)logits[ret->id] - (double)max - log_sum);
    for (uint32_t i = 0; i < ret->top_n; i++)
        ret->top[i].logprob = (float)((double)ret->top[i].logprob - (double)max - log_sum);
}

// Those of the distribution drawn from.
static void sampled_logprobs_of(const struct sampler *s, float max, float temperature,
                                uint32_t top_n, struct sampler_result *ret)
{
    double sum = 0;

    for (uint32_t i = 0; i < s->candidates_n; i++)
        sum += exp(((double)s->candidates[i].logit - (double)max) / (double)temperature);
    double log_sum = log(sum);
    for (uint32_t i = 0; i < s->candidates_n; i++) {
        const struct candidate *c = &s->candidates[i];
        if (c->id == ret->id)
            ret->logprob =
                (float)(((double)c->logit - (double)max) / (double)temperature - log_sum);
        if (top_n)
            top_insert(ret, top_n, c->id, c->logit);
    }
    for (uint32_t i = 0; i < ret->top_n; i++)
        ret->top[i].logprob =
            (float)(((double)ret->top[i].logprob - (double)max) / (double)temperature - log_sum);
}

// ---- public ----

static bool params_valid(const struct sampler_params *p, uint32_t history_n, uint32_t prompt_n,
                         uint32_t top_n)
{
    return p->temperature >= 0 && p->temperature <= FLT_MAX && p->top_p >= 0 && p->min_p >= 0 &&
           p->min_p <= 1 && p->repetition_penalty > 0 && p->repetition_penalty <= FLT_MAX &&
           fabsf(p->frequency_penalty) <= FLT_MAX && fabsf(p->presence_penalty) <= FLT_MAX &&
           prompt_n <= history_n && top_n <= SAMPLER_LOGPROB_MAX;
}

static void choose_greedy(const struct sampler *s, const float *logits, float max, const float *own,
                          bool want_logprob, uint32_t top_n, bool sampled,
                          struct sampler_result *ret)
{
    ret->id = first_equal(logits, s->ids_n, max);
    if (want_logprob && !sampled) {
        own_logprobs(s, own, top_n, ret);
    } else if (want_logprob && top_n) { // all of the probability is on one token
        ret->top_n = 1;
        ret->top[0] = (struct sampler_logprob){ret->id, 0};
    }
}

int sampler_choose(struct sampler *s, const struct sampler_params *params, const float *logits,
                   const uint32_t *history, uint32_t history_n, uint32_t prompt_n,
                   uint32_t sequence, bool want_logprob, uint32_t top_n, bool sampled_logprobs,
                   struct sampler_result *ret)
{
    struct sampler_result result = {.id = TOKEN_NONE};
    bool bad;

    if (!params_valid(params, history_n, prompt_n, top_n))
        return -EINVAL;
    float max = max_of(logits, s->vocab_size, &bad);
    if (bad)
        return -EDOM;
    const float *adjusted = adjust(s, params, logits, history, history_n, prompt_n);
    if (adjusted != logits || s->ids_n < s->vocab_size)
        max = max_of(adjusted, s->ids_n, &bad);
    if (bad || max == -INFINITY)
        return -EDOM;

    float temperature = params->temperature;
    if (temperature == 0) {
        choose_greedy(s, adjusted, max, logits, want_logprob, top_n, sampled_logprobs, &result);
        *ret = result;
        return 0;
    }
    double sum;
    if (params->top_k && params->top_k < s->ids_n) {
        cut_top_k(s, adjusted, params->top_k);
        sum = weigh_candidates(s, max, temperature);
    } else {
        sum = weigh_all(s, adjusted, max, params);
    }
    cut_top_p(s, params->top_p, sum);
    cut_min_p(s, params->min_p);
    result.id = draw(s, sampler_random(params->seed, sequence, history_n));
    if (want_logprob && sampled_logprobs)
        sampled_logprobs_of(s, max, temperature, top_n, &result);
    else if (want_logprob)
        own_logprobs(s, logits, top_n, &result);
    *ret = result;
    return 0;
}
