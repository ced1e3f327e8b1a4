// SPDX-License-Identifier: MIT
#include "api/chat.h"

#include "api/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Bytes of all array contents together: no more than the largest body.
#define CHAT_JOINED_MAX (1u << 30)

static int parse_role(struct body_at at, struct chat_request_message *m, struct api_error *err)
{
    static const struct {
        const char *name;
        enum chat_request_role role;
    } rows[] = {
        {"system", CHAT_REQUEST_SYSTEM}, {"developer", CHAT_REQUEST_SYSTEM},
        {"user", CHAT_REQUEST_USER},     {"assistant", CHAT_REQUEST_ASSISTANT},
        {"tool", CHAT_REQUEST_TOOL},
    };
    const char *name = NULL;

    int got = body_text(at, "role", &name, err);
    if (got < 0)
        return got;
    if (got == 0)
        return body_fault(err, API_ERROR_MISSING, at, "role", "is required");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(name, rows[i].name) != 0)
            continue;
        m->role = rows[i].role;
        return 0;
    }
    return body_fault(err, API_ERROR_FIELD, at, "role",
                      "must be system, developer, user, assistant or tool");
}

// One {"type":"text","text":"..."} of an array content.
static int parse_part(const json_t *part, const char *path, struct buf *joined,
                      struct api_error *err)
{
    struct body_at at = {part, path};
    const char *type = NULL, *text = NULL;

    if (!json_is_object(part))
        return api_error_set(err, API_ERROR_FIELD, path, "%s: must be an object", path);
    int got = body_text(at, "type", &type, err);
    if (got < 0)
        return got;
    if (!type || strcmp(type, "text") != 0)
        return body_fault(err, API_ERROR_FIELD, at, "type",
                          "this model reads text only; must be \"text\"");
    got = body_text(at, "text", &text, err);
    if (got < 0)
        return got;
    if (!text)
        return body_fault(err, API_ERROR_MISSING, at, "text", "is required");
    buf_puts(joined, text);
    return 0;
}

static int parse_parts(struct chat_request *req, struct body_at at, const json_t *parts,
                       struct chat_request_message *m, struct api_error *err)
{
    struct buf joined;
    int result = 0;

    buf_init(&joined, CHAT_JOINED_MAX);
    for (size_t i = 0; i < json_array_size(parts) && result == 0; i++) {
        char path[API_ERROR_PARAM_MAX];
        snprintf(path, sizeof(path), "%s.content[%zu]", at.path, i);
        result = parse_part(json_array_get(parts, i), path, &joined, err);
    }
    buf_putc(&joined, '\0');
    if (result == 0 && buf_error(&joined))
        result = api_error_memory(err);
    if (result) {
        buf_free(&joined);
        return result;
    }
    m->content = joined.data; // joined lives on in the request
    req->joined[req->joined_n++] = joined.data;
    return 0;
}

static int parse_content(struct chat_request *req, struct body_at at,
                         struct chat_request_message *m, struct api_error *err)
{
    const json_t *content = json_object_get(at.object, "content");

    if (json_is_string(content)) {
        m->content = json_string_value(content);
        return 0;
    }
    if (json_is_array(content))
        return parse_parts(req, at, content, m, err);
    if (content && !json_is_null(content))
        return body_fault(err, API_ERROR_FIELD, at, "content",
                          "must be a string, an array of text parts or null");
    if (m->role != CHAT_REQUEST_ASSISTANT)
        return body_fault(err, content ? API_ERROR_FIELD : API_ERROR_MISSING, at, "content",
                          "is required; only an assistant's may be null");
    return 0;
}

static int parse_call(const json_t *value, const char *path, struct chat_request_call *call,
                      struct api_error *err)
{
    struct body_at at = {value, path}, function;
    const char *type = "function";
    char function_path[API_ERROR_PARAM_MAX];

    if (!json_is_object(value))
        return api_error_set(err, API_ERROR_FIELD, path, "%s: must be an object", path);
    if (body_text(at, "type", &type, err) < 0)
        return -EINVAL;
    if (strcmp(type, "function") != 0)
        return body_fault(err, API_ERROR_FIELD, at, "type", "must be \"function\"");
    int got = body_object(at, "function", &function.object, err);
    if (got < 0)
        return got;
    if (got == 0)
        return body_fault(err, API_ERROR_MISSING, at, "function", "is required");
    snprintf(function_path, sizeof(function_path), "%.64s.function", path);
    function.path = function_path;
    if (body_text(function, "name", &call->name, err) < 0 ||
        body_text(function, "arguments", &call->arguments, err) < 0)
        return -EINVAL;
    if (!call->name || call->name[0] == '\0')
        return body_fault(err, API_ERROR_MISSING, function, "name", "is required");
    if (!call->arguments)
        return body_fault(err, API_ERROR_MISSING, function, "arguments",
                          "is required (a string of JSON)");
    return 0;
}

static int parse_calls(struct body_at at, struct chat_request_message *m, struct api_error *err)
{
    const json_t *array = NULL;

    int got = body_array(at, "tool_calls", &array, err);
    if (got <= 0)
        return got;
    size_t n = json_array_size(array);
    if (n > 0 && m->role != CHAT_REQUEST_ASSISTANT)
        return body_fault(err, API_ERROR_FIELD, at, "tool_calls", "only an assistant calls tools");
    if (n == 0)
        return 0;
    m->calls = calloc(n, sizeof(*m->calls));
    if (!m->calls)
        return api_error_memory(err);
    m->calls_n = (uint32_t)n; // BODY_VALUES_MAX bounds it
    for (size_t i = 0; i < n; i++) {
        char path[API_ERROR_PARAM_MAX];
        snprintf(path, sizeof(path), "%s.tool_calls[%zu]", at.path, i);
        got = parse_call(json_array_get(array, i), path, &m->calls[i], err);
        if (got)
            return got;
    }
    return 0;
}

static int parse_message(struct chat_request *req, uint32_t i, const json_t *value,
                         struct api_error *err)
{
    struct chat_request_message *m = &req->messages[i];
    char path[32];
    struct body_at at = {value, path};
    int got;

    snprintf(path, sizeof(path), "messages[%u]", i);
    if (!json_is_object(value))
        return api_error_set(err, API_ERROR_FIELD, path, "%s: must be an object", path);
    if ((got = parse_role(at, m, err)) || (got = parse_content(req, at, m, err)) ||
        (got = parse_calls(at, m, err)))
        return got;
    got = body_bool(at, "prefix", &m->prefix, err);
    if (got < 0)
        return got;
    if (m->prefix && (m->role != CHAT_REQUEST_ASSISTANT || i + 1 != req->messages_n))
        return body_fault(err, API_ERROR_FIELD, at, "prefix",
                          "only the last message, an assistant's, may be a prefix");
    if (m->prefix && m->calls_n > 0)
        return body_fault(err, API_ERROR_FIELD, at, "prefix",
                          "a message with tool_calls cannot be a prefix");
    return 0;
}

static int parse_messages(struct chat_request *req, struct api_error *err)
{
    struct body_at at = {req->root, ""};
    const json_t *array = NULL;

    int got = body_array(at, "messages", &array, err);
    if (got < 0)
        return got;
    if (got == 0)
        return body_fault(err, API_ERROR_MISSING, at, "messages", "is required");
    size_t n = json_array_size(array);
    if (n == 0)
        return body_fault(err, API_ERROR_FIELD, at, "messages", "must not be empty");
    req->messages = calloc(n, sizeof(*req->messages));
    req->joined = calloc(n, sizeof(*req->joined));
    if (!req->messages || !req->joined)
        return api_error_memory(err);
    req->messages_n = (uint32_t)n; // BODY_VALUES_MAX bounds it
    for (uint32_t i = 0; i < req->messages_n; i++) {
        got = parse_message(req, i, json_array_get(array, i), err);
        if (got)
            return got;
    }
    return 0;
}

static void set_thinking(struct chat_request *req, bool on)
{
    req->thinking = on ? CHAT_REQUEST_THINKING_ON : CHAT_REQUEST_THINKING_OFF;
}

// thinking: {"type": "enabled"} (DeepSeek) and reasoning_effort (OpenAI).
static int parse_thinking_type(struct body_at top, struct chat_request *req, struct api_error *err)
{
    struct body_at thinking = {NULL, "thinking"};
    const char *effort = NULL, *type = NULL;

    if (body_text(top, "reasoning_effort", &effort, err) < 0)
        return -EINVAL;
    if (effort && strcmp(effort, "none") == 0)
        set_thinking(req, false);
    int got = body_object(top, "thinking", &thinking.object, err);
    if (got > 0)
        got = body_text(thinking, "type", &type, err);
    if (got <= 0)
        return got;
    if (strcmp(type, "enabled") != 0 && strcmp(type, "disabled") != 0)
        return body_fault(err, API_ERROR_FIELD, thinking, "type",
                          "must be \"enabled\" or \"disabled\"");
    set_thinking(req, type[0] == 'e');
    return 0;
}

// The weakest wish first, so that a stronger one overwrites it.
static int parse_thinking(struct chat_request *req, struct api_error *err)
{
    struct body_at top = {req->root, ""}, kwargs = {NULL, "chat_template_kwargs"};
    bool on = false;

    if (parse_thinking_type(top, req, err))
        return -EINVAL;
    int got = body_object(top, "chat_template_kwargs", &kwargs.object, err);
    if (got <= 0)
        return got;
    got = body_bool(kwargs, "enable_thinking", &on, err);
    if (got > 0)
        set_thinking(req, on);
    if (got >= 0)
        got = body_bool(kwargs, "thinking", &on, err);
    if (got > 0)
        set_thinking(req, on);
    return got < 0 ? got : 0;
}

static int check_response_format(struct body_at top, struct api_error *err)
{
    struct body_at format = {NULL, "response_format"};
    const char *type = NULL;

    int got = body_object(top, "response_format", &format.object, err);
    if (got <= 0)
        return got;
    got = body_text(format, "type", &type, err);
    if (got < 0)
        return got;
    if (!type)
        return body_fault(err, API_ERROR_MISSING, format, "type", "is required");
    if (strcmp(type, "text") == 0)
        return 0;
    if (strcmp(type, "json_object") == 0 || strcmp(type, "json_schema") == 0)
        return body_fault(err, API_ERROR_UNSUPPORTED, top, "response_format",
                          "%s is not supported yet; only {\"type\":\"text\"} is", type);
    return body_fault(err, API_ERROR_FIELD, format, "type",
                      "must be \"text\", \"json_object\" or \"json_schema\"");
}

// Tools that the model might call are not served yet; "none" forbids it to call any.
static int check_tools(struct body_at top, struct api_error *err)
{
    static const char *const lists[] = {"tools", "functions"};
    const json_t *choice = json_object_get(top.object, "tool_choice");
    bool none = json_is_string(choice) && strcmp(json_string_value(choice), "none") == 0;
    bool automatic = json_is_string(choice) && strcmp(json_string_value(choice), "auto") == 0;

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        const json_t *array = NULL;
        int got = body_array(top, lists[i], &array, err);
        if (got < 0)
            return got;
        if (got > 0 && json_array_size(array) > 0 && !none)
            return body_fault(err, API_ERROR_UNSUPPORTED, top, lists[i],
                              "calling tools is not supported yet; leave it out or set "
                              "tool_choice to \"none\"");
    }
    if (choice && !json_is_null(choice) && !none && !automatic)
        return body_fault(err, API_ERROR_UNSUPPORTED, top, "tool_choice",
                          "calling tools is not supported yet; only \"none\" and \"auto\" are");
    return 0;
}

static int parse_logprobs(struct body_at top, struct sampling *s, struct api_error *err)
{
    int64_t top_n = 0;

    if (body_bool(top, "logprobs", &s->logprobs, err) < 0)
        return -EINVAL;
    int got = body_int(top, "top_logprobs", 0, SAMPLING_TOP_LOGPROBS, &top_n, err);
    if (got < 0)
        return got;
    if (top_n > 0 && !s->logprobs)
        return body_fault(err, API_ERROR_FIELD, top, "top_logprobs", "needs \"logprobs\": true");
    s->top_logprobs = (uint32_t)top_n;
    return 0;
}

static int parse_chat(struct chat_request *req, const struct api_limits *limits,
                      struct api_error *err)
{
    struct body_at top = {req->root, ""};
    int got;

    req->add_generation_prompt = true;
    if ((got = body_model(req->root, limits->model, true, err)) ||
        (got = parse_messages(req, err)) || (got = parse_thinking(req, err)) ||
        (got = sampling_parse(req->root, limits, UINT32_MAX, &req->sampling, err)) ||
        (got = parse_logprobs(top, &req->sampling, err)) ||
        (got = check_response_format(top, err)) || (got = check_tools(top, err)))
        return got;
    return 0;
}

static int parse_template(struct chat_request *req, const struct api_limits *limits,
                          struct api_error *err)
{
    struct body_at top = {req->root, ""};
    int got;

    req->add_generation_prompt = true;
    if ((got = body_model(req->root, limits->model, false, err)) ||
        (got = parse_messages(req, err)) || (got = parse_thinking(req, err)) ||
        (got = check_tools(top, err)))
        return got;
    got = body_bool(top, "add_generation_prompt", &req->add_generation_prompt, err);
    return got < 0 ? got : 0;
}

static int request_load(const char *body, size_t n, const struct api_limits *limits,
                        int (*parse)(struct chat_request *, const struct api_limits *,
                                     struct api_error *),
                        struct chat_request **ret, struct api_error *err)
{
    struct chat_request *req = calloc(1, sizeof(*req));
    if (!req)
        return api_error_memory(err);

    int result = body_load(body, n, &req->root, err);
    if (result == 0)
        result = parse(req, limits, err);
    if (result) {
        chat_request_free(&req);
        return result;
    }
    *ret = req;
    return 0;
}

int chat_request_parse(const char *body, size_t n, const struct api_limits *limits,
                       struct chat_request **ret, struct api_error *err)
{
    return request_load(body, n, limits, parse_chat, ret, err);
}

int chat_template_parse(const char *body, size_t n, const struct api_limits *limits,
                        struct chat_request **ret, struct api_error *err)
{
    return request_load(body, n, limits, parse_template, ret, err);
}

void chat_request_free(struct chat_request **preq)
{
    struct chat_request *req = *preq;

    if (!req)
        return;
    for (uint32_t i = 0; i < req->joined_n; i++)
        free(req->joined[i]);
    for (uint32_t i = 0; i < req->messages_n; i++)
        free(req->messages[i].calls);
    free(req->joined);
    free(req->messages);
    sampling_free(&req->sampling);
    json_decref(req->root);
    free(req);
    *preq = NULL;
}
