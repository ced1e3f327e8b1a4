// SPDX-License-Identifier: MIT
// key_file: changes to the file of keys (api/keys.h), one line at a time; what people wrote around
// it stays.
//
// A change is whole or not at all: a new file is written beside the old one, synced and renamed.
// Changes at the same time wait for each other by a lock on the directory.  The new file has owner
// and group of the old one and at most mode 0640.  The first file is made with group expertd, if
// there is one and we are root, so that the daemon can read it.
// One thread; waits for drives and locks.
#pragma once
#include "api/keys.h"
#include "base/fault.h"

// key_file_add puts a key at the end of the file, which need not be there, its directory must.
//
// key: name, hash, created, rate, concurrency, disabled.
// Errors: -EEXIST: a key of that name is there; those of keys_load; -errno of the file system.
int key_file_add(const char *path, const struct key *key, struct fault *fault);

// key_file_remove takes the line of a key away.
// Errors: -ESRCH: there is no such key; else as key_file_add.
int key_file_remove(const char *path, const char *name, struct fault *fault);
