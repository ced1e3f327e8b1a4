// SPDX-License-Identifier: MIT
#include "client/view.h"

#include "base/clock.h"

#include <inttypes.h>
#include <string.h>

#define VIEW_STEP 1024u // bytes cleaned at a time; pieces are a few bytes long

void view_init(struct view *view, const struct terminal *terminal, const char *mode, bool quiet)
{
    enum view_reasoning reasoning = terminal->out_tty ? REASONING_SHOW : REASONING_HIDE;
    if (mode && strcmp(mode, "show") == 0)
        reasoning = REASONING_SHOW;
    else if (mode && strcmp(mode, "fold") == 0)
        reasoning = REASONING_FOLD;
    else if (mode || quiet)
        reasoning = REASONING_HIDE;
    *view = (struct view){.terminal = terminal, .reasoning = reasoning, .quiet = quiet};
}

void view_begin(struct view *view, const struct reply *answer)
{
    view->answer = answer;
    view->in_reasoning = false;
    view->shown = false;
    view->counting = false;
    view->line_start = true;
    view->newlines = 0;
}

// view_write writes text that is safe where it goes.
static void view_write(struct view *view, const char *bytes, size_t len)
{
    char clean[VIEW_STEP];

    if (!view->terminal->out_tty) {
        fwrite(bytes, 1, len, stdout);
        return;
    }
    while (len > 0) {
        size_t step = len < VIEW_STEP ? len : VIEW_STEP;
        while (step < len && step > VIEW_STEP - 4 && ((unsigned char)bytes[step] & 0xc0) == 0x80)
            step--; // not through the middle of a character
        fwrite(clean, 1, terminal_clean(bytes, step, clean), stdout);
        bytes += step;
        len -= step;
    }
}

// view_reasoning_line writes a part of a reasoning line.  Without colours a bar in front of each
// line says what it is.
static void view_reasoning_line(struct view *view, const char *bytes, size_t len)
{
    if (view->line_start && !view->terminal->out_color)
        fputs("| ", stdout);
    view->line_start = false;
    view_write(view, bytes, len);
}

// view_reasoning_text shows reasoning without the newlines around it.
static void view_reasoning_text(struct view *view, const char *bytes, size_t len)
{
    fputs(terminal_style(view->terminal, STYLE_DIM), stdout);
    while (len > 0) {
        size_t line = 0;
        while (line < len && bytes[line] != '\n')
            line++;
        if (line > 0) {
            for (; view->shown && view->newlines; view->newlines--) {
                if (view->line_start && !view->terminal->out_color)
                    fputs("|", stdout);
                putchar('\n');
                view->line_start = true;
            }
            view->newlines = 0;
            view->shown = true;
            view_reasoning_line(view, bytes, line);
        }
        if (line < len) {
            view->newlines++;
            line++;
        }
        bytes += line;
        len -= line;
    }
    fputs(terminal_style(view->terminal, STYLE_RESET), stdout);
}

static void view_count(struct view *view)
{
    if (!view->terminal->out_control)
        return;
    printf("%s%sthinking: %u tokens (Ctrl-T shows it)%s",
           terminal_style(view->terminal, STYLE_ERASE), terminal_style(view->terminal, STYLE_DIM),
           view->answer->pieces[REPLY_REASONING], terminal_style(view->terminal, STYLE_RESET));
    view->counting = true;
}

// view_reasoning_end closes whatever of the reasoning is on the screen, so that what follows
// begins a line.
static void view_reasoning_end(struct view *view, bool paragraph)
{
    if (view->reasoning == REASONING_FOLD) {
        const struct reply *answer = view->answer;
        printf("%s%sthought for %u tokens, %.1f s%s\n",
               view->counting ? terminal_style(view->terminal, STYLE_ERASE) : "",
               terminal_style(view->terminal, STYLE_DIM), answer->pieces[REPLY_REASONING],
               (double)(clock_us() - answer->first_us) / 1e6,
               terminal_style(view->terminal, STYLE_RESET));
    } else if (view->shown) {
        putchar('\n');
    }
    if (paragraph && view->reasoning != REASONING_HIDE &&
        (view->shown || view->counting || view->reasoning == REASONING_FOLD))
        putchar('\n');
    view->in_reasoning = false;
    view->counting = false;
    view->shown = false;
    view->line_start = true;
}

void view_piece(void *user, enum reply_part part, const char *bytes, size_t len)
{
    struct view *view = user;

    if (part == REPLY_REASONING) {
        view->in_reasoning = true;
        if (view->reasoning == REASONING_SHOW)
            view_reasoning_text(view, bytes, len);
        else if (view->reasoning == REASONING_FOLD)
            view_count(view);
    } else {
        if (view->in_reasoning)
            view_reasoning_end(view, true);
        view_write(view, bytes, len);
        view->line_start = bytes[len - 1] == '\n';
    }
    fflush(stdout);
}

void view_toggle(struct view *view)
{
    bool fold = view->reasoning == REASONING_SHOW;

    if (view->in_reasoning && !fold) {
        const struct text *text = &view->answer->part[REPLY_REASONING];
        if (view->counting)
            fputs(terminal_style(view->terminal, STYLE_ERASE), stdout);
        view->counting = false;
        view->newlines = 0;
        view_reasoning_text(view, text->bytes, text->n);
    }
    view->reasoning = fold ? REASONING_FOLD : REASONING_SHOW;
    if (view->in_reasoning && fold) {
        putchar('\n');
        view->shown = false;
        view->line_start = true;
        view_count(view);
    }
    fflush(stdout);
}

static void view_figures(const struct view *view, bool stopped)
{
    const struct reply *answer = view->answer;
    const char *why = strcmp(answer->finish_reason, "length") == 0 ? ", cut at the limit" : "";
    double rate = reply_rate(answer);

    fprintf(stderr, "%s[%" PRIu64 " tokens", terminal_style_err(view->terminal, STYLE_DIM),
            reply_tokens(answer));
    if (rate > 0)
        fprintf(stderr, ", %.1f tokens/s", rate);
    if (answer->first_us)
        fprintf(stderr, ", first after %.2f s", (double)(answer->first_us - answer->sent_us) / 1e6);
    fprintf(stderr, "%s]%s\n", stopped ? ", stopped" : why,
            terminal_style_err(view->terminal, STYLE_RESET));
}

void view_end(struct view *view, bool stopped)
{
    if (view->in_reasoning)
        view_reasoning_end(view, false);
    if (!view->line_start)
        putchar('\n');
    fflush(stdout);
    if (!view->quiet)
        view_figures(view, stopped);
}
