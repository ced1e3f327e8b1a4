// SPDX-License-Identifier: MIT
// sight: what the service sees of home directories.  The unit hides /home and /root (ProtectHome=);
// a drop-in brings single directories of them back, read-only, whatever the modes of those above.
// One thread.
#pragma once
#include "base/fault.h"
#include "client/text.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define SIGHT_MAX  16u
#define SIGHT_HEAD "# Written by expertctl setup: homes stay hidden, but for these, read-only.\n"

struct sight {
    char dirs[SIGHT_MAX][PATH_MAX]; // real paths
    uint32_t n;
};

// sight_hidden returns the place among those that the unit hides in which a path lies ("/home",
// "/tmp"), or NULL.  sight_home says whether a drop-in can bring it back.
const char *sight_hidden(const char *path);
bool sight_home(const char *path);

// sight_named_well: names are shown on a terminal, and the configuration takes none with control
// characters.
bool sight_named_well(const char *path);

// sight_add adds a directory of the model or of drives: itself where a home hides it, and the
// directories through which links in it lead (the cache of Hugging Face's hub is made of such
// links).  What does not exist adds nothing.
//
// sight: zeroed before the first.
// Errors: -EPERM it would show a whole home, or lead from one home to another, or the service could
// not follow a link; -EINVAL a name that systemd does not take; -E2BIG more than SIGHT_MAX;
// -ENAMETOOLONG; -ENOMEM.
int sight_add(struct sight *sight, const char *dir, struct fault *fault);

// sight_text makes the drop-in.  -ENOMEM.
int sight_text(const struct sight *sight, struct text *ret);

// sight_is_ours says whether a file is a drop-in that sight_text made.
bool sight_is_ours(const char *path);

// sight_shows says whether the value of a BindReadOnlyPaths= or BindPaths= has this directory, or
// one above it.
bool sight_shows(const char *value, const char *dir);

// sight_enter gives this process alone the view that the drop-in makes.  It needs CAP_SYS_ADMIN.
//
// Returns 0, -errno; the process is good for nothing then.
int sight_enter(const struct sight *sight);
