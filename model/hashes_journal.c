// SPDX-License-Identifier: MIT
#include "model/hashes_journal.h"

#include "model/checksum.h"
#include "model/file.h"
#include "model/identity.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES_MAX 4096
#define MAGIC          "hashing\n"
#define VERSION        1u

struct head {
    char magic[8];
    uint8_t version[4], zeros[4];
    uint8_t id[CHECKSUM_BYTES];     // the checkpoint's
    uint8_t shards[CHECKSUM_BYTES]; // of sizes and times
    uint8_t sum[CHECKSUM_BYTES];    // of all before
};
_Static_assert(sizeof(struct head) == 64, "as the file has it");

struct entry {
    uint8_t hash[CHECKSUM_BYTES];
    uint8_t sum[CHECKSUM_BYTES];
};
_Static_assert(sizeof(struct entry) == 32, "as the file has it");

struct hashes_journal {
    int fd;
    uint32_t n, done;
    struct head head;
    char path[PATH_BYTES_MAX];
};

static int failed(const struct hashes_journal *j, const char *what, int err, struct fault *fault)
{
    return fault_set(fault, err, "%s: %s: %s", file_label(j->path), what, strerror(err));
}

/* ------------------------------------------------------------------- head */

static void put_u64(uint8_t ret[8], uint64_t n)
{
    for (unsigned i = 0; i < 8; i++)
        ret[i] = (uint8_t)(n >> 8 * i);
}

// shards_sum tells files that were written to or replaced since: their content is not looked at.
static int shards_sum(const struct checkpoint *ck, uint8_t ret[CHECKSUM_BYTES], struct fault *fault)
{
    struct checksum sum;

    checksum_init(&sum);
    for (uint32_t i = 0; i < checkpoint_file_count(ck); i++) {
        const char *path = safetensors_path(checkpoint_file(ck, i));
        uint8_t bytes[24];
        struct stat st;
        if (stat(path, &st) < 0)
            return fault_set(fault, errno, "%s: %s", file_label(path), strerror(errno));
        put_u64(bytes, (uint64_t)st.st_size);
        put_u64(bytes + 8, (uint64_t)st.st_mtim.tv_sec);
        put_u64(bytes + 16, (uint64_t)st.st_mtim.tv_nsec);
        checksum_add(&sum, bytes, sizeof(bytes));
    }
    checksum_end(&sum, ret);
    return 0;
}

static int head_make(const struct checkpoint *ck, struct head *ret, struct fault *fault)
{
    struct identity identity = {0};
    struct head head = {.version = {VERSION}};

    memcpy(head.magic, MAGIC, sizeof(head.magic));
    int err = identity_make(ck, &identity, fault);
    if (err < 0)
        return err;
    memcpy(head.id, identity.id, sizeof(head.id));
    identity_fini(&identity);
    err = shards_sum(ck, head.shards, fault);
    if (err < 0)
        return err;
    checksum_of(&head, offsetof(struct head, sum), head.sum);
    *ret = head;
    return 0;
}

/* ---------------------------------------------------------------- entries */

// entry_sum binds an entry to its place in this journal: what an earlier one left behind it, or a
// crash that lost a block, does not fit.
static void entry_sum(const struct hashes_journal *j, uint32_t index, const uint8_t hash[16],
                      uint8_t ret[CHECKSUM_BYTES])
{
    struct checksum sum;
    uint8_t number[8];

    put_u64(number, index);
    checksum_init(&sum);
    checksum_add(&sum, j->head.sum, sizeof(j->head.sum));
    checksum_add(&sum, number, sizeof(number));
    checksum_add(&sum, hash, CHECKSUM_BYTES);
    checksum_end(&sum, ret);
}

static off_t entry_off(uint32_t index)
{
    return (off_t)(sizeof(struct head) + index * sizeof(struct entry));
}

static bool entry_read(const struct hashes_journal *j, uint32_t index, struct entry *ret)
{
    uint8_t sum[CHECKSUM_BYTES];

    if (pread(j->fd, ret, sizeof(*ret), entry_off(index)) != (ssize_t)sizeof(*ret))
        return false;
    entry_sum(j, index, ret->hash, sum);
    return memcmp(sum, ret->sum, sizeof(sum)) == 0;
}

static int put(struct hashes_journal *j, const void *bytes, size_t n, off_t off,
               struct fault *fault)
{
    for (size_t at = 0; at < n;) {
        ssize_t wrote = pwrite(j->fd, (const char *)bytes + at, n - at, off + (off_t)at);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return failed(j, "cannot be written", wrote < 0 ? errno : EIO, fault);
        at += (size_t)wrote;
    }
    return 0;
}

int hashes_journal_add(struct hashes_journal *j, const uint8_t hash[16], struct fault *fault)
{
    struct entry entry;

    assert(j->done < j->n);
    memcpy(entry.hash, hash, sizeof(entry.hash));
    entry_sum(j, j->done, hash, entry.sum);
    int err = put(j, &entry, sizeof(entry), entry_off(j->done), fault);
    if (err < 0)
        return err;
    j->done++;
    return 0;
}

int hashes_journal_sync(struct hashes_journal *j, struct fault *fault)
{
    return fdatasync(j->fd) < 0 ? failed(j, "cannot be written", errno, fault) : 0;
}

/* ------------------------------------------------------------------- whole */

// journal_read takes up what is there, or begins.
static int journal_read(struct hashes_journal *j, struct hashes *h, struct fault *fault)
{
    struct head head;
    struct entry entry;

    if (pread(j->fd, &head, sizeof(head), 0) == (ssize_t)sizeof(head) &&
        memcmp(&head, &j->head, sizeof(head)) == 0) {
        for (; j->done < j->n && entry_read(j, j->done, &entry); j->done++)
            hashes_set(h, j->done, entry.hash);
        return 0;
    }
    if (ftruncate(j->fd, 0) < 0)
        return failed(j, "cannot be emptied", errno, fault);
    return put(j, &j->head, sizeof(j->head), 0, fault);
}

static int journal_lock(struct hashes_journal *j, struct fault *fault)
{
    int err = hashes_dirs_make(j->path, fault);
    if (err < 0)
        return err;
    j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (j->fd < 0)
        return failed(j, "cannot be made", errno, fault);
    if (flock(j->fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    err = errno == EWOULDBLOCK
              ? fault_set(fault, EBUSY, "%s: another expertctl is making this list",
                          file_label(j->path))
              : failed(j, "cannot be locked", errno, fault);
    close(j->fd); // what is there is not ours
    j->fd = -1;
    return err;
}

int hashes_journal_open(const struct checkpoint *ck, struct hashes *h, const char *path,
                        struct hashes_journal **ret, uint32_t *ret_done, struct fault *fault)
{
    struct hashes_journal *j = calloc(1, sizeof(*j));
    if (!j)
        return fault_set(fault, ENOMEM, "no memory for the list of hashes");
    j->fd = -1;
    j->n = hashes_n(h);
    int err = 0;
    if (snprintf(j->path, sizeof(j->path), "%s.partial", path) >= (int)sizeof(j->path))
        err = fault_set(fault, ENAMETOOLONG, "%s: the path is too long", file_label(path));
    if (err == 0)
        err = head_make(ck, &j->head, fault);
    if (err == 0)
        err = journal_lock(j, fault);
    if (err == 0)
        err = journal_read(j, h, fault);
    if (err < 0) {
        hashes_journal_close(&j, false);
        return err;
    }
    *ret = j;
    *ret_done = j->done;
    return 0;
}

void hashes_journal_close(struct hashes_journal **journal, bool finished)
{
    struct hashes_journal *j = *journal;
    if (!j)
        return;
    if (j->fd >= 0 && (finished || j->done == 0))
        unlink(j->path);
    if (j->fd >= 0)
        close(j->fd);
    free(j);
    *journal = NULL;
}
