// SPDX-License-Identifier: MIT
// metrics: every row of both lists comes out once, rows of one name together; names of drives are
// escaped, and without drives there are no rows of theirs.
#include "daemon/metrics.h"
#include "tests/check.h"

#include <string.h>

static struct metrics_page page; // zeroed: too large for the stack of some

static char *page_text(void)
{
    struct buf out;
    buf_init(&out, 1u << 20);
    metrics_page_write(&out, &page);
    CHECK(buf_error(&out) == 0);
    char *text = calloc(1, out.n + 1);
    CHECK(text);
    memcpy(text, out.data, out.n);
    buf_free(&out);
    return text;
}

static uint32_t count(const char *text, const char *what)
{
    uint32_t n = 0;
    for (const char *at = text; (at = strstr(at, what)); at++)
        n++;
    return n;
}

// Prometheus refuses a page that declares a name twice.
static void check_declared_once(const char *text)
{
    for (const char *at = text; (at = strstr(at, "# TYPE ")); at++) {
        char line[200];
        snprintf(line, sizeof(line), "%.*s ", (int)strcspn(at + 7, " ") + 7, at);
        CHECK(count(text, line) == 1);
    }
}

static void test_plain(void)
{
    metrics_add(&page, METRIC_ID_EXPERT_HIT, 3);
    metrics_set(&page, METRIC_ID_EXPERT_STALL_LAST_US, 12);
    char *text = page_text();
    check_declared_once(text);
    CHECK(strstr(text, "\nexpertd_expert_hit 3\n"));
    CHECK(strstr(text, "\nexpertd_expert_stall_us{cause=\"last\"} 12\n"));
    CHECK(strstr(text, "\nexpertd_expert_stall_us{cause=\"slots\"} 0\n"));
    CHECK(!strstr(text, "expertd_drive_"));
    free(text);
}

static void test_drives(void)
{
    char longest[DRIVE_NAME_MAX];
    memset(longest, '"', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    metrics_drives_set(&page, (const char *const[]){"/mnt/a", "b\\\"\n", longest}, 3);
    CHECK(metrics_drives_n(&page) == 3);
    metrics_drive_set(&page, 1, DRIVE_METRIC_ID_BYTES, 7000000000);
    metrics_drive_set(&page, 2, DRIVE_METRIC_ID_FAILING, 1);
    char *text = page_text();
    check_declared_once(text);
    CHECK(strstr(text, "\nexpertd_drive_bytes{drive=\"/mnt/a\"} 0\n"
                       "expertd_drive_bytes{drive=\"b\\\\\\\"\\n\"} 7000000000\n"
                       "expertd_drive_bytes{drive=\"\\\"\\\""));
    CHECK(count(text, "\nexpertd_drive_failing{drive=") == 3);
    CHECK(count(text, "\"} 1\n") == 1);
    CHECK(count(text, "\nexpertd_drive_") == 3 * DRIVE_METRIC_ID_COUNT);
    free(text);

    static const char *const many[DISK_DRIVES_MAX] = {"a", "b", "c", "d", "e", "f", "g", "h",
                                                      "i", "j", "k", "l", "m", "n", "o", "p"};
    metrics_drives_set(&page, many, DISK_DRIVES_MAX);
    text = page_text();
    check_declared_once(text);
    CHECK(count(text, "\nexpertd_drive_") == DISK_DRIVES_MAX * DRIVE_METRIC_ID_COUNT);
    CHECK(strstr(text, "expertd_drive_share_percent{drive=\"p\"} 0\n"));
    free(text);
}

int main(void)
{
    test_plain();
    test_drives();
    return 0;
}
