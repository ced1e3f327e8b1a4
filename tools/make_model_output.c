// SPDX-License-Identifier: MIT
#include "tools/make_model_output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BUFFER_BYTES (8u << 20) // one write: large enough that a drive has work while it is filled
#define DIRECT_ALIGN 4096u      // of addresses, offsets and sizes past the page cache

static void part_name(const char *name, char *ret)
{
    snprintf(ret, SHARD_NAME_MAX + 8, "%.63s.part", name);
}

static int file_fail(struct output_file *file, int err)
{
    return fault_set(file->fault, err, "%s/%s: %s", file->out->dir, file->name, strerror(err));
}

// --- one file ----------------------------------------------------------------------------------

// direct_set switches writes past the page cache on or off; a file system may refuse.
static void direct_set(struct output_file *file, bool direct)
{
    int flags = fcntl(file->fd, F_GETFL);
    int want = direct ? flags | O_DIRECT : flags & ~O_DIRECT;
    file->direct = fcntl(file->fd, F_SETFL, want) == 0 && direct;
}

static void progress_show(struct output_file *file)
{
    struct output *out = file->out;
    uint64_t done = atomic_load_explicit(&out->done, memory_order_relaxed);
    if (out->progress)
        fprintf(stderr, "\r%3.0f%% %s ", 100 * (double)done / (double)(out->total + 1), file->name);
}

// file_put writes n bytes of the buffer from `from` on.
static int file_put(struct output_file *file, size_t from, size_t n)
{
    struct output *out = file->out;

    for (size_t at = from; at < from + n;) {
        if (*out->stopped)
            return fault_set(file->fault, EINTR, "stopped by signal %d", (int)*out->stopped);
        if (atomic_load_explicit(&out->failed, memory_order_relaxed))
            return fault_set(file->fault, EINTR, "stopped");
        ssize_t done = pwrite(file->fd, file->buffer + at, from + n - at, (off_t)file->at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno == EINVAL && file->direct) {
            direct_set(file, false);
            continue;
        }
        if (done < 0)
            return file_fail(file, errno);
        at += (size_t)done;
        file->at += (uint64_t)done;
        atomic_fetch_add_explicit(&out->done, (unsigned long long)done, memory_order_relaxed);
        if (file->direct && done % DIRECT_ALIGN != 0) // a limit was met; the next write says which
            direct_set(file, false);
    }
    progress_show(file);
    return 0;
}

// file_flush writes the buffer; its last bytes go through the page cache if they fill no block.
static int file_flush(struct output_file *file)
{
    size_t n = file->buffered, whole = n - n % DIRECT_ALIGN;

    file->buffered = 0;
    int err = file_put(file, 0, whole);
    if (err < 0 || whole == n)
        return err;
    direct_set(file, false);
    return file_put(file, whole, n - whole);
}

int output_file_init(struct output_file *file, struct output *out, struct fault *fault)
{
    *file = (struct output_file){.out = out, .fault = fault, .fd = -1};
    file->buffer = aligned_alloc(DIRECT_ALIGN, BUFFER_BYTES);
    return file->buffer ? 0 : fault_set(fault, ENOMEM, "no memory for a buffer");
}

void output_file_fini(struct output_file *file)
{
    if (file->buffer && file->fd >= 0)
        close(file->fd);
    free(file->buffer);
    *file = (struct output_file){.fd = -1};
}

static int name_add(struct output *out, const char *name)
{
    pthread_mutex_lock(&out->lock);
    bool room = out->names_n < out->names_cap;
    if (room)
        snprintf(out->names[out->names_n++], SHARD_NAME_MAX, "%s", name);
    pthread_mutex_unlock(&out->lock);
    return room ? 0 : -EOVERFLOW;
}

int output_file_begin(struct output_file *file, const char *name, uint64_t bytes)
{
    char part[SHARD_NAME_MAX + 8];

    snprintf(file->name, sizeof(file->name), "%s", name);
    if (name_add(file->out, name) < 0)
        return fault_set(file->fault, EOVERFLOW, "%s: too many files", name);
    part_name(name, part);
    file->at = 0;
    file->fd = openat(file->out->dir_fd, part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file->fd < 0)
        return file_fail(file, errno);
    if (bytes > 0 && fallocate(file->fd, 0, 0, (off_t)bytes) < 0 && errno == ENOSPC)
        return file_fail(file, ENOSPC);
    direct_set(file, true);
    return 0;
}

int output_file_write(struct output_file *file, const void *data, size_t bytes)
{
    const uint8_t *from = data;
    while (bytes > 0) {
        size_t n = BUFFER_BYTES - file->buffered;
        n = n < bytes ? n : bytes;
        memcpy(file->buffer + file->buffered, from, n);
        file->buffered += n;
        from += n;
        bytes -= n;
        int err = file->buffered == BUFFER_BYTES ? file_flush(file) : 0;
        if (err < 0)
            return err;
    }
    return 0;
}

int output_file_end(struct output_file *file)
{
    char part[SHARD_NAME_MAX + 8];
    int err = file_flush(file);

    if (err < 0)
        return err;
    int fd = file->fd;
    file->fd = -1;
    if (close(fd) < 0)
        return file_fail(file, errno);
    part_name(file->name, part);
    if (renameat(file->out->dir_fd, part, file->out->dir_fd, file->name) < 0)
        return file_fail(file, errno);
    return 0;
}

uint64_t output_file_at(const struct output_file *file)
{
    return file->at + file->buffered;
}

// --- shared blocks -----------------------------------------------------------------------------

uint64_t output_block(const struct output *out)
{
    struct stat st;
    return fstat(out->dir_fd, &st) == 0 && st.st_blksize > (blksize_t)DIRECT_ALIGN
               ? (uint64_t)st.st_blksize
               : DIRECT_ALIGN;
}

static int clone_fail(struct output_file *file, int err)
{
    bool cannot = err == EOPNOTSUPP || err == ENOTTY || err == EXDEV || err == EINVAL ||
                  err == ENOSYS || err == EISDIR || err == EPERM;
    if (!cannot)
        return file_fail(file, err);
    return fault_set(file->fault, EOPNOTSUPP,
                     "%s: the file system does not clone blocks (XFS made with reflink=1 and "
                     "btrfs do); choose another directory or leave out --reflink",
                     file->out->dir);
}

static int unnamed_open(const struct output *out)
{
    return openat(out->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

// clone_try clones a hole, before anything large is written.
static int clone_try(struct output_file *pool)
{
    struct file_clone_range range = {.src_fd = pool->fd, .src_length = output_block(pool->out)};
    int fd = unnamed_open(pool->out), err = 0;

    if (fd < 0 || ftruncate(pool->fd, (off_t)range.src_length) < 0 ||
        ioctl(fd, FICLONERANGE, &range) < 0)
        err = errno;
    if (fd >= 0)
        close(fd);
    return err ? clone_fail(pool, err) : 0;
}

int output_pool_begin(struct output_file *pool)
{
    snprintf(pool->name, sizeof(pool->name), "shared blocks");
    pool->fd = unnamed_open(pool->out);
    if (pool->fd < 0)
        return clone_fail(pool, errno);
    int err = clone_try(pool);
    direct_set(pool, true);
    return err;
}

int output_pool_end(struct output_file *pool)
{
    return file_flush(pool);
}

int output_file_clone(struct output_file *file, const struct output_file *pool, uint64_t off,
                      uint64_t bytes)
{
    int err = file_flush(file);
    if (err < 0)
        return err;
    struct file_clone_range range = {
        .src_fd = pool->fd, .src_offset = off, .src_length = bytes, .dest_offset = file->at};
    if (*file->out->stopped)
        return fault_set(file->fault, EINTR, "stopped by signal %d", (int)*file->out->stopped);
    if (ioctl(file->fd, FICLONERANGE, &range) < 0)
        return clone_fail(file, errno);
    file->at += bytes;
    atomic_fetch_add_explicit(&file->out->done, bytes, memory_order_relaxed);
    progress_show(file);
    return 0;
}

// --- the directory -----------------------------------------------------------------------------

static bool dir_is_empty(const char *dir)
{
    struct dirent *entry;
    bool empty = true;
    DIR *stream = opendir(dir);

    while (stream && (entry = readdir(stream)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            empty = false;
    if (stream)
        closedir(stream);
    return empty;
}

int output_open(struct output *out, uint32_t files, uint64_t need, uint64_t total,
                struct fault *fault)
{
    out->dir_fd = -1;
    out->total = total;
    pthread_mutex_init(&out->lock, NULL);
    out->made_dir = mkdir(out->dir, 0777) == 0;
    if (!out->made_dir && errno != EEXIST)
        return fault_set(fault, errno, "%s: %s", out->dir, strerror(errno));
    out->dir_fd = open(out->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out->dir_fd < 0)
        return fault_set(fault, errno, "%s: %s", out->dir, strerror(errno));
    if (!dir_is_empty(out->dir))
        return fault_set(fault, EEXIST,
                         "%s: there are files already; name an empty directory "
                         "or a new one",
                         out->dir);

    struct statvfs fs;
    if (fstatvfs(out->dir_fd, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < need)
        return fault_set(fault, ENOSPC,
                         "%s: needs %" PRIu64 " MB, the file system has %" PRIu64 " MB", out->dir,
                         need / 1000000 + 1, (uint64_t)fs.f_bavail * fs.f_frsize / 1000000);
    out->names = calloc(files, sizeof(*out->names));
    out->names_cap = files;
    return out->names ? 0 : fault_set(fault, ENOMEM, "no memory");
}

void output_close(struct output *out, bool failed)
{
    char part[SHARD_NAME_MAX + 8];

    if (out->progress && out->done > 0)
        fprintf(stderr, "\r\033[K");
    for (uint32_t i = 0; failed && i < out->names_n; i++) {
        part_name(out->names[i], part);
        unlinkat(out->dir_fd, part, 0);
        unlinkat(out->dir_fd, out->names[i], 0);
    }
    if (out->dir_fd >= 0)
        close(out->dir_fd);
    if (failed && out->made_dir)
        rmdir(out->dir);
    free(out->names);
    pthread_mutex_destroy(&out->lock);
}
