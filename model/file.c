// SPDX-License-Identifier: MIT
#include "model/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Linux moves at most 0x7ffff000 bytes a call; a round number below keeps the offsets aligned.
#define READ_MAX (1u << 30)

#define LABEL_MAX 200u

const char *file_label(const char *path)
{
    size_t len = strlen(path);
    return len > LABEL_MAX ? path + len - LABEL_MAX : path;
}

int file_open(const char *path, int *ret_fd, uint64_t *ret_bytes, struct fault *fault)
{
    // O_NONBLOCK: opening a FIFO without a writer would wait for ever.
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return fault_set(fault, errno, "%s: %s", file_label(path), strerror(errno));

    struct stat st;
    int err = 0;
    if (fstat(fd, &st) < 0)
        err = fault_set(fault, errno, "%s: %s", file_label(path), strerror(errno));
    else if (!S_ISREG(st.st_mode))
        err = fault_set(fault, EINVAL, "%s: not a regular file", file_label(path));
    if (err < 0) {
        close(fd);
        return err;
    }
    *ret_fd = fd;
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

int file_read_at(int fd, const char *path, uint64_t off, void *dst, size_t bytes,
                 struct fault *fault)
{
    char *at = dst;
    while (bytes > 0) {
        ssize_t n = pread(fd, at, bytes < READ_MAX ? bytes : READ_MAX, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fault_set(fault, errno, "%s: reading at byte %" PRIu64 ": %s", file_label(path),
                             off, strerror(errno));
        if (n == 0)
            return fault_set(fault, EBADMSG,
                             "%s: ends at byte %" PRIu64 ", %zu bytes before it should",
                             file_label(path), off, bytes);
        at += n;
        off += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return 0;
}

static int dir_stat(const char *dir, struct stat *ret, struct fault *fault)
{
    int err = stat(dir, ret) < 0 ? errno : S_ISDIR(ret->st_mode) ? 0 : ENOTDIR;
    return err ? fault_set(fault, err, "%s: %s", file_label(dir), strerror(err)) : 0;
}

int file_dirs_check(const char *const *dirs, uint32_t n, struct fault *fault)
{
    for (uint32_t i = 0; i < n; i++) {
        struct stat here, other;
        int err = dir_stat(dirs[i], &here, fault);
        for (uint32_t j = 0; j < i && err == 0; j++) {
            err = dir_stat(dirs[j], &other, fault);
            if (err == 0 && here.st_dev == other.st_dev && here.st_ino == other.st_ino)
                err = fault_set(fault, EINVAL, "%s and %s are one directory; name each once",
                                file_label(dirs[j]), file_label(dirs[i]));
        }
        if (err < 0)
            return err;
    }
    return 0;
}
