// SPDX-License-Identifier: MIT
#include "base/utf8.h"

#include <string.h>

enum utf8_step utf8_step(const unsigned char *bytes, size_t len, uint32_t *ret_len)
{
    unsigned char first = bytes[0];
    unsigned char low = 0x80, high = 0xbf; // bounds of the second byte
    uint32_t need;

    *ret_len = 1;
    if (first < 0x80)
        return UTF8_WHOLE;
    if (first < 0xc2 || first > 0xf4)
        return UTF8_BAD;
    if (first < 0xe0) {
        need = 2;
    } else if (first < 0xf0) {
        need = 3;
        low = first == 0xe0 ? 0xa0 : low;
        high = first == 0xed ? 0x9f : high;
    } else {
        need = 4;
        low = first == 0xf0 ? 0x90 : low;
        high = first == 0xf4 ? 0x8f : high;
    }
    for (uint32_t i = 1; i < need; i++) {
        *ret_len = i;
        if (i == len)
            return UTF8_CUT;
        if (bytes[i] < low || bytes[i] > high)
            return UTF8_BAD;
        low = 0x80;
        high = 0xbf;
    }
    *ret_len = need;
    return UTF8_WHOLE;
}

size_t utf8_valid_len(const char *text, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t at = 0;

    while (at < len) {
        uint64_t word;
        if (len - at >= sizeof(word)) {
            memcpy(&word, bytes + at, sizeof(word));
            if (!(word & 0x8080808080808080ull)) {
                at += sizeof(word);
                continue;
            }
        }
        uint32_t step;
        if (utf8_step(bytes + at, len - at, &step) != UTF8_WHOLE)
            return at;
        at += step;
    }
    return len;
}
