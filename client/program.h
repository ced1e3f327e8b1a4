// SPDX-License-Identifier: MIT
// program: other programs that expertctl starts: expertd beside it, journalctl.
// A child has its own signals, no input, and ends with expertctl.
// One thread; waits.
#pragma once
#include "base/fault.h"
#include "client/text.h"

#include <sys/types.h>

// program_find looks for a program beside expertctl, in the build's folder ../FOLDER, and on PATH.
//
// folder: of a build, or NULL.  ret: [PATH_MAX] bytes.
// Returns 0 or -ENOENT.
int program_find(const char *name, const char *folder, char *ret);

// program_start starts argv[0] in a session of its own, so that Ctrl-C is not for it.
//
// argv: ended by NULL.  log_fd: where its outputs go; not closed here.
// Returns 0 or -errno; what exec says becomes exit status 127.
int program_start(const char *const argv[], int log_fd, pid_t *ret_pid);

// program_end asks it to end, by SIGTERM, waits ten seconds, and then makes it.
void program_end(pid_t pid);

// program_run runs argv to its end and collects both outputs, at most max bytes; what is more is
// lost.
//
// stop_fd: ends the program once it is readable; -1: nothing does.
// ret_status: exit status, 128 and the signal if it was killed.
// Errors: -ENOENT no such program, -ECANCELED stopped, -errno.
int program_run(const char *const argv[], int stop_fd, size_t max, struct text *ret,
                int *ret_status);

// What expertd --check-config says where it would need a credential (daemon/net_conf.c).
#define PROGRAM_NO_CREDENTIALS "systemd passed no credentials"

// program_sentence cuts what expertd said to its first line, without its own name in front.
const char *program_sentence(struct text *said);
