// SPDX-License-Identifier: MIT
#include "api/body.h"

#include "api/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What a look at the text says before any memory is spent on it.  In malformed JSON the counts may
// be wrong, but then jansson refuses it.
static int body_check_size(const char *text, size_t n, struct api_error *err)
{
    uint32_t depth = 0, containers = 0, values = 0;
    bool in_string = false;

    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        switch (c) {
        case '"':
            in_string = true;
            break;
        case '{':
        case '[':
            depth++;
            containers++;
            values++;
            break;
        case '}':
        case ']':
            depth -= depth > 0;
            break;
        case ',':
            values++;
            break;
        default:
            break;
        }
        if (depth > BODY_DEPTH_MAX)
            return api_error_set(err, API_ERROR_JSON, NULL,
                                 "the JSON is nested more than %u levels deep", BODY_DEPTH_MAX);
        if (containers > BODY_CONTAINERS_MAX || values > BODY_VALUES_MAX)
            return api_error_set(err, API_ERROR_JSON, NULL,
                                 "the JSON has more than %u values or %u objects and arrays",
                                 BODY_VALUES_MAX, BODY_CONTAINERS_MAX);
    }
    return 0;
}

int body_load(const char *text, size_t n, json_t **ret_root, struct api_error *err)
{
    json_error_t error;
    size_t offset;

    if (n == 0)
        return api_error_set(err, API_ERROR_JSON, NULL, "the body is empty; it must be JSON");
    if (!utf8_check(text, n, &offset))
        return api_error_set(err, API_ERROR_JSON, NULL, "the body is not valid UTF-8 at byte %zu",
                             offset);
    if (body_check_size(text, n, err))
        return -EINVAL;

    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    // Where jansson itself gets no memory it mostly says nothing at all.
    if (!root && (json_error_code(&error) == json_error_out_of_memory || error.text[0] == '\0'))
        return api_error_memory(err);
    if (!root)
        return api_error_set(err, API_ERROR_JSON, NULL,
                             "the body is not valid JSON: line %d, column %d: %s", error.line,
                             error.column, error.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return api_error_set(err, API_ERROR_JSON, NULL, "the body must be a JSON object");
    }
    *ret_root = root;
    return 0;
}

int body_fault(struct api_error *err, enum api_error_kind kind, struct body_at at, const char *name,
               const char *format, ...)
{
    char param[API_ERROR_PARAM_MAX], words[API_ERROR_TEXT_MAX];
    bool both = at.path[0] != '\0' && name[0] != '\0';
    va_list args;

    snprintf(param, sizeof(param), "%s%s%s", at.path, both ? "." : "", name);
    va_start(args, format);
    vsnprintf(words, sizeof(words), format, args);
    va_end(args);
    return api_error_set(err, kind, param, "%s: %s", param, words);
}

// Absent and null are the same.
static const json_t *body_get(struct body_at at, const char *name)
{
    const json_t *value = json_object_get(at.object, name);
    return json_is_null(value) ? NULL : value;
}

int body_bool(struct body_at at, const char *name, bool *ret, struct api_error *err)
{
    const json_t *value = body_get(at, name);

    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return body_fault(err, API_ERROR_FIELD, at, name, "must be true or false");
    *ret = json_is_true(value);
    return 1;
}

int body_real(struct body_at at, const char *name, double lo, double hi, double *ret,
              struct api_error *err)
{
    const json_t *value = body_get(at, name);

    if (!value)
        return 0;
    if (!json_is_number(value))
        return body_fault(err, API_ERROR_FIELD, at, name, "must be a number");
    double v = json_number_value(value);
    if (!(v >= lo && v <= hi))
        return body_fault(err, API_ERROR_FIELD, at, name, "%g is not between %g and %g", v, lo, hi);
    *ret = v;
    return 1;
}

// Some clients write integers as 3.0.
static bool integer_value(const json_t *value, int64_t *ret)
{
    if (json_is_integer(value)) {
        *ret = json_integer_value(value);
        return true;
    }
    double v = json_is_real(value) ? json_real_value(value) : NAN;
    if (!(v >= -0x1p63 && v < 0x1p63) || v != trunc(v))
        return false;
    *ret = (int64_t)v;
    return true;
}

int body_int(struct body_at at, const char *name, int64_t lo, int64_t hi, int64_t *ret,
             struct api_error *err)
{
    const json_t *value = body_get(at, name);
    int64_t v;

    if (!value)
        return 0;
    if (!integer_value(value, &v))
        return body_fault(err, API_ERROR_FIELD, at, name, "must be an integer");
    if (v < lo || v > hi)
        return body_fault(err, API_ERROR_FIELD, at, name,
                          "%" JSON_INTEGER_FORMAT " is not between %" JSON_INTEGER_FORMAT
                          " and %" JSON_INTEGER_FORMAT,
                          (json_int_t)v, (json_int_t)lo, (json_int_t)hi);
    *ret = v;
    return 1;
}

int body_text(struct body_at at, const char *name, const char **ret, struct api_error *err)
{
    const json_t *value = body_get(at, name);

    if (!value)
        return 0;
    if (!json_is_string(value))
        return body_fault(err, API_ERROR_FIELD, at, name, "must be a string");
    *ret = json_string_value(value);
    return 1;
}

int body_object(struct body_at at, const char *name, const json_t **ret, struct api_error *err)
{
    const json_t *value = body_get(at, name);

    if (!value)
        return 0;
    if (!json_is_object(value))
        return body_fault(err, API_ERROR_FIELD, at, name, "must be an object");
    *ret = value;
    return 1;
}

int body_array(struct body_at at, const char *name, const json_t **ret, struct api_error *err)
{
    const json_t *value = body_get(at, name);

    if (!value)
        return 0;
    if (!json_is_array(value))
        return body_fault(err, API_ERROR_FIELD, at, name, "must be an array");
    *ret = value;
    return 1;
}

int body_model(const json_t *root, const char *served, bool required, struct api_error *err)
{
    const char *model = NULL;

    int got = body_text((struct body_at){root, ""}, "model", &model, err);
    if (got < 0)
        return got;
    if (!model && required)
        return api_error_set(err, API_ERROR_MISSING, "model",
                             "model: is required; this server serves %.200s", served);
    if (model && strcmp(model, served) != 0)
        return api_error_set(err, API_ERROR_MODEL, "model",
                             "the model %.*s is not served here; this server serves %.200s",
                             (int)utf8_prefix(model, strnlen(model, 120)), model, served);
    return 0;
}

int body_token_ids(const json_t *array, uint32_t vocab_size, const char *what, uint32_t **ret_ids,
                   size_t *ret_n, struct api_error *err)
{
    size_t n = json_array_size(array);
    uint32_t *ids = NULL;

    if (n > 0 && !(ids = malloc(n * sizeof(*ids))))
        return api_error_memory(err);
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        if (!integer_value(json_array_get(array, i), &id) || id < 0 || id >= vocab_size) {
            char param[API_ERROR_PARAM_MAX];
            snprintf(param, sizeof(param), "%.60s[%zu]", what, i);
            free(ids);
            return api_error_set(err, API_ERROR_FIELD, param,
                                 "%s: must be a token id: an integer between 0 and %u", param,
                                 vocab_size - 1);
        }
        ids[i] = (uint32_t)id;
    }
    *ret_ids = ids;
    *ret_n = n;
    return 0;
}
