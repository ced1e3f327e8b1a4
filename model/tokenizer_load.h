// SPDX-License-Identifier: MIT
// tokenizer_load: the files of a checkpoint that make a tokenizer, and the struct they fill.
// Inside model/ only; others use tokenizer.h.
#pragma once
#include "model/added.h"
#include "model/bpe.h"
#include "model/pretok.h"

enum token_kind { // bits
    TOKEN_ADDED = 1,
    TOKEN_SPECIAL = 2,
    TOKEN_CONTROL = 4,
};

struct tokenizer {
    struct bpe *bpe;
    struct pretok *pretok;
    bool nfc;      // the normalizer is NFC
    uint8_t *kind; // [kind_n >= bpe_vocab] enum token_kind
    uint32_t kind_n;
    char **added_text; // [added_n] owned
    uint32_t added_n;
    struct added_set all;    // every added token
    struct added_set raw;    // matched in the text as it is (normalized: false)
    struct added_set normal; // matched after the normalizer
    uint32_t bos, eos;       // TOKEN_NONE: none
    bool add_bos;
    char *chat_template; // NULL: none
};

// tokenizer_load fills a zeroed tokenizer from DIR.  The caller frees it, also on failure.
int tokenizer_load(const char *dir, struct tokenizer *tok, struct fault *fault);

// tokenizer_load_text fills all but what tokenizer_config.json says, from the text of a
// tokenizer.json or (tiktoken) a tiktoken.model.
int tokenizer_load_text(struct tokenizer *tok, const char *text, size_t len, bool tiktoken,
                        const json_t *config, struct fault *fault);

// tokenizer_load_json and tokenizer_load_tiktoken fill the vocabulary from the text of one file.
// config: the parsed tokenizer_config.json.
int tokenizer_load_json(struct tokenizer *tok, const char *text, size_t len, struct fault *fault);
int tokenizer_load_tiktoken(struct tokenizer *tok, const char *text, size_t len,
                            const json_t *config, struct fault *fault);

// tokenizer_load_added adds one added token; for both loaders.  Added tokens come before the
// vocabulary: a control token that the vocabulary lists too is then known to be none of its words.
struct added_source {
    const char *text;
    size_t len;
    uint32_t id;
    bool special, normalized;
};
int tokenizer_load_added(struct tokenizer *tok, struct added_source token, struct fault *fault);
