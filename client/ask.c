// SPDX-License-Identifier: MIT
// ask: one question, one answer.
#include "client/client.h"
#include "client/talk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUESTION_MAX (8u << 20) // the daemon's own limit of a body

static int ask_stdin(struct text *text, struct fault *fault)
{
    int err = text_read_fd(text, STDIN_FILENO, QUESTION_MAX);
    if (err == -EFBIG)
        return fault_set(fault, EFBIG, "standard input has more than %u MiB", QUESTION_MAX >> 20);
    if (err)
        return fault_set(fault, -err, "standard input: %s", strerror(-err));
    while (text->n > 0 && text->bytes[text->n - 1] == '\n')
        text->bytes[--text->n] = '\0'; // the last newline belongs to the pipe, not to the question
    return 0;
}

// ask_text joins the arguments with spaces; "-" stands for the standard input.
static int ask_text(const struct client *client, struct text *text, struct fault *fault)
{
    const struct options *options = &client->options;

    if (options->args_n == 0) {
        if (client->terminal.in_tty)
            return fault_set(fault, EINVAL,
                             "what is the question? expertctl ask TEXT, or "
                             "expertctl ask < FILE");
        return ask_stdin(text, fault);
    }
    for (int i = 0; i < options->args_n; i++) {
        const char *arg = options->args[i];
        int err = i > 0 ? text_append(text, " ", 1, QUESTION_MAX) : 0;
        if (!err && strcmp(arg, "-") == 0)
            err = ask_stdin(text, fault);
        else if (!err)
            err = text_append(text, arg, strlen(arg), QUESTION_MAX);
        if (err)
            return fault->err ? err : fault_set(fault, -err, "the question: %s", strerror(-err));
    }
    return 0;
}

int ask_run(struct client *client)
{
    struct talk talk = {.client = client};
    struct reply answer = {0};
    struct text question = {0};
    struct fault fault = {0};
    char *model = NULL;
    int status = EXIT_DONE;

    int err = ask_text(client, &question, &fault);
    if (!err && question.n == 0)
        err = fault_set(&fault, EINVAL, "the question is empty");
    if (err) {
        client_complain(client, &fault);
        text_free(&question);
        return EXIT_USAGE;
    }

    client_interrupts(client);
    view_init(&talk.view, &client->terminal, client->options.reasoning, client->options.quiet);
    err = client_model(client, &model, &fault);
    talk.model = model;
    if (!err)
        err = conversation_init(&talk.conversation, client->options.system, &fault);
    if (!err)
        err = conversation_push(&talk.conversation, "user", &question, &fault);
    if (!err)
        err = talk_answer(&talk, &answer, &fault);
    if (!err && client->options.json)
        talk_print_json(&talk, &answer);
    if (err)
        status = client_complain(client, &fault);
    else if (talk.stopped)
        status = EXIT_FAILED;

    conversation_fini(&talk.conversation);
    reply_free(&answer);
    text_free(&question);
    free(model);
    return status;
}
