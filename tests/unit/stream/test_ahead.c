// SPDX-License-Identifier: MIT
// Reading ahead: ranks are trusted as far as they were right, layers apart, and no more experts are
// read than a gap takes.
#include "stream/ahead.h"
#include "tests/check.h"

#define LAYERS 3u
#define K      8u

// Foretells K experts for a layer of which the first `right` are wanted.
static void visit(struct ahead *a, uint32_t layer, uint32_t right)
{
    uint32_t foretold[K], wanted[K], n;
    for (uint32_t i = 0; i < K; i++) {
        foretold[i] = 10 + i;
        wanted[i] = i < right ? 10 + i : 100 + i;
    }
    ahead_foretold(a, layer, foretold, K);
    CHECK(ahead_judge(a, layer, wanted, K, &n) == right && n == K);
    CHECK(ahead_judge(a, layer, wanted, K, &n) == 0 && n == 0); // judged once
}

static void test_ranks(void)
{
    struct ahead *a = NULL;
    CHECK(ahead_create(LAYERS, &a) == 0);
    for (uint32_t i = 0; i < K; i++)
        CHECK(ahead_sure(a, 1, i, K)); // trusted until seen
    for (int i = 0; i < 100; i++)
        visit(a, 1, 3);
    for (uint32_t i = 0; i < K; i++) {
        CHECK(ahead_sure(a, 1, i, K) == (i < 3));
        CHECK(ahead_sure(a, 2, i, K));
    }
    CHECK(ahead_hopeful(a, 1));
    for (int i = 0; i < 100; i++)
        visit(a, 1, 0);
    CHECK(!ahead_hopeful(a, 1) && ahead_hopeful(a, 0));
    for (int i = 0; i < 100; i++)
        visit(a, 1, K); // it learns again
    CHECK(ahead_sure(a, 1, K - 1, K));
    // Nine right of ten are enough, two of three are not.
    for (int i = 0; i < 300; i++)
        visit(a, 0, i % 10 ? 1 : 0);
    CHECK(ahead_sure(a, 0, 0, K));
    for (int i = 0; i < 300; i++)
        visit(a, 0, i % 3 ? 1 : 0);
    CHECK(!ahead_sure(a, 0, 0, K));
    // Lists longer than the ranks, of several rows, share them.
    CHECK(ahead_sure(a, 2, 63, 64));
    ahead_destroy(&a);
    CHECK(!a);
}

static void test_gap(void)
{
    struct ahead *a = NULL;
    CHECK(ahead_create(LAYERS, &a) == 0);
    CHECK(ahead_max(a, 2000000000, 44000000) == 1);
    for (int i = 0; i < 100; i++)
        ahead_gap(a, 50000000); // 100 MB at 2 GB/s
    CHECK(ahead_max(a, 2000000000, 44000000) == 3);
    CHECK(ahead_max(a, 200000000, 44000000) == 1);
    CHECK(ahead_max(a, 28000000000, 44000000) == 4);
    CHECK(ahead_max(a, 0, 44000000) == 1); // nothing was read yet
    for (int i = 0; i < 100; i++)
        ahead_gap(a, 1000000);
    CHECK(ahead_max(a, 2000000000, 44000000) == 1);
    ahead_destroy(&a);
}

int main(void)
{
    test_ranks();
    test_gap();
    return 0;
}
