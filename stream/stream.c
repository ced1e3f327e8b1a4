// SPDX-License-Identifier: MIT
#include "stream/stream.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/disk/seam.h"
#include "stream/ahead.h"
#include "stream/files.h"
#include "stream/state.h"
#include "stream/verify.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_US       100000  // how often idle is asked
#define STAGE_WAIT_NS 1000000 // while copies are all that is under way

// Asking routers ahead costs some dispatches.
#define ASK_CALM   2u  // steps without a miss after which nobody is asked
#define ASK_RARELY 64u // how often a layer is asked none of whose ranks is right often enough

const char *const stream_verify_name[STREAM_VERIFY_COUNT] = {"first", "always", "off"};
const char *const stream_prefetch_name[STREAM_PREFETCH_COUNT] = {"auto", "on", "off"};
const char *const stream_stall_name[STREAM_STALL_COUNT] = {"first", "last", "slots"};

// Reads ahead that the router did not confirm are dropped, as far as they have not been sent.
static void ahead_drop(struct stream *s)
{
    if (s->ahead_n == 0)
        return;
    for (uint32_t i = 0; i < slots_host_n(s->slots); i++) {
        struct host_slot *slot = &s->host_slots[i];
        if (slot->state == SLOT_READING && slot->want == RESIDENCY_NONE && slot->ahead)
            slot_read_cancel(s, i);
    }
}

static void source_begin(void *user, uint32_t layer, const uint32_t *experts, uint32_t n)
{
    struct stream *s = user;
    bool missed = false;
    assert(n <= WANTS_MAX);
    s->wants_n = s->untold = n;
    s->missed_told = false;
    uint64_t now = clock_ns();
    if (s->quiet_ns > s->begun_ns)
        ahead_gap(s->ahead, now - s->quiet_ns);
    s->begun_ns = now;
    for (uint32_t i = 0; i < n; i++) {
        s->wants[i] = (struct want){.expert = experts[i],
                                    .key = slots_key(s->slots, layer, experts[i]),
                                    .host_slot = RESIDENCY_NONE,
                                    .slot = RESIDENCY_NONE};
        want_begin(s, i); // all that is there is held before any slot is given away
        s->stats.hits += !s->wants[i].missed;
        missed |= s->wants[i].missed;
    }
    s->stats.wanted += n;
    s->calm = missed ? 0 : s->calm + 1;
    uint32_t foretold;
    s->stats.predicted_right += ahead_judge(s->ahead, layer, experts, n, &foretold);
    s->stats.predicted += foretold;
    ahead_drop(s);
    wants_pump(s);
}

// Is a read under way whose end gives its slot back, though no want waits for it?
static bool slots_reading(const struct stream *s)
{
    for (uint32_t i = 0; i < slots_host_n(s->slots); i++)
        if (s->host_slots[i].state == SLOT_READING)
            return true;
    return false;
}

// Waits until something moves.  Returns false if nothing is under way.
static bool wait_once(struct stream *s)
{
    uint64_t from = clock_ns();
    bool reading = wants_in(s, WANT_READING) > 0 || (s->held_n == 0 && slots_reading(s));
    bool copying = wants_in(s, WANT_STAGING) + wants_in(s, WANT_DRAINING) > 0;
    if (!reading && !copying)
        return false;
    wants_read(s, copying ? 0 : WAIT_US);
    for (uint32_t i = 0; i < s->wants_n && copying; i++)
        if (s->wants[i].state == WANT_STAGING || s->wants[i].state == WANT_DRAINING) {
            tiers_copied(s, &s->wants[i], STAGE_WAIT_NS);
            break;
        }
    s->stats.stall_ns[s->missed_told ? STREAM_STALL_LAST : STREAM_STALL_FIRST] += clock_ns() - from;
    if (s->params.idle && s->params.idle(s->params.idle_user))
        wants_abandon(s, ECANCELED, "the step was given up");
    return true;
}

static uint32_t source_next(void *user, struct expert_ready *ret, uint32_t max, bool block,
                            struct fault *fault)
{
    struct stream *s = user;
    for (;;) {
        wants_read(s, 0);
        wants_pump(s);
        uint32_t n = wants_tell(s, ret, max, fault);
        if (n > 0 || !block || s->untold == 0)
            return n;
        if (wait_once(s))
            continue;
        if (s->held_n > 0) {
            s->starved = clock_ns();
            return 0;
        }
        wants_abandon(s, ENOMEM, "no slot is free: reads that never ended hold them");
    }
}

static void source_release(void *user, const uint32_t *slots, uint32_t n)
{
    struct stream *s = user;
    if (s->starved)
        s->stats.stall_ns[STREAM_STALL_SLOTS] += clock_ns() - s->starved;
    s->starved = 0;
    for (uint32_t i = 0; i < n; i++)
        residency_release(s->device ? s->device : s->host, slots[i]);
    s->held_n -= n;
    if (s->untold > 0)
        wants_pump(s);
}

/* -------------------------------------------------------------- reading ahead */

// Asking costs some dispatches: nobody is asked while a whole step after another finds all that it
// wants in slots, and rarely where no rank is right.
static bool source_curious(void *user, uint32_t layer)
{
    struct stream *s = user;
    if (s->params.prefetch == STREAM_PREFETCH_OFF ||
        s->calm > ASK_CALM * model_config_layers(engine_config(s->engine)))
        return false;
    return s->params.prefetch == STREAM_PREFETCH_ON || ahead_hopeful(s->ahead, layer) ||
           s->asked++ % ASK_RARELY == 0;
}

static void ahead_read(struct stream *s, uint32_t key)
{
    uint32_t evicted, slot = residency_place(s->host, key, true, &evicted);
    if (slot == RESIDENCY_NONE)
        return;
    slot_placed(s, slot, evicted);
    if (slot_read(s, key, slot, true)) {
        slot_forget(s, slot);
        residency_release(s->host, slot);
        return;
    }
    s->host_slots[slot].state = SLOT_READING;
    s->host_slots[slot].early = s->host_slots[slot].ahead = true;
    s->stats.predicted_read++;
    s->ahead_n++;
}

static uint64_t drives_rate(const struct stream *s)
{
    uint64_t bytes_second = 0;
    for (uint32_t i = 0; i < disk_reader_drives(s->reader); i++) {
        struct disk_drive_stats stats;
        disk_reader_stats(s->reader, i, &stats);
        bytes_second += stats.bytes_second;
    }
    return bytes_second;
}

static void source_predict(void *user, uint32_t layer, const uint32_t *experts, uint32_t n)
{
    struct stream *s = user;
    bool on = s->params.prefetch == STREAM_PREFETCH_ON;
    uint32_t max = ahead_max(s->ahead, drives_rate(s), slots_key_bytes(s->slots, 0));
    ahead_foretold(s->ahead, layer, experts, n);
    for (uint32_t i = 0; i < n && s->ahead_n < max; i++) {
        uint32_t key = slots_key(s->slots, layer, experts[i]);
        if ((on || ahead_sure(s->ahead, layer, i, n)) &&
            residency_find(s->host, key) == RESIDENCY_NONE &&
            (!s->device || residency_find(s->device, key) == RESIDENCY_NONE))
            ahead_read(s, key);
    }
}

/* -------------------------------------------------------------- open, close */

static int reader_open(struct stream *s, struct fault *fault)
{
    uint32_t n = slots_host_n(s->slots);
    struct iovec *buffers = calloc(n, sizeof(*buffers));
    if (!buffers)
        return fault_set(fault, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < n; i++)
        buffers[i] = (struct iovec){.iov_base = slots_host(s->slots, i),
                                    .iov_len = slots_host_bytes(s->slots)};
    const struct stream_params *p = &s->params;
    struct disk_params params = {.engine = p->engine,
                                 .buffered = p->buffered,
                                 .queue_depth = p->queue_depth,
                                 .read_size = p->read_size,
                                 .timeout_us = p->timeout_us,
                                 .retries = 2,
                                 .buffers = buffers,
                                 .buffers_n = n,
                                 .check = p->verify == STREAM_VERIFY_OFF ? NULL : verifier_check,
                                 .check_user = s->verifier};
    int err = disk_reader_create(&params, &s->reader, fault);
    if (!err)
        disk_reader_seam_set(s->reader, p->seam);
    if (!err)
        err = stream_files_add(s->files, s->reader, fault);
    if (!err)
        err = disk_reader_probe(s->reader, fault);
    if (!err)
        err = disk_reader_start(s->reader, fault);
    for (uint32_t i = 0; !err && disk_reader_warning(s->reader, i); i++)
        log_warning("%s", disk_reader_warning(s->reader, i));
    free(buffers);
    return err;
}

static int tables_create(struct stream *s, struct fault *fault)
{
    uint32_t n = slots_host_n(s->slots);
    struct residency_params host = {.keys_n = slots_keys(s->slots),
                                    .slots_n = n,
                                    .policy = s->params.policy,
                                    .layer_keys = engine_config(s->engine)->n_routed_experts};
    struct residency_params device = host;
    device.slots_n = slots_n(s->slots);
    int err = residency_create(&host, &s->host);
    if (!err && slots_two_tiers(s->slots))
        err = residency_create(&device, &s->device);
    s->host_slots = calloc(n, sizeof(*s->host_slots));
    if (!err)
        err = ahead_create(model_config_layers(engine_config(s->engine)), &s->ahead);
    if (err || !s->host_slots)
        return fault_set(fault, ENOMEM, "out of memory");
    for (uint32_t i = 0; i < n; i++)
        s->host_slots[i].want = RESIDENCY_NONE;
    return 0;
}

int stream_open(struct engine *engine, const struct checkpoint *ck,
                const struct stream_params *params, struct stream **ret, struct fault *fault)
{
    struct stream *s = calloc(1, sizeof(*s));
    if (!s)
        return fault_set(fault, ENOMEM, "out of memory");
    s->engine = engine;
    s->slots = engine_slots(engine);
    s->params = *params;
    s->source = (struct expert_source){.user = s,
                                       .begin = source_begin,
                                       .next = source_next,
                                       .release = source_release,
                                       .curious = source_curious,
                                       .predict = source_predict};
    assert(s->slots);
    int err = tables_create(s, fault);
    if (!err)
        err = stream_files_open(s->slots, ck, params, &s->files, fault);
    if (!err)
        err = verifier_create(s->slots, ck, params, &s->verifier, fault);
    if (!err)
        err = reader_open(s, fault);
    if (err) {
        stream_close(&s);
        return err;
    }
    engine_source_set(engine, &s->source);
    *ret = s;
    return 0;
}

void stream_close(struct stream **sp)
{
    struct stream *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    engine_source_set(s->engine, NULL);
    if (s->reader && !disk_reader_destroy(&s->reader)) {
        slots_host_leave(s->slots);
        log_warning("a drive still holds memory of expert slots: it is left to the system");
    }
    verifier_destroy(&s->verifier);
    stream_files_close(&s->files);
    residency_destroy(&s->host);
    residency_destroy(&s->device);
    free(s->host_slots);
    ahead_destroy(&s->ahead);
    free(s);
}

/* ------------------------------------------------------------ looking inside */

void stream_stats_read(const struct stream *s, struct stream_stats *ret)
{
    *ret = s->stats;
    ret->slots = slots_host_n(s->slots) + (s->device ? slots_n(s->slots) : 0);
    ret->slots_used =
        residency_resident_n(s->host) + (s->device ? residency_resident_n(s->device) : 0);
    ret->disk_cpu_ns = disk_reader_cpu_ns(s->reader);
}

uint32_t stream_drives(const struct stream *s)
{
    return disk_reader_drives(s->reader);
}

void stream_drive_stats(const struct stream *s, uint32_t drive, struct disk_drive_stats *ret)
{
    disk_reader_stats(s->reader, drive, ret);
}

int stream_describe(const struct stream *s, char *buf, size_t buf_bytes)
{
    char reader[512];
    disk_reader_describe(s->reader, reader, sizeof(reader));
    return snprintf(
        buf, buf_bytes,
        "experts from %s, %u of %u moved on landing; %u slots of %.1f MB%s%s; "
        "verify %s, prefetch %s\n%s",
        slots_pack(s->slots) ? "a pack" : "the checkpoint's shards", slots_moved(s->slots),
        slots_keys(s->slots), slots_host_n(s->slots), (double)slots_host_bytes(s->slots) / 1e6,
        slots_huge(s->slots) ? " in huge pages" : "",
        s->device ? ", staged to the device" : ", read by kernels where they land",
        stream_verify_name[s->params.verify], stream_prefetch_name[s->params.prefetch], reader);
}
