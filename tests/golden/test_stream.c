// SPDX-License-Identifier: MIT
// Streaming changes no bit: the logits of prompts, decode rows of two sequences and MTP drafts with
// every expert resident, against slots of every number, in place and from a pack, by io_uring and
// pread, from one and three drives, with and without reading ahead, checked and unchecked, with one
// tier and two.  Usage: test_stream MODEL EXPERTCTL
#include "model/slots.h"
#include "stream/stream.h"
#include "tests/check.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROMPT  37u
#define CHUNK   16u
#define DECODE  6u
#define CONTEXT 128u

static struct fault fault;
static char tmp[] = "/var/tmp/expertd-stream-XXXXXX";

struct variant {
    const char *name;
    uint32_t slots; // 0: as many as a layer's top-k; UINT32_MAX: all experts
    bool pack, striped, buffered, staging;
    uint32_t copies;
    enum disk_engine engine;
    enum stream_prefetch prefetch;
    enum stream_verify verify;
    enum residency_policy policy;
};

static const struct variant variants[] = {
    {.name = "top-k slots"},
    {.name = "top-k slots, reading ahead", .slots = 2, .prefetch = STREAM_PREFETCH_ON},
    {.name = "a few slots", .slots = 5, .prefetch = STREAM_PREFETCH_ON, .policy = RESIDENCY_LRU},
    {.name = "half", .slots = 12, .verify = STREAM_VERIFY_ALWAYS},
    {.name = "all", .slots = UINT32_MAX, .verify = STREAM_VERIFY_OFF},
    {.name = "pread", .slots = 3, .engine = DISK_ENGINE_PREAD, .prefetch = STREAM_PREFETCH_ON},
    {.name = "buffered", .buffered = true, .prefetch = STREAM_PREFETCH_OFF},
    {.name = "three drives", .slots = 3, .copies = 2, .prefetch = STREAM_PREFETCH_ON},
    {.name = "pack", .pack = true, .verify = STREAM_VERIFY_ALWAYS},
    {.name = "pack, pread", .slots = 4, .pack = true, .engine = DISK_ENGINE_PREAD},
    {.name = "pack on two drives", .slots = 4, .pack = true, .striped = true},
    {.name = "two tiers", .staging = true, .prefetch = STREAM_PREFETCH_ON},
    {.name = "two tiers, more", .slots = 6, .staging = true},
    {.name = "two tiers, pack", .slots = 6, .staging = true, .pack = true},
};

static void check_ok(int err, const char *what)
{
    if (err == 0)
        return;
    fprintf(stderr, "%s: %s\n", what, fault.text);
    CHECK_FAIL(what);
}

static uint32_t token(uint32_t i, uint32_t seq)
{
    return (i * 131u + seq * 17u) % 200u + 3u;
}

// Appends the logits of a step to `ret` and returns its new end.
static float *keep(float *ret, const float *logits, uint32_t rows, uint32_t vocab)
{
    memcpy(ret, logits, (size_t)rows * vocab * sizeof(float));
    return ret + (size_t)rows * vocab;
}

// Prompts in chunks, then decode rows of both sequences, each step followed by MTP drafts.
static size_t run(struct engine *engine, float *ret)
{
    uint32_t vocab = engine_config(engine)->vocab_size;
    struct engine_row rows[CHUNK];
    const float *logits;
    float *end = ret;
    for (uint32_t seq = 0; seq < 2; seq++) {
        check_ok(engine_seq_reserve(engine, seq, CONTEXT), "reserve");
        for (uint32_t at = 0; at < PROMPT; at += CHUNK) {
            uint32_t n = PROMPT - at < CHUNK ? PROMPT - at : CHUNK;
            for (uint32_t i = 0; i < n; i++)
                rows[i] = (struct engine_row){token(at + i, seq), seq, at + i, i + 1 == n};
            check_ok(engine_step(engine, rows, n, &logits, &fault), "step");
            end = keep(end, logits, 1, vocab);
            for (uint32_t i = 0; i < n; i++) // the MTP layer's KV has the whole prompt, too
                rows[i] = (struct engine_row){token(at + i + 1, seq), seq, at + i, false};
            if (engine_mtp(engine))
                check_ok(engine_mtp_step(engine, rows, n, NULL, &fault), "mtp step");
        }
    }
    for (uint32_t i = 0; i < DECODE; i++) {
        for (uint32_t seq = 0; seq < 2; seq++)
            rows[seq] = (struct engine_row){token(PROMPT + i, seq), seq, PROMPT + i, true};
        check_ok(engine_step(engine, rows, 2, &logits, &fault), "step");
        CHECK(!engine_row_fault(engine, 0) && !engine_row_fault(engine, 1));
        end = keep(end, logits, 2, vocab);
        for (uint32_t seq = 0; engine_mtp(engine) && seq < 2; seq++)
            rows[seq].token = token(PROMPT + i + 1, seq);
        if (engine_mtp(engine)) {
            check_ok(engine_mtp_step(engine, rows, 2, &logits, &fault), "mtp step");
            end = keep(end, logits, 2, vocab);
        }
    }
    engine_seq_truncate(engine, 0, 0);
    engine_seq_truncate(engine, 1, 0);
    return (size_t)(end - ret);
}

static struct engine_params base_params(enum engine_loads loads)
{
    return (struct engine_params){.loads = loads,
                                  .kv_type = KV_F32,
                                  .sequences_max = 2,
                                  .context_max = CONTEXT,
                                  .batch_rows_max = CHUNK,
                                  .mtp = true};
}

static struct engine *engine_of(const struct checkpoint *ck, const struct engine_params *params)
{
    struct engine *engine = NULL;
    check_ok(engine_open(ck, params, &engine, &fault), "engine_open");
    return engine;
}

// Copies a shard with `more` spaces behind its header, so that its tensors start elsewhere.
static void shard_shift(const char *from, const char *to, uint32_t more)
{
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    CHECK(in && out);
    uint64_t header;
    CHECK(fread(&header, sizeof(header), 1, in) == 1);
    uint64_t longer = header + more;
    CHECK(fwrite(&longer, sizeof(longer), 1, out) == 1);
    char buf[4096];
    for (uint64_t left = header; left > 0;) {
        size_t part = left < sizeof(buf) ? left : sizeof(buf);
        CHECK(fread(buf, 1, part, in) == part && fwrite(buf, 1, part, out) == part);
        left -= part;
    }
    CHECK(fprintf(out, "%*s", (int)more, "") == (int)more);
    for (size_t n; (n = fread(buf, 1, sizeof(buf), in)) > 0;)
        CHECK(fwrite(buf, 1, n, out) == n);
    CHECK(fclose(in) == 0 && fclose(out) == 0);
}

// A directory with copies of the shards stands for a drive.
static void copy_make(const char *model, uint32_t i, char *ret, size_t bytes)
{
    char from[PATH_MAX], to[PATH_MAX];
    snprintf(ret, bytes, "%s/copy%u", tmp, i);
    CHECK(mkdir(ret, 0700) == 0);
    DIR *dir = opendir(model);
    CHECK(dir);
    for (struct dirent *d; (d = readdir(dir));) {
        if (!strstr(d->d_name, ".safetensors") || strstr(d->d_name, ".json"))
            continue;
        CHECK(snprintf(from, sizeof(from), "%s/%s", model, d->d_name) < PATH_MAX);
        CHECK(snprintf(to, sizeof(to), "%s/%s", ret, d->d_name) < PATH_MAX);
        shard_shift(from, to, 0);
    }
    closedir(dir);
}

static void command(const char *const *argv)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void packs_make(const char *expertctl, const char *model, bool parts, char *pack,
                       char *striped, size_t bytes)
{
    char drives[PATH_MAX];
    snprintf(pack, bytes, "%s/pack", tmp);
    snprintf(striped, bytes, "%s/striped", tmp);
    snprintf(drives, sizeof(drives), "%s/d1,%s/d2", tmp, tmp);
    for (int i = 1; i <= 2; i++) {
        char dir[PATH_MAX];
        snprintf(dir, sizeof(dir), "%s/d%d", tmp, i);
        CHECK(mkdir(dir, 0700) == 0);
    }
    command((const char *const[]){expertctl, "--quiet", "pack", model, pack, NULL});
    if (!parts)
        return;
    command((const char *const[]){expertctl, "--quiet", "pack", model, striped, "--drives", drives,
                                  NULL});
}

// The model with every tensor `more` bytes further on in its file.
static struct checkpoint *model_shift(const char *model, uint32_t more)
{
    char dir[PATH_MAX], from[2 * PATH_MAX], to[2 * PATH_MAX], whole[PATH_MAX];
    snprintf(dir, sizeof(dir), "%s/shift%u", tmp, more);
    CHECK(mkdir(dir, 0700) == 0 && realpath(model, whole));
    DIR *files = opendir(model);
    CHECK(files);
    for (struct dirent *d; (d = readdir(files));) {
        snprintf(from, sizeof(from), "%s/%s", whole, d->d_name);
        snprintf(to, sizeof(to), "%s/%s", dir, d->d_name);
        if (strstr(d->d_name, ".safetensors") && !strstr(d->d_name, ".json"))
            shard_shift(from, to, more);
        else if (d->d_name[0] != '.')
            CHECK(symlink(from, to) == 0);
    }
    closedir(files);
    struct checkpoint *ck = NULL;
    check_ok(checkpoint_open(dir, &ck, &fault), "checkpoint_open");
    return ck;
}

struct dirs {
    char pack[PATH_MAX], striped[PATH_MAX], copies[2][PATH_MAX];
};

static void variant_run(const struct checkpoint *ck, const struct variant *v,
                        enum engine_loads loads, const struct dirs *dirs, const float *want,
                        float *got, size_t n)
{
    struct engine_params params = base_params(loads);
    params.experts = ENGINE_EXPERTS_SLOTS;
    params.slots_path = v->staging ? SLOTS_PATH_STAGING : SLOTS_PATH_IMPORT;
    params.pack = v->striped ? dirs->striped : v->pack ? dirs->pack : NULL;
    struct engine *engine = engine_of(ck, &params); // as many as there are
    uint32_t k = engine_config(engine)->num_experts_per_tok;
    uint32_t all = slots_host_n(engine_slots(engine));
    uint32_t slots = v->slots < all - k ? k + v->slots : all;
    params.slots_ram = slots * slots_host_bytes(engine_slots(engine));
    params.slots_vram = (k + v->slots / 2) * slots_device_bytes(engine_slots(engine));
    engine_close(&engine);
    engine = engine_of(ck, &params);
    CHECK(slots_host_n(engine_slots(engine)) == slots);

    struct stream_params stream_params = {.shards = {dirs->copies[0], dirs->copies[1]},
                                          .shards_n = v->copies,
                                          .packs = {params.pack},
                                          .packs_n = params.pack != NULL,
                                          .engine = v->engine,
                                          .buffered = v->buffered,
                                          .timeout_us = 60000000,
                                          .verify = v->verify,
                                          .prefetch = v->prefetch,
                                          .policy = v->policy,
                                          .hashes = ""};
    struct stream *stream = NULL;
    check_ok(stream_open(engine, ck, &stream_params, &stream, &fault), "stream_open");
    memset(got, 0, n * sizeof(float));
    CHECK(run(engine, got) == n);
    struct stream_stats stats;
    stream_stats_read(stream, &stats);
    printf("%-28s slots %4u%s  wanted %5llu  hits %5llu  reads %5llu  foretold %4llu (%llu right, "
           "%llu read, %llu used)\n",
           v->name, slots, slots_moved(engine_slots(engine)) ? " (moved)" : "",
           (unsigned long long)stats.wanted, (unsigned long long)stats.hits,
           (unsigned long long)stats.reads, (unsigned long long)stats.predicted,
           (unsigned long long)stats.predicted_right, (unsigned long long)stats.predicted_read,
           (unsigned long long)stats.predicted_used);
    CHECK(!memcmp(got, want, n * sizeof(float)));
    CHECK(stats.wanted > 0 && stats.failures == 0 && stats.hits <= stats.wanted);
    CHECK(slots == all || stats.reads > 0);
    CHECK(v->prefetch != STREAM_PREFETCH_OFF || stats.predicted_read == 0);
    CHECK(stream_drives(stream) == (v->copies ? 3 : v->striped ? 2 : 1));
    stream_close(&stream);
    engine_close(&engine);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    CHECK(mkdtemp(tmp));
    struct checkpoint *ck = NULL;
    check_ok(checkpoint_open(argv[1], &ck, &fault), "checkpoint_open");
    static struct dirs dirs;
    copy_make(argv[1], 0, dirs.copies[0], PATH_MAX);
    copy_make(argv[1], 1, dirs.copies[1], PATH_MAX);
    const struct tensor *gate;
    CHECK(checkpoint_get(ck, ROLE_EXPERT_GATE, model_config_layers(checkpoint_config(ck)) - 1, 0,
                         NULL, &gate, NULL) == 0);
    bool parts = gate->bytes >= 4096; // a record of three such is cut into two parts
    packs_make(argv[2], argv[1], parts, dirs.pack, dirs.striped, PATH_MAX);
    size_t rows = 2 * (PROMPT / CHUNK + 1) + 4 * DECODE;
    size_t most = rows * checkpoint_config(ck)->vocab_size;
    float *want = calloc(most, sizeof(float)), *got = calloc(most, sizeof(float));
    CHECK(want && got);
    static const uint32_t shifts[] = {4, 8, 12, 1, 2, 16};
    static const struct variant tiers = {.name = "two tiers, moved", .slots = 1, .staging = true};
    struct checkpoint *shifted[ARRAY_LEN(shifts)];
    for (size_t i = 0; i < ARRAY_LEN(shifts); i++)
        shifted[i] = model_shift(argv[1], shifts[i]);
    for (int loads = ENGINE_LOADS_TEXEL; loads <= ENGINE_LOADS_ADDRESS; loads++) {
        struct engine_params params = base_params((enum engine_loads)loads);
        params.experts = ENGINE_EXPERTS_RESIDENT;
        struct engine *engine = engine_of(ck, &params);
        CHECK(!engine_slots(engine));
        size_t n = run(engine, want);
        engine_close(&engine);
        float top = 0;
        for (size_t i = 0; i < n; i++)
            top = want[i] > top ? want[i] : top;
        CHECK(top > 0);
        for (size_t i = 0; i < ARRAY_LEN(variants); i++)
            if (parts || !variants[i].striped)
                variant_run(ck, &variants[i], (enum engine_loads)loads, &dirs, want, got, n);
        // Tensors at every offset: kernels are told those of whole words, others are moved.
        for (size_t i = 0; i < ARRAY_LEN(shifts); i++) {
            variant_run(shifted[i], &variants[0], (enum engine_loads)loads, &dirs, want, got, n);
            variant_run(shifted[i], &tiers, (enum engine_loads)loads, &dirs, want, got, n);
        }
    }
    command((const char *const[]){"rm", "-rf", tmp, NULL});
    checkpoint_close(&ck);
    for (size_t i = 0; i < ARRAY_LEN(shifts); i++)
        checkpoint_close(&shifted[i]);
    free(want);
    free(got);
    return 0;
}
