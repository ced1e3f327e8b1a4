// SPDX-License-Identifier: MIT
// wake: how one thread tells another that a ring has something: an eventfd.  A thread that has
// nothing to do sleeps in poll or epoll on its wake, so an idle daemon costs nothing.
#pragma once
#include <stdint.h>

// wake_open returns a non-blocking eventfd, or -errno.
int wake_open(void);

// wake_signal makes the fd readable.  Never blocks.  Thread: any.
void wake_signal(int fd);

// wake_clear makes the fd unreadable again; call it before looking at the rings, so that a signal
// that arrives while they are drained is not lost.  Thread: the one that waits.
void wake_clear(int fd);

// wake_wait blocks until the fd is readable or timeout_ms passed (-1: for ever), then clears it.
// Thread: the one that waits.
void wake_wait(int fd, int timeout_ms);
