// SPDX-License-Identifier: MIT
// last_words: one line on the standard error when the process dies of SIGSEGV, SIGBUS, SIGABRT,
// SIGILL, SIGFPE or SIGSYS: version, signal, thread, address, and where the code was, for
// addr2line(1); then the kernel does what it would have done, a core included.
#pragma once
#include <stdbool.h>

// last_words_open, once, before there are threads.  Signals that somebody else handles (a
// sanitizer) are left to him.
// program: as "expertd 1.2.3".  It outlives the process.
// journal: the standard error is systemd's journal.
void last_words_open(const char *program, bool journal);

// last_words_thread gives the calling thread a stack for it, so that one whose own is used up has
// last words too.  The thread calls it once, early; eight of them can.
void last_words_thread(void);
