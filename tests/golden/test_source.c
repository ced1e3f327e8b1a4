// SPDX-License-Identifier: MIT
// A source of experts as awkward as the contract allows: random order, batches of random size,
// nothing before slots are given back, experts that cannot be had.  Rows without such an expert
// have the bits of the engine with resident experts, rows with one say so, every slot comes back
// once, and the same engine goes on right afterwards.  And with a slot for each expert: once all
// are there, their matrices move to multiples of 16, and no bit changes.  Usage: test_source MODEL
#include "model/engine.h"
#include "model/slots.h"
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SEQS    3u
#define PROMPT  19u
#define DECODE  4u
#define CHUNK   8u
#define CONTEXT 64u
#define ROUNDS  12u
#define EXPERTS 256u

static struct fault fault;
static uint64_t seed = 7;

struct source {
    const struct checkpoint *ck;
    struct slots *slots;
    uint32_t fail; // of 100 experts, so many cannot be had
    bool keep;     // each expert has the slot of its key's number, and stays there
    bool there[4 * EXPERTS];
    bool held[4 * EXPERTS];
    uint32_t held_n;
    uint32_t layer, left[EXPERTS], left_n;
    bool failed[EXPERTS];   // experts of the layer that runs
    bool row_failed[CHUNK]; // of the step, as the choices say
};

static uint32_t below(uint32_t n)
{
    return (uint32_t)(check_random(&seed) >> 33) % n;
}

static void begin(void *user, uint32_t layer, const uint32_t *experts, uint32_t n)
{
    struct source *s = user;
    CHECK(s->left_n == 0 && n <= EXPERTS);
    for (uint32_t i = 1; i < n; i++)
        CHECK(experts[i - 1] < experts[i]);
    memcpy(s->left, experts, n * sizeof(*experts));
    s->left_n = n;
    s->layer = layer;
}

static void bring(struct source *s, uint32_t expert, uint32_t slot)
{
    uint32_t n, key = slots_key(s->slots, s->layer, expert);
    const struct slot_range *ranges = slots_ranges(s->slots, key, &n);
    char *host = slots_host(s->slots, slot);
    memset(host, 0xff, slots_host_bytes(s->slots)); // what was there must not matter
    for (uint32_t i = 0; i < n; i++) {
        int fd = open(safetensors_path(checkpoint_file(s->ck, ranges[i].file)), O_RDONLY);
        CHECK(fd >= 0);
        CHECK(pread(fd, host + ranges[i].dst + ranges[i].off % 4096, ranges[i].bytes,
                    (off_t)ranges[i].off) == (ssize_t)ranges[i].bytes);
        CHECK(close(fd) == 0);
    }
    slots_land(s->slots, key, slot);
}

static uint32_t next_kept(struct source *s, struct expert_ready *ret, uint32_t max)
{
    uint32_t n = 0;
    for (; n < max && s->left_n > 0; n++) {
        uint32_t expert = s->left[--s->left_n], slot = slots_key(s->slots, s->layer, expert);
        if (!s->there[slot])
            bring(s, expert, slot);
        s->there[slot] = s->held[slot] = true;
        s->held_n++;
        ret[n] = (struct expert_ready){expert, slot};
    }
    return n;
}

static uint32_t next(void *user, struct expert_ready *ret, uint32_t max, bool block,
                     struct fault *why)
{
    struct source *s = user;
    if (s->keep)
        return next_kept(s, ret, max);
    uint32_t want = below(4), n = 0, slots = slots_n(s->slots);
    if (block && want == 0)
        want = 1;
    while (n < want && n < max && s->left_n > 0) {
        uint32_t at = below(s->left_n), expert = s->left[at], slot = below(slots);
        bool fails = s->failed[expert];
        if (!fails && s->held_n == slots)
            break;
        while (!fails && s->held[slot])
            slot = (slot + 1) % slots;
        s->left[at] = s->left[--s->left_n];
        ret[n++] = (struct expert_ready){expert, fails ? EXPERT_NO_SLOT : slot};
        if (fails) {
            fault_set(why, EIO, "expert %u is gone", expert);
            continue;
        }
        bring(s, expert, slot);
        s->held[slot] = true;
        s->held_n++;
    }
    return n;
}

static void release(void *user, const uint32_t *slots, uint32_t n)
{
    struct source *s = user;
    for (uint32_t i = 0; i < n; i++) {
        CHECK(slots[i] < slots_n(s->slots) && s->held[slots[i]]);
        s->held[slots[i]] = false;
        if (!s->keep)
            memset(slots_host(s->slots, slots[i]), 0xff, slots_host_bytes(s->slots));
    }
    s->held_n -= n;
}

static bool curious(void *user, uint32_t layer)
{
    (void)user, (void)layer;
    return below(2);
}

static void predict(void *user, uint32_t layer, const uint32_t *experts, uint32_t n)
{
    (void)layer;
    struct source *s = user;
    bool seen[EXPERTS] = {0};
    for (uint32_t i = 0; i < n; i++) {
        CHECK(experts[i] < EXPERTS && !seen[experts[i]]);
        seen[experts[i]] = true;
    }
    CHECK(s->left_n <= EXPERTS);
}

// Chooses which experts of this layer fail, before the graph asks for them.
static void routed(void *user, uint32_t layer, const uint32_t *ids, uint32_t rows, uint32_t k)
{
    struct source *s = user;
    (void)layer;
    for (uint32_t e = 0; e < EXPERTS; e++)
        s->failed[e] = below(100) < s->fail;
    for (uint32_t i = 0; i < rows * k; i++)
        if (s->failed[ids[i]])
            s->row_failed[i / k] = true;
}

static void check_ok(int err, const char *what)
{
    if (err)
        fprintf(stderr, "%s: %s\n", what, fault.text);
    CHECK(err == 0);
}

static uint32_t token(uint32_t position, uint32_t seq)
{
    return (position * 131u + seq * 17u) % 200u + 3u;
}

// One step; `s` NULL: of the resident engine.  lost[seq]: a row of it failed before.
static void step(struct engine *engine, struct source *s, const struct engine_row *rows, uint32_t n,
                 float *want, bool *lost)
{
    const float *logits;
    size_t vocab = engine_config(engine)->vocab_size;
    if (s)
        memset(s->row_failed, 0, sizeof(s->row_failed));
    check_ok(engine_step(engine, rows, n, &logits, &fault), "step");
    if (!s) {
        memcpy(want, logits, n * vocab * sizeof(float));
        return;
    }
    CHECK(s->held_n == 0 && s->left_n == 0);
    for (uint32_t i = 0; i < n; i++) {
        const struct fault *why = engine_row_fault(engine, i);
        CHECK((why != NULL) == s->row_failed[i]);
        if (why) {
            CHECK(why->err == EIO && strstr(why->text, "is gone"));
            for (size_t j = 0; j < vocab; j++)
                CHECK(logits[i * vocab + j] == 0);
            lost[rows[i].seq] = true;
        } else if (!lost[rows[i].seq]) {
            CHECK(!memcmp(logits + i * vocab, want + i * vocab, vocab * sizeof(float)));
        }
    }
}

// Prompts in chunks, then rows of all sequences together.
static void run(struct engine *engine, struct source *s, float *want)
{
    struct engine_row rows[CHUNK];
    size_t vocab = engine_config(engine)->vocab_size;
    bool lost[SEQS] = {0};
    for (uint32_t seq = 0; seq < SEQS; seq++) {
        check_ok(engine_seq_reserve(engine, seq, CONTEXT), "reserve");
        for (uint32_t at = 0; at < PROMPT; at += CHUNK) {
            uint32_t n = PROMPT - at < CHUNK ? PROMPT - at : CHUNK;
            for (uint32_t i = 0; i < n; i++)
                rows[i] = (struct engine_row){token(at + i, seq), seq, at + i, true};
            step(engine, s, rows, n, want, lost);
            want += n * vocab;
        }
    }
    for (uint32_t i = 0; i < DECODE; i++) {
        for (uint32_t seq = 0; seq < SEQS; seq++)
            rows[seq] = (struct engine_row){token(PROMPT + i, seq), seq, PROMPT + i, true};
        step(engine, s, rows, SEQS, want, lost);
        want += SEQS * vocab;
    }
    for (uint32_t seq = 0; seq < SEQS; seq++)
        engine_seq_truncate(engine, seq, 0);
}

// Were the experts that landed beside a multiple of 16 moved there?  The bytes there are then those
// that were read.
static void settled_check(const struct source *s)
{
    char want[64];
    for (uint32_t key = 0; key < slots_keys(s->slots) && !slots_moved(s->slots); key++) {
        uint32_t n;
        const struct slot_range *range = slots_ranges(s->slots, key, &n);
        uint64_t landed = range->dst + range->off % 4096;
        if (!s->there[key])
            continue;
        int fd = open(safetensors_path(checkpoint_file(s->ck, range->file)), O_RDONLY);
        CHECK(fd >= 0);
        CHECK(pread(fd, want, sizeof(want), (off_t)range->off) == (ssize_t)sizeof(want));
        CHECK(close(fd) == 0);
        const char *host = slots_host(s->slots, key);
        CHECK(!memcmp(host + landed / 16 * 16, want, sizeof(want)));
    }
}

static void kept_compare(const struct checkpoint *ck, struct engine_params params, float *want)
{
    static struct source s;
    struct engine *engine = NULL;
    params.experts = ENGINE_EXPERTS_SLOTS;
    check_ok(engine_open(ck, &params, &engine, &fault), "engine_open");
    s = (struct source){.ck = ck, .slots = engine_slots(engine), .keep = true};
    CHECK(slots_n(s.slots) == slots_keys(s.slots) && slots_n(s.slots) <= ARRAY_LEN(s.held));
    const struct expert_source source = {&s, begin, next, release, curious, predict};
    engine_source_set(engine, &source);
    for (uint32_t round = 0; round < ROUNDS; round++)
        run(engine, &s, want);
    settled_check(&s);
    engine_source_set(engine, NULL);
    engine_close(&engine);
}

static void engines_compare(const struct checkpoint *ck, struct engine_params params, float *want)
{
    static struct source s;
    struct engine *engine = NULL;
    params.experts = ENGINE_EXPERTS_RESIDENT;
    check_ok(engine_open(ck, &params, &engine, &fault), "engine_open");
    run(engine, NULL, want);
    engine_close(&engine);

    params.experts = ENGINE_EXPERTS_SLOTS;
    check_ok(engine_open(ck, &params, &engine, &fault), "engine_open");
    uint32_t k = engine_config(engine)->num_experts_per_tok;
    params.slots_ram = (k + 1) * slots_host_bytes(engine_slots(engine));
    engine_close(&engine);
    check_ok(engine_open(ck, &params, &engine, &fault), "engine_open");
    CHECK(slots_n(engine_slots(engine)) == k + 1 && k + 1 <= ARRAY_LEN(s.held));
    struct engine_row row = {.want_logits = true};
    CHECK(engine_step(engine, &row, 1, NULL, &fault) == -EINVAL); // no source yet
    s = (struct source){.ck = ck, .slots = engine_slots(engine)};
    const struct expert_source source = {&s, begin, next, release, curious, predict};
    engine_routing_set(engine, routed, &s);
    engine_source_set(engine, &source);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        s.fail = round % 3 == 1 ? 5 : round % 3 == 2 ? 100 : 0; // and right again after it
        run(engine, &s, want);
    }
    engine_source_set(engine, NULL);
    check_ok(engine_seq_reserve(engine, 0, 1), "reserve");
    CHECK(engine_step(engine, &row, 1, NULL, &fault) == -EINVAL); // it was taken away
    engine_close(&engine);

    params.slots_ram = 0;
    kept_compare(ck, params, want);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    struct checkpoint *ck = NULL;
    check_ok(checkpoint_open(argv[1], &ck, &fault), "checkpoint_open");
    float *want =
        calloc((size_t)SEQS * (PROMPT + DECODE) * checkpoint_config(ck)->vocab_size, sizeof(*want));
    CHECK(want && checkpoint_config(ck)->n_routed_experts <= EXPERTS);
    for (int loads = ENGINE_LOADS_TEXEL; loads <= ENGINE_LOADS_ADDRESS; loads++)
        for (int numerics = 0; numerics < NUMERICS_COUNT; numerics++)
            engines_compare(ck,
                            (struct engine_params){.loads = (enum engine_loads)loads,
                                                   .numerics = (enum numerics)numerics,
                                                   .kv_type = KV_F32,
                                                   .sequences_max = SEQS,
                                                   .context_max = CONTEXT,
                                                   .logits_rows_max = 16,
                                                   .slots_path = SLOTS_PATH_IMPORT,
                                                   .batch_rows_max = CHUNK},
                            want);
    free(want);
    checkpoint_close(&ck);
    return 0;
}
