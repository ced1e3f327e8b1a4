// SPDX-License-Identifier: MIT
#include "sched/draft_gate.h"

#include <string.h>

static void measure_begin(struct draft_gate *gate)
{
    gate->state = DRAFT_GATE_MEASURE;
    gate->window = gate->steps = 0;
    gate->fresh = true;
    memset(gate->tokens, 0, sizeof(gate->tokens));
    memset(gate->us, 0, sizeof(gate->us));
}

void draft_gate_init(struct draft_gate *gate)
{
    *gate = (struct draft_gate){0};
    measure_begin(gate);
}

bool draft_gate_pays(const struct draft_gate *gate)
{
    return gate->pays;
}

bool draft_gate_drafts(const struct draft_gate *gate)
{
    return gate->state == DRAFT_GATE_MEASURE ? gate->window % 2 == 1 : gate->state == DRAFT_GATE_ON;
}

bool draft_gate_feeds(const struct draft_gate *gate)
{
    return gate->state != DRAFT_GATE_OFF;
}

double draft_gate_rate(const struct draft_gate *gate, bool drafting)
{
    return gate->rate[drafting];
}

void draft_gate_break(struct draft_gate *gate)
{
    gate->fresh = true;
}

static void decide(struct draft_gate *gate)
{
    for (uint32_t i = 0; i < 2; i++)
        gate->rate[i] = gate->us[i] > 0 ? (double)gate->tokens[i] * 1e6 / (double)gate->us[i] : 0.0;
    double margin = (100.0 + DRAFT_GATE_MARGIN) / 100.0;
    gate->pays = gate->pays ? gate->rate[1] * margin >= gate->rate[0]
                            : gate->rate[1] > gate->rate[0] * margin;
    gate->state = gate->pays ? DRAFT_GATE_ON : DRAFT_GATE_OFF;
    gate->steps = 0;
    gate->fresh = true;
}

bool draft_gate_step(struct draft_gate *gate, uint32_t tokens, uint64_t us, bool whole)
{
    if (gate->state != DRAFT_GATE_MEASURE) {
        if (++gate->steps >= DRAFT_GATE_HOLD_STEPS)
            measure_begin(gate);
        return false;
    }
    // The first step of a window still has the drafts, or lacks them, of the one before.
    bool counts = whole && !gate->fresh;
    gate->fresh = !whole;
    if (!counts)
        return false;
    bool drafting = draft_gate_drafts(gate);
    gate->tokens[drafting] += tokens;
    gate->us[drafting] += us;
    if (++gate->steps < DRAFT_GATE_WINDOW_STEPS)
        return false;
    gate->steps = 0;
    gate->fresh = true;
    if (++gate->window < 2 * DRAFT_GATE_ROUNDS)
        return false;
    decide(gate);
    return true;
}
