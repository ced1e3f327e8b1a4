// SPDX-License-Identifier: MIT
// pack_fixture: temporary directories with copies of golden models, and packs as bytes, for the
// tests of packs and hash lists.
#pragma once
#include "model/pack.h"
#include "model/pack_write.h"
#include "tests/unit/model/fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

static char fixture_root[64] = "/tmp/test_pack.XXXXXX";

// fixture_remove removes a directory with its files and directories; nothing there is fine.
static inline void fixture_remove(const char *path)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return;
    if (!S_ISDIR(st.st_mode)) {
        CHECK(unlink(path) == 0);
        return;
    }
    DIR *dir = opendir(path);
    CHECK(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char below[4096];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        CHECK(snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) < (int)sizeof(below));
        fixture_remove(below);
    }
    closedir(dir);
    CHECK(rmdir(path) == 0);
}

static inline void fixture_end(void)
{
    fixture_remove(fixture_root);
}

static inline void fixture_begin(void)
{
    CHECK(mkdtemp(fixture_root));
    atexit(fixture_end);
}

// fixture_path returns ROOT/NAME; the text lasts.
static inline const char *fixture_path(const char *name)
{
    static char texts[96][128];
    char text[128];
    CHECK(snprintf(text, sizeof(text), "%s/%s", fixture_root, name) < (int)sizeof(text));
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (!texts[i][0])
            memcpy(texts[i], text, sizeof(text));
        if (strcmp(texts[i], text) == 0)
            return texts[i];
    }
    CHECK_FAIL("too many paths");
}

// fixture_golden returns a golden model's directory; the text lasts for the next three calls.
#define fixture_golden(name) fixture_golden_in(GOLDEN_DIR, name)
static inline const char *fixture_golden_in(const char *golden_dir, const char *name)
{
    static char texts[4][1024];
    static unsigned next;
    char *text = texts[next++ % 4];
    CHECK(snprintf(text, 1024, "%s/models/%s", golden_dir, name) < 1024);
    return text;
}

// fixture_copy copies a golden model's files into ROOT/NAME.
#define fixture_copy(golden, name) fixture_copy_from(fixture_golden(golden), name)
static inline void fixture_copy_from(const char *from, const char *name)
{
    const char *to = fixture_path(name);
    fixture_remove(to);
    CHECK(mkdir(to, 0700) == 0);
    DIR *dir = opendir(from);
    CHECK(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        char path[4096];
        size_t len;
        if (entry->d_name[0] == '.' || strncmp(entry->d_name, "golden", 6) == 0)
            continue;
        CHECK(snprintf(path, sizeof(path), "%s/%s", from, entry->d_name) < (int)sizeof(path));
        char *data = fixture_text(path, &len);
        fixture_write(to, entry->d_name, data, len);
        free(data);
    }
    closedir(dir);
}

// fixture_dir makes an empty directory ROOT/NAME, over what may be there.
static inline const char *fixture_dir(const char *name)
{
    const char *path = fixture_path(name);
    fixture_remove(path);
    CHECK(mkdir(path, 0700) == 0);
    return path;
}

static inline struct checkpoint *fixture_checkpoint(const char *dir)
{
    struct checkpoint *ck = NULL;
    struct fault fault = {0};
    if (checkpoint_open(dir, &ck, &fault) < 0)
        CHECK_FAIL(fault.text);
    return ck;
}

// fixture_poke writes bytes over those at an offset of a file.
static inline void fixture_poke(const char *path, uint64_t off, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(pwrite(fd, bytes, n, (off_t)off) == (ssize_t)n);
    CHECK(close(fd) == 0);
}

static inline void fixture_peek(const char *path, uint64_t off, void *bytes, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(pread(fd, bytes, n, (off_t)off) == (ssize_t)n);
    CHECK(close(fd) == 0);
}

static inline void fixture_flip(const char *path, uint64_t off, unsigned bit)
{
    uint8_t byte;
    fixture_peek(path, off, &byte, 1);
    byte ^= (uint8_t)(1u << bit);
    fixture_poke(path, off, &byte, 1);
}

// fixture_same_file says whether two files hold the same bytes.
static inline void fixture_same_file(const char *a, const char *b, const char *name)
{
    char path[2][512];
    size_t len[2];
    CHECK(snprintf(path[0], sizeof(path[0]), "%s/%s", a, name) < (int)sizeof(path[0]));
    CHECK(snprintf(path[1], sizeof(path[1]), "%s/%s", b, name) < (int)sizeof(path[1]));
    char *x = fixture_text(path[0], &len[0]), *y = fixture_text(path[1], &len[1]);
    if (len[0] != len[1] || memcmp(x, y, len[0]) != 0)
        fprintf(stderr, "%s and %s differ\n", path[0], path[1]);
    CHECK(len[0] == len[1] && memcmp(x, y, len[0]) == 0);
    free(x);
    free(y);
}

// fixture_same_pack compares packs of one number of parts.
static inline void fixture_same_pack(const char *a, const char *b, uint32_t parts)
{
    fixture_same_file(a, b, "manifest.json");
    fixture_same_file(a, b, "checksums");
    for (uint32_t i = 0; i < parts; i++) {
        char name[16];
        snprintf(name, sizeof(name), "experts.%u", i);
        fixture_same_file(a, b, name);
    }
}

// fixture_pack makes a pack that must succeed.
static inline void fixture_pack(const struct checkpoint *ck, const struct pack_write_params *params)
{
    struct fault fault = {0};
    if (pack_write(ck, params, &fault) < 0)
        CHECK_FAIL(fault.text);
}
