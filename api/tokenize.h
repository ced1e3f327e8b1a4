// SPDX-License-Identifier: MIT
// tokenize: bodies of /tokenize, /detokenize and /apply-template, in and out (model.md 9.6).
// /apply-template's request is chat_template_parse in api/chat.h.  Thread: any.
#pragma once
#include "api/body.h"

struct tokenize_request {
    const char *content; // [content_n], NUL-terminated
    size_t content_n;
    bool add_special;   // BOS in front; default false
    bool parse_special; // control tokens are recognised in the text; default true, as llama.cpp
    bool with_pieces;

    json_t *root; // private
};
int tokenize_parse(const char *body, size_t n, struct tokenize_request *ret, struct api_error *err);
void tokenize_free(struct tokenize_request *req);

// Gives the raw bytes of a token (model/'s tokenizer_bytes behind a user pointer).
typedef const char *tokenize_bytes_fn(void *user, uint32_t id, size_t *ret_len);

// tokenize_write writes {"tokens":[1,2]}, or with bytes_of {"tokens":[{"id":1,"piece":"a"},...]}
// where a piece that is not valid UTF-8 is an array of byte values.
void tokenize_write(struct buf *out, const uint32_t *ids, size_t n, tokenize_bytes_fn *bytes_of,
                    void *user);

// detokenize_parse reads {"tokens":[...]}; *ret_ids is freed with free().
int detokenize_parse(const char *body, size_t n, uint32_t vocab_size, uint32_t **ret_ids,
                     size_t *ret_n, struct api_error *err);
// detokenize_write writes {"content":"..."}; invalid UTF-8 becomes U+FFFD.
void detokenize_write(struct buf *out, const char *text, size_t n);

// apply_template_write writes {"prompt":"..."}.
void apply_template_write(struct buf *out, const char *prompt, size_t n);
