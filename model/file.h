// SPDX-License-Identifier: MIT
// file: opening and reading the regular files of a checkpoint.  A FIFO or a device in a model
// directory is an error and never blocks.
#pragma once
#include "base/fault.h"

#include <stddef.h>
#include <stdint.h>

// file_label returns what of a path belongs into a sentence: all of it, or "..." is dropped and
// the last 200 bytes stay, so that the reason behind it is not cut off.
const char *file_label(const char *path);

// file_open opens a regular file (symlinks are followed: hub caches consist of them) for reading.
//
// Errors: -errno of open and fstat, -EINVAL not a regular file; the sentence names it.
int file_open(const char *path, int *ret_fd, uint64_t *ret_bytes, struct fault *fault);

// file_read_at fills dst from offset off; a file that ends before is an error.
//
// path: for the sentence only.
// Errors: -errno of pread; -EBADMSG the file ends before.  Thread: any.
int file_read_at(int fd, const char *path, uint64_t off, void *dst, size_t bytes,
                 struct fault *fault);

// file_dirs_check makes sure that directories are there and that no two of them are the same one:
// by device and inode, so links count.
//
// dirs: [n].
// Errors: -ENOENT, -ENOTDIR, -errno of stat; -EINVAL one is named twice; the sentence names it.
int file_dirs_check(const char *const *dirs, uint32_t n, struct fault *fault);
