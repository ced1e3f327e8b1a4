// SPDX-License-Identifier: MIT
// pretok: cuts text into the pieces that byte-pair encoding works on, with the regular expressions
// of tokenizer.json run by PCRE2.  Stages apply in order, each to every piece of the one before;
// a piece is its own string, so look-ahead never sees past its end.
// Source: model.md 6.2 and 10.4, tests/golden/tokenizers/*/pieces.jsonl.
#pragma once
#include "base/fault.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct pretok;         // compiled, read-only after creation, shared by threads
struct pretok_scratch; // one a thread

#define PRETOK_STAGES_MAX 8u // DeepSeek has three; recursion depth of pretok_split

// pretok_create compiles the "pre_tokenizer" object of a tokenizer.json: Split (a Regex, behaviour
// Isolated), ByteLevel and Sequence of these.
//
// Errors: -ENOTSUP naming the part that is not understood, -EINVAL, -ENOMEM.
int pretok_create(const json_t *pre_tokenizer, struct pretok **ret, struct fault *fault);

// pretok_create_regex makes one stage of a pattern in Oniguruma's notation.  Errors as above.
int pretok_create_regex(const char *pattern, struct pretok **ret, struct fault *fault);
void pretok_destroy(struct pretok **pretok);

int pretok_scratch_create(const struct pretok *pretok, struct pretok_scratch **ret);
void pretok_scratch_destroy(struct pretok_scratch **scratch);

// A pretok_piece_fn takes the next piece of the text; what it returns other than 0 ends the split.
typedef int pretok_piece_fn(void *user, const char *piece, size_t len);

// pretok_split calls piece_fn for every piece, in order; the pieces make up the text.
//
// text: [len] valid UTF-8 (not checked here: PCRE2 runs without its own check).
// Returns 0, what piece_fn returned, or -E2BIG if an expression needed more steps than a
// text of this length can ask for.  Time grows with len, not with its square, for the expressions
// of the supported families.
int pretok_split(const struct pretok *pretok, struct pretok_scratch *scratch, const char *text,
                 size_t len, pretok_piece_fn *piece_fn, void *user, struct fault *fault);
