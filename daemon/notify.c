// SPDX-License-Identifier: MIT
#include "daemon/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_send(const char *format, ...)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(addr.sun_path))
        return;
    size_t len = strlen(path);
    memcpy(addr.sun_path, path, len);
    if (path[0] == '@')
        addr.sun_path[0] = '\0'; // an abstract name

    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);

    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    ssize_t sent = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&addr,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
    (void)sent; // systemd will notice that it heard nothing
    close(fd);
}

// env_number reads a decimal environment variable; 0 if it is not one.
static unsigned long long env_number(const char *name)
{
    const char *text = getenv(name);
    if (!text || *text < '0' || *text > '9')
        return 0;
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    return *end == '\0' ? value : 0;
}

// env_is_ours: PID variables tell for whom the others were meant.
static bool env_is_ours(const char *pid_name)
{
    return !getenv(pid_name) || env_number(pid_name) == (unsigned long long)getpid();
}

uint64_t notify_watchdog_us(void)
{
    return env_is_ours("WATCHDOG_PID") ? env_number("WATCHDOG_USEC") / 2 : 0;
}

int notify_listen_fds(void)
{
    if (!getenv("LISTEN_PID") || !env_is_ours("LISTEN_PID"))
        return 0;
    unsigned long long n = env_number("LISTEN_FDS");
    return n > 1000 ? 1000 : (int)n;
}
