// SPDX-License-Identifier: MIT
// notify: readiness, status, watchdog and passed sockets of systemd, by libsystemd.  Silent where
// systemd did not start the daemon, and when it was built with -Dsystemd=disabled.  Owner: ctl.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// notify_send sends lines as "READY=1" or "STATUS=loading\nEXTEND_TIMEOUT_USEC=60000000".
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

// notify_watchdog_us returns how often systemd wants a sign of life, halved; 0: never.
uint64_t notify_watchdog_us(void);

// notify_listen_fds returns how many listening sockets systemd passed, from fd 3 on; 0: none.
int notify_listen_fds(void);
