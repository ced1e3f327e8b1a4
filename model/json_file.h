// SPDX-License-Identifier: MIT
// json_file: JSON text of a checkpoint, read with bounds.  jansson bounds neither the memory of a
// document nor, for our taste, its depth: a scan of the text does, before anything is allocated.
// Numbers beyond 64 bits or beyond a double are refused; so are duplicate keys.
#pragma once
#include "base/fault.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct json_limits {
    uint64_t bytes_max;  // of the text
    uint32_t depth_max;  // of nested arrays and objects; 1: a flat one
    uint32_t values_max; // strings, numbers, words, arrays and objects: some 100 bytes each
};

// json_text_parse parses text[len], which need not end in NUL.
//
// *ret: a new reference, an object or array; json_decref when done.
// Errors: -EFBIG beyond a limit, -EBADMSG not JSON; -ENOMEM.  The sentence has no file name: see
// fault_prefix.
int json_text_parse(const char *text, size_t len, const struct json_limits *limits, json_t **ret,
                    struct fault *fault);

// json_file_read reads a whole regular file and parses it.
//
// Errors: as json_text_parse and -errno of open and read, -EINVAL not a regular file; the sentence
// begins with the path.
int json_file_read(const char *path, const struct json_limits *limits, json_t **ret,
                   struct fault *fault);
