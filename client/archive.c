// SPDX-License-Identifier: MIT
#include "client/archive.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define BLOCK 512u

// POSIX.1-1988, "ustar Interchange Format": texts and octal numbers.
struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
static_assert(sizeof(struct header) == BLOCK, "one block");

struct archive {
    gzFile gz;
    int fd; // its copy, to sync; -1: none
    char *path;
    const char *folder;
    int64_t time;
    bool finished;
};

// archive_fault says why the last write failed.
static int archive_fault(const struct archive *archive, struct fault *fault)
{
    int code = 0, err = errno ? errno : EIO;

    gzerror(archive->gz, &code);
    if (code == Z_MEM_ERROR)
        err = ENOMEM;
    return fault_set(fault, err, "%.200s cannot be written: %s", archive->path, strerror(err));
}

int archive_create(const char *path, const char *folder, int64_t time, struct archive **ret,
                   struct fault *fault)
{
    struct archive *archive = calloc(1, sizeof(*archive));
    if (!archive)
        return fault_set(fault, ENOMEM, "out of memory");

    *archive = (struct archive){.fd = -1, .folder = folder, .time = time, .finished = true};
    archive->path = strdup(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        int err = fault_set(fault, errno, "%.200s: %s", path, strerror(errno));
        archive_close(&archive);
        return err;
    }
    archive->finished = false; // from here on the file is ours
    archive->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    archive->gz = gzdopen(fd, "wb");
    if (!archive->gz)
        close(fd);
    if (!archive->gz || archive->fd < 0 || !archive->path) {
        unlink(path);
        archive->finished = true;
        archive_close(&archive);
        return fault_set(fault, ENOMEM, "out of memory");
    }
    *ret = archive;
    return 0;
}

static void header_fill(struct header *h, const struct archive *archive, const char *name, size_t n)
{
    unsigned sum = 0;
    char text[16];

    *h = (struct header){.type = '0', .magic = "ustar", .version = {'0', '0'}};
    snprintf(h->name, sizeof(h->name), "%s/%s", archive->folder, name);
    memcpy(h->mode, "0000600", 8);
    memcpy(h->uid, "0000000", 8);
    memcpy(h->gid, "0000000", 8);
    snprintf(h->size, sizeof(h->size), "%011zo", n);
    snprintf(h->mtime, sizeof(h->mtime), "%011llo",
             (unsigned long long)archive->time & 077777777777ull);
    memset(h->checksum, ' ', sizeof(h->checksum));
    for (size_t i = 0; i < sizeof(*h); i++)
        sum += ((const unsigned char *)h)[i];
    snprintf(text, sizeof(text), "%06o", sum);
    memcpy(h->checksum, text, 7); // digits and a NUL; the blank behind them stays
}

static bool put(struct archive *archive, const void *bytes, size_t n)
{
    errno = 0;
    return n == 0 || gzfwrite(bytes, 1, n, archive->gz) == n;
}

int archive_add(struct archive *archive, const char *name, const void *bytes, size_t n,
                struct fault *fault)
{
    static const char zeros[BLOCK];
    struct header header;

    if (strlen(archive->folder) + strlen(name) + 2 > ARCHIVE_NAME_MAX)
        return fault_set(fault, ENAMETOOLONG, "%.200s: the name is too long for an archive", name);
    header_fill(&header, archive, name, n);
    if (put(archive, &header, sizeof(header)) && put(archive, bytes, n) &&
        put(archive, zeros, (BLOCK - n % BLOCK) % BLOCK))
        return 0;
    return archive_fault(archive, fault);
}

int archive_finish(struct archive *archive, struct fault *fault)
{
    static const char zeros[2 * BLOCK];

    if (!put(archive, zeros, sizeof(zeros)))
        return archive_fault(archive, fault);
    errno = 0;
    int code = gzclose(archive->gz);
    archive->gz = NULL;
    if (code != Z_OK || fsync(archive->fd) != 0) {
        int err = errno ? errno : EIO;
        return fault_set(fault, err, "%.200s cannot be written: %s", archive->path, strerror(err));
    }
    archive->finished = true;
    return 0;
}

void archive_close(struct archive **parchive)
{
    struct archive *archive = *parchive;

    *parchive = NULL;
    if (!archive)
        return;
    if (archive->gz)
        gzclose(archive->gz);
    if (archive->fd >= 0)
        close(archive->fd);
    if (!archive->finished)
        unlink(archive->path);
    free(archive->path);
    free(archive);
}
