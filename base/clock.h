// SPDX-License-Identifier: MIT
// clock: the only place that asks the kernel for the time.  sched/ and api/ never do; they are
// told.
#pragma once
#include <stdint.h>

// clock_us returns microseconds of CLOCK_MONOTONIC.  Thread: any.
uint64_t clock_us(void);
// clock_ns returns nanoseconds of the same clock.
uint64_t clock_ns(void);

// clock_unix_s returns seconds since 1970 of the wall clock, for `created` fields.  Thread: any.
int64_t clock_unix_s(void);
