// SPDX-License-Identifier: MIT
// sampler: logits -> token.  Order: bias, penalties, temperature, top_k, top_p, min_p, draw.
// Random numbers are counter-based: (seed, sequence, position) -> uniform, so that a seed gives the
// same text in any batch.  Pure; one scratch a thread.  Source: model.md section 8.
#pragma once
#include "model/tokenizer.h"

#define SAMPLER_BIAS_MAX    1024u // entries of logit_bias
#define SAMPLER_LOGPROB_MAX 20u   // top_logprobs

struct sampler_bias {
    uint32_t id;
    float bias; // -100..100
};

struct sampler_params {
    float temperature;                         // 0 is argmax, ties to the lowest id
    uint32_t top_k;                            // 0: off
    float top_p;                               // 1: off
    float min_p;                               // 0: off
    float frequency_penalty, presence_penalty; // -2..2, over generated tokens
    float repetition_penalty;                  // 1: off; over prompt and generated tokens
    uint64_t seed;
    const struct sampler_bias *bias; // [bias_n], owned by the caller
    uint32_t bias_n;
};

struct sampler_logprob {
    uint32_t id;
    float logprob;
};

struct sampler_result {
    uint32_t id;
    float logprob; // of id; the model's own, or of the distribution drawn from (see sampler_choose)
    uint32_t top_n;
    struct sampler_logprob top[SAMPLER_LOGPROB_MAX]; // falling; ties: lower id first
};

struct sampler; // scratch for one vocabulary; one a thread

// sampler_create makes room for vocab_size logits.  tok: ids it has no token for are never chosen;
// NULL: every id may be.  Keeps no pointer to tok.  0 or -ENOMEM.
int sampler_create(uint32_t vocab_size, const struct tokenizer *tok, struct sampler **ret);
void sampler_destroy(struct sampler **sampler);

// sampler_choose draws one token.
//
// logits:  [vocab_size] f32, not modified.
// history: [history_n] ids of prompt and generated tokens; the first prompt_n are the prompt.
// sequence, position: counters of the random number (choice index n, and history_n).
// want_logprob: false skips the log-softmax; ret->logprob is then 0 and ret->top_n 0.
// top_n: how many alternatives to report, 0..SAMPLER_LOGPROB_MAX.
// sampled_logprobs: log-probabilities of the distribution that is drawn from (after bias,
// penalties,
//          temperature and cuts; what was cut is not listed) instead of the model's own, which are
//          those over all ids that have a token.
//
// top_p keeps the fewest of the likeliest tokens whose probabilities sum to top_p or more, top_k
// the top_k likeliest, ties the lower id; min_p those at least min_p times as likely as the
// likeliest; each works on what the one before left, and at least one stays.
// Returns 0, -EDOM if a logit is NaN or +infinity or no token has a finite one, -EINVAL for
// parameters out of their range.  Allocates nothing.
int sampler_choose(struct sampler *sampler, const struct sampler_params *params,
                   const float *logits, const uint32_t *history, uint32_t history_n,
                   uint32_t prompt_n, uint32_t sequence, bool want_logprob, uint32_t top_n,
                   bool sampled_logprobs, struct sampler_result *ret);

// sampler_random returns the uniform number in [0, 1) of a place: 53 bits of Philox4x32-10 with
// key `seed` and counter (sequence, position, 0, 0).
double sampler_random(uint64_t seed, uint32_t sequence, uint32_t position);
