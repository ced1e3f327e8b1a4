// SPDX-License-Identifier: MIT
#include "client/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES_MAX 4096
#define LINE_BYTES_MAX 256 // name, hash, date and limits: 205
#define MODE_MAX       0640
#define DAEMON_GROUP   "expertd"

// The file while it is changed.
struct key_file {
    char path[PATH_BYTES_MAX]; // without symbolic links: a rename would replace one
    char dir[PATH_BYTES_MAX];
    const char *name; // in path
    int dir_fd;       // locked
    bool exists;
    struct stat st; // of what is there
    char *text;     // [n], with place for one line more
    size_t n;
    struct keys *keys; // of text
};

static int file_fault(const struct key_file *file, int err, const char *what, struct fault *fault)
{
    return fault_set(fault, err, "%.200s: %s: %s", file->path, what, strerror(err));
}

// path_resolve finds where the file lies, or will.
static int path_resolve(struct key_file *file, const char *path, struct fault *fault)
{
    char *real = realpath(path, NULL);
    if (!real && errno != ENOENT)
        return fault_set(fault, errno, "%.200s: %s", path, strerror(errno));
    int n = snprintf(file->path, sizeof(file->path), "%s%s", real || strchr(path, '/') ? "" : "./",
                     real ? real : path);
    free(real);
    if (n >= (int)sizeof(file->path))
        return fault_set(fault, ENAMETOOLONG, "%.200s: the path is too long", path);
    char *slash = strrchr(file->path, '/');
    file->name = slash + 1;
    snprintf(file->dir, sizeof(file->dir), "%.*s", (int)(slash - file->path + 1), file->path);
    return 0;
}

static int dir_lock(struct key_file *file, struct fault *fault)
{
    file->dir_fd = open(file->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file->dir_fd < 0)
        return fault_set(fault, errno, "%.200s: the directory of the keys cannot be opened: %s",
                         file->dir, strerror(errno));
    while (flock(file->dir_fd, LOCK_EX) != 0)
        if (errno != EINTR)
            return file_fault(file, errno, "its directory cannot be locked", fault);
    return 0;
}

// text_read reads the file, which keys_load has judged.
static int text_read(struct key_file *file, struct fault *fault)
{
    ssize_t got = 1;
    int fd = openat(file->dir_fd, file->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &file->st) != 0) {
        int err = errno;
        if (fd >= 0)
            close(fd);
        return file_fault(file, err, "cannot be read", fault);
    }
    while (got != 0 && file->n < KEYS_FILE_BYTES_MAX) {
        got = read(fd, file->text + file->n, KEYS_FILE_BYTES_MAX - file->n);
        if (got < 0 && errno != EINTR)
            break;
        file->n += got > 0 ? (size_t)got : 0;
    }
    int err = got < 0 ? errno : 0;
    close(fd);
    return err ? file_fault(file, err, "cannot be read", fault) : 0;
}

static void file_close(struct key_file *file)
{
    keys_destroy(&file->keys);
    free(file->text);
    file->text = NULL;
    if (file->dir_fd >= 0)
        close(file->dir_fd); // unlocks
    file->dir_fd = -1;
}

// file_open locks the directory and reads what is there; nothing is an empty file.
static int file_open(struct key_file *file, const char *path, struct fault *fault)
{
    *file = (struct key_file){.dir_fd = -1};
    int err = path_resolve(file, path, fault);
    if (!err)
        err = dir_lock(file, fault);
    if (err)
        return err;
    file->text = malloc(KEYS_FILE_BYTES_MAX + LINE_BYTES_MAX);
    if (!file->text)
        return fault_set(fault, ENOMEM, "out of memory");
    err = keys_load(file->path, NULL, &file->keys, fault);
    if (err == -ENOENT)
        return keys_parse(file->path, "", 0, &file->keys, fault);
    if (err)
        return err;
    keys_destroy(&file->keys);
    file->exists = true;
    err = text_read(file, fault);
    return err ? err : keys_parse(file->path, file->text, file->n, &file->keys, fault);
}

/* ----------------------------------------------------------------- write */

// file_own gives the new file owner, group and mode.
static int file_own(const struct key_file *file, int fd)
{
    mode_t mode = file->exists ? file->st.st_mode & MODE_MAX : MODE_MAX;
    const struct group *group = NULL;
    int err = 0;

    if (file->exists)
        err = fchown(fd, file->st.st_uid, file->st.st_gid);
    else if (geteuid() == 0 && (group = getgrnam(DAEMON_GROUP)))
        err = fchown(fd, (uid_t)-1, group->gr_gid);
    return err == 0 ? fchmod(fd, mode) : err;
}

static int bytes_write(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t put = write(fd, bytes, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -1;
        bytes += put;
        n -= (size_t)put;
    }
    return 0;
}

// file_write puts the text in place of what is there.
static int file_write(struct key_file *file, struct fault *fault)
{
    char beside[PATH_BYTES_MAX];
    struct keys *check = NULL;
    int err = 0;

    // Whatever we did to the text: the daemon must be able to read it.
    err = keys_parse(file->path, file->text, file->n, &check, fault);
    keys_destroy(&check);
    if (err)
        return err;
    if (file->n > KEYS_FILE_BYTES_MAX)
        return fault_set(fault, EFBIG, "%.200s: would be larger than %u bytes", file->path,
                         KEYS_FILE_BYTES_MAX);
    if (snprintf(beside, sizeof(beside), "%s.new", file->name) >= (int)sizeof(beside))
        return fault_set(fault, ENAMETOOLONG, "%.200s: the name is too long", file->path);
    // One name, so that what a crash has left is replaced; the lock keeps others away from it.
    if (unlinkat(file->dir_fd, beside, 0) != 0 && errno != ENOENT)
        return file_fault(file, errno, "what an interrupted change has left cannot go", fault);
    int fd =
        openat(file->dir_fd, beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return file_fault(file, errno, "cannot be written", fault);
    if (bytes_write(fd, file->text, file->n) != 0 || file_own(file, fd) != 0 || fsync(fd) != 0)
        err = errno;
    if (close(fd) != 0 && !err)
        err = errno;
    if (!err && renameat(file->dir_fd, beside, file->dir_fd, file->name) != 0)
        err = errno;
    if (err) {
        unlinkat(file->dir_fd, beside, 0);
        return file_fault(file, err,
                          err == EPERM ? "owner and group cannot be kept; run it as root"
                                       : "cannot be written",
                          fault);
    }
    if (fsync(file->dir_fd) != 0)
        return file_fault(file, errno, "may be lost if the machine fails now", fault);
    return 0;
}

/* ---------------------------------------------------------------- change */

static const struct key *key_named(const struct keys *keys, const char *name)
{
    for (uint32_t i = 0; i < keys_n(keys); i++)
        if (strcmp(keys_at(keys, i)->name, name) == 0)
            return keys_at(keys, i);
    return NULL;
}

// line_put writes a key's line behind the text, which has place for it.
static void line_put(struct key_file *file, const struct key *key)
{
    char hex[2 * KEYS_HASH_BYTES + 1], rate[32] = "", concurrency[32] = "";

    for (size_t i = 0; i < KEYS_HASH_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", key->hash[i]);
    if (key->rate != KEYS_DEFAULT)
        snprintf(rate, sizeof(rate), " rate=%u/min", key->rate);
    if (key->concurrency != KEYS_DEFAULT)
        snprintf(concurrency, sizeof(concurrency), " concurrency=%u", key->concurrency);
    bool open = file->n > 0 && file->text[file->n - 1] != '\n'; // the last line has no end yet
    int n =
        snprintf(file->text + file->n, LINE_BYTES_MAX, "%s%s %s %s%s%s%s\n", open ? "\n" : "",
                 key->name, hex, key->created, rate, concurrency, key->disabled ? " disabled" : "");
    file->n += (size_t)n;
}

int key_file_add(const char *path, const struct key *key, struct fault *fault)
{
    struct key_file file;

    int err = file_open(&file, path, fault);
    if (!err && key_named(file.keys, key->name))
        err = fault_set(fault, EEXIST,
                        "%.200s: there is a key %s already: revoke it, or take another name",
                        file.path, key->name);
    if (!err) {
        line_put(&file, key);
        err = file_write(&file, fault);
    }
    file_close(&file);
    return err;
}

// line_cut takes line `number` (from 1) out of the text.
static void line_cut(struct key_file *file, uint32_t number)
{
    char *line = file->text, *text_end = file->text + file->n;

    for (uint32_t i = 1; i < number; i++)
        line = (char *)memchr(line, '\n', (size_t)(text_end - line)) + 1;
    char *end = memchr(line, '\n', (size_t)(text_end - line));
    end = end ? end + 1 : text_end;
    memmove(line, end, (size_t)(text_end - end));
    file->n -= (size_t)(end - line);
}

int key_file_remove(const char *path, const char *name, struct fault *fault)
{
    struct key_file file;

    int err = file_open(&file, path, fault);
    const struct key *key = err ? NULL : key_named(file.keys, name);
    if (!err && !key)
        err = fault_set(fault, ESRCH,
                        "%.200s: there is no key of this name; see: expertctl key list", file.path);
    if (!err) {
        line_cut(&file, key->line);
        err = file_write(&file, fault);
    }
    file_close(&file);
    return err;
}
