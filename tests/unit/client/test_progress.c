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
    line_is(gb, 656 * gb, gb, 10000000, "0 %, 1.0 of 656.0 GB, 0.10 GB/s, 1:49:10 left");
    line_is(10 * gb, 10 * gb, 10 * gb, 1, "100 %, 10.0 of 10.0 GB, 10000000.00 GB/s, 0:00 left");
    line_is(0, 0, 0, 5, "100 %, 0.0 of 0.0 GB");
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

int main(void)
{
    test_line();
    test_rate();
    return 0;
}
