// SPDX-License-Identifier: MIT
#include "stream/verify.h"

#include "base/log.h"
#include "stream/stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASHES_PATH_MAX 1024u

struct verifier {
    const struct slots *slots;
    bool always;
    bool *seen;            // [keys] was right once
    struct hashes *hashes; // NULL with a pack
    char path[HASHES_PATH_MAX];
    bool grown;
};

static int hashes_open(struct verifier *v, const struct checkpoint *ck,
                       const struct stream_params *params, struct fault *fault)
{
    int err = hashes_create(ck, &v->hashes, fault);
    if (err)
        return err;
    if (params->hashes)
        err = snprintf(v->path, sizeof(v->path), "%s", params->hashes) >= (int)sizeof(v->path)
                  ? -ENAMETOOLONG
                  : 0;
    else
        err = hashes_path(ck, v->path, sizeof(v->path));
    if (err)
        v->path[0] = 0;
    if (!v->path[0])
        return 0; // a list in memory only: changes while the daemon runs are still found
    struct fault why;
    err = hashes_load(v->hashes, v->path, &why);
    if (err && err != -ENOENT)
        log_warning("%s; starting a new list", why.text);
    return 0;
}

int verifier_create(const struct slots *slots, const struct checkpoint *ck,
                    const struct stream_params *params, struct verifier **ret, struct fault *fault)
{
    struct verifier *v = calloc(1, sizeof(*v));
    if (!v)
        return fault_set(fault, ENOMEM, "out of memory");
    v->slots = slots;
    v->always = params->verify == STREAM_VERIFY_ALWAYS;
    v->seen = calloc(slots_keys(slots), sizeof(*v->seen));
    int err = v->seen ? 0 : fault_set(fault, ENOMEM, "out of memory");
    if (!err && !slots_pack(slots) && params->verify != STREAM_VERIFY_OFF)
        err = hashes_open(v, ck, params, fault);
    if (err) {
        verifier_destroy(&v);
        return err;
    }
    *ret = v;
    return 0;
}

void verifier_destroy(struct verifier **vp)
{
    struct verifier *v = *vp;
    *vp = NULL;
    if (!v)
        return;
    struct fault why;
    if (v->grown && v->path[0] && hashes_save(v->hashes, v->path, &why))
        log_warning("the hash list was not saved: %s", why.text);
    hashes_destroy(&v->hashes);
    free(v->seen);
    free(v);
}

static const uint8_t *hash_known(const struct verifier *v, uint32_t key)
{
    const struct pack *pack = slots_pack(v->slots);
    if (!pack)
        return hashes_get(v->hashes, key);
    uint32_t layer, expert;
    slots_key_name(v->slots, key, &layer, &expert);
    return pack_checksum(pack, pack_record(pack, layer, expert));
}

// Compares a hash with the one that is known, and remembers it if none is.
static int hash_compare(struct verifier *v, uint32_t key, const uint8_t hash[16])
{
    const uint8_t *known = hash_known(v, key);
    int err = known && memcmp(hash, known, 16) ? -EBADMSG : 0;
    if (!known) {
        hashes_set(v->hashes, key, hash);
        v->grown = true;
    }
    return err;
}

int verifier_check(void *verifier, uint64_t id, const void *buffer)
{
    struct verifier *v = verifier;
    uint32_t key = (uint32_t)(id >> 32);
    if (v->seen[key] && !v->always)
        return 0;
    uint8_t hash[16];
    struct fault why;
    slots_hash(v->slots, key, buffer, hash);
    // A list vouches for bytes that were read before; a pack was searched when it was made.
    if (!hash_known(v, key) && !slots_clean(v->slots, key, buffer, &why)) {
        log_error("%s", why.text);
        return -EBADMSG;
    }
    int err = hash_compare(v, key, hash);
    if (err == 0)
        v->seen[key] = true;
    return err;
}
