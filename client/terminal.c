// SPDX-License-Identifier: MIT
#include "client/terminal.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const char *const terminal_styles[] = {
    [STYLE_DIM] = "\x1b[2m",   [STYLE_BOLD] = "\x1b[1m",   [STYLE_ERROR] = "\x1b[31m",
    [STYLE_RESET] = "\x1b[0m", [STYLE_ERASE] = "\r\x1b[K",
};
static_assert(sizeof(terminal_styles) / sizeof(terminal_styles[0]) == STYLE_COUNT, "all styles");

void terminal_init(struct terminal *terminal, bool no_color)
{
    const char *env_no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    bool plain = !term || strcmp(term, "dumb") == 0;
    bool color = !no_color && !plain && !(env_no_color && env_no_color[0]);

    *terminal = (struct terminal){
        .in_tty = isatty(STDIN_FILENO) != 0,
        .out_tty = isatty(STDOUT_FILENO) != 0,
        .err_tty = isatty(STDERR_FILENO) != 0,
    };
    terminal->out_color = terminal->out_tty && color;
    terminal->err_color = terminal->err_tty && color;
    terminal->out_control = terminal->out_tty && !plain;
}

const char *terminal_style(const struct terminal *terminal, enum terminal_style style)
{
    bool can = style == STYLE_ERASE ? terminal->out_control : terminal->out_color;
    return can ? terminal_styles[style] : "";
}

const char *terminal_style_err(const struct terminal *terminal, enum terminal_style style)
{
    return terminal->err_color ? terminal_styles[style] : "";
}

// utf8_length returns the bytes of the character that starts here and its code point, 0 if none
// does.
static size_t utf8_length(const unsigned char *s, size_t len, uint32_t *ret_point)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (n == 0 || n > len || s[0] > 0xf4)
        return 0;

    uint32_t point = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        point = point << 6 | (s[i] & 0x3fu);
    }
    if (point < smallest[n] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
        return 0;
    *ret_point = point;
    return n;
}

static bool point_is_harmless(uint32_t point)
{
    if (point == '\n' || point == '\t')
        return true;
    if (point < 0x20 || (point >= 0x7f && point < 0xa0))
        return false;
    return !(point >= 0x202a && point <= 0x202e) && !(point >= 0x2066 && point <= 0x2069);
}

size_t terminal_clean(const char *in, size_t len, char *out)
{
    const unsigned char *s = (const unsigned char *)in;
    size_t written = 0;

    for (size_t at = 0; at < len;) {
        uint32_t point = 0;
        size_t n = utf8_length(s + at, len - at, &point);
        if (n == 0) {
            out[written++] = '?';
            at++;
            continue;
        }
        if (point_is_harmless(point)) {
            memmove(out + written, in + at, n);
            written += n;
        }
        at += n;
    }
    return written;
}

struct terminal_keys {
    struct termios before;
};

int terminal_keys_on(struct terminal_keys **ret)
{
    struct terminal_keys *keys = malloc(sizeof(*keys));
    if (!keys)
        return -ENOMEM;

    int err = tcgetattr(STDIN_FILENO, &keys->before) == 0 ? 0 : -errno;
    if (!err) {
        struct termios mode = keys->before;
        mode.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        mode.c_cc[VMIN] = 1;
        mode.c_cc[VTIME] = 0;
        err = tcsetattr(STDIN_FILENO, TCSANOW, &mode) == 0 ? 0 : -errno;
    }
    if (err) {
        free(keys);
        return err;
    }
    *ret = keys;
    return 0;
}

void terminal_keys_off(struct terminal_keys **pkeys)
{
    struct terminal_keys *keys = *pkeys;
    *pkeys = NULL;
    if (!keys)
        return;
    tcsetattr(STDIN_FILENO, TCSANOW, &keys->before);
    free(keys);
}
