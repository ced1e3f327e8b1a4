// SPDX-License-Identifier: MIT
// fault: an error that can be told to a user: an errno value, and one sentence that names the
// file, tensor, option or field and says what to do.
//
// Functions that answer the world's mistakes (files, devices, requests) take a `struct fault *`
// as their last parameter and return 0 or -errno; the sentence is written only on failure.
// Whoever decides what happens next logs it, once.
#pragma once
#include <stddef.h>

#define FAULT_TEXT_MAX 512u // one console line; longer sentences are cut

struct fault {
    int err;                   // positive errno value, 0 while nothing went wrong
    char text[FAULT_TEXT_MAX]; // no newline at the end; valid UTF-8 if its inputs were
};

// fault_set writes the sentence and returns -err, so that `return fault_set(f, EINVAL, ...)` reads
// well.
//
// fault: may be NULL: then only the code is returned.
// err:   positive errno value.
// Bytes below 0x20 in the result are shown as '?', so a file's name cannot forge a log line.
// Thread: any; allocates nothing.
int fault_set(struct fault *fault, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// fault_prefix puts "words: " in front of the sentence that is there, for a caller that knows
// more (the file's name, the layer).  Cuts at the end if it no longer fits.
void fault_prefix(struct fault *fault, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
