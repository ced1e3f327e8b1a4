// SPDX-License-Identifier: MIT
// log: lines on stderr.  Under systemd (JOURNAL_STREAM set) each line carries its priority as <N>;
// on a terminal or in a file it carries the level's name.  Only daemon/, client/ and tools/ log;
// the folders below return errors (STYLE.md E5) and are silent above debug.
#pragma once

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_COUNT
};

extern const char *const log_level_name[LOG_LEVEL_COUNT];

// log_level_set sets the least urgent level that is still written.  Thread: any.
void log_level_set(enum log_level level);

// log_write writes one line with one write(2); bytes below 0x20 become '?'.  At most 2 KiB, cut.
// Never pass text from outside as `format`.  Thread: any; allocates nothing.
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
