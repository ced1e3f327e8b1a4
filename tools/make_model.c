// SPDX-License-Identifier: MIT
// make-model --preset NAME DIR [--seed N] [--mtp] [--reflink]: a checkpoint with random weights in
// the layout of released ones: config.json, generation_config.json, tokenizer.json,
// tokenizer_config.json, shards and their index.  Files appear under their names when they are
// whole, config.json last; whatever ends the run early (no space, Ctrl-C) removes what it wrote.
#include "base/fault.h"
#include "model/config.h"
#include "tools/make_model_output.h"
#include "tools/make_model_preset.h"
#include "tools/make_model_shards.h"
#include "tools/make_model_tokenizer.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
    stopped = sig;
}

// --- JSON files --------------------------------------------------------------------------------

// json_write takes over json, which may be NULL for want of memory.
static int json_write(struct output_file *out, const char *name, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) : NULL;
    int err;

    json_decref(json);
    if (!text)
        return fault_set(out->fault, ENOMEM, "no memory for %s", name);
    err = output_file_begin(out, name, 0);
    if (err == 0)
        err = output_file_write(out, text, strlen(text));
    if (err == 0)
        err = output_file_write(out, "\n", 1);
    free(text);
    return err < 0 ? err : output_file_end(out);
}

static json_t *index_json(const struct items *items)
{
    char name[SHARD_NAME_MAX];
    json_t *map = json_object();

    for (size_t i = 0; map && i < items->n; i++) {
        shard_name(items->list[i].shard, items->shards, name);
        if (json_object_set_new(map, items->list[i].name, json_string(name)) < 0) {
            json_decref(map);
            return NULL;
        }
    }
    return json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)items->bytes,
                     "weight_map", map);
}

// config.json comes last: a directory without it is no checkpoint.
static int texts_write(struct output_file *out, const struct items *items, json_t *config)
{
    int err = json_write(out, "model.safetensors.index.json", index_json(items));
    if (err == 0)
        err = json_write(out, "tokenizer.json", tokenizer_json(items->config->vocab_size));
    if (err == 0)
        err = json_write(out, "tokenizer_config.json", tokenizer_config_json());
    if (err == 0)
        err = json_write(out, "generation_config.json", preset_generation_config(config));
    if (err == 0)
        err = json_write(out, "config.json", json_incref(config));
    return err;
}

// --- the run -----------------------------------------------------------------------------------

struct options {
    const struct preset *preset;
    const char *dir;
    uint64_t seed;
    bool mtp, reflink;
};

static int files_write(struct output *out, const struct options *options, const struct items *items,
                       json_t *config_json, struct fault *fault)
{
    struct weights *weights = NULL;
    struct output_file file;

    int err = weights_create(options->seed, items->config, &weights);
    if (err < 0)
        return fault_set(fault, ENOMEM, "no memory for tables");
    err = shards_write(out, weights, items, options->reflink, fault);
    weights_destroy(&weights);
    if (err < 0)
        return err;
    err = output_file_init(&file, out, fault);
    if (err == 0)
        err = texts_write(&file, items, config_json);
    output_file_fini(&file);
    return err;
}

static int model_write(const struct options *options, const struct model_config *config,
                       json_t *config_json, struct items *items, struct fault *fault)
{
    struct output out = {.dir = options->dir, .progress = isatty(2), .stopped = &stopped};

    if (items_make(config, items) < 0)
        return fault_set(fault, ENOMEM, "no memory for the list of tensors");
    if (options->reflink && !items->fp8_bytes)
        return fault_set(fault, EINVAL, "preset %s has no FP8 weights, which --reflink shares",
                         options->preset->name);
    int err = output_open(&out, items->shards + 8, shards_need(items, options->reflink),
                          items->bytes, fault);
    if (err == 0)
        err = files_write(&out, options, items, config_json, fault);
    output_close(&out, err < 0);
    return err;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int model_make(const struct options *options, struct fault *fault)
{
    struct model_config config;
    struct items items = {0};
    double begin = seconds();
    json_t *json = preset_config(options->preset, options->mtp);
    char *text = json ? json_dumps(json, 0) : NULL;
    int err;

    if (!text)
        err = fault_set(fault, ENOMEM, "no memory for config.json");
    else
        err = model_config_parse(text, strlen(text), NULL, 0, &config, fault);
    if (err == 0 && options->mtp && !config.num_nextn_predict_layers)
        err = fault_set(fault, EINVAL, "preset %s has no MTP layer", options->preset->name);
    if (err == 0)
        err = model_write(options, &config, json, &items, fault);
    if (err == 0) {
        double took = seconds() - begin;
        printf("%s: %zu tensors in %u files, %.1f MB in %.2f s (%.0f MB/s)\n", options->dir,
               items.n, items.shards, (double)items.bytes / 1e6, took,
               (double)items.bytes / 1e6 / took);
    }
    items_free(&items);
    free(text);
    json_decref(json);
    return err;
}

// --- command line ------------------------------------------------------------------------------

static void usage(FILE *out)
{
    fprintf(out,
            "Usage: make-model --preset NAME DIR [--seed N] [--mtp] [--reflink]\n"
            "       make-model --list\n"
            "Writes a checkpoint with random weights into DIR, which must be new or empty.\n"
            "  --preset NAME  the shape, one of those below\n"
            "  --seed N       other weights (0)\n"
            "  --mtp          with a layer for multi-token prediction\n"
            "  --reflink      FP8 weights share the blocks of one pool: little space, on file\n"
            "                 systems that clone blocks (XFS, btrfs)\n\n");
    for (const struct preset *preset = presets; preset->name; preset++)
        fprintf(out, "  %-12s %s\n", preset->name, preset->what);
}

static int seed_parse(const char *text, uint64_t *ret)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-')
        return -EINVAL;
    *ret = value;
    return 0;
}

// options_parse returns -1 to go on, or the exit status.
static int options_parse(int argc, char **argv, struct options *ret)
{
    static const struct option longs[] = {{"preset", required_argument, NULL, 'p'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"mtp", no_argument, NULL, 'm'},
                                          {"reflink", no_argument, NULL, 'r'},
                                          {"list", no_argument, NULL, 'l'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *name = NULL;

    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
        if (c == 'p') {
            name = optarg;
        } else if (c == 'm') {
            ret->mtp = true;
        } else if (c == 'r') {
            ret->reflink = true;
        } else if (c == 'l' || c == 'h') {
            usage(stdout);
            return 0;
        } else if (c != 's' || seed_parse(optarg, &ret->seed) < 0) {
            usage(stderr);
            return 2;
        }
    }
    ret->preset = name ? preset_find(name) : NULL;
    if (name && !ret->preset)
        fprintf(stderr, "make-model: no preset is called %s\n", name);
    if (!ret->preset || optind + 1 != argc) {
        usage(stderr);
        return 2;
    }
    ret->dir = argv[optind];
    return -1;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct fault fault = {0};
    const struct sigaction action = {.sa_handler = on_signal};
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

    int status = options_parse(argc, argv, &options);
    if (status >= 0)
        return status;
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &action, NULL);
    signal(SIGXFSZ, SIG_IGN); // a file-size limit is then an error of write
    if (model_make(&options, &fault) < 0) {
        fprintf(stderr, "make-model: %s\n", fault.text);
        return 1;
    }
    return 0;
}
