// SPDX-License-Identifier: MIT
#include "client/terminal.h"
#include "tests/check.h"

#include <string.h>

static void check_clean(const char *in, size_t len, const char *want)
{
    char *out = malloc(len ? len : 1); // exactly: a byte too many is seen by ASan
    CHECK(out);
    size_t n = terminal_clean(in, len, out);
    if (n != strlen(want) || memcmp(out, want, n) != 0)
        fprintf(stderr, "'%.*s', not '%s'\n", (int)n, out, want);
    CHECK(n == strlen(want) && memcmp(out, want, n) == 0);
    free(out);
}

#define CHECK_CLEAN(in, want) check_clean(in, sizeof(in) - 1, want)

int main(void)
{
    CHECK_CLEAN("", "");
    CHECK_CLEAN("plain\ttext\nand \xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x98\x80",
                "plain\ttext\nand \xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x98\x80");
    CHECK_CLEAN("a\x1b[31mred\x1b]0;title\x07", "a[31mred]0;title");
    CHECK_CLEAN("a\rb\x08"
                "c\x7f"
                "d\0e",
                "abcde");
    CHECK_CLEAN("c1 \xc2\x9b"
                "31m \xc2\x80\xc2\x9f\xc2\xa0",
                "c1 31m \xc2\xa0");                                // CSI as one character
    CHECK_CLEAN("bidi \xe2\x80\xae\xe2\x81\xa6 end", "bidi  end"); // U+202E, U+2066
    CHECK_CLEAN("\xff\xc3", "??");                                 // no UTF-8, cut off
    CHECK_CLEAN("\xc0\x9b", "??");                                 // overlong
    CHECK_CLEAN("\xe0\x82\x9b", "???");                            // overlong C1
    CHECK_CLEAN("\xed\xa0\x80", "???");                            // surrogate
    CHECK_CLEAN("\xf4\x90\x80\x80", "????");                       // beyond U+10FFFF
    CHECK_CLEAN("\x9b", "?");                                      // a bare C1 byte

    // In place, over every byte value: nothing below 0x20 but newline and tab is left.
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    size_t n = terminal_clean(all, sizeof(all), all);
    CHECK(n <= sizeof(all));
    for (size_t i = 0; i < n; i++)
        CHECK((unsigned char)all[i] >= 0x20 || all[i] == '\n' || all[i] == '\t');

    // Nothing but a terminal gets colours.
    struct terminal terminal;
    setenv("TERM", "xterm", 1);
    terminal_init(&terminal, false);
    if (!terminal.out_tty)
        CHECK(terminal_style(&terminal, STYLE_DIM)[0] == '\0');
    terminal = (struct terminal){.out_tty = true, .out_control = true};
    CHECK(terminal_style(&terminal, STYLE_BOLD)[0] == '\0');
    CHECK(strcmp(terminal_style(&terminal, STYLE_ERASE), "\r\x1b[K") == 0);
    return 0;
}
