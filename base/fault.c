// SPDX-License-Identifier: MIT
#include "base/fault.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void text_clean(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

int fault_set(struct fault *fault, int err, const char *format, ...)
{
    assert(err > 0);
    if (!fault)
        return -err;

    va_list args;
    va_start(args, format);
    vsnprintf(fault->text, sizeof(fault->text), format, args);
    va_end(args);
    text_clean(fault->text);
    fault->err = err;
    return -err;
}

void fault_prefix(struct fault *fault, const char *format, ...)
{
    if (!fault)
        return;

    char words[FAULT_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof(words), format, args);
    va_end(args);

    char joined[2 * FAULT_TEXT_MAX + 2];
    snprintf(joined, sizeof(joined), "%s: %s", words, fault->text);
    joined[FAULT_TEXT_MAX - 1] = '\0';
    memcpy(fault->text, joined, FAULT_TEXT_MAX);
    text_clean(fault->text);
}
