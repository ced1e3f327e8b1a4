// SPDX-License-Identifier: MIT
#include "client/find.h"

#include "client/sight.h"

#include <dirent.h>
#include <fcntl.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_MAX   4    // /mnt/nvme0/models/V3/part
#define LOOKED_MAX  4000 // directories in all: seconds on a cold drive
#define BELOW_MAX   256  // directories of one that are looked into
#define INDEX_NAME  "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

// What the entries of a directory say.
struct dir_facts {
    bool config, index, manifest, checksums;
    uint32_t shards;
    uint64_t shard_bytes, record_bytes;
    char shard[NAME_MAX + 1];
    char *below[BELOW_MAX]; // names of directories in it
    uint32_t below_n;
};

static bool name_ends(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

static uint64_t file_bytes(int dir, const char *name)
{
    struct stat st;
    return fstatat(dir, name, &st, 0) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
}

static void facts_entry(struct dir_facts *facts, int dir, const struct dirent *entry)
{
    const char *name = entry->d_name;
    struct stat st;

    if (name[0] == '.')
        return;
    facts->config |= strcmp(name, "config.json") == 0;
    facts->index |= strcmp(name, INDEX_NAME) == 0 || strcmp(name, SINGLE_NAME) == 0;
    facts->manifest |= strcmp(name, "manifest.json") == 0;
    facts->checksums |= strcmp(name, "checksums") == 0;
    if (name_ends(name, ".safetensors")) {
        facts->shards++;
        facts->shard_bytes += file_bytes(dir, name);
        snprintf(facts->shard, sizeof(facts->shard), "%s", name);
    } else if (strncmp(name, "experts.", 8) == 0) {
        facts->record_bytes += file_bytes(dir, name);
    } else if (facts->below_n < BELOW_MAX && (entry->d_type == DT_DIR || entry->d_type == 0) &&
               fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
        char *copy = strdup(name);
        if (copy)
            facts->below[facts->below_n++] = copy;
    }
}

// find_take notes a directory that is something, once.
static void find_take(struct find *find, const char *path, const struct stat *st,
                      const struct dir_facts *facts)
{
    bool pack = facts->manifest && facts->checksums;

    for (uint32_t i = 0; i < find->n; i++)
        if (find->found[i].dev == st->st_dev && find->found[i].ino == st->st_ino)
            return;
    if (find->n == FIND_MAX || strlen(path) >= CONF_TEXT_MAX || !sight_named_well(path))
        return;
    struct find_one *one = &find->found[find->n++];
    *one = (struct find_one){
        .kind = pack                            ? FIND_PACK
                : facts->config && facts->index ? FIND_MODEL
                                                : FIND_SHARDS,
        .bytes = pack ? facts->record_bytes : facts->shard_bytes,
        .dev = st->st_dev,
        .ino = st->st_ino,
    };
    snprintf(one->path, sizeof(one->path), "%s", path);
    snprintf(one->file, sizeof(one->file), "%s", facts->shard);
}

static void find_dir(struct find *find, const char *path, int depth)
{
    struct dir_facts *facts = calloc(1, sizeof(*facts));
    char below[PATH_MAX];
    struct stat st;

    DIR *dir = facts && find->looked++ < LOOKED_MAX ? opendir(path) : NULL;
    if (!dir || fstat(dirfd(dir), &st) != 0)
        goto out;
    for (struct dirent *entry; (entry = readdir(dir));)
        facts_entry(facts, dirfd(dir), entry);
    closedir(dir); // before going deeper: descriptors are few
    dir = NULL;
    bool is = (facts->config && facts->index) || facts->shards > 0 ||
              (facts->manifest && facts->checksums);
    if (is)
        find_take(find, path, &st, facts);
    for (uint32_t i = 0; !is && depth > 0 && i < facts->below_n; i++)
        if (snprintf(below, sizeof(below), "%s/%s", strcmp(path, "/") == 0 ? "" : path,
                     facts->below[i]) < PATH_MAX)
            find_dir(find, below, depth - 1);
out:
    if (dir)
        closedir(dir);
    for (uint32_t i = 0; facts && i < facts->below_n; i++)
        free(facts->below[i]);
    free(facts);
}

void find_below(struct find *find, const char *place)
{
    char *real = realpath(place, NULL);
    if (real)
        find_dir(find, real, DEPTH_MAX);
    free(real);
}

void find_usual(struct find *find)
{
    static const char *const places[] = {"/srv",  "/mnt",    "/media",          "/opt",
                                         "/data", "/models", "/var/lib/expertd"};
    static const char *const kept[] = {"/", "/boot", "/boot/efi", "/efi", "/etc", "/usr", "/var"};
    struct mntent *mount;

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        find_below(find, places[i]);
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    while (mounts && (mount = getmntent(mounts))) {
        bool skip = strncmp(mount->mnt_fsname, "/dev/", 5) != 0;
        skip |= sight_hidden(mount->mnt_dir) != NULL;
        for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
            skip |= strcmp(mount->mnt_dir, kept[i]) == 0;
        if (!skip)
            find_below(find, mount->mnt_dir);
    }
    if (mounts)
        endmntent(mounts);
}

bool find_copies(const char *dir, const char *name, uint64_t bytes)
{
    char path[PATH_MAX];
    struct stat st;

    return snprintf(path, sizeof(path), "%s/%s", dir, name) < PATH_MAX && stat(path, &st) == 0 &&
           S_ISREG(st.st_mode) && (uint64_t)st.st_size == bytes;
}
