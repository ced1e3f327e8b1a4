// SPDX-License-Identifier: MIT
// rules: how faultfs misbehaves: which reads fail, come short, change, wait or never come.
//
// A command is a line: KIND PATTERN [KEY=NUMBER]..., or "clear", or "clear KIND".
//   eio       a read that touches the bytes fails with EIO
//   short     a read that touches the bytes brings half of what was asked, at least one byte
//   flip      the lowest bit of each of the bytes is flipped
//   delay     a read that touches the bytes takes ms longer
//   hang      a read that touches the bytes is answered after "clear hang" only
//   truncate  the file has size bytes
// PATTERN is of fnmatch(3), against the path below the mount.  Keys: from, to (bytes from..to-1 of
// the file; all of it if not said), times (how many reads; without an end if not said), ms, size.
// Rules apply in the order of their commands, all that match.
//
// Pure: no I/O, no clock.  Owner: one thread.  Source: tests/faultfs/faultfs.c mounts it.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RULES_MAX 256u

enum rule_kind {
    RULE_EIO,
    RULE_SHORT,
    RULE_FLIP,
    RULE_DELAY,
    RULE_HANG,
    RULE_TRUNCATE,
    RULE_KIND_COUNT
};
extern const char *const rule_kind_name[RULE_KIND_COUNT];

struct rule {
    enum rule_kind kind;
    char pattern[256];
    uint64_t from, to;
    uint64_t times; // reads that it still applies to
    uint64_t ms, size;
    uint64_t hits; // reads that it applied to
};

struct rules {
    struct rule rule[RULES_MAX];
    uint32_t rules_n;
};

// rules_command takes one line without its newline.  -EINVAL it is no command, -ENOSPC RULES_MAX.
int rules_command(struct rules *rules, const char *line);
// rules_size returns the size that a file of size bytes shall show.
uint64_t rules_size(const struct rules *rules, const char *path, uint64_t size);

struct rules_fate {
    int err; // -EIO: that is the answer
    bool hang;
    uint64_t delay_ms;
    size_t bytes; // that are brought
};

// rules_read decides about one read of bytes at off, which came right in buf: changes what shall
// change, and counts the rules that applied.
struct rules_fate rules_read(struct rules *rules, const char *path, uint64_t off, uint8_t *buf,
                             size_t bytes);
// rules_text writes one line a rule: kind, pattern, range, hits; as snprintf.
int rules_text(const struct rules *rules, char *buf, size_t buf_bytes);
