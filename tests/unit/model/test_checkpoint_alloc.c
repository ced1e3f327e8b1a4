// SPDX-License-Identifier: MIT
// checkpoint_alloc: opening, verifying and describing a checkpoint while the n-th allocation fails,
// for every n: an error with a sentence, nothing leaked.
#include "model/card.h"
#include "tests/alloc_fail.h"
#include "tests/unit/model/fixture.h"

struct subject {
    char dir[4096];
    FILE *out;
};

// run does all of it; fault says what went wrong.
static int run(void *user, struct fault *fault)
{
    const struct subject *s = user;
    struct checkpoint *ck = NULL;
    struct model_card card;
    int err = checkpoint_open(s->dir, &ck, fault);
    CHECK((err == 0) == (ck != NULL));
    if (err < 0)
        return err;
    err = checkpoint_verify(ck, NULL, NULL, fault);
    if (err == 0)
        err = model_card_make(ck, &card);
    if (err == 0)
        err = model_card_json(&card, NULL, s->out);
    if (err < 0 && !fault->text[0]) // the card has no sentence
        fault_set(fault, -err, "card");
    checkpoint_close(&ck);
    return err;
}

int main(void)
{
    static const char *const names[] = {"distill-qwen2", "lite-fp8"};
    static struct subject subject;
    subject.out = fopen("/dev/null", "w");
    CHECK(subject.out);
    json_set_alloc_funcs(alloc_fail_malloc, alloc_fail_free);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(subject.dir, sizeof(subject.dir), "%s/models/%s", GOLDEN_DIR, names[i]);
        unsigned n =
            alloc_fail_each(&(struct alloc_fail_job){.run = run, .user = &subject, .json = true});
        printf("%s: %u allocations\n", names[i], n);
        CHECK(n > 100); // the hooks are in place
    }
    fclose(subject.out);
    return 0;
}
