// SPDX-License-Identifier: MIT
// talk: one question and its answer, with the keyboard watched meanwhile: Ctrl-C stops the answer,
// Ctrl-T folds the reasoning, other keys are kept for the next line.
#pragma once
#include "client/client.h"
#include "client/conversation.h"
#include "client/reply.h"
#include "client/view.h"

struct talk {
    const struct client *client;
    const char *model;
    struct conversation conversation;
    struct view view;
    struct text typed; // keys pressed during the last answer
    bool stopped;      // the last answer was stopped by the user
    bool ending;       // the program was asked to end
};

// talk_answer asks for the next answer of the conversation and shows it.
//
// answer: zeroed; filled as far as the answer came, on failure too.
// Returns 0 (a stopped answer as well), or -errno with a sentence.
int talk_answer(struct talk *talk, struct reply *answer, struct fault *fault);

// talk_print_json prints the answer as one JSON object on one line.
void talk_print_json(const struct talk *talk, const struct reply *answer);
