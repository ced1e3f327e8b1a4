// SPDX-License-Identifier: MIT
// cors: which web pages may use the API from a browser (Fetch standard, "CORS protocol").
//
// No cookies are used, keys are sent by the page itself: so "*" is no risk beyond that a page may
// ask at all.  Credentials mode is never allowed.
// A browser first asks with OPTIONS (a preflight, without a key), then sends the request; each
// answer, error or stream, must name its origin again.  Therefore the verdict is part of struct
// http_form, which goes wherever the answer is written: cors_apply, once a request, is all there
// is to call.
//
// An origin is answered only if it is byte for byte one of the configured ones, and then from the
// configuration, not from the request.
#pragma once
#include "api/http.h"
#include "base/fault.h"

#define CORS_ORIGINS_MAX 32u
#define CORS_ORIGIN_MAX  192u // bytes of an origin with its NUL

// The list.  All zero: no page.  Immutable while requests are answered, and must not move: forms
// point into it.
struct cors {
    bool any; // "*"
    uint32_t n;
    char origins[CORS_ORIGINS_MAX][CORS_ORIGIN_MAX];
};

// cors_parse reads [net] cors_origins.
//
// text: "*" or origins as browsers send them (https://chat.example.org, http://localhost:3000),
//       separated by commas or blanks; "": none.
// Errors: -EINVAL: what no browser would send (a path, capitals, a port that is the scheme's own),
// with a sentence.  *ret is all zero then.
int cors_parse(const char *text, struct cors *ret, struct fault *fault);

// cors_apply judges a request's Origin into req->form.
//
// Call it when the reader says HTTP_EVENT_HEAD, and again when it says HTTP_EVENT_REFUSED (there
// may have been no HEAD: a body too large is refused before), before anything is answered.  A head
// that broke off has no fields.
void cors_apply(const struct cors *cors, struct http_request *req);

// cors_preflight_write writes the fields of an answer to a preflight: methods, headers, max-age;
// nothing if req is none, or if its form has no cors_origin.
//
// allow: methods, as Allow writes them.
// Of the headers asked for, those that clients of the API send are allowed: Authorization,
// Content-Type, and names that begin with x-, openai- or anthropic-.
void cors_preflight_write(struct buf *out, const struct http_request *req, const char *allow);
