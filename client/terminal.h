// SPDX-License-Identifier: MIT
// terminal: what the other end of the standard streams can show: colours, a line that is rewritten,
// single key presses; and how text from outside becomes harmless there.
#pragma once
#include <stdbool.h>
#include <stddef.h>

enum terminal_style {
    STYLE_DIM,   // reasoning, figures
    STYLE_BOLD,  // the prompt
    STYLE_ERROR, // what went wrong
    STYLE_RESET, // end of any of these
    STYLE_ERASE, // back to the start of the line, and empty it
    STYLE_COUNT
};

struct terminal {
    bool in_tty, out_tty, err_tty;
    bool out_color, err_color; // styles other than STYLE_ERASE
    bool out_control;          // the cursor of standard output can be moved
};

// terminal_init looks at the three standard streams and the environment (NO_COLOR, TERM).
void terminal_init(struct terminal *terminal, bool no_color);

// terminal_style returns the bytes that switch to a style on standard output, or "" where it has
// none.
const char *terminal_style(const struct terminal *terminal, enum terminal_style style);

// terminal_style_err is terminal_style for the standard error.
const char *terminal_style_err(const struct terminal *terminal, enum terminal_style style);

// terminal_clean copies what a terminal may be sent: everything but control characters (C0 except
// newline and tab, DEL, C1) and marks that reverse the direction of text; bytes that are no UTF-8
// become '?'.
//
// out: [len]; may be in itself.
// Returns the bytes written, at most len.
size_t terminal_clean(const char *in, size_t len, char *out);

struct terminal_keys; // the terminal's mode before terminal_keys_on

// terminal_keys_on makes the keyboard give single key presses without showing them; Ctrl-C stays a
// signal.  Returns 0, or -errno where the input is no terminal.
int terminal_keys_on(struct terminal_keys **ret);

// terminal_keys_off restores the mode; accepts NULL.
void terminal_keys_off(struct terminal_keys **keys);
