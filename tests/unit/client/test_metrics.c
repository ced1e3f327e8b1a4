// SPDX-License-Identifier: MIT
#include "client/metrics.h"
#include "tests/check.h"

#include <math.h>
#include <string.h>

static const char text[] = "# HELP expertd_x what\n"
                           "# TYPE expertd_x counter\n"
                           "expertd_x 3\n"
                           "expertd_y{route=\"chat\",status=\"200\"} 4.5\n"
                           "expertd_y{route=\"a}b\\\"c\"} 1e3 1700000000000\n"
                           "\n"
                           "broken\n"
                           "expertd_z{open=\"x\n"
                           "  indented 3\n"
                           "expertd_z +Inf\n"
                           "expertd_xx 100\n"
                           "expertd_last 7";

int main(void)
{
    const char *at = text, *name, *labels;
    size_t name_len, labels_len;
    double value;
    int n = 0;

    while (metrics_next(&at, &name, &name_len, &labels, &labels_len, &value)) {
        n++;
        if (n == 3) {
            CHECK(labels_len == strlen("route=\"a}b\\\"c\""));
            CHECK(memcmp(labels, "route=\"a}b\\\"c\"", labels_len) == 0);
            CHECK(value == 1000);
        }
    }
    CHECK(n == 6);
    CHECK(metrics_sum(text, "expertd_x", NULL) == 3);
    CHECK(metrics_sum(text, "expertd_y", NULL) == 1004.5);
    CHECK(metrics_sum(text, "expertd_y", "route=\"chat\",status=\"200\"") == 4.5);
    CHECK(isnan(metrics_sum(text, "expertd_y", "route=\"chat\"")));
    CHECK(isnan(metrics_sum(text, "expertd_x", "route=\"chat\"")));
    CHECK(isinf(metrics_sum(text, "expertd_z", NULL)));
    CHECK(metrics_sum(text, "expertd_last", NULL) == 7);
    CHECK(isnan(metrics_sum(text, "expertd", NULL)));
    CHECK(isnan(metrics_sum("", "expertd_x", NULL)));
    return 0;
}
