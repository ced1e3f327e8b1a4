// SPDX-License-Identifier: MIT
// body: the JSON body of a request, loaded with bounds, and its fields, read with words for what is
// wrong.  Everything that parses a request (chat, completion, tokenize) reads through here.
//
// Refused with 400: JSON that is malformed (line and column are told), invalid UTF-8 (offset told),
// \u0000 in strings (text ends at a NUL further in), duplicate keys, nesting deeper than
// BODY_DEPTH_MAX, more values than BODY_VALUES_MAX (8 MiB of "[]," would else become a gigabyte),
// anything but an object at the top.
// A field that is absent and one that is null are the same: the default stays.
// Thread: any.
#pragma once
#include "api/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BODY_DEPTH_MAX      64u
#define BODY_VALUES_MAX     (1u << 20) // 1 M numbers: six contexts of token ids; about 40 MB
#define BODY_CONTAINERS_MAX (1u << 16) // objects and arrays; about 20 MB

// body_load parses text into *ret_root, an object; free it with json_decref.
// text: [n] bytes, not kept.
int body_load(const char *text, size_t n, json_t **ret_root, struct api_error *err);

// Where a field is: the object that has it and the words before its name in error messages.
struct body_at {
    const json_t *object;
    const char *path; // "" at the top, or "messages[2]"; param becomes "messages[2].name"
};

// Each body_* reads field `name` if it is there and not null.  Returns 1 if it was read into *ret,
// 0 if it is absent or null (*ret untouched), -EINVAL with the error filled in.
int body_bool(struct body_at at, const char *name, bool *ret, struct api_error *err);
// Numbers: integers and reals alike; lo..hi inclusive.
int body_real(struct body_at at, const char *name, double lo, double hi, double *ret,
              struct api_error *err);
// Integers: 3 and 3.0; lo..hi inclusive.
int body_int(struct body_at at, const char *name, int64_t lo, int64_t hi, int64_t *ret,
             struct api_error *err);
// Strings: NUL-terminated UTF-8 owned by the body's root.
int body_text(struct body_at at, const char *name, const char **ret, struct api_error *err);
int body_object(struct body_at at, const char *name, const json_t **ret, struct api_error *err);
int body_array(struct body_at at, const char *name, const json_t **ret, struct api_error *err);

// body_fault fills in an error about field `name`: "<path>.<name>: <words>".  Returns -EINVAL.
int body_fault(struct api_error *err, enum api_error_kind kind, struct body_at at, const char *name,
               const char *format, ...) __attribute__((format(printf, 5, 6)));

// body_model checks `model`: required, and the name that is served (404 otherwise; the message
// names it).
int body_model(const json_t *root, const char *served, bool required, struct api_error *err);

// body_token_ids reads an array of token ids, each below vocab_size.
//
// ret_ids: [*ret_n], to be freed with free(); NULL if the array is empty.
// what: the field's path for errors.
int body_token_ids(const json_t *array, uint32_t vocab_size, const char *what, uint32_t **ret_ids,
                   size_t *ret_n, struct api_error *err);
