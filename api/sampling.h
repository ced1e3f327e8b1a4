// SPDX-License-Identifier: MIT
// sampling: the fields that chat and completion requests share: how tokens are drawn, how many,
// when to stop, what to report.  Order and meaning of the numbers: model.md section 8. Thread: any.
#pragma once
#include "api/body.h"

#define SAMPLING_STOPS_MAX      16u
#define SAMPLING_STOP_BYTES_MAX 4096u // one stop string
#define SAMPLING_BIAS_MAX       1024u
#define SAMPLING_TOP_LOGPROBS   20u
#define SAMPLING_CHOICES_MAX    128u // n, and prompts * n of a completion

// What the server knows and every request is judged by.  Filled in once at start.
struct api_limits {
    const char *model;    // the served name
    uint32_t vocab_size;  // token ids are below it
    uint32_t context_max; // tokens of prompt and answer together
    uint32_t choices_max; // 1..SAMPLING_CHOICES_MAX
    // Defaults, from generation_config.json where it says something:
    float temperature;        // 1
    float top_p;              // 1
    uint32_t top_k;           // 0: off
    float min_p;              // 0: off
    float repetition_penalty; // 1: off
};

struct sampling_bias {
    uint32_t id;
    float bias; // -100..100
};

enum sampling_finish {      // finish_reason on the wire
    SAMPLING_FINISH_NONE,   // null
    SAMPLING_FINISH_STOP,   // end token or stop string
    SAMPLING_FINISH_LENGTH, // max_tokens or the context
    SAMPLING_FINISH_COUNT
};
extern const char *const sampling_finish_name[SAMPLING_FINISH_COUNT]; // NULL, "stop", "length"

struct sampling {
    float temperature;        // 0..2; 0: the most likely token
    float top_p;              // 0..1
    uint32_t top_k;           // 0: off (-1 on the wire means the same)
    float min_p;              // 0..1
    float frequency_penalty;  // -2..2
    float presence_penalty;   // -2..2
    float repetition_penalty; // above 0, up to 10; 1: off
    bool has_seed;            // else the caller draws one
    uint64_t seed;            // the int64 on the wire, its bits
    uint32_t n;               // choices, 1..choices_max
    uint32_t max_tokens; // generated tokens, reasoning included; UINT32_MAX: what fits the context
    bool logprobs;
    uint32_t top_logprobs; // 0..20 alternatives a token
    bool logprobs_sampled; // logprobs_mode "sampled": of the distribution that was drawn from
    bool stream;
    bool include_usage;                    // stream_options
    const char *stops[SAMPLING_STOPS_MAX]; // [stops_n], owned by the request's root, none empty
    uint32_t stops_n;
    struct sampling_bias *bias; // [bias_n], owned; no id twice
    uint32_t bias_n;
};

// sampling_parse reads all fields but logprobs and max_tokens' default, which differ by endpoint.
//
// max_tokens_default: 16 for completions, UINT32_MAX for chats.
// On failure *ret may be half filled; sampling_free it all the same.
int sampling_parse(const json_t *root, const struct api_limits *limits, uint32_t max_tokens_default,
                   struct sampling *ret, struct api_error *err);
void sampling_free(struct sampling *sampling);
