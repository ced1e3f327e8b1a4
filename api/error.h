// SPDX-License-Identifier: MIT
// error: what a client is told when a request cannot be served: status, and the OpenAI error object
// {"error":{"message","type","param","code"}} with all four keys.
//
// Functions of api/ that judge a request take a `struct api_error *` last; on failure they return
// -errno and have filled it in, so that the caller only sends it (answer_error, or
// response_chunk_error once the headers of a stream are out).
// Thread: any.  Allocates nothing.
#pragma once
#include "api/buf.h"

#include <stdint.h>

// One row each in the table of error.c: status, type, code.
enum api_error_kind {
    API_ERROR_FIELD,           // 400 invalid_request_error, code null: a field's value is wrong
    API_ERROR_MISSING,         // 400 ... missing_required_parameter
    API_ERROR_UNSUPPORTED,     // 400 ... unsupported_parameter: known, not served (yet)
    API_ERROR_JSON,            // 400 ... invalid_json: JSON or UTF-8 of the body
    API_ERROR_CONTEXT,         // 400 ... context_length_exceeded
    API_ERROR_HTTP,            // 400 ... invalid_http: framing, Host, target
    API_ERROR_KEY,             // 401 authentication_error, invalid_api_key
    API_ERROR_HOST,            // 403 host_not_allowed: a foreign name on the loopback port
    API_ERROR_MODEL,           // 404 model_not_found
    API_ERROR_PATH,            // 404 not_found
    API_ERROR_METHOD,          // 405 method_not_allowed; set `allow`
    API_ERROR_TIMEOUT,         // 408 request_timeout: the head or body did not arrive in time
    API_ERROR_BODY_BYTES,      // 413 body_too_large
    API_ERROR_TARGET_BYTES,    // 414 target_too_long
    API_ERROR_CONTENT_TYPE,    // 415 unsupported_media_type
    API_ERROR_EXPECTATION,     // 417 expectation_failed
    API_ERROR_RATE,            // 429 rate_limit_error, rate_limit_exceeded; Retry-After
    API_ERROR_HEADER_BYTES,    // 431 headers_too_large
    API_ERROR_INTERNAL,        // 500 server_error, internal_error: a bug or a failed device
    API_ERROR_NOT_IMPLEMENTED, // 501 invalid_request_error, not_implemented: a transfer coding
    API_ERROR_LOADING,         // 503 unavailable_error, loading; Retry-After
    API_ERROR_DRAINING,        // 503 unavailable_error, draining; Retry-After
    API_ERROR_BUSY,            // 503 unavailable_error, overloaded; Retry-After
    API_ERROR_MEMORY,          // 503 unavailable_error, out_of_memory; Retry-After
    API_ERROR_DRIVE,           // 503 unavailable_error, drive_failed; Retry-After
    API_ERROR_VERSION,         // 505 http_version_not_supported
    API_ERROR_KIND_COUNT
};

#define API_ERROR_TEXT_MAX  512u // longer messages are cut between characters
#define API_ERROR_PARAM_MAX 96u  // "messages[65535].content[65535].text" is 36

struct api_error {
    enum api_error_kind kind;
    uint16_t status;
    uint32_t retry_after_s; // 0: no Retry-After; set by kind (1 s), the caller may raise it
    const char *allow;      // 405: value of Allow, static; else NULL
    char param[API_ERROR_PARAM_MAX];  // "": null
    char message[API_ERROR_TEXT_MAX]; // UTF-8; made valid when it is written
};

// api_error_set fills in everything and returns -EINVAL (-ENOMEM for API_ERROR_MEMORY), so that
// `return api_error_set(err, ...)` reads well.
//
// param: the field's path as the client wrote it ("messages[2].role"), or NULL.
// format: text from outside goes through %s only; invalid UTF-8 in it becomes U+FFFD.
int api_error_set(struct api_error *err, enum api_error_kind kind, const char *param,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));

// api_error_context: the prompt is longer than the context; both lengths are in the message.
int api_error_context(struct api_error *err, uint64_t prompt_tokens, uint64_t context_tokens);

// api_error_memory: shorthand for API_ERROR_MEMORY; returns -ENOMEM.
int api_error_memory(struct api_error *err);

const char *api_error_type(const struct api_error *err);
const char *api_error_code(const struct api_error *err); // NULL: null

// api_error_json writes {"error":{...}}.
void api_error_json(struct buf *out, const struct api_error *err);
