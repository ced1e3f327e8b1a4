// SPDX-License-Identifier: MIT
// api_check: what the tests of api/ share.
#pragma once
#include "api/buf.h"
#include "api/sampling.h"
#include "tests/check.h"

#include <string.h>

// CHECK_TEXT compares bytes with a string literal and shows both.
#define CHECK_TEXT(data, len, want)                                                                \
    do {                                                                                           \
        if ((len) != strlen(want) || ((len) > 0 && memcmp((data), (want), (len)) != 0)) {          \
            fprintf(stderr, "%s:%d: got  \"%.*s\"\n%s:%d: want \"%s\"\n", __FILE__, __LINE__,      \
                    (int)(len), (const char *)(data), __FILE__, __LINE__, (want));                 \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_BUF(b, want) CHECK_TEXT((b)->data, (b)->n, want)

#define CHECK_HAS(text, part)                                                                      \
    do {                                                                                           \
        if (!strstr((text), (part))) {                                                             \
            fprintf(stderr, "%s:%d: \"%s\" is not in \"%s\"\n", __FILE__, __LINE__, (part),        \
                    (text));                                                                       \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const struct api_limits api_check_limits = {
    .model = "demo",
    .vocab_size = 1000,
    .context_max = 4096,
    .choices_max = SAMPLING_CHOICES_MAX,
    .temperature = 0.6f,
    .top_p = 0.95f,
    .repetition_penalty = 1,
};
