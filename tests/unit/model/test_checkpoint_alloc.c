// SPDX-License-Identifier: MIT
// checkpoint_alloc: opening, verifying and describing a checkpoint while the n-th allocation fails,
// for every n: an error with a sentence, nothing leaked (with ASan).
// The linker sends the library's malloc, calloc, realloc and strdup here; jansson's come by its
// hook.
#include "model/card.h"
#include "tests/unit/model/fixture.h"

#include <errno.h>

static unsigned left = UINT32_MAX; // allocations until one fails

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
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

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

static void *json_malloc(size_t bytes)
{
    return __wrap_malloc(bytes);
}

// run does all of it; fault says what went wrong.
static int run(const char *dir, FILE *out, struct fault *fault)
{
    struct checkpoint *ck = NULL;
    struct model_card card;
    int err = checkpoint_open(dir, &ck, fault);
    CHECK((err == 0) == (ck != NULL));
    if (err < 0)
        return err;
    err = checkpoint_verify(ck, NULL, NULL, fault);
    if (err == 0)
        err = model_card_make(ck, &card);
    if (err == 0)
        err = model_card_json(&card, NULL, out);
    if (err < 0 && !fault->text[0]) // the card has no sentence
        fault_set(fault, -err, "card");
    checkpoint_close(&ck);
    return err;
}

static unsigned fail_each(const char *dir, FILE *out)
{
    for (unsigned n = 1;; n++) {
        struct fault fault = {0};
        left = n;
        int err = run(dir, out, &fault);
        bool failed = left == 0;
        left = UINT32_MAX;
        if (!failed) {
            CHECK(err == 0);
            return n - 1;
        }
        // jansson calls some of its own failures syntax errors.
        bool told = err == -ENOMEM || (err == -EBADMSG && strstr(fault.text, "not JSON"));
        if (!told)
            fprintf(stderr, "allocation %u: %d %s\n", n, err, fault.text);
        CHECK(told);
        CHECK(fault.err == -err && fault.text[0]);
    }
}

int main(void)
{
    static const char *const names[] = {"distill-qwen2", "lite-fp8"};
    FILE *out = fopen("/dev/null", "w");
    CHECK(out);
    json_set_alloc_funcs(json_malloc, free);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char dir[4096];
        snprintf(dir, sizeof(dir), "%s/models/%s", GOLDEN_DIR, names[i]);
        unsigned n = fail_each(dir, out);
        printf("%s: %u allocations\n", names[i], n);
        CHECK(n > 100); // the hooks are in place
    }
    fclose(out);
    return 0;
}
