// SPDX-License-Identifier: MIT
#include "client/stage.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAEMON_GROUP "expertd"

// stage_place follows links of what is there, and makes the directory of what is not.
static int stage_place(struct stage *stage, const char *path, struct fault *fault)
{
    struct stat st;
    char to[PATH_MAX], *made = stage->files[stage->n].made;
    char *real = realpath(path, NULL);
    int n = snprintf(to, sizeof(to), "%s", real ? real : path);
    free(real);
    if (stat(to, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return fault_set(fault, EEXIST, "%.200s is no file", path); // /dev/null masks a drop-in
    if (n < PATH_MAX)
        n = snprintf(stage->files[stage->n].beside, PATH_MAX, "%s.new", to);
    if (n >= PATH_MAX)
        return fault_set(fault, ENAMETOOLONG, "%.200s: the path is too long", path);

    memcpy(stage->files[stage->n].path, to, sizeof(to));
    const char *slash = strrchr(to, '/');
    size_t len = slash ? (size_t)(slash - to) : 0; // 0: the root, or where we are
    memcpy(made, to, len);
    made[len] = '\0';
    if (!made[0] || access(made, F_OK) == 0 || mkdir(made, 0755) != 0) {
        made[0] = '\0'; // what cannot be made shows when the file is opened
        return 0;
    }
    if (chmod(made, 0755) != 0) // whatever the umask
        return fault_set(fault, errno, "%.200s: %s", made, strerror(errno));
    return 0;
}

static int stage_write(int fd, const char *bytes, size_t n, mode_t mode)
{
    const struct group *group = geteuid() == 0 ? getgrnam(DAEMON_GROUP) : NULL;

    while (n > 0) {
        ssize_t put = write(fd, bytes, n);
        if (put < 0 && errno != EINTR)
            return -errno;
        bytes += put > 0 ? put : 0;
        n -= put > 0 ? (size_t)put : 0;
    }
    if (group && fchown(fd, (uid_t)-1, group->gr_gid) != 0)
        return -errno;
    return fchmod(fd, mode) == 0 && fsync(fd) == 0 ? 0 : -errno;
}

int stage_add(struct stage *stage, const char *path, const void *bytes, size_t n, mode_t mode,
              struct fault *fault)
{
    assert(stage->n < STAGE_MAX);
    int err = stage_place(stage, path, fault);
    if (err)
        return err;
    const char *beside = stage->files[stage->n].beside;
    stage->files[stage->n].state = STAGE_BESIDE;
    stage->n++; // from here on stage_drop takes it away
    unlink(beside);
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fault_set(fault, errno, "%.200s cannot be written: %s%s", path, strerror(errno),
                         errno == EACCES ? "; run it as root" : "");
    err = stage_write(fd, bytes, n, mode);
    if (close(fd) != 0 && !err)
        err = -errno;
    return err ? fault_set(fault, -err, "%.200s cannot be written: %s", path, strerror(-err)) : 0;
}

// stage_sync makes a rename last.
static void stage_sync(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');

    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

// stage_swap puts a file in place; what was there is beside it then, where the file system can do
// that.
static int stage_swap(struct stage_file *file)
{
    struct stat st;

    if (stat(file->path, &st) == 0 && S_ISDIR(st.st_mode))
        return -EISDIR;
    if (renameat2(AT_FDCWD, file->beside, AT_FDCWD, file->path, RENAME_EXCHANGE) == 0) {
        file->state = STAGE_SWAPPED;
        return 0;
    }
    bool fresh = errno == ENOENT;
    if (rename(file->beside, file->path) != 0)
        return -errno;
    file->state = fresh ? STAGE_FRESH : STAGE_BESIDE;
    return 0;
}

// stage_undo takes it back as far as that is possible, for stage_drop.
static void stage_undo(struct stage_file *file)
{
    if (file->state == STAGE_SWAPPED)
        renameat2(AT_FDCWD, file->beside, AT_FDCWD, file->path, RENAME_EXCHANGE);
    else if (file->state == STAGE_FRESH)
        rename(file->path, file->beside);
    file->state = STAGE_BESIDE;
}

int stage_commit(struct stage *stage, struct fault *fault)
{
    for (uint32_t i = 0; i < stage->n; i++) {
        int err = stage_swap(&stage->files[i]);
        if (!err)
            continue;
        fault_set(fault, -err, "%.200s cannot be put in place: %s", stage->files[i].path,
                  strerror(-err));
        while (i > 0)
            stage_undo(&stage->files[--i]);
        return err;
    }
    for (uint32_t i = 0; i < stage->n; i++) {
        if (stage->files[i].state == STAGE_SWAPPED)
            unlink(stage->files[i].beside);
        stage_sync(stage->files[i].path);
    }
    stage->n = 0;
    return 0;
}

void stage_drop(struct stage *stage)
{
    while (stage->n > 0) { // backwards: the first in a directory made it
        const struct stage_file *file = &stage->files[--stage->n];
        unlink(file->beside);
        if (file->made[0])
            rmdir(file->made);
    }
}
