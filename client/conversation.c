// SPDX-License-Identifier: MIT
#include "client/conversation.h"

#include <errno.h>
#include <math.h>
#include <string.h>

int conversation_init(struct conversation *conversation, const char *system, struct fault *fault)
{
    conversation->messages = json_array();
    if (!conversation->messages)
        return fault_set(fault, ENOMEM, "out of memory");
    if (!system)
        return 0;

    struct text text = {0};
    int err = text_append(&text, system, strlen(system), SIZE_MAX / 2);
    if (err)
        fault_set(fault, -err, "out of memory");
    else
        err = conversation_push(conversation, "system", &text, fault);
    text_free(&text);
    if (err)
        conversation_fini(conversation);
    return err;
}

void conversation_fini(struct conversation *conversation)
{
    json_decref(conversation->messages);
    conversation->messages = NULL;
}

int conversation_push(struct conversation *conversation, const char *role, const struct text *text,
                      struct fault *fault)
{
    json_t *content = json_stringn(text->bytes ? text->bytes : "", text->n);
    if (!content)
        return fault_set(fault, EILSEQ, "the text is not UTF-8");

    json_t *message = json_pack("{s:s, s:o}", "role", role, "content", content);
    if (!message || json_array_append_new(conversation->messages, message) != 0)
        return fault_set(fault, ENOMEM, "out of memory");
    return 0;
}

void conversation_pop(struct conversation *conversation)
{
    size_t n = json_array_size(conversation->messages);
    if (n > 0)
        json_array_remove(conversation->messages, n - 1);
}

// set_int, set_real, set_text add a field of the request that was given.  Return 0 or -1.
static int set_int(json_t *body, const char *name, int64_t value)
{
    return value == OPTION_ABSENT ? 0 : json_object_set_new(body, name, json_integer(value));
}

static int set_real(json_t *body, const char *name, double value)
{
    return isnan(value) ? 0 : json_object_set_new(body, name, json_real(value));
}

static int set_text(json_t *body, const char *name, const char *value)
{
    return value ? json_object_set_new(body, name, json_string(value)) : 0;
}

int conversation_body(const struct conversation *conversation, const struct options *options,
                      const char *model, char **ret, struct fault *fault)
{
    json_t *body =
        json_pack("{s:s, s:O, s:b, s:{s:b}}", "model", model, "messages", conversation->messages,
                  "stream", 1, "stream_options", "include_usage", 1);
    int bad = !body;

    bad = bad || set_int(body, "max_tokens", options->max_tokens);
    bad = bad || set_int(body, "seed", options->seed);
    bad = bad || set_int(body, "top_k", options->top_k);
    bad = bad || set_real(body, "temperature", options->temperature);
    bad = bad || set_real(body, "top_p", options->top_p);
    bad = bad || set_real(body, "min_p", options->min_p);
    bad = bad || set_text(body, "stop", options->stop);
    char *text = bad ? NULL : json_dumps(body, JSON_COMPACT);
    json_decref(body);
    if (!text)
        return fault_set(fault, EINVAL,
                         "the request cannot be written: an option is not UTF-8, "
                         "or memory is short");
    *ret = text;
    return 0;
}
