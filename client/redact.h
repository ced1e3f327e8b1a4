// SPDX-License-Identifier: MIT
// redact: takes secrets out of texts that leave the machine: keys as expertd makes them, what
// follows "Bearer", private keys in PEM, hashes as the file of keys has them, and a key that is
// known.  Pure.
#pragma once
#include <stddef.h>

// redact_text overwrites secrets with stars: lengths and lines stay.
//
// text: [n].  known: a key, or NULL; shorter ones than 4 bytes are not looked for.
// Returns how many were found.
size_t redact_text(char *text, size_t n, const char *known);

// redact_config takes the values of lines "key = value" away whose key is none that a configuration
// has, or is one that names a file and the value is none.  As above.
size_t redact_config(char *text, size_t n);
