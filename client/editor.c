// SPDX-License-Identifier: MIT
#include "client/editor.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#define HISTORY_LINES 1000
#define LINE_MAX_     (8u << 20) // the daemon's own limit of a body
#define PROMPT_MARK   '\1'       // libedit: what stands between two of these takes no room
#define PROMPT_MAX    64u

struct editor {
    const struct terminal *terminal;
    int interrupt_fd;
    void (*fold)(void *user);
    void *fold_user;

    EditLine *el; // NULL where the input is no terminal
    History *history;
    char history_path[PATH_MAX]; // "" for none
    char prompt[PROMPT_MAX];
    bool interrupted;

    char ahead[4096]; // bytes of a pipe behind the last line
    size_t ahead_n, ahead_at;
};

/* ------------------------------------------------------------- waiting */

// editor_wait waits for the keyboard.  Returns 1, or -EINTR.
static int editor_wait(const struct editor *editor)
{
    struct pollfd fds[2] = {{.fd = editor->interrupt_fd, .events = POLLIN},
                            {.fd = STDIN_FILENO, .events = POLLIN}};
    while (poll(fds, 2, -1) < 0)
        if (errno != EINTR)
            return -errno;
    return fds[0].revents ? -EINTR : 1;
}

// editor_key gives libedit one character.  Returns 1, 0 at the end of the input, -1 on Ctrl-C.
static int editor_key(EditLine *el, wchar_t *ret)
{
    struct editor *editor = NULL;
    mbstate_t state = {0};
    el_get(el, EL_CLIENTDATA, &editor);

    for (;;) {
        char byte = 0;
        if (editor_wait(editor) < 0) {
            editor->interrupted = true;
            return -1;
        }
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return (int)n;
        size_t used = mbrtowc(ret, &byte, 1, &state);
        if (used == (size_t)-1)
            state = (mbstate_t){0}; // not a character of the locale: dropped
        else if (used != (size_t)-2)
            return 1;
    }
}

static unsigned char editor_key_fold(EditLine *el, int key)
{
    (void)key;
    struct editor *editor = NULL;
    el_get(el, EL_CLIENTDATA, &editor);
    editor->fold(editor->fold_user);
    return CC_REDISPLAY;
}

static char *editor_prompt(EditLine *el)
{
    struct editor *editor = NULL;
    el_get(el, EL_CLIENTDATA, &editor);
    return editor->prompt;
}

/* ------------------------------------------------------------- history */

// make_folders makes every folder above the file, readable by the user alone.
static int make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int err = mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : -errno;
        *slash = '/';
        if (err)
            return err;
    }
    return 0;
}

static void editor_history_path(struct editor *editor)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int n = -1;

    if (state && state[0] == '/')
        n = snprintf(editor->history_path, PATH_MAX, "%s/expertd/history", state);
    else if (home && home[0] == '/')
        n = snprintf(editor->history_path, PATH_MAX, "%s/.local/state/expertd/history", home);
    if (n < 0 || n >= PATH_MAX || make_folders(editor->history_path) != 0)
        editor->history_path[0] = '\0';
}

static void editor_history_open(struct editor *editor)
{
    HistEvent event;

    editor->history = history_init();
    if (!editor->history)
        return;
    history(editor->history, &event, H_SETSIZE, HISTORY_LINES);
    history(editor->history, &event, H_SETUNIQUE, 1);
    editor_history_path(editor);
    if (editor->history_path[0])
        history(editor->history, &event, H_LOAD, editor->history_path);
    el_set(editor->el, EL_HIST, history, editor->history);
}

static void editor_history_close(struct editor *editor)
{
    HistEvent event;

    if (!editor->history)
        return;
    if (editor->history_path[0]) {
        mode_t before = umask(077);
        history(editor->history, &event, H_SAVE, editor->history_path);
        umask(before);
    }
    history_end(editor->history);
}

/* -------------------------------------------------------------- public */

// editor_locale makes sure that what is typed is read as UTF-8, also where no locale is set.
static void editor_locale(void)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

static int editor_open_terminal(struct editor *editor)
{
    editor_locale();
    editor->el = el_init("expertctl", stdin, stdout, stderr);
    if (!editor->el)
        return -ENOMEM;
    el_set(editor->el, EL_CLIENTDATA, editor);
    el_set(editor->el, EL_EDITOR, "emacs");
    el_set(editor->el, EL_PROMPT_ESC, editor_prompt, PROMPT_MARK);
    el_set(editor->el, EL_GETCFN, editor_key);
    el_set(editor->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    // The wide call keeps the texts; the narrow one would copy and lose them.
    el_wset(editor->el, EL_ADDFN, L"fold-reasoning", L"Fold or unfold the reasoning",
            editor_key_fold);
    el_set(editor->el, EL_BIND, "^T", "fold-reasoning", NULL);
    editor_history_open(editor);
    el_source(editor->el, NULL); // the user's ~/.editrc, where there is one
    return 0;
}

int editor_open(const struct editor_params *params, struct editor **ret)
{
    struct editor *editor = calloc(1, sizeof(*editor));
    if (!editor)
        return -ENOMEM;
    editor->terminal = params->terminal;
    editor->interrupt_fd = params->interrupt_fd;
    editor->fold = params->fold;
    editor->fold_user = params->fold_user;

    int err = 0;
    if (params->terminal->in_tty && params->terminal->out_tty)
        err = editor_open_terminal(editor);
    if (err) {
        editor_close(&editor);
        return err;
    }
    *ret = editor;
    return 0;
}

void editor_close(struct editor **peditor)
{
    struct editor *editor = *peditor;
    *peditor = NULL;
    if (!editor)
        return;

    editor_history_close(editor);
    if (editor->el)
        el_end(editor->el);
    free(editor);
}

// editor_line_pipe reads a line that no one types.
static int editor_line_pipe(struct editor *editor, struct text *ret)
{
    for (;;) {
        const char *from = editor->ahead + editor->ahead_at;
        size_t have = editor->ahead_n - editor->ahead_at;
        const char *newline = memchr(from, '\n', have);
        size_t take = newline ? (size_t)(newline - from) : have;

        int err = text_append(ret, from, take, LINE_MAX_);
        if (err)
            return err;
        editor->ahead_at += take + (newline != NULL);
        if (newline)
            return 1;

        err = editor_wait(editor);
        if (err < 0)
            return err;
        ssize_t n = read(STDIN_FILENO, editor->ahead, sizeof(editor->ahead));
        if (n < 0)
            return -errno;
        if (n == 0)
            return ret->n > 0;
        editor->ahead_n = (size_t)n;
        editor->ahead_at = 0;
    }
}

static int editor_line_terminal(struct editor *editor, const char *prompt, const struct text *typed,
                                struct text *ret)
{
    HistEvent event;
    int len = 0;

    snprintf(editor->prompt, sizeof(editor->prompt), "%c%s%c%s%c%s%c", PROMPT_MARK,
             terminal_style(editor->terminal, STYLE_BOLD), PROMPT_MARK, prompt, PROMPT_MARK,
             terminal_style(editor->terminal, STYLE_RESET), PROMPT_MARK);
    if (typed->n)
        el_push(editor->el, typed->bytes);
    editor->interrupted = false;
    el_resize(editor->el);
    const char *line = el_gets(editor->el, &len);
    if (editor->interrupted) {
        el_reset(editor->el);
        return -EINTR;
    }
    if (!line || len <= 0)
        return 0;

    size_t n = strcspn(line, "\r\n");
    int err = text_append(ret, line, n, LINE_MAX_);
    if (err)
        return err;
    if (n > 0 && editor->history)
        history(editor->history, &event, H_ENTER, ret->bytes);
    return 1;
}

int editor_line(struct editor *editor, const char *prompt, const struct text *typed,
                struct text *ret)
{
    text_clear(ret);
    if (!editor->el)
        return editor_line_pipe(editor, ret);
    return editor_line_terminal(editor, prompt, typed, ret);
}
