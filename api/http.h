// SPDX-License-Identifier: MIT
// http: bytes of one connection -> requests, HTTP/1.0 and 1.1, strictly (RFC 9110, 9112).
//
// The head is parsed by http_parser and then judged here; bodies (Content-Length and chunked) are
// read here, because Debian's http_parser is built lenient about chunk framing.
// One reader a connection; it parses one request at a time and never reads past its end: what
// follows (pipelining) stays with the caller until http_reader_next.
// It knows no routes, no sockets and no clock: time-outs are the caller's (http_reader_state).
// Owner: the thread of the connection.  See api/route.h, api/answer.h next.
//
// The loop of a connection:
//
//     while (in.n > 0 && !busy) {
//         size_t used;
//         switch (http_reader_feed(r, in.data, in.n, &used)) {   // then buf_drop(&in, used)
//         case HTTP_EVENT_MORE:    continue;                     // everything was taken
//         case HTTP_EVENT_HEAD:    // route and key can be judged; may call http_reader_refuse.
//                                  // if (r->req.expect_continue) send HTTP_CONTINUE now
//                                  continue;
//         case HTTP_EVENT_REQUEST: // handle r->req; when its answer is out, http_reader_next(r)
//         case HTTP_EVENT_REFUSED: // answer_error(out, &r->req.form, &r->error, ...), then, if
//                                  // !r->req.form.keep_alive, close; else http_reader_next(r)
//         }
//     }
//
// HTTP_EVENT_HEAD and HTTP_EVENT_REQUEST come in two calls even for a request without a body: feed
// again (also with 0 bytes) after HEAD.
#pragma once
#include "api/buf.h"
#include "api/error.h"

#include <http_parser.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_FIELDS_MAX       128u        // more: 431
#define HTTP_HEAD_BYTES_MAX   (64u << 10) // field lines of head and trailer together; more: 431
#define HTTP_TARGET_BYTES_MAX (8u << 10)  // more: 414
#define HTTP_BODY_BYTES_MAX   (8u << 20)  // default of [limits] body_bytes_max; more: 413
#define HTTP_PATH_MAX         HTTP_TARGET_BYTES_MAX

#define HTTP_CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

enum http_event {
    HTTP_EVENT_MORE,    // all bytes were taken, the request is not complete
    HTTP_EVENT_HEAD,    // the head is complete; method, path and fields may be read
    HTTP_EVENT_REQUEST, // the whole request is there
    HTTP_EVENT_REFUSED  // reader->error says why; req.form.keep_alive says what then
};

// Where the reader stands, for time-outs: IDLE -> idle_timeout, HEAD -> header_timeout, BODY -> the
// caller's choice.
enum http_state {
    HTTP_STATE_IDLE, // no byte of the next request yet
    HTTP_STATE_HEAD,
    HTTP_STATE_BODY, // from HTTP_EVENT_HEAD on
    HTTP_STATE_DONE, // HTTP_EVENT_REQUEST or _REFUSED was given; http_reader_next resets
};

// What an answer must know of its request; copy it, it points at most into the struct cors.
struct http_form {
    bool http10;     // no chunks; a body without length ends by closing
    bool head;       // HEAD: no body is sent
    bool keep_alive; // the connection stays usable after the answer
    bool cors_vary;  // whether a page may read the answer hangs on its Origin; by cors_apply
    const char *cors_origin; // whose page may read the answer, "*" or an origin; NULL: none
};

struct http_field { // offsets into http_request.text
    uint32_t name, name_n, value, value_n;
};

// One request.  Valid until http_reader_next; all text is in `text` and NUL-terminated there.  One
// that was refused before its head was complete has no fields.
struct http_request {
    struct http_form form;
    uint8_t method;       // enum http_method of http_parser.h: HTTP_GET, HTTP_POST, ...
    bool expect_continue; // the client waits for HTTP_CONTINUE before it sends the body
    bool has_body;        // Content-Length above 0 or chunked
    uint32_t path;        // offset of the decoded path, without query, "*" for OPTIONS *; NULs and
                          // invalid UTF-8 were refused
    uint32_t query;       // offset of the raw query without '?', "" if there is none
    uint32_t fields_n;
    struct http_field fields[HTTP_FIELDS_MAX];
    struct buf text; // target, path and fields
    struct buf
        body; // [body.n] bytes, without coding; the caller may take it (swap in an empty one)
};

const char *http_request_path(const struct http_request *req);
const char *http_request_query(const struct http_request *req);
// http_request_field returns the value of the first field of that name (case does not matter),
// without white space around it, or NULL.
const char *http_request_field(const struct http_request *req, const char *name);
// http_request_key returns the key of `Authorization: Bearer KEY` (or of `x-api-key`), or NULL.
const char *http_request_key(const struct http_request *req);
// http_request_host_local says whether Host, or what an absolute target has in its place, is a
// numeric address or localhost; true without either.  A web page whose name was made to resolve to
// 127.0.0.1 (DNS rebinding) comes with that name.
bool http_request_host_local(const struct http_request *req);
// http_request_json says whether Content-Type is application/json with no other charset than utf-8.
bool http_request_json(const struct http_request *req);

struct http_reader {
    enum http_state state;
    struct http_request req;
    struct api_error error; // after HTTP_EVENT_REFUSED or http_reader_refuse

    // private
    http_parser parser;
    size_t body_max;
    uint64_t body_seen; // bytes of the body so far, kept or thrown away
    uint64_t body_left; // of the body, or of this chunk, still to come
    size_t head_bytes;  // of field lines so far, trailer and chunk extensions included
    uint32_t target_n;  // bytes of the target, at the beginning of req.text
    uint32_t line_n;    // bytes of the request line so far, without its CRLF
    char line_end[8];   // the last of them: "HTTP/1.1"
    bool line_done;
    uint8_t chunk_state; // enum chunk_state of http.c
    uint8_t size_digits; // of this chunk's size
    bool chunked, in_value, head_done;
    bool refused; // error is set; the body is thrown away
    bool fatal;   // ... and the connection cannot go on
};

// http_reader_init prepares a reader for a new connection.  The reader must not move in memory.
// body_max: bytes of a body, HTTP_BODY_BYTES_MAX by default.
void http_reader_init(struct http_reader *r, size_t body_max);
void http_reader_fini(struct http_reader *r);

// http_reader_feed takes bytes up to the next event.
//
// bytes: [n]; not kept, nothing behind *ret_used was looked at.
// ret_used: how many were taken; 0..n.
// The same bytes give the same requests however they are cut.  Running out of memory is
// HTTP_EVENT_REFUSED with 503.  In HTTP_STATE_DONE it takes nothing and returns HTTP_EVENT_MORE.
enum http_event http_reader_feed(struct http_reader *r, const char *bytes, size_t n,
                                 size_t *ret_used);

// http_reader_refuse, called between HTTP_EVENT_HEAD and the next feed: the request will be
// answered with this error.  Its body is read and thrown away, then HTTP_EVENT_REFUSED comes and
// the connection stays usable.  If the client waits for 100 Continue, HTTP_EVENT_REFUSED comes at
// the next feed, without the body, and the connection closes.
void http_reader_refuse(struct http_reader *r, const struct api_error *err);

// http_reader_next forgets the request and makes ready for the next one on the connection.  Only
// after HTTP_EVENT_REQUEST or HTTP_EVENT_REFUSED, and if req.form.keep_alive.  Keeps up to 64 KiB
// of memory for the next request.
void http_reader_next(struct http_reader *r);

// http_reader_eof says whether the peer may stop sending here: true between requests (and while one
// is being answered), false in the middle of one.
bool http_reader_eof(const struct http_reader *r);
