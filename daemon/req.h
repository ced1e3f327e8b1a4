// SPDX-License-Identifier: MIT
// req: one request that needs more than its own bytes: a generation, or text to be tokenized.  A
// fixed pool, made before the threads start.  The state says which thread may write which part;
// between threads only its number travels (daemon/topology.h).
#pragma once
#include "api/chat.h"
#include "api/completion.h"
#include "api/output.h"
#include "api/response.h"
#include "api/route.h"
#include "api/tokenize.h"
#include "base/fault.h"
#include "model/sampler.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum req_state {
    REQ_FREE,    // in the pool; owner: the pool
    REQ_PARSING, // sock fills in what the client asked for
    REQ_TOKENS,  // tok makes token ids, or the whole answer of /tokenize and the like
    REQ_STEPS,   // step computes; sock turns its events into bytes
    REQ_ANSWER,  // sock finishes the answer
    REQ_STATE_COUNT
};
extern const char *const req_state_name[REQ_STATE_COUNT];

struct req_prompt {
    uint32_t first, n; // in req.ids
    bool in_reasoning; // it ends inside <think>
};

#define REQ_ID_MAX 40u // "chatcmpl-" and 24 digits

struct req {
    enum req_state state; // written by the owner that the state names, through req_state_set

    // Written by sock in REQ_PARSING, then read only.
    enum route route;
    struct chat_request *chat;             // ROUTE_CHAT, ROUTE_APPLY_TEMPLATE
    struct completion_request *completion; // ROUTE_COMPLETION
    struct tokenize_request tokenize;      // ROUTE_TOKENIZE
    uint32_t *detokenize_ids;              // ROUTE_DETOKENIZE [detokenize_n]
    size_t detokenize_n;
    const struct sampling *sampling; // of chat or completion
    struct sampler_params sampler;   // the same, as the sampler wants it
    struct sampler_bias bias[SAMPLER_BIAS_MAX];
    uint32_t choices_n;   // prompts * n
    uint64_t complete_us; // when the request was complete

    // Written by tok in REQ_TOKENS, then read only.
    struct req_prompt prompts[SAMPLING_CHOICES_MAX];
    uint32_t prompts_n;
    uint32_t *ids;          // [topology.prompt_tokens_max] all prompts, one after the other
    struct buf body;        // the answer of /tokenize, /detokenize, /apply-template
    struct api_error error; // why there are no tokens; status 0: none

    // Tok tells sock that the prompts are good: from here on a stream may begin.
    atomic_bool accepted;

    // Written by step before it sends the first STEP_EVENT_FAILED of the request, then read only:
    // what the client is told.  "": the model's own failure.
    char failure[FAULT_TEXT_MAX];

    // Sock tells whoever has the request: the client is gone, or
    // needs no more; it is dropped soon.
    atomic_bool cancelled;                              // all choices; written by sock
    atomic_bool choice_cancelled[SAMPLING_CHOICES_MAX]; // one ended by a stop string; by sock

    uint8_t front; // enum front_id: whose request it is; written in REQ_PARSING

    // That front's alone, in every state.
    uint32_t conn; // CONN_NONE once the client is gone
    struct http_form form;
    struct output *outputs; // [choices_n], NULL unless it is a generation
    struct response response;
    char id[REQ_ID_MAX];
    bool streaming;    // the head of a stream was sent
    uint32_t ended_n;  // choices that have ended
    uint64_t first_us; // when the first token came; 0: not yet
    bool failed;       // `error` is to be told instead of an answer
    bool ended[SAMPLING_CHOICES_MAX];
    bool started[SAMPLING_CHOICES_MAX]; // its output was made
};

// req_state_set moves to the next state and asserts that the move is legal.
void req_state_set(struct req *req, enum req_state next);

// req_reset frees what parsing and answering took, and makes the request ready for REQ_FREE; keeps
// ids.  Thread: sock.
void req_reset(struct req *req);

// req_prompt_of returns which prompt a choice continues; its place among that prompt's choices is
// choice % n.
static inline uint32_t req_prompt_of(const struct req *req, uint32_t choice)
{
    return choice / req->sampling->n;
}

// What tok sends to step and sock, sock to tok: the number of a request.
// What step sends to sock:
enum step_event_kind {
    STEP_EVENT_ECHO,      // a token of the prompt, with its log-probability (completions with echo)
    STEP_EVENT_TOKEN,     // a sampled token
    STEP_EVENT_STOP,      // the model ended its answer
    STEP_EVENT_LENGTH,    // max_tokens or the context ended it
    STEP_EVENT_CANCELLED, // the flag was seen
    STEP_EVENT_FAILED,    // no expert, no usable logits, or the device is lost
    STEP_EVENT_KIND_COUNT
};

struct step_event {
    uint32_t req;
    uint16_t choice;
    uint8_t kind; // enum step_event_kind
    uint8_t top_n;
    bool has_logprob;
    bool last; // no more events of this request: sock owns it again
    uint32_t token;
    float logprob;
    struct sampler_logprob top[SAMPLER_LOGPROB_MAX];
};
_Static_assert(sizeof(struct step_event) == 20 + 8 * SAMPLER_LOGPROB_MAX, "crosses a ring");
