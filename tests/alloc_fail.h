// SPDX-License-Identifier: MIT
// alloc_fail: memory that runs out, for tests that are linked with alloc_fail_dep: the linker sends
// malloc, calloc, realloc, aligned_alloc, strdup and free of the test and of our own libraries
// here; those of shared libraries (libc, drivers) do not come.
// Thread: any; which allocation is the n-th is only certain if one thread allocates.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>

// For libraries that take such functions (jansson), so that their allocations fail too.
void *alloc_fail_malloc(size_t bytes);
void alloc_fail_free(void *memory);

// alloc_fail_hit is for other allocations that a test has sent to itself (mmap): shall this fail?
bool alloc_fail_hit(void);

// alloc_fail_pause: until it is called with false, no allocation fails, nor counts as the n-th.
void alloc_fail_pause(bool pause);

struct alloc_fail_job {
    // run does it all once, and frees all: 0, or -errno with a sentence.
    int (*run)(void *user, struct fault *fault);
    void *user;
    bool once;     // the n-th allocation fails alone; else all after it too
    bool optional; // it may do without some: 0 though an allocation failed
    bool json;     // jansson calls some of its own failures syntax errors: -EBADMSG is an answer
};

// alloc_fail_each runs a job while the n-th allocation fails, for n = 1, 2, ... until none does,
// and ends the test unless each run answers -ENOMEM with a sentence, the last one 0, and all of
// them free what they took.  Returns how many allocations there are.
unsigned alloc_fail_each(const struct alloc_fail_job *job);
