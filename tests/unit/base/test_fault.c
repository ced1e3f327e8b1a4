// SPDX-License-Identifier: MIT
// fault: sentences are kept, cut and cleaned.
#include "base/fault.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>

int main(void)
{
    struct fault fault = {0};
    CHECK(fault_set(&fault, EINVAL, "%s: line %d\nforged", "a\tb", 3) == -EINVAL);
    CHECK(fault.err == EINVAL);
    CHECK(strcmp(fault.text, "a?b: line 3?forged") == 0);
    fault_prefix(&fault, "%s", "dir");
    CHECK(strcmp(fault.text, "dir: a?b: line 3?forged") == 0);

    char longer[2 * FAULT_TEXT_MAX];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    CHECK(fault_set(&fault, EIO, "%s", longer) == -EIO);
    CHECK(strlen(fault.text) == FAULT_TEXT_MAX - 1);
    fault_prefix(&fault, "%s", "front");
    CHECK(strlen(fault.text) == FAULT_TEXT_MAX - 1);
    CHECK(strncmp(fault.text, "front: xxx", 10) == 0);

    CHECK(fault_set(NULL, ENOENT, "nobody listens") == -ENOENT);
    fault_prefix(NULL, "nobody");
    return 0;
}
