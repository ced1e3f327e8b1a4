// SPDX-License-Identifier: MIT
#include "tests/unit/client/served.h"

#include "tests/check.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

void served_open(struct served *served)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    char path[96];

    snprintf(served->folder, sizeof(served->folder), "/tmp/expertctl-test.XXXXXX");
    CHECK(mkdtemp(served->folder));
    snprintf(path, sizeof(path), "%s/s", served->folder);
    CHECK(address_unix(path, &served->address, NULL) == 0);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    served->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(served->listen_fd >= 0);
    CHECK(bind(served->listen_fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0);
    CHECK(listen(served->listen_fd, 8) == 0);
}

// request_is_whole looks for the end of the head and the body that Content-Length announces.
static int request_is_whole(const char *request, size_t n)
{
    const char *end = memmem(request, n, "\r\n\r\n", 4);
    if (!end)
        return 0;
    const char *length = memmem(request, n, "Content-Length: ", 16);
    size_t body = length ? strtoul(length + 16, NULL, 10) : 0;
    return n >= (size_t)(end + 4 - request) + body;
}

static void served_read(int fd, int request_fd)
{
    static char request[1 << 20];
    size_t n = 0;
    while (n < sizeof(request) && !request_is_whole(request, n)) {
        ssize_t got = read(fd, request + n, sizeof(request) - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    CHECK(write(request_fd, request, n) == (ssize_t)n);
}

void served_script(struct served *served, const char *bytes, size_t len, size_t step,
                   int read_request)
{
    int pipe_fds[2];
    CHECK(pipe(pipe_fds) == 0);
    fflush(stdout);
    served->pid = fork();
    CHECK(served->pid >= 0);
    if (served->pid > 0) {
        close(pipe_fds[1]);
        served->request_fd = pipe_fds[0];
        return;
    }
    signal(SIGPIPE, SIG_IGN);
    int fd = accept(served->listen_fd, NULL, NULL);
    if (fd >= 0 && read_request)
        served_read(fd, pipe_fds[1]);
    for (size_t at = 0; at < len;) {
        size_t n = step && step < len - at ? step : len - at;
        ssize_t sent = write(fd, bytes + at, n);
        if (sent <= 0)
            break;
        at += (size_t)sent;
    }
    _exit(0); // closes the connection
}

const char *served_request(struct served *served, char *buf, size_t buf_bytes)
{
    size_t n = 0;
    for (ssize_t got = 1; got > 0 && n<buf_bytes - 1; n += got> 0 ? (size_t)got : 0)
        got = read(served->request_fd, buf + n, buf_bytes - 1 - n);
    buf[n] = '\0';
    close(served->request_fd);
    waitpid(served->pid, NULL, 0);
    return buf;
}

void served_close(struct served *served)
{
    close(served->listen_fd);
    unlink(served->address.path);
    rmdir(served->folder);
}
