// SPDX-License-Identifier: MIT
#include "api/completion.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define COMPLETION_MAX_TOKENS 16u // OpenAI's default

static void prompt_text(const json_t *value, struct completion_prompt *p)
{
    p->text = json_string_value(value);
    p->text_n = json_string_length(value);
}

static int prompt_ids(const json_t *value, const struct api_limits *limits, const char *what,
                      struct completion_prompt *p, struct api_error *err)
{
    if (json_array_size(value) == 0)
        return api_error_set(err, API_ERROR_FIELD, what, "%s: has no token ids", what);
    return body_token_ids(value, limits->vocab_size, what, &p->ids, &p->ids_n, err);
}

// Element i of a list of prompts; all are of the first one's kind.
static int prompt_element(const json_t *list, uint32_t i, const struct api_limits *limits,
                          struct completion_prompt *p, struct api_error *err)
{
    const json_t *value = json_array_get(list, i);
    char what[32];

    snprintf(what, sizeof(what), "prompt[%u]", i);
    if (json_typeof(value) != json_typeof(json_array_get(list, 0)))
        return api_error_set(err, API_ERROR_FIELD, what,
                             "%s: all prompts must be of one kind, strings or token ids", what);
    if (json_is_array(value))
        return prompt_ids(value, limits, what, p, err);
    prompt_text(value, p);
    return 0;
}

static int prompts_alloc(struct completion_request *req, size_t n, struct api_error *err)
{
    req->prompts = calloc(n, sizeof(*req->prompts));
    if (!req->prompts)
        return api_error_memory(err);
    req->prompts_n = (uint32_t)n;
    return 0;
}

static int parse_prompt_list(struct completion_request *req, const json_t *list,
                             const struct api_limits *limits, struct api_error *err)
{
    const json_t *first = json_array_get(list, 0);
    size_t n = json_array_size(list);
    int got;

    if (json_is_number(first)) // one prompt of token ids
        return (got = prompts_alloc(req, 1, err))
                   ? got
                   : prompt_ids(list, limits, "prompt", &req->prompts[0], err);
    if (!json_is_string(first) && !json_is_array(first))
        return api_error_set(err, API_ERROR_FIELD, "prompt",
                             "prompt: must be a string, an array of strings, of token ids, or of "
                             "arrays of token ids, and not empty");
    if (n > limits->choices_max)
        return api_error_set(err, API_ERROR_FIELD, "prompt", "prompt: more than %u prompts",
                             limits->choices_max);
    if ((got = prompts_alloc(req, n, err)))
        return got;
    for (uint32_t i = 0; i < n; i++)
        if ((got = prompt_element(list, i, limits, &req->prompts[i], err)))
            return got;
    return 0;
}

static int parse_prompts(struct completion_request *req, const struct api_limits *limits,
                         struct api_error *err)
{
    const json_t *prompt = json_object_get(req->root, "prompt");
    int got;

    if (!prompt || json_is_null(prompt))
        return api_error_set(err, API_ERROR_MISSING, "prompt", "prompt: is required");
    if (!json_is_string(prompt))
        return parse_prompt_list(req, prompt, limits, err);
    if ((got = prompts_alloc(req, 1, err)))
        return got;
    prompt_text(prompt, &req->prompts[0]);
    return 0;
}

// logprobs counts the alternatives here; a boolean is what a chat would send.
static int parse_logprobs(struct body_at top, struct sampling *s, struct api_error *err)
{
    int64_t n = 0;

    int got = body_int(top, "logprobs", 0, SAMPLING_TOP_LOGPROBS, &n, err);
    if (got < 0)
        return got;
    s->logprobs = got > 0;
    s->top_logprobs = (uint32_t)n;
    return 0;
}

static int check_choices(struct completion_request *req, const struct api_limits *limits,
                         struct api_error *err)
{
    struct body_at top = {req->root, ""};
    int64_t best_of = req->sampling.n;

    if (body_int(top, "best_of", 1, INT32_MAX, &best_of, err) < 0)
        return -EINVAL;
    if (best_of != req->sampling.n)
        return body_fault(err, API_ERROR_UNSUPPORTED, top, "best_of",
                          "other than n is not supported; ask for n choices");
    if ((uint64_t)req->prompts_n * req->sampling.n > limits->choices_max)
        return body_fault(err, API_ERROR_FIELD, top, "n",
                          "%u prompts with %u choices each are more than %u", req->prompts_n,
                          req->sampling.n, limits->choices_max);
    return 0;
}

static int parse_suffix(struct completion_request *req, struct api_error *err)
{
    struct body_at top = {req->root, ""};

    if (body_bool(top, "echo", &req->echo, err) < 0 ||
        body_text(top, "suffix", &req->suffix, err) < 0)
        return -EINVAL;
    if (req->suffix && req->suffix[0] == '\0')
        req->suffix = NULL; // what clients send who have none
    if (req->suffix && !req->prompts[0].text)
        return body_fault(err, API_ERROR_FIELD, top, "suffix", "needs a prompt of text");
    if (req->suffix && req->echo)
        return body_fault(err, API_ERROR_UNSUPPORTED, top, "suffix", "does not go with echo");
    return 0;
}

static int parse_completion(struct completion_request *req, const struct api_limits *limits,
                            struct api_error *err)
{
    struct body_at top = {req->root, ""};
    int got;

    if ((got = body_model(req->root, limits->model, true, err)) ||
        (got = parse_prompts(req, limits, err)) || (got = parse_suffix(req, err)) ||
        (got = sampling_parse(req->root, limits, COMPLETION_MAX_TOKENS, &req->sampling, err)) ||
        (got = parse_logprobs(top, &req->sampling, err)))
        return got;
    return check_choices(req, limits, err);
}

int completion_request_parse(const char *body, size_t n, const struct api_limits *limits,
                             struct completion_request **ret, struct api_error *err)
{
    struct completion_request *req = calloc(1, sizeof(*req));
    if (!req)
        return api_error_memory(err);

    int result = body_load(body, n, &req->root, err);
    if (result == 0)
        result = parse_completion(req, limits, err);
    if (result) {
        completion_request_free(&req);
        return result;
    }
    *ret = req;
    return 0;
}

void completion_request_free(struct completion_request **preq)
{
    struct completion_request *req = *preq;

    if (!req)
        return;
    for (uint32_t i = 0; i < req->prompts_n; i++)
        free(req->prompts[i].ids);
    free(req->prompts);
    sampling_free(&req->sampling);
    json_decref(req->root);
    free(req);
    *preq = NULL;
}
