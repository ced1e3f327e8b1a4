// SPDX-License-Identifier: MIT
// make-routing: what routers choose in make-model's checkpoints is like real models: every expert
// gets its share, neighbouring tokens agree on some, the next layer can be foretold in part; and
// nothing overflows.  Arguments: make-model PRESET, or a checkpoint to look at.
#include "model/engine.h"
#include "tests/unit/model/fixture.h"
#include "tools/make_model_weights.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <sys/wait.h>

#define TOKENS     512u
#define BATCH      128u
#define LAYERS_MAX 8u
#define K_MAX      16u

extern char **environ;

struct record {
    const struct model_config *config;
    uint32_t first;                                     // token of the batch's first row
    uint16_t experts[LAYERS_MAX][TOKENS][K_MAX];        // what was chosen
    float *residual[LAYERS_MAX + 1 /* before layer */]; // [tokens, hidden]
};

static int by_id(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

static bool on_tap(void *user, const struct engine_tap *tap)
{
    struct record *r = user;

    if (tap->kind == ENGINE_TAP_RESIDUAL)
        memcpy(r->residual[tap->layer] + (size_t)r->first * tap->cols, tap->data,
               sizeof(float) * tap->rows * tap->cols);
    if (tap->kind != ENGINE_TAP_EXPERTS)
        return false;
    for (uint32_t row = 0; row < tap->rows; row++) {
        uint16_t *ids = r->experts[tap->layer][r->first + row];
        for (uint32_t i = 0; i < tap->cols; i++)
            ids[i] = (uint16_t)tap->data[(size_t)row * tap->cols + i];
        qsort(ids, tap->cols, sizeof(*ids), by_id);
    }
    return false;
}

static double overlap(const uint16_t *a, const uint16_t *b, uint32_t k)
{
    uint32_t both = 0;
    for (uint32_t i = 0; i < k; i++)
        both += bsearch(&a[i], b, k, sizeof(*b), by_id) != NULL;
    return (double)both / k;
}

// --- running it --------------------------------------------------------------------------------

// One token in three starts a topic: then ids of that topic follow.
static uint32_t token_next(uint32_t last, uint32_t vocab, uint64_t *state)
{
    bool fresh = check_random(state) % 3 == 0;
    uint32_t topics = vocab / WEIGHTS_TOPIC;
    uint32_t topic =
        fresh ? (uint32_t)(check_random(state) >> 32) % topics : last / WEIGHTS_TOPIC % topics;
    return topic * WEIGHTS_TOPIC + (uint32_t)(check_random(state) >> 40) % WEIGHTS_TOPIC;
}

static void run(struct engine *engine, struct record *r)
{
    const struct model_config *c = r->config;
    struct engine_row rows[BATCH];
    struct fault fault = {0};
    uint64_t state = 11;
    uint32_t token = 100;

    engine_tap_set(engine, on_tap, r);
    CHECK(engine_seq_reserve(engine, 0, TOKENS) == 0);
    for (r->first = 0; r->first < TOKENS; r->first += BATCH) {
        const float *logits;
        for (uint32_t i = 0; i < BATCH; i++) {
            token = token_next(token, c->vocab_size, &state);
            rows[i] = (struct engine_row){token, 0, r->first + i, i + 1 == BATCH};
        }
        if (engine_step(engine, rows, BATCH, &logits, &fault))
            CHECK_FAIL(fault.text);
        for (uint32_t i = 0; i < c->vocab_size; i++)
            CHECK(isfinite(logits[i]));
    }
}

static struct engine *engine_make(const struct checkpoint *ck)
{
    struct engine *engine = NULL;
    struct fault fault = {0};
    const struct engine_params params = {.device_select = "auto",
                                         .kv_type = KV_F32,
                                         .sequences_max = 1,
                                         .context_max = TOKENS,
                                         .batch_rows_max = BATCH,
                                         .experts = ENGINE_EXPERTS_RESIDENT};
    if (engine_open(ck, &params, &engine, &fault))
        CHECK_FAIL(fault.text);
    return engine;
}

// --- looking at it -----------------------------------------------------------------------------

static double rms(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum / (double)n);
}

static void check_load(const struct record *r, uint32_t layer)
{
    const struct model_config *c = r->config;
    uint32_t load[4096] = {0}, k = c->num_experts_per_tok, most = 0, idle = 0;
    double same = 0, mean = (double)TOKENS * k / c->n_routed_experts;

    for (uint32_t t = 0; t < TOKENS; t++) {
        for (uint32_t i = 0; i < k; i++)
            load[r->experts[layer][t][i]]++;
        same += t ? overlap(r->experts[layer][t], r->experts[layer][t - 1], k) : 0;
    }
    for (uint32_t e = 0; e < c->n_routed_experts; e++) {
        most = load[e] > most ? load[e] : most;
        idle += load[e] == 0;
    }
    same /= TOKENS - 1;
    printf(
        "layer %u: largest load %.2f of the mean, %u of %u experts idle, neighbours share %.3f\n",
        layer, most / mean, idle, c->n_routed_experts, same);
    CHECK(most <= 3 * mean);
    CHECK(idle <= c->n_routed_experts / 16);
    CHECK(same > 0.25 && same < 0.55);
}

static float *read_floats(const struct checkpoint *ck, enum tensor_role role, uint32_t layer)
{
    const struct tensor *tensor;
    struct fault fault;
    CHECK(checkpoint_get(ck, role, layer, 0, NULL, &tensor, NULL) == 0);
    size_t n = (size_t)(tensor->bytes / dtype_bytes[tensor->dtype]);
    void *raw = malloc((size_t)tensor->bytes);
    float *values = malloc(n * sizeof(*values));
    CHECK(raw && values);
    CHECK(checkpoint_read(ck, tensor, 0, raw, (size_t)tensor->bytes, &fault) == 0);
    CHECK(checkpoint_dtype_to_f32(tensor->dtype, raw, n, values) == 0);
    free(raw);
    return values;
}

// A router as the model has it, on the host: its weights times those of the norm before it.
struct router {
    float *weight, *norm, *bias;
};

static void group_limit(const struct model_config *c, double *scores)
{
    uint32_t size = c->n_routed_experts / c->n_group;
    double best[64], limit = INFINITY;

    for (uint32_t g = 0; g < c->n_group; g++) {
        double first = -1, second = -1;
        for (uint32_t e = g * size; e < (g + 1) * size; e++) {
            if (scores[e] > first)
                second = first, first = scores[e];
            else if (scores[e] > second)
                second = scores[e];
        }
        best[g] = first + second;
    }
    for (uint32_t n = 0; n < c->topk_group; n++) {
        double next = -1;
        for (uint32_t g = 0; g < c->n_group; g++)
            next = best[g] < limit && best[g] > next ? best[g] : next;
        limit = next;
    }
    for (uint32_t e = 0; e < c->n_routed_experts; e++)
        scores[e] = best[e / size] >= limit ? scores[e] : -1;
}

static void choose(const struct model_config *c, const struct router *router, const float *x,
                   uint16_t *ids)
{
    double scores[4096], size = rms(x, c->hidden_size);

    for (uint32_t e = 0; e < c->n_routed_experts; e++) {
        const float *w = router->weight + (size_t)e * c->hidden_size;
        double sum = 0;
        for (uint32_t i = 0; i < c->hidden_size; i++)
            sum += (double)w[i] * (double)router->norm[i] * (double)x[i];
        scores[e] = 1 / (1 + exp(-sum / size)) + (double)router->bias[e];
    }
    group_limit(c, scores);
    for (uint32_t i = 0; i < c->num_experts_per_tok; i++) {
        uint16_t at = 0;
        for (uint16_t e = 1; e < c->n_routed_experts; e++)
            at = scores[e] > scores[at] ? e : at;
        ids[i] = at;
        scores[at] = -2;
    }
    qsort(ids, c->num_experts_per_tok, sizeof(*ids), by_id);
}

// recall returns how many of a layer's experts its router finds on the residual before layer `at`.
static double recall(const struct checkpoint *ck, const struct record *r, uint32_t layer,
                     uint32_t at)
{
    const struct model_config *c = r->config;
    struct router router = {.weight = read_floats(ck, ROLE_ROUTER, layer),
                            .norm = read_floats(ck, ROLE_POST_ATTENTION_NORM, layer),
                            .bias = read_floats(ck, ROLE_ROUTER_BIAS, layer)};
    double sum = 0;
    uint32_t n = 0;

    for (uint32_t t = 0; t < TOKENS; t += 4, n++) {
        uint16_t ids[K_MAX];
        choose(c, &router, r->residual[at] + (size_t)t * c->hidden_size, ids);
        sum += overlap(ids, r->experts[layer][t], c->num_experts_per_tok);
    }
    free(router.weight);
    free(router.norm);
    free(router.bias);
    return sum / n;
}

static void check_model(const struct checkpoint *ck)
{
    static struct record r;
    const struct model_config *c = checkpoint_config(ck);
    struct engine *engine = engine_make(ck);

    r = (struct record){.config = c};
    CHECK(c->num_hidden_layers <= LAYERS_MAX && c->num_experts_per_tok <= K_MAX);
    for (uint32_t l = 0; l <= c->num_hidden_layers; l++) {
        r.residual[l] = malloc(sizeof(float) * TOKENS * c->hidden_size);
        CHECK(r.residual[l]);
    }
    run(engine, &r);
    for (uint32_t l = 0; l <= c->num_hidden_layers; l++) {
        double size = rms(r.residual[l], (size_t)TOKENS * c->hidden_size);
        printf("before layer %u: residual %.3f\n", l, size);
        CHECK(size > 0.5 && size < 10); // NaN fails both
    }
    for (uint32_t l = c->first_k_dense_replace; l < c->num_hidden_layers; l++)
        check_load(&r, l);
    for (uint32_t l = c->first_k_dense_replace + 1; l < c->num_hidden_layers; l++) {
        // The state that a forecast sees lies between these two.
        double early = recall(ck, &r, l, l - 1), late = recall(ck, &r, l, l);
        printf("layer %u: foretold %.3f before layer %u, %.3f after it\n", l, early, l - 1, late);
        CHECK(early > 0.5 && late < 0.95 && early <= late);
    }
    for (uint32_t l = 0; l <= c->num_hidden_layers; l++)
        free(r.residual[l]);
    engine_close(&engine);
}

static void make(const char *program, const char *preset, const char *dir)
{
    char *argv[] = {strdup(program), strdup("--preset"), strdup(preset), strdup(dir), NULL};
    pid_t pid;
    int status;

    CHECK(posix_spawn(&pid, program, NULL, NULL, argv, environ) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    for (size_t i = 0; argv[i]; i++)
        free(argv[i]);
}

static void remove_dir(const char *dir)
{
    struct dirent *entry;
    DIR *stream = opendir(dir);
    CHECK(stream);
    while ((entry = readdir(stream)))
        unlinkat(dirfd(stream), entry->d_name, 0);
    closedir(stream);
    CHECK(rmdir(dir) == 0);
}

int main(int argc, char **argv)
{
    struct checkpoint *ck = NULL;
    struct fault fault;
    char dir[256];

    CHECK(argc == 2 || argc == 3);
    snprintf(dir, sizeof(dir), "%s", argv[1]);
    if (argc == 3) {
        snprintf(dir, sizeof(dir), "%s/make-routing.XXXXXX",
                 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
        CHECK(mkdtemp(dir));
        make(argv[1], argv[2], dir);
    }
    int err = checkpoint_open(dir, &ck, &fault);
    if (err == 0)
        check_model(ck);
    checkpoint_close(&ck);
    if (argc == 3)
        remove_dir(dir);
    if (err < 0)
        CHECK_FAIL(fault.text);
    return 0;
}
