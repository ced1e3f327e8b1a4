// SPDX-License-Identifier: MIT
// ctl: the main thread once everything is set up: signals, readiness, watchdog, reload, the end.
#pragma once
#include "daemon/topology.h"

// Where the configuration comes from, for the start and for SIGHUP.
struct conf_source {
    const char *file;
    bool file_required; // --config was given: a missing file is an error
    char **sets;        // [sets_n] "section.key=value", in the order of the command line; allocated
    uint32_t sets_n;
};

// conf_source_read makes the configuration: defaults, file, command line, and checks it whole.
int conf_source_read(const struct conf_source *source, struct conf *ret, struct fault *fault);

// ctl_signals_block comes before anything that takes time and before any thread, which inherits it:
// what is sent from then on waits for ctl_run, instead of ending the process.  0 or -errno.
int ctl_signals_block(void);

// ctl_run starts the threads and returns when they have ended: the exit status.
// conf: ctl's own copy, changed by SIGHUP.
int ctl_run(struct topology *t, const struct conf_source *source, struct conf *conf);
