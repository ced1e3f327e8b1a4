// SPDX-License-Identifier: MIT
// bpe: against a merge loop that does what the definition says, over random merges and pieces on
// both sides of the length where the algorithm changes.
#include "model/bpe.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>

#define LETTERS    4u
#define MERGES_MAX 200u
#define PIECE_MAX  300u

struct rule {
    uint32_t left, right, result;
};

struct table {
    struct bpe *bpe;
    struct rule rules[MERGES_MAX]; // by rank
    uint32_t rules_n;
    char bytes[256 + MERGES_MAX][64];
    uint32_t ids_n;
};

// Letters a, b, ... merge at random into new tokens; every other byte is a token of its own.
static void table_make(struct table *t, uint64_t *random)
{
    unsigned byte;

    memset(t, 0, sizeof(*t));
    CHECK(bpe_create(&t->bpe) == 0);
    for (unsigned b = 0; b < 256; b++) {
        t->bytes[b][0] = (char)b;
        CHECK(bpe_token_add(t->bpe, b, t->bytes[b], 1, true) == 0);
    }
    t->ids_n = 256;
    for (unsigned tries = 0; tries < 2000 && t->rules_n < MERGES_MAX; tries++) {
        uint64_t r = check_random(random);
        uint32_t known = LETTERS + t->ids_n - 256;
        uint32_t left = (uint32_t)(r % known), right = (uint32_t)((r >> 20) % known);
        left = left < LETTERS ? 'a' + left : 256 + left - LETTERS;
        right = right < LETTERS ? 'a' + right : 256 + right - LETTERS;
        char joined[64];
        int len = snprintf(joined, sizeof(joined), "%s%s", t->bytes[left], t->bytes[right]);
        if (len > 12 || bpe_token_lookup(t->bpe, joined, (size_t)len) != TOKEN_NONE)
            continue;
        uint32_t id = t->ids_n++;
        memcpy(t->bytes[id], joined, sizeof(joined));
        CHECK(bpe_token_add(t->bpe, id, joined, (size_t)len, true) == 0);
        t->rules[t->rules_n++] = (struct rule){left, right, id};
    }
    // Ranks in an order of their own: a merge may come before the one that makes its parts.
    for (uint32_t i = t->rules_n; i > 1; i--) {
        uint32_t k = (uint32_t)(check_random(random) % i);
        struct rule swapped = t->rules[k];
        t->rules[k] = t->rules[i - 1];
        t->rules[i - 1] = swapped;
    }
    for (uint32_t i = 0; i < t->rules_n; i++)
        CHECK(bpe_merge_add(t->bpe, t->rules[i].left, t->rules[i].right, i, t->rules[i].result) ==
              0);
    CHECK(bpe_finish(t->bpe, false, &byte) == 0);
}

static uint32_t naive(const struct table *t, const char *piece, uint32_t n, uint32_t *ids)
{
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (unsigned char)piece[i];
    for (;;) {
        uint32_t best_rank = MERGES_MAX, best = 0;
        for (uint32_t i = 0; i + 1 < n; i++)
            for (uint32_t r = 0; r < best_rank; r++)
                if (t->rules[r].result && t->rules[r].left == ids[i] &&
                    t->rules[r].right == ids[i + 1]) {
                    best_rank = r;
                    best = i;
                }
        if (best_rank == MERGES_MAX)
            return n;
        ids[best] = t->rules[best_rank].result;
        memmove(&ids[best + 1], &ids[best + 2], (n - best - 2) * sizeof(*ids));
        n--;
    }
}

static void test_random(void)
{
    static struct table t;
    struct bpe_scratch *scratch;
    uint64_t random = 11;

    CHECK(bpe_scratch_create(&scratch) == 0);
    for (unsigned round = 0; round < 20; round++) {
        table_make(&t, &random);
        for (unsigned i = 0; i < 100; i++) {
            char piece[PIECE_MAX];
            uint32_t ids[PIECE_MAX];
            struct token_list list = {0};
            uint32_t n = 1 + (uint32_t)(check_random(&random) % (i % 2 ? 60 : PIECE_MAX));
            uint64_t letters = 1 + check_random(&random) % LETTERS;
            for (uint32_t k = 0; k < n; k++)
                piece[k] = (char)('a' + check_random(&random) % letters);
            CHECK(bpe_encode(t.bpe, scratch, piece, n, &list) == 0);
            uint32_t expected_n = naive(&t, piece, n, ids);
            CHECK(list.n == expected_n);
            CHECK(memcmp(list.ids, ids, expected_n * sizeof(*ids)) == 0);
            token_list_free(&list);
        }
        bpe_destroy(&t.bpe);
    }
    bpe_scratch_destroy(&scratch);
}

static void test_refused(void)
{
    struct bpe *bpe;
    unsigned byte = 999;
    size_t len;

    CHECK(bpe_create(&bpe) == 0);
    CHECK(bpe_token_add(bpe, 3, "ab", 2, true) == 0);
    CHECK(bpe_token_add(bpe, 3, "cd", 2, true) == -EEXIST);
    CHECK(bpe_token_add(bpe, 4, "ab", 2, true) == -EEXIST);
    CHECK(bpe_token_add(bpe, 4, "ab", 2, false) == 0); // only decodes
    CHECK(bpe_token_add(bpe, 5, "", 0, true) == -EINVAL);
    CHECK(bpe_token_add(bpe, BPE_IDS_MAX, "x", 1, true) == -ERANGE);
    CHECK(bpe_token_lookup(bpe, "ab", 2) == 3);
    CHECK(bpe_token_lookup(bpe, "a", 1) == TOKEN_NONE);
    CHECK(bpe_vocab(bpe) == 5);
    bpe_token_bytes(bpe, 0, &len);
    CHECK(len == 0);
    bpe_token_bytes(bpe, 99, &len);
    CHECK(len == 0);
    CHECK(bpe_finish(bpe, false, &byte) == -ENOTSUP && byte == 0);
    bpe_destroy(&bpe);
    bpe_destroy(&bpe); // NULL by now
}

// whole_first: a piece that is a token is that token, though no merge makes it.
static void test_whole_first(void)
{
    for (int whole = 0; whole < 2; whole++) {
        struct bpe *bpe;
        struct bpe_scratch *scratch;
        struct token_list list = {0};
        unsigned byte;

        CHECK(bpe_create(&bpe) == 0 && bpe_scratch_create(&scratch) == 0);
        for (unsigned b = 0; b < 256; b++) {
            char c = (char)b;
            CHECK(bpe_token_add(bpe, b, &c, 1, true) == 0);
        }
        CHECK(bpe_token_add(bpe, 256, "word", 4, true) == 0);
        CHECK(bpe_finish(bpe, whole, &byte) == 0);
        CHECK(bpe_encode(bpe, scratch, "word", 4, &list) == 0);
        CHECK(list.n == (whole ? 1 : 4));
        CHECK(bpe_encode(bpe, scratch, "words", 5, &list) == 0);
        CHECK(list.n == (whole ? 6 : 9));
        token_list_free(&list);
        bpe_scratch_destroy(&scratch);
        bpe_destroy(&bpe);
    }
}

int main(void)
{
    test_random();
    test_refused();
    test_whole_first();
    return 0;
}
