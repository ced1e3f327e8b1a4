// SPDX-License-Identifier: MIT
// fixture: reading small files and making model directories, for the tests of this folder.
#pragma once
#include "tests/check.h"

#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// fixture_text returns a whole file, NUL-terminated; freed by the caller.
static inline char *fixture_text(const char *path, size_t *ret_len)
{
    FILE *file = fopen(path, "rb");
    CHECK(file);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    long len = ftell(file);
    CHECK(len >= 0);
    rewind(file);
    char *text = malloc((size_t)len + 1);
    CHECK(text);
    CHECK(fread(text, 1, (size_t)len, file) == (size_t)len);
    text[len] = '\0';
    fclose(file);
    if (ret_len)
        *ret_len = (size_t)len;
    return text;
}

static inline void fixture_write(const char *dir, const char *name, const void *data, size_t len)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    unlink(path); // it may be a link to a golden file
    FILE *file = fopen(path, "wb");
    CHECK(file);
    CHECK(fwrite(data, 1, len, file) == len);
    CHECK(fclose(file) == 0);
}

static inline void fixture_write_text(const char *dir, const char *name, const char *text)
{
    fixture_write(dir, name, text, strlen(text));
}
