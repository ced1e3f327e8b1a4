// SPDX-License-Identifier: MIT
// chat: a conversation on the terminal.  Lines that begin with '/' are commands; the table below
// is all of them.
#include "client/client.h"
#include "client/editor.h"
#include "client/interrupt.h"
#include "client/talk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_MAX (8u << 20) // the daemon's own limit of a body
#define LONG_MARK   "\"\"\""   // opens and closes a message of several lines

struct chat {
    struct client *client;
    struct talk talk;
    struct editor *editor;
    const char *system; // the system message of new conversations, or NULL
    char *system_owned;
    bool leave;
    int status; // exit status so far
};

static const struct text no_keys = {0};

/* ------------------------------------------------------------ commands */

static void chat_say(const struct chat *chat, const char *what)
{
    if (chat->client->options.quiet)
        return;
    const struct terminal *terminal = &chat->client->terminal;
    fprintf(stderr, "%s%s%s\n", terminal_style_err(terminal, STYLE_DIM), what,
            terminal_style_err(terminal, STYLE_RESET));
}

static void chat_new(struct chat *chat, const char *arg)
{
    (void)arg;
    struct fault fault = {0};
    struct conversation fresh = {0};

    if (conversation_init(&fresh, chat->system, &fault) != 0) {
        client_complain(chat->client, &fault);
        return;
    }
    conversation_fini(&chat->talk.conversation);
    chat->talk.conversation = fresh;
    chat_say(chat, "a new conversation");
}

static void chat_system(struct chat *chat, const char *arg)
{
    char *copy = arg[0] ? strdup(arg) : NULL;
    free(chat->system_owned);
    chat->system_owned = copy;
    chat->system = copy;
    chat_new(chat, "");
}

static void chat_reasoning(struct chat *chat, const char *arg)
{
    (void)arg;
    view_toggle(&chat->talk.view);
    chat_say(chat, chat->talk.view.reasoning == REASONING_SHOW ? "reasoning: shown"
                                                               : "reasoning: folded");
}

static void chat_exit(struct chat *chat, const char *arg)
{
    (void)arg;
    chat->leave = true;
}

static void chat_help(struct chat *chat, const char *arg);

static const struct chat_command {
    const char *name, *arg, *help;
    void (*run)(struct chat *chat, const char *arg);
} chat_commands[] = {
    {"/help", "", "this list", chat_help},
    {"/new", "", "forget the conversation and begin another", chat_new},
    {"/system", "[TEXT]", "begin another with this system message, or without one", chat_system},
    {"/reasoning", "", "fold the reasoning to one line, or show it", chat_reasoning},
    {"/exit", "", "leave (also Ctrl-D)", chat_exit},
};

static void chat_help(struct chat *chat, const char *arg)
{
    (void)arg;
    (void)chat;
    for (size_t i = 0; i < sizeof(chat_commands) / sizeof(chat_commands[0]); i++)
        fprintf(stderr, "  %-10s %-7s %s\n", chat_commands[i].name, chat_commands[i].arg,
                chat_commands[i].help);
    fprintf(stderr, "  %-18s %s\n", "Ctrl-C", "stop the answer, or empty the line");
    fprintf(stderr, "  %-18s %s\n", "Ctrl-T", "/reasoning, while an answer comes as well");
    fprintf(stderr, "  %-18s %s\n", LONG_MARK, "begins and ends a message of several lines");
}

static void chat_command(struct chat *chat, const char *line)
{
    size_t name_len = strcspn(line, " \t");
    const char *arg = line + name_len + strspn(line + name_len, " \t");

    for (size_t i = 0; i < sizeof(chat_commands) / sizeof(chat_commands[0]); i++) {
        if (strlen(chat_commands[i].name) == name_len &&
            memcmp(chat_commands[i].name, line, name_len) == 0) {
            chat_commands[i].run(chat, arg);
            return;
        }
    }
    chat_say(chat, "no such command; /help lists them");
}

/* ------------------------------------------------------------- turns */

// chat_turn sends a message and shows the answer; a message without an answer is forgotten.
static void chat_turn(struct chat *chat, const struct text *message)
{
    struct talk *talk = &chat->talk;
    struct reply answer = {0};
    struct fault fault = {0};

    int err = conversation_push(&talk->conversation, "user", message, &fault);
    if (err) {
        client_complain(chat->client, &fault);
        return;
    }
    err = talk_answer(talk, &answer, &fault);
    if (!err && chat->client->options.json)
        talk_print_json(talk, &answer);

    bool answered = !err && answer.part[REPLY_CONTENT].n > 0;
    if (answered && conversation_push(&talk->conversation, "assistant", &answer.part[REPLY_CONTENT],
                                      &fault) != 0)
        answered = false;
    if (!answered)
        conversation_pop(&talk->conversation);
    if (err)
        chat->status = client_complain(chat->client, &fault);
    chat->leave = talk->ending;
    reply_free(&answer);
}

// chat_long reads the rest of a message of several lines; first stands behind the opening mark.
static int chat_long(struct chat *chat, const char *first, struct text *ret)
{
    struct text line = {0};
    text_clear(ret);
    int got = text_append(ret, first, strlen(first), MESSAGE_MAX);

    while (got >= 0) {
        got = editor_line(chat->editor, ". ", &no_keys, &line);
        if (got <= 0)
            break;
        const char *bytes = line.bytes ? line.bytes : "";
        const char *end = strstr(bytes, LONG_MARK);
        size_t len = end ? (size_t)(end - bytes) : line.n;
        bool joins = ret->n > 0 && !(end && len == 0); // the marks may stand on lines of their own
        int err = joins ? text_append(ret, "\n", 1, MESSAGE_MAX) : 0;
        if (!err)
            err = text_append(ret, bytes, len, MESSAGE_MAX);
        if (err)
            got = err;
        if (end)
            break;
    }
    text_free(&line);
    return got;
}

// chat_line does what one line asks for.
static int chat_line(struct chat *chat, struct text *line)
{
    const char *bytes = line->bytes ? line->bytes : "";
    int got = 1;

    if (strncmp(bytes, LONG_MARK, strlen(LONG_MARK)) == 0) {
        struct text message = {0};
        got = chat_long(chat, bytes + strlen(LONG_MARK), &message);
        if (got > 0 && message.n > 0)
            chat_turn(chat, &message);
        text_free(&message);
    } else if (bytes[0] == '/') {
        chat_command(chat, bytes);
    } else if (bytes[strspn(bytes, " \t")]) {
        chat_turn(chat, line);
    }
    return got;
}

static void chat_fold(void *user)
{
    struct chat *chat = user;
    fputs("\n", stderr);
    chat_reasoning(chat, "");
}

static void chat_loop(struct chat *chat)
{
    struct text line = {0}, typed = {0};

    while (!chat->leave) {
        typed = chat->talk.typed;
        chat->talk.typed = (struct text){0};
        int got = editor_line(chat->editor, "> ", &typed, &line);
        text_free(&typed);
        if (got > 0)
            got = chat_line(chat, &line);
        if (got == -EINTR && interrupt_take(chat->client->interrupt_fd) != INTERRUPT_END) {
            putchar('\n');
            fflush(stdout);
        } else if (got <= 0) {
            if (chat->client->terminal.in_tty && chat->client->terminal.out_tty)
                putchar('\n'); // behind the prompt that got no line
            chat->leave = true;
        }
    }
    text_free(&line);
}

/* ------------------------------------------------------------- start */

// chat_first joins the arguments to the first message and asks it.
static void chat_first(struct chat *chat)
{
    const struct options *options = &chat->client->options;
    struct text message = {0};
    bool bad = false;

    for (int i = 0; i < options->args_n && !bad; i++)
        bad = (i > 0 && text_append(&message, " ", 1, MESSAGE_MAX) != 0) ||
              text_append(&message, options->args[i], strlen(options->args[i]), MESSAGE_MAX) != 0;
    if (!bad && message.n > 0) {
        if (chat->client->terminal.out_tty) {
            char *clean = malloc(message.n);
            size_t n = clean ? terminal_clean(message.bytes, message.n, clean) : 0;
            printf("%s> %s%.*s\n", terminal_style(&chat->client->terminal, STYLE_BOLD),
                   terminal_style(&chat->client->terminal, STYLE_RESET), (int)n, clean);
            free(clean);
        }
        chat_turn(chat, &message);
    }
    text_free(&message);
}

int chat_run(struct client *client)
{
    struct chat chat = {.client = client, .system = client->options.system};
    struct fault fault = {0};
    char *model = NULL;

    client_interrupts(client);
    chat.talk.client = client;
    view_init(&chat.talk.view, &client->terminal, client->options.reasoning, client->options.quiet);
    struct editor_params params = {.terminal = &client->terminal,
                                   .interrupt_fd = client->interrupt_fd,
                                   .fold = chat_fold,
                                   .fold_user = &chat};

    int err = client_model(client, &model, &fault);
    chat.talk.model = model;
    if (!err)
        err = conversation_init(&chat.talk.conversation, chat.system, &fault);
    if (!err && (err = editor_open(&params, &chat.editor)) != 0)
        fault_set(&fault, -err, "the line editor: %s", strerror(-err));
    if (err) {
        chat.status = client_complain(client, &fault);
    } else {
        if (client->terminal.in_tty && client->terminal.out_tty)
            chat_say(&chat, "/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves");
        chat_first(&chat);
        chat_loop(&chat);
    }
    editor_close(&chat.editor);
    conversation_fini(&chat.talk.conversation);
    text_free(&chat.talk.typed);
    free(chat.system_owned);
    free(model);
    return chat.status;
}
