// SPDX-License-Identifier: MIT
// pack_alloc: packing, opening, verifying, hashing while the n-th allocation fails, for every n: an
// error with a sentence, nothing leaked, and the pack that is made at last is whole.
#include "model/hashes_journal.h"
#include "tests/alloc_fail.h"
#include "tests/unit/model/pack_fixture.h"

struct subject {
    const struct checkpoint *ck;
    const char *dst;
};

// make packs over what is there, in two parts.
static int make(void *user, struct fault *fault)
{
    const struct subject *s = user;
    const char *drives[] = {fixture_path("d0"), fixture_path("d1")};
    const struct pack_write_params params = {
        .dst = s->dst, .drives = drives, .drives_n = 2, .force = true};
    return pack_write(s->ck, &params, fault);
}

static int check(void *user, struct fault *fault)
{
    const struct subject *s = user;
    uint32_t bad = 1;
    int err = pack_verify(&(struct pack_verify_params){.dir = s->dst, .ck = s->ck}, &bad, fault);
    CHECK(err < 0 || bad == 0);
    return err;
}

static int hash(void *user, struct fault *fault)
{
    const struct subject *s = user;
    static const uint8_t some[16] = {1};
    const char *path = fixture_path("list");
    struct hashes_journal *journal = NULL;
    struct hashes *h = NULL;
    uint32_t done = 0;

    int err = hashes_create(s->ck, &h, fault);
    if (err == 0) {
        hashes_set(h, 0, some);
        err = hashes_save(h, path, fault);
    }
    if (err == 0)
        err = hashes_load(h, path, fault);
    if (err == 0)
        err = hashes_journal_open(s->ck, h, path, &journal, &done, fault);
    hashes_journal_close(&journal, false);
    hashes_destroy(&h);
    return err;
}

int main(void)
{
    static const struct {
        const char *name;
        int (*run)(void *user, struct fault *fault);
        unsigned least; // allocations: the hooks are in place
    } jobs[] = {{"pack", make, 30}, {"verify", check, 30}, {"hash", hash, 3}};
    fixture_begin();
    json_set_alloc_funcs(alloc_fail_malloc, alloc_fail_free);
    struct checkpoint *ck = fixture_checkpoint(fixture_golden("v31-ue8m0"));
    fixture_dir("d0");
    fixture_dir("d1");
    struct subject subject = {.ck = ck, .dst = fixture_path("dst")};
    for (size_t i = 0; i < ARRAY_LEN(jobs); i++) {
        const struct alloc_fail_job job = {.run = jobs[i].run, .user = &subject, .json = true};
        unsigned n = alloc_fail_each(&job);
        printf("%s: %u allocations\n", jobs[i].name, n);
        CHECK(n > jobs[i].least);
    }
    checkpoint_close(&ck);
    return 0;
}
