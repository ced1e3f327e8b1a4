// SPDX-License-Identifier: MIT
#include "model/pack_place.h"

#include "model/file.h"
#include "model/pack_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

// Besides records: manifest, plan and checksums of the largest model stay below it.
#define SMALL_FILES_BYTES (4u << 20)

static const char *const own_names[] = {"plan.json", "manifest.json", "checksums", "experts.0",
                                        "experts.1", "experts.2",     "experts.3", "experts.4",
                                        "experts.5", "experts.6",     "experts.7"};
#define OWN_NAMES (sizeof(own_names) / sizeof(own_names[0]))
_Static_assert(OWN_NAMES == 3 + PACK_PARTS_MAX, "every part");

/* ------------------------------------------------------------------ paths */

static int failed(const char *path, const char *what, struct fault *fault)
{
    return fault_set(fault, errno, "%s: %s: %s", file_label(path), what, strerror(errno));
}

static int out_of_memory(struct fault *fault)
{
    return fault_set(fault, ENOMEM, "no memory for the pack's paths");
}

// text_make allocates a path.
static int text_make(char **ret, struct fault *fault, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int text_make(char **ret, struct fault *fault, const char *format, ...)
{
    char text[PACK_PATH_MAX + 32];
    va_list args;

    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (n < 0 || n >= PACK_PATH_MAX)
        return fault_set(fault, ENAMETOOLONG, "%s: the path is too long", file_label(text));
    *ret = strdup(text);
    return *ret ? 0 : out_of_memory(fault);
}

// directory_sync makes new and renamed entries of a directory last.
static int directory_sync(const char *path, struct fault *fault)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return failed(path, "cannot be opened", fault);
    int err = fsync(fd) < 0 ? failed(path, "cannot be written", fault) : 0;
    close(fd);
    return err;
}

static int parent_sync(const char *path, struct fault *fault)
{
    char copy[PACK_PATH_MAX];
    snprintf(copy, sizeof(copy), "%s", path);
    return directory_sync(dirname(copy), fault);
}

static bool name_is_own(const char *name)
{
    for (size_t i = 0; i < OWN_NAMES; i++)
        if (strcmp(name, own_names[i]) == 0)
            return true;
    return false;
}

// directory_count counts the files of a pack in a directory, and all others.
static int directory_count(const char *path, unsigned *ret_own, unsigned *ret_others,
                           struct fault *fault)
{
    DIR *dir = opendir(path);
    if (!dir)
        return failed(path, "cannot be read", fault);
    *ret_own = *ret_others = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ++*(name_is_own(entry->d_name) ? ret_own : ret_others);
    closedir(dir);
    return 0;
}

// directory_clear removes a pack's files; `keep` may name one that stays.
static int directory_clear(const char *path, const char *keep, struct fault *fault)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
    if (dir < 0)
        return failed(path, "cannot be opened", fault);
    for (size_t i = 0; i < OWN_NAMES && err == 0; i++)
        if ((!keep || strcmp(own_names[i], keep) != 0) && unlinkat(dir, own_names[i], 0) < 0 &&
            errno != ENOENT)
            err = failed(path, own_names[i], fault);
    close(dir);
    return err;
}

// directory_discard removes a pack's files and its parts on drives.  The plan goes first, for a
// place that lost parts is none to go on with; the links last, for they say which parts are whose.
static int directory_discard(const char *path, const char *keep, struct fault *fault)
{
    char *plan = NULL;
    int err = text_make(&plan, fault, "%s/plan.json", path);
    if (err == 0 && unlink(plan) < 0 && errno != ENOENT)
        err = failed(plan, "cannot be removed", fault);
    free(plan);
    if (err == 0)
        err = pack_parts_remove(path, fault);
    return err ? err : directory_clear(path, keep, fault);
}

/* ------------------------------------------------------------------- dst */

// dst_check refuses a target that must not be replaced.  An empty directory may be.
static int dst_check(const struct pack_place *place, struct fault *fault)
{
    struct stat st, parent;
    char copy[PACK_PATH_MAX];
    unsigned own = 0, others = 0;

    snprintf(copy, sizeof(copy), "%s", place->dst);
    const char *above = dirname(copy);
    if (stat(above, &parent) < 0)
        return failed(above, "a pack cannot be made here", fault);
    if (lstat(place->dst, &st) < 0)
        return errno == ENOENT ? 0 : failed(place->dst, "cannot be looked at", fault);
    if (!S_ISDIR(st.st_mode))
        return fault_set(fault, EEXIST, "%s: is there already and no directory",
                         file_label(place->dst));
    if (parent.st_dev != st.st_dev)
        return fault_set(fault, EXDEV,
                         "%s: is a mount point, which cannot be replaced: name a directory in it",
                         file_label(place->dst));
    int err = directory_count(place->dst, &own, &others, fault);
    if (err < 0)
        return err;
    if (others)
        return fault_set(fault, EEXIST, "%s: is there already and holds more than a pack",
                         file_label(place->dst));
    if (!place->force && own)
        return fault_set(fault, EEXIST, "%s: is there already; --force replaces it",
                         file_label(place->dst));
    return 0;
}

static int dst_paths(struct pack_place *place, const char *dst, struct fault *fault)
{
    size_t len = strlen(dst);
    while (len > 1 && dst[len - 1] == '/')
        len--;
    const char *name = dst + len;
    while (name > dst && name[-1] != '/')
        name--;
    size_t name_len = (size_t)(dst + len - name);
    if (name_len == 0 || (name_len == 1 && name[0] == '.') ||
        (name_len == 2 && memcmp(name, "..", 2) == 0))
        return fault_set(fault, EINVAL, "'%s' is no name for a new directory", file_label(dst));
    int err = text_make(&place->dst, fault, "%.*s", (int)len, dst);
    return err ? err : text_make(&place->partial, fault, "%s.partial", place->dst);
}

/* ------------------------------------------------------------------ drives */

// A drive's directory is never made: one that is mistyped, or whose drive is not mounted, would
// fill the file system above it.
static int drives_find(struct pack_place *place, const char *const *drives, struct fault *fault)
{
    int err = file_dirs_check(drives, place->layout->parts_n, fault);
    for (uint32_t i = 0; err == 0 && i < place->layout->parts_n; i++) {
        char path[PATH_MAX];
        if (!realpath(drives[i], path))
            return failed(drives[i], "cannot be found", fault);
        err = text_make(&place->drive[i], fault, "%s", path);
    }
    return err;
}

// part_paths says where parts grow; `final` is known where they lie on drives.
static int part_paths(struct pack_place *place, struct fault *fault)
{
    int err = 0;

    for (uint32_t i = 0; err == 0 && i < place->layout->parts_n; i++)
        err = place->final[i]
                  ? text_make(&place->path[i], fault, "%s" PACK_PARTIAL, place->final[i])
                  : text_make(&place->path[i], fault, "%s/experts.%u", place->partial, i);
    return err;
}

/* -------------------------------------------------------------- small files */

static int write_all(int fd, const void *bytes, size_t n, uint64_t off)
{
    for (size_t at = 0; at < n;) {
        ssize_t wrote = pwrite(fd, (const char *)bytes + at, n - at, (off_t)(off + at));
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return wrote < 0 ? -errno : -EIO;
        at += (size_t)wrote;
    }
    return 0;
}

// file_make writes a small file that lasts.
static int file_make(const char *path, const char *text, struct fault *fault)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return failed(path, "cannot be made", fault);
    int err = write_all(fd, text, strlen(text), 0);
    if (err == 0 && fsync(fd) < 0)
        err = -errno;
    if (close(fd) < 0 && err == 0)
        err = -errno;
    if (err < 0)
        return fault_set(fault, -err, "%s: cannot be written: %s", file_label(path),
                         strerror(-err));
    return 0;
}

// file_equals says whether a small file holds just this text.
static bool file_equals(const char *path, const char *text)
{
    uint64_t bytes = 0, len = strlen(text);
    char have[4096];
    int fd = -1;

    if (file_open(path, &fd, &bytes, NULL) < 0)
        return false;
    bool equal = bytes == len;
    for (uint64_t at = 0; equal && at < len;) {
        size_t n = len - at < sizeof(have) ? (size_t)(len - at) : sizeof(have);
        equal = file_read_at(fd, path, at, have, n, NULL) == 0 && memcmp(have, text + at, n) == 0;
        at += n;
    }
    close(fd);
    return equal;
}

static int journal_lock(struct pack_place *place, struct fault *fault)
{
    char *path = NULL;
    int err = text_make(&path, fault, "%s/checksums", place->partial);
    if (err < 0)
        return err;
    place->journal = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (place->journal < 0)
        err = failed(path, "cannot be made", fault);
    else if (flock(place->journal, LOCK_EX | LOCK_NB) < 0)
        err = errno == EWOULDBLOCK
                  ? fault_set(fault, EBUSY, "%s: another expertctl is writing this pack",
                              file_label(place->partial))
                  : failed(path, "cannot be locked", fault);
    free(path);
    return err;
}

static int journal_read(struct pack_place *place, struct fault *fault)
{
    struct stat st;
    if (fstat(place->journal, &st) < 0)
        return failed(place->partial, "checksums cannot be looked at", fault);
    uint64_t done = (uint64_t)st.st_size / CHECKSUM_BYTES; // the last may have been cut off
    place->done = done < place->records ? (uint32_t)done : place->records;
    return file_read_at(place->journal, place->partial, 0, place->sums,
                        (size_t)place->done * CHECKSUM_BYTES, fault);
}

int pack_place_restart(struct pack_place *place, struct fault *fault)
{
    place->done = 0;
    if (ftruncate(place->journal, 0) < 0 || fsync(place->journal) < 0)
        return failed(place->partial, "checksums cannot be written", fault);
    return 0;
}

int pack_place_journal(struct pack_place *place, uint32_t done, struct fault *fault)
{
    int err = write_all(place->journal, place->sums[place->done],
                        (size_t)(done - place->done) * CHECKSUM_BYTES,
                        (uint64_t)place->done * CHECKSUM_BYTES);
    if (err == 0 && fdatasync(place->journal) < 0)
        err = -errno;
    if (err < 0)
        return fault_set(fault, -err, "%s/checksums: cannot be written: %s",
                         file_label(place->partial), strerror(-err));
    place->done = done;
    return 0;
}

/* ------------------------------------------------------------------ space */

// part_missing returns the bytes of a part that its file system has not given yet.
static uint64_t part_missing(const struct pack_place *place, uint32_t part)
{
    uint64_t bytes = place->records * place->layout->part_bytes[part];
    struct stat st;
    if (fstat(place->fds[part], &st) < 0)
        return bytes;
    uint64_t have = (uint64_t)st.st_blocks * 512;
    return have < bytes ? bytes - have : 0;
}

// space_ask sums what the parts on the file system of one of them still need, and what is free.
static int space_ask(const struct pack_place *place, uint32_t part, uint64_t *ret_need,
                     uint64_t *ret_free)
{
    struct stat here, other;
    struct statvfs vfs;

    if (fstat(place->fds[part], &here) < 0 || fstatvfs(place->fds[part], &vfs) < 0)
        return -errno;
    *ret_need = SMALL_FILES_BYTES;
    for (uint32_t i = 0; i < place->layout->parts_n; i++)
        if (fstat(place->fds[i], &other) == 0 && other.st_dev == here.st_dev)
            *ret_need += part_missing(place, i);
    *ret_free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
    return 0;
}

static int space_fault(const struct pack_place *place, uint32_t part, uint64_t need,
                       uint64_t free_bytes, struct fault *fault)
{
    return fault_set(fault, ENOSPC,
                     "%s: its file system has %" PRIu64 " bytes free; the pack needs %" PRIu64
                     " (%.1f MB) more there: free some and run this again, or choose another place",
                     file_label(place->path[part]), free_bytes, need, (double)need / 1e6);
}

// space_reserve asks for all space at once: a drive that is too small says so now and not after
// hours.
static int space_reserve(const struct pack_place *place, struct fault *fault)
{
    uint64_t need, free_bytes;

    for (uint32_t i = 0; i < place->layout->parts_n; i++)
        if (space_ask(place, i, &need, &free_bytes) == 0 && need > free_bytes)
            return space_fault(place, i, need, free_bytes, fault);
    for (uint32_t i = 0; i < place->layout->parts_n; i++) {
        uint64_t bytes = place->records * place->layout->part_bytes[i];
        if (fallocate(place->fds[i], 0, 0, (off_t)bytes) == 0)
            continue;
        int err = errno;
        if (err == EOPNOTSUPP || err == ENOSYS)
            continue; // then it shows as it comes
        if ((err == ENOSPC || err == EDQUOT) && space_ask(place, i, &need, &free_bytes) == 0)
            return space_fault(place, i, need, free_bytes, fault);
        return fault_set(fault, err, "%s: its %" PRIu64 " bytes cannot be reserved: %s",
                         file_label(place->path[i]), bytes, strerror(err));
    }
    return 0;
}

int pack_place_full(const struct pack_place *place, int err, struct fault *fault)
{
    uint64_t need, free_bytes;

    if (-err != ENOSPC && -err != EDQUOT)
        return err;
    for (uint32_t i = 0; i < place->layout->parts_n; i++)
        if (space_ask(place, i, &need, &free_bytes) == 0 && need > free_bytes)
            return space_fault(place, i, need, free_bytes, fault);
    fault_prefix(fault, "free some space and run this again; what is done is kept");
    return err;
}

/* ------------------------------------------------------------------- parts */

// part_open opens a part to grow, or, where an earlier commit has gone half way, the finished one.
static int part_open(struct pack_place *place, uint32_t i, struct fault *fault)
{
    const char *final = place->final[i];
    struct stat st;
    bool all = place->done == place->records;

    if (final && all && access(place->path[i], F_OK) < 0 && stat(final, &st) == 0 &&
        (uint64_t)st.st_size == place->records * place->layout->part_bytes[i]) {
        char *path = strdup(final);
        if (!path)
            return out_of_memory(fault);
        free(place->path[i]);
        place->path[i] = path;
    }
    int fd = open(place->path[i], O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return failed(place->path[i], "cannot be made", fault);
    place->fds[i] = fd;
    if (place->done == 0 && ftruncate(fd, 0) < 0)
        return failed(place->path[i], "cannot be emptied", fault);
    return 0;
}

void pack_place_direct(struct pack_place *place)
{
    for (uint32_t i = 0; i < place->layout->parts_n; i++) {
        int flags = fcntl(place->fds[i], F_GETFL);
        if (flags >= 0) // a file system that refuses it is written through the page cache
            fcntl(place->fds[i], F_SETFL, flags | O_DIRECT);
    }
}

/* ------------------------------------------------------------- the whole */

// place_begin makes an empty place of what is there.
static int place_begin(struct pack_place *place, const char *plan_path, const char *plan,
                       struct fault *fault)
{
    const uint32_t parts_n = place->layout->parts_n;
    int err = pack_place_restart(place, fault); // before the plan makes the journal count
    if (err == 0)
        err = directory_discard(place->partial, "checksums", fault);
    if (err == 0 && place->drive[0])
        err = pack_parts_name(place->drive, parts_n, place->final, fault);
    if (err == 0 && place->drive[0])
        err = pack_parts_link(place->partial, place->final, parts_n, fault);
    if (err == 0)
        err = file_make(plan_path, plan, fault);
    if (err == 0)
        err = directory_sync(place->partial, fault);
    return err ? err : parent_sync(place->partial, fault);
}

// place_has_parts says whether parts grow on the drives that this call names, and finds them.
static bool place_has_parts(struct pack_place *place)
{
    return !place->drive[0] ||
           pack_parts_find(place->partial, place->drive, place->layout->parts_n, place->final);
}

static int place_find(struct pack_place *place, const struct pack_manifest *manifest,
                      struct fault *fault)
{
    char *plan_path = NULL;
    unsigned own, others = 0;

    bool made = mkdir(place->partial, 0755) == 0;
    if (!made && errno != EEXIST)
        return failed(place->partial, "cannot be made", fault);
    int err = directory_count(place->partial, &own, &others, fault);
    if (err == 0 && others)
        err = fault_set(fault, EEXIST, "%s: is there already and holds other files",
                        file_label(place->partial));
    if (err == 0)
        err = journal_lock(place, fault);
    place->made = made && err == 0;
    if (err == 0)
        err = text_make(&plan_path, fault, "%s/plan.json", place->partial);
    if (err < 0)
        return err;
    char *plan = pack_manifest_text(manifest);
    if (!plan)
        err = out_of_memory(fault);
    else if (file_equals(plan_path, plan) && place_has_parts(place))
        err = journal_read(place, fault);
    else
        err = place_begin(place, plan_path, plan, fault);
    free(plan);
    free(plan_path);
    return err;
}

void pack_place_abandon(struct pack_place *place)
{
    if (!place->made || place->done > 0)
        return;
    // What cannot be removed stays; the reason to give up is the one to tell.
    if (directory_discard(place->partial, NULL, NULL) == 0)
        rmdir(place->partial);
}

int pack_place_open(const struct pack_place_params *params, const struct pack_manifest *manifest,
                    struct pack_place *ret, struct fault *fault)
{
    struct pack_place place = {.layout = &manifest->layout,
                               .force = params->force,
                               .journal = -1,
                               .records = experts_n(&manifest->experts)};
    for (uint32_t i = 0; i < PACK_PARTS_MAX; i++)
        place.fds[i] = -1;

    int err = 0;
    place.sums = calloc(place.records, CHECKSUM_BYTES);
    if (!place.sums)
        err = fault_set(fault, ENOMEM, "no memory for %u checksums", place.records);
    if (err == 0)
        err = dst_paths(&place, params->dst, fault);
    if (err == 0)
        err = dst_check(&place, fault);
    if (err == 0 && params->drives)
        err = drives_find(&place, params->drives, fault);
    if (err == 0)
        err = place_find(&place, manifest, fault);
    if (err == 0)
        err = part_paths(&place, fault);
    for (uint32_t i = 0; i < place.layout->parts_n && err == 0; i++)
        err = part_open(&place, i, fault);
    if (err == 0)
        err = space_reserve(&place, fault);
    if (err < 0) {
        pack_place_abandon(&place);
        pack_place_fini(&place);
        return err;
    }
    *ret = place;
    return 0;
}

void pack_place_fini(struct pack_place *place)
{
    for (uint32_t i = 0; i < PACK_PARTS_MAX; i++) {
        free(place->drive[i]);
        free(place->path[i]);
        free(place->final[i]);
        if (place->layout && place->fds[i] >= 0)
            close(place->fds[i]);
    }
    if (place->layout && place->journal >= 0)
        close(place->journal);
    free(place->sums);
    free(place->dst);
    free(place->partial);
    *place = (struct pack_place){0};
}

static int parts_finish(const struct pack_place *place, struct fault *fault)
{
    for (uint32_t i = 0; i < place->layout->parts_n; i++) {
        if (fsync(place->fds[i]) < 0)
            return failed(place->path[i], "cannot be written", fault);
        if (!place->final[i] || strcmp(place->final[i], place->path[i]) == 0)
            continue;
        if (rename(place->path[i], place->final[i]) < 0)
            return failed(place->path[i], "cannot be renamed", fault);
        int err = parent_sync(place->final[i], fault);
        if (err < 0)
            return err;
    }
    return 0;
}

// dst_swap puts the finished directory in DST's place.
//
// ret_old: the old one is now called DST.partial.
static int dst_swap(const struct pack_place *place, bool *ret_old, struct fault *fault)
{
    bool old = access(place->dst, F_OK) == 0;

    // Takes the old pack's name over in one step.
    *ret_old =
        old && renameat2(AT_FDCWD, place->partial, AT_FDCWD, place->dst, RENAME_EXCHANGE) == 0;
    if (*ret_old)
        return 0;
    // A file system that cannot: between the two steps DST.partial is a place to go on with.
    int err = old ? directory_discard(place->dst, NULL, fault) : 0;
    if (err == 0 && rename(place->partial, place->dst) < 0)
        err = failed(place->partial, "cannot be renamed", fault);
    return err;
}

// old_remove removes the pack whose name was taken over.
static int old_remove(const struct pack_place *place, struct fault *fault)
{
    int err = directory_discard(place->partial, NULL, fault);
    if (err == 0 && rmdir(place->partial) < 0)
        err = failed(place->partial, "cannot be removed", fault);
    if (err < 0)
        fault_prefix(fault, "the pack is whole, but not all of the old one is gone");
    return err;
}

int pack_place_commit(struct pack_place *place, struct pack_manifest *manifest, struct fault *fault)
{
    char *path = NULL;
    bool old = false;

    checksum_of(place->sums, (size_t)place->records * CHECKSUM_BYTES, manifest->checksums);
    if (ftruncate(place->journal, (off_t)place->records * (off_t)CHECKSUM_BYTES) < 0)
        return failed(place->partial, "checksums cannot be written", fault);
    char *text = pack_manifest_text(manifest);
    if (!text)
        return out_of_memory(fault);
    int err = text_make(&path, fault, "%s/manifest.json", place->partial);
    if (err == 0)
        err = file_make(path, text, fault);
    free(text);
    free(path);
    path = NULL;
    if (err == 0)
        err = parts_finish(place, fault);
    if (err == 0)
        err = directory_sync(place->partial, fault);
    if (err == 0)
        err = dst_swap(place, &old, fault);
    if (err == 0)
        err = parent_sync(place->dst, fault);
    // The plan has stayed until now, so that a crash before the swap finds its place again.
    if (err == 0)
        err = text_make(&path, fault, "%s/plan.json", place->dst);
    if (err == 0 && unlink(path) < 0)
        err = failed(path, "cannot be removed", fault);
    free(path);
    return err == 0 && old ? old_remove(place, fault) : err;
}
