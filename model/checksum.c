// SPDX-License-Identifier: MIT
#include "model/checksum.h"

#include <string.h>

// The state's size and alignment are public only so; the header says it is for static allocation.
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

_Static_assert(sizeof(struct checksum) >= sizeof(XXH3_state_t), "room for the library's state");
_Static_assert(_Alignof(struct checksum) >= _Alignof(XXH3_state_t), "and its alignment");
_Static_assert(sizeof(XXH128_canonical_t) == CHECKSUM_BYTES, "128 bits");

static void canonical(XXH128_hash_t hash, uint8_t ret[CHECKSUM_BYTES])
{
    XXH128_canonical_t bytes;
    XXH128_canonicalFromHash(&bytes, hash);
    memcpy(ret, bytes.digest, CHECKSUM_BYTES);
}

void checksum_init(struct checksum *sum)
{
    XXH3_state_t *state = (XXH3_state_t *)(void *)sum->state;
    XXH3_INITSTATE(state);
    XXH3_128bits_reset(state);
}

void checksum_add(struct checksum *sum, const void *bytes, size_t n)
{
    XXH3_128bits_update((XXH3_state_t *)(void *)sum->state, bytes, n);
}

void checksum_end(const struct checksum *sum, uint8_t ret[CHECKSUM_BYTES])
{
    canonical(XXH3_128bits_digest((const XXH3_state_t *)(const void *)sum->state), ret);
}

void checksum_of(const void *bytes, size_t n, uint8_t ret[CHECKSUM_BYTES])
{
    canonical(XXH3_128bits(bytes, n), ret);
}

void checksum_hex(const uint8_t sum[CHECKSUM_BYTES], char ret[CHECKSUM_HEX])
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < CHECKSUM_BYTES; i++) {
        ret[2 * i] = digits[sum[i] >> 4];
        ret[2 * i + 1] = digits[sum[i] & 15];
    }
    ret[2 * CHECKSUM_BYTES] = '\0';
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool checksum_from_hex(const char *text, uint8_t ret[CHECKSUM_BYTES])
{
    uint8_t sum[CHECKSUM_BYTES];

    if (!text || strlen(text) != CHECKSUM_HEX - 1)
        return false;
    for (unsigned i = 0; i < CHECKSUM_BYTES; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        sum[i] = (uint8_t)(high << 4 | low);
    }
    memcpy(ret, sum, sizeof(sum));
    return true;
}
