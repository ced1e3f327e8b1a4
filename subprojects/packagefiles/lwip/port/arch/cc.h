// SPDX-License-Identifier: MIT
// cc: what lwIP asks of compiler and C library: glibc on a machine of 64 bits.
#pragma once
#include <errno.h>
#include <stdint.h>
#include <sys/time.h>
#include <sys/types.h>

#define LWIP_TIMEVAL_PRIVATE                  0
#define LWIP_ERRNO_INCLUDE                    <errno.h>
#define LWIP_ERRNO_STDINCLUDE                 1
#define LWIP_DONT_PROVIDE_BYTEORDER_FUNCTIONS 1
#define IPV6_FRAG_COPYHEADER                  1

// An error is handled, not printed.
#define LWIP_ERROR(message, expression, handler)                                                   \
    do {                                                                                           \
        if (!(expression)) {                                                                       \
            handler;                                                                               \
        }                                                                                          \
    } while (0)

uint32_t lwip_port_random(void);
#define LWIP_RAND() lwip_port_random()
