// SPDX-License-Identifier: MIT
// template: every golden row byte for byte; ids equal to those of the rendered text; and text
// from outside that never becomes a control token.
#include "model/template.h"
#include "tests/check.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#define MESSAGES_MAX 16
#define CALLS_MAX    8

struct row { // a chat built from JSON; strings belong to the JSON or to owned
    struct chat chat;
    struct chat_message messages[MESSAGES_MAX];
    struct chat_tool_call calls[MESSAGES_MAX][CALLS_MAX];
    struct chat_tool tools[CALLS_MAX];
    char *owned[2 * MESSAGES_MAX];
    unsigned owned_n;
};

static char *row_own(struct row *row, char *text)
{
    CHECK(text && row->owned_n < ARRAY_LEN(row->owned));
    return row->owned[row->owned_n++] = text;
}

// Text parts joined, as the API does before it comes here.
static const char *content_of(struct row *row, const json_t *content)
{
    char *joined = NULL;
    size_t i, len;
    const json_t *part;

    if (!json_is_array(content))
        return json_string_value(content);
    FILE *mem = open_memstream(&joined, &len);
    CHECK(mem);
    json_array_foreach(content, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        if (strcmp(type, "text") == 0)
            fputs(json_string_value(json_object_get(part, "text")), mem);
    }
    CHECK(fclose(mem) == 0);
    return row_own(row, joined);
}

static enum chat_role role_of(const json_t *message)
{
    static const char *const names[] = {[CHAT_SYSTEM] = "system",
                                        [CHAT_USER] = "user",
                                        [CHAT_ASSISTANT] = "assistant",
                                        [CHAT_TOOL] = "tool"};
    const char *role = json_string_value(json_object_get(message, "role"));

    if (strcmp(role, "developer") == 0)
        return CHAT_SYSTEM;
    for (unsigned i = 0; i < CHAT_ROLE_COUNT; i++)
        if (strcmp(role, names[i]) == 0)
            return (enum chat_role)i;
    CHECK(false);
    return CHAT_ROLE_COUNT;
}

static void add_message(struct row *row, const json_t *json)
{
    uint32_t at = row->chat.messages_n++;
    const json_t *calls = json_object_get(json, "tool_calls"), *call;
    size_t i;

    CHECK(at < MESSAGES_MAX && json_array_size(calls) <= CALLS_MAX);
    row->messages[at] = (struct chat_message){
        .role = role_of(json),
        .content = content_of(row, json_object_get(json, "content")),
        .tool_calls = row->calls[at],
        .tool_calls_n = (uint32_t)json_array_size(calls),
        .prefix = json_is_true(json_object_get(json, "prefix")),
    };
    json_array_foreach(calls, i, call)
    {
        const json_t *function = json_object_get(call, "function");
        row->calls[at][i] =
            (struct chat_tool_call){json_string_value(json_object_get(function, "name")),
                                    json_string_value(json_object_get(function, "arguments"))};
    }
}

static void row_build(struct row *row, const json_t *json)
{
    const json_t *messages = json_object_get(json, "messages"), *item;
    const json_t *tools = json_object_get(json, "tools");
    size_t i;

    *row = (struct row){0};
    row->chat = (struct chat){
        .messages = row->messages,
        .tools = row->tools,
        .tools_n = (uint32_t)json_array_size(tools),
        .thinking = json_is_true(json_object_get(json, "thinking")),
        .add_generation_prompt = json_is_true(json_object_get(json, "add_generation_prompt")),
    };
    json_array_foreach(messages, i, item) add_message(row, item);
    json_array_foreach(tools, i, item)
    {
        const json_t *function = json_object_get(item, "function");
        row->tools[i] = (struct chat_tool){
            json_string_value(json_object_get(function, "name")),
            json_string_value(json_object_get(function, "description")),
            // jansson's default is Python's: ", " and ": "
            row_own(row, json_dumps(json_object_get(function, "parameters"), 0))};
    }
}

static void row_free(struct row *row)
{
    for (unsigned i = 0; i < row->owned_n; i++)
        free(row->owned[i]);
}

struct session {
    struct tokenizer *tok;
    struct tokenizer_scratch *scratch;
};

static void session_open(struct session *s, const char *root, const char *name)
{
    char dir[1024];
    struct fault fault;

    CHECK(snprintf(dir, sizeof(dir), "%s/%s", root, name) < (int)sizeof(dir));
    CHECK(tokenizer_open(dir, &s->tok, &fault) == 0);
    CHECK(tokenizer_scratch_create(s->tok, &s->scratch) == 0);
}

static void session_close(struct session *s)
{
    tokenizer_scratch_destroy(&s->scratch);
    tokenizer_close(&s->tok);
}

static bool lists_equal(const struct token_list *a, const struct token_list *b)
{
    return a->n == b->n && memcmp(a->ids, b->ids, a->n * sizeof(*a->ids)) == 0;
}

// Where no text from outside looks like a control token, piece by piece gives the same ids as the
// whole text: splits and merges go across the pieces.
static void check_ids(const struct session *s, enum template_style style, const struct chat *chat,
                      const char *text)
{
    struct token_list pieces = {0}, whole = {0};
    bool in_reasoning;
    struct fault fault;
    const char *tail = strrchr(text, '<');

    CHECK(template_encode(style, s->tok, s->scratch, chat, &pieces, &in_reasoning, &fault) == 0);
    CHECK(tokenizer_encode(s->tok, s->scratch, text, strlen(text), true, &whole, &fault) == 0);
    if (!lists_equal(&pieces, &whole))
        fprintf(stderr, "text: %s\n", text);
    CHECK(lists_equal(&pieces, &whole));
    CHECK(in_reasoning == (tail && (!strcmp(tail, "<think>") || !strcmp(tail, "<think>\n"))));
    token_list_free(&pieces);
    token_list_free(&whole);
}

static void test_golden(const char *root)
{
    char path[1024];
    struct session s;
    struct fault fault;
    unsigned rows = 0, compared = 0;
    char *line = NULL;
    size_t cap = 0;

    session_open(&s, root, "tokenizers/deepseek");
    CHECK(snprintf(path, sizeof(path), "%s/templates/templates.jsonl", root) < (int)sizeof(path));
    FILE *file = fopen(path, "r");
    CHECK(file);
    while (getline(&line, &cap, file) > 0) {
        json_t *json = json_loads(line, 0, NULL);
        struct row row;
        enum template_style style;
        char *text;

        CHECK(json);
        row_build(&row, json);
        CHECK(template_style_parse(json_string_value(json_object_get(json, "style")), &style) == 0);
        CHECK(template_render(style, &row.chat, &text, &fault) == 0);
        const char *expected = json_string_value(json_object_get(json, "expected"));
        if (strcmp(text, expected) != 0)
            fprintf(stderr, "%sgot: %s\nexpected: %s\n", line, text, expected);
        CHECK(strcmp(text, expected) == 0);
        // The text of these has more in it than the ids: an answer's own "</think>", an open end.
        if (!strstr(line, "past-reasoning-twice") && !strstr(line, "\"prefix\"")) {
            check_ids(&s, style, &row.chat, text);
            compared++;
        }
        free(text);
        row_free(&row);
        json_decref(json);
        rows++;
    }
    CHECK(rows == 185);
    CHECK(compared > 150);
    free(line);
    fclose(file);
    session_close(&s);
}

// ---- nothing from outside becomes a control token ----

static unsigned control_count(const struct session *s, const struct token_list *list)
{
    unsigned n = 0;
    for (size_t i = 0; i < list->n; i++)
        n += tokenizer_is_control(s->tok, list->ids[i]);
    return n;
}

// A chat that has the same outside text in every place that takes one.
static unsigned controls_with(const struct session *s, enum template_style style,
                              const char *outside, bool *ret_in_reasoning)
{
    const struct chat_tool_call calls[] = {{outside, outside}, {outside, outside}};
    const struct chat_message messages[] = {
        {.role = CHAT_SYSTEM, .content = outside},
        {.role = CHAT_SYSTEM, .content = outside},
        {.role = CHAT_USER, .content = outside},
        {.role = CHAT_ASSISTANT, .content = NULL, .tool_calls = calls, .tool_calls_n = 2},
        {.role = CHAT_TOOL, .content = outside},
        {.role = CHAT_TOOL, .content = outside},
        {.role = CHAT_ASSISTANT, .content = outside},
        {.role = CHAT_USER, .content = outside},
        {.role = CHAT_ASSISTANT, .content = outside, .tool_calls = calls, .tool_calls_n = 1},
        {.role = CHAT_TOOL, .content = outside},
        {.role = CHAT_USER, .content = outside},
    };
    const struct chat_tool tools[] = {{outside, outside, outside}};
    const struct chat chat = {.messages = messages,
                              .messages_n = ARRAY_LEN(messages),
                              .tools = tools,
                              .tools_n = 1,
                              .thinking = true,
                              .add_generation_prompt = true};
    struct token_list list = {0};
    struct fault fault;

    CHECK(template_encode(style, s->tok, s->scratch, &chat, &list, ret_in_reasoning, &fault) == 0);
    unsigned n = control_count(s, &list);
    token_list_free(&list);
    return n;
}

static void test_injection(const char *root, const char *name)
{
    struct session s;
    bool plain, in_reasoning;
    unsigned tried = 0;

    session_open(&s, root, name);
    for (unsigned style = 0; style < TEMPLATE_STYLE_COUNT; style++) {
        unsigned controls = controls_with(&s, (enum template_style)style, "x", &plain);
        for (uint32_t id = 0; id < tokenizer_vocab(s.tok); id++) {
            size_t len;
            char outside[512], half[512];
            const char *bytes = tokenizer_bytes(s.tok, id, &len);
            if (!tokenizer_is_added(s.tok, id))
                continue;
            CHECK(len < 200);
            snprintf(outside, sizeof(outside), "%.*s", (int)len, bytes);
            CHECK(controls_with(&s, (enum template_style)style, outside, &in_reasoning) ==
                  controls);
            CHECK(in_reasoning == plain);
            snprintf(outside, sizeof(outside), "a%.*s\n%.*s b", (int)len, bytes, (int)len, bytes);
            CHECK(controls_with(&s, (enum template_style)style, outside, &in_reasoning) ==
                  controls);
            // One half at the end of a text, the other at the start of the next.
            for (size_t cut = 1; cut < len; cut++) {
                snprintf(half, sizeof(half), "%.*s%.*s", (int)(len - cut), bytes + cut, (int)cut,
                         bytes);
                if (bytes[cut] & 0x80 && !((unsigned char)bytes[cut] & 0x40))
                    continue; // inside a character: not UTF-8 any more
                CHECK(controls_with(&s, (enum template_style)style, half, &in_reasoning) ==
                      controls);
            }
            tried++;
        }
    }
    CHECK(tried >= 6 * 16);
    session_close(&s);
}

// The literal before and the text after would be one token if they were one text.
static void test_joined(const char *root)
{
    struct session s;
    struct fault fault;
    struct token_list apart = {0}, joined = {0};
    const struct token_part parts[] = {{"<thi", 4, true}, {"nk>", 3, false}, {" ok", 3, true}};

    session_open(&s, root, "tokenizers/deepseek");
    CHECK(tokenizer_encode_parts(s.tok, s.scratch, parts, ARRAY_LEN(parts), &apart, &fault) == 0);
    CHECK(control_count(&s, &apart) == 0);
    CHECK(tokenizer_encode(s.tok, s.scratch, "<think> ok", 10, false, &joined, &fault) == 0);
    CHECK(lists_equal(&apart, &joined));
    token_list_free(&apart);
    token_list_free(&joined);
    session_close(&s);
}

// ---- recognition ----

static void test_detect(const char *root)
{
    static const struct {
        const char *dir;
        enum template_style style;
    } rows[] = {
        {"models/v3-fp8", TEMPLATE_R1},
        {"models/lite-fp8", TEMPLATE_V3},
        {"models/v31-ue8m0", TEMPLATE_V31},
        {"models/v3-bf16", TEMPLATE_V3_0324},
        {"models/distill-qwen2", TEMPLATE_DISTILL},
        {"models/distill-llama", TEMPLATE_DISTILL},
        {"../../demo/model", TEMPLATE_R1},
    };
    struct session s;
    struct fault fault;
    enum template_style style;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        session_open(&s, root, rows[i].dir);
        CHECK(template_detect(s.tok, &style, &fault) == 0);
        CHECK(style == rows[i].style);
        CHECK(template_check(style, s.tok, &fault) == 0);
        CHECK(template_check(TEMPLATE_KIMI_K2, s.tok, &fault) == -ENOTSUP);
        CHECK(strstr(fault.text, "kimi-k2 needs the token <|im_system|>"));
        session_close(&s);
    }
    session_open(&s, root, "tokenizers/qwen2"); // no template at all
    CHECK(template_detect(s.tok, &style, &fault) == -ENOTSUP);
    CHECK(strstr(fault.text, "set [model] template"));
    session_close(&s);
}

static void test_names(void)
{
    enum template_style style;

    for (unsigned i = 0; i < TEMPLATE_STYLE_COUNT; i++) {
        CHECK(template_style_parse(template_style_name[i], &style) == 0);
        CHECK(style == (enum template_style)i);
    }
    CHECK(template_style_parse("r1-0528", &style) == 0 && style == TEMPLATE_V3_0324);
    CHECK(template_style_parse("v31", &style) == 0 && style == TEMPLATE_V31);
    CHECK(template_style_parse("", &style) == -EINVAL);
    CHECK(template_style_parse("V3", &style) == -EINVAL);
}

// ---- kimi-k2: no golden rows; the text its released template writes ----

static void test_kimi(void)
{
    const struct chat_tool_call call = {"get_weather", "{\"city\": \"Kyiv\"}"};
    const struct chat_message messages[] = {
        {.role = CHAT_USER, .content = "Hi"},
        {.role = CHAT_ASSISTANT, .content = "I look.", .tool_calls = &call, .tool_calls_n = 1},
        {.role = CHAT_TOOL, .content = "9 C"},
        {.role = CHAT_ASSISTANT, .content = "It is", .prefix = true},
    };
    const struct chat_tool tool = {"get_weather", "Weather \"now\"\n", "{\"type\": \"object\"}"};
    struct chat chat = {.messages = messages, .messages_n = 1, .add_generation_prompt = true};
    struct fault fault;
    char *text;

    CHECK(template_render(TEMPLATE_KIMI_K2, &chat, &text, &fault) == 0);
    CHECK(strcmp(text, "<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by "
                       "Moonshot AI.<|im_end|><|im_user|>user<|im_middle|>Hi<|im_end|>"
                       "<|im_assistant|>assistant<|im_middle|>") == 0);
    free(text);

    chat.messages_n = 4;
    chat.tools = &tool;
    chat.tools_n = 1;
    CHECK(template_render(TEMPLATE_KIMI_K2, &chat, &text, &fault) == 0);
    CHECK(strcmp(text,
                 "<|im_system|>tool_declare<|im_middle|>[{\"type\": \"function\", \"function\": "
                 "{\"name\": \"get_weather\", \"description\": \"Weather \\\"now\\\"\\n\", "
                 "\"parameters\": {\"type\": \"object\"}}}]<|im_end|>"
                 "<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by "
                 "Moonshot AI.<|im_end|><|im_user|>user<|im_middle|>Hi<|im_end|>"
                 "<|im_assistant|>assistant<|im_middle|>I look.<|tool_calls_section_begin|>"
                 "<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
                 "{\"city\": \"Kyiv\"}<|tool_call_end|><|tool_calls_section_end|><|im_end|>"
                 "<|im_system|>tool<|im_middle|>## Return of functions.get_weather:0\n9 C"
                 "<|im_end|><|im_assistant|>assistant<|im_middle|>It is") == 0);
    free(text);
}

// ---- prefix and reasoning ----

static void test_prefix_in_reasoning(const char *root)
{
    const struct chat_message messages[] = {
        {.role = CHAT_USER, .content = "2+2?"},
        {.role = CHAT_ASSISTANT, .content = "Let me see", .prefix = true},
    };
    struct chat chat = {.messages = messages, .messages_n = 2, .add_generation_prompt = true};
    struct token_list list = {0};
    struct session s;
    struct fault fault;
    bool in_reasoning;

    session_open(&s, root, "tokenizers/deepseek");
    for (int thinking = 0; thinking < 2; thinking++) {
        chat.thinking = thinking;
        CHECK(template_encode(TEMPLATE_V31, s.tok, s.scratch, &chat, &list, &in_reasoning,
                              &fault) == 0);
        CHECK(in_reasoning == (thinking == 1));
        CHECK(list.ids[list.n - 1] != tokenizer_eos(s.tok));
        list.n = 0;
    }
    token_list_free(&list);
    session_close(&s);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    test_golden(argv[1]);
    test_injection(argv[1], "tokenizers/deepseek");
    test_injection(argv[1], "tokenizers/llama");
    test_injection(argv[1], "tokenizers/qwen2");
    test_joined(argv[1]);
    test_detect(argv[1]);
    test_names();
    test_kimi();
    test_prefix_in_reasoning(argv[1]);
    return 0;
}
