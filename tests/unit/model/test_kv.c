// SPDX-License-Identifier: MIT
// Pages of the KV cache: every page has one owner, refusals change nothing, what is freed comes
// back.
#include "model/kv.h"
#include "tests/check.h"

#include <errno.h>
#include <stdbool.h>

#define SEQS       5u
#define PER_SEQ    7u
#define PAGES      20u
#define OPERATIONS 20000u

static void owners_check(const struct kv *kv)
{
    bool used[PAGES] = {0};
    uint32_t n = 0;
    for (uint32_t s = 0; s < SEQS; s++)
        for (uint32_t i = 0; i < kv_pages_of(kv, s); i++) {
            uint32_t page = kv_table(kv, s)[i];
            CHECK(page < PAGES);
            CHECK(!used[page]);
            used[page] = true;
            n++;
        }
    CHECK(n + kv_pages_free(kv) == PAGES);
}

static void edges(void)
{
    struct kv *kv = NULL;
    CHECK(kv_create(SEQS, PER_SEQ, PAGES, &kv) == 0);
    CHECK(kv_reserve(kv, SEQS, 1) == -EINVAL);
    CHECK(kv_reserve(kv, 0, PER_SEQ * KV_PAGE_TOKENS + 1) == -EINVAL);
    CHECK(kv_reserve(kv, 0, UINT32_MAX) == -EINVAL);
    CHECK(kv_pages_of(kv, 0) == 0);
    CHECK(kv_reserve(kv, 0, 0) == 0 && kv_pages_of(kv, 0) == 0);
    CHECK(kv_reserve(kv, 0, 1) == 0 && kv_pages_of(kv, 0) == 1);
    CHECK(kv_reserve(kv, 0, KV_PAGE_TOKENS) == 0 && kv_pages_of(kv, 0) == 1);
    CHECK(kv_reserve(kv, 0, KV_PAGE_TOKENS + 1) == 0 && kv_pages_of(kv, 0) == 2);
    uint32_t first = kv_table(kv, 0)[0];
    kv_truncate(kv, 0, KV_PAGE_TOKENS);
    CHECK(kv_pages_of(kv, 0) == 1 && kv_table(kv, 0)[0] == first);
    kv_truncate(kv, 0, KV_PAGE_TOKENS * 3); // more than it has: nothing happens
    CHECK(kv_pages_of(kv, 0) == 1);
    kv_truncate(kv, SEQS, 0); // no such sequence: nothing happens
    CHECK(kv_reserve(kv, 1, PER_SEQ * KV_PAGE_TOKENS) == 0);
    CHECK(kv_reserve(kv, 2, PER_SEQ * KV_PAGE_TOKENS) == 0);
    CHECK(kv_pages_free(kv) == PAGES - 15);
    CHECK(kv_reserve(kv, 3, 6 * KV_PAGE_TOKENS) == -ENOSPC);
    CHECK(kv_pages_of(kv, 3) == 0 && kv_pages_free(kv) == PAGES - 15);
    owners_check(kv);
    kv_destroy(&kv);
    CHECK(!kv);
    kv_destroy(&kv);
}

int main(void)
{
    edges();
    struct kv *kv = NULL;
    uint64_t random = 1;
    CHECK(kv_create(SEQS, PER_SEQ, PAGES, &kv) == 0);
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        uint32_t seq = (uint32_t)(check_random(&random) % SEQS);
        uint32_t tokens = (uint32_t)(check_random(&random) % (PER_SEQ * KV_PAGE_TOKENS + 64));
        uint32_t before = kv_pages_of(kv, seq), free_before = kv_pages_free(kv);
        if (check_random(&random) % 2) {
            int err = kv_reserve(kv, seq, tokens);
            if (err)
                CHECK(kv_pages_of(kv, seq) == before && kv_pages_free(kv) == free_before);
            else
                CHECK(kv_pages_of(kv, seq) * KV_PAGE_TOKENS >= tokens);
        } else {
            kv_truncate(kv, seq, tokens);
            CHECK(kv_pages_of(kv, seq) <= before);
        }
        owners_check(kv);
    }
    kv_destroy(&kv);
    return 0;
}
