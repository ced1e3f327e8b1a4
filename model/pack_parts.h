// SPDX-License-Identifier: MIT
// pack_parts: files of a pack that lie on other drives, DRIVE/experts.N.ID.  ID is drawn when a
// pack is begun, so no pack ever names another's part; which parts are whose is said by the links
// DIR/experts.N alone, which are there before the first part is and until the last is gone.
// While it grows a part is called DRIVE/experts.N.ID.partial.
//
// Owner: one thread.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stdint.h>

#define PACK_PARTIAL ".partial"

// pack_parts_name draws an id and writes the paths of n parts.
//
// drives:    [n] absolute directories.
// ret_paths: [n], to be freed.
// Errors: -ENAMETOOLONG, -ENOMEM, -errno of getrandom; then nothing is to be freed.
int pack_parts_name(char *const *drives, uint32_t n, char **ret_paths, struct fault *fault);

// pack_parts_find reads the paths from the links in dir.  False: they are not all there, or not the
// parts of one pack on just these drives, or memory is short.
bool pack_parts_find(const char *dir, char *const *drives, uint32_t n, char **ret_paths);

// pack_parts_link makes the links in dir.
// Errors: -errno, naming the link.
int pack_parts_link(const char *dir, char *const *paths, uint32_t n, struct fault *fault);

// pack_parts_remove removes the parts that the links in dir lead to, finished and growing ones, and
// leaves the links.  What has not the name of a part stays; a drive that is gone is no error.
// Errors: -errno, naming the part.
int pack_parts_remove(const char *dir, struct fault *fault);
