// SPDX-License-Identifier: MIT
// faultfs SOURCE MOUNT: a file system that shows SOURCE's files, read-only, and misbehaves on
// command.  Commands are lines written to MOUNT/.control (see rules.h), which reads as the list of
// what is in force; "clear" lets everything go that waits.
//
// Files open with O_DIRECT, or not at all with --refuse-direct (EINVAL, as file systems do that
// cannot).  Ends with SIGTERM, SIGINT, its parent's death or an unmount: what waits is answered
// with EIO, and the mount is gone.  Prints "ready" once the mount is there.  A read that waits
// while its thread is interrupted ends with EINTR, so that a process can be killed.
//
// One thread, one loop: FUSE requests as they come, answers that wait in a list; so one read that
// hangs holds nobody else.
#define FUSE_USE_VERSION 35
#include "tests/faultfs/rules.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define CONTROL     ".control"
#define CONTROL_INO 2u
#define NODES_MAX   65536u // files and folders that were looked at; more answer ENOMEM

// A read whose answer waits.
struct wait {
    struct wait *next;
    fuse_req_t req;
    uint8_t *buf; // owned
    struct rules_fate fate;
    int64_t due_ms;
};

struct faultfs {
    int source;                        // the directory
    char *path[NODES_MAX /* inode */]; // below source; [1] is "."; NULL: not looked at yet
    uint32_t nodes_n;
    struct rules rules;
    struct wait *waits;
    struct fuse_session *session;
    bool refuse_direct;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// Answers.

static void wait_answer(struct wait *w)
{
    if (w->fate.err)
        fuse_reply_err(w->req, -w->fate.err);
    else
        fuse_reply_buf(w->req, (const char *)w->buf, w->fate.bytes);
    free(w->buf);
    free(w);
}

// Answers what is due; if a command took the rules away also what hangs.
static void waits_answer(struct faultfs *fs, bool release, bool end)
{
    const int64_t now = now_ms();
    for (struct wait **at = &fs->waits; *at;) {
        struct wait *w = *at;
        const bool killed = fuse_req_interrupted(w->req); // its reader could not end otherwise
        if (release)
            w->fate.hang = false;
        if (end || killed)
            w->fate.err = end ? -EIO : -EINTR;
        if (!end && !killed && (w->fate.hang || w->due_ms > now)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        wait_answer(w);
    }
}

static int waits_timeout_ms(const struct faultfs *fs)
{
    int64_t due = INT64_MAX;
    for (const struct wait *w = fs->waits; w; w = w->next)
        if (!w->fate.hang && w->due_ms < due)
            due = w->due_ms;
    if (due == INT64_MAX)
        return -1;
    const int64_t ms = due - now_ms();
    return ms < 0 ? 0 : ms > 1000 ? 1000 : (int)ms;
}

// Inodes.

static struct faultfs *faultfs_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static const char *node_path(const struct faultfs *fs, fuse_ino_t ino)
{
    return ino < fs->nodes_n ? fs->path[ino] : NULL;
}

// Returns the inode of a path, 0 if there is no room.
static fuse_ino_t node_of(struct faultfs *fs, const char *path)
{
    for (uint32_t i = 1; i < fs->nodes_n; i++)
        if (fs->path[i] && !strcmp(fs->path[i], path))
            return i;
    if (fs->nodes_n == NODES_MAX || !(fs->path[fs->nodes_n] = strdup(path)))
        return 0;
    return fs->nodes_n++;
}

static int node_stat(const struct faultfs *fs, fuse_ino_t ino, struct stat *ret)
{
    struct stat st = {.st_mode = S_IFREG | 0600, .st_nlink = 1};
    if (ino != CONTROL_INO) {
        const char *path = node_path(fs, ino);
        if (!path || fstatat(fs->source, path, &st, 0))
            return -(path ? errno : ENOENT);
        if (S_ISREG(st.st_mode))
            st.st_size = (off_t)rules_size(&fs->rules, path, (uint64_t)st.st_size);
    }
    st.st_ino = ino;
    *ret = st;
    return 0;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct faultfs *fs = faultfs_of(req);
    char path[4096];
    struct fuse_entry_param entry = {.attr_timeout = 0, .entry_timeout = 0};

    if (parent == FUSE_ROOT_ID && !strcmp(name, CONTROL)) {
        entry.ino = CONTROL_INO;
    } else {
        const char *folder = node_path(fs, parent);
        const bool top = parent == FUSE_ROOT_ID;
        const int n =
            folder ? snprintf(path, sizeof(path), "%s%s%s", top ? "" : folder, top ? "" : "/", name)
                   : -1;
        struct stat st;
        if (n < 0 || (size_t)n >= sizeof(path) || fstatat(fs->source, path, &st, 0)) {
            fuse_reply_err(req, ENOENT);
            return;
        }
        entry.ino = node_of(fs, path);
    }
    const int err = entry.ino ? node_stat(fs, entry.ino, &entry.attr) : -ENOMEM;
    if (err)
        fuse_reply_err(req, -err);
    else
        fuse_reply_entry(req, &entry);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    struct stat st;
    const int err = node_stat(faultfs_of(req), ino, &st);
    if (err)
        fuse_reply_err(req, -err);
    else
        fuse_reply_attr(req, &st, 0);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set,
                       struct fuse_file_info *fi)
{
    (void)st, (void)set;
    if (ino == CONTROL_INO) // a shell's ">" truncates it
        op_getattr(req, ino, fi);
    else
        fuse_reply_err(req, EROFS);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    (void)ino;
    struct statvfs st;
    if (fstatvfs(faultfs_of(req)->source, &st))
        fuse_reply_err(req, errno);
    else
        fuse_reply_statfs(req, &st);
}

// Folders.

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct faultfs *fs = faultfs_of(req);
    const char *path = node_path(fs, ino);
    const int fd = path ? openat(fs->source, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        fuse_reply_err(req, path ? errno : ENOENT);
        if (fd >= 0)
            close(fd);
        return;
    }
    fi->fh = (uint64_t)(uintptr_t)dir;
    fuse_reply_open(req, fi);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi)
{
    (void)ino;
    DIR *dir = (DIR *)(uintptr_t)fi->fh;
    char buf[4096];
    size_t used = 0;
    if (size > sizeof(buf))
        size = sizeof(buf);

    seekdir(dir, off);
    for (struct dirent *d; (d = readdir(dir));) {
        const struct stat st = {.st_ino = d->d_ino, .st_mode = (mode_t)d->d_type << 12};
        const size_t need =
            fuse_add_direntry(req, buf + used, size - used, d->d_name, &st, telldir(dir));
        if (need > size - used)
            break;
        used += need;
    }
    fuse_reply_buf(req, buf, used);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    closedir((DIR *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}

// Files.

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct faultfs *fs = faultfs_of(req);
    int err = 0, fd = -1;

    if (ino != CONTROL_INO && (fi->flags & O_ACCMODE) != O_RDONLY)
        err = EROFS;
    else if (fs->refuse_direct && (fi->flags & O_DIRECT))
        err = EINVAL;
    else if (ino != CONTROL_INO) {
        const char *path = node_path(fs, ino);
        fd = path ? openat(fs->source, path, O_RDONLY | O_CLOEXEC) : -1;
        err = fd >= 0 ? 0 : path ? errno : ENOENT;
    }
    if (err) {
        fuse_reply_err(req, err);
        return;
    }
    fi->fh = (uint64_t)(int64_t)fd;
    fi->direct_io = ino == CONTROL_INO || (fi->flags & O_DIRECT); // else through the page cache
    fuse_reply_open(req, fi);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    if (ino != CONTROL_INO)
        close((int)fi->fh);
    fuse_reply_err(req, 0);
}

static void control_read(fuse_req_t req, const struct faultfs *fs, size_t size, off_t off)
{
    static char text[RULES_MAX * 400];
    const int n = rules_text(&fs->rules, text, sizeof(text));
    const size_t bytes = n > 0 ? (size_t)n : 0;
    const size_t from = (size_t)off < bytes ? (size_t)off : bytes;
    fuse_reply_buf(req, text + from, bytes - from < size ? bytes - from : size);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    struct faultfs *fs = faultfs_of(req);
    if (ino == CONTROL_INO) {
        control_read(req, fs, size, off);
        return;
    }

    const char *path = node_path(fs, ino);
    const uint64_t end = rules_size(&fs->rules, path, UINT64_MAX);
    const uint64_t at = (uint64_t)off;
    if (at >= end || end - at < size)
        size = at < end ? (size_t)(end - at) : 0;
    struct wait *w = calloc(1, sizeof(*w));
    uint8_t *buf = malloc(size ? size : 1);
    const ssize_t n = w && buf ? pread((int)fi->fh, buf, size, off) : -1;
    if (n < 0) {
        fuse_reply_err(req, w && buf ? errno : ENOMEM);
        free(buf);
        free(w);
        return;
    }
    *w = (struct wait){.next = fs->waits, .req = req, .buf = buf};
    w->fate = rules_read(&fs->rules, path, at, buf, (size_t)n);
    w->due_ms = now_ms() + (int64_t)w->fate.delay_ms;
    if (w->fate.hang || w->fate.delay_ms)
        fs->waits = w;
    else
        wait_answer(w);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                     struct fuse_file_info *fi)
{
    (void)off, (void)fi;
    struct faultfs *fs = faultfs_of(req);
    int err = ino == CONTROL_INO ? 0 : -EROFS;
    char *text = err ? NULL : strndup(buf, size), *rest = text;

    for (char *line; rest && !err && (line = strsep(&rest, "\n"));) {
        if (*line)
            err = rules_command(&fs->rules, line);
        if (!strcmp(line, "clear") || !strcmp(line, "clear hang"))
            waits_answer(fs, true, false);
    }
    free(text);
    if (err)
        fuse_reply_err(req, -err);
    else
        fuse_reply_write(req, size);
}

// As many reads in flight as a reader likes: one that hangs must not hold the others.
static void op_init(void *user, struct fuse_conn_info *conn)
{
    (void)user;
    conn->max_background = 4096;
    conn->congestion_threshold = 4096;
}

static const struct fuse_lowlevel_ops ops = {
    .init = op_init,
    .lookup = op_lookup,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .statfs = op_statfs,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .releasedir = op_releasedir,
    .open = op_open,
    .release = op_release,
    .read = op_read,
    .write = op_write,
};

// The loop.

static int faultfs_run(struct faultfs *fs, int signals)
{
    struct fuse_buf buf = {.mem = NULL};
    int err = 0;

    while (!err && !fuse_session_exited(fs->session)) {
        struct pollfd fds[] = {{.fd = fuse_session_fd(fs->session), .events = POLLIN},
                               {.fd = signals, .events = POLLIN}};
        if (poll(fds, 2, waits_timeout_ms(fs)) < 0 && errno != EINTR)
            err = -errno;
        if (fds[1].revents)
            break;
        if (fds[0].revents & POLLIN) {
            const int n = fuse_session_receive_buf(fs->session, &buf);
            if (n > 0)
                fuse_session_process_buf(fs->session, &buf);
            else if (n < 0 && n != -EINTR && n != -EAGAIN)
                err = n;
        } else if (fds[0].revents) {
            break; // unmounted
        }
        waits_answer(fs, false, false);
    }
    waits_answer(fs, true, true);
    free(buf.mem);
    return err == -ENODEV ? 0 : err;
}

static int faultfs_mount_run(struct faultfs *fs, const char *mount, int signals)
{
    char name[] = "faultfs", option[] = "-ofsname=faultfs,subtype=faultfs";
    char *argv[] = {name, option};
    struct fuse_args args = FUSE_ARGS_INIT(2, argv);

    fs->session = fuse_session_new(&args, &ops, sizeof(ops), fs);
    if (!fs->session)
        return -EINVAL; // it has printed why
    int err = fuse_session_mount(fs->session, mount) ? -EPERM : 0;
    if (!err) {
        puts("ready");
        fflush(stdout);
        err = faultfs_run(fs, signals);
        fuse_session_unmount(fs->session);
    }
    fuse_session_destroy(fs->session);
    fuse_opt_free_args(&args);
    return err;
}

int main(int argc, char **argv)
{
    static struct faultfs fs = {.nodes_n = CONTROL_INO + 1};
    static char top[] = ".";
    fs.path[FUSE_ROOT_ID] = top;
    fs.refuse_direct = argc > 1 && !strcmp(argv[1], "--refuse-direct");
    argc -= fs.refuse_direct;
    argv += fs.refuse_direct;
    if (argc != 3) {
        fprintf(stderr, "usage: faultfs [--refuse-direct] SOURCE MOUNT\n");
        return 2;
    }
    fs.source = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fs.source < 0) {
        fprintf(stderr, "faultfs: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    const int signals = signalfd(-1, &set, SFD_CLOEXEC);

    const int err = signals < 0 ? -errno : faultfs_mount_run(&fs, argv[2], signals);
    if (err)
        fprintf(stderr, "faultfs: %s: %s\n", argv[2], strerror(-err));
    for (uint32_t i = CONTROL_INO + 1; i < fs.nodes_n; i++)
        free(fs.path[i]);
    return err ? 1 : 0;
}
