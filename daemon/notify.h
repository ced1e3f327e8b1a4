// SPDX-License-Identifier: MIT
// notify: readiness, status and watchdog for systemd, as sd_notify(3) describes the protocol.  It
// is one datagram, which that page recommends to send oneself rather than link a library for it.
// Silent where NOTIFY_SOCKET is not set.  Owner: ctl.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// notify_send sends lines as "READY=1" or "STATUS=loading\nEXTEND_TIMEOUT_USEC=60000000".
void notify_send(const char *format, ...) __attribute__((format(printf, 1, 2)));

// notify_watchdog_us returns how often systemd wants a sign of life, halved; 0: never.
uint64_t notify_watchdog_us(void);

// notify_listen_fds returns how many listening sockets systemd passed, from fd 3 on; 0: none.
int notify_listen_fds(void);
