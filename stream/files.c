// SPDX-License-Identifier: MIT
#include "stream/files.h"

#include "stream/stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_BYTES 1024u

struct copy {
    char path[PATH_BYTES];
    uint32_t drive; // of ours
    uint32_t file;  // of the reader, after stream_files_add
};

struct entry { // a file of slot ranges
    struct copy copies[DISK_COPIES_MAX];
    uint32_t copies_n;
};

struct stream_files {
    struct entry *entries; // [entries_n]
    uint32_t entries_n;
    char drives[DISK_DRIVES_MAX][PATH_BYTES];
    uint32_t drives_n;
};

// A drive is the directory where a file really lies: what lies in one shares a queue.
static int drive_of(struct stream_files *f, const char *path, uint32_t *ret, struct fault *fault)
{
    char dir[PATH_BYTES];
    char *real = realpath(path, NULL);
    if (!real)
        return fault_set(fault, errno, "%s: %s", path, strerror(errno));
    int n = snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(real, '/') - real), real);
    free(real);
    if (n < 0 || (size_t)n >= sizeof(dir))
        return fault_set(fault, ENAMETOOLONG, "%s: the path is too long", path);
    for (*ret = 0; *ret < f->drives_n; ++*ret)
        if (!strcmp(f->drives[*ret], dir))
            return 0;
    if (f->drives_n == DISK_DRIVES_MAX)
        return fault_set(fault, EINVAL, "%s: at most %u drives are served", dir, DISK_DRIVES_MAX);
    memcpy(f->drives[f->drives_n++], dir, (size_t)n + 1);
    return 0;
}

static int copy_add(struct stream_files *f, uint32_t entry, const char *path, struct fault *fault)
{
    struct entry *e = &f->entries[entry];
    if (e->copies_n == DISK_COPIES_MAX)
        return fault_set(fault, EINVAL, "%s: at most %u copies of a file are served", path,
                         DISK_COPIES_MAX);
    struct copy *copy = &e->copies[e->copies_n];
    int n = snprintf(copy->path, sizeof(copy->path), "%s", path);
    if (n < 0 || (size_t)n >= sizeof(copy->path))
        return fault_set(fault, ENAMETOOLONG, "%s: the path is too long", path);
    int err = drive_of(f, path, &copy->drive, fault);
    if (!err)
        e->copies_n++;
    return err;
}

static int size_get(const char *path, uint64_t *ret)
{
    struct stat st;
    if (stat(path, &st))
        return -errno;
    *ret = (uint64_t)st.st_size;
    return 0;
}

// The shards of a further directory, as far as it has them.
static int shards_add(struct stream_files *f, const struct checkpoint *ck, const char *dir,
                      struct fault *fault)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < f->entries_n; i++) {
        const char *original = safetensors_path(checkpoint_file(ck, i));
        const char *slash = strrchr(original, '/');
        char path[PATH_BYTES];
        uint64_t bytes = 0, want = 0;
        int n = snprintf(path, sizeof(path), "%s/%s", dir, slash ? slash + 1 : original);
        if (n < 0 || (size_t)n >= sizeof(path))
            return fault_set(fault, ENAMETOOLONG, "%s: the path is too long", dir);
        int err = size_get(path, &bytes);
        if (err == -ENOENT)
            continue;
        if (!err)
            err = size_get(original, &want);
        if (err)
            return fault_set(fault, -err, "%s: %s", path, strerror(-err));
        if (bytes != want)
            return fault_set(fault, EINVAL, "%s: %llu bytes, but %s has %llu: not a copy of it",
                             path, (unsigned long long)bytes, original, (unsigned long long)want);
        err = copy_add(f, i, path, fault);
        if (err)
            return err;
        found++;
    }
    return found ? 0
                 : fault_set(fault, ENOENT,
                             "%s: none of the checkpoint's shards is in this directory", dir);
}

static int shards_list(struct stream_files *f, const struct checkpoint *ck,
                       const struct stream_params *params, struct fault *fault)
{
    int err = 0;
    for (uint32_t i = 0; i < f->entries_n && !err; i++)
        err = copy_add(f, i, safetensors_path(checkpoint_file(ck, i)), fault);
    for (uint32_t i = 0; i < params->shards_n && !err; i++)
        err = shards_add(f, ck, params->shards[i], fault);
    return err;
}

static int parts_add(struct stream_files *f, const struct pack *pack, struct fault *fault)
{
    int err = 0;
    for (uint32_t i = 0; i < f->entries_n && !err; i++)
        err = copy_add(f, i, pack_part_path(pack, i), fault);
    return err;
}

// Copies of the engine's pack: records at the same places, or they are not copies.
static int packs_list(struct stream_files *f, const struct pack *first, const struct checkpoint *ck,
                      const struct stream_params *params, struct fault *fault)
{
    int err = parts_add(f, first, fault);
    for (uint32_t i = 1; i < params->packs_n && !err; i++) {
        struct pack *pack = NULL;
        err = pack_open(params->packs[i], ck, &pack, fault);
        if (err)
            break;
        if (memcmp(pack_layout(pack), pack_layout(first), sizeof(struct pack_layout)) ||
            pack_records(pack) != pack_records(first))
            err = fault_set(fault, EINVAL, "%s: not a copy of the pack in %s", params->packs[i],
                            params->packs[0]);
        if (!err)
            err = parts_add(f, pack, fault);
        pack_close(&pack);
    }
    return err;
}

int stream_files_open(const struct slots *slots, const struct checkpoint *ck,
                      const struct stream_params *params, struct stream_files **ret,
                      struct fault *fault)
{
    const struct pack *pack = slots_pack(slots);
    struct stream_files *f = calloc(1, sizeof(*f));
    if (!f)
        return fault_set(fault, ENOMEM, "out of memory");
    f->entries_n = pack ? pack_layout(pack)->parts_n : checkpoint_file_count(ck);
    f->entries = calloc(f->entries_n, sizeof(*f->entries));
    int err = !f->entries ? fault_set(fault, ENOMEM, "out of memory")
              : pack      ? packs_list(f, pack, ck, params, fault)
                          : shards_list(f, ck, params, fault);
    if (err) {
        stream_files_close(&f);
        return err;
    }
    *ret = f;
    return 0;
}

void stream_files_close(struct stream_files **fp)
{
    struct stream_files *f = *fp;
    *fp = NULL;
    if (!f)
        return;
    free(f->entries);
    free(f);
}

int stream_files_add(struct stream_files *f, struct disk_reader *reader, struct fault *fault)
{
    int err = 0;
    uint32_t number[DISK_DRIVES_MAX];
    for (uint32_t i = 0; i < f->drives_n && !err; i++)
        err = disk_reader_drive_add(reader, f->drives[i], &number[i], fault);
    for (uint32_t i = 0; i < f->entries_n; i++)
        for (uint32_t j = 0; j < f->entries[i].copies_n && !err; j++) {
            struct copy *copy = &f->entries[i].copies[j];
            err = disk_reader_file_add(reader, number[copy->drive], copy->path, &copy->file, fault);
        }
    return err;
}

uint32_t stream_files_copies(const struct stream_files *f, uint32_t file,
                             uint32_t ret[DISK_COPIES_MAX])
{
    const struct entry *e = &f->entries[file];
    for (uint32_t i = 0; i < e->copies_n; i++)
        ret[i] = e->copies[i].file;
    return e->copies_n;
}
