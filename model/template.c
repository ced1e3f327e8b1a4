// SPDX-License-Identifier: MIT
#include "model/template.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const template_style_name[TEMPLATE_STYLE_COUNT] = {
    [TEMPLATE_V3] = "v3",    [TEMPLATE_R1] = "r1",           [TEMPLATE_V3_0324] = "v3-0324",
    [TEMPLATE_V31] = "v3.1", [TEMPLATE_DISTILL] = "distill", [TEMPLATE_KIMI_K2] = "kimi-k2",
};

int template_style_parse(const char *name, enum template_style *ret)
{
    static const struct {
        const char *name;
        enum template_style style;
    } aliases[] = {{"r1-0528", TEMPLATE_V3_0324}, {"v31", TEMPLATE_V31}};

    for (unsigned i = 0; i < TEMPLATE_STYLE_COUNT; i++) {
        if (strcmp(name, template_style_name[i]) == 0) {
            *ret = (enum template_style)i;
            return 0;
        }
    }
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
        if (strcmp(name, aliases[i].name) == 0) {
            *ret = aliases[i].style;
            return 0;
        }
    }
    return -EINVAL;
}

// ---- literals ----

// The bars are U+FF5C, the gaps U+2581.
static const char BOS[] = "<｜begin▁of▁sentence｜>", EOS[] = "<｜end▁of▁sentence｜>";
static const char USER[] = "<｜User｜>", ASSISTANT[] = "<｜Assistant｜>";
static const char THINK[] = "<think>", THINK_END[] = "</think>";
static const char CALLS[] = "<｜tool▁calls▁begin｜>", CALLS_END[] = "<｜tool▁calls▁end｜>";
static const char CALL[] = "<｜tool▁call▁begin｜>", CALL_END[] = "<｜tool▁call▁end｜>";
static const char OUTPUTS[] = "<｜tool▁outputs▁begin｜>", OUTPUTS_END[] = "<｜tool▁outputs▁end｜>";
static const char OUTPUT[] = "<｜tool▁output▁begin｜>", OUTPUT_END[] = "<｜tool▁output▁end｜>";
static const char SEP[] = "<｜tool▁sep｜>";
static const char KIMI_SYSTEM[] = "<|im_system|>", KIMI_MIDDLE[] = "<|im_middle|>";
static const char KIMI_USER[] = "<|im_user|>", KIMI_ASSISTANT[] = "<|im_assistant|>";
static const char KIMI_END[] = "<|im_end|>";

// ---- the list of pieces ----

struct prompt {
    struct token_part *parts;
    size_t n, cap;
    bool in_reasoning; // the last <think> is open
    bool failed;       // out of memory; checked once at the end
    char **owned;      // texts made here
    size_t owned_n;
};

static void prompt_free(struct prompt *p)
{
    for (size_t i = 0; i < p->owned_n; i++)
        free(p->owned[i]);
    free(p->owned);
    free(p->parts);
}

static void put(struct prompt *p, const char *text, size_t len, bool literal)
{
    if (len == 0)
        return;
    if (p->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 64;
        struct token_part *grown = reallocarray(p->parts, cap, sizeof(*grown));
        if (!grown) {
            p->failed = true;
            return;
        }
        p->parts = grown;
        p->cap = cap;
    }
    p->parts[p->n++] = (struct token_part){text, len, literal};
}

// A literal of the template: control tokens in it are meant.
static void lit(struct prompt *p, const char *literal)
{
    if (literal == THINK)
        p->in_reasoning = true;
    else if (literal == THINK_END || literal == ASSISTANT || literal == USER)
        p->in_reasoning = false;
    put(p, literal, strlen(literal), true);
}

// Text from outside; NULL is empty.
static void text(struct prompt *p, const char *outside)
{
    if (outside)
        put(p, outside, strlen(outside), false);
}

// Takes ownership of made, which may be NULL for want of memory.
static void text_owned(struct prompt *p, char *made)
{
    char **grown = made ? reallocarray(p->owned, p->owned_n + 1, sizeof(*grown)) : NULL;
    if (!grown) {
        p->failed = true;
        free(made);
        return;
    }
    p->owned = grown;
    p->owned[p->owned_n++] = made;
    text(p, made);
}

// Takes the end marker off again, so that a prefix message goes on.
static void open_end(struct prompt *p, const char *end)
{
    if (p->n && p->parts[p->n - 1].text == end)
        p->n--;
}

// ---- shared by the DeepSeek styles ----

// What follows the last </think>, or all of it.
static const char *after_last_think(const char *content)
{
    const char *rest = content;
    for (const char *at = content; at && (at = strstr(at, THINK_END));)
        rest = at += strlen(THINK_END);
    return rest;
}

// What follows the first </think>, or all of it.
static const char *after_first_think(const char *content)
{
    const char *at = content ? strstr(content, THINK_END) : NULL;
    return at ? at + strlen(THINK_END) : content;
}

static void render_system(struct prompt *p, const struct chat *chat, bool last_only)
{
    const struct chat_message *last = NULL;

    lit(p, BOS);
    for (uint32_t i = 0; i < chat->messages_n; i++) {
        const struct chat_message *m = &chat->messages[i];
        if (m->role != CHAT_SYSTEM)
            continue;
        if (!last_only) {
            if (last)
                lit(p, "\n\n");
            text(p, m->content);
        }
        last = m;
    }
    if (last_only && last)
        text(p, last->content);
}

static void render_fenced_call(struct prompt *p, const struct chat_tool_call *call)
{
    lit(p, CALL);
    lit(p, "function");
    lit(p, SEP);
    text(p, call->name);
    lit(p, "\n```json\n");
    text(p, call->arguments);
    lit(p, "\n```");
    lit(p, CALL_END);
}

static void render_output(struct prompt *p, const char *before, const char *content)
{
    lit(p, before);
    lit(p, OUTPUT);
    text(p, content);
    lit(p, OUTPUT_END);
}

static bool generates(const struct chat *chat)
{
    return chat->add_generation_prompt &&
           !(chat->messages_n && chat->messages[chat->messages_n - 1].prefix &&
             chat->messages[chat->messages_n - 1].role == CHAT_ASSISTANT);
}

// ---- v3, r1, distill (7.1, 7.2) ----

// The released templates' flags; first_* are never reset there, and here neither.
struct old_state {
    enum template_style style;
    bool first_call, first_output, after_tool;
};

static void old_calls(struct prompt *p, struct old_state *s, const struct chat_message *m)
{
    for (uint32_t i = 0; i < m->tool_calls_n; i++) {
        if (s->first_call) {
            lit(p, ASSISTANT);
            text(p, m->content);
            lit(p, CALLS);
            render_fenced_call(p, &m->tool_calls[i]);
            s->first_call = false;
            continue;
        }
        lit(p, "\n");
        render_fenced_call(p, &m->tool_calls[i]);
        if (s->style == TEMPLATE_DISTILL) {
            lit(p, CALLS_END);
            lit(p, EOS);
        }
    }
    if (s->style != TEMPLATE_DISTILL) {
        lit(p, CALLS_END);
        lit(p, EOS);
    }
}

static void old_assistant(struct prompt *p, struct old_state *s, const struct chat_message *m)
{
    bool calls = m->tool_calls_n && !(s->style == TEMPLATE_DISTILL && m->content);

    if (calls) {
        old_calls(p, s, m);
    } else if (s->after_tool) {
        lit(p, OUTPUTS_END);
        text(p, m->content);
        lit(p, EOS);
    } else {
        lit(p, ASSISTANT);
        text(p, after_last_think(m->content));
        lit(p, EOS);
    }
    s->after_tool = false;
}

static void old_message(struct prompt *p, struct old_state *s, const struct chat_message *m)
{
    switch (m->role) {
    case CHAT_USER:
        lit(p, USER);
        text(p, m->content);
        s->after_tool = false;
        break;
    case CHAT_TOOL:
        render_output(p,
                      s->first_output           ? OUTPUTS
                      : s->style == TEMPLATE_V3 ? ""
                                                : "\n",
                      m->content);
        s->first_output = false;
        s->after_tool = true;
        break;
    case CHAT_ASSISTANT:
        old_assistant(p, s, m);
        break;
    case CHAT_SYSTEM: // stands at the front already
    case CHAT_ROLE_COUNT:
        break;
    }
}

static void render_old(struct prompt *p, const struct chat *chat, enum template_style style)
{
    struct old_state s = {style, true, true, false};

    render_system(p, chat, style == TEMPLATE_DISTILL);
    for (uint32_t i = 0; i < chat->messages_n; i++)
        old_message(p, &s, &chat->messages[i]);
    if (s.after_tool) {
        lit(p, OUTPUTS_END);
    } else if (generates(chat)) {
        lit(p, ASSISTANT);
        if (style != TEMPLATE_V3) {
            lit(p, THINK);
            lit(p, "\n");
        }
    }
}

static void render_v3(struct prompt *p, const struct chat *chat)
{
    render_old(p, chat, TEMPLATE_V3);
}

static void render_r1(struct prompt *p, const struct chat *chat)
{
    render_old(p, chat, TEMPLATE_R1);
}

static void render_distill(struct prompt *p, const struct chat *chat)
{
    render_old(p, chat, TEMPLATE_DISTILL);
}

// ---- v3-0324 and r1-0528 (7.3) ----

static void assistant_0324(struct prompt *p, const struct chat_message *m, bool after_tool)
{
    if (after_tool)
        lit(p, OUTPUTS_END);
    if (m->tool_calls_n) {
        text(p, m->content);
        lit(p, CALLS);
        for (uint32_t i = 0; i < m->tool_calls_n; i++) {
            lit(p, i ? "\n" : "");
            render_fenced_call(p, &m->tool_calls[i]);
        }
        lit(p, CALLS_END);
    } else {
        text(p, after_tool ? m->content : after_last_think(m->content));
    }
    lit(p, EOS);
}

static void render_0324(struct prompt *p, const struct chat *chat)
{
    bool after_user = false, after_tool = false, first_output = true;

    render_system(p, chat, false);
    for (uint32_t i = 0; i < chat->messages_n; i++) {
        const struct chat_message *m = &chat->messages[i];
        if (m->role == CHAT_SYSTEM)
            continue;
        if (m->role == CHAT_USER) {
            lit(p, USER);
            text(p, m->content);
            lit(p, ASSISTANT);
        } else if (m->role == CHAT_TOOL) {
            render_output(p, first_output ? OUTPUTS : "\n", m->content);
            first_output = false;
        } else {
            assistant_0324(p, m, after_tool);
            first_output = first_output || after_tool || m->tool_calls_n;
        }
        after_user = m->role == CHAT_USER;
        after_tool = m->role == CHAT_TOOL;
    }
    if (after_tool)
        lit(p, OUTPUTS_END);
    else if (generates(chat) && !after_user)
        lit(p, ASSISTANT);
}

// ---- v3.1 (7.4) ----

static void tools_v31(struct prompt *p, const struct chat *chat)
{
    if (chat->tools_n == 0)
        return;
    lit(p, "\n\n## Tools\nYou have access to the following tools:\n\n");
    for (uint32_t i = 0; i < chat->tools_n; i++) {
        const struct chat_tool *tool = &chat->tools[i];
        lit(p, "### ");
        text(p, tool->name);
        lit(p, "\nDescription: ");
        text(p, tool->description);
        lit(p, "\n\nParameters: ");
        text(p, tool->parameters_json);
        lit(p, "\n\n");
    }
    lit(p, "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
           "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>"
           "tool_call_arguments<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>\n\n"
           "Where:\n"
           "- `tool_call_name` must be an exact match to one of the available tools\n"
           "- `tool_call_arguments` must be valid JSON that strictly follows the tool's "
           "Parameters Schema\n"
           "- For multiple tool calls, chain them directly without separators or spaces\n");
}

static void assistant_v31(struct prompt *p, const struct chat_message *m, enum chat_role before,
                          bool thinking)
{
    if (before == CHAT_USER) {
        lit(p, ASSISTANT);
        lit(p, m->prefix && thinking && !m->tool_calls_n ? THINK : THINK_END);
    }
    if (m->tool_calls_n) {
        text(p, m->content);
        lit(p, CALLS);
        for (uint32_t i = 0; i < m->tool_calls_n; i++) {
            lit(p, CALL);
            text(p, m->tool_calls[i].name);
            lit(p, SEP);
            text(p, m->tool_calls[i].arguments);
            lit(p, CALL_END);
        }
        lit(p, CALLS_END);
    } else {
        text(p, before == CHAT_TOOL ? m->content : after_first_think(m->content));
    }
    lit(p, EOS);
}

static void render_v31(struct prompt *p, const struct chat *chat)
{
    enum chat_role before = CHAT_SYSTEM; // of the last message that is not a system message

    render_system(p, chat, false);
    tools_v31(p, chat);
    for (uint32_t i = 0; i < chat->messages_n; i++) {
        const struct chat_message *m = &chat->messages[i];
        if (m->role == CHAT_SYSTEM)
            continue;
        if (m->role == CHAT_USER) {
            lit(p, USER);
            text(p, m->content);
        } else if (m->role == CHAT_TOOL) {
            render_output(p, "", m->content);
        } else {
            assistant_v31(p, m, before, chat->thinking);
        }
        before = m->role;
    }
    if (generates(chat) && before == CHAT_USER) {
        lit(p, ASSISTANT);
        lit(p, chat->thinking ? THINK : THINK_END);
    }
}

// ---- kimi-k2 ----

// Returns text as a JSON string with its quotes, as json.dumps(ensure_ascii=False) writes it.
static char *json_quoted(const char *outside)
{
    char *out = NULL;
    size_t len;

    FILE *mem = open_memstream(&out, &len);
    if (!mem)
        return NULL;
    fputc('"', mem);
    for (const char *c = outside ? outside : ""; *c; c++) {
        static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
        const char *escape = strchr(from, *c);
        if (escape)
            fprintf(mem, "\\%c", to[escape - from]);
        else if ((unsigned char)*c < 0x20)
            fprintf(mem, "\\u%04x", (unsigned)*c);
        else
            fputc(*c, mem);
    }
    fputc('"', mem);
    if (fclose(mem) != 0) {
        free(out);
        return NULL;
    }
    return out;
}

static void tools_kimi(struct prompt *p, const struct chat *chat)
{
    if (chat->tools_n == 0)
        return;
    lit(p, KIMI_SYSTEM);
    lit(p, "tool_declare");
    lit(p, KIMI_MIDDLE);
    for (uint32_t i = 0; i < chat->tools_n; i++) {
        const struct chat_tool *tool = &chat->tools[i];
        lit(p, i ? ", " : "[");
        lit(p, "{\"type\": \"function\", \"function\": {\"name\": ");
        text_owned(p, json_quoted(tool->name));
        if (tool->description) {
            lit(p, ", \"description\": ");
            text_owned(p, json_quoted(tool->description));
        }
        if (tool->parameters_json) {
            lit(p, ", \"parameters\": ");
            text(p, tool->parameters_json);
        }
        lit(p, "}}");
    }
    lit(p, "]");
    lit(p, KIMI_END);
}

// Returns the n-th tool call of the chat, counted over all messages, or NULL.
static const struct chat_tool_call *call_at(const struct chat *chat, uint32_t n)
{
    for (uint32_t i = 0; i < chat->messages_n; i++) {
        const struct chat_message *m = &chat->messages[i];
        if (m->role != CHAT_ASSISTANT)
            continue;
        if (n < m->tool_calls_n)
            return &m->tool_calls[n];
        n -= m->tool_calls_n;
    }
    return NULL;
}

// Calls have no id here: Kimi's own form is functions.NAME:NUMBER, counted through the chat.
static void call_id(struct prompt *p, const struct chat_tool_call *call, uint32_t n)
{
    char number[16];

    snprintf(number, sizeof(number), ":%u", n);
    lit(p, "functions.");
    text(p, call ? call->name : "unknown");
    text_owned(p, strdup(number));
}

static void calls_kimi(struct prompt *p, const struct chat_message *m, uint32_t *calls_n)
{
    lit(p, "<|tool_calls_section_begin|>");
    for (uint32_t i = 0; i < m->tool_calls_n; i++) {
        lit(p, "<|tool_call_begin|>");
        call_id(p, &m->tool_calls[i], (*calls_n)++);
        lit(p, "<|tool_call_argument_begin|>");
        text(p, m->tool_calls[i].arguments);
        lit(p, "<|tool_call_end|>");
    }
    lit(p, "<|tool_calls_section_end|>");
}

static void render_kimi(struct prompt *p, const struct chat *chat)
{
    static const struct {
        const char *marker, *role;
    } heads[CHAT_ROLE_COUNT] = {
        [CHAT_SYSTEM] = {KIMI_SYSTEM, "system"},
        [CHAT_USER] = {KIMI_USER, "user"},
        [CHAT_ASSISTANT] = {KIMI_ASSISTANT, "assistant"},
        [CHAT_TOOL] = {KIMI_SYSTEM, "tool"},
    };
    uint32_t calls_n = 0, outputs_n = 0;

    tools_kimi(p, chat);
    if (chat->messages_n && chat->messages[0].role != CHAT_SYSTEM) {
        lit(p, KIMI_SYSTEM);
        lit(p, "system");
        lit(p, KIMI_MIDDLE);
        lit(p, "You are Kimi, an AI assistant created by Moonshot AI.");
        lit(p, KIMI_END);
    }
    for (uint32_t i = 0; i < chat->messages_n; i++) {
        const struct chat_message *m = &chat->messages[i];
        lit(p, heads[m->role].marker);
        lit(p, heads[m->role].role);
        lit(p, KIMI_MIDDLE);
        if (m->role == CHAT_TOOL) {
            lit(p, "## Return of ");
            call_id(p, call_at(chat, outputs_n), outputs_n);
            outputs_n++;
            lit(p, "\n");
        }
        text(p, m->content);
        if (m->role == CHAT_ASSISTANT && m->tool_calls_n)
            calls_kimi(p, m, &calls_n);
        lit(p, KIMI_END);
    }
    if (generates(chat)) {
        lit(p, KIMI_ASSISTANT);
        lit(p, "assistant");
        lit(p, KIMI_MIDDLE);
    }
}

// ---- public ----

static void (*const renderers[TEMPLATE_STYLE_COUNT])(struct prompt *, const struct chat *) = {
    [TEMPLATE_V3] = render_v3,           [TEMPLATE_R1] = render_r1,
    [TEMPLATE_V3_0324] = render_0324,    [TEMPLATE_V31] = render_v31,
    [TEMPLATE_DISTILL] = render_distill, [TEMPLATE_KIMI_K2] = render_kimi,
};

static int render(enum template_style style, const struct chat *chat, struct prompt *p,
                  struct fault *fault)
{
    const struct chat_message *last =
        chat->messages_n ? &chat->messages[chat->messages_n - 1] : NULL;

    if ((unsigned)style >= TEMPLATE_STYLE_COUNT)
        return fault_set(fault, EINVAL, "there is no chat template number %u", (unsigned)style);
    renderers[style](p, chat);
    if (last && last->role == CHAT_ASSISTANT && last->prefix)
        open_end(p, style == TEMPLATE_KIMI_K2 ? KIMI_END : EOS);
    return p->failed ? fault_set(fault, ENOMEM, "no memory for the prompt") : 0;
}

int template_render(enum template_style style, const struct chat *chat, char **ret_text,
                    struct fault *fault)
{
    struct prompt p = {0};
    char *out = NULL;
    size_t len = 0;

    int err = render(style, chat, &p, fault);
    for (size_t i = 0; i < p.n; i++)
        len += p.parts[i].len;
    if (!err) {
        out = malloc(len + 1);
        if (!out)
            err = fault_set(fault, ENOMEM, "no memory for the prompt");
    }
    if (!err) {
        char *at = out;
        for (size_t i = 0; i < p.n; i++) {
            memcpy(at, p.parts[i].text, p.parts[i].len);
            at += p.parts[i].len;
        }
        *at = '\0';
        *ret_text = out;
    }
    prompt_free(&p);
    return err;
}

int template_encode(enum template_style style, const struct tokenizer *tok,
                    struct tokenizer_scratch *scratch, const struct chat *chat,
                    struct token_list *list, bool *ret_in_reasoning, struct fault *fault)
{
    struct prompt p = {0};

    int err = render(style, chat, &p, fault);
    if (!err)
        err = tokenizer_encode_parts(tok, scratch, p.parts, p.n, list, fault);
    if (!err)
        *ret_in_reasoning = p.in_reasoning;
    prompt_free(&p);
    return err;
}

// ---- recognition ----

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// Says whether the template has the variable `thinking` (not a longer word, not a marker).
static bool has_thinking(const char *template)
{
    static const char name[] = "thinking";

    for (const char *at = template; (at = strstr(at, name)); at++)
        if ((at == template || !is_word(at[-1])) && !is_word(at[strlen(name)]))
            return true;
    return false;
}

// Says whether a user turn writes the assistant's marker too: both in one expression.
static bool opens_answer_in_user_turn(const char *template)
{
    for (const char *at = template; (at = strstr(at, USER)); at++) {
        const char *end = strstr(at, "}}"), *marker = strstr(at, ASSISTANT);
        if (end && marker && marker < end)
            return true;
    }
    return false;
}

static bool opens_think(const char *template)
{
    for (const char *at = template; (at = strstr(at, ASSISTANT)); at++)
        if (strncmp(at + strlen(ASSISTANT), THINK, strlen(THINK)) == 0)
            return true;
    return false;
}

int template_detect(const struct tokenizer *tok, enum template_style *ret, struct fault *fault)
{
    const char *template = tokenizer_chat_template(tok);
    bool has_tools = tokenizer_id(tok, CALLS) != TOKEN_NONE;
    bool has_think = tokenizer_id(tok, THINK) != TOKEN_NONE;
    bool deepseek =
        tokenizer_id(tok, USER) != TOKEN_NONE && tokenizer_id(tok, ASSISTANT) != TOKEN_NONE;

    if (tokenizer_id(tok, KIMI_MIDDLE) != TOKEN_NONE) {
        *ret = TEMPLATE_KIMI_K2;
        return 0;
    }
    if (!deepseek || !template || !strstr(template, USER))
        return fault_set(fault, ENOTSUP,
                         "the chat template of the checkpoint is %s; set [model] template to one "
                         "of v3, r1, v3-0324, r1-0528, v3.1, distill, kimi-k2",
                         template ? "none that is known" : "missing");
    if (has_thinking(template))
        *ret = TEMPLATE_V31;
    else if (opens_answer_in_user_turn(template))
        *ret = TEMPLATE_V3_0324;
    else if (has_think && !has_tools) // the distilled models' tokenizers have no tool markers
        *ret = TEMPLATE_DISTILL;
    else
        *ret = opens_think(template) ? TEMPLATE_R1 : TEMPLATE_V3;
    return 0;
}

int template_check(enum template_style style, const struct tokenizer *tok, struct fault *fault)
{
    static const char *const deepseek[] = {BOS, EOS, USER, ASSISTANT, NULL};
    static const char *const kimi[] = {KIMI_SYSTEM, KIMI_USER, KIMI_ASSISTANT,
                                       KIMI_MIDDLE, KIMI_END,  NULL};
    const char *const *marker = style == TEMPLATE_KIMI_K2 ? kimi : deepseek;

    for (; *marker; marker++)
        if (tokenizer_id(tok, *marker) == TOKEN_NONE)
            return fault_set(fault, ENOTSUP,
                             "the chat template %s needs the token %s, which this tokenizer does "
                             "not have",
                             template_style_name[style], *marker);
    return 0;
}
