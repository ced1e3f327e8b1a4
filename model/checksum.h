// SPDX-License-Identifier: MIT
// checksum: XXH3-128 in canonical (big-endian) order, the only checksum of packs and hash lists.
// It finds damage, not malice.  Allocates nothing.  Thread: any.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECKSUM_BYTES 16u
#define CHECKSUM_HEX   33u // as text, with the NUL

// A sum of bytes that come in pieces.  Owner: the caller.
struct checksum {
    _Alignas(64) unsigned char state[576]; // the library's own struct
};

void checksum_init(struct checksum *sum);
void checksum_add(struct checksum *sum, const void *bytes, size_t n);
void checksum_end(const struct checksum *sum, uint8_t ret[CHECKSUM_BYTES]);

// checksum_of sums one piece.
void checksum_of(const void *bytes, size_t n, uint8_t ret[CHECKSUM_BYTES]);

// checksum_hex writes 32 lower-case digits and a NUL; checksum_from_hex reads exactly such, false
// for anything else (NULL included).
void checksum_hex(const uint8_t sum[CHECKSUM_BYTES], char ret[CHECKSUM_HEX]);
bool checksum_from_hex(const char *text, uint8_t ret[CHECKSUM_BYTES]);
