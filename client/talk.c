// SPDX-License-Identifier: MIT
#include "client/talk.h"

#include "base/clock.h"
#include "client/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The daemon sends a comment every ten seconds while it thinks; a minute without is a dead daemon.
#define SILENCE_MS 60000
#define TYPED_MAX  4096u // a line typed ahead; more is dropped
#define KEY_FOLD   0x14  // Ctrl-T, for "thinking"

// talk_keys takes what was typed.  Returns false at the end of the input.
static bool talk_keys(struct talk *talk)
{
    char keys[64];
    ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR);

    for (ssize_t i = 0; i < n; i++) {
        if (keys[i] == KEY_FOLD)
            view_toggle(&talk->view);
        else
            text_append(&talk->typed, &keys[i], 1, TYPED_MAX);
    }
    return true;
}

// talk_wait reads the answer until it is complete or the user stops it.
static int talk_wait(struct talk *talk, struct reply_call *call, bool keys, struct fault *fault)
{
    struct pollfd fds[] = {
        {.fd = talk->client->interrupt_fd, .events = POLLIN},
        {.fd = reply_fd(call), .events = POLLIN},
        {.fd = keys ? STDIN_FILENO : -1, .events = POLLIN},
    };
    uint64_t heard_us = clock_us();

    for (;;) {
        int ready = poll(fds, 3, 1000);
        if (ready < 0 && errno != EINTR)
            return fault_set(fault, errno, "poll: %s", strerror(errno));
        if (ready > 0 && fds[0].revents) {
            talk->stopped = true;
            talk->ending = interrupt_take(fds[0].fd) == INTERRUPT_END;
            return 0;
        }
        if (ready > 0 && fds[2].revents && !talk_keys(talk))
            fds[2].fd = -1;
        if (ready > 0 && fds[1].revents) {
            heard_us = clock_us();
            int more = reply_read(call, fault);
            if (more <= 0)
                return more;
        }
        if (clock_us() - heard_us > SILENCE_MS * 1000ull)
            return fault_set(fault, EIO, "the daemon has sent nothing for %d s", SILENCE_MS / 1000);
    }
}

int talk_answer(struct talk *talk, struct reply *answer, struct fault *fault)
{
    const struct client *client = talk->client;
    bool shown = !client->options.json;
    struct reply_call *call = NULL;
    struct terminal_keys *keys = NULL;
    char *body = NULL;

    talk->stopped = false;
    int err = conversation_body(&talk->conversation, &client->options, talk->model, &body, fault);
    if (err)
        return err;

    view_begin(&talk->view, answer);
    struct reply_request request = {.target = "/v1/chat/completions",
                                    .key = client->key,
                                    .body = body,
                                    .body_bytes = strlen(body),
                                    .piece = shown ? view_piece : NULL,
                                    .piece_user = &talk->view};
    if (shown && client->terminal.in_tty && client->terminal.out_tty)
        terminal_keys_on(&keys); // without it the answer comes all the same
    err = reply_open(&client->address, &request, client->interrupt_fd, answer, &call, fault);
    if (err == -EINTR) {
        talk->stopped = true;
        talk->ending = interrupt_take(client->interrupt_fd) == INTERRUPT_END;
        err = 0;
    } else if (!err) {
        err = talk_wait(talk, call, keys != NULL, fault);
    }
    reply_close(&call);
    terminal_keys_off(&keys);
    free(body);
    if (shown && (!err || answer->first_us))
        view_end(&talk->view, talk->stopped);
    return err;
}

static json_t *talk_text(const struct text *text)
{
    json_t *json = json_stringn(text->bytes ? text->bytes : "", text->n);
    return json ? json : json_null();
}

void talk_print_json(const struct talk *talk, const struct reply *answer)
{
    double first_s = answer->first_us ? (double)(answer->first_us - answer->sent_us) / 1e6 : 0;
    const char *finish = talk->stopped ? "cancelled" : answer->finish_reason;
    json_t *json = json_pack("{s:s, s:o, s:o, s:s, s:I, s:I, s:f, s:f}", "model", answer->model,
                             "reasoning_content", talk_text(&answer->part[REPLY_REASONING]),
                             "content", talk_text(&answer->part[REPLY_CONTENT]), "finish_reason",
                             finish, "prompt_tokens", (json_int_t)answer->prompt_tokens,
                             "completion_tokens", (json_int_t)reply_tokens(answer), "first_token_s",
                             first_s, "tokens_per_s", reply_rate(answer));
    if (!json)
        return;
    json_dumpf(json, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
    putchar('\n');
    fflush(stdout);
    json_decref(json);
}
