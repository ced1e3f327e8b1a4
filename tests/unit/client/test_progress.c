// SPDX-License-Identifier: MIT
#include "client/progress.h"
#include "tests/check.h"

#include <string.h>

static void line_is(uint64_t done, uint64_t total, uint64_t since, uint64_t us, const char *want)
{
    char line[96];
    progress_line(done, total, since, us, line, sizeof(line));
    if (strcmp(line, want) != 0)
        fprintf(stderr, "%s\n", line);
    CHECK(strcmp(line, want) == 0);
}

static void test_line(void)
{
    const uint64_t gb = 1000000000;
    line_is(0, 10 * gb, 0, 0, "0 %, 0.0 of 10.0 GB");
    line_is(5 * gb, 10 * gb, 5 * gb, 2500000, "50 %, 5.0 of 10.0 GB, 2.00 GB/s, 0:03 left");
    // What was there before does not make it faster.
    line_is(9 * gb, 10 * gb, gb, 1000000, "90 %, 9.0 of 10.0 GB, 1.00 GB/s, 0:01 left");
    line_is(gb, 656 * gb, gb, 10000000, "0 %, 1.0 of 656.0 GB, 100.0 MB/s, 1:49:10 left");
    line_is(10 * gb, 10 * gb, 10 * gb, 1, "100 %, 10.0 of 10.0 GB, 10000000.00 GB/s, 0:00 left");
    line_is(0, 0, 0, 5, "100 %, 0 of 0 bytes");
    // What is small does not read as nothing.
    line_is(53248, 638976, 53248, 1000000, "8 %, 53.2 of 639.0 KB, 53.2 KB/s, 0:11 left");
    line_is(2500000, 5000000, 2500000, 2500, "50 %, 2.5 of 5.0 MB, 1.00 GB/s, 0:00 left");
    line_is(1, 999, 1, 1000000, "0 %, 1 of 999 bytes, 1 bytes/s, 16:38 left");
    char small[12];
    progress_line(gb, 2 * gb, gb, 1, small, sizeof(small)); // cut, not written beyond
    CHECK(strcmp(small, "50 %, 1.0 o") == 0);
}

// Rates are of this run: what was there at its start does not count.
static void test_rate(void)
{
    struct progress p = {.verb = "pack", .silent = true};
    progress_tell(&p, 600, 1000, 5000000);
    CHECK(progress_rate(&p) == 0 && progress_seconds(&p) == 0);
    progress_tell(&p, 1000, 1000, 7000000);
    CHECK(progress_rate(&p) == 200 && progress_seconds(&p) == 2);
    progress_end(&p);
}

static void report_is(uint64_t before, uint64_t total, uint64_t us, const char *want)
{
    struct progress p = {.verb = "pack", .silent = true};
    char text[96];
    progress_tell(&p, before, total, 1000);
    progress_tell(&p, total, total, 1000 + us);
    progress_report(&p, text, sizeof(text));
    if (strcmp(text, want) != 0)
        fprintf(stderr, "%s\n", text);
    CHECK(strcmp(text, want) == 0);
}

static void test_report(void)
{
    report_is(0, 27300000000, 14200000, "27.3 GB in 14.2 s, 1.92 GB/s");
    report_is(0, 52100, 3100, "52.1 KB in 3.1 ms, 16.8 MB/s");
    report_is(0, 999, 0, "999 bytes in 0.0 ms"); // between two ticks: no rate
    report_is(24000000000, 27000000000, 1500000, "27.0 GB, 3.0 GB of it now in 1.5 s, 2.00 GB/s");
    report_is(27000000000, 27000000000, 1500000, "27.0 GB, 0 bytes of it now in 1.5 s");
}

int main(void)
{
    test_line();
    test_rate();
    test_report();
    return 0;
}
