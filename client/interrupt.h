// SPDX-License-Identifier: MIT
// interrupt: Ctrl-C and requests to end, as a descriptor that can be polled beside sockets and the
// keyboard, so nothing is cut off half way and nothing is global.
#pragma once
#include <stdbool.h>

enum interrupt {
    INTERRUPT_NONE,
    INTERRUPT_STOP, // SIGINT: stop what is under way
    INTERRUPT_END,  // SIGTERM, SIGHUP: put the terminal back and leave
};

// interrupt_open blocks the three signals and returns a descriptor that is readable while one of
// them is pending; -errno on failure.
int interrupt_open(int *ret_fd);

// interrupt_take takes what is pending, the more urgent one if both are.  Never blocks.
enum interrupt interrupt_take(int fd);

// interrupt_pending says whether one is pending, and leaves it so.  -1 has none.
bool interrupt_pending(int fd);
