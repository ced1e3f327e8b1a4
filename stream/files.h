// SPDX-License-Identifier: MIT
// files: which files hold the bytes that slots want, on which drives: the checkpoint's shards and
// their copies, or a pack's parts and theirs.
// Owner: the step thread; read-only after stream_files_add.
#pragma once
#include "io/disk/reader.h"
#include "model/slots.h"

struct stream_params; // stream/stream.h
struct stream_files;  // opaque

// stream_files_open finds the copies that params name.  A directory of shards need not have all; a
// copy of another size than the original is refused.
// Errors: -ENOENT a directory without any of the files, -EINVAL, -ENOMEM; as pack_open.
int stream_files_open(const struct slots *slots, const struct checkpoint *ck,
                      const struct stream_params *params, struct stream_files **ret,
                      struct fault *fault);
void stream_files_close(struct stream_files **files);

// stream_files_add tells the reader its drives and files.
int stream_files_add(struct stream_files *files, struct disk_reader *reader, struct fault *fault);

// stream_files_copies writes the reader's numbers of the files that hold what `file` of a
// slot_range holds.  Returns how many.
uint32_t stream_files_copies(const struct stream_files *files, uint32_t file,
                             uint32_t ret[DISK_COPIES_MAX]);
