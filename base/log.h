// SPDX-License-Identifier: MIT
// log: lines for the operator.  On a terminal or in a file each carries its level's name; under
// systemd (JOURNAL_STREAM names the standard error) it goes to the journal with its priority, and
// with the fields of its event (base/events.h).  Only daemon/, client/ and tools/ log; the folders
// below return errors (STYLE.md E5) and are silent above debug.
//
// Nobody waits for who reads the log: a line that finds no place is lost, and the next one that
// does says how many were.  Text that the network can cause is limited: log_limited, events.
// Thread: any; allocates nothing.
#pragma once
#include "base/events.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_COUNT
};

extern const char *const log_level_name[LOG_LEVEL_COUNT];

// What base/events.h says of each.
struct log_event_row {
    const char *name, *message_id;
    uint32_t per_minute; // 0: any number
    const char *fields;
};
extern const struct log_event_row log_events[EVENT_COUNT];

// log_open finds out where lines go, once, before there are threads; without it to the standard
// error.
// journal: the path of the journal's socket; it is used if JOURNAL_STREAM names our standard error.
// Returns whether it is used.
bool log_open(const char *journal);
#define LOG_JOURNAL "/run/systemd/journal/socket"

// log_level_set sets the least urgent level that is still written.
void log_level_set(enum log_level level);

// log_write writes one line; bytes below 0x20 become '?'.  At most 2 KiB, cut.  Never pass text
// from outside as `format`.
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

// A field of an event: its name without EXPERTD_, and its value, cut at LOG_VALUE_MAX - 1.
struct log_field {
    const char *name, *value;
};
#define LOG_FIELDS(...) ((const struct log_field[]){__VA_ARGS__, {NULL, NULL}})
#define LOG_VALUE_MAX   256u

// log_event writes the line of an event, within its limit.
// fields: LOG_FIELDS({"DRIVE", name}, ...), or NULL.
void log_event(enum log_level level, enum event event, const struct log_field *fields,
               const char *format, ...) __attribute__((format(printf, 4, 5)));

// What was said in this minute; zeros at first.
struct log_limit {
    _Atomic uint64_t minute; // of clock_us; when lines is counted anew
    atomic_uint lines;
    atomic_uint suppressed; // since the last line that was let through
};

// log_limit_take says whether one more line may be written.
// per_minute: 0: always.  now_us: of clock_us.
// ret_suppressed: how many were not, before this one; 0 unless it may.  ret_last: it is the last
// one of this minute.
bool log_limit_take(struct log_limit *limit, uint32_t per_minute, uint64_t now_us,
                    uint32_t *ret_suppressed, bool *ret_last);

// log_limited writes at most per_minute lines from where it stands.
#define log_limited(level, per_minute, ...)                                                        \
    do {                                                                                           \
        static struct log_limit log_limit_here;                                                    \
        log_write_limited(&log_limit_here, level, per_minute, __VA_ARGS__);                        \
    } while (0)
void log_write_limited(struct log_limit *limit, enum log_level level, uint32_t per_minute,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));
