// SPDX-License-Identifier: MIT
#include "io/disk/state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

// direct_suits says whether reads aligned to DISK_ALIGN may bypass the page cache.  Kernels before
// 6.1 do not tell: then one read shows it.
static bool direct_suits(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx stx = {0};
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 && (stx.stx_mask & STATX_DIOALIGN))
        return stx.stx_dio_offset_align != 0 && DISK_ALIGN % stx.stx_dio_offset_align == 0 &&
               DISK_ALIGN % stx.stx_dio_mem_align == 0;
#endif
    void *block = aligned_alloc(DISK_ALIGN, DISK_ALIGN);
    if (!block)
        return true;
    ssize_t got = pread(fd, block, DISK_ALIGN, 0);
    int err = errno;
    free(block);
    return got >= 0 || err != EINVAL;
}

static int file_size(int fd, const char *path, uint64_t *ret, struct fault *fault)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return fault_set(fault, errno, "%s: %s", path, strerror(errno));
    if (S_ISREG(st.st_mode)) {
        *ret = (uint64_t)st.st_size;
        return 0;
    }
    if (!S_ISBLK(st.st_mode))
        return fault_set(fault, EINVAL, "%s: neither a regular file nor a block device", path);
    if (ioctl(fd, BLKGETSIZE64, ret) < 0)
        return fault_set(fault, errno, "%s: cannot tell its size: %s", path, strerror(errno));
    return 0;
}

// open_quietly does not block on a FIFO.  The flag goes afterwards: io_uring would answer -EAGAIN
// where a file system cannot read without blocking.
static int open_quietly(const char *path, int extra)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | extra);
    if (fd >= 0)
        fcntl(fd, F_SETFL, extra);
    return fd;
}

// file_open opens directly if that works.
static int file_open(struct disk_reader *r, const char *path, bool *ret_direct, bool *ret_refused,
                     struct fault *fault)
{
    *ret_direct = false;
    *ret_refused = false;
    if (!r->params.buffered) {
        int fd = open_quietly(path, O_DIRECT);
        if (fd >= 0 && direct_suits(fd)) {
            *ret_direct = true;
            return fd;
        }
        *ret_refused = fd >= 0 || errno == EINVAL;
        if (fd >= 0)
            close(fd);
    }
    int fd = open_quietly(path, 0);
    if (fd < 0)
        return fault_set(fault, errno, "%s: cannot be opened: %s%s", path, strerror(errno),
                         errno == EMFILE ? " (raise LimitNOFILE=)" : "");
    return fd;
}

static int files_grow(struct disk_reader *r)
{
    if (r->files_n < r->files_room)
        return 0;
    uint32_t room = r->files_room ? 2 * r->files_room : 64;
    struct reader_file *files = realloc(r->files, room * sizeof(*files));
    if (!files)
        return -ENOMEM;
    r->files = files;
    struct engine_file *engine_files = realloc(r->engine_files, room * sizeof(*engine_files));
    if (!engine_files)
        return -ENOMEM;
    r->engine_files = engine_files;
    r->files_room = room;
    return 0;
}

int disk_reader_file_add(struct disk_reader *r, uint32_t drive, const char *path,
                         uint32_t *ret_file, struct fault *fault)
{
    struct reader_file file = {.drive = drive};
    bool refused;
    if (drive >= r->drives_n)
        return fault_set(fault, EINVAL, "%s: drive %u is not there", path, drive);
    if (r->files_n == FILES_MAX)
        return fault_set(fault, EINVAL, "%s: more than %u files", path, FILES_MAX);
    int fd = file_open(r, path, &file.direct, &refused, fault);
    if (fd < 0)
        return fd;
    int err = file_size(fd, path, &file.bytes, fault);
    if (err == 0) {
        file.path = strdup(path);
        if (!file.path || files_grow(r) < 0)
            err = fault_set(fault, ENOMEM, "%s: no memory for one more file", path);
    }
    if (err < 0) {
        free(file.path);
        close(fd);
        return err;
    }
    if (refused && !r->refused_told) {
        r->refused_told = true; // one warning: the others of the file system are alike
        reader_warn(r,
                    "%s: the file system refuses O_DIRECT: reading through the page cache, which "
                    "costs memory and speed",
                    path);
    }
    r->files[r->files_n] = file;
    r->engine_files[r->files_n] = (struct engine_file){.fd = fd, .drive = drive};
    r->drives[drive].probe_file = r->files_n;
    r->drives[drive].files_n++;
    *ret_file = r->files_n++;
    return 0;
}
