// SPDX-License-Identifier: MIT
// sandbox: what the process gives up once model, devices and files are open and before requests are
// served: capabilities, in every thread, and the system calls that it has no use for any more
// (seccomp).  It is the inner wall; the unit's is the outer one, and stands from the start.
//
// A call that is not on the list is refused with EPERM, for a driver may try one that it can do
// without, and an answer that runs need not end for that.  Calls that only somebody else's code
// would make (execve, ptrace, mount, ...: sandbox.c has both lists) end the process, with last
// words and a core.  The kernel logs either.
// Owner: ctl; sandbox_keep any thread, for itself.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sandbox_filter {
    SANDBOX_DENY, // refuse
    SANDBOX_LOG,  // let through, and have the kernel log it
    SANDBOX_OFF,
    SANDBOX_FILTER_COUNT
};
extern const char *const sandbox_filter_name[SANDBOX_FILTER_COUNT];

struct sandbox_params {
    enum sandbox_filter filter;
    bool makes_code; // the driver writes code for the CPU: memory may become executable
    bool netlink;    // the kernel is asked who a client of loopback is, or has an XDP program
    bool bpf;        // an XDP program has to be taken back
};

// sandbox_keep says which capabilities (bits 1 << CAP_...) the calling thread keeps when the
// sandbox closes; without it, none.
void sandbox_keep(uint64_t capabilities);

// sandbox_enter closes the sandbox over every thread, for good.
// ret_text: for the log, what holds now.
// Returns 0; -ENOTSUP if this kernel has no seccomp, or this program was built without: then
// capabilities are given up all the same.  Errors: those of seccomp(2).
int sandbox_enter(const struct sandbox_params *params, char *ret_text, size_t text_bytes,
                  struct fault *fault);
