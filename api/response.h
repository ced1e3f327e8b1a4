// SPDX-License-Identifier: MIT
// response: finished and streamed answers of /v1/chat/completions and /v1/completions as JSON
// (model.md 9.1, 9.4), and the SSE framing around it.
//
// A stream, each call between answer_chunk_open and _close (api/answer.h):
//
//     response_chunk_role    once a choice (chats only)
//     response_chunk_delta   after each output_push that left something to send (output_ready)
//     response_chunk_finish  once a choice, after output_finish (sends what is left first)
//     response_chunk_usage   if stream_options.include_usage
//     response_chunk_done    [DONE]
//
// response_keep_alive any time between events; response_chunk_error instead of the rest, then
// close. Everything appends to `out`: look at buf_error(out). Thread: the connection's.
#pragma once
#include "api/error.h"
#include "api/output.h"

struct response {
    bool chat;               // chat.completion(.chunk) or text_completion
    const char *id;          // "chatcmpl-..." or "cmpl-...", the same in all chunks
    const char *model;       // the served name
    const char *fingerprint; // system_fingerprint; NULL: left out
    int64_t created;         // Unix seconds
    bool logprobs;           // else "logprobs":null
    bool include_usage;      // stream_options.include_usage: chunks carry "usage":null
};

struct response_usage {     // over all n choices
    uint64_t prompt_tokens; // cached ones included
    uint64_t cached_tokens; // 0..prompt_tokens
    uint64_t completion_tokens;
    uint64_t reasoning_tokens; // of completion_tokens
};

// response_whole writes the answer of a request without stream.
// choices: [n], finished, nothing taken; index = place.
void response_whole(struct buf *out, const struct response *r, const struct output *choices,
                    uint32_t n, const struct response_usage *usage);

void response_chunk_role(struct buf *out, const struct response *r, uint32_t index);
// Takes what o has ready (output_taken); writes nothing if there is nothing.
void response_chunk_delta(struct buf *out, const struct response *r, uint32_t index,
                          struct output *o);
void response_chunk_finish(struct buf *out, const struct response *r, uint32_t index,
                           struct output *o);
void response_chunk_usage(struct buf *out, const struct response *r,
                          const struct response_usage *usage);
void response_chunk_done(struct buf *out);
void response_chunk_error(struct buf *out, const struct api_error *err);
void response_keep_alive(struct buf *out); // ": keep-alive"
