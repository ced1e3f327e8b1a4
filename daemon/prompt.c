// SPDX-License-Identifier: MIT
#include "daemon/prompt.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX (256u << 20) // an answer of /detokenize: a million tokens of 256 bytes

struct prompt_maker {
    const struct served *served;
    uint32_t prompt_tokens_max;
    struct tokenizer_scratch *scratch;
    struct token_list list; // kept from request to request
};

int prompt_maker_create(const struct served *served, uint32_t prompt_tokens_max,
                        struct prompt_maker **ret)
{
    struct prompt_maker *m = calloc(1, sizeof(*m));
    if (!m)
        return -ENOMEM;
    m->served = served;
    m->prompt_tokens_max = prompt_tokens_max;
    int err = tokenizer_scratch_create(served->tokenizer, &m->scratch);
    if (err != 0) {
        prompt_maker_destroy(&m);
        return err;
    }
    *ret = m;
    return 0;
}

void prompt_maker_destroy(struct prompt_maker **maker)
{
    struct prompt_maker *m = *maker;
    if (!m)
        return;
    tokenizer_scratch_destroy(&m->scratch);
    token_list_free(&m->list);
    free(m);
    *maker = NULL;
}

// fault_to_error: what the tokenizer or the template says about text from outside is the client's
// fault, except for memory.
static int fault_to_error(int err, const struct fault *fault, const char *param,
                          struct api_error *error)
{
    if (err == -ENOMEM)
        return api_error_memory(error);
    return api_error_set(error, API_ERROR_FIELD, param, "%s", fault->text);
}

// chat_of builds what the template takes; the arrays are freed by chat_free, texts stay the
// request's.
static int chat_of(const struct chat_request *from, struct chat *ret)
{
    static const enum chat_role role_of[CHAT_REQUEST_ROLE_COUNT] = {
        [CHAT_REQUEST_SYSTEM] = CHAT_SYSTEM,
        [CHAT_REQUEST_USER] = CHAT_USER,
        [CHAT_REQUEST_ASSISTANT] = CHAT_ASSISTANT,
        [CHAT_REQUEST_TOOL] = CHAT_TOOL,
    };
    uint32_t calls_n = 0;
    for (uint32_t i = 0; i < from->messages_n; i++)
        calls_n += from->messages[i].calls_n;

    // One block: the messages, then all calls.
    struct chat_message *messages =
        calloc(1, from->messages_n * sizeof(*messages) + calls_n * sizeof(struct chat_tool_call));
    if (!messages)
        return -ENOMEM;
    struct chat_tool_call *call = (struct chat_tool_call *)(messages + from->messages_n);
    for (uint32_t i = 0; i < from->messages_n; i++) {
        const struct chat_request_message *m = &from->messages[i];
        messages[i] = (struct chat_message){.role = role_of[m->role],
                                            .content = m->content,
                                            .tool_calls = m->calls_n > 0 ? call : NULL,
                                            .tool_calls_n = m->calls_n,
                                            .prefix = m->prefix};
        for (uint32_t c = 0; c < m->calls_n; c++)
            *call++ = (struct chat_tool_call){.name = m->calls[c].name,
                                              .arguments = m->calls[c].arguments};
    }
    *ret = (struct chat){.messages = messages,
                         .messages_n = from->messages_n,
                         .thinking = from->thinking == CHAT_REQUEST_THINKING_ON,
                         .add_generation_prompt = from->add_generation_prompt};
    return 0;
}

static void chat_free(struct chat *chat)
{
    free((void *)(uintptr_t)chat->messages); // const for the template only
}

// prompt_add checks the length of the prompt in m->list and puts it behind those before.
static int prompt_add(struct prompt_maker *m, struct req *req, bool in_reasoning, const char *param)
{
    const struct token_list *list = &m->list;
    uint32_t used = 0;
    for (uint32_t i = 0; i < req->prompts_n; i++)
        used += req->prompts[i].n;

    if (list->n == 0)
        return api_error_set(&req->error, API_ERROR_FIELD, param, "%s: has no tokens", param);
    if (list->n >= m->served->context_max) // no room for even one token of an answer
        return api_error_context(&req->error, list->n, m->served->context_max);
    if (list->n > m->prompt_tokens_max - used)
        return api_error_set(&req->error, API_ERROR_FIELD, param,
                             "%s: the prompts of this request have more than %u tokens together",
                             param, m->prompt_tokens_max);
    memcpy(req->ids + used, list->ids, list->n * sizeof(*list->ids));
    req->prompts[req->prompts_n++] =
        (struct req_prompt){.first = used, .n = (uint32_t)list->n, .in_reasoning = in_reasoning};
    return 0;
}

static int chat_prompt(struct prompt_maker *m, struct req *req)
{
    struct chat chat;
    struct fault fault = {0};
    bool in_reasoning = false;
    if (chat_of(req->chat, &chat) != 0)
        return api_error_memory(&req->error);
    int err = template_encode(m->served->template_style, m->served->tokenizer, m->scratch, &chat,
                              &m->list, &in_reasoning, &fault);
    chat_free(&chat);
    if (err != 0)
        return fault_to_error(err, &fault, "messages", &req->error);
    return prompt_add(m, req, in_reasoning, "messages");
}

static int text_encode(struct prompt_maker *m, const char *text, size_t n, bool parse_added,
                       const char *param, struct api_error *error)
{
    struct fault fault = {0};
    int err =
        tokenizer_encode(m->served->tokenizer, m->scratch, text, n, parse_added, &m->list, &fault);
    return err == 0 ? 0 : fault_to_error(err, &fault, param, error);
}

static int id_push(struct prompt_maker *m, uint32_t id, struct api_error *error)
{
    if (id == TOKEN_NONE)
        return 0;
    return token_list_push(&m->list, id) == 0 ? 0 : api_error_memory(error);
}

// bos_push puts one BOS in front of a text prompt, where the model has one.
static int bos_push(struct prompt_maker *m, struct api_error *error)
{
    const struct tokenizer *tok = m->served->tokenizer;
    return tokenizer_add_bos(tok) ? id_push(m, tokenizer_bos(tok), error) : 0;
}

// middle_prompt: prefix, suffix, then the model fills in the middle (model.md 7.5).
static int middle_prompt(struct prompt_maker *m, const struct completion_prompt *prompt,
                         const char *suffix, struct api_error *error)
{
    int err = id_push(m, m->served->fim_begin, error);
    if (err == 0)
        err = text_encode(m, prompt->text, prompt->text_n, false, "prompt", error);
    if (err == 0)
        err = id_push(m, m->served->fim_hole, error);
    if (err == 0)
        err = text_encode(m, suffix, strlen(suffix), false, "suffix", error);
    if (err == 0)
        err = id_push(m, m->served->fim_end, error);
    return err;
}

static int ids_prompt(struct prompt_maker *m, const struct completion_prompt *prompt,
                      struct api_error *error)
{
    for (size_t i = 0; i < prompt->ids_n; i++)
        if (token_list_push(&m->list, prompt->ids[i]) != 0)
            return api_error_memory(error);
    return 0;
}

static int completion_prompt_make(struct prompt_maker *m, struct req *req,
                                  const struct completion_prompt *prompt)
{
    struct api_error *error = &req->error;
    const char *suffix = req->completion->suffix;
    int err = 0;
    m->list.n = 0;
    if (!prompt->text) {
        err = ids_prompt(m, prompt, error);
    } else {
        err = bos_push(m, error);
        if (err == 0 && suffix)
            err = middle_prompt(m, prompt, suffix, error);
        else if (err == 0)
            err = text_encode(m, prompt->text, prompt->text_n, false, "prompt", error);
    }
    return err != 0 ? err : prompt_add(m, req, false, "prompt");
}

static int completion_prompts(struct prompt_maker *m, struct req *req)
{
    for (uint32_t i = 0; i < req->completion->prompts_n; i++) {
        int err = completion_prompt_make(m, req, &req->completion->prompts[i]);
        if (err != 0)
            return err;
    }
    return 0;
}

static const char *bytes_of_token(void *user, uint32_t id, size_t *ret_len)
{
    return tokenizer_bytes(user, id, ret_len);
}

static int tokenize_answer(struct prompt_maker *m, struct req *req)
{
    const struct tokenize_request *from = &req->tokenize;
    int err = from->add_special ? id_push(m, tokenizer_bos(m->served->tokenizer), &req->error) : 0;
    if (err == 0)
        err = text_encode(m, from->content, from->content_n, from->parse_special, "content",
                          &req->error);
    if (err != 0)
        return err;
    tokenize_write(&req->body, m->list.ids, m->list.n, from->with_pieces ? bytes_of_token : NULL,
                   m->served->tokenizer);
    return 0;
}

static int detokenize_answer(struct prompt_maker *m, struct req *req)
{
    struct buf text;
    buf_init(&text, TEXT_BYTES_MAX);
    for (size_t i = 0; i < req->detokenize_n; i++) {
        size_t n;
        const char *bytes = tokenizer_bytes(m->served->tokenizer, req->detokenize_ids[i], &n);
        if (n > 0)
            buf_put(&text, bytes, n);
    }
    int err = buf_error(&text);
    if (err == 0)
        detokenize_write(&req->body, text.data, text.n);
    buf_free(&text);
    return err == 0 ? 0 : api_error_memory(&req->error);
}

static int template_answer(struct prompt_maker *m, struct req *req)
{
    struct chat chat;
    struct fault fault = {0};
    char *text = NULL;
    if (chat_of(req->chat, &chat) != 0)
        return api_error_memory(&req->error);
    int err = template_render(m->served->template_style, &chat, &text, &fault);
    chat_free(&chat);
    if (err != 0)
        return fault_to_error(err, &fault, "messages", &req->error);
    apply_template_write(&req->body, text, strlen(text));
    free(text);
    return 0;
}

bool prompt_make(struct prompt_maker *m, struct req *req)
{
    assert(req->state == REQ_TOKENS);
    int err;
    m->list.n = 0;
    buf_init(&req->body, TEXT_BYTES_MAX);
    switch (req->route) {
    case ROUTE_CHAT:
        err = chat_prompt(m, req);
        return err == 0;
    case ROUTE_COMPLETION:
        err = completion_prompts(m, req);
        return err == 0;
    case ROUTE_TOKENIZE:
        err = tokenize_answer(m, req);
        break;
    case ROUTE_DETOKENIZE:
        err = detokenize_answer(m, req);
        break;
    default:
        assert(req->route == ROUTE_APPLY_TEMPLATE);
        err = template_answer(m, req);
    }
    if (err == 0 && buf_error(&req->body) != 0)
        api_error_memory(&req->error);
    return false;
}
