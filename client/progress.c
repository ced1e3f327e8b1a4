// SPDX-License-Identifier: MIT
#include "client/progress.h"

#include <stdio.h>
#include <string.h>

#define BAR_CELLS     24u
#define BAR_PAUSE_US  200000ull   // five times a second
#define LINE_PAUSE_US 10000000ull // a log of an hour stays readable

static unsigned percent(uint64_t done, uint64_t total)
{
    return total ? (unsigned)((double)done * 100 / (double)total) : 100;
}

void progress_line(uint64_t done, uint64_t total, uint64_t since, uint64_t us, char *ret,
                   size_t bytes)
{
    double rate = us ? (double)since * 1e6 / (double)us : 0;
    int n = snprintf(ret, bytes, "%u %%, %.1f of %.1f GB", percent(done, total), (double)done / 1e9,
                     (double)total / 1e9);

    if (rate <= 0 || n < 0 || (size_t)n >= bytes)
        return;
    double left = (double)(total - done) / rate;
    unsigned long seconds = left < 1e8 ? (unsigned long)(left + 0.5) : 100000000ul;
    size_t at = (size_t)n;
    n = snprintf(ret + at, bytes - at, ", %.2f GB/s, ", rate / 1e9);
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
