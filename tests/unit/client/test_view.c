// SPDX-License-Identifier: MIT
// What an answer looks like: byte for byte, on a terminal with and without colours, and in a pipe.
#include "client/view.h"
#include "tests/check.h"

#include <string.h>
#include <unistd.h>

static struct reply reply;

// show plays a fixed answer through a view and returns what came on standard output.
//
// toggle_at: piece before which the user presses Ctrl-T, -1: none.
static const char *show(struct terminal terminal, const char *mode, int toggle_at)
{
    static const struct {
        enum reply_part part;
        const char *bytes;
    } pieces[] = {
        {REPLY_REASONING, "\nOne\n"}, {REPLY_REASONING, "\n2\x1b[1m"}, {REPLY_REASONING, "\n"},
        {REPLY_CONTENT, "An"},        {REPLY_CONTENT, "swer"},
    };
    static char out[2048];
    struct view view;
    int before = dup(STDOUT_FILENO);
    FILE *file = tmpfile();
    CHECK(file && before >= 0);
    fflush(stdout);
    CHECK(dup2(fileno(file), STDOUT_FILENO) >= 0);

    reply = (struct reply){.first_us = UINT64_MAX / 2, .sent_us = UINT64_MAX / 2};
    view_init(&view, &terminal, mode, true);
    view_begin(&view, &reply);
    for (int i = 0; i < (int)ARRAY_LEN(pieces); i++) {
        if (i == toggle_at)
            view_toggle(&view);
        size_t len = strlen(pieces[i].bytes);
        CHECK(text_append(&reply.part[pieces[i].part], pieces[i].bytes, len, 1000) == 0);
        reply.pieces[pieces[i].part]++;
        view_piece(&view, pieces[i].part, pieces[i].bytes, len);
    }
    view_end(&view, false);
    reply_free(&reply);

    fflush(stdout);
    CHECK(dup2(before, STDOUT_FILENO) >= 0);
    close(before);
    rewind(file);
    size_t n = fread(out, 1, sizeof(out) - 1, file);
    out[n] = '\0';
    fclose(file);
    return out;
}

static void check_shown(const char *got, const char *want)
{
    if (strcmp(got, want) != 0)
        fprintf(stderr, "got:\n%s\nwant:\n%s\n", got, want);
    CHECK(strcmp(got, want) == 0);
}

int main(void)
{
    const struct terminal pipe_end = {0};
    const struct terminal plain = {.out_tty = true};
    const struct terminal color = {.out_tty = true, .out_color = true, .out_control = true};

    // A pipe gets the answer alone unless asked; bytes as they are.
    check_shown(show(pipe_end, NULL, -1), "Answer\n");
    check_shown(show(pipe_end, "show", -1), "| One\n|\n| 2\x1b[1m\n\nAnswer\n");
    check_shown(show(pipe_end, "hide", -1), "Answer\n");

    // A terminal: no control characters of the model's; dimmed where it has colours.
    check_shown(show(plain, "show", -1), "| One\n|\n| 2[1m\n\nAnswer\n");
    check_shown(show(plain, "hide", -1), "Answer\n");
    check_shown(show(color, "show", -1),
                "\x1b[2mOne\x1b[0m\x1b[2m\n\n2[1m\x1b[0m\x1b[2m\x1b[0m\n\nAnswer\n");

    // Folded half way, and unfolded half way: what was hidden comes.
    const char *folded = show(color, "show", 1);
    CHECK(strstr(folded, "One") && !strstr(folded, "2[1m"));
    CHECK(strstr(folded, "thinking: 3 tokens") && strstr(folded, "thought for 3 tokens"));
    const char *unfolded = show(color, "fold", 2);
    CHECK(strstr(unfolded, "One\n\n2[1m") && !strstr(unfolded, "thought for"));
    CHECK(strstr(unfolded, "Answer\n"));
    return 0;
}
