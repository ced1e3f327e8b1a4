// SPDX-License-Identifier: MIT
// Any bytes as a chat: byte 0 style, byte 1 flags, then messages and calls, each a byte that says
// what it is and text up to a NUL.  The text from outside adds no control token: there are as many
// as when every text is "x"; and the rendered text is the pieces' text.
#include "model/template.h"
#include "tests/fuzz/small_tokenizer.h"

#include <errno.h>

#define MESSAGES_MAX 32u
#define CALLS_MAX    32u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tokenizer *tok;
static struct tokenizer_scratch *scratch;

static void stop(void)
{
    tokenizer_scratch_destroy(&scratch);
    tokenizer_close(&tok);
}

struct made {
    struct chat_message messages[MESSAGES_MAX];
    struct chat_tool_call calls[CALLS_MAX];
    struct chat_tool tool;
    uint32_t messages_n, calls_n;
};

// Reads the rest of the input; every text is `instead` unless that is NULL.
static void make(struct made *made, const char *bytes, size_t n, const char *instead)
{
    *made = (struct made){0};
    for (size_t at = 0; at < n && made->messages_n < MESSAGES_MAX;) {
        unsigned what = (unsigned char)bytes[at++];
        const char *text = bytes + at;
        at += strlen(text) + 1; // the copy ends with a NUL
        if (utf8_valid_len(text, strlen(text)) != strlen(text))
            text = "?";
        if (instead)
            text = instead;
        struct chat_message *m = made->messages_n ? &made->messages[made->messages_n - 1] : NULL;
        if (what & 0x40 && m && made->calls_n < CALLS_MAX) {
            made->calls[made->calls_n] = (struct chat_tool_call){text, text};
            if (m->tool_calls_n++ == 0)
                m->tool_calls = &made->calls[made->calls_n];
            made->calls_n++;
            continue;
        }
        made->messages[made->messages_n++] = (struct chat_message){
            .role = (enum chat_role)(what % CHAT_ROLE_COUNT),
            .content = what & 0x20 ? NULL : text,
            .prefix = what & 0x10,
        };
    }
    made->tool = (struct chat_tool){instead ? instead : "f", instead ? instead : "</think>", "{}"};
}

static unsigned controls(enum template_style style, const struct made *made, unsigned flags)
{
    const struct chat chat = {
        .messages = made->messages,
        .messages_n = made->messages_n,
        .tools = &made->tool,
        .tools_n = flags & 1,
        .thinking = flags & 2,
        .add_generation_prompt = flags & 4,
    };
    struct token_list list = {0};
    struct fault fault = {0};
    bool in_reasoning = false;
    unsigned n = 0;
    size_t at = 0;
    char *text = NULL;

    CHECK(template_encode(style, tok, scratch, &chat, &list, &in_reasoning, &fault) == 0);
    CHECK(template_render(style, &chat, &text, &fault) == 0);
    for (size_t i = 0; i < list.n; i++) {
        size_t len;
        const char *bytes = tokenizer_bytes(tok, list.ids[i], &len);
        CHECK(strncmp(text + at, bytes, len) == 0);
        at += len;
        n += tokenizer_is_control(tok, list.ids[i]);
    }
    CHECK(text[at] == '\0');
    free(text);
    token_list_free(&list);
    return n * 2 + in_reasoning;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct made made;

    if (!tok) {
        tok = small_tokenizer(SMALL_DEEPSEEK);
        CHECK(tokenizer_scratch_create(tok, &scratch) == 0);
        atexit(stop);
    }
    if (size < 2)
        return 0;
    enum template_style style = (enum template_style)(data[0] % TEMPLATE_STYLE_COUNT);
    char *copy = calloc(1, size - 1); // the rest and a NUL
    CHECK(copy);
    memcpy(copy, data + 2, size - 2);
    make(&made, copy, size - 2, NULL);
    unsigned outside = controls(style, &made, data[1]);
    make(&made, copy, size - 2, "x");
    CHECK(outside == controls(style, &made, data[1]));
    free(copy);
    return 0;
}
