// SPDX-License-Identifier: MIT
// hashes_journal: hashes of a list that is being made, on the drive as they come, so that whoever
// was stopped goes on.  LIST.partial has a head of 64 bytes that says of which files it is (the
// checkpoint's identity, and size and time of every shard), then 32 bytes an expert in rising
// number: its hash, and the XXH3-128 of the head, the number and the hash.
//
// Owner: one thread; one process at a time.
#pragma once
#include "model/hashes.h"

struct hashes_journal; // opaque

// hashes_journal_open puts into h what an earlier journal of the same files beside `path` has, up
// to the first entry that is not whole, or begins anew.
//
// path:     of the list; the directories above are made.
// ret_done: experts 0..ret_done-1 are known now.
// Errors: -EBUSY another process is at it; -errno naming the file; -ENOMEM.
int hashes_journal_open(const struct checkpoint *ck, struct hashes *h, const char *path,
                        struct hashes_journal **ret, uint32_t *ret_done, struct fault *fault);

// hashes_journal_add notes the hash of the next expert; hashes_journal_sync makes what was added
// last.  Errors: -errno, naming the file.
int hashes_journal_add(struct hashes_journal *j, const uint8_t hash[16], struct fault *fault);
int hashes_journal_sync(struct hashes_journal *j, struct fault *fault);

// hashes_journal_close closes; the file stays unless it is empty or `finished`: the list is saved.
// Accepts NULL.
void hashes_journal_close(struct hashes_journal **j, bool finished);
