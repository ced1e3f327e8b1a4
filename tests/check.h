// SPDX-License-Identifier: MIT
// check: what every unit test uses instead of a framework.  CHECK prints the place and ends the
// test.
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: CHECK failed: %s\n", __FILE__, __LINE__, #cond);               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define TEST_SKIPPED 77 // meson's exit status for "skipped"; print the reason first

// check_random: xorshift64*, so that every run of a test sees the same numbers.
static inline uint64_t check_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

#define CHECK_FAIL(text)                                                                           \
    do {                                                                                           \
        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, text);                                  \
        exit(1);                                                                                   \
    } while (0)
