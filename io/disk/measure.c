// SPDX-License-Identifier: MIT
#include "io/disk/state.h"

#include <errno.h>

int disk_reader_probe(struct disk_reader *r, struct fault *fault)
{
    if (r->drives_n == 0 || r->files_n == 0)
        return fault_set(fault, EINVAL, "no drive, or no file to measure");
    if (r->params.queue_depth == 0)
        r->params.queue_depth = DEPTH_DEFAULT;
    if (r->params.read_size == 0)
        r->params.read_size = SIZE_DEFAULT;
    return 0;
}
