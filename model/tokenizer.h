// SPDX-License-Identifier: MIT
// tokenizer: tokenizer.json (byte-level BPE with PCRE2 splits) or tiktoken.model <-> token ids.
// Read-only after open except for the scratch, which the caller owns: one scratch a thread.
// Source: model.md section 6 and 10.4.  Below it: pretok (splits), nfc, added (control tokens in
// text), bpe (merges), tokenizer_load (the files).
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer; // opaque

#define TOKEN_NONE UINT32_MAX

// tokenizer_open reads DIR/tokenizer.json (and tokenizer_config.json and chat_template.jinja where
// they are).  Without tokenizer.json, DIR/tiktoken.model with the tokenizer_config.json of Kimi-K2.
// Errors: -ENOENT, -EINVAL, -ENOTSUP, -ENOMEM with file and what is wrong.
int tokenizer_open(const char *dir, struct tokenizer **ret, struct fault *fault);
void tokenizer_close(struct tokenizer **tok);

uint32_t tokenizer_vocab(const struct tokenizer *tok); // highest id that has a token, plus one
// tokenizer_id returns the id of an added token's exact text ("<think>"), or TOKEN_NONE.
uint32_t tokenizer_id(const struct tokenizer *tok, const char *text);
// tokenizer_has says whether the id has a token at all (padding rows of the embedding have none).
bool tokenizer_has(const struct tokenizer *tok, uint32_t id);
bool tokenizer_is_added(const struct tokenizer *tok, uint32_t id);   // in added_tokens
bool tokenizer_is_special(const struct tokenizer *tok, uint32_t id); // added with special: true
// tokenizer_is_control: added tokens that must never show as text in chats (special ones, role,
// think, tool, fim and search markers).
bool tokenizer_is_control(const struct tokenizer *tok, uint32_t id);
// tokenizer_add_bos: add_bos_token of tokenizer_config.json, default true.
bool tokenizer_add_bos(const struct tokenizer *tok);
uint32_t tokenizer_bos(const struct tokenizer *tok); // id of bos_token, or TOKEN_NONE
uint32_t tokenizer_eos(const struct tokenizer *tok); // id of eos_token, or TOKEN_NONE
// tokenizer_chat_template returns the template text of tokenizer_config.json (or
// chat_template.jinja), or NULL.
const char *tokenizer_chat_template(const struct tokenizer *tok);

// tokenizer_bytes returns the raw bytes of one token (an added token: its UTF-8 text); *ret_len = 0
// if the id has none.  Valid as long as the tokenizer.
const char *tokenizer_bytes(const struct tokenizer *tok, uint32_t id, size_t *ret_len);

struct token_list { // grows; owned by the caller; zero-initialise; token_list_free when done
    uint32_t *ids;
    size_t n, cap;
};
void token_list_free(struct token_list *list);
int token_list_push(struct token_list *list, uint32_t id); // 0 or -ENOMEM

struct tokenizer_scratch; // one a thread
int tokenizer_scratch_create(const struct tokenizer *tok, struct tokenizer_scratch **ret);
void tokenizer_scratch_destroy(struct tokenizer_scratch **scratch);

// tokenizer_encode appends the ids of text to list; no BOS is added here.
//
// text: [len] bytes; must be valid UTF-8 (-EILSEQ with the offset otherwise).
// parse_added: true recognises added tokens in the text (template literals); false never makes one
//              (a user's content).
// At least 5 MB/s on one core for mixed text, O(n log n) at worst.
int tokenizer_encode(const struct tokenizer *tok, struct tokenizer_scratch *scratch,
                     const char *text, size_t len, bool parse_added, struct token_list *list,
                     struct fault *fault);

// token_part: a stretch of a text that is tokenized as one.
struct token_part {
    const char *text;
    size_t len;
    bool parse_added; // added tokens are recognised in it (never across its ends)
};
// tokenizer_encode_parts encodes the parts as one text: splits and merges go across their borders,
// recognition of added tokens does not.  So text from outside, put between literals of a template,
// gives the ids of the whole text, but never an added token, not even half of one.
// Otherwise as tokenizer_encode; on failure list is as it was.
int tokenizer_encode_parts(const struct tokenizer *tok, struct tokenizer_scratch *scratch,
                           const struct token_part *parts, size_t parts_n, struct token_list *list,
                           struct fault *fault);
