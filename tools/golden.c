// SPDX-License-Identifier: MIT
// golden: runs the model of each directory on the device and compares every stage with
// golden.safetensors (layout: tests/golden/README.md) or, for a trained model, with golden.jsonl.
// One line a case; exit status 1 if one misses.  Usage: golden [--device NAME] [--loads NAME]
// [--validate] DIR...
#include "base/fault.h"
#include "model/checkpoint.h"
#include "model/engine.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROMPTS_MAX    3u
#define TOLERANCE_F32  1e-4
#define TOLERANCE_F16  1e-2
#define OFFICIAL_LOOSE 5e-2 // a token whose activation fell on a rounding edge
#define GREEDY_N       24u
#define ROWS_MAX       64u

struct options {
    const char *device;
    enum engine_loads loads;
    uint64_t heap_max; // bytes; small ones spread the weights over many heaps
    bool validate;
};

struct run { // one model directory
    const char *dir, *name;
    struct checkpoint *ck;
    const struct model_config *config;
    struct safetensors *gold;
    struct engine *engine;
    enum numerics numerics;
    uint32_t missed, cases;
    // Filled by the tap during one step.
    struct capture *captures;
    uint32_t captures_n;
    const struct safetensors *inject; // residuals to put before each layer, or NULL
    uint32_t prompt;
};

struct capture {
    enum engine_tap_kind kind;
    uint32_t layer, rows, cols;
    float *data;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "golden: %s\n", what);
    exit(1);
}

static void *must(void *p)
{
    if (!p)
        die("out of memory");
    return p;
}

/* -------------------------------------------------------------- golden data */

struct gold {
    float *f;
    int32_t *i;
    uint64_t n, rows, cols;
};

// Reads tensor "p<prompt>.<name>"; n = 0 if there is none.
static struct gold gold_get(const struct safetensors *st, uint32_t prompt, const char *name)
{
    char full[128];
    struct gold g = {0};
    struct fault fault;
    snprintf(full, sizeof(full), "p%u.%s", prompt, name);
    const struct tensor *t = safetensors_find(st, full);
    if (!t)
        return g;
    void *bytes = must(malloc(t->bytes + 1));
    if (safetensors_read(st, t, 0, bytes, t->bytes, &fault))
        die(fault.text);
    g.rows = t->rank > 1 ? t->shape[0] : 1;
    g.cols = t->rank ? t->shape[t->rank - 1] : 1;
    g.n = t->bytes / dtype_bytes[t->dtype];
    if (t->dtype == DTYPE_U8) {
        g.i = must(malloc((g.n + 1) * sizeof(int32_t)));
        for (uint64_t i = 0; i < g.n; i++)
            g.i[i] = ((uint8_t *)bytes)[i];
        free(bytes);
    } else {
        g.f = bytes;
        g.i = bytes;
    }
    return g;
}

/* ------------------------------------------------------------------ results */

static void report(struct run *r, const char *what, bool ok, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void report(struct run *r, const char *what, bool ok, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    printf("%-6s %-14s %-12s %-22s %s\n", ok ? "ok" : "MISS", r->name, numerics_name[r->numerics],
           what, text);
    fflush(stdout);
    r->cases++;
    r->missed += !ok;
}

// max|a - b| / max|b|
static double relative_error(const float *a, const float *b, uint64_t n)
{
    double worst = 0, top = 0;
    for (uint64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= worst)) // NaN counts as the worst
            worst = isnan(d) ? INFINITY : d;
        top = fmax(top, fabs((double)b[i]));
    }
    return top > 0 ? worst / top : worst;
}

static uint32_t argmax(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* --------------------------------------------------------------------- taps */

static bool on_tap(void *user, const struct engine_tap *tap)
{
    struct run *r = user;
    struct capture *c = &r->captures[r->captures_n++];
    if (r->captures_n > 1024)
        die("too many captures");
    uint64_t n = (uint64_t)tap->rows * tap->cols;
    *c = (struct capture){tap->kind, tap->layer, tap->rows, tap->cols,
                          must(malloc(n * sizeof(float)))};
    memcpy(c->data, tap->data, n * sizeof(float));
    if (!r->inject || tap->kind != ENGINE_TAP_RESIDUAL || tap->layer == 0)
        return false;
    char name[64];
    snprintf(name, sizeof(name), "hidden.%u", tap->layer - 1);
    struct gold g = gold_get(r->inject, r->prompt, name);
    bool inject = g.n == n;
    if (inject)
        memcpy(tap->data, g.f, n * sizeof(float));
    free(g.f);
    return inject;
}

static void captures_clear(struct run *r)
{
    while (r->captures_n)
        free(r->captures[--r->captures_n].data);
}

static const struct capture *capture_find(const struct run *r, enum engine_tap_kind kind,
                                          uint32_t layer)
{
    for (uint32_t i = 0; i < r->captures_n; i++)
        if (r->captures[i].kind == kind && r->captures[i].layer == layer)
            return &r->captures[i];
    return NULL;
}

/* -------------------------------------------------------------------- steps */

static void rows_make(const int32_t *ids, uint32_t from, uint32_t n, uint32_t seq, bool logits,
                      struct engine_row *rows)
{
    for (uint32_t i = 0; i < n; i++)
        rows[i] = (struct engine_row){.token = (uint32_t)ids[from + i],
                                      .seq = seq,
                                      .position = from + i,
                                      .want_logits = logits};
}

static void reserve(struct run *r, uint32_t seq, uint32_t tokens)
{
    if (engine_seq_reserve(r->engine, seq, tokens))
        die("no KV pages");
}

static const float *step(struct run *r, const struct engine_row *rows, uint32_t n)
{
    const float *logits = NULL;
    struct fault fault;
    if (engine_step(r->engine, rows, n, &logits, &fault))
        die(fault.text);
    return logits;
}

static const float *mtp_step(struct run *r, const struct engine_row *rows, uint32_t n)
{
    const float *logits = NULL;
    struct fault fault;
    if (engine_mtp_step(r->engine, rows, n, &logits, &fault))
        die(fault.text);
    return logits;
}

/* -------------------------------------------------------- stages of a prompt */

struct worst { // over the prompts of a model
    double embed, hidden, norm, logits, cache, score, weight;
    double mtp_logits, mtp_hidden, mtp_cache, mtp_score, mtp_weight;
    uint32_t routes, route_misses, mtp_routes, mtp_route_misses;
};

static void track(double *worst, const float *got, struct gold *gold, uint64_t n)
{
    if (gold->n) {
        if (gold->n != n)
            die("a golden tensor has another shape");
        *worst = fmax(*worst, relative_error(got, gold->f, n));
    }
    free(gold->f);
}

static void compare_capture(struct run *r, enum engine_tap_kind kind, uint32_t layer,
                            const char *name, double *worst)
{
    const struct capture *c = capture_find(r, kind, layer);
    struct gold gold = gold_get(r->gold, r->prompt, name);
    if (c)
        track(worst, c->data, &gold, (uint64_t)c->rows * c->cols);
    else
        free(gold.f);
}

static void compare_router(struct run *r, uint32_t layer, const char *prefix, double *score,
                           double *weight, uint32_t *routes, uint32_t *misses)
{
    char name[64];
    const struct capture *ids = capture_find(r, ENGINE_TAP_EXPERTS, layer);
    snprintf(name, sizeof(name), "%s.ids", prefix);
    struct gold gold = gold_get(r->gold, r->prompt, name);
    for (uint64_t i = 0; ids && i < gold.n; i++) {
        ++*routes;
        *misses += (int32_t)ids->data[i] != gold.i[i];
    }
    free(gold.f);
    snprintf(name, sizeof(name), "%s.score", prefix);
    compare_capture(r, ENGINE_TAP_SCORES, layer, name, score);
    snprintf(name, sizeof(name), "%s.weight", prefix);
    compare_capture(r, ENGINE_TAP_WEIGHTS, layer, name, weight);
}

// Golden caches come in two tensors that are neighbours in our entry.
static void compare_cache(struct run *r, uint32_t layer, uint32_t n, const char *first,
                          const char *second, double *worst)
{
    struct gold a = gold_get(r->gold, r->prompt, first), b = gold_get(r->gold, r->prompt, second);
    struct fault fault;
    uint32_t entry = engine_kv_entry(r->engine);
    if (!a.n)
        return;
    uint64_t a_cols = a.n / n, b_cols = b.n / n;
    if (a_cols + b_cols != entry)
        die("a golden cache has another shape");
    float *got = must(malloc(entry * sizeof(float)));
    float *got_a = must(malloc(a.n * sizeof(float))), *got_b = must(malloc(b.n * sizeof(float)));
    for (uint32_t i = 0; i < n; i++) {
        if (engine_kv_read(r->engine, layer, 0, i, got, &fault))
            die(fault.text);
        memcpy(got_a + i * a_cols, got, a_cols * sizeof(float));
        memcpy(got_b + i * b_cols, got + a_cols, b_cols * sizeof(float));
    }
    free(got);
    track(worst, got_a, &a, a.n);
    track(worst, got_b, &b, b.n);
    free(got_a);
    free(got_b);
}

static void compare_stages(struct run *r, uint32_t n, const float *logits, struct worst *w)
{
    char name[64], second[64];
    bool mla = r->config->arch == MODEL_ARCH_DEEPSEEK_V3;
    uint32_t layers = r->config->num_hidden_layers;
    compare_capture(r, ENGINE_TAP_RESIDUAL, 0, "embed", &w->embed);
    for (uint32_t l = 0; l < layers; l++) {
        snprintf(name, sizeof(name), "hidden.%u", l);
        compare_capture(r, ENGINE_TAP_RESIDUAL, l + 1, name, &w->hidden);
        snprintf(name, sizeof(name), "router.%u", l);
        compare_router(r, l, name, &w->score, &w->weight, &w->routes, &w->route_misses);
        snprintf(name, sizeof(name), mla ? "cache.%u.c" : "cache.%u.k", l);
        snprintf(second, sizeof(second), mla ? "cache.%u.k_pe" : "cache.%u.v", l);
        compare_cache(r, l, n, name, second, &w->cache);
    }
    compare_capture(r, ENGINE_TAP_NORM, layers, "norm", &w->norm);
    struct gold gold = gold_get(r->gold, r->prompt, "logits");
    track(&w->logits, logits, &gold, (uint64_t)n * r->config->vocab_size);
}

static void compare_mtp(struct run *r, const struct gold *ids, int32_t next, struct worst *w)
{
    uint32_t n = (uint32_t)ids->n, layer = r->config->num_hidden_layers;
    struct engine_row rows[ROWS_MAX];
    if (!engine_mtp(r->engine))
        return;
    rows_make(ids->i, 0, n, 0, true, rows);
    for (uint32_t i = 0; i < n; i++)
        rows[i].token = (uint32_t)(i + 1 < n ? ids->i[i + 1] : next);
    captures_clear(r);
    const float *logits = mtp_step(r, rows, n);
    struct gold gold = gold_get(r->gold, r->prompt, "mtp.logits");
    track(&w->mtp_logits, logits, &gold, (uint64_t)n * r->config->vocab_size);
    compare_capture(r, ENGINE_TAP_NORM, layer + 1, "mtp.hidden", &w->mtp_hidden);
    compare_router(r, layer, "mtp.router", &w->mtp_score, &w->mtp_weight, &w->mtp_routes,
                   &w->mtp_route_misses);
    compare_cache(r, layer, n, "mtp.cache.c", "mtp.cache.k_pe", &w->mtp_cache);
}

// The prompt once whole, once in pieces of every kind beside another sequence: the same bits.
static bool chunking_holds(struct run *r, const struct gold *ids, const float *whole)
{
    uint32_t n = (uint32_t)ids->n, vocab = r->config->vocab_size;
    struct engine_row rows[ROWS_MAX * 2];
    bool same = true;
    for (uint32_t chunk = 1; chunk <= n; chunk = chunk * 2 + 1) {
        engine_seq_truncate(r->engine, 1, 0);
        reserve(r, 1, n);
        for (uint32_t at = 0; at < n; at += chunk) {
            uint32_t part = n - at < chunk ? n - at : chunk;
            rows_make(ids->i, at, part, 1, true, rows);
            // A stranger in the same batch: the same tokens again as sequence 2, from position 0.
            reserve(r, 2, part);
            rows_make(ids->i, 0, part, 2, false, rows + part);
            const float *logits = step(r, rows, 2 * part);
            same &=
                !memcmp(logits, whole + (size_t)at * vocab, (size_t)part * vocab * sizeof(float));
        }
    }
    engine_seq_truncate(r->engine, 1, 0);
    engine_seq_truncate(r->engine, 2, 0);
    return same;
}

static uint32_t greedy_misses(struct run *r, const struct gold *ids, const struct gold *greedy)
{
    uint32_t n = (uint32_t)ids->n, misses = 0, vocab = r->config->vocab_size;
    struct engine_row rows[ROWS_MAX];
    engine_seq_truncate(r->engine, 0, 0);
    reserve(r, 0, n + GREEDY_N);
    rows_make(ids->i, 0, n, 0, false, rows);
    rows[n - 1].want_logits = true;
    const float *logits = step(r, rows, n);
    for (uint32_t j = 0; j < greedy->n; j++) {
        uint32_t id = argmax(logits, vocab);
        misses += (int32_t)id != greedy->i[j];
        rows[0] = (struct engine_row){(uint32_t)greedy->i[j], 0, n + j, true};
        if (j + 1 < greedy->n)
            logits = step(r, rows, 1);
    }
    return misses;
}

/* ------------------------------------------------------ speculative decoding */

// The greedy loop of model.md 5.2 with k = 1, for real: two-token verification, KV cut after a
// rejection.
static void speculate(struct run *r, const struct gold *ids, const struct gold *greedy,
                      uint32_t *ret_drafts, uint32_t *ret_misses)
{
    struct gold item = gold_get(r->gold, r->prompt, "spec.item");
    struct gold draft = gold_get(r->gold, r->prompt, "spec.draft");
    struct gold accepted = gold_get(r->gold, r->prompt, "spec.accepted");
    uint32_t n = (uint32_t)ids->n, vocab = r->config->vocab_size, out_n = 0, misses = 0;
    uint32_t out[GREEDY_N + 2];
    struct engine_row rows[ROWS_MAX];

    engine_seq_truncate(r->engine, 0, 0);
    reserve(r, 0, n + GREEDY_N + 2);
    rows_make(ids->i, 0, n, 0, false, rows);
    rows[n - 1].want_logits = true;
    out[out_n++] = argmax(step(r, rows, n), vocab);
    // All items of the prompt; the last one, n - 1, takes the token just chosen and gives the first
    // draft.
    for (uint32_t i = 0; i < n; i++)
        rows[i] =
            (struct engine_row){i + 1 < n ? (uint32_t)ids->i[i + 1] : out[0], 0, i, i + 1 == n};
    uint32_t next_draft = argmax(mtp_step(r, rows, n), vocab), p = n - 1;
    uint32_t j = 0;
    while (out_n < GREEDY_N) {
        uint32_t token = out[out_n - 1];
        rows[0] = (struct engine_row){token, 0, p + 1, true};
        rows[1] = (struct engine_row){next_draft, 0, p + 2, true};
        const float *logits = step(r, rows, 2);
        uint32_t a = argmax(logits, vocab), b = argmax(logits + vocab, vocab);
        bool accept = a == next_draft;
        if (j < draft.n)
            misses += item.i[j] != (int32_t)p || draft.i[j] != (int32_t)next_draft ||
                      accepted.i[j] != accept;
        j++;
        out[out_n++] = a;
        if (accept && out_n < GREEDY_N)
            out[out_n++] = b;
        if (accept) {
            rows[0] = (struct engine_row){a, 0, p + 1, false};
            rows[1] = (struct engine_row){b, 0, p + 2, true};
            next_draft = argmax(mtp_step(r, rows, 2), vocab);
            p += 2;
        } else {
            rows[0] = (struct engine_row){a, 0, p + 1, true};
            next_draft = argmax(mtp_step(r, rows, 1), vocab);
            p += 1;
        }
    }
    misses += j != draft.n;
    for (uint32_t i = 0; i < GREEDY_N && i < greedy->n; i++)
        misses += (int32_t)out[i] != greedy->i[i];
    *ret_drafts += j;
    *ret_misses += misses;
    free(item.f);
    free(draft.f);
    free(accepted.i);
}

/* --------------------------------------------------------------- one numerics */

static int run_open(struct run *r, const struct options *o, enum kv_type kv_type)
{
    struct fault fault;
    struct engine_params params = {.device_select = o->device ? o->device : "auto",
                                   .loads = o->loads,
                                   .heap_max = o->heap_max,
                                   .numerics = r->numerics,
                                   .kv_type = kv_type,
                                   .sequences_max = 3,
                                   .context_max = 256,
                                   .batch_rows_max = 2 * ROWS_MAX,
                                   .logits_rows_max = ROWS_MAX,
                                   .mtp = true,
                                   .validate = o->validate};
    if (r->config->max_position_embeddings < params.context_max)
        params.context_max = r->config->max_position_embeddings;
    if (engine_open(r->ck, &params, &r->engine, &fault)) {
        report(r, "open", false, "%s", fault.text);
        return -1;
    }
    return 0;
}

static void prompts_run(struct run *r, enum kv_type kv_type)
{
    struct worst w = {0};
    uint32_t greedy_n = 0, greedy_bad = 0, drafts = 0, draft_bad = 0;
    bool chunking = true;
    double tolerance = kv_type == KV_F16 ? TOLERANCE_F16 : TOLERANCE_F32;
    for (r->prompt = 0; r->prompt < PROMPTS_MAX; r->prompt++) {
        struct gold ids = gold_get(r->gold, r->prompt, "ids");
        struct gold greedy = gold_get(r->gold, r->prompt, "greedy.ids");
        uint32_t n = (uint32_t)ids.n;
        struct engine_row rows[ROWS_MAX];
        if (!n || n > ROWS_MAX)
            die("golden prompt of a size that is not served");
        engine_seq_truncate(r->engine, 0, 0);
        reserve(r, 0, n);
        rows_make(ids.i, 0, n, 0, true, rows);
        engine_tap_set(r->engine, on_tap, r);
        captures_clear(r);
        const float *logits = step(r, rows, n);
        compare_stages(r, n, logits, &w);
        size_t bytes = (size_t)n * r->config->vocab_size * sizeof(float);
        float *whole = must(malloc(bytes));
        memcpy(whole, logits, bytes);
        compare_mtp(r, &ids, greedy.i[0], &w);
        engine_tap_set(r->engine, NULL, NULL);
        chunking &= chunking_holds(r, &ids, whole);
        greedy_bad += greedy_misses(r, &ids, &greedy);
        greedy_n += (uint32_t)greedy.n;
        if (engine_mtp(r->engine) && kv_type == KV_F32)
            speculate(r, &ids, &greedy, &drafts, &draft_bad);
        free(whole);
        free(ids.f);
        free(greedy.f);
    }
    const struct {
        const char *what;
        double worst;
    } stages[] = {{"embed", w.embed},
                  {"hidden", w.hidden},
                  {"norm", w.norm},
                  {"logits", w.logits},
                  {"cache", w.cache},
                  {"router score", w.score},
                  {"router weight", w.weight},
                  {"mtp logits", w.mtp_logits},
                  {"mtp hidden", w.mtp_hidden},
                  {"mtp cache", w.mtp_cache},
                  {"mtp router score", w.mtp_score},
                  {"mtp router weight", w.mtp_weight}};
    const char *kv = kv_type == KV_F16 ? "kv f16" : "kv f32";
    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++)
        if (stages[i].worst > 0)
            report(r, stages[i].what, stages[i].worst <= tolerance, "%s  worst error %.2e", kv,
                   stages[i].worst);
    bool exact = kv_type == KV_F32; // routing and tokens are promised in f32 only
    if (w.routes)
        report(r, "routing", !exact || w.route_misses == 0, "%s  %u of %u differ", kv,
               w.route_misses, w.routes);
    if (w.mtp_routes)
        report(r, "mtp routing", !exact || w.mtp_route_misses == 0, "%s  %u of %u differ", kv,
               w.mtp_route_misses, w.mtp_routes);
    report(r, "greedy tokens", !exact || greedy_bad == 0, "%s  %u of %u differ", kv, greedy_bad,
           greedy_n);
    report(r, "any batch, same bits", chunking, "%s", kv);
    if (drafts)
        report(r, "speculation", draft_bad == 0, "%s  %u of %u drafts differ", kv, draft_bad,
               drafts);
}

// official-fp8: every layer fed with the golden input of that layer; errors per token.
static void official_run(struct run *r, const struct safetensors *gold_fp8)
{
    uint32_t tokens = 0, loose = 0, bad = 0;
    double worst = 0, free_logits = 0;
    r->inject = gold_fp8;
    for (r->prompt = 0; r->prompt < PROMPTS_MAX; r->prompt++) {
        struct gold ids = gold_get(r->gold, r->prompt, "ids");
        uint32_t n = (uint32_t)ids.n;
        struct engine_row rows[ROWS_MAX];
        engine_seq_truncate(r->engine, 0, 0);
        reserve(r, 0, n);
        rows_make(ids.i, 0, n, 0, true, rows);
        engine_tap_set(r->engine, on_tap, r);
        captures_clear(r);
        step(r, rows, n);
        for (uint32_t l = 0; l < r->config->num_hidden_layers; l++) {
            char name[64];
            snprintf(name, sizeof(name), "hidden.%u", l);
            struct gold gold = gold_get(gold_fp8, r->prompt, name);
            const struct capture *c = capture_find(r, ENGINE_TAP_RESIDUAL, l + 1);
            for (uint32_t t = 0; c && gold.n && t < n; t++) {
                double e = relative_error(c->data + (size_t)t * c->cols,
                                          gold.f + (size_t)t * c->cols, c->cols);
                worst = fmax(worst, e);
                tokens++;
                loose += e > TOLERANCE_F32;
                bad += !(e <= OFFICIAL_LOOSE);
            }
            free(gold.f);
        }
        engine_tap_set(r->engine, NULL, NULL);
        // And once without help, to say how far free running goes.
        r->inject = NULL;
        const float *logits = step(r, rows, n);
        struct gold gold = gold_get(gold_fp8, r->prompt, "logits");
        if (gold.n)
            free_logits = fmax(free_logits,
                               relative_error(logits, gold.f, (uint64_t)n * r->config->vocab_size));
        r->inject = gold_fp8;
        free(gold.f);
        free(ids.f);
    }
    r->inject = NULL;
    report(r, "layers", tokens > 0 && bad == 0 && loose * 20 <= tokens,
           "kv f32  worst token %.2e, %u of %u above %.0e; free-running logits %.2e", worst, loose,
           tokens, TOLERANCE_F32, free_logits);
}

/* -------------------------------------------------------------- golden.jsonl */

static uint32_t ids_read(const json_t *array, int32_t *ret, uint32_t max)
{
    uint32_t n = (uint32_t)json_array_size(array);
    if (n > max)
        die("golden.jsonl: a line is too long");
    for (uint32_t i = 0; i < n; i++)
        ret[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return n;
}

// Greedy tokens of one line; a difference where the margin is below 0.01 ends the line without
// blame.
static void jsonl_line(struct run *r, const json_t *line, uint32_t *tokens, uint32_t *misses)
{
    static int32_t prompt[512], output[512];
    struct engine_row rows[512];
    uint32_t n = ids_read(json_object_get(line, "prompt_ids"), prompt, 512);
    uint32_t out_n = ids_read(json_object_get(line, "output_ids"), output, 512);
    const json_t *margins = json_object_get(line, "margins");
    engine_seq_truncate(r->engine, 0, 0);
    reserve(r, 0, n + out_n);
    const float *logits = NULL;
    for (uint32_t at = 0; at < n; at += 2 * ROWS_MAX) {
        uint32_t part = n - at < 2 * ROWS_MAX ? n - at : 2 * ROWS_MAX;
        rows_make(prompt, at, part, 0, false, rows);
        rows[part - 1].want_logits = true;
        logits = step(r, rows, part);
    }
    for (uint32_t j = 0; j < out_n; j++) {
        uint32_t id = argmax(logits, r->config->vocab_size);
        ++*tokens;
        if ((int32_t)id != output[j]) {
            *misses += json_number_value(json_array_get(margins, j)) > 0.01;
            return;
        }
        rows[0] = (struct engine_row){id, 0, n + j, true};
        if (j + 1 < out_n)
            logits = step(r, rows, 1);
    }
}

static void jsonl_run(struct run *r, FILE *f, const char *kv)
{
    static char text[1 << 20];
    uint32_t tokens = 0, misses = 0, lines = 0;
    while (fgets(text, sizeof(text), f)) {
        json_t *line = json_loads(text, 0, NULL);
        if (!line)
            die("golden.jsonl: not JSON");
        jsonl_line(r, line, &tokens, &misses);
        lines++;
        json_decref(line);
    }
    report(r, "greedy lines", misses == 0 && lines > 0, "%s  %u lines, %u tokens, %u differ", kv,
           lines, tokens, misses);
}

/* --------------------------------------------------------------------- main */

static void validation_report(struct run *r, const struct options *o)
{
    if (!o->validate || !r->engine)
        return;
    uint32_t n = engine_validation_messages(r->engine);
    report(r, "validation", n == 0, "%u messages", n);
}

static void model_run(struct run *r, const struct options *o)
{
    char path[4096];
    struct fault fault;
    struct safetensors *fp8 = NULL;
    snprintf(path, sizeof(path), "%s/golden.safetensors", r->dir);
    FILE *jsonl = NULL;
    if (safetensors_open(path, &r->gold, &fault)) {
        snprintf(path, sizeof(path), "%s/golden.jsonl", r->dir);
        jsonl = fopen(path, "re");
        if (!jsonl) {
            report(r, "open", false, "neither golden.safetensors nor golden.jsonl");
            return;
        }
    }
    r->captures = must(calloc(1024, sizeof(*r->captures)));
    for (int kv = KV_F32; kv >= KV_F16; kv--) {
        if (run_open(r, o, (enum kv_type)kv) == 0) {
            if (jsonl) {
                rewind(jsonl);
                jsonl_run(r, jsonl, kv_type_name[kv]);
            } else {
                prompts_run(r, (enum kv_type)kv);
            }
        }
        captures_clear(r);
        validation_report(r, o);
        engine_close(&r->engine);
    }
    snprintf(path, sizeof(path), "%s/golden_fp8.safetensors", r->dir);
    if (!jsonl && safetensors_open(path, &fp8, &fault) == 0) {
        r->numerics = NUMERICS_OFFICIAL_FP8;
        if (run_open(r, o, KV_F32) == 0)
            official_run(r, fp8);
        captures_clear(r);
        validation_report(r, o);
        engine_close(&r->engine);
        safetensors_close(&fp8);
    }
    if (jsonl)
        fclose(jsonl);
    free(r->captures);
    safetensors_close(&r->gold);
}

static enum engine_loads loads_parse(const char *name)
{
    for (int i = 0; i < ENGINE_LOADS_COUNT; i++)
        if (!strcmp(name, engine_loads_name[i]))
            return (enum engine_loads)i;
    die("--loads is auto, texel or address");
}

int main(int argc, char **argv)
{
    struct options o = {0};
    uint32_t missed = 0, cases = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--device") && i + 1 < argc) {
            o.device = argv[++i];
            continue;
        }
        if (!strcmp(argv[i], "--loads") && i + 1 < argc) {
            o.loads = loads_parse(argv[++i]);
            continue;
        }
        if (!strcmp(argv[i], "--heap-max") && i + 1 < argc) {
            o.heap_max = strtoull(argv[++i], NULL, 10);
            continue;
        }
        if (!strcmp(argv[i], "--validate")) {
            o.validate = true;
            continue;
        }
        if (argv[i][0] == '-') {
            fprintf(
                stderr,
                "usage: golden [--device NAME] [--loads NAME] [--heap-max BYTES] [--validate] DIR...\n");
            return 2;
        }
        struct fault fault;
        const char *slash = strrchr(argv[i], '/');
        struct run r = {.dir = argv[i], .name = slash && slash[1] ? slash + 1 : argv[i]};
        if (checkpoint_open(r.dir, &r.ck, &fault)) {
            report(&r, "open", false, "%s", fault.text);
        } else {
            r.config = checkpoint_config(r.ck);
            model_run(&r, &o);
            checkpoint_close(&r.ck);
        }
        missed += r.missed;
        cases += r.cases;
    }
    if (!cases) {
        fprintf(
            stderr,
            "usage: golden [--device NAME] [--loads NAME] [--heap-max BYTES] [--validate] DIR...\n");
        return 2;
    }
    printf("%u cases, %u missed\n", cases, missed);
    return missed ? 1 : 0;
}
