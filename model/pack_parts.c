// SPDX-License-Identifier: MIT
#include "model/pack_parts.h"

#include "model/file.h"
#include "model/pack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define PATH_BYTES_MAX 4096
#define ID_DIGITS      16u // two packs on a drive draw the same with 2^-64

static int link_path(const char *dir, uint32_t part, char ret[PATH_BYTES_MAX], struct fault *fault)
{
    if (snprintf(ret, PATH_BYTES_MAX, "%s/experts.%u", dir, part) >= PATH_BYTES_MAX)
        return fault_set(fault, ENAMETOOLONG, "%s: the path is too long", file_label(dir));
    return 0;
}

// link_read reads where part i of the pack in dir lies.
static bool link_read(const char *dir, uint32_t part, char ret[PATH_BYTES_MAX])
{
    char path[PATH_BYTES_MAX];

    if (link_path(dir, part, path, NULL) < 0)
        return false;
    ssize_t n = readlink(path, ret, PATH_BYTES_MAX);
    if (n <= 0 || n >= PATH_BYTES_MAX)
        return false;
    ret[n] = '\0';
    return true;
}

// part_id returns the id in a part's path, or NULL where the file's name is not experts.N.ID.
static const char *part_id(const char *path, uint32_t part)
{
    char prefix[24];
    int n = snprintf(prefix, sizeof(prefix), "/experts.%u.", part);
    const char *name = strrchr(path, '/');

    if (!name || strncmp(name, prefix, (size_t)n) != 0)
        return NULL;
    const char *id = name + n;
    return strlen(id) == ID_DIGITS && strspn(id, "0123456789abcdef") == ID_DIGITS ? id : NULL;
}

static void paths_free(char **paths, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        free(paths[i]);
        paths[i] = NULL;
    }
}

int pack_parts_name(char *const *drives, uint32_t n, char **ret_paths, struct fault *fault)
{
    char *paths[PACK_PARTS_MAX] = {NULL}, path[PATH_BYTES_MAX];
    uint64_t id;

    if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id))
        return fault_set(fault, errno, "no random number: %s", strerror(errno));
    for (uint32_t i = 0; i < n; i++) {
        int len = snprintf(path, sizeof(path), "%s/experts.%u.%016" PRIx64, drives[i], i, id);
        bool fits = len >= 0 && (size_t)len + sizeof(PACK_PARTIAL) <= sizeof(path);
        paths[i] = fits ? strdup(path) : NULL;
        if (paths[i])
            continue;
        paths_free(paths, i);
        return fits ? fault_set(fault, ENOMEM, "no memory for the pack's paths")
                    : fault_set(fault, ENAMETOOLONG, "%s: the path is too long",
                                file_label(drives[i]));
    }
    memcpy(ret_paths, paths, n * sizeof(paths[0]));
    return 0;
}

bool pack_parts_find(const char *dir, char *const *drives, uint32_t n, char **ret_paths)
{
    char *paths[PACK_PARTS_MAX] = {NULL}, path[PATH_BYTES_MAX], first[ID_DIGITS + 1] = "";

    for (uint32_t i = 0; i < n; i++) {
        const char *id = link_read(dir, i, path) ? part_id(path, i) : NULL;
        size_t drive_len = strlen(drives[i]);
        bool good = id && strncmp(path, drives[i], drive_len) == 0 &&
                    strrchr(path, '/') == path + drive_len;
        if (good && i == 0)
            memcpy(first, id, sizeof(first));
        if (good && strcmp(id, first) == 0)
            paths[i] = strdup(path);
        if (!paths[i]) {
            paths_free(paths, i);
            return false;
        }
    }
    memcpy(ret_paths, paths, n * sizeof(paths[0]));
    return true;
}

int pack_parts_link(const char *dir, char *const *paths, uint32_t n, struct fault *fault)
{
    char path[PATH_BYTES_MAX];

    for (uint32_t i = 0; i < n; i++) {
        int err = link_path(dir, i, path, fault);
        if (err < 0)
            return err;
        if (symlink(paths[i], path) < 0)
            return fault_set(fault, errno, "%s: cannot be made: %s", file_label(path),
                             strerror(errno));
    }
    return 0;
}

// part_unlink: a drive that was taken out, or a part that was never begun, is fine.
static int part_unlink(const char *path, struct fault *fault)
{
    if (unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR)
        return 0;
    return fault_set(fault, errno, "%s: this part of the old pack cannot be removed: %s",
                     file_label(path), strerror(errno));
}

int pack_parts_remove(const char *dir, struct fault *fault)
{
    char path[PATH_BYTES_MAX + sizeof(PACK_PARTIAL)];
    int err = 0;

    for (uint32_t i = 0; i < PACK_PARTS_MAX && err == 0; i++) {
        if (!link_read(dir, i, path) || !part_id(path, i))
            continue;
        size_t len = strlen(path);
        err = part_unlink(path, fault);
        memcpy(path + len, PACK_PARTIAL, sizeof(PACK_PARTIAL));
        if (err == 0)
            err = part_unlink(path, fault);
    }
    return err;
}
