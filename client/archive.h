// SPDX-License-Identifier: MIT
// archive: a tar file (ustar), compressed by gzip, of texts that are in memory.
// One thread.
#pragma once
#include "base/fault.h"

#include <stddef.h>
#include <stdint.h>

#define ARCHIVE_NAME_MAX 100u // bytes of a name with its NUL, the folder in front included

struct archive; // opaque

// archive_create makes a file that only its owner can read; what is there already is not touched.
//
// folder: in front of every name; kept.  time: of every file, seconds since 1970.
// Errors: -EEXIST, -errno, with the path.
int archive_create(const char *path, const char *folder, int64_t time, struct archive **ret,
                   struct fault *fault);

// archive_add writes a file.  bytes: [n].  Errors: -errno of the drive, -ENAMETOOLONG.
int archive_add(struct archive *archive, const char *name, const void *bytes, size_t n,
                struct fault *fault);

// archive_finish ends the file and makes it last.  Errors: -errno.
int archive_finish(struct archive *archive, struct fault *fault);

// archive_close frees; a file that was not finished goes.  Accepts NULL.
void archive_close(struct archive **archive);
