// SPDX-License-Identifier: MIT
#include "base/log.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LOG_LINE_MAX   2048u // half of PIPE_BUF: two threads may write to a pipe that has room
#define LOG_RECORD_MAX 4096u // a line with its fields
#define MINUTE_US      60000000u

const char *const log_level_name[LOG_LEVEL_COUNT] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

#define EVENT_ROW(id, word, message_id, per_minute, fields)                                        \
    [EVENT_##id] = {word, message_id, per_minute, fields},
const struct log_event_row log_events[EVENT_COUNT] = {EVENTS(EVENT_ROW)};
#undef EVENT_ROW

static const int syslog_priority[LOG_LEVEL_COUNT] = {3, 4, 6, 7}; // syslog(3)

static atomic_int level_max = LOG_LEVEL_INFO;
static struct log_limit event_limits[EVENT_COUNT];
static atomic_uint lost_n;                                           // lines, since one was told
static int journal_fd = -1;                                          // -1: the standard error
static struct sockaddr_un journal_address = {.sun_family = AF_UNIX}; // of log_open

void log_level_set(enum log_level level)
{
    atomic_store_explicit(&level_max, (int)level, memory_order_relaxed);
}

bool log_open(const char *journal)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2 ||
        fstat(STDERR_FILENO, &st) != 0 || st.st_dev != device || st.st_ino != inode ||
        strlen(journal) >= sizeof(journal_address.sun_path))
        return false;
    // The path is named with every line, so a journal that was restarted is found again.
    snprintf(journal_address.sun_path, sizeof(journal_address.sun_path), "%s", journal);
    journal_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return journal_fd >= 0;
}

// record is a line while it is made: for the journal NAME=value lines, of which no value has a
// newline.
struct record {
    char text[LOG_RECORD_MAX];
    size_t n;
};

static void record_add(struct record *r, const char *name, const char *value, size_t max)
{
    size_t name_n = strlen(name), n = strnlen(value, max);
    if (r->n + name_n + n + 2 > sizeof(r->text))
        return;
    memcpy(r->text + r->n, name, name_n);
    r->n += name_n;
    for (size_t i = 0; i < n; i++) {
        char c = value[i];
        r->text[r->n++] = (unsigned char)c < 0x20 || c == 0x7f ? '?' : c;
    }
    r->text[r->n++] = '\n';
}

static bool journal_send(enum log_level level, const struct log_event_row *event,
                         const struct log_field *fields, const char *line)
{
    struct record r = {.n = 0};
    char priority[] = {(char)('0' + syslog_priority[level]), '\0'};
    record_add(&r, "MESSAGE=", line, LOG_LINE_MAX);
    record_add(&r, "PRIORITY=", priority, 1);
    record_add(&r, "SYSLOG_IDENTIFIER=", "expertd", LOG_VALUE_MAX);
    if (event) {
        record_add(&r, "MESSAGE_ID=", event->message_id, LOG_VALUE_MAX);
        record_add(&r, "EXPERTD_EVENT=", event->name, LOG_VALUE_MAX);
    }
    for (; event && fields && fields->name; fields++) {
        char name[64];
        snprintf(name, sizeof(name), "EXPERTD_%s=", fields->name);
        record_add(&r, name, fields->value, LOG_VALUE_MAX - 1);
    }
    // Not sd_journal_sendv: that waits while the journal's queue is full.
    return sendto(journal_fd, r.text, r.n, MSG_DONTWAIT | MSG_NOSIGNAL,
                  (const struct sockaddr *)&journal_address, sizeof(journal_address)) >= 0;
}

static bool stderr_write(enum log_level level, const char *line)
{
    struct record r = {.n = 0};
    char prefix[32];
    if (journal_fd >= 0) // it is the journal's other entrance
        snprintf(prefix, sizeof(prefix), "<%d>", syslog_priority[level]);
    else
        snprintf(prefix, sizeof(prefix), "expertd: %s: ", log_level_name[level]);
    record_add(&r, prefix, line, LOG_LINE_MAX);
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&out, 1, 0) != 1 || !(out.revents & POLLOUT))
        return false;
    return write(STDERR_FILENO, r.text, r.n) >= 0;
}

static bool line_send(enum log_level level, const struct log_event_row *event,
                      const struct log_field *fields, const char *line)
{
    if (journal_fd >= 0) {
        if (journal_send(level, event, fields, line))
            return true;
        if (errno == EAGAIN || errno == ENOBUFS)
            return false; // it is behind
    }
    return stderr_write(level, line); // also while the journal is not there: without fields
}

// line_put also tells of lines that were lost, once one finds a place again.
static void line_put(enum log_level level, const struct log_event_row *event,
                     const struct log_field *fields, const char *line)
{
    unsigned lost = atomic_exchange_explicit(&lost_n, 0, memory_order_relaxed);
    if (lost > 0) {
        char text[80];
        snprintf(text, sizeof(text), "%u lines of this log were lost: its reader was behind", lost);
        if (!line_send(LOG_LEVEL_WARNING, NULL, NULL, text)) {
            atomic_fetch_add_explicit(&lost_n, lost + 1, memory_order_relaxed);
            return;
        }
    }
    if (!line_send(level, event, fields, line))
        atomic_fetch_add_explicit(&lost_n, 1, memory_order_relaxed);
}

static bool level_wanted(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&level_max, memory_order_relaxed);
}

void log_write(enum log_level level, const char *format, ...)
{
    char line[LOG_LINE_MAX];
    va_list args;
    if (!level_wanted(level))
        return;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    line_put(level, NULL, NULL, line);
}

bool log_limit_take(struct log_limit *limit, uint32_t per_minute, uint64_t now_us,
                    uint32_t *ret_suppressed, bool *ret_last)
{
    *ret_suppressed = 0;
    *ret_last = false;
    if (per_minute == 0)
        return true;
    uint64_t began_us = atomic_load_explicit(&limit->minute, memory_order_relaxed);
    if ((began_us == 0 || now_us - began_us >= MINUTE_US) &&
        atomic_compare_exchange_strong_explicit(&limit->minute, &began_us, now_us,
                                                memory_order_relaxed, memory_order_relaxed))
        atomic_store_explicit(&limit->lines, 0, memory_order_relaxed);
    unsigned lines = atomic_fetch_add_explicit(&limit->lines, 1, memory_order_relaxed);
    if (lines >= per_minute) {
        atomic_fetch_sub_explicit(&limit->lines, 1, memory_order_relaxed); // it does not wrap
        atomic_fetch_add_explicit(&limit->suppressed, 1, memory_order_relaxed);
        return false;
    }
    *ret_suppressed = atomic_exchange_explicit(&limit->suppressed, 0, memory_order_relaxed);
    *ret_last = lines + 1 == per_minute;
    return true;
}

__attribute__((format(printf, 6, 0))) static void
line_limited(struct log_limit *limit, uint32_t per_minute, enum log_level level,
             const struct log_event_row *event, const struct log_field *fields, const char *format,
             va_list args)
{
    char line[LOG_LINE_MAX];
    uint32_t suppressed;
    bool last;
    if (!level_wanted(level) || !log_limit_take(limit, per_minute, clock_us(), &suppressed, &last))
        return;
    vsnprintf(line, sizeof(line) - 80, format, args);
    size_t n = strlen(line);
    if (suppressed > 0)
        n += (size_t)snprintf(line + n, sizeof(line) - n, " (before it, %u more suppressed)",
                              suppressed);
    if (last)
        snprintf(line + n, sizeof(line) - n, " (more in this minute are only counted)");
    line_put(level, event, fields, line);
}

void log_event(enum log_level level, enum event event, const struct log_field *fields,
               const char *format, ...)
{
    va_list args;
    va_start(args, format);
    line_limited(&event_limits[event], log_events[event].per_minute, level, &log_events[event],
                 fields, format, args);
    va_end(args);
}

void log_write_limited(struct log_limit *limit, enum log_level level, uint32_t per_minute,
                       const char *format, ...)
{
    va_list args;
    va_start(args, format);
    line_limited(limit, per_minute, level, NULL, NULL, format, args);
    va_end(args);
}
