// SPDX-License-Identifier: MIT
#include "daemon/notify.h"

#include "config.h"

#if HAVE_SYSTEMD
#include <stdarg.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

void notify_send(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)sd_notify(0, text); // systemd will notice that it heard nothing
}

uint64_t notify_watchdog_us(void)
{
    uint64_t us = 0;
    return sd_watchdog_enabled(0, &us) > 0 ? us / 2 : 0;
}

int notify_listen_fds(void)
{
    int n = sd_listen_fds(0);
    return n > 0 ? n : 0;
}

#else // -Dsystemd=disabled: nobody listens

void notify_send(const char *format, ...)
{
    (void)format;
}

uint64_t notify_watchdog_us(void)
{
    return 0;
}

int notify_listen_fds(void)
{
    return 0;
}
#endif
