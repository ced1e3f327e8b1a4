// SPDX-License-Identifier: MIT
// draft_gate: it finds what is faster, changes its mind when that changes, and is not fooled by a
// drive that drifts, by first steps, by prompts between, or by noise.
#include "sched/draft_gate.h"
#include "tests/check.h"

#define MEASURE_STEPS (2 * DRAFT_GATE_ROUNDS * (DRAFT_GATE_WINDOW_STEPS + 1))

// What steps cost in a made-up world: a plain step takes plain_us for one token; with a draft it
// takes draft_us and gains two tokens in accept of 100 cases.
struct world {
    uint64_t plain_us, draft_us;
    uint32_t accept;
    uint64_t random;
    bool had_draft; // the step before made one
};

// world_step runs one step; a change of setting shows one step later, as in the daemon.
static bool world_step(struct world *w, struct draft_gate *gate)
{
    bool drafts = draft_gate_drafts(gate);
    uint32_t tokens = 1;
    uint64_t us = w->had_draft ? w->draft_us : w->plain_us;
    if (w->had_draft && check_random(&w->random) % 100 < w->accept)
        tokens = 2;
    w->had_draft = drafts;
    return draft_gate_step(gate, tokens, us, true);
}

// measured runs steps until a measurement ends; returns how many.
static uint32_t measured(struct world *w, struct draft_gate *gate)
{
    for (uint32_t n = 1; n <= 2 * (DRAFT_GATE_HOLD_STEPS + MEASURE_STEPS); n++)
        if (world_step(w, gate))
            return n;
    CHECK_FAIL("a measurement ends");
    return 0;
}

static void test_decides(void)
{
    static const struct {
        uint64_t plain_us, draft_us;
        uint32_t accept;
        bool pays;
    } rows[] = {
        {1000, 1100, 80, true},  // resident: the second row is nearly free
        {1000, 1960, 80, false}, // disk-bound, no overlap of experts
        {1000, 1000, 0, false},  // never right
        {1000, 2000, 100, false},     {1000, 1500, 100, true},
        {3000000, 3100000, 60, true}, {1, 1, 100, true},
    };
    for (uint32_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct draft_gate gate;
        draft_gate_init(&gate);
        struct world w = {rows[i].plain_us, rows[i].draft_us, rows[i].accept, i + 1, false};
        CHECK(!draft_gate_drafts(&gate) && draft_gate_feeds(&gate));
        CHECK(measured(&w, &gate) == MEASURE_STEPS);
        CHECK(draft_gate_drafts(&gate) == rows[i].pays && draft_gate_pays(&gate) == rows[i].pays);
        CHECK(draft_gate_feeds(&gate) == rows[i].pays);
        double plain = draft_gate_rate(&gate, false), want = 1e6 / (double)rows[i].plain_us;
        CHECK(plain > 0.999 * want && plain < 1.001 * want); // no step of another kind is in it
        double with = draft_gate_rate(&gate, true);
        CHECK(with <= 2.001e6 / (double)rows[i].draft_us);
        CHECK(with >= 0.999e6 / (double)rows[i].draft_us);
        // It holds, then measures again and finds the same.
        for (uint32_t n = 0; n < DRAFT_GATE_HOLD_STEPS - 1; n++) {
            CHECK(!world_step(&w, &gate));
            CHECK(draft_gate_drafts(&gate) == rows[i].pays);
        }
        CHECK(!world_step(&w, &gate) && draft_gate_feeds(&gate) && !draft_gate_drafts(&gate));
        CHECK(measured(&w, &gate) == MEASURE_STEPS && draft_gate_pays(&gate) == rows[i].pays);
    }
}

static void test_changes(void)
{
    struct draft_gate gate;
    draft_gate_init(&gate);
    struct world w = {1000, 1200, 90, 7, false};
    measured(&w, &gate);
    CHECK(draft_gate_pays(&gate));
    w.draft_us = 2100; // a smaller cache: every second row reads
    measured(&w, &gate);
    CHECK(!draft_gate_pays(&gate));
    w.draft_us = 1200;
    measured(&w, &gate);
    CHECK(draft_gate_pays(&gate));
}

// A difference below the margin leaves things as they are, on either side.
static void test_margin(void)
{
    struct draft_gate gate;
    draft_gate_init(&gate);
    struct world w = {1000, 1985, 100, 7, false}; // 0.8 % faster
    measured(&w, &gate);
    CHECK(!draft_gate_pays(&gate));
    w.draft_us = 1800;
    measured(&w, &gate);
    CHECK(draft_gate_pays(&gate));
    w.draft_us = 2015; // 0.7 % slower
    measured(&w, &gate);
    CHECK(draft_gate_pays(&gate));
    w.draft_us = 2100;
    measured(&w, &gate);
    CHECK(!draft_gate_pays(&gate));
}

// A drive that becomes steadily slower must not make the later windows look bad: 30 % over a
// measurement, where drafting gains 8 %.
static void test_drift(void)
{
    struct draft_gate gate;
    draft_gate_init(&gate);
    struct world w = {100000, 185000, 100, 7, false};
    for (uint32_t n = 0; n < MEASURE_STEPS; n++) {
        bool done = world_step(&w, &gate);
        CHECK(done == (n + 1 == MEASURE_STEPS));
        w.plain_us = 100000 + 30000 * n / MEASURE_STEPS;
        w.draft_us = 185000 + 55500 * n / MEASURE_STEPS;
    }
    CHECK(draft_gate_pays(&gate));
}

static void test_breaks(void)
{
    struct draft_gate gate;
    draft_gate_init(&gate);
    // A sequence that can have no drafts is never measured, whatever it takes.
    for (uint32_t n = 0; n < 10 * MEASURE_STEPS; n++)
        CHECK(!draft_gate_step(&gate, 1, 1, false));
    CHECK(gate.window == 0 && gate.us[0] == 0);
    // The step after it is the first of its kind, and so is one after a break.
    CHECK(!draft_gate_step(&gate, 1, 1000000, true) && gate.us[0] == 0);
    CHECK(!draft_gate_step(&gate, 1, 1000, true) && gate.us[0] == 1000);
    draft_gate_break(&gate);
    CHECK(!draft_gate_step(&gate, 1, 1000000, true) && gate.us[0] == 1000);
    CHECK(!draft_gate_step(&gate, 1, 1000, true) && gate.us[0] == 2000 && gate.tokens[0] == 2);
    // Steps that take no time at all end in a decision, too.
    for (uint32_t n = 0; gate.state == DRAFT_GATE_MEASURE; n++) {
        CHECK(n < MEASURE_STEPS);
        draft_gate_step(&gate, 1, 0, true);
    }
    CHECK(!draft_gate_pays(&gate) && draft_gate_rate(&gate, true) == 0.0);
}

int main(void)
{
    test_decides();
    test_changes();
    test_margin();
    test_drift();
    test_breaks();
    return 0;
}
