// SPDX-License-Identifier: MIT
// http_call: one request to the daemon and its response, over a connection of its own.
// Never blocks: the caller polls http_call_fd and calls http_call_read, so several can run side by
// side; http_call_finish does that for one.  What a response may cost is bounded.
#pragma once
#include "base/fault.h"
#include "client/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// 16 MiB: /v1/models and /metrics are some KiB, a long answer with alternatives some MiB.
#define HTTP_CALL_BODY_MAX (16u << 20)

struct http_request {
    const char *method; // "GET", "POST"
    const char *target; // "/v1/models"
    const char *key;    // bearer token, or NULL
    const char *body;   // JSON, or NULL; not kept
    size_t body_bytes;
    // stream is given the body of a response of type text/event-stream, piece by piece; other
    // bodies are collected.  May be NULL.  A negative value ends the call with it.
    int (*stream)(void *user, const char *bytes, size_t len);
    void *stream_user;
};

struct http_call; // opaque

// http_call_open connects and sends the whole request.
//
// interrupt_fd: gives up with -EINTR once this is readable; -1 for none.
// Errors: those of address_connect; -EINVAL a key that cannot stand in a header or that would
// travel unencrypted over a network; those of secure_open; -ENOMEM.
int http_call_open(const struct address *address, const struct http_request *request,
                   int interrupt_fd, struct http_call **ret, struct fault *fault);

// http_call_close closes the connection, which stops what the daemon does for it.  NULL is fine.
void http_call_close(struct http_call **call);

int http_call_fd(const struct http_call *call);

// http_call_read reads what has arrived.  Returns 1: more is to come, 0: the response is complete,
// -errno with a sentence: the connection or the response is broken, or the stream callback's value.
int http_call_read(struct http_call *call, struct fault *fault);

// http_call_finish reads until the response is complete.
//
// silence_ms: -ETIMEDOUT when nothing arrives for this long.
// Returns 0, -EINTR once interrupt_fd is readable, or as http_call_read.
int http_call_finish(struct http_call *call, int interrupt_fd, int silence_ms, struct fault *fault);

// http_call_status returns the response's status, 0 before it is known.
unsigned http_call_status(const struct http_call *call);

// http_call_streamed says whether the body went to the stream callback.
bool http_call_streamed(const struct http_call *call);

// http_call_body returns the collected body, NUL-terminated; valid until http_call_close.
const char *http_call_body(const struct http_call *call, size_t *ret_len);
