// SPDX-License-Identifier: MIT
// answer: status line, header fields and body of a response -> bytes for the connection.
// HEAD, HTTP/1.0 (no chunks), closing and CORS are handled here by what stands in the form, so that
// a caller writes every answer the same way.  A 401 gets WWW-Authenticate.
// All functions append to `out`; look at buf_error(out) when done.
// Thread: the connection's.  The clock is told (date_unix_s).
#pragma once
#include "api/buf.h"
#include "api/cors.h"
#include "api/error.h"
#include "api/http.h"

#define ANSWER_JSON       "application/json"
#define ANSWER_SSE        "text/event-stream"
#define ANSWER_PROMETHEUS "text/plain; version=0.0.4; charset=utf-8"

struct answer {
    uint16_t status;                      // 200, ...
    const char *content_type;             // NULL: no body (204)
    int64_t date_unix_s;                  // Date field; 0: none
    const char *allow;                    // Allow field (405, OPTIONS), or NULL
    uint32_t retry_after_s;               // Retry-After field; 0: none
    const struct http_request *preflight; // OPTIONS: asked for by a page? (cors.h); or NULL
};

// answer_whole writes a complete answer with Content-Length.
// body: [n] bytes; left out for HEAD, its length is still told.
void answer_whole(struct buf *out, const struct http_form *form, const struct answer *a,
                  const char *body, size_t n);

// answer_start writes the head of an answer whose length is not known (a stream).
//
// form: keep_alive is set false where only closing can end the body (HTTP/1.0), so look at it
// after. Cache-Control: no-cache is added for ANSWER_SSE.
void answer_start(struct buf *out, struct http_form *form, const struct answer *a);

// answer_chunk_open and _close frame what is put into `out` between them as one chunk; an empty one
// leaves nothing (a chunk of 0 bytes would end the body).  For HTTP/1.0 they add no framing; for
// HEAD what was put is dropped again.  mark: what _open returned.
size_t answer_chunk_open(struct buf *out, const struct http_form *form);
void answer_chunk_close(struct buf *out, const struct http_form *form, size_t mark);

// answer_end ends a stream; the connection goes on if form->keep_alive.  Without it (an error in
// the middle) the client sees the answer as broken off.
void answer_end(struct buf *out, const struct http_form *form);

// answer_error writes a complete answer with the error object, Allow and Retry-After.
void answer_error(struct buf *out, const struct http_form *form, const struct api_error *err,
                  int64_t date_unix_s);

// answer_options answers OPTIONS: 204 with Allow, and what a CORS preflight asks for.  Needs no
// key. req: the request, for a preflight's fields; NULL: none is answered.
void answer_options(struct buf *out, const struct http_form *form, const char *allow,
                    int64_t date_unix_s, const struct http_request *req);
