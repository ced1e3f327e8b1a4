// SPDX-License-Identifier: MIT
#include "model/bpe.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RANK_NONE UINT32_MAX // this pair never merges
// Up to here the lowest pair is found by looking at all of them: no heap, everything in one or
// two cache lines.  English words have 4 to 8 bytes.
#define SIMPLE_SYMBOLS_MAX 40u
// A scratch larger than this is given back after a text; see bpe_scratch_trim.
#define SCRATCH_SYMBOLS_KEPT (64u << 10)

struct token_slot { // open addressing, linear probing; id == TOKEN_NONE is free
    uint32_t hash, id;
};

struct merge_slot { // rank == RANK_NONE is free
    uint32_t left, right, rank, result;
};

struct merge {
    uint32_t rank, result;
};

struct bpe {
    char *bytes; // of all tokens, one after the other
    size_t bytes_n, bytes_cap;
    uint32_t *start; // [ids_cap] where in bytes
    uint32_t *len;   // [ids_cap] 0: no token
    // [ids_cap] a piece with exactly these bytes encodes to this one token.
    bool *direct;
    uint32_t ids_n, ids_cap;

    struct token_slot *tokens;
    uint32_t tokens_n, tokens_cap; // cap is a power of two
    struct merge_slot *merges;
    uint32_t merges_n, merges_cap;

    uint32_t byte_id[256];
    struct merge byte_merge[256][256]; // the first round of every piece, without hashing
};

static uint32_t hash_bytes(const char *bytes, size_t len)
{
    uint64_t h = len * 0x9e3779b97f4a7c15ull, word;

    for (; len >= 8; len -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdull;
        h ^= h >> 32;
    }
    word = 0;
    memcpy(&word, bytes, len);
    h = (h ^ word) * 0xc4ceb9fe1a85ec53ull;
    return (uint32_t)(h >> 32);
}

static uint32_t hash_pair(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15ull;
    return (uint32_t)(h >> 32) ^ (uint32_t)(h >> 11);
}

int bpe_create(struct bpe **ret)
{
    struct bpe *bpe = calloc(1, sizeof(*bpe));
    if (!bpe)
        return -ENOMEM;
    *ret = bpe;
    return 0;
}

void bpe_destroy(struct bpe **bpe)
{
    if (!*bpe)
        return;
    free((*bpe)->bytes);
    free((*bpe)->start);
    free((*bpe)->len);
    free((*bpe)->direct);
    free((*bpe)->tokens);
    free((*bpe)->merges);
    free(*bpe);
    *bpe = NULL;
}

// Makes *array hold at least `need` elements, at least doubling; new ones are zero.
static int grow(void *array, uint32_t *cap, uint32_t need, size_t element)
{
    void *old, *new;

    memcpy(&old, array, sizeof(old));
    uint32_t next = *cap > need / 2 ? *cap * 2 : need;
    new = reallocarray(old, next, element);
    if (!new)
        return -ENOMEM;
    memset((char *)new + *cap *element, 0, (next - *cap) * element);
    memcpy(array, &new, sizeof(new));
    *cap = next;
    return 0;
}

static int ids_reserve(struct bpe *bpe, uint32_t id)
{
    uint32_t cap_start = bpe->ids_cap, cap_len = bpe->ids_cap, cap_direct = bpe->ids_cap;
    uint32_t need = id + 1 < 1024 ? 1024 : id + 1;

    if (id < bpe->ids_cap)
        return 0;
    if (grow(&bpe->start, &cap_start, need, sizeof(*bpe->start)) ||
        grow(&bpe->len, &cap_len, need, sizeof(*bpe->len)) ||
        grow(&bpe->direct, &cap_direct, need, sizeof(*bpe->direct)))
        return -ENOMEM;
    bpe->ids_cap = cap_start;
    return 0;
}

static int bytes_append(struct bpe *bpe, const char *bytes, size_t len)
{
    if (bpe->bytes_cap - bpe->bytes_n < len) {
        size_t cap = bpe->bytes_cap * 2 + len + 4096;
        char *grown = cap > UINT32_MAX ? NULL : realloc(bpe->bytes, cap);
        if (!grown)
            return -ENOMEM;
        bpe->bytes = grown;
        bpe->bytes_cap = cap;
    }
    memcpy(bpe->bytes + bpe->bytes_n, bytes, len);
    bpe->bytes_n += len;
    return 0;
}

// Returns the slot of these bytes, or the free one where they belong.
static struct token_slot *token_slot(const struct bpe *bpe, const char *bytes, size_t len,
                                     uint32_t hash)
{
    for (uint32_t i = hash;; i++) {
        struct token_slot *slot = &bpe->tokens[i & (bpe->tokens_cap - 1)];
        if (slot->id == TOKEN_NONE)
            return slot;
        if (slot->hash == hash && bpe->len[slot->id] == len &&
            memcmp(bpe->bytes + bpe->start[slot->id], bytes, len) == 0)
            return slot;
    }
}

static int tokens_rehash(struct bpe *bpe)
{
    uint32_t cap = bpe->tokens_cap ? bpe->tokens_cap * 2 : 1024;
    struct token_slot *slots = malloc(cap * sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    memset(slots, 0xff, cap * sizeof(*slots)); // TOKEN_NONE everywhere
    for (uint32_t i = 0; i < bpe->tokens_cap; i++) {
        const struct token_slot *old = &bpe->tokens[i];
        if (old->id == TOKEN_NONE)
            continue;
        uint32_t at = old->hash & (cap - 1);
        while (slots[at].id != TOKEN_NONE)
            at = (at + 1) & (cap - 1);
        slots[at] = *old;
    }
    free(bpe->tokens);
    bpe->tokens = slots;
    bpe->tokens_cap = cap;
    return 0;
}

int bpe_token_add(struct bpe *bpe, uint32_t id, const char *bytes, size_t len, bool reachable)
{
    if (id >= BPE_IDS_MAX)
        return -ERANGE;
    if (len == 0)
        return -EINVAL;
    if (id < bpe->ids_cap && bpe->len[id])
        return -EEXIST;
    if (len > UINT32_MAX || ids_reserve(bpe, id))
        return -ENOMEM;
    if (reachable && bpe->tokens_n >= bpe->tokens_cap / 2 && tokens_rehash(bpe))
        return -ENOMEM;

    uint32_t hash = hash_bytes(bytes, len);
    struct token_slot *slot = reachable ? token_slot(bpe, bytes, len, hash) : NULL;
    if (slot && slot->id != TOKEN_NONE)
        return -EEXIST;
    uint32_t start = (uint32_t)bpe->bytes_n;
    if (bytes_append(bpe, bytes, len))
        return -ENOMEM;
    bpe->start[id] = start;
    bpe->len[id] = (uint32_t)len;
    if (slot) {
        *slot = (struct token_slot){hash, id};
        bpe->tokens_n++;
    }
    if (id >= bpe->ids_n)
        bpe->ids_n = id + 1;
    return 0;
}

uint32_t bpe_token_lookup(const struct bpe *bpe, const char *bytes, size_t len)
{
    if (bpe->tokens_cap == 0)
        return TOKEN_NONE;
    return token_slot(bpe, bytes, len, hash_bytes(bytes, len))->id;
}

const char *bpe_token_bytes(const struct bpe *bpe, uint32_t id, size_t *ret_len)
{
    *ret_len = id < bpe->ids_n ? bpe->len[id] : 0;
    return *ret_len ? bpe->bytes + bpe->start[id] : "";
}

uint32_t bpe_vocab(const struct bpe *bpe)
{
    return bpe->ids_n;
}

static struct merge_slot *merge_slot(const struct merge_slot *slots, uint32_t cap, uint32_t left,
                                     uint32_t right)
{
    for (uint32_t i = hash_pair(left, right);; i++) {
        const struct merge_slot *slot = &slots[i & (cap - 1)];
        if (slot->rank == RANK_NONE || (slot->left == left && slot->right == right)) {
            struct merge_slot *found;
            memcpy(&found, &slot, sizeof(found));
            return found;
        }
    }
}

static int merges_rehash(struct bpe *bpe)
{
    uint32_t cap = bpe->merges_cap ? bpe->merges_cap * 2 : 1024;
    struct merge_slot *slots = malloc(cap * sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    memset(slots, 0xff, cap * sizeof(*slots)); // RANK_NONE everywhere
    for (uint32_t i = 0; i < bpe->merges_cap; i++) {
        const struct merge_slot *old = &bpe->merges[i];
        if (old->rank != RANK_NONE)
            *merge_slot(slots, cap, old->left, old->right) = *old;
    }
    free(bpe->merges);
    bpe->merges = slots;
    bpe->merges_cap = cap;
    return 0;
}

int bpe_merge_add(struct bpe *bpe, uint32_t left, uint32_t right, uint32_t rank, uint32_t result)
{
    assert(rank != RANK_NONE);
    if (bpe->merges_n >= bpe->merges_cap / 2 && merges_rehash(bpe))
        return -ENOMEM;
    struct merge_slot *slot = merge_slot(bpe->merges, bpe->merges_cap, left, right);
    if (slot->rank == RANK_NONE)
        bpe->merges_n++;
    *slot = (struct merge_slot){left, right, rank, result};
    return 0;
}

static struct merge merge_of(const struct bpe *bpe, uint32_t left, uint32_t right)
{
    const struct merge_slot *slot = merge_slot(bpe->merges, bpe->merges_cap, left, right);
    return (struct merge){slot->rank, slot->result};
}

// ---- one piece ----

struct symbol {
    uint32_t id;
    uint32_t rank, result; // of the pair (this, next); RANK_NONE if it does not merge
    uint32_t prev, next;   // index, or SYMBOL_NONE at the ends
};
#define SYMBOL_NONE UINT32_MAX

// A pair that waits: rank in the high half, index of its left symbol in the low one, so that the
// smallest number is the lowest rank, leftmost.
typedef uint64_t waiting;

static waiting waiting_of(uint32_t rank, uint32_t at)
{
    return (uint64_t)rank << 32 | at;
}

struct bpe_scratch {
    struct symbol *symbols;
    uint32_t symbols_cap;
    waiting *heap;
    uint32_t heap_n, heap_cap;
};

int bpe_scratch_create(struct bpe_scratch **ret)
{
    struct bpe_scratch *s = calloc(1, sizeof(*s));
    if (!s)
        return -ENOMEM;
    *ret = s;
    return 0;
}

void bpe_scratch_destroy(struct bpe_scratch **scratch)
{
    if (!*scratch)
        return;
    free((*scratch)->symbols);
    free((*scratch)->heap);
    free(*scratch);
    *scratch = NULL;
}

void bpe_scratch_trim(struct bpe_scratch *s)
{
    if (s->symbols_cap <= SCRATCH_SYMBOLS_KEPT && s->heap_cap <= 2 * SCRATCH_SYMBOLS_KEPT)
        return;
    free(s->symbols);
    free(s->heap);
    *s = (struct bpe_scratch){0};
}

// Encodes up to SIMPLE_SYMBOLS_MAX bytes: every round looks at all pairs.
static uint32_t encode_simple(const struct bpe *bpe, const unsigned char *piece, uint32_t n,
                              uint32_t ids[SIMPLE_SYMBOLS_MAX])
{
    struct merge pair[SIMPLE_SYMBOLS_MAX]; // pair[i]: of ids[i] and ids[i + 1]

    for (uint32_t i = 0; i < n; i++)
        ids[i] = bpe->byte_id[piece[i]];
    for (uint32_t i = 0; i + 1 < n; i++)
        pair[i] = bpe->byte_merge[piece[i]][piece[i + 1]];
    while (n > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < n; i++)
            best = pair[i].rank < pair[best].rank ? i : best;
        if (pair[best].rank == RANK_NONE)
            break;
        ids[best] = pair[best].result;
        n--;
        memmove(&ids[best + 1], &ids[best + 2], (n - best - 1) * sizeof(*ids));
        memmove(&pair[best], &pair[best + 1], (n - best - 1) * sizeof(*pair));
        if (best > 0)
            pair[best - 1] = merge_of(bpe, ids[best - 1], ids[best]);
        if (best + 1 < n)
            pair[best] = merge_of(bpe, ids[best], ids[best + 1]);
    }
    return n;
}

static void heap_sift_down(waiting *heap, uint32_t n, uint32_t at)
{
    waiting moved = heap[at];

    for (;;) {
        uint64_t child = 2ull * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= moved)
            break;
        heap[at] = heap[child];
        at = (uint32_t)child;
    }
    heap[at] = moved;
}

static int heap_push(struct bpe_scratch *s, waiting entry)
{
    if (s->heap_n == s->heap_cap) {
        if (s->heap_cap > UINT32_MAX / 2 ||
            grow(&s->heap, &s->heap_cap, s->heap_n + 1, sizeof(*s->heap)))
            return -ENOMEM;
    }
    uint32_t at = s->heap_n++;
    while (at > 0 && entry < s->heap[(at - 1) / 2]) {
        s->heap[at] = s->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    s->heap[at] = entry;
    return 0;
}

static waiting heap_pop(struct bpe_scratch *s)
{
    waiting top = s->heap[0];
    s->heap[0] = s->heap[--s->heap_n];
    if (s->heap_n)
        heap_sift_down(s->heap, s->heap_n, 0);
    return top;
}

static int symbols_fill(const struct bpe *bpe, struct bpe_scratch *s, const unsigned char *piece,
                        uint32_t n)
{
    if (s->symbols_cap < n && grow(&s->symbols, &s->symbols_cap, n, sizeof(*s->symbols)))
        return -ENOMEM;
    if (s->heap_cap < n && grow(&s->heap, &s->heap_cap, n, sizeof(*s->heap)))
        return -ENOMEM;
    s->heap_n = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct merge m = {RANK_NONE, 0};
        if (i + 1 < n)
            m = bpe->byte_merge[piece[i]][piece[i + 1]];
        s->symbols[i] = (struct symbol){bpe->byte_id[piece[i]], m.rank, m.result,
                                        i ? i - 1 : SYMBOL_NONE, i + 1 < n ? i + 1 : SYMBOL_NONE};
        if (m.rank != RANK_NONE)
            s->heap[s->heap_n++] = waiting_of(m.rank, i);
    }
    for (uint32_t i = s->heap_n / 2; i-- > 0;)
        heap_sift_down(s->heap, s->heap_n, i);
    return 0;
}

// Looks the pair (at, its next) up again and queues it.
static int symbol_pair(const struct bpe *bpe, struct bpe_scratch *s, uint32_t at)
{
    struct symbol *symbol = &s->symbols[at];

    symbol->rank = RANK_NONE;
    if (symbol->next == SYMBOL_NONE)
        return 0;
    struct merge m = merge_of(bpe, symbol->id, s->symbols[symbol->next].id);
    symbol->rank = m.rank;
    symbol->result = m.result;
    return m.rank == RANK_NONE ? 0 : heap_push(s, waiting_of(m.rank, at));
}

// Encodes a long piece: pairs wait in a heap; an entry whose rank is no longer that of its symbol
// is out of date and dropped.
static int encode_heap(const struct bpe *bpe, struct bpe_scratch *s, const unsigned char *piece,
                       uint32_t n, struct token_list *list)
{
    int err = symbols_fill(bpe, s, piece, n);

    while (!err && s->heap_n) {
        waiting top = heap_pop(s);
        uint32_t at = (uint32_t)top;
        struct symbol *left = &s->symbols[at];
        if (left->rank != top >> 32)
            continue;
        struct symbol *right = &s->symbols[left->next];
        left->id = left->result;
        left->next = right->next;
        right->rank = RANK_NONE;
        if (left->next != SYMBOL_NONE)
            s->symbols[left->next].prev = at;
        err = symbol_pair(bpe, s, at);
        if (!err && left->prev != SYMBOL_NONE)
            err = symbol_pair(bpe, s, left->prev);
    }
    for (uint32_t i = 0; !err && i != SYMBOL_NONE; i = s->symbols[i].next)
        err = token_list_push(list, s->symbols[i].id);
    return err;
}

static int list_append(struct token_list *list, const uint32_t *ids, uint32_t n)
{
    int err = 0;
    for (uint32_t i = 0; i < n && !err; i++)
        err = token_list_push(list, ids[i]);
    return err;
}

int bpe_encode(const struct bpe *bpe, struct bpe_scratch *scratch, const char *piece, size_t len,
               struct token_list *list)
{
    const unsigned char *bytes = (const unsigned char *)piece;
    uint32_t ids[SIMPLE_SYMBOLS_MAX];

    if (len == 1)
        return token_list_push(list, bpe->byte_id[bytes[0]]);
    uint32_t whole = bpe_token_lookup(bpe, piece, len);
    if (whole != TOKEN_NONE && bpe->direct[whole])
        return token_list_push(list, whole);
    if (len <= SIMPLE_SYMBOLS_MAX)
        return list_append(list, ids, encode_simple(bpe, bytes, (uint32_t)len, ids));
    if (len >= SYMBOL_NONE)
        return -E2BIG;
    return encode_heap(bpe, scratch, bytes, (uint32_t)len, list);
}

// ---- completion ----

// Marks the tokens that their own bytes encode to: a whole word is then one look-up.
static void mark_direct(struct bpe *bpe, bool whole_first)
{
    uint32_t ids[SIMPLE_SYMBOLS_MAX];

    for (uint32_t i = 0; i < bpe->tokens_cap; i++) {
        uint32_t id = bpe->tokens[i].id;
        if (id == TOKEN_NONE)
            continue;
        uint32_t len = bpe->len[id];
        const unsigned char *bytes = (const unsigned char *)bpe->bytes + bpe->start[id];
        bpe->direct[id] = whole_first || (len <= SIMPLE_SYMBOLS_MAX &&
                                          encode_simple(bpe, bytes, len, ids) == 1 && ids[0] == id);
    }
}

int bpe_finish(struct bpe *bpe, bool whole_first, unsigned *ret_byte)
{
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)b;
        bpe->byte_id[b] = bpe_token_lookup(bpe, &byte, 1);
        if (bpe->byte_id[b] == TOKEN_NONE) {
            *ret_byte = b;
            return -ENOTSUP;
        }
    }
    if (bpe->merges_cap == 0 && merges_rehash(bpe))
        return -ENOMEM;
    for (unsigned left = 0; left < 256; left++)
        for (unsigned right = 0; right < 256; right++)
            bpe->byte_merge[left][right] = merge_of(bpe, bpe->byte_id[left], bpe->byte_id[right]);
    mark_direct(bpe, whole_first);
    return 0;
}
