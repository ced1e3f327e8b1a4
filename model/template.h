// SPDX-License-Identifier: MIT
// template: messages -> prompt, in the flat grammars of model.md section 7.
// The result is a list of pieces: literals of the template (control tokens are recognised in them)
// and text from outside (never becomes a control token).  Source: model.md 7,
// tests/golden/templates.
//
// The released templates' quirks are kept, since the models were trained on what they write: in v3
// and r1 a second round of tool calls goes on as if it were the first (its content is left out, the
// finished block of outputs is not closed); distill keeps only the last system message, renders
// calls only beside a content of null and never closes a single call.  Where the grammar leaves a
// case open: outputs followed by a user turn stay unclosed, consecutive messages of one role are
// rendered one after the other, null content without calls is empty text, v3.1's block of tools
// begins with two newlines even without a system text.
#pragma once
#include "base/fault.h"
#include "model/tokenizer.h"

enum template_style {
    TEMPLATE_V3,
    TEMPLATE_R1,
    TEMPLATE_V3_0324, // also R1-0528 (the model opens <think> itself)
    TEMPLATE_V31,
    TEMPLATE_DISTILL,
    TEMPLATE_KIMI_K2,
    TEMPLATE_STYLE_COUNT
};
extern const char *const template_style_name[TEMPLATE_STYLE_COUNT]; // as the config writes them

// template_style_parse finds a style by its name; r1-0528 is v3-0324, v31 is v3.1.
// Returns 0, or -EINVAL.
int template_style_parse(const char *name, enum template_style *ret);

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_TOOL, CHAT_ROLE_COUNT };

struct chat_tool_call {
    const char *name;
    const char *arguments; // the JSON string, verbatim
};

struct chat_message {
    enum chat_role role; // developer arrives as CHAT_SYSTEM
    const char *content; // UTF-8, NUL-terminated; NULL means null
    const struct chat_tool_call *tool_calls;
    uint32_t tool_calls_n;
    bool prefix; // last assistant message only: rendered open
};

struct chat_tool {
    const char *name;
    const char *description;     // NULL: none
    const char *parameters_json; // as Python's json.dumps writes it
};

struct chat {
    const struct chat_message *messages;
    uint32_t messages_n;
    const struct chat_tool *tools;
    uint32_t tools_n;
    bool thinking;              // v31 only
    bool add_generation_prompt; // ignored when the last message has prefix
};

// template_detect recognises the style from the tokenizer's added tokens and the text of its chat
// template.  -ENOTSUP with a sentence that says to set [model] template if nothing fits.
int template_detect(const struct tokenizer *tok, enum template_style *ret, struct fault *fault);

// template_check says whether the tokenizer has the style's markers of roles and turns: without
// them a prompt would be plain text to the model.  -ENOTSUP naming the missing token.
// For styles that were set rather than detected.
int template_check(enum template_style style, const struct tokenizer *tok, struct fault *fault);

// template_encode renders and tokenizes: literals with control tokens, outside text without.
// Appends to list (BOS included; kimi-k2 has none); on failure list is as it was.
// ret_in_reasoning: true iff the prompt ends inside an open <think>.
int template_encode(enum template_style style, const struct tokenizer *tok,
                    struct tokenizer_scratch *scratch, const struct chat *chat,
                    struct token_list *list, bool *ret_in_reasoning, struct fault *fault);

// template_render returns the prompt's text, NUL-terminated, to be freed by the caller.  The text
// is for people: encoded again it could differ, where outside text looks like a control token.
int template_render(enum template_style style, const struct chat *chat, char **ret_text,
                    struct fault *fault);
