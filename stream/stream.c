// SPDX-License-Identifier: MIT
// The way of a missing expert: a slot is found (residency), its bytes are read into it (reader,
// checked on the disk thread), it lands (slots), with two tiers it is copied to the device, and it
// is told to the graph, which gives the slot back when its kernels are through.
#include "stream/stream.h"

#include "base/clock.h"
#include "base/log.h"
#include "io/disk/seam.h"
#include "model/slots.h"
#include "stream/ahead.h"
#include "stream/files.h"
#include "stream/verify.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WANTS_MAX     1024u   // experts of a layer
#define WAIT_US       100000  // how often idle is asked
#define STAGE_WAIT_NS 1000000 // while copies are all that is under way
#define DONES_MAX     64u

// Asking routers ahead costs some dispatches.
#define ASK_CALM   2u  // steps without a miss after which nobody is asked
#define ASK_RARELY 64u // how often a layer is asked none of whose ranks is right often enough

const char *const stream_verify_name[STREAM_VERIFY_COUNT] = {"first", "always", "off"};
const char *const stream_prefetch_name[STREAM_PREFETCH_COUNT] = {"auto", "on", "off"};
const char *const stream_stall_name[STREAM_STALL_COUNT] = {"first", "last", "slots"};

enum want_state {
    WANT_PENDING,  // needs a host slot
    WANT_READING,  // its bytes are on their way into host_slot
    WANT_LANDED,   // two tiers: needs a device slot
    WANT_DRAINING, // two tiers: what was in the device slot is being saved
    WANT_STAGING,  // two tiers: is copied into the device slot
    WANT_READY,
    WANT_FAILED,
    WANT_TOLD
};

struct want { // an expert of the layer that began
    uint32_t expert, key, host_slot, slot;
    enum want_state state;
    bool missed;
    uint64_t ticket;
};

enum slot_state { SLOT_EMPTY, SLOT_READING, SLOT_SAVING, SLOT_LANDED, SLOT_LOST };

struct host_slot {
    enum slot_state state;
    uint32_t want;   // that waits for it, or RESIDENCY_NONE
    bool early;      // the read under way was submitted before anybody wanted it
    bool ahead;      // likewise, and nobody has wanted it since
    uint64_t ticket; // SAVING
};

struct stream {
    struct engine *engine;
    struct slots *slots;
    struct disk_reader *reader;
    struct stream_files *files;
    struct verifier *verifier;
    struct stream_params params;
    struct expert_source source;
    struct residency *host, *device; // device: NULL with one tier
    struct host_slot *host_slots;    // [slots_host_n]
    uint32_t held_n;                 // slots told and not given back

    // The layer that runs.
    struct want wants[WANTS_MAX];
    uint32_t wants_n;
    uint32_t untold;    // wants that are neither told nor failed-and-told
    bool missed_told;   // a missing expert of this layer was told
    uint64_t starved;   // since when the graph waits for slots; 0: it does not
    struct fault fault; // why wants failed, the last one

    struct ahead *ahead;
    uint32_t ahead_n;            // reads ahead under way
    uint64_t begun_ns, quiet_ns; // the layer began; its last missing expert was there
    uint64_t asked;              // layers that were not worth asking
    uint32_t calm;               // layers since one missed an expert
    struct stream_stats stats;
};

static uint64_t read_id(uint32_t key, uint32_t slot)
{
    return (uint64_t)key << 32 | slot;
}

/* ------------------------------------------------------------------- reads */

static int read_submit(struct stream *s, uint32_t key, uint32_t slot, bool speculative)
{
    struct disk_read read = {.id = read_id(key, slot), .buffer = slot, .speculative = speculative};
    const struct slot_range *ranges = slots_ranges(s->slots, key, &read.ranges_n);
    for (uint32_t i = 0; i < read.ranges_n; i++) {
        read.range[i] = (struct disk_range){
            .off = ranges[i].off, .bytes = ranges[i].bytes, .dst = ranges[i].dst};
        read.range[i].files_n = stream_files_copies(s->files, ranges[i].file, read.range[i].file);
    }
    return disk_reader_submit(s->reader, &read, 1);
}

// The slot's bytes are worth nothing; whoever holds it lets go later.
static void slot_forget(struct stream *s, uint32_t slot)
{
    residency_forget(s->host, slot);
    s->host_slots[slot] = (struct host_slot){.state = SLOT_EMPTY, .want = RESIDENCY_NONE};
}

static void want_fail(struct stream *s, struct want *want)
{
    uint32_t layer, expert;
    slots_key_name(s->slots, want->key, &layer, &expert);
    fault_prefix(&s->fault, "model.layers.%u.mlp.experts.%u", layer, expert);
    want->state = WANT_FAILED;
    s->stats.failures++;
}

static void place_note(struct stream *s, uint32_t slot, uint32_t evicted)
{
    s->stats.evictions += evicted != RESIDENCY_NONE;
    s->host_slots[slot] = (struct host_slot){.want = RESIDENCY_NONE};
}

// Finds a host slot for a missing expert and has it read.  Returns false if no slot can be had now.
static bool want_read(struct stream *s, uint32_t i)
{
    struct want *want = &s->wants[i];
    uint32_t evicted, slot = residency_place(s->host, want->key, false, &evicted);
    if (slot == RESIDENCY_NONE)
        return false;
    place_note(s, slot, evicted);
    int err = read_submit(s, want->key, slot, false);
    if (err) {
        fault_set(&s->fault, -err, "the read could not be queued: %s", strerror(-err));
        slot_forget(s, slot);
        residency_release(s->host, slot);
        want_fail(s, want);
        return true;
    }
    s->host_slots[slot].state = SLOT_READING;
    s->host_slots[slot].want = i;
    want->host_slot = slot;
    want->state = WANT_READING;
    return true;
}

/* --------------------------------------------------------------- two tiers */

// The host keeps what the device gives up, if it is worth more than something the host has.
static bool want_save(struct stream *s, struct want *want, uint32_t evicted)
{
    uint32_t lost;
    if (evicted == RESIDENCY_NONE || residency_find(s->host, evicted) != RESIDENCY_NONE)
        return false;
    if (!residency_spares(s->host, evicted))
        return false;
    uint32_t slot = residency_place(s->host, evicted, false, &lost);
    if (slot == RESIDENCY_NONE)
        return false;
    place_note(s, slot, lost);
    if (slots_unstage(s->slots, evicted, want->slot, slot, &want->ticket, NULL)) {
        slot_forget(s, slot);
        residency_release(s->host, slot);
        return false;
    }
    s->host_slots[slot].state = SLOT_SAVING;
    s->host_slots[slot].ticket = want->ticket;
    return true;
}

static void saved(struct stream *s, uint64_t ticket)
{
    for (uint32_t i = 0; i < slots_host_n(s->slots); i++)
        if (s->host_slots[i].state == SLOT_SAVING && s->host_slots[i].ticket == ticket) {
            s->host_slots[i].state = SLOT_LANDED;
            residency_release(s->host, i);
        }
}

static void want_stage(struct stream *s, struct want *want)
{
    int err =
        slots_stage(s->slots, want->key, want->host_slot, want->slot, &want->ticket, &s->fault);
    if (err == -EAGAIN)
        return; // copies are under way: later
    if (err) {
        residency_forget(s->device, want->slot);
        residency_release(s->device, want->slot);
        residency_release(s->host, want->host_slot);
        want_fail(s, want);
        return;
    }
    want->state = WANT_STAGING;
}

static void want_device(struct stream *s, struct want *want)
{
    uint32_t evicted;
    if (want->slot == RESIDENCY_NONE) {
        want->slot = residency_place(s->device, want->key, false, &evicted);
        if (want->slot == RESIDENCY_NONE)
            return;
        s->stats.evictions += evicted != RESIDENCY_NONE;
        if (want_save(s, want, evicted)) {
            want->state = WANT_DRAINING;
            return;
        }
    }
    want_stage(s, want);
}

static void want_copied(struct stream *s, struct want *want, uint64_t wait_ns)
{
    int err = slots_staged(s->slots, want->ticket, wait_ns, &s->fault);
    if (err == -EAGAIN)
        return;
    if (want->state == WANT_DRAINING) {
        saved(s, want->ticket);
        want->state = WANT_LANDED;
        return;
    }
    residency_release(s->host, want->host_slot);
    if (err) {
        residency_forget(s->device, want->slot);
        residency_release(s->device, want->slot);
        want_fail(s, want);
    } else {
        want->state = WANT_READY;
    }
}

/* -------------------------------------------------------------------- wants */

// A landed host slot that a want has waited for, or that was there.
static void want_landed(struct stream *s, struct want *want)
{
    if (s->device) {
        want->state = WANT_LANDED;
        return;
    }
    want->slot = want->host_slot;
    want->state = WANT_READY;
}

// Moves every want as far as it goes without waiting.
static void pump(struct stream *s)
{
    bool room = true; // missing experts take slots in their order
    for (uint32_t i = 0; i < s->wants_n; i++) {
        struct want *want = &s->wants[i];
        if (want->state == WANT_PENDING && room)
            room = want_read(s, i);
        if (want->state == WANT_DRAINING || want->state == WANT_STAGING)
            want_copied(s, want, 0);
        if (want->state == WANT_LANDED)
            want_device(s, want);
    }
}

static void want_begin(struct stream *s, uint32_t i)
{
    struct want *want = &s->wants[i];
    residency_use(s->host, want->key);
    if (s->device) {
        residency_use(s->device, want->key);
        want->slot = residency_find(s->device, want->key);
        if (want->slot != RESIDENCY_NONE) {
            residency_hold(s->device, want->slot);
            want->state = WANT_READY;
            return;
        }
    }
    want->host_slot = residency_find(s->host, want->key);
    if (want->host_slot == RESIDENCY_NONE) {
        want->missed = true;
        return;
    }
    struct host_slot *slot = &s->host_slots[want->host_slot];
    s->stats.predicted_used += slot->ahead;
    slot->ahead = false;
    if (slot->state == SLOT_READING) { // foretold, and on its way: its read's hold becomes ours
        slot->want = i;
        want->state = WANT_READING;
        want->missed = true;
        s->stats.joined++;
        disk_reader_want(s->reader, read_id(want->key, want->host_slot));
        return;
    }
    residency_hold(s->host, want->host_slot);
    if (slot->state == SLOT_SAVING) {
        slots_staged(s->slots, slot->ticket, UINT64_MAX, NULL);
        saved(s, slot->ticket);
    }
    want_landed(s, want);
}

// Reads ahead that the router did not confirm are dropped, as far as they have not been sent.
static void ahead_drop(struct stream *s)
{
    if (s->ahead_n == 0)
        return;
    for (uint32_t i = 0; i < slots_host_n(s->slots); i++) {
        struct host_slot *slot = &s->host_slots[i];
        if (slot->state == SLOT_READING && slot->want == RESIDENCY_NONE && slot->ahead)
            disk_reader_cancel(s->reader, read_id(residency_key(s->host, i), i));
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
    pump(s);
}

static void slot_landed(struct stream *s, uint32_t slot, struct want *want)
{
    uint32_t key = residency_key(s->host, slot);
    slots_land(s->slots, key, slot);
    s->stats.reads++;
    s->stats.read_bytes += slots_key_bytes(s->slots, key);
    s->host_slots[slot].state = SLOT_LANDED;
    s->host_slots[slot].want = RESIDENCY_NONE;
    if (want)
        want_landed(s, want);
    else
        residency_release(s->host, slot);
}

// What a completion means for the want that waits for it, if any.
static void read_done(struct stream *s, const struct disk_done *done)
{
    uint32_t slot = (uint32_t)done->id;
    struct host_slot *host = &s->host_slots[slot];
    struct want *want = host->want == RESIDENCY_NONE ? NULL : &s->wants[host->want];
    s->stats.drive_bytes += done->bytes;
    if (host->state == SLOT_LOST) { // the second word on a read: nobody writes any more
        host->state = SLOT_EMPTY;
        residency_release(s->host, slot);
        return;
    }
    s->ahead_n -= host->early;
    host->early = false;
    if (want)
        s->quiet_ns = clock_ns();
    if (done->err == 0 && !done->in_flight) {
        slot_landed(s, slot, want);
        return;
    }
    slot_forget(s, slot);
    if (done->in_flight)
        host->state = SLOT_LOST;
    else
        residency_release(s->host, slot);
    // A copy gave the bytes, but the late drive may still write into the slot, perhaps wrong ones,
    // or over rows that were moved: they are read again into another one.
    // Cancelled: it was foretold, dropped, and is wanted after all.
    if (want && (done->err == 0 || done->err == -ECANCELED)) {
        want->state = WANT_PENDING;
    } else if (want) {
        s->fault = done->fault;
        want_fail(s, want);
    }
}

// Takes completions, waiting up to wait_us for the first.
static void reads_take(struct stream *s, int64_t wait_us)
{
    struct disk_done done[DONES_MAX];
    uint32_t n = disk_reader_wait(s->reader, done, DONES_MAX, wait_us);
    for (uint32_t i = 0; i < n; i++)
        read_done(s, &done[i]);
}

static uint32_t wants_in(const struct stream *s, enum want_state state)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->wants_n; i++)
        n += s->wants[i].state == state;
    return n;
}

static uint32_t wants_tell(struct stream *s, struct expert_ready *ret, uint32_t max,
                           struct fault *fault)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->wants_n && n < max; i++) {
        struct want *want = &s->wants[i];
        bool ready = want->state == WANT_READY;
        if (!ready && want->state != WANT_FAILED)
            continue;
        if (ready)
            s->held_n++;
        else
            *fault = s->fault;
        ret[n++] = (struct expert_ready){.expert = want->expert,
                                         .slot = ready ? want->slot : EXPERT_NO_SLOT};
        want->state = WANT_TOLD;
        s->untold--;
        s->missed_told |= want->missed;
    }
    return n;
}

// Every want that is not ready fails: the step is given up, or nothing can bring it.
static void wants_abandon(struct stream *s, int err, const char *why)
{
    for (uint32_t i = 0; i < s->wants_n; i++) {
        struct want *want = &s->wants[i];
        if (want->state == WANT_READING)
            s->host_slots[want->host_slot].want = RESIDENCY_NONE; // it may still land
        else if (want->state != WANT_PENDING)
            continue;
        fault_set(&s->fault, err, "%s", why);
        want_fail(s, want);
    }
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
    reads_take(s, copying ? 0 : WAIT_US);
    for (uint32_t i = 0; i < s->wants_n && copying; i++)
        if (s->wants[i].state == WANT_STAGING || s->wants[i].state == WANT_DRAINING) {
            want_copied(s, &s->wants[i], STAGE_WAIT_NS);
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
        reads_take(s, 0);
        pump(s);
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
        pump(s);
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
    place_note(s, slot, evicted);
    if (read_submit(s, key, slot, true)) {
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
    if (!err)
        err = engine_source_set(engine, &s->source, fault);
    if (err) {
        stream_close(&s);
        return err;
    }
    memset(&s->stats, 0, sizeof(s->stats)); // the warm-up does not count
    *ret = s;
    return 0;
}

void stream_close(struct stream **sp)
{
    struct stream *s = *sp;
    *sp = NULL;
    if (!s)
        return;
    engine_source_set(s->engine, NULL, NULL);
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
