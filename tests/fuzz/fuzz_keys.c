// SPDX-License-Identifier: MIT
// keys: any bytes as a keys file: read or refused with a line, never a crash; what was read is
// within the ranges, no name and no hash is there twice, and each key is found by its own line.
#include "api/keys.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct key *key)
{
    CHECK(keys_name_valid(key->name) && strlen(key->name) < KEYS_NAME_MAX);
    CHECK(strlen(key->created) == KEYS_DATE_MAX - 1);
    CHECK(key->rate == KEYS_DEFAULT || key->rate <= KEYS_RATE_MAX);
    CHECK(key->concurrency == KEYS_DEFAULT || key->concurrency <= KEYS_CONCURRENCY_MAX);
    CHECK(key->slot < KEYS_MAX && key->line > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct keys *keys = NULL;
    struct fault fault = {0};

    int err = keys_parse("fuzz", (const char *)data, size, &keys, &fault);
    if (err != 0) {
        CHECK(err == -EINVAL && !keys && strncmp(fault.text, "fuzz:", 5) == 0);
        return 0;
    }
    CHECK(keys_n(keys) <= KEYS_MAX);
    for (uint32_t i = 0; i < keys_n(keys); i++) {
        look(keys_at(keys, i));
        for (uint32_t j = 0; j < i; j++) {
            CHECK(strcmp(keys_at(keys, i)->name, keys_at(keys, j)->name) != 0);
            CHECK(memcmp(keys_at(keys, i)->hash, keys_at(keys, j)->hash, KEYS_HASH_BYTES) != 0);
            CHECK(keys_at(keys, i)->slot != keys_at(keys, j)->slot);
        }
    }
    CHECK(keys_find(keys, (const char *)data, size < 64 ? size : 64) == -ENOENT);
    keys_destroy(&keys);
    return 0;
}
