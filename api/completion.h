// SPDX-License-Identifier: MIT
// completion: the body of /v1/completions -> a request whose every field was checked
// (model.md 9.4). Owner: whoever holds the request; never changed after parsing.
#pragma once
#include "api/sampling.h"

struct completion_prompt {
    const char *text; // UTF-8, NUL-terminated, of text_n bytes: gets one BOS; NULL: token ids
    size_t text_n;
    uint32_t *ids; // [ids_n]: taken as they are, nothing added
    size_t ids_n;
};

struct completion_request {
    struct completion_prompt *prompts; // [prompts_n], all texts or all ids; none of ids is empty
    uint32_t prompts_n;                // choice index = prompt * sampling.n + i
    const char *suffix; // fill in the middle: prompts are the text before; NULL: none.  Only with
                        // texts.  The caller refuses it where the vocabulary has no fim tokens.
    bool echo;          // the answer begins with the prompt
    struct sampling sampling; // max_tokens 16 by default; top_logprobs 0..20 with logprobs

    // private
    json_t *root;
};

// completion_request_parse: body: [n] bytes, not kept.  best_of above n, and suffix with echo, are
// refused.  Returns 0, or -EINVAL/-ENOMEM with the error filled in.
int completion_request_parse(const char *body, size_t n, const struct api_limits *limits,
                             struct completion_request **ret, struct api_error *err);
void completion_request_free(struct completion_request **req); // accepts NULL, leaves NULL
