// SPDX-License-Identifier: MIT
#include "io/net/listener.h"

#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

// Connections that wait for accept while all places are taken; the kernel cuts it at somaxconn.
#define LISTEN_BACKLOG 1024

static void listener_reset(struct listener *l)
{
    memset(l, 0, sizeof(*l));
    l->fd = -1;
}

// dir_open opens the directory of a path, to hold its lock.
static int dir_open(const char *path)
{
    char dir[sizeof(((struct listener *)0)->path)];
    snprintf(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (!slash)
        snprintf(dir, sizeof(dir), ".");
    else
        slash[slash == dir ? 1 : 0] = '\0';
    return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

// path_is_answered asks whether a live process accepts connections there.
static bool path_is_answered(const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return true; // not known, so leave it alone
    bool answered = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ||
                    (errno != ECONNREFUSED && errno != ENOENT);
    close(fd);
    return answered;
}

// path_clear removes a socket that nobody answers.
static int path_clear(const struct sockaddr_un *addr, struct fault *fault)
{
    struct stat st;
    if (lstat(addr->sun_path, &st) != 0) {
        if (errno == ENOENT)
            return 0;
        return fault_set(fault, errno, "%s: %s", addr->sun_path, strerror(errno));
    }
    if (!S_ISSOCK(st.st_mode))
        return fault_set(fault, EEXIST,
                         "%s: exists and is no socket; remove it or choose another "
                         "[listen] socket",
                         addr->sun_path);
    if (path_is_answered(addr))
        return fault_set(fault, EADDRINUSE,
                         "%s: another process answers there; stop it or choose another [listen] "
                         "socket",
                         addr->sun_path);
    if (unlink(addr->sun_path) != 0)
        return fault_set(fault, errno, "%s: left behind and cannot be removed: %s", addr->sun_path,
                         strerror(errno));
    return 0;
}

static int path_listen(int fd, const struct sockaddr_un *addr, mode_t mode, struct listener *l,
                       struct fault *fault)
{
    int err = path_clear(addr, fault);
    if (err != 0)
        return err;

    mode_t umask_before = umask(0777 & ~mode);
    int bound = bind(fd, (const struct sockaddr *)addr, sizeof(*addr));
    int bind_errno = errno;
    umask(umask_before);
    if (bound != 0)
        return fault_set(fault, bind_errno, "%s: %s", addr->sun_path, strerror(bind_errno));

    struct stat st;
    if (lstat(addr->sun_path, &st) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        err = fault_set(fault, errno, "%s: %s", addr->sun_path, strerror(errno));
        unlink(addr->sun_path);
        return err;
    }
    snprintf(l->path, sizeof(l->path), "%s", addr->sun_path);
    snprintf(l->name, sizeof(l->name), "%s", addr->sun_path);
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    return 0;
}

int listener_open_unix(const char *path, mode_t mode, struct listener *ret, struct fault *fault)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(addr.sun_path))
        return fault_set(fault, ENAMETOOLONG, "%s: longer than %zu bytes", path,
                         sizeof(addr.sun_path) - 1);
    memcpy(addr.sun_path, path, strlen(path));

    struct listener l;
    listener_reset(&l);
    l.local = true;
    int err;
    int dir = dir_open(path);
    if (dir < 0)
        return fault_set(fault, errno,
                         "%s: its directory: %s; make it or choose another [listen] socket", path,
                         strerror(errno));
    // Between asking who answers and binding, nobody else may do the same.
    if (flock(dir, LOCK_EX) != 0) {
        err = fault_set(fault, errno, "%s: its directory: %s", path, strerror(errno));
        goto done;
    }
    l.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l.fd < 0) {
        err = fault_set(fault, errno, "%s: %s", path, strerror(errno));
        goto done;
    }
    err = path_listen(l.fd, &addr, mode, &l, fault);
done:
    close(dir); // gives the lock back
    if (err != 0)
        listener_close(&l);
    else
        *ret = l;
    return err;
}

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un un;
    struct sockaddr_storage space;
};

static bool address_is_loopback(const union address *a)
{
    if (a->any.sa_family == AF_INET)
        return ntohl(a->v4.sin_addr.s_addr) >> 24 == 127;
    if (a->any.sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr);
    return false;
}

// address_parse reads "A.B.C.D:PORT" and "[ADDRESS]:PORT".
static bool address_parse(const char *text, union address *ret, socklen_t *ret_len)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof(host))
        return false;
    snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);

    char *end;
    errno = 0;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || errno != 0 || port > 65535)
        return false;

    memset(ret, 0, sizeof(*ret));
    size_t len = strlen(host);
    if (host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        ret->v6.sin6_family = AF_INET6;
        ret->v6.sin6_port = htons((uint16_t)port);
        *ret_len = sizeof(ret->v6);
        return inet_pton(AF_INET6, host + 1, &ret->v6.sin6_addr) == 1;
    }
    ret->v4.sin_family = AF_INET;
    ret->v4.sin_port = htons((uint16_t)port);
    *ret_len = sizeof(ret->v4);
    return inet_pton(AF_INET, host, &ret->v4.sin_addr) == 1;
}

// name_of writes where a TCP listener listens.
static void name_of(const union address *a, char *out, size_t out_bytes)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (a->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a->v6.sin6_addr, host, sizeof(host));
        snprintf(out, out_bytes, "[%s]:%u", host, ntohs(a->v6.sin6_port));
    } else {
        inet_ntop(AF_INET, &a->v4.sin_addr, host, sizeof(host));
        snprintf(out, out_bytes, "%s:%u", host, ntohs(a->v4.sin_port));
    }
}

static int loopback_parse(const char *text, union address *ret, socklen_t *ret_len,
                          struct fault *fault)
{
    if (!address_parse(text, ret, ret_len))
        return fault_set(fault, EINVAL,
                         "[listen] loopback = %s: must be ADDRESS:PORT, as 127.0.0.1:8080", text);
    if (!address_is_loopback(ret))
        return fault_set(fault, EINVAL,
                         "[listen] loopback = %s: not a loopback address; the network is never "
                         "served through the kernel",
                         text);
    return 0;
}

int listener_loopback_check(const char *text, struct fault *fault)
{
    union address addr;
    socklen_t len;
    return loopback_parse(text, &addr, &len, fault);
}

int listener_open_loopback(const char *text, struct listener *ret, struct fault *fault)
{
    union address addr;
    socklen_t len;
    int err = loopback_parse(text, &addr, &len, fault);
    if (err != 0)
        return err;

    struct listener l;
    listener_reset(&l);
    int one = 1;
    l.fd = socket(addr.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l.fd < 0 || setsockopt(l.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(l.fd, &addr.any, len) != 0 || listen(l.fd, LISTEN_BACKLOG) != 0 ||
        getsockname(l.fd, &addr.any, &len) != 0) {
        // As a service, the daemon has no network unless it was given one.
        if (errno == EAFNOSUPPORT)
            err = fault_set(fault, errno,
                            "[listen] loopback = %s: the service may use no network: install "
                            "-Dm644 -t /etc/systemd/system/expertd.service.d " EXPERTD_DATADIR
                            "/systemd/loopback.conf && systemctl daemon-reload",
                            text);
        else
            err = fault_set(fault, errno, "[listen] loopback = %s: %s%s", text, strerror(errno),
                            errno == EADDRINUSE ? "; another program has this port ('ss -ltnp' "
                                                  "names it)"
                                                : "");
        listener_close(&l);
        return err;
    }
    name_of(&addr, l.name, sizeof(l.name));
    *ret = l;
    return 0;
}

int listener_adopt(int fd, struct listener *ret, struct fault *fault)
{
    union address addr;
    socklen_t len = sizeof(addr);
    int type = 0, accepts = 0;
    socklen_t int_len = sizeof(int);
    memset(&addr, 0, sizeof(addr));
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &int_len) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &int_len) != 0 ||
        getsockname(fd, &addr.any, &len) != 0)
        return fault_set(fault, EINVAL, "fd %d from systemd: %s", fd, strerror(errno));
    bool local = addr.any.sa_family == AF_UNIX;
    if (type != SOCK_STREAM || !accepts || !(local || address_is_loopback(&addr)))
        return fault_set(fault, EINVAL,
                         "fd %d from systemd: must be a listening stream socket of "
                         "the Unix or loopback kind",
                         fd);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return fault_set(fault, errno, "fd %d from systemd: %s", fd, strerror(errno));

    struct listener l;
    listener_reset(&l);
    l.fd = fd;
    l.local = local;
    if (local)
        snprintf(l.name, sizeof(l.name), "%.107s (from systemd)", addr.un.sun_path);
    else
        name_of(&addr, l.name, sizeof(l.name));
    *ret = l;
    return 0;
}

// path_remove removes our socket file, unless another process has put its own there (an inode's
// number alone does not tell: it may have been used again).
static void path_remove(const struct listener *l)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    memcpy(addr.sun_path, l->path, sizeof(addr.sun_path));
    int dir = dir_open(l->path);
    if (dir < 0)
        return;
    struct stat st;
    if (flock(dir, LOCK_EX) == 0 && lstat(l->path, &st) == 0 && st.st_dev == l->dev &&
        st.st_ino == l->ino && !path_is_answered(&addr))
        unlink(l->path);
    close(dir);
}

void listener_close(struct listener *l)
{
    if (l->fd < 0)
        return;
    close(l->fd);
    if (l->path[0])
        path_remove(l);
    listener_reset(l);
}
