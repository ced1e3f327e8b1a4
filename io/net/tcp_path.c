// SPDX-License-Identifier: MIT
#include "io/net/tcp_path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WAYS    4u
#define KEEP_MS 30000u // confirmed by any segment of the peer's

struct path {
    uint64_t key;
    uint32_t seen_ms;
    uint8_t mac[6];
    bool used;
};

struct tcp_paths {
    uint32_t sets; // a power of two
    struct path paths[/* sets * WAYS */];
};

int tcp_paths_create(uint32_t n, struct tcp_paths **ret)
{
    uint32_t sets = 1;
    while (sets * (WAYS / 2) < n) // half full at most: sets fill unevenly
        sets *= 2;
    *ret = calloc(1, sizeof(**ret) + sets * WAYS * sizeof(struct path));
    if (!*ret)
        return -ENOMEM;
    (*ret)->sets = sets;
    return 0;
}

void tcp_paths_destroy(struct tcp_paths **paths)
{
    free(*paths);
    *paths = NULL;
}

static bool fresh(const struct path *path, uint32_t now_ms)
{
    return path->used && now_ms - path->seen_ms < KEEP_MS;
}

static struct path *set_of(struct tcp_paths *paths, uint64_t key)
{
    return &paths->paths[(uint32_t)(key >> 32) % paths->sets * WAYS];
}

void tcp_path_seen(struct tcp_paths *paths, uint64_t key, const uint8_t mac[6], bool syn,
                   uint32_t now_ms)
{
    struct path *set = set_of(paths, key), *oldest = set;
    for (uint32_t i = 0; i < WAYS; i++) {
        struct path *path = &set[i];
        if (path->key == key && fresh(path, now_ms)) {
            if (memcmp(path->mac, mac, sizeof(path->mac)) == 0)
                path->seen_ms = now_ms;
            return; // from elsewhere: it may be forged, or the old path expires
        }
        if (!path->used || (oldest->used && now_ms - path->seen_ms > now_ms - oldest->seen_ms))
            oldest = path;
    }
    if (!syn)
        return;
    *oldest = (struct path){.key = key, .seen_ms = now_ms, .used = true};
    memcpy(oldest->mac, mac, sizeof(oldest->mac));
}

const uint8_t *tcp_path_find(const struct tcp_paths *paths, uint64_t key, uint32_t now_ms)
{
    const struct path *set = &paths->paths[(uint32_t)(key >> 32) % paths->sets * WAYS];
    for (uint32_t i = 0; i < WAYS; i++)
        if (set[i].key == key && fresh(&set[i], now_ms))
            return set[i].mac;
    return NULL;
}
