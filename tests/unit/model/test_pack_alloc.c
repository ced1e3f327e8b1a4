// SPDX-License-Identifier: MIT
// pack_alloc: packing, opening, verifying, hashing while the n-th allocation fails, for every n: an
// error with a sentence, nothing leaked (with ASan), and the pack that is made at last is whole.
// The linker sends the library's allocations here; jansson's come by its hook.
#include "model/hashes.h"
#include "tests/unit/model/pack_fixture.h"

static unsigned left = UINT32_MAX; // allocations until one fails

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_aligned_alloc(size_t align, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_aligned_alloc(size_t align, size_t bytes);
char *__wrap_strdup(const char *text);

static bool fails(void)
{
    if (left == UINT32_MAX)
        return false;
    return left == 0 || --left == 0;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    return fails() ? NULL : __real_calloc(n, bytes);
}

void *__wrap_aligned_alloc(size_t align, size_t bytes)
{
    return fails() ? NULL : __real_aligned_alloc(align, bytes);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

static void *json_malloc(size_t bytes)
{
    return __wrap_malloc(bytes);
}

// make packs over what is there, in two parts.
static int make(const struct checkpoint *ck, const char *dst, struct fault *fault)
{
    const char *drives[] = {fixture_path("d0"), fixture_path("d1")};
    const struct pack_write_params params = {
        .dst = dst, .drives = drives, .drives_n = 2, .force = true};
    return pack_write(ck, &params, fault);
}

static int check(const struct checkpoint *ck, const char *dst, struct fault *fault)
{
    uint32_t bad = 1;
    int err = pack_verify(&(struct pack_verify_params){.dir = dst, .ck = ck}, &bad, fault);
    CHECK(err < 0 || bad == 0);
    return err;
}

static int hash(const struct checkpoint *ck, const char *dst, struct fault *fault)
{
    static const uint8_t some[16] = {1};
    const char *path = fixture_path("list");
    struct hashes *h = NULL;

    (void)dst;
    int err = hashes_create(ck, &h, fault);
    if (err == 0) {
        hashes_set(h, 0, some);
        err = hashes_save(h, path, fault);
    }
    if (err == 0)
        err = hashes_load(h, path, fault);
    hashes_destroy(&h);
    return err;
}

static unsigned fail_each(const struct checkpoint *ck, const char *dst,
                          int (*run)(const struct checkpoint *, const char *, struct fault *))
{
    for (unsigned n = 1;; n++) {
        struct fault fault = {0};
        left = n;
        int err = run(ck, dst, &fault);
        bool failed = left == 0;
        left = UINT32_MAX;
        if (!failed) {
            if (err)
                fprintf(stderr, "%d %s\n", err, fault.text);
            CHECK(err == 0);
            return n - 1;
        }
        // jansson calls some of its own failures syntax errors.
        bool told = err == -ENOMEM || (err == -EBADMSG && strstr(fault.text, "not JSON"));
        if (!told)
            fprintf(stderr, "allocation %u: %d %s\n", n, err, fault.text);
        CHECK(told && fault.err == -err && fault.text[0]);
    }
}

int main(void)
{
    fixture_begin();
    json_set_alloc_funcs(json_malloc, free);
    struct checkpoint *ck = fixture_checkpoint(fixture_golden("v31-ue8m0"));
    const char *dst = fixture_path("dst");
    fixture_dir("d0");
    fixture_dir("d1");

    unsigned n = fail_each(ck, dst, make);
    printf("pack: %u allocations\n", n);
    CHECK(n > 30); // the hooks are in place
    n = fail_each(ck, dst, check);
    printf("verify: %u allocations\n", n);
    CHECK(n > 30);
    n = fail_each(ck, dst, hash);
    printf("hash: %u allocations\n", n);
    CHECK(n > 3);
    checkpoint_close(&ck);
    return 0;
}
