// SPDX-License-Identifier: MIT
// prompt: a parsed request -> token ids, or the whole answer of the endpoints that are only about
// text (/tokenize, /detokenize, /apply-template).  Thread: tok.
#pragma once
#include "daemon/req.h"
#include "daemon/served.h"

struct prompt_maker; // scratch of the encoder; one a thread
int prompt_maker_create(const struct served *served, uint32_t prompt_tokens_max,
                        struct prompt_maker **ret);
void prompt_maker_destroy(struct prompt_maker **maker);

// prompt_make fills in prompts and ids, or body, or error, of a request in REQ_TOKENS.
// Returns true if there are prompts to be computed; false if body or error is the answer.
bool prompt_make(struct prompt_maker *maker, struct req *req);
