// SPDX-License-Identifier: MIT
#include "api/sampling.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const sampling_finish_name[SAMPLING_FINISH_COUNT] = {
    [SAMPLING_FINISH_NONE] = NULL,
    [SAMPLING_FINISH_STOP] = "stop",
    [SAMPLING_FINISH_LENGTH] = "length",
};

// The least repetition penalty; 0 would divide by it.
#define REPETITION_PENALTY_MIN 1e-3

static int parse_reals(struct body_at at, struct sampling *s, struct api_error *err)
{
    const struct {
        const char *name;
        double lo, hi;
        float *value;
    } rows[] = {
        {"temperature", 0, 2, &s->temperature},
        {"top_p", 0, 1, &s->top_p},
        {"min_p", 0, 1, &s->min_p},
        {"frequency_penalty", -2, 2, &s->frequency_penalty},
        {"presence_penalty", -2, 2, &s->presence_penalty},
        {"repetition_penalty", REPETITION_PENALTY_MIN, 10, &s->repetition_penalty},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double v = (double)*rows[i].value;
        int got = body_real(at, rows[i].name, rows[i].lo, rows[i].hi, &v, err);
        if (got < 0)
            return got;
        if (got > 0)
            *rows[i].value = (float)v;
    }
    return 0;
}

// max_tokens is the older name of max_completion_tokens.
static int parse_max_tokens(struct body_at at, struct sampling *s, struct api_error *err)
{
    int64_t v = s->max_tokens;

    if (body_int(at, "max_tokens", 1, INT64_MAX, &v, err) < 0 ||
        body_int(at, "max_completion_tokens", 1, INT64_MAX, &v, err) < 0)
        return -EINVAL;
    s->max_tokens = v < UINT32_MAX ? (uint32_t)v : UINT32_MAX;
    return 0;
}

static int parse_integers(struct body_at at, const struct api_limits *limits, struct sampling *s,
                          struct api_error *err)
{
    int64_t top_k = s->top_k, n = 1, seed = 0;

    int has_seed = body_int(at, "seed", INT64_MIN, INT64_MAX, &seed, err);
    if (has_seed < 0 || body_int(at, "top_k", -1, INT32_MAX, &top_k, err) < 0 ||
        body_int(at, "n", 1, limits->choices_max, &n, err) < 0)
        return -EINVAL;
    s->top_k = top_k < 0 ? 0 : (uint32_t)top_k;
    s->n = (uint32_t)n;
    s->has_seed = has_seed > 0;
    s->seed = (uint64_t)seed;
    return parse_max_tokens(at, s, err);
}

static int parse_stop(const json_t *value, const char *param, struct sampling *s,
                      struct api_error *err)
{
    if (!json_is_string(value))
        return api_error_set(err, API_ERROR_FIELD, param, "%s: must be a string", param);
    size_t n = json_string_length(value);
    if (n == 0 || n > SAMPLING_STOP_BYTES_MAX)
        return api_error_set(err, API_ERROR_FIELD, param, "%s: must be 1 to %u bytes long", param,
                             SAMPLING_STOP_BYTES_MAX);
    s->stops[s->stops_n++] = json_string_value(value);
    return 0;
}

static int parse_stops(struct body_at at, struct sampling *s, struct api_error *err)
{
    const json_t *stop = json_object_get(at.object, "stop");

    if (!stop || json_is_null(stop))
        return 0;
    if (json_is_string(stop))
        return parse_stop(stop, "stop", s, err);
    if (!json_is_array(stop))
        return body_fault(err, API_ERROR_FIELD, at, "stop",
                          "must be a string or an array of strings");
    size_t n = json_array_size(stop);
    if (n > SAMPLING_STOPS_MAX)
        return body_fault(err, API_ERROR_FIELD, at, "stop", "more than %u strings",
                          SAMPLING_STOPS_MAX);
    for (size_t i = 0; i < n; i++) {
        char param[32];
        snprintf(param, sizeof(param), "stop[%zu]", i);
        if (parse_stop(json_array_get(stop, i), param, s, err))
            return -EINVAL;
    }
    return 0;
}

// A key is a token id in decimal, without sign or leading zeros, so that no id can come twice.
static bool bias_id(const char *key, uint32_t vocab_size, uint32_t *ret)
{
    uint64_t id = 0;
    size_t n = strlen(key);

    if (n == 0 || n > 10 || (n > 1 && key[0] == '0'))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (key[i] < '0' || key[i] > '9')
            return false;
        id = id * 10 + (uint64_t)(key[i] - '0');
    }
    if (id >= vocab_size)
        return false;
    *ret = (uint32_t)id;
    return true;
}

static int parse_bias(struct body_at at, const struct api_limits *limits, struct sampling *s,
                      struct api_error *err)
{
    const json_t *object = NULL;
    void *iter;

    int got = body_object(at, "logit_bias", &object, err);
    if (got <= 0)
        return got;
    size_t n = json_object_size(object);
    if (n > SAMPLING_BIAS_MAX)
        return body_fault(err, API_ERROR_FIELD, at, "logit_bias", "more than %u entries",
                          SAMPLING_BIAS_MAX);
    if (n == 0)
        return 0;
    s->bias = calloc(n, sizeof(*s->bias));
    if (!s->bias)
        return api_error_memory(err);

    // jansson's iterator wants a pointer to non-const but changes nothing.
    json_t *mutable_object = json_object_get(at.object, "logit_bias");
    for (iter = json_object_iter(mutable_object); iter;
         iter = json_object_iter_next(mutable_object, iter)) {
        const json_t *value = json_object_iter_value(iter);
        struct sampling_bias *bias = &s->bias[s->bias_n];
        if (!bias_id(json_object_iter_key(iter), limits->vocab_size, &bias->id))
            return body_fault(err, API_ERROR_FIELD, at, "logit_bias",
                              "the key \"%.40s\" is not a token id between 0 and %u",
                              json_object_iter_key(iter), limits->vocab_size - 1);
        double v = json_is_number(value) ? json_number_value(value) : 1e9;
        if (!(v >= -100 && v <= 100))
            return body_fault(err, API_ERROR_FIELD, at, "logit_bias",
                              "the value of token %u is not a number between -100 and 100",
                              bias->id);
        bias->bias = (float)v;
        s->bias_n++;
    }
    return 0;
}

static int parse_stream(struct body_at at, struct sampling *s, struct api_error *err)
{
    struct body_at options = {NULL, "stream_options"};

    if (body_bool(at, "stream", &s->stream, err) < 0)
        return -EINVAL;
    int got = body_object(at, "stream_options", &options.object, err);
    if (got <= 0)
        return got;
    if (body_bool(options, "include_usage", &s->include_usage, err) < 0)
        return -EINVAL;
    return 0;
}

static int parse_logprobs_mode(struct body_at at, struct sampling *s, struct api_error *err)
{
    const char *mode = NULL;

    int got = body_text(at, "logprobs_mode", &mode, err);
    if (got <= 0)
        return got;
    s->logprobs_sampled = strcmp(mode, "sampled") == 0;
    if (!s->logprobs_sampled && strcmp(mode, "model") != 0)
        return body_fault(err, API_ERROR_FIELD, at, "logprobs_mode",
                          "must be \"model\" or \"sampled\"");
    return 0;
}

int sampling_parse(const json_t *root, const struct api_limits *limits, uint32_t max_tokens_default,
                   struct sampling *ret, struct api_error *err)
{
    struct body_at at = {root, ""};
    int got;

    assert(limits->choices_max >= 1);
    assert(limits->vocab_size >= 1);
    *ret = (struct sampling){.temperature = limits->temperature,
                             .top_p = limits->top_p,
                             .top_k = limits->top_k,
                             .min_p = limits->min_p,
                             .repetition_penalty = limits->repetition_penalty,
                             .max_tokens = max_tokens_default};
    if ((got = parse_reals(at, ret, err)) || (got = parse_integers(at, limits, ret, err)) ||
        (got = parse_stops(at, ret, err)) || (got = parse_bias(at, limits, ret, err)) ||
        (got = parse_stream(at, ret, err)) || (got = parse_logprobs_mode(at, ret, err)))
        return got;
    return 0;
}

void sampling_free(struct sampling *sampling)
{
    free(sampling->bias);
    sampling->bias = NULL;
    sampling->bias_n = 0;
}
