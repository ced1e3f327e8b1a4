// SPDX-License-Identifier: MIT
// question: one line asked on the terminal.
#pragma once
#include "client/client.h"

// question_ask shows "PROMPT [FALLBACK]: " and reads a line; an empty one means the fallback.
//
// ret: [bytes], without blanks at its ends.  client: with interrupts (client_interrupts).
// Returns 0; -ECANCELED after Ctrl-C, a request to end, or the end of the input; -E2BIG the line is
// longer (all of it was read).
int question_ask(const struct client *client, const char *prompt, const char *fallback, char *ret,
                 size_t bytes);
