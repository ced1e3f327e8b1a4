// SPDX-License-Identifier: MIT
// port: the clock and the random numbers of lwIP.
#include <lwip/sys.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

u32_t sys_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u32_t)((uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u);
}

uint32_t lwip_port_random(void)
{
    uint32_t value = 0;
    if (getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value))
        abort(); // the pool is there once the machine has booted
    return value;
}
