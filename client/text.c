// SPDX-License-Identifier: MIT
#include "client/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_CAP_MIN   256u        // most texts are short; doubling takes over from here
#define TEXT_READ_STEP (64u << 10) // one read of a pipe

int text_append(struct text *text, const char *bytes, size_t len, size_t max)
{
    if (len > max || text->n > max - len)
        return -EFBIG;

    size_t need = text->n + len + 1;
    if (need > text->cap) {
        size_t cap = text->cap ? text->cap : TEXT_CAP_MIN;
        while (cap < need)
            cap *= 2;
        char *grown = realloc(text->bytes, cap);
        if (!grown)
            return -ENOMEM;
        text->bytes = grown;
        text->cap = cap;
    }
    if (len)
        memcpy(text->bytes + text->n, bytes, len);
    text->n += len;
    text->bytes[text->n] = '\0';
    return 0;
}

int text_read_fd(struct text *text, int fd, size_t max)
{
    char *step = malloc(TEXT_READ_STEP);
    if (!step)
        return -ENOMEM;

    int err = 0;
    while (!err) {
        ssize_t got = read(fd, step, TEXT_READ_STEP);
        if (got == 0)
            break;
        if (got < 0)
            err = errno == EINTR ? 0 : -errno;
        else
            err = text_append(text, step, (size_t)got, max);
    }
    free(step);
    return err;
}

void text_clear(struct text *text)
{
    text->n = 0;
    if (text->bytes)
        text->bytes[0] = '\0';
}

void text_free(struct text *text)
{
    free(text->bytes);
    *text = (struct text){0};
}
