// SPDX-License-Identifier: MIT
// replay [--slots N|P%,...] [--json] [--synthetic SEED]... [TRACE...]: how many uses of experts
// find them in a slot, under each policy and for several numbers of slots, on recorded routing
// (expertd --trace-routing).  Demand only: nothing is read ahead.
#include "tools/replay_cache.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MAX  64u // numbers of slots in one run
#define TRACE_MAX  (1l << 30)
#define SLOTS_MOST (1u << 20)

struct slots_choice {
    double value;
    bool percent; // of the experts of all layers
};

struct options {
    struct slots_choice slots[SLOTS_MAX];
    uint32_t slots_n;
    bool json;
};

static const char usage[] =
    "usage: replay [--slots N|P%,...] [--json] [--synthetic SEED]... [TRACE...]\n";

static _Noreturn void usage_die(const char *name, const char *what)
{
    fprintf(stderr, "replay: %s: %s\n%s", name, what, usage);
    exit(2);
}

static _Noreturn void die(const char *name, const char *what)
{
    fprintf(stderr, "replay: %s: %s\n", name, what);
    exit(1);
}

/* ----------------------------------------------------------------- options */

static const char slots_default[] = "3%,5%,10%,20%,30%,40%,50%,60%,70%,80%,90%";

static bool slots_parse(const char *text, struct options *o)
{
    o->slots_n = 0;
    while (o->slots_n < SLOTS_MAX) {
        char *end;
        struct slots_choice *s = &o->slots[o->slots_n++];
        s->value = strtod(text, &end);
        s->percent = *end == '%';
        text = end + s->percent;
        if (!(s->value > 0) || s->value > (s->percent ? 100 : SLOTS_MOST))
            return false;
        if (*text == '\0')
            return true;
        if (*text++ != ',')
            return false;
    }
    return false;
}

// slots_of returns the number that a choice means for a trace.
static uint32_t slots_of(const struct slots_choice *s, const struct replay_uses *uses)
{
    double slots = s->percent ? s->value / 100 * uses->keys_n : s->value;
    return slots < 1 ? 1 : slots > SLOTS_MOST ? SLOTS_MOST : (uint32_t)slots;
}

/* ------------------------------------------------------------------ output */

static void head_print(const char *name, const struct replay_uses *u)
{
    double uses = (double)u->first[u->groups_n];
    printf("%s: %" PRIu32 " layers of %" PRIu32 " experts, %" PRIu32 " a row; %" PRIu64
           " steps, %" PRIu64 " rows, %.0f uses\n",
           name, u->layers_n, u->shape.experts, u->shape.k, u->steps_n, u->rows_n, uses);
    printf("a step wants %.1f experts; of a row's experts %.1f %% are those of the row before\n",
           uses / (double)u->steps_n, 100 * u->again);
    printf("  slots      %%");
    for (int p = 0; p < REPLAY_POLICY_COUNT; p++)
        printf(" %7s", replay_policy_name[p]);
    printf("   hits in %%, nothing read ahead\n");
}

static void row_print(const char *name, const struct replay_uses *u, uint32_t slots,
                      const struct options *o)
{
    double uses = (double)u->first[u->groups_n];
    if (o->json)
        printf("{\"name\": \"replay\", \"trace\": \"%s\", \"experts\": %" PRIu32
               ", \"slots\": %" PRIu32,
               name, u->keys_n, slots);
    else
        printf("%7" PRIu32 " %6.1f", slots, 100.0 * slots / u->keys_n);
    for (int p = 0; p < REPLAY_POLICY_COUNT; p++) {
        uint64_t hits = 0;
        if (replay_cache_hits(u, slots, (enum replay_policy)p, &hits))
            die(name, "not enough memory");
        if (o->json)
            printf(", \"%s\": %.4f", replay_policy_name[p], (double)hits / uses);
        else
            printf(" %7.2f", 100 * (double)hits / uses);
    }
    printf(o->json ? "}\n" : "\n");
    fflush(stdout);
}

static void trace_run(const char *name, const uint8_t *bytes, size_t n, const struct options *o)
{
    struct replay_uses uses;
    struct fault fault = {0};
    if (replay_uses_make(bytes, n, &uses, &fault))
        die(name, fault.text);
    if (!o->json)
        head_print(name, &uses);
    for (uint32_t i = 0; i < o->slots_n; i++)
        row_print(name, &uses, slots_of(&o->slots[i], &uses), o);
    replay_uses_free(&uses);
}

/* ------------------------------------------------------------------ traces */

static void file_run(const char *path, const struct options *o)
{
    FILE *file = fopen(path, "rbe");
    if (!file || fseek(file, 0, SEEK_END))
        die(path, strerror(errno));
    long n = ftell(file);
    if (n < 0 || n > TRACE_MAX)
        die(path, "longer than a trace can be");
    rewind(file);
    uint8_t *bytes = malloc((size_t)n + 1);
    if (!bytes)
        die(path, "not enough memory");
    if (fread(bytes, 1, (size_t)n, file) != (size_t)n)
        die(path, "it cannot be read");
    fclose(file);
    const char *slash = strrchr(path, '/');
    trace_run(slash ? slash + 1 : path, bytes, (size_t)n, o);
    free(bytes);
}

static void synthetic_run(const char *seed, const struct options *o)
{
    char name[64], *end;
    uint8_t *bytes;
    size_t n;
    unsigned long long number = strtoull(seed, &end, 10);
    if (end == seed || *end)
        usage_die("--synthetic", "takes a number");
    snprintf(name, sizeof(name), "SYNTHETIC V3 shape, seed %.16s", seed);
    if (replay_synthetic(number, &bytes, &n))
        die(name, "not enough memory");
    trace_run(name, bytes, n, o);
    free(bytes);
}

int main(int argc, char **argv)
{
    struct options o = {0};
    bool ran = false;
    slots_parse(slots_default, &o);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            fputs(usage, stdout);
            return 0;
        }
        if (!strcmp(argv[i], "--json")) {
            o.json = true;
        } else if (!strcmp(argv[i], "--slots") && i + 1 < argc) {
            if (!slots_parse(argv[++i], &o))
                usage_die("--slots", "takes 1 to 64 numbers above 0, or percentages to 100 %, with "
                                     "commas between");
        } else if (!strcmp(argv[i], "--synthetic") && i + 1 < argc) {
            synthetic_run(argv[++i], &o);
            ran = true;
        } else if (argv[i][0] == '-') {
            break;
        } else {
            file_run(argv[i], &o);
            ran = true;
        }
        if (i + 1 == argc && ran)
            return 0;
    }
    fputs(usage, stderr);
    return 2;
}
