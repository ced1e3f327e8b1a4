// SPDX-License-Identifier: MIT
#include "model/pack.h"

#include "model/file.h"
#include "model/pack_manifest.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES_MAX     4096
#define MANIFEST_BYTES_MAX (4u << 20)

struct pack {
    struct pack_manifest manifest;
    uint8_t (*checksums)[CHECKSUM_BYTES]; // [records]
    char *part_path[PACK_PARTS_MAX];
};

// small_read reads a whole file of this many bytes, or of at most bytes_max where bytes is NULL.
static int small_read(const char *path, uint64_t bytes_want, uint64_t bytes_max, void **ret,
                      size_t *ret_bytes, struct fault *fault)
{
    int fd = -1;
    uint64_t bytes = 0;

    int err = file_open(path, &fd, &bytes, fault);
    if (err < 0)
        return err;
    if (bytes > bytes_max || (bytes_want && bytes != bytes_want))
        err = fault_set(fault, EBADMSG, "%s: has %" PRIu64 " bytes; %" PRIu64 "%s are right",
                        file_label(path), bytes, bytes_want ? bytes_want : bytes_max,
                        bytes_want ? "" : " or less");
    void *data = err < 0 ? NULL : malloc((size_t)bytes + 1);
    if (err == 0 && !data)
        err = fault_set(fault, ENOMEM, "%s: no memory", file_label(path));
    if (err == 0)
        err = file_read_at(fd, path, 0, data, (size_t)bytes, fault);
    close(fd);
    if (err < 0) {
        free(data);
        return err;
    }
    *ret = data;
    *ret_bytes = (size_t)bytes;
    return 0;
}

static int path_make(const char *dir, const char *name, char *ret, struct fault *fault)
{
    if (snprintf(ret, PATH_BYTES_MAX, "%s/%s", dir, name) >= PATH_BYTES_MAX)
        return fault_set(fault, ENAMETOOLONG, "%s: the path is too long", file_label(dir));
    return 0;
}

// no_pack says what was expected of a directory without a manifest.
static int no_pack(const char *dir, int err, struct fault *fault)
{
    char plan[PATH_BYTES_MAX];
    bool there = access(dir, F_OK) == 0 && err == -ENOENT;

    if (there && path_make(dir, "plan.json", plan, NULL) == 0 && access(plan, F_OK) == 0)
        return fault_set(
            fault, -err,
            "%s: is a pack that is not finished (it has no manifest.json yet): run the "
            "expertctl pack that began it again",
            file_label(dir));
    return fault_set(fault, -err,
                     "%s: %s; a pack is a directory with manifest.json, checksums and experts.0, "
                     "as 'expertctl pack SRC DST' makes it",
                     file_label(dir), there ? "has no manifest.json" : strerror(-err));
}

static int manifest_open(struct pack *pack, const char *dir, struct fault *fault)
{
    char path[PATH_BYTES_MAX];
    void *text = NULL;
    size_t len = 0;

    int err = path_make(dir, "manifest.json", path, fault);
    if (err == 0)
        err = small_read(path, 0, MANIFEST_BYTES_MAX, &text, &len, fault);
    if (err == -ENOENT || err == -ENOTDIR)
        err = no_pack(dir, err, fault);
    if (err < 0)
        return err;
    err = pack_manifest_parse(text, len, &pack->manifest, fault);
    if (err < 0)
        fault_prefix(fault, "%s", file_label(path));
    free(text);
    return err;
}

static int checksums_open(struct pack *pack, const char *dir, struct fault *fault)
{
    char path[PATH_BYTES_MAX];
    uint8_t sum[CHECKSUM_BYTES];
    uint64_t bytes = (uint64_t)pack_records(pack) * CHECKSUM_BYTES;
    void *data = NULL;
    size_t len = 0;

    int err = path_make(dir, "checksums", path, fault);
    if (err == 0)
        err = small_read(path, bytes, bytes, &data, &len, fault);
    if (err < 0)
        return err;
    pack->checksums = data;
    checksum_of(data, len, sum);
    if (memcmp(sum, pack->manifest.checksums, sizeof(sum)) != 0)
        return fault_set(fault, EBADMSG,
                         "%s: is not the file that manifest.json describes (its checksum differs)",
                         file_label(path));
    return 0;
}

static int part_open(struct pack *pack, const char *dir, uint32_t part, struct fault *fault)
{
    char path[PATH_BYTES_MAX], name[16];
    uint64_t bytes, want = pack_records(pack) * pack_layout(pack)->part_bytes[part];
    int fd = -1;

    snprintf(name, sizeof(name), "experts.%u", part);
    int err = path_make(dir, name, path, fault);
    if (err == 0)
        err = file_open(path, &fd, &bytes, fault);
    if (err < 0)
        return err;
    close(fd);
    if (bytes != want)
        return fault_set(fault, EBADMSG,
                         "%s: has %" PRIu64 " bytes; manifest.json asks for %" PRIu64,
                         file_label(path), bytes, want);
    pack->part_path[part] = strdup(path);
    return pack->part_path[part] ? 0 : fault_set(fault, ENOMEM, "%s: no memory", file_label(path));
}

int pack_open(const char *dir, const struct checkpoint *ck, struct pack **ret, struct fault *fault)
{
    struct pack *pack = calloc(1, sizeof(*pack));
    if (!pack)
        return fault_set(fault, ENOMEM, "%s: no memory", file_label(dir));

    int err = manifest_open(pack, dir, fault);
    if (err == 0 && ck) {
        err = pack_manifest_compare(&pack->manifest, ck, fault);
        if (err < 0)
            fault_prefix(fault, "the pack %s", file_label(dir));
    }
    if (err == 0)
        err = checksums_open(pack, dir, fault);
    for (uint32_t i = 0; err == 0 && i < pack->manifest.layout.parts_n; i++)
        err = part_open(pack, dir, i, fault);
    if (err < 0) {
        pack_close(&pack);
        return err;
    }
    *ret = pack;
    return 0;
}

void pack_close(struct pack **pack_at)
{
    struct pack *pack = *pack_at;
    if (!pack)
        return;
    for (uint32_t i = 0; i < PACK_PARTS_MAX; i++)
        free(pack->part_path[i]);
    free(pack->checksums);
    pack_manifest_fini(&pack->manifest);
    free(pack);
    *pack_at = NULL;
}

const struct pack_layout *pack_layout(const struct pack *pack)
{
    return &pack->manifest.layout;
}

uint32_t pack_records(const struct pack *pack)
{
    return experts_n(&pack->manifest.experts);
}

const char *pack_part_path(const struct pack *pack, uint32_t part)
{
    assert(part < pack->manifest.layout.parts_n);
    return pack->part_path[part];
}

uint32_t pack_record(const struct pack *pack, uint32_t layer, uint32_t expert)
{
    return experts_index(&pack->manifest.experts, layer, expert);
}

void pack_record_name(const struct pack *pack, uint32_t record, uint32_t *ret_layer,
                      uint32_t *ret_expert)
{
    experts_name(&pack->manifest.experts, record, ret_layer, ret_expert);
}

const uint8_t *pack_checksum(const struct pack *pack, uint32_t record)
{
    assert(record < pack_records(pack));
    return pack->checksums[record];
}
