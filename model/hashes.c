// SPDX-License-Identifier: MIT
// The file: a head of 64 bytes, one bit an expert (its hash is known), 16 bytes an expert (zeros
// where it is not), and the checksum of all before.  Little-endian, checksums canonical.
#include "model/hashes.h"

#include "model/checksum.h"
#include "model/experts.h"
#include "model/file.h"
#include "model/identity.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC          "experts\n"
#define VERSION        1u
#define PATH_BYTES_MAX 4096

struct head {
    char magic[8];
    uint8_t version[4], n[4];
    uint8_t id[CHECKSUM_BYTES]; // the checkpoint's
    uint8_t zeros[32];
};
_Static_assert(sizeof(struct head) == 64, "as the file has it");

struct hashes {
    uint32_t n, known;
    uint8_t (*hash)[CHECKSUM_BYTES]; // [n], points into image
    uint8_t *bits;                   // [(n + 7) / 8], too
    uint8_t *image;                  // the whole file
    size_t image_bytes;
};

/* ------------------------------------------------------------------ list */

static void put_u32(uint8_t ret[4], uint32_t n)
{
    for (unsigned i = 0; i < 4; i++)
        ret[i] = (uint8_t)(n >> 8 * i);
}

// The order in the image is head, bits, hashes, checksum; n is at most some 4 million.
static int image_make(struct hashes *h, const struct identity *identity)
{
    size_t bits = ((size_t)h->n + 7) / 8;
    h->image_bytes = sizeof(struct head) + bits + (size_t)h->n * CHECKSUM_BYTES + CHECKSUM_BYTES;
    h->image = calloc(1, h->image_bytes);
    if (!h->image)
        return -ENOMEM;

    struct head head = {.magic = {0}};
    memcpy(head.magic, MAGIC, sizeof(head.magic));
    put_u32(head.version, VERSION);
    put_u32(head.n, h->n);
    memcpy(head.id, identity->id, sizeof(head.id));
    memcpy(h->image, &head, sizeof(head));
    h->bits = h->image + sizeof(head);
    h->hash = (uint8_t(*)[CHECKSUM_BYTES])(h->bits + bits);
    return 0;
}

int hashes_create(const struct checkpoint *ck, struct hashes **ret, struct fault *fault)
{
    struct identity identity = {0};
    struct experts experts;

    int err = identity_make(ck, &identity, fault);
    if (err < 0)
        return err;
    struct hashes *h = calloc(1, sizeof(*h));
    if (h) {
        experts_make(checkpoint_config(ck), &experts);
        h->n = experts_n(&experts);
        err = image_make(h, &identity);
    }
    identity_fini(&identity);
    if (!h || err < 0) {
        hashes_destroy(&h);
        return fault_set(fault, ENOMEM, "no memory for the list of hashes");
    }
    *ret = h;
    return 0;
}

void hashes_destroy(struct hashes **h)
{
    if (!*h)
        return;
    free((*h)->image);
    free(*h);
    *h = NULL;
}

uint32_t hashes_n(const struct hashes *h)
{
    return h->n;
}

uint32_t hashes_known(const struct hashes *h)
{
    return h->known;
}

static bool bit_get(const struct hashes *h, uint32_t index)
{
    return h->bits[index / 8] >> index % 8 & 1;
}

const uint8_t *hashes_get(const struct hashes *h, uint32_t index)
{
    assert(index < h->n);
    return bit_get(h, index) ? h->hash[index] : NULL;
}

void hashes_set(struct hashes *h, uint32_t index, const uint8_t hash[16])
{
    assert(index < h->n);
    h->known += !bit_get(h, index);
    h->bits[index / 8] |= (uint8_t)(1u << index % 8);
    memcpy(h->hash[index], hash, CHECKSUM_BYTES);
}

void hashes_expert(const void *const parts[6], const uint64_t bytes[6], uint8_t ret[16])
{
    struct checksum sum;
    checksum_init(&sum);
    for (unsigned i = 0; i < 6; i++)
        if (bytes[i])
            checksum_add(&sum, parts[i], bytes[i]);
    checksum_end(&sum, ret);
}

/* ------------------------------------------------------------------ file */

static void hashes_clear(struct hashes *h)
{
    memset(h->image + sizeof(struct head), 0, h->image_bytes - sizeof(struct head));
    h->known = 0;
}

// image_check compares what was read over the image with what this list must look like.
static int image_check(const struct hashes *h, const struct head *head, const char *path,
                       struct fault *fault)
{
    const struct head *read = (const struct head *)(const void *)h->image;
    size_t body = h->image_bytes - CHECKSUM_BYTES;
    uint8_t sum[CHECKSUM_BYTES];

    if (memcmp(read->magic, head->magic, sizeof(head->magic)) != 0)
        return fault_set(fault, EBADMSG, "%s: is no list of hashes", file_label(path));
    if (memcmp(read->version, head->version, sizeof(head->version)) != 0)
        return fault_set(fault, EBADMSG, "%s: is a list of hashes of another version",
                         file_label(path));
    if (memcmp(read->id, head->id, sizeof(head->id)) != 0)
        return fault_set(fault, EBADMSG, "%s: is the list of another checkpoint", file_label(path));
    checksum_of(h->image, body, sum);
    if (memcmp(read, head, sizeof(*head)) != 0 || memcmp(h->image + body, sum, sizeof(sum)) != 0)
        return fault_set(fault, EBADMSG, "%s: is damaged; remove it and make it again",
                         file_label(path));
    return 0;
}

static int image_read(struct hashes *h, int fd, uint64_t bytes, const char *path,
                      struct fault *fault)
{
    struct head head;
    memcpy(&head, h->image, sizeof(head));

    // A file of another size is told apart by its head, if it has one.
    size_t n = bytes < h->image_bytes ? (size_t)bytes : h->image_bytes;
    int err = file_read_at(fd, path, 0, h->image, n, fault);
    if (err == 0 && n < sizeof(head))
        err = fault_set(fault, EBADMSG, "%s: is no list of hashes", file_label(path));
    if (err == 0)
        err = image_check(h, &head, path, fault);
    if (err == 0 && bytes != h->image_bytes)
        err = fault_set(fault, EBADMSG, "%s: is damaged; remove it and make it again",
                        file_label(path));
    memcpy(h->image, &head, sizeof(head));
    return err;
}

int hashes_load(struct hashes *h, const char *path, struct fault *fault)
{
    int fd = -1;
    uint64_t bytes = 0;

    hashes_clear(h);
    int err = file_open(path, &fd, &bytes, fault);
    if (err < 0)
        return err;
    err = image_read(h, fd, bytes, path, fault);
    close(fd);
    if (err < 0) {
        hashes_clear(h);
        return err;
    }
    for (uint32_t i = 0; i < h->n; i++)
        h->known += bit_get(h, i);
    return 0;
}

int hashes_dirs_make(const char *path, struct fault *fault)
{
    char dir[PATH_BYTES_MAX];

    if (snprintf(dir, sizeof(dir), "%s", path) >= (int)sizeof(dir))
        return fault_set(fault, ENAMETOOLONG, "%s: the path is too long", file_label(path));
    for (char *slash = strchr(dir + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(dir, 0755) < 0 && errno != EEXIST)
            return fault_set(fault, errno, "%s: %s", file_label(dir), strerror(errno));
        *slash = '/';
    }
    return 0;
}

static int image_write(const struct hashes *h, int fd)
{
    size_t body = h->image_bytes - CHECKSUM_BYTES;
    checksum_of(h->image, body, h->image + body);

    for (size_t at = 0; at < h->image_bytes;) {
        ssize_t n = write(fd, h->image + at, h->image_bytes - at);
        if (n < 0 && errno != EINTR)
            return -errno;
        at += n > 0 ? (size_t)n : 0;
    }
    // Others read it too: the daemon what root has made.
    return fchmod(fd, 0644) < 0 || fsync(fd) < 0 ? -errno : 0;
}

int hashes_save(const struct hashes *h, const char *path, struct fault *fault)
{
    char temporary[PATH_BYTES_MAX];

    if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= (int)sizeof(temporary))
        return fault_set(fault, ENAMETOOLONG, "%s: the path is too long", file_label(path));
    int err = hashes_dirs_make(path, fault);
    if (err < 0)
        return err;
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return fault_set(fault, errno, "%s: cannot be made: %s", file_label(path), strerror(errno));
    err = image_write(h, fd);
    if (close(fd) < 0 && err == 0)
        err = -errno;
    if (err == 0 && rename(temporary, path) < 0)
        err = -errno;
    if (err < 0) {
        unlink(temporary);
        return fault_set(fault, -err, "%s: cannot be written: %s", file_label(path),
                         strerror(-err));
    }
    return 0;
}

/* ----------------------------------------------------------------- place */

// state_directory writes the directory of state files.
static int state_directory(char *ret, size_t bytes)
{
    const char *given = getenv("STATE_DIRECTORY"), *xdg = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    int n;

    if (given && given[0]) // systemd separates several by colons
        n = snprintf(ret, bytes, "%.*s", (int)strcspn(given, ":"), given);
    else if (access("/var/lib/expertd", W_OK) == 0)
        n = snprintf(ret, bytes, "/var/lib/expertd");
    else if (xdg && xdg[0])
        n = snprintf(ret, bytes, "%s/expertd", xdg);
    else if (home && home[0])
        n = snprintf(ret, bytes, "%s/.local/state/expertd", home);
    else
        return -ENOENT;
    return n < 0 || (size_t)n >= bytes ? -ENAMETOOLONG : 0;
}

int hashes_path(const struct checkpoint *ck, char *ret, size_t ret_bytes)
{
    char dir[PATH_BYTES_MAX], hex[CHECKSUM_HEX];
    struct identity identity = {0};

    int err = state_directory(dir, sizeof(dir));
    if (err == 0)
        err = identity_make(ck, &identity, NULL);
    if (err < 0)
        return err;
    checksum_hex(identity.id, hex);
    identity_fini(&identity);
    if ((size_t)snprintf(ret, ret_bytes, "%s/%s.hashes", dir, hex) >= ret_bytes)
        return -ENAMETOOLONG;
    return 0;
}
