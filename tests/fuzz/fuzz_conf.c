// SPDX-License-Identifier: MIT
// conf: any bytes as a configuration file: read or refused with a line, never a crash; what was
// read is within the ranges of the table.
#include "daemon/conf.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf conf;
    struct fault fault = {0};
    conf_defaults(&conf);
    int err = conf_parse(&conf, "fuzz", (const char *)data, size, &fault);
    if (err != 0 && (fault.text[0] == '\0' || !strstr(fault.text, "fuzz:")))
        abort();
    for (uint32_t i = 0; i < conf_opts_n; i++) {
        const struct conf_opt *opt = &conf_opts[i];
        uint32_t small = 0;
        uint64_t large = 0;
        bool is_small = opt->type == CONF_U32 || opt->type == CONF_MODE || opt->type == CONF_WORD;
        bool is_large = opt->type == CONF_BYTES || opt->type == CONF_TIME;
        if (is_small)
            memcpy(&small, (const char *)&conf + opt->offset, sizeof(small));
        if (is_large)
            memcpy(&large, (const char *)&conf + opt->offset, sizeof(large));
        if ((is_small && (small < opt->min || small > opt->max)) ||
            (is_large && (large < opt->min || large > opt->max)))
            abort();
    }
    return 0;
}
