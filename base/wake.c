// SPDX-License-Identifier: MIT
#include "base/wake.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

int wake_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void wake_signal(int fd)
{
    uint64_t one = 1;
    // EAGAIN means that the counter is full, so the fd is readable already.
    ssize_t written = write(fd, &one, sizeof(one));
    (void)written;
}

void wake_clear(int fd)
{
    uint64_t count;
    // EAGAIN means that nobody signalled since.
    ssize_t got = read(fd, &count, sizeof(count));
    (void)got;
}

void wake_wait(int fd, int timeout_ms)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    poll(&pollfd, 1, timeout_ms); // EINTR counts as a wake-up: the caller looks at its rings
    wake_clear(fd);
}
