// SPDX-License-Identifier: MIT
// editor: lines from the user: with editing and a history file on a terminal (libedit), as they
// are from a pipe.  Waits by poll, so Ctrl-C ends the line and not the program.
#pragma once
#include "client/terminal.h"
#include "client/text.h"

struct editor; // opaque

struct editor_params {
    const struct terminal *terminal;
    int interrupt_fd;
    // fold is called when the user presses Ctrl-T at the prompt.
    void (*fold)(void *user);
    void *fold_user;
};

// editor_open starts the editor and reads the history file
// ($XDG_STATE_HOME or ~/.local/state)/expertd/history; without a home directory there is none.
// -ENOMEM, or -errno of what libedit needs.  params->terminal must outlive it.
int editor_open(const struct editor_params *params, struct editor **ret);

// editor_close writes the history back (mode 0600, the last 1000 lines) and frees all.
void editor_close(struct editor **editor);

// editor_line reads one line, without its newline, into ret (cleared first).
//
// prompt: shown on a terminal only.
// typed: keys that were pressed before, put in as if typed now; may be empty.
// Returns 1: a line, 0: the end of the input, -EINTR: Ctrl-C or a request to end (interrupt_fd is
// left readable in the latter case), -errno.
int editor_line(struct editor *editor, const char *prompt, const struct text *typed,
                struct text *ret);
