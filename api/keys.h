// SPDX-License-Identifier: MIT
// keys: who may use the port: /etc/expertd/keys, one key a line, read whole.
//
//     NAME HASH CREATED [rate=N/min] [concurrency=N] [disabled]
//
// HASH is the SHA-256 of the key in hex; the key itself stands nowhere.  A key has 256 bits of the
// kernel's random numbers, so one round of hashing is enough: there is nothing to guess.  CREATED
// is YYYY-MM-DD.  N = 0 lifts a limit.  Words are separated by blanks; one that begins with '#'
// begins a comment.  expertctl key writes the file (client/key_file.h), people may edit it.
//
// Objects are immutable.  The daemon reads the file on SIGHUP into a new one and puts it in place
// with keys_store_put; what was there before stays valid until keys_store_fini, so front threads
// look at it, and requests point to their struct key, without counting references.
#pragma once
#include "api/error.h"
#include "api/http.h"
#include "base/fault.h"
#include "config.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEYS_PATH            EXPERTD_SYSCONFDIR "/expertd/keys"
#define KEYS_MAX             1024u        // keys in a file: 63 us to look at them all, 3 us at 32
#define KEYS_FILE_BYTES_MAX  (512u << 10) // of a file; the longest lines of KEYS_MAX keys fit
#define KEYS_NAME_MAX        64u          // bytes of a name with its NUL: letters, digits, . _ - @
#define KEYS_TEXT_MAX        48u          // bytes of a made key with its NUL: "sk-", 44 of base62
#define KEYS_TEXT_LONGEST    512u         // bytes of a key that is not even looked for
#define KEYS_HASH_BYTES      32u          // SHA-256
#define KEYS_DATE_MAX        11u          // "2026-11-23" with its NUL
#define KEYS_RATE_MAX        1000000u     // requests a minute
#define KEYS_CONCURRENCY_MAX 65536u
#define KEYS_DEFAULT         UINT32_MAX // rate, concurrency: the daemon's default

struct key {
    char name[KEYS_NAME_MAX];
    uint8_t hash[KEYS_HASH_BYTES];
    char created[KEYS_DATE_MAX];
    bool disabled;
    uint32_t rate;        // requests a minute, 0: no limit, or KEYS_DEFAULT
    uint32_t concurrency; // requests at once, 0: no limit, or KEYS_DEFAULT
    uint32_t line;        // of the file, from 1
    uint32_t slot;        // 0..KEYS_MAX-1, where daemon/rate.h counts; see keys_load
};

struct keys; // immutable once made

// keys_parse reads the text of a keys file.
//
// name: of the file, for sentences ("NAME:LINE: ...").  text: [n] bytes, need not be UTF-8.
// Errors: -EINVAL: a line that is none, an unknown word, a value out of range, a name or a hash
// that is there twice, more than KEYS_MAX keys, a control character; -ENOMEM.  The first in the
// file is told; no word of it stands in the sentence but well-formed names of keys.
int keys_parse(const char *name, const char *text, size_t n, struct keys **ret,
               struct fault *fault);

// keys_load reads a file.
//
// before: the keys that were there until now, or NULL: a key of the same name keeps its slot, so
// what rate.h counts goes on; others take slots that nobody had, as long as there are some.
// Errors: those of keys_parse; -ENOENT; -EPERM: others can write it; -EFBIG; -errno of open, read.
int keys_load(const char *path, const struct keys *before, struct keys **ret, struct fault *fault);

// keys_destroy takes **keys, NULL is fine.  Not for what a keys_store owns.
void keys_destroy(struct keys **keys);

uint32_t keys_n(const struct keys *keys);
uint32_t keys_usable(const struct keys *keys); // those of them that are not disabled

// keys_at returns the i-th key in the order of the file; i < keys_n.
const struct key *keys_at(const struct keys *keys, uint32_t i);

// keys_warning returns a sentence about the file that does not hinder (others can read it), or "".
const char *keys_warning(const struct keys *keys);

// keys_find looks for a key.  The time it takes depends on n and on how many keys there are, not
// on which of them it is, nor on how much of it is right: every hash is compared to its end.
//
// text: [n] bytes as the client sent them.
// Returns its place for keys_at, or -ENOENT (also where there is no memory to hash it).  A disabled
// key is found.
int keys_find(const struct keys *keys, const char *text, size_t n);

// keys_judge looks for the key of a request whose head is complete, and says what is wrong with it.
//
// Returns 0 and *ret, which lives as long as keys; -EACCES with 401 for a request without a key,
// with an unknown one, or with one that is disabled.  The key never stands in the sentence.
int keys_judge(const struct keys *keys, const struct http_request *req, const struct key **ret,
               struct api_error *err);

// keys_hash writes the SHA-256 of a key: ret [KEYS_HASH_BYTES].  Errors: -ENOMEM.
int keys_hash(const char *text, size_t n, uint8_t *ret);

// keys_make draws a key from getrandom: ret [KEYS_TEXT_MAX], NUL-terminated, to be wiped
// (explicit_bzero) when it was used.  Errors: -errno of getrandom.
int keys_make(char *ret);

// keys_name_valid says whether a name can stand in the file: 1 to KEYS_NAME_MAX - 1 letters,
// digits,
// '.', '_', '-' or '@', the first of them a letter or a digit.
bool keys_name_valid(const char *name);

// keys_store is where the keys in force are.  All zero: none.
// Owner: ctl puts; any thread looks.
struct keys_store {
    _Atomic(const struct keys *) now;
    struct keys *all; // every object that was ever put, the newest first; ctl's
};

// keys_store_put puts keys in place and takes ownership.  What they replace is kept until
// keys_store_fini: reloads are rare and a file is small.  Keys that say the same as those in force
// are destroyed instead, so a reload for another reason costs nothing; look at keys_warning before.
// Returns whether they differ.  Thread: ctl.
bool keys_store_put(struct keys_store *store, struct keys *keys);

// keys_store_now returns the keys in force, valid until keys_store_fini; NULL: none were ever put.
// Thread: any.
const struct keys *keys_store_now(const struct keys_store *store);

// keys_store_fini destroys them all.  Once no other thread looks.
void keys_store_fini(struct keys_store *store);
