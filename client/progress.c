// SPDX-License-Identifier: MIT
#include "client/progress.h"

#include <stdio.h>
#include <string.h>

#define BAR_CELLS     24u
#define BAR_PAUSE_US  200000ull   // five times a second
#define LINE_PAUSE_US 10000000ull // a log of an hour stays readable

struct unit {
    double bytes;
    int decimals, rate_decimals;
    const char *name;
};

// unit_of returns in what to say a number of bytes, so that it does not read as 0.0.
static const struct unit *unit_of(double bytes)
{
    static const struct unit units[] = {
        {1e9, 1, 2, "GB"}, {1e6, 1, 1, "MB"}, {1e3, 1, 1, "KB"}, {1, 0, 0, "bytes"}};
    size_t i = 0;
    while (i + 1 < sizeof(units) / sizeof(units[0]) && bytes < units[i].bytes)
        i++;
    return &units[i];
}

static void bytes_text(double bytes, char ret[32])
{
    const struct unit *unit = unit_of(bytes);
    snprintf(ret, 32, "%.*f %s", unit->decimals, bytes / unit->bytes, unit->name);
}

static void rate_text(double rate, char ret[32])
{
    const struct unit *unit = unit_of(rate);
    snprintf(ret, 32, "%.*f %s/s", unit->rate_decimals, rate / unit->bytes, unit->name);
}

static unsigned percent(uint64_t done, uint64_t total)
{
    return total ? (unsigned)((double)done * 100 / (double)total) : 100;
}

void progress_line(uint64_t done, uint64_t total, uint64_t since, uint64_t us, char *ret,
                   size_t bytes)
{
    double rate = us ? (double)since * 1e6 / (double)us : 0;
    const struct unit *unit = unit_of((double)total);
    char speed[32];
    int n = snprintf(ret, bytes, "%u %%, %.*f of %.*f %s", percent(done, total), unit->decimals,
                     (double)done / unit->bytes, unit->decimals, (double)total / unit->bytes,
                     unit->name);

    if (rate <= 0 || n < 0 || (size_t)n >= bytes)
        return;
    double left = (double)(total - done) / rate;
    unsigned long seconds = left < 1e8 ? (unsigned long)(left + 0.5) : 100000000ul;
    size_t at = (size_t)n;
    rate_text(rate, speed);
    n = snprintf(ret + at, bytes - at, ", %s, ", speed);
    at += n > 0 ? (size_t)n : 0;
    if (at >= bytes)
        return;
    if (seconds >= 3600)
        snprintf(ret + at, bytes - at, "%lu:%02lu:%02lu left", seconds / 3600, seconds / 60 % 60,
                 seconds % 60);
    else
        snprintf(ret + at, bytes - at, "%lu:%02lu left", seconds / 60, seconds % 60);
}

static void bar_show(struct progress *p, const char *line)
{
    char cells[BAR_CELLS + 1];
    unsigned full = p->total ? (unsigned)((double)p->done * BAR_CELLS / (double)p->total) : 0;

    memset(cells, '.', BAR_CELLS);
    memset(cells, '#', full < BAR_CELLS ? full : BAR_CELLS);
    cells[BAR_CELLS] = '\0';
    // Blanks, not an escape sequence, wipe the rest of a longer line: any terminal does that.
    fprintf(stderr, "\r%s [%s] %-48s", p->verb, cells, line);
    fflush(stderr);
    p->shown = true;
}

void progress_tell(struct progress *p, uint64_t done, uint64_t total, uint64_t now_us)
{
    char line[96];

    if (!p->started) {
        p->started = true;
        p->first_us = now_us;
        p->first_done = done;
        p->told_us = p->bar ? 0 : now_us;
    }
    p->done = done;
    p->total = total;
    p->now_us = now_us;
    uint64_t pause = p->bar ? BAR_PAUSE_US : LINE_PAUSE_US;
    bool last = p->bar && done == total;
    if (p->silent || (!last && now_us - p->told_us < pause))
        return;
    p->told_us = now_us;
    progress_line(done, total, done - p->first_done, now_us - p->first_us, line, sizeof(line));
    if (p->bar)
        bar_show(p, line);
    else
        fprintf(stderr, "%s: %s\n", p->verb, line);
}

void progress_end(struct progress *p)
{
    if (p->shown)
        fputc('\n', stderr);
    p->shown = false;
}

double progress_seconds(const struct progress *p)
{
    return (double)(p->now_us - p->first_us) / 1e6;
}

double progress_rate(const struct progress *p)
{
    double seconds = progress_seconds(p);
    return seconds > 0 ? (double)(p->done - p->first_done) / seconds : 0;
}

void progress_report(const struct progress *p, char *ret, size_t bytes)
{
    char total[32], part[32], now[64] = "", time[32], speed[32], rate[48] = "";
    double seconds = progress_seconds(p);

    bytes_text((double)p->total, total);
    if (p->first_done > 0) {
        bytes_text((double)(p->done - p->first_done), part);
        snprintf(now, sizeof(now), ", %s of it now", part);
    }
    if (seconds < 1)
        snprintf(time, sizeof(time), "%.1f ms", 1e3 * seconds);
    else
        snprintf(time, sizeof(time), "%.1f s", seconds);
    if (progress_rate(p) > 0) {
        rate_text(progress_rate(p), speed);
        snprintf(rate, sizeof(rate), ", %s", speed);
    }
    snprintf(ret, bytes, "%s%s in %s%s", total, now, time, rate);
}
