// SPDX-License-Identifier: MIT
#include "model/pack_write.h"

#include "model/file.h"
#include "model/pack_place.h"
#include "model/pack_record.h"
#include "model/pack_sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// A crash costs at most this much work, at 1 GB/s a second; a flush costs some milliseconds.
#define BATCH_BYTES (1ull << 30)

// Finished records that are looked at before a place is continued: those written last are what a
// crash can have hurt, and some from all over.
#define LOOK_LAST   4u
#define LOOK_SPREAD 4u

struct work {
    const struct checkpoint *ck;
    const struct pack_write_params *params;
    struct pack_manifest manifest;
    struct pack_place place;
    struct pack_sink *sink;
    struct expert_feed *feed;
    struct fault *fault;
};

/* ------------------------------------------------------------ what is there */

// record_look says whether a finished record still has its checksum.
static bool record_look(const struct pack_place *place, uint32_t record, uint8_t *buffer)
{
    uint8_t sum[CHECKSUM_BYTES];
    uint64_t at = 0;

    for (uint32_t i = 0; i < place->layout->parts_n; i++) {
        uint64_t bytes = place->layout->part_bytes[i];
        if (file_read_at(place->fds[i], place->path[i], record * bytes, buffer + at, (size_t)bytes,
                         NULL) < 0)
            return false;
        at += bytes;
    }
    checksum_of(buffer, (size_t)place->layout->stride, sum);
    return memcmp(sum, place->sums[record], sizeof(sum)) == 0;
}

// finished_look begins anew if what was finished no longer is what it was.
static int finished_look(struct work *w)
{
    struct pack_place *place = &w->place;
    uint32_t step = place->done / LOOK_SPREAD + 1;
    bool good = true;

    if (place->done == 0)
        return 0;
    uint8_t *buffer = aligned_alloc(PACK_ALIGN, (size_t)place->layout->stride);
    if (!buffer)
        return fault_set(w->fault, ENOMEM, "no memory for a record");
    for (uint32_t i = 0; i < LOOK_LAST && i < place->done && good; i++)
        good = record_look(place, place->done - 1 - i, buffer);
    for (uint32_t record = 0; record < place->done && good; record += step)
        good = record_look(place, record, buffer);
    free(buffer);
    return good ? 0 : pack_place_restart(place, w->fault);
}

/* -------------------------------------------------------------------- work */

// finish_batch puts all records below `done` on the drives for good.
static int finish_batch(struct work *w, uint32_t done)
{
    if (done == w->place.done)
        return 0;
    int err = pack_sink_drain(w->sink, w->fault);
    return err ? err : pack_place_journal(&w->place, done, w->fault);
}

static int progress(struct work *w, uint32_t done)
{
    uint64_t stride = w->manifest.layout.stride;
    if (w->params->progress &&
        w->params->progress(w->params->user, done * stride, w->place.records * stride))
        return fault_set(w->fault, ECANCELED, "stopped; run the same command again to go on");
    return 0;
}

static int expert_put(struct work *w, const struct expert_bytes *expert)
{
    const struct pack_layout *layout = &w->manifest.layout;
    uint8_t *record = pack_sink_buffer(w->sink);

    if (!record)
        return pack_sink_drain(w->sink, w->fault);
    int err = pack_record_fill(w->ck, layout, expert, record, w->fault);
    if (err < 0)
        return err;
    checksum_of(record, (size_t)layout->stride, w->place.sums[expert->index]);
    pack_sink_put(w->sink);
    return 0;
}

static int experts_put(struct work *w)
{
    const uint64_t stride = w->manifest.layout.stride;
    const uint64_t batch = w->params->batch_bytes ? w->params->batch_bytes : BATCH_BYTES;
    uint32_t done = w->place.done;

    int err = progress(w, done);
    while (err == 0 && done < w->place.records) {
        struct expert_bytes expert;
        int got = expert_feed_next(w->feed, &expert, w->fault);
        err = got < 0 ? got : expert_put(w, &expert);
        if (err < 0)
            break;
        done++;
        if ((done - w->place.done) * stride >= batch)
            err = finish_batch(w, done);
        if (err == 0)
            err = progress(w, done);
    }
    // Whatever stopped it, what is done is kept; the first error is the one to tell.
    struct fault first = err && w->fault ? *w->fault : (struct fault){0};
    int last = finish_batch(w, done);
    if (err && w->fault)
        *w->fault = first;
    return err ? err : last;
}

static int work_open(struct work *w)
{
    const struct pack_write_params *params = w->params;
    const struct pack_place_params place = {.dst = params->dst,
                                            .drives = params->drives_n ? params->drives : NULL,
                                            .force = params->force};

    int err =
        pack_manifest_make(w->ck, params->drives_n ? params->drives_n : 1, &w->manifest, w->fault);
    if (err == 0)
        err = pack_place_open(&place, &w->manifest, &w->place, w->fault);
    if (err == 0)
        err = finished_look(w);
    if (err < 0)
        return err;
    pack_place_direct(&w->place);
    const struct pack_sink_params sink = {.layout = &w->manifest.layout,
                                          .fds = w->place.fds,
                                          .paths = (const char *const *)w->place.path,
                                          .first = w->place.done};
    err = pack_sink_open(&sink, &w->sink, w->fault);
    return err ? err : expert_feed_open(w->ck, w->place.done, &w->feed, w->fault);
}

int pack_write(const struct checkpoint *ck, const struct pack_write_params *params,
               struct fault *fault)
{
    struct work w = {.ck = ck, .params = params, .fault = fault};

    if (params->drives_n > PACK_PARTS_MAX)
        return fault_set(fault, EINVAL, "%u drives; a pack has at most %u parts", params->drives_n,
                         PACK_PARTS_MAX);
    int err = work_open(&w);
    if (err == 0) {
        err = experts_put(&w);
        err = pack_place_full(&w.place, err, fault);
    }
    if (err == 0)
        err = pack_place_commit(&w.place, &w.manifest, fault);
    expert_feed_close(&w.feed);
    pack_sink_close(&w.sink);
    if (err < 0 && err != -ECANCELED) // who stops it means to go on
        pack_place_abandon(&w.place);
    pack_place_fini(&w.place);
    pack_manifest_fini(&w.manifest);
    return err;
}
