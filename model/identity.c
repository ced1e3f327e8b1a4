// SPDX-License-Identifier: MIT
#include "model/identity.h"

#include "model/experts.h"
#include "model/file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES  (256u << 10)
#define ROUTER_BYTES 4096u // of each MoE layer: a training run changes all of a router

static void add_u64(struct checksum *sum, uint64_t n)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(n >> 8 * i);
    checksum_add(sum, bytes, sizeof(bytes));
}

// header_sum sums bytes 0 .. 8 + length of a shard.  safetensors_open has checked the length, but
// the file may have changed since.
static int header_sum(int fd, const char *path, uint64_t file_bytes, uint8_t *chunk,
                      uint8_t ret[CHECKSUM_BYTES], struct fault *fault)
{
    struct checksum sum;
    uint64_t left = 0;

    int err = file_read_at(fd, path, 0, chunk, 8, fault);
    if (err < 0)
        return err;
    for (unsigned i = 0; i < 8; i++)
        left |= (uint64_t)chunk[i] << 8 * i;
    if (left > file_bytes - 8)
        return fault_set(fault, EBADMSG, "%s: the header has changed since it was read",
                         file_label(path));
    checksum_init(&sum);
    left += 8;
    for (uint64_t off = 0; left > 0;) {
        size_t n = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        err = file_read_at(fd, path, off, chunk, n, fault);
        if (err < 0)
            return err;
        checksum_add(&sum, chunk, n);
        off += n;
        left -= n;
    }
    checksum_end(&sum, ret);
    return 0;
}

static int shard_make(const struct safetensors *file, uint8_t *chunk, struct identity_shard *ret,
                      struct fault *fault)
{
    const char *path = safetensors_path(file), *slash = strrchr(path, '/');
    int fd = -1;

    ret->name = strdup(slash ? slash + 1 : path);
    if (!ret->name)
        return fault_set(fault, ENOMEM, "%s: no memory", file_label(path));
    int err = file_open(path, &fd, &ret->bytes, fault);
    if (err < 0)
        return err;
    err = header_sum(fd, path, ret->bytes, chunk, ret->header, fault);
    close(fd);
    return err;
}

// routers_add adds what headers do not tell.
static int routers_add(const struct checkpoint *ck, uint8_t *chunk, struct checksum *sum,
                       struct fault *fault)
{
    struct experts experts;
    experts_make(checkpoint_config(ck), &experts);

    for (uint32_t i = 0; i < experts.layers_n; i++) {
        const struct tensor *router;
        int err = checkpoint_get(ck, ROLE_ROUTER, experts.layers[i], 0, NULL, &router, NULL);
        if (err < 0)
            return fault_set(fault, -err, "layer %u has no router", experts.layers[i]);
        size_t n = router->bytes < ROUTER_BYTES ? (size_t)router->bytes : ROUTER_BYTES;
        err = checkpoint_read(ck, router, 0, chunk, n, fault);
        if (err < 0)
            return err;
        checksum_add(sum, chunk, n);
    }
    return 0;
}

int identity_make(const struct checkpoint *ck, struct identity *ret, struct fault *fault)
{
    uint32_t n = checkpoint_file_count(ck);
    struct identity identity = {0};
    struct checksum sum;
    int err = 0;

    uint8_t *chunk = malloc(CHUNK_BYTES);
    identity.shards = calloc(n + 1, sizeof(*identity.shards));
    if (!chunk || !identity.shards)
        err = fault_set(fault, ENOMEM, "%s: no memory", file_label(checkpoint_dir(ck)));
    checksum_init(&sum);
    for (uint32_t i = 0; i < n && err == 0; i++) {
        struct identity_shard *shard = &identity.shards[identity.shards_n++];
        err = shard_make(checkpoint_file(ck, i), chunk, shard, fault);
        if (err < 0)
            break;
        checksum_add(&sum, shard->name, strlen(shard->name) + 1);
        add_u64(&sum, shard->bytes);
        checksum_add(&sum, shard->header, sizeof(shard->header));
    }
    if (err == 0)
        err = routers_add(ck, chunk, &sum, fault);
    free(chunk);
    if (err < 0) {
        identity_fini(&identity);
        return err;
    }
    checksum_end(&sum, identity.id);
    *ret = identity;
    return 0;
}

void identity_fini(struct identity *identity)
{
    for (uint32_t i = 0; i < identity->shards_n; i++)
        free(identity->shards[i].name);
    free(identity->shards);
    *identity = (struct identity){0};
}
