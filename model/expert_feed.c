// SPDX-License-Identifier: MIT
#include "model/expert_feed.h"

#include "model/feed.h"
#include "model/file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(EXPERT_PARTS <= FEED_RANGES_MAX, "one range a part");

struct expert_feed {
    const struct checkpoint *ck;
    struct experts experts;
    const char **paths; // [checkpoint_file_count]
    struct feed *feed;
    uint32_t next;
};

void expert_find(const struct checkpoint *ck, const struct experts *experts, uint32_t index,
                 struct expert_bytes *ret)
{
    *ret = (struct expert_bytes){.index = index};
    experts_name(experts, index, &ret->layer, &ret->expert);
    for (unsigned i = 0; i < 3; i++) {
        int err = checkpoint_get(ck, (enum tensor_role)(ROLE_EXPERT_GATE + i), ret->layer,
                                 ret->expert, &ret->spec[i], &ret->tensor[i], &ret->tensor[3 + i]);
        assert(err == 0); // checkpoint_open looked at all of them
        ret->bytes[i] = ret->tensor[i]->bytes;
        ret->bytes[3 + i] = ret->tensor[3 + i] ? ret->tensor[3 + i]->bytes : 0;
        (void)err;
    }
}

static void expert_ranges(void *user, uint32_t item, struct feed_range ret[FEED_RANGES_MAX])
{
    struct expert_feed *f = user;
    struct expert_bytes expert;

    expert_find(f->ck, &f->experts, item, &expert);
    for (unsigned i = 0; i < EXPERT_PARTS; i++)
        if (expert.tensor[i])
            ret[i] = (struct feed_range){.file = expert.tensor[i]->file_idx,
                                         .off = expert.tensor[i]->file_off,
                                         .bytes = expert.bytes[i]};
}

int expert_feed_open(const struct checkpoint *ck, uint32_t first, struct expert_feed **ret,
                     struct fault *fault)
{
    uint32_t files_n = checkpoint_file_count(ck);
    struct expert_feed *f = calloc(1, sizeof(*f));
    if (f)
        f->paths = calloc(files_n + 1, sizeof(*f->paths));
    if (!f || !f->paths) {
        expert_feed_close(&f);
        return fault_set(fault, ENOMEM, "%s: no memory", file_label(checkpoint_dir(ck)));
    }
    f->ck = ck;
    f->next = first;
    experts_make(checkpoint_config(ck), &f->experts);
    for (uint32_t i = 0; i < files_n; i++)
        f->paths[i] = safetensors_path(checkpoint_file(ck, i));

    struct feed_params params = {.paths = f->paths,
                                 .files_n = files_n,
                                 .first = first,
                                 .end = experts_n(&f->experts),
                                 .ranges_n = EXPERT_PARTS,
                                 .ranges = expert_ranges,
                                 .user = f};
    // Experts of one shape may still be of several dtypes.
    for (uint32_t e = 0; e < params.end; e++) {
        struct expert_bytes expert;
        expert_find(ck, &f->experts, e, &expert);
        for (unsigned i = 0; i < EXPERT_PARTS; i++)
            if (expert.bytes[i] > params.bytes_max[i])
                params.bytes_max[i] = expert.bytes[i];
    }
    int err = feed_open(&params, &f->feed, fault);
    if (err < 0) {
        expert_feed_close(&f);
        return err;
    }
    *ret = f;
    return 0;
}

void expert_feed_close(struct expert_feed **feed)
{
    if (!*feed)
        return;
    feed_close(&(*feed)->feed);
    free((*feed)->paths);
    free(*feed);
    *feed = NULL;
}

int expert_feed_next(struct expert_feed *f, struct expert_bytes *ret, struct fault *fault)
{
    const uint8_t *bytes[FEED_RANGES_MAX];

    int got = feed_next(f->feed, bytes, fault);
    if (got < 0) {
        uint32_t item, range;
        struct expert_bytes expert;
        feed_failed(f->feed, &item, &range);
        expert_find(f->ck, &f->experts, item, &expert);
        fault_prefix(fault, "tensor %.128s", expert.tensor[range]->name);
    }
    if (got <= 0)
        return got;
    expert_find(f->ck, &f->experts, f->next++, ret);
    for (unsigned i = 0; i < EXPERT_PARTS; i++)
        ret->part[i] = bytes[i];
    return 1;
}
