// SPDX-License-Identifier: MIT
// route: the one table of paths and methods.  An unknown path is 404, a known one with another
// method 405 with Allow; a POST without application/json is 415.
// Thread: any.  Allocates nothing.
#pragma once
#include "api/error.h"
#include "api/http.h"

enum route {
    ROUTE_CHAT,           // POST /v1/chat/completions       api/chat.h
    ROUTE_COMPLETION,     // POST /v1/completions            api/completion.h
    ROUTE_MODELS,         // GET  /v1/models                 api/models.h
    ROUTE_MODEL,          // GET  /v1/models/{id}            api/models.h; match.arg is the id
    ROUTE_HEALTH,         // GET  /health, /v1/health        api/models.h
    ROUTE_METRICS,        // GET  /metrics                   api/metrics.h
    ROUTE_TOKENIZE,       // POST /tokenize                  api/tokenize.h
    ROUTE_DETOKENIZE,     // POST /detokenize                api/tokenize.h
    ROUTE_APPLY_TEMPLATE, // POST /apply-template            api/chat.h (chat_template_parse)
    ROUTE_OPTIONS,        // OPTIONS of any known path or *  answer_options(match.allow)
    ROUTE_COUNT
};

extern const char *const route_name[ROUTE_COUNT]; // "chat", ... for logs and metrics

struct route_match {
    enum route route;
    const char *arg;   // ROUTE_MODEL: decoded id, part of the request; else ""
    const char *allow; // methods of this path, as Allow writes them; static
    bool open;         // needs no key even on a network port (/health, OPTIONS)
    bool local_open;   // needs no key on the Unix socket (also /metrics)
};

// route_find judges method, path and content type of a request whose head is complete.
// -EINVAL with 404, 405 or 415; *ret untouched then.
int route_find(const struct http_request *req, struct route_match *ret, struct api_error *err);
