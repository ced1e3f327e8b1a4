// SPDX-License-Identifier: MIT
// reply: one streamed answer of /v1/chat/completions or /v1/completions: what the daemon sent,
// piece by piece, and when.  Does not print; see view.h.
#pragma once
#include "base/fault.h"
#include "client/address.h"
#include "client/text.h"

#include <stdbool.h>
#include <stdint.h>

// 64 MiB: an answer of 128 K tokens is under 1 MiB; past this the daemon has lost its way.
#define REPLY_BYTES_MAX (64u << 20)

enum reply_part { REPLY_REASONING, REPLY_CONTENT, REPLY_PART_COUNT };

struct reply {
    struct text part[REPLY_PART_COUNT];
    uint32_t pieces[REPLY_PART_COUNT]; // deltas that brought text: about one a token
    uint32_t pieces_first;             // of them, those that came with the first
    char model[128];
    char finish_reason[32]; // "" until the daemon said it
    bool has_usage;
    uint64_t prompt_tokens, cached_tokens, completion_tokens;
    uint64_t sent_us;           // clock_us of the request
    uint64_t first_us, last_us; // when the first and the last text arrived
};

void reply_free(struct reply *reply);

// reply_tokens returns how many tokens came: by the daemon's usage, or the pieces without it.
uint64_t reply_tokens(const struct reply *reply);

// reply_rate returns tokens per second from the first text to the last, those that came with the
// first not counted; over the whole reply if all came at once; 0 if none came.
double reply_rate(const struct reply *reply);

struct reply_request {
    const char *target; // "/v1/chat/completions" or "/v1/completions"
    const char *key;    // or NULL
    const char *body;   // JSON with stream and include_usage set
    size_t body_bytes;
    // piece is told each piece of text as it comes; may be NULL.  bytes are valid UTF-8.
    void (*piece)(void *user, enum reply_part part, const char *bytes, size_t len);
    void *piece_user;
};

struct reply_call; // opaque; an answer under way

// reply_open sends the request.
// Errors: those of http_call_open, with its sentence.  reply must be zeroed and outlive the call.
int reply_open(const struct address *address, const struct reply_request *request, int interrupt_fd,
               struct reply *reply, struct reply_call **ret, struct fault *fault);

// reply_close closes the connection; the daemon stops at its next token.  NULL is fine.
void reply_close(struct reply_call **call);

int reply_fd(const struct reply_call *call);

// reply_read takes what has arrived.  Returns 1: more is to come, 0: the answer is complete,
// -errno with the daemon's own sentence if it refused or failed.
int reply_read(struct reply_call *call, struct fault *fault);

// reply_error_text sets *fault to what the body of an error response says, and returns -EREMOTEIO.
int reply_error_text(unsigned status, const char *body, size_t body_len, struct fault *fault);
