// SPDX-License-Identifier: MIT
// find: directories of this machine that hold a checkpoint, copies of its shards, or a pack.  Looks
// at names and sizes alone, below given places or below mounted drives and the usual folders; to a
// bounded depth and number, and follows no links but those of files.
// One thread; waits for drives.
#pragma once
#include "daemon/conf.h"

#include <limits.h>
#include <sys/types.h>

#define FIND_MAX 64u

enum find_kind {
    FIND_MODEL,  // config.json and an index, or one file
    FIND_SHARDS, // *.safetensors alone
    FIND_PACK,   // of expertctl pack
};

struct find {
    struct find_one {
        enum find_kind kind;
        char path[CONF_TEXT_MAX];
        uint64_t bytes;          // of *.safetensors or experts.*
        dev_t dev;               // of its directory
        ino_t ino;               //
        char file[NAME_MAX + 1]; // one of its *.safetensors
    } found[FIND_MAX];
    uint32_t n;
    uint32_t looked; // directories
};

// find_below looks at a directory and those in it.
void find_below(struct find *find, const char *place);
// find_usual looks below drives that are mounted and below /srv, /mnt, /media, /opt, /data, /models
// and /var/lib/expertd; not where the unit hides it, so that nobody's home offers root something.
void find_usual(struct find *find);

// find_copies says whether a directory has a file of this name and size, as a copy of a shard would
// be.
bool find_copies(const char *dir, const char *name, uint64_t bytes);
