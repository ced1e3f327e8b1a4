// SPDX-License-Identifier: MIT
// draft_gate: whether drafting pays.  A draft makes a step one row longer, and with experts on
// drives that row asks for experts of its own: the gain is (1 + acceptance) / (2 - overlap), more
// or less than 1 from one model, drive and text to the next.  So it is measured: windows of steps
// with and without drafting take turns, the better stays for a while, then it is measured again.
//
// Pure: no clock, no model; it is told what steps took.  Owner: one thread (step).  Read next:
// daemon/step_thread.c.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// One window: long enough that the experts of single tokens average out, short enough that a drive
// whose speed changes from minute to minute is the same for neighbours.
#define DRAFT_GATE_WINDOW_STEPS 8u
#define DRAFT_GATE_ROUNDS       3u // pairs of windows, one without and one with drafting
// Steps until the next measurement.  It costs half of its 2 * 3 * (8 + 1) steps at the worse of two
// settings that differ by some percent: below 1 % of the time.
#define DRAFT_GATE_HOLD_STEPS 500u
// Drafting must be this much faster, in percent, to be switched on, and as much slower to be
// switched off: what two measurements of the same thing differ by.
#define DRAFT_GATE_MARGIN 2u

enum draft_gate_state {
    DRAFT_GATE_MEASURE, // windows take turns
    DRAFT_GATE_ON,      // drafting was faster
    DRAFT_GATE_OFF,     // it was not
    DRAFT_GATE_STATE_COUNT
};

struct draft_gate { // read through the functions below
    enum draft_gate_state state;
    bool pays;       // what the last measurement found
    bool fresh;      // the next step does not count: it is the first after a change
    uint32_t window; // of the measurement, 0..2 * DRAFT_GATE_ROUNDS - 1; odd: with drafting
    uint32_t steps;  // counted in this window, or since the decision
    uint64_t tokens[2] /* without, with drafting */, us[2]; // of this measurement
    double rate[2]; // tokens/s without and with drafting, as of the last one
};

// draft_gate_init begins a measurement.
void draft_gate_init(struct draft_gate *gate);

// draft_gate_pays says what the last measurement found; false before the first.
bool draft_gate_pays(const struct draft_gate *gate);

// draft_gate_drafts says whether the next steps should have drafts.
bool draft_gate_drafts(const struct draft_gate *gate);

// draft_gate_feeds says whether the draft model must see the tokens of this step: while it drafts,
// and while it may be asked to soon.  Without that a sequence can have no drafts later.
bool draft_gate_feeds(const struct draft_gate *gate);

// draft_gate_step tells of a step that decoded: tokens that it gained and what it took, in
// microseconds, without what only fed the draft model.
//
// whole: every sequence in it could have had a draft.
// Returns whether a measurement ended with it; rates and draft_gate_drafts then are as found.
bool draft_gate_step(struct draft_gate *gate, uint32_t tokens, uint64_t us, bool whole);

// draft_gate_break: something else came between (a prompt, another number of sequences).
void draft_gate_break(struct draft_gate *gate);

// draft_gate_rate returns tokens/s as of the last measurement.
double draft_gate_rate(const struct draft_gate *gate, bool drafting);
