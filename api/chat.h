// SPDX-License-Identifier: MIT
// chat: the body of /v1/chat/completions and /apply-template -> a request whose every field was
// checked (model.md 9.1).  Unknown fields are ignored.
//
// Not served yet and refused with 400 naming the field: response_format other than "text"; tools
// and functions unless tool_choice is "none" (then they are ignored).  Past tool calls and tool
// results in `messages` are served: the templates render them. Owner: whoever holds the request;
// all text points into it; it is never changed after parsing.
#pragma once
#include "api/sampling.h"

enum chat_request_role {
    CHAT_REQUEST_SYSTEM, // system and developer
    CHAT_REQUEST_USER,
    CHAT_REQUEST_ASSISTANT,
    CHAT_REQUEST_TOOL,
    CHAT_REQUEST_ROLE_COUNT
};

struct chat_request_call {
    const char *name;      // not empty
    const char *arguments; // the JSON string, verbatim
};

struct chat_request_message {
    enum chat_request_role role;
    const char *content; // UTF-8, NUL-terminated; array parts joined without separator; NULL: null
    struct chat_request_call *calls; // [calls_n]
    uint32_t calls_n;
    bool prefix; // only true for the last message, an assistant's
};

enum chat_request_thinking {
    CHAT_REQUEST_THINKING_DEFAULT, // nothing was said: what the template does by itself
    CHAT_REQUEST_THINKING_ON,
    CHAT_REQUEST_THINKING_OFF
};

struct chat_request {
    struct chat_request_message *messages; // [messages_n], at least one
    uint32_t messages_n;
    // chat_template_kwargs.thinking, .enable_thinking, thinking.type, reasoning_effort "none": the
    // first of these that is given counts.
    enum chat_request_thinking thinking;
    bool add_generation_prompt; // true unless /apply-template says false
    struct sampling sampling;

    // private
    json_t *root;
    char **joined; // [joined_n], texts of array contents
    uint32_t joined_n;
};

// chat_request_parse reads the body of /v1/chat/completions.
// body: [n] bytes, not kept.  Returns 0, or -EINVAL/-ENOMEM with the error filled in.
int chat_request_parse(const char *body, size_t n, const struct api_limits *limits,
                       struct chat_request **ret, struct api_error *err);

// chat_template_parse reads the body of /apply-template: `messages`, thinking fields and
// add_generation_prompt; `model` may be absent; sampling holds defaults.
int chat_template_parse(const char *body, size_t n, const struct api_limits *limits,
                        struct chat_request **ret, struct api_error *err);

void chat_request_free(struct chat_request **req); // accepts NULL, leaves NULL
