// SPDX-License-Identifier: MIT
// live: the options that SIGHUP can change, as other threads read them.
// Owner: ctl writes; any thread reads, and an old value for a moment does no harm.
#pragma once
#include "daemon/conf.h"

#include <stdatomic.h>

struct live {
    _Atomic uint64_t body_bytes_max;
    _Atomic uint64_t unsent_bytes_max;
    _Atomic uint64_t header_timeout_us;
    _Atomic uint64_t body_timeout_us;
    _Atomic uint64_t idle_timeout_us;
    _Atomic uint64_t keep_alive_us;
    _Atomic uint32_t requests_per_minute;
    _Atomic uint32_t requests_per_key_max;
    _Atomic uint32_t log_requests; // enum conf_requests
};

static inline void live_set(struct live *live, const struct conf *conf)
{
    atomic_store_explicit(&live->body_bytes_max, conf->limits_body_bytes_max, memory_order_relaxed);
    atomic_store_explicit(&live->unsent_bytes_max, conf->limits_unsent_bytes_max,
                          memory_order_relaxed);
    atomic_store_explicit(&live->header_timeout_us, conf->limits_header_timeout,
                          memory_order_relaxed);
    atomic_store_explicit(&live->body_timeout_us, conf->limits_body_timeout, memory_order_relaxed);
    atomic_store_explicit(&live->idle_timeout_us, conf->limits_idle_timeout, memory_order_relaxed);
    atomic_store_explicit(&live->keep_alive_us, conf->limits_keep_alive, memory_order_relaxed);
    atomic_store_explicit(&live->requests_per_minute, conf->limits_requests_per_minute,
                          memory_order_relaxed);
    atomic_store_explicit(&live->requests_per_key_max, conf->limits_requests_per_key_max,
                          memory_order_relaxed);
    atomic_store_explicit(&live->log_requests, conf->log_requests, memory_order_relaxed);
}

#define live_get(live, field) atomic_load_explicit(&(live)->field, memory_order_relaxed)
