// SPDX-License-Identifier: MIT
#include "api/route.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

const char *const route_name[ROUTE_COUNT] = {
    [ROUTE_CHAT] = "chat",
    [ROUTE_COMPLETION] = "completion",
    [ROUTE_MODELS] = "models",
    [ROUTE_MODEL] = "model",
    [ROUTE_HEALTH] = "health",
    [ROUTE_METRICS] = "metrics",
    [ROUTE_TOKENIZE] = "tokenize",
    [ROUTE_DETOKENIZE] = "detokenize",
    [ROUTE_APPLY_TEMPLATE] = "apply-template",
    [ROUTE_OPTIONS] = "options",
};

#define ALLOW_GET  "GET, HEAD, OPTIONS"
#define ALLOW_POST "POST, OPTIONS"

// Every path has one method besides OPTIONS; GET includes HEAD.  Paths without /v1 and with /beta
// are those of DeepSeek's own API.
static const struct route_row {
    const char *path; // a '/' at its end: the rest of the path is the argument, not empty
    enum route route;
    bool post;
    bool open;       // no key anywhere
    bool local_open; // no key on the Unix socket
} route_rows[] = {
    // clang-format off
    {"/v1/chat/completions", ROUTE_CHAT,           true,  false, false},
    {"/chat/completions",    ROUTE_CHAT,           true,  false, false},
    {"/v1/completions",      ROUTE_COMPLETION,     true,  false, false},
    {"/beta/completions",    ROUTE_COMPLETION,     true,  false, false},
    {"/v1/models",           ROUTE_MODELS,         false, false, false},
    {"/models",              ROUTE_MODELS,         false, false, false},
    {"/v1/models/",          ROUTE_MODEL,          false, false, false},
    {"/models/",             ROUTE_MODEL,          false, false, false},
    {"/health",              ROUTE_HEALTH,         false, true,  true},
    {"/v1/health",           ROUTE_HEALTH,         false, true,  true},
    {"/metrics",             ROUTE_METRICS,        false, false, true},
    {"/tokenize",            ROUTE_TOKENIZE,       true,  false, false},
    {"/detokenize",          ROUTE_DETOKENIZE,     true,  false, false},
    {"/apply-template",      ROUTE_APPLY_TEMPLATE, true,  false, false},
    // clang-format on
};

// route_row_arg returns what the path has behind the row's, "" for an exact match, NULL for none.
static const char *route_row_arg(const struct route_row *row, const char *path)
{
    size_t n = strlen(row->path);

    if (strncmp(path, row->path, n) != 0)
        return NULL;
    if (row->path[n - 1] == '/')
        return path[n] != '\0' ? path + n : NULL;
    return path[n] == '\0' ? path + n : NULL;
}

static int route_row_match(const struct route_row *row, const char *arg,
                           const struct http_request *req, struct route_match *ret,
                           struct api_error *err)
{
    const char *allow = row->post ? ALLOW_POST : ALLOW_GET;
    bool get = req->method == HTTP_GET || req->method == HTTP_HEAD;

    if (req->method == HTTP_OPTIONS) {
        *ret = (struct route_match){ROUTE_OPTIONS, "", allow, true, true};
        return 0;
    }
    if (row->post ? req->method != HTTP_POST : !get) {
        api_error_set(err, API_ERROR_METHOD, NULL, "%s does not take %s; it takes %s", row->path,
                      http_method_str((enum http_method)req->method), allow);
        err->allow = allow;
        return -EINVAL;
    }
    if (row->post && !http_request_json(req))
        return api_error_set(err, API_ERROR_CONTENT_TYPE, NULL,
                             "the body must be JSON: send Content-Type: application/json");
    *ret = (struct route_match){row->route, arg, allow, row->open, row->local_open};
    return 0;
}

int route_find(const struct http_request *req, struct route_match *ret, struct api_error *err)
{
    const char *path = http_request_path(req);

    for (size_t i = 0; i < sizeof(route_rows) / sizeof(route_rows[0]); i++) {
        const char *arg = route_row_arg(&route_rows[i], path);
        if (arg)
            return route_row_match(&route_rows[i], arg, req, ret, err);
    }
    if (strcmp(path, "*") == 0) { // only OPTIONS gets here with it
        *ret = (struct route_match){ROUTE_OPTIONS, "", "GET, HEAD, POST, OPTIONS", true, true};
        return 0;
    }
    return api_error_set(err, API_ERROR_PATH, NULL, "there is nothing at %.200s", path);
}
