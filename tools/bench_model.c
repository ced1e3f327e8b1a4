// SPDX-License-Identifier: MIT
// bench-model NAME [--model DIR] [--device NAME] [--tokens N] [--kv f16|f32] [--numerics NAME]:
// speed of the forward pass, as JSON lines for tools/bench.  NAME: decode (one sequence), prefill
// (512 tokens), host (time in expertd's own code per decode step, outside waits for the device),
// batch (8 sequences). Without --model it makes and keeps a bench-800m of tools/make-model beside
// the build.
#include "base/clock.h"
#include "model/checkpoint.h"
#include "model/engine.h"

#include <errno.h>
#include <libgen.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PREFILL_TOKENS 512u
#define BATCH          8u
#define REPEATS        3u // medians: these machines are shared

extern char **environ;

struct options {
    const char *name, *model, *device;
    uint32_t tokens;
    enum engine_loads loads;
    enum kv_type kv;
    enum numerics numerics;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench-model: %s\n", what);
    exit(1);
}

/* ------------------------------------------------------------------ model */

static void model_make(const char *program, const char *dir)
{
    char preset[] = "--preset", name[] = "bench-800m";
    char *args[] = {strdup(program), preset, name, strdup(dir), NULL};
    pid_t pid;
    int status = -1;
    fprintf(stderr, "bench-model: making %s\n", dir);
    if (posix_spawn(&pid, program, NULL, NULL, args, environ) || waitpid(pid, &status, 0) < 0 ||
        status != 0)
        die("tools/make-model failed");
    free(args[0]);
    free(args[3]);
}

static const char *model_default(const char *argv0)
{
    static char dir[4096], program[4096];
    char self[4096];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len < 0)
        die(argv0);
    self[len] = '\0';
    const char *folder = dirname(self);
    snprintf(dir, sizeof(dir), "%s/../bench-800m", folder);
    snprintf(program, sizeof(program), "%s/make-model", folder);
    struct stat st;
    if (stat(dir, &st) < 0 && errno == ENOENT)
        model_make(program, dir);
    return dir;
}

/* ------------------------------------------------------------ measurements */

static void row_print(const char *name, double value, const char *unit, double reference,
                      const struct engine *engine, const char *more)
{
    printf("{\"name\": \"%s\", \"value\": %.4g, \"unit\": \"%s\", ", name, value, unit);
    if (reference > 0)
        printf("\"reference\": %g, \"ratio\": %.3g, ", reference, value / reference);
    printf("\"conditions\": \"%s, %ld CPUs%s\"}\n", engine_device_name(engine),
           sysconf(_SC_NPROCESSORS_ONLN), more);
    fflush(stdout);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), by_value);
    return values[n / 2];
}

static uint32_t token_at(uint32_t i, uint32_t vocab)
{
    return i * 2654435761u % vocab; // spread over the vocabulary, the same in every run
}

static void step(struct engine *engine, const struct engine_row *rows, uint32_t n)
{
    const float *logits;
    struct fault fault;
    if (engine_step(engine, rows, n, &logits, &fault))
        die(fault.text);
    if (!isfinite(logits[0]))
        die("logits are not finite");
}

// Seconds for `tokens` tokens of sequence 0.. in chunks of a whole batch.
static double prefill(struct engine *engine, uint32_t tokens)
{
    struct engine_row rows[2048];
    uint32_t chunk = engine_batch_rows_max(engine), vocab = engine_config(engine)->vocab_size;
    engine_seq_truncate(engine, 0, 0);
    if (engine_seq_reserve(engine, 0, tokens))
        die("no KV pages");
    uint64_t from = clock_us();
    for (uint32_t at = 0; at < tokens; at += chunk) {
        uint32_t n = tokens - at < chunk ? tokens - at : chunk;
        for (uint32_t i = 0; i < n; i++)
            rows[i] = (struct engine_row){token_at(at + i, vocab), 0, at + i, i + 1 == n};
        step(engine, rows, n);
    }
    return (double)(clock_us() - from) / 1e6;
}

static double decode(struct engine *engine, uint32_t sequences, uint32_t tokens)
{
    struct engine_row rows[BATCH];
    uint32_t vocab = engine_config(engine)->vocab_size;
    for (uint32_t s = 0; s < sequences; s++) {
        engine_seq_truncate(engine, s, 0);
        if (engine_seq_reserve(engine, s, tokens))
            die("no KV pages");
    }
    uint64_t from = clock_us();
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t s = 0; s < sequences; s++)
            rows[s] = (struct engine_row){token_at(t + 977 * s, vocab), s, t, true};
        step(engine, rows, sequences);
    }
    return (double)(clock_us() - from) / 1e6;
}

static void measure_decode(struct engine *engine, const struct options *o, uint32_t sequences)
{
    double seconds[REPEATS];
    char more[64];
    for (uint32_t i = 0; i < REPEATS; i++)
        seconds[i] = decode(engine, sequences, o->tokens);
    snprintf(more, sizeof(more), ", %u sequences, contexts up to %u", sequences, o->tokens);
    row_print(sequences == 1 ? "decode" : "decode-batch",
              sequences * o->tokens / median(seconds, REPEATS), "tokens/s",
              sequences == 1 && !o->model ? 30 : 0, engine, more);
}

static void measure_prefill(struct engine *engine, const struct options *o)
{
    double seconds[REPEATS];
    for (uint32_t i = 0; i < REPEATS; i++)
        seconds[i] = prefill(engine, PREFILL_TOKENS);
    row_print("prefill", PREFILL_TOKENS / median(seconds, REPEATS), "tokens/s", o->model ? 0 : 60,
              engine, ", 512 tokens");
}

static void measure_host(struct engine *engine, const struct options *o)
{
    struct engine_counters a, b;
    decode(engine, 1, 4);
    engine_counters_get(engine, &a);
    decode(engine, 1, o->tokens);
    engine_counters_get(engine, &b);
    double host = (double)(b.host_ns - a.host_ns), wait = (double)(b.wait_ns - a.wait_ns);
    row_print("host", 100.0 * host / (host + wait), "%", 5, engine, ", of a decode step");
    row_print("host-step", host / 1e3 / (double)(b.steps - a.steps), "us", 0, engine, "");
}

/* ------------------------------------------------------------------- main */

static void options_read(int argc, char **argv, struct options *o)
{
    *o = (struct options){
        .name = argc > 1 ? argv[1] : "", .device = "auto", .tokens = 64, .kv = KV_F16};
    for (int i = 2; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--model"))
            o->model = argv[i + 1];
        else if (!strcmp(argv[i], "--device"))
            o->device = argv[i + 1];
        else if (!strcmp(argv[i], "--tokens"))
            o->tokens = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--loads"))
            o->loads = !strcmp(argv[i + 1], "texel")     ? ENGINE_LOADS_TEXEL
                       : !strcmp(argv[i + 1], "address") ? ENGINE_LOADS_ADDRESS
                                                         : ENGINE_LOADS_AUTO;
        else if (!strcmp(argv[i], "--kv"))
            o->kv = strcmp(argv[i + 1], "f32") ? KV_F16 : KV_F32;
        else if (!strcmp(argv[i], "--numerics"))
            o->numerics =
                strcmp(argv[i + 1], "official-fp8") ? NUMERICS_FP8_WEIGHTS : NUMERICS_OFFICIAL_FP8;
        else
            die("options: --model DIR, --device NAME, --tokens N, --kv f16|f32, --numerics NAME");
    }
    if (o->tokens < 1 || o->tokens > 4096)
        die("--tokens is 1..4096");
}

int main(int argc, char **argv)
{
    struct options o;
    struct checkpoint *ck = NULL;
    struct engine *engine = NULL;
    struct fault fault;
    options_read(argc, argv, &o);
    const char *dir = o.model ? o.model : model_default(argv[0]);
    if (checkpoint_open(dir, &ck, &fault))
        die(fault.text);
    uint32_t context = o.tokens > PREFILL_TOKENS ? o.tokens : PREFILL_TOKENS;
    if (context > checkpoint_config(ck)->max_position_embeddings)
        die("the model's context is too short");
    struct engine_params params = {.device_select = o.device,
                                   .loads = o.loads,
                                   .numerics = o.numerics,
                                   .kv_type = o.kv,
                                   .sequences_max = BATCH,
                                   .context_max = context,
                                   .batch_rows_max = PREFILL_TOKENS};
    if (engine_open(ck, &params, &engine, &fault))
        die(fault.text);
    if (!strcmp(o.name, "decode"))
        measure_decode(engine, &o, 1);
    else if (!strcmp(o.name, "batch"))
        measure_decode(engine, &o, BATCH);
    else if (!strcmp(o.name, "prefill"))
        measure_prefill(engine, &o);
    else if (!strcmp(o.name, "host"))
        measure_host(engine, &o);
    else
        die("NAME is decode, batch, prefill or host");
    engine_close(&engine);
    checkpoint_close(&ck);
    return 0;
}
