// SPDX-License-Identifier: MIT
// view: how an answer looks while it comes: the reasoning dimmed or folded to one line with a
// counter, then the answer, then a line of figures.  On anything but a terminal the answer's bytes
// are written as they are.
#pragma once
#include "client/reply.h"
#include "client/terminal.h"

#include <stdio.h>

enum view_reasoning { REASONING_SHOW, REASONING_FOLD, REASONING_HIDE };

struct view {
    const struct terminal *terminal;
    const struct reply *answer; // the one that comes; set by view_begin
    enum view_reasoning reasoning;
    bool quiet; // no figures

    bool in_reasoning; // the last text was reasoning
    bool shown;        // reasoning text stands on the screen
    bool counting;     // the counter's line stands on the screen
    bool line_start;   // the next byte begins a line
    unsigned newlines; // of the reasoning, held back until text follows
};

// view_init chooses how to show reasoning: mode is "show", "fold", "hide", or NULL for the default.
void view_init(struct view *view, const struct terminal *terminal, const char *mode, bool quiet);

void view_begin(struct view *view, const struct reply *answer);

// view_piece shows a piece of text; the signature is reply_request's.
void view_piece(void *view, enum reply_part part, const char *bytes, size_t len);

// view_toggle folds or unfolds the reasoning, that of the answer on the screen as far as that can
// still be changed.
void view_toggle(struct view *view);

// view_end ends the answer's last line and prints the figures.
//
// stopped: the user stopped it.
void view_end(struct view *view, bool stopped);
