// SPDX-License-Identifier: MIT
#include "api/error.h"

#include "api/utf8.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define INVALID "invalid_request_error"

static const struct error_row {
    uint16_t status;
    uint16_t retry_after_s;
    const char *type;
    const char *code;
} error_rows[] = {
    // clang-format off
    [API_ERROR_FIELD]           = {400, 0, INVALID, NULL},
    [API_ERROR_MISSING]         = {400, 0, INVALID, "missing_required_parameter"},
    [API_ERROR_UNSUPPORTED]     = {400, 0, INVALID, "unsupported_parameter"},
    [API_ERROR_JSON]            = {400, 0, INVALID, "invalid_json"},
    [API_ERROR_CONTEXT]         = {400, 0, INVALID, "context_length_exceeded"},
    [API_ERROR_HTTP]            = {400, 0, INVALID, "invalid_http"},
    [API_ERROR_KEY]             = {401, 0, "authentication_error", "invalid_api_key"},
    [API_ERROR_HOST]            = {403, 0, INVALID, "host_not_allowed"},
    [API_ERROR_MODEL]           = {404, 0, INVALID, "model_not_found"},
    [API_ERROR_PATH]            = {404, 0, INVALID, "not_found"},
    [API_ERROR_METHOD]          = {405, 0, INVALID, "method_not_allowed"},
    [API_ERROR_TIMEOUT]         = {408, 0, INVALID, "request_timeout"},
    [API_ERROR_BODY_BYTES]      = {413, 0, INVALID, "body_too_large"},
    [API_ERROR_TARGET_BYTES]    = {414, 0, INVALID, "target_too_long"},
    [API_ERROR_CONTENT_TYPE]    = {415, 0, INVALID, "unsupported_media_type"},
    [API_ERROR_EXPECTATION]     = {417, 0, INVALID, "expectation_failed"},
    [API_ERROR_RATE]            = {429, 1, "rate_limit_error", "rate_limit_exceeded"},
    [API_ERROR_HEADER_BYTES]    = {431, 0, INVALID, "headers_too_large"},
    [API_ERROR_INTERNAL]        = {500, 0, "server_error", "internal_error"},
    [API_ERROR_NOT_IMPLEMENTED] = {501, 0, INVALID, "not_implemented"},
    [API_ERROR_LOADING]         = {503, 1, "unavailable_error", "loading"},
    [API_ERROR_DRAINING]        = {503, 5, "unavailable_error", "draining"},
    [API_ERROR_BUSY]            = {503, 1, "unavailable_error", "overloaded"},
    [API_ERROR_MEMORY]          = {503, 1, "unavailable_error", "out_of_memory"},
    [API_ERROR_DRIVE]           = {503, 5, "unavailable_error", "drive_failed"},
    [API_ERROR_VERSION]         = {505, 0, INVALID, "http_version_not_supported"},
    // clang-format on
};
_Static_assert(sizeof(error_rows) / sizeof(error_rows[0]) == API_ERROR_KIND_COUNT,
               "every kind has its row");

int api_error_set(struct api_error *err, enum api_error_kind kind, const char *param,
                  const char *format, ...)
{
    assert(kind < API_ERROR_KIND_COUNT);
    *err = (struct api_error){.kind = kind,
                              .status = error_rows[kind].status,
                              .retry_after_s = error_rows[kind].retry_after_s};
    if (param)
        snprintf(err->param, sizeof(err->param), "%s", param);

    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    if (n >= (int)sizeof(err->message)) {
        size_t whole = utf8_prefix(err->message, sizeof(err->message) - 1);
        err->message[whole] = '\0';
    }
    return kind == API_ERROR_MEMORY ? -ENOMEM : -EINVAL;
}

int api_error_context(struct api_error *err, uint64_t prompt_tokens, uint64_t context_tokens)
{
    return api_error_set(err, API_ERROR_CONTEXT, NULL,
                         "the prompt is %llu tokens long, but the context holds %llu and at least "
                         "one of them must be left for the answer",
                         (unsigned long long)prompt_tokens, (unsigned long long)context_tokens);
}

int api_error_memory(struct api_error *err)
{
    return api_error_set(err, API_ERROR_MEMORY, NULL,
                         "the server has no memory for this request now; try again");
}

const char *api_error_type(const struct api_error *err)
{
    return error_rows[err->kind].type;
}

const char *api_error_code(const struct api_error *err)
{
    return error_rows[err->kind].code;
}

void api_error_json(struct buf *out, const struct api_error *err)
{
    buf_puts(out, "{\"error\":{\"message\":");
    buf_json_text(out, err->message);
    buf_puts(out, ",\"type\":");
    buf_json_text(out, api_error_type(err));
    buf_puts(out, ",\"param\":");
    buf_json_text(out, err->param[0] ? err->param : NULL);
    buf_puts(out, ",\"code\":");
    buf_json_text(out, api_error_code(err));
    buf_puts(out, "}}");
}
