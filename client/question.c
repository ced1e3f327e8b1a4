// SPDX-License-Identifier: MIT
#include "client/question.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

// question_byte waits for one byte of the line.
static int question_byte(const struct client *client, char *ret)
{
    struct pollfd fds[2] = {{.fd = client->interrupt_fd, .events = POLLIN},
                            {.fd = STDIN_FILENO, .events = POLLIN}};
    for (;;) {
        if (poll(fds, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        if (fds[0].revents)
            return -ECANCELED;
        ssize_t n = read(STDIN_FILENO, ret, 1);
        if (n == 1)
            return 0;
        if (n == 0 || (errno != EINTR && errno != EAGAIN))
            return -ECANCELED;
    }
}

int question_ask(const struct client *client, const char *prompt, const char *fallback, char *ret,
                 size_t bytes)
{
    size_t n = 0;
    bool longer = false;
    char byte = 0;

    printf("%s%s%s [%s]: ", terminal_style(&client->terminal, STYLE_BOLD), prompt,
           terminal_style(&client->terminal, STYLE_RESET), fallback);
    fflush(stdout);
    for (;;) {
        int err = question_byte(client, &byte);
        if (err) {
            putchar('\n');
            return err;
        }
        if (byte == '\n')
            break;
        if (n + 1 >= bytes)
            longer = true;
        else if (n > 0 || byte != ' ')
            ret[n++] = byte;
    }
    while (n > 0 && (ret[n - 1] == ' ' || ret[n - 1] == '\r'))
        n--;
    ret[n] = '\0';
    if (longer)
        return -E2BIG;
    if (n == 0)
        snprintf(ret, bytes, "%s", fallback);
    return 0;
}
