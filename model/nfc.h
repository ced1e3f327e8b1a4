// SPDX-License-Identifier: MIT
// nfc: Unicode normalisation form C (canonical decomposition, then composition), which the Qwen
// tokenizers apply to their input.  Source: Unicode Standard Annex 15; tables made by
// tools/make-nfc-table.
#pragma once
#include <stdbool.h>
#include <stddef.h>

// nfc_is_normal says whether text is in form C already; false may also mean "not certain".
// text: [len] well-formed UTF-8.
bool nfc_is_normal(const char *text, size_t len);

// nfc_normalize writes the normal form of text into a new buffer, to be freed by the caller.
//
// text: [len] well-formed UTF-8.  At most three times as long afterwards.
// Time O(len), or O(m log m) for m combining marks in a row; memory 16 bytes a character.
// Returns 0, -ENOMEM.
int nfc_normalize(const char *text, size_t len, char **ret_text, size_t *ret_len);
