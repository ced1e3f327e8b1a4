// SPDX-License-Identifier: MIT
// progress: how far a long command is, on the standard error: on a terminal one line with a bar
// that is rewritten, else a line every ten seconds.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
    const char *verb; // "pack"
    bool silent;      // nothing is shown
    bool bar;         // a terminal
    bool shown;       // the bar's line stands on the screen
    bool started;
    uint64_t first_us, first_done; // when and where it began
    uint64_t told_us;
    uint64_t done, total, now_us; // as told last
};

// progress_line writes "45 %, 12.3 of 27.3 GB, 1.92 GB/s, 0:08 left", in MB, KB or bytes where
// there is less; the rate and what is left only when us is not 0 and something was done.
//
// since: bytes done in the us microseconds, without what was there before.
void progress_line(uint64_t done, uint64_t total, uint64_t since, uint64_t us, char *ret,
                   size_t bytes);

// progress_tell takes bytes done and in all, and shows them if it is time to.
void progress_tell(struct progress *progress, uint64_t done, uint64_t total, uint64_t now_us);

// progress_end ends the bar's line.
void progress_end(struct progress *progress);

// progress_report writes "27.3 GB in 14.2 s, 1.92 GB/s", or "52.1 KB in 3.1 ms, 16.8 MB/s"; if a
// part was there already, "27.3 GB, 2.7 GB of it now in 1.4 s, 1.92 GB/s".
void progress_report(const struct progress *progress, char *ret, size_t bytes);

// progress_rate returns bytes a second so far, and progress_seconds for how long.
double progress_rate(const struct progress *progress);
double progress_seconds(const struct progress *progress);
