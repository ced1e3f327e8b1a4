// SPDX-License-Identifier: MIT
#include "model/nfc.h"
#include "base/utf8.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

struct nfc_ccc_run { // canonical combining class of first..last
    uint32_t first, last, ccc;
};
struct nfc_run { // characters that NFC may change, or join with the one before
    uint32_t first, last;
};
struct nfc_decomposition { // b == 0: into a alone
    uint32_t c, a, b;
};
struct nfc_composition {
    uint32_t a, b, c;
};
#include "model/nfc_table.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// Unicode 3.12: Hangul syllables are computed, not listed.
enum { S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7 };
enum { L_COUNT = 19, V_COUNT = 21, T_COUNT = 28 };
enum { S_COUNT = L_COUNT * V_COUNT * T_COUNT };

#define FIRST_SUSPECT 0x300u // below: nothing composes, nothing is out of order

struct nfc_char {
    uint32_t c;
    uint32_t ccc;
};

static uint32_t ccc_of(uint32_t c)
{
    size_t low = 0, high = COUNT(nfc_ccc);
    if (c < FIRST_SUSPECT)
        return 0;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > nfc_ccc[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < COUNT(nfc_ccc) && c >= nfc_ccc[low].first ? nfc_ccc[low].ccc : 0;
}

static bool is_suspect(uint32_t c)
{
    size_t low = 0, high = COUNT(nfc_suspects);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > nfc_suspects[mid].last)
            low = mid + 1;
        else
            high = mid;
    }
    return low < COUNT(nfc_suspects) && c >= nfc_suspects[low].first;
}

bool nfc_is_normal(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + len;
    uint32_t before = 0; // class of the character before

    while (p < end) {
        if (*p < 0xcc) { // lead bytes of characters below U+0300
            p += *p < 0x80 ? 1 : 2;
            before = 0;
            continue;
        }
        uint32_t c = utf8_get(&p);
        if (is_suspect(c))
            return false;
        uint32_t ccc = ccc_of(c);
        if (ccc && ccc < before)
            return false;
        before = ccc;
    }
    return true;
}

static const struct nfc_decomposition *decomposition_of(uint32_t c)
{
    size_t low = 0, high = COUNT(nfc_decompositions);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > nfc_decompositions[mid].c)
            low = mid + 1;
        else
            high = mid;
    }
    return low < COUNT(nfc_decompositions) && nfc_decompositions[low].c == c
               ? &nfc_decompositions[low]
               : NULL;
}

static uint32_t composition_of(uint32_t a, uint32_t b)
{
    size_t low = 0, high = COUNT(nfc_compositions);

    if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b - T_BASE - 1 < T_COUNT - 1)
        return a + (b - T_BASE);
    while (low < high) {
        size_t mid = (low + high) / 2;
        const struct nfc_composition *m = &nfc_compositions[mid];
        if (a > m->a || (a == m->a && b > m->b))
            low = mid + 1;
        else
            high = mid;
    }
    if (low == COUNT(nfc_compositions) || nfc_compositions[low].a != a ||
        nfc_compositions[low].b != b)
        return 0;
    return nfc_compositions[low].c;
}

// Writes the full decomposition of c; at most 4 characters (Unicode's longest canonical one).
static size_t decompose(uint32_t c, struct nfc_char *out)
{
    size_t n = 0;

    if (c - S_BASE < S_COUNT) {
        uint32_t s = c - S_BASE, t = s % T_COUNT;
        out[n++] = (struct nfc_char){L_BASE + s / (V_COUNT * T_COUNT), 0};
        out[n++] = (struct nfc_char){V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT, 0};
        if (t)
            out[n++] = (struct nfc_char){T_BASE + t, 0};
        return n;
    }
    const struct nfc_decomposition *d = c < 0xc0 ? NULL : decomposition_of(c);
    if (!d) {
        out[0] = (struct nfc_char){c, ccc_of(c)};
        return 1;
    }
    n = decompose(d->a, out); // only the first part decomposes further
    if (d->b)
        out[n++] = (struct nfc_char){d->b, ccc_of(d->b)};
    return n;
}

// Sorts marks by class, equal classes in the order they came: merge sort, for text that is all
// marks must not take quadratic time.
static void sort_marks(struct nfc_char *marks, size_t n, struct nfc_char *spare)
{
    if (n < 2)
        return;
    size_t half = n / 2, i = 0, j = half, k = 0;
    sort_marks(marks, half, spare);
    sort_marks(marks + half, n - half, spare);
    if (marks[half - 1].ccc <= marks[half].ccc)
        return;
    while (i < half && j < n)
        spare[k++] = marks[j].ccc < marks[i].ccc ? marks[j++] : marks[i++];
    while (i < half)
        spare[k++] = marks[i++];
    for (size_t m = 0; m < k; m++)
        marks[m] = spare[m];
}

static void order(struct nfc_char *chars, size_t n, struct nfc_char *spare)
{
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        if (chars[i].ccc) {
            while (end < n && chars[end].ccc)
                end++;
            sort_marks(chars + i, end - i, spare);
        }
        i = end;
    }
}

// Joins characters with the last starter before them, in place; returns how many are left.
static size_t compose(struct nfc_char *chars, size_t n)
{
    size_t kept = 0, starter = SIZE_MAX;

    for (size_t i = 0; i < n; i++) {
        struct nfc_char next = chars[i];
        // Blocked by a mark of the same or a higher class in between.
        bool blocked =
            starter == SIZE_MAX || (kept - 1 > starter && chars[kept - 1].ccc >= next.ccc);
        uint32_t joined = blocked ? 0 : composition_of(chars[starter].c, next.c);
        if (joined) {
            chars[starter].c = joined;
            continue;
        }
        if (next.ccc == 0)
            starter = kept;
        chars[kept++] = next;
    }
    return kept;
}

int nfc_normalize(const char *text, size_t len, char **ret_text, size_t *ret_len)
{
    const unsigned char *p = (const unsigned char *)text, *end = p + len;
    struct nfc_char *chars = NULL, *spare = NULL;
    char *out = NULL;
    size_t n = 0, parts = 0, out_n = 0;
    struct nfc_char four[4];

    while (p < end)
        parts += decompose(utf8_get(&p), four);
    chars = reallocarray(NULL, parts + 1, sizeof(*chars));
    spare = reallocarray(NULL, parts + 1, sizeof(*spare));
    out = reallocarray(NULL, parts + 1, 4);
    if (!chars || !spare || !out)
        goto fail;
    for (p = (const unsigned char *)text; p < end;)
        n += decompose(utf8_get(&p), chars + n);
    order(chars, n, spare);
    n = compose(chars, n);
    for (size_t i = 0; i < n; i++)
        out_n += utf8_put(chars[i].c, out + out_n);
    free(chars);
    free(spare);
    *ret_text = out;
    *ret_len = out_n;
    return 0;

fail:
    free(chars);
    free(spare);
    free(out);
    return -ENOMEM;
}
