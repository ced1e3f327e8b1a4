// SPDX-License-Identifier: MIT
#include "model/pack_write.h"

#include "model/checksum.h"
#include "model/feed.h"
#include "model/file.h"
#include "model/pack_record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(PACK_PARTS_MAX <= FEED_RANGES_MAX, "one range a part");

struct verify {
    const struct pack_verify_params *params;
    struct pack *pack;
    const char *paths[PACK_PARTS_MAX];
    struct feed *records;
    struct expert_feed *experts; // NULL without a checkpoint
    uint8_t *record;             // [stride], made of the checkpoint's expert
    uint32_t bad;
    struct fault *fault;
};

static void record_ranges(void *user, uint32_t item, struct feed_range ret[FEED_RANGES_MAX])
{
    const struct pack_layout *layout = pack_layout(user);
    for (uint32_t i = 0; i < layout->parts_n; i++)
        ret[i] = (struct feed_range){
            .file = i, .off = item * layout->part_bytes[i], .bytes = layout->part_bytes[i]};
}

static void damage(struct verify *v, uint32_t record, const char *what)
{
    const struct pack_layout *layout = pack_layout(v->pack);
    char sentence[FAULT_TEXT_MAX];
    uint32_t layer, expert;

    v->bad++;
    pack_record_name(v->pack, record, &layer, &expert);
    snprintf(sentence, sizeof(sentence),
             "layer %u expert %u: %s: record %u, at byte %" PRIu64 " of %s%s", layer, expert, what,
             record, record * layout->part_bytes[0], file_label(pack_part_path(v->pack, 0)),
             layout->parts_n > 1 ? " and of the other parts" : "");
    if (v->params->damage)
        v->params->damage(v->params->user, layer, expert, sentence);
}

// source_compare makes the record anew from the checkpoint.
static int source_compare(struct verify *v, uint32_t record, bool *ret_same)
{
    const struct pack_layout *layout = pack_layout(v->pack);
    uint8_t sum[CHECKSUM_BYTES];
    struct expert_bytes expert;

    int got = expert_feed_next(v->experts, &expert, v->fault);
    if (got < 0)
        return got;
    int err = pack_record_fill(v->params->ck, layout, &expert, v->record, v->fault);
    if (err < 0)
        return err;
    checksum_of(v->record, (size_t)layout->stride, sum);
    *ret_same = memcmp(sum, pack_checksum(v->pack, record), sizeof(sum)) == 0;
    return 0;
}

static int record_verify(struct verify *v, uint32_t record)
{
    const struct pack_layout *layout = pack_layout(v->pack);
    const uint8_t *parts[FEED_RANGES_MAX];
    uint8_t have[CHECKSUM_BYTES];
    struct checksum sum;
    bool same = true;

    int got = feed_next(v->records, parts, v->fault);
    if (got < 0)
        return got;
    checksum_init(&sum);
    for (uint32_t i = 0; i < layout->parts_n; i++)
        checksum_add(&sum, parts[i], (size_t)layout->part_bytes[i]);
    checksum_end(&sum, have);
    int err = v->experts ? source_compare(v, record, &same) : 0;
    if (err < 0)
        return err;
    if (memcmp(have, pack_checksum(v->pack, record), sizeof(have)) != 0)
        damage(v, record, "its checksum differs");
    else if (!same)
        damage(v, record, "the checkpoint's expert has changed since");
    return 0;
}

static int verify_open(struct verify *v)
{
    int err = pack_open(v->params->dir, v->params->ck, &v->pack, v->fault);
    if (err < 0)
        return err;
    const struct pack_layout *layout = pack_layout(v->pack);
    struct feed_params params = {.files_n = layout->parts_n,
                                 .end = pack_records(v->pack),
                                 .ranges_n = layout->parts_n,
                                 .ranges = record_ranges,
                                 .user = v->pack};
    for (uint32_t i = 0; i < layout->parts_n; i++) {
        v->paths[i] = pack_part_path(v->pack, i);
        params.bytes_max[i] = layout->part_bytes[i];
    }
    params.paths = v->paths;
    err = feed_open(&params, &v->records, v->fault);
    if (err < 0 || !v->params->ck)
        return err;
    v->record = aligned_alloc(PACK_ALIGN, (size_t)layout->stride);
    if (!v->record)
        return fault_set(v->fault, ENOMEM, "no memory for a record");
    memset(v->record, 0, (size_t)layout->stride);
    return expert_feed_open(v->params->ck, 0, &v->experts, v->fault);
}

int pack_verify(const struct pack_verify_params *params, uint32_t *ret_bad, struct fault *fault)
{
    struct verify v = {.params = params, .fault = fault};

    int err = verify_open(&v);
    uint32_t records = err ? 0 : pack_records(v.pack);
    uint64_t stride = err ? 0 : pack_layout(v.pack)->stride;
    for (uint32_t record = 0; err == 0; record++) {
        if (params->progress && params->progress(params->user, record * stride, records * stride))
            err = fault_set(fault, ECANCELED, "stopped");
        if (record == records)
            break;
        if (err == 0)
            err = record_verify(&v, record);
    }
    if (err == 0)
        *ret_bad = v.bad;
    expert_feed_close(&v.experts);
    feed_close(&v.records);
    free(v.record);
    pack_close(&v.pack);
    return err;
}
