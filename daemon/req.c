// SPDX-License-Identifier: MIT
#include "daemon/req.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const char *const req_state_name[REQ_STATE_COUNT] = {
    [REQ_FREE] = "free",   [REQ_PARSING] = "parsing", [REQ_TOKENS] = "tokens",
    [REQ_STEPS] = "steps", [REQ_ANSWER] = "answer",
};

static const uint8_t req_next[REQ_STATE_COUNT] = {
    // bit n set: a move to state n is legal
    [REQ_FREE] = 1u << REQ_PARSING,
    [REQ_PARSING] = 1u << REQ_TOKENS | 1u << REQ_FREE, // FREE: the body was bad
    [REQ_TOKENS] = 1u << REQ_STEPS | 1u << REQ_ANSWER, // ANSWER: no steps needed, or an error
    [REQ_STEPS] = 1u << REQ_ANSWER,
    [REQ_ANSWER] = 1u << REQ_FREE,
};

void req_state_set(struct req *req, enum req_state next)
{
    assert(req_next[req->state] & 1u << next);
    req->state = next;
}

void req_reset(struct req *req)
{
    if (req->outputs)
        for (uint32_t i = 0; i < req->choices_n; i++)
            if (req->started[i])
                output_fini(&req->outputs[i]);
    free(req->outputs);
    chat_request_free(&req->chat);
    completion_request_free(&req->completion);
    tokenize_free(&req->tokenize);
    free(req->detokenize_ids);
    buf_free(&req->body);

    enum req_state state = req->state;
    uint32_t *ids = req->ids;
    memset(req, 0, sizeof(*req));
    req->state = state;
    req->ids = ids;
}
