// SPDX-License-Identifier: MIT
// The way of a missing expert: a slot is found (residency), its bytes are read into it (reader,
// checked on the disk thread), it lands (slots), with two tiers it is copied to the device, and it
// is told to the graph, which gives the slot back when its kernels are through.
#include "base/clock.h"
#include "stream/state.h"

#include <errno.h>
#include <string.h>

#define DONES_MAX 64u

void want_fail(struct stream *s, struct want *want)
{
    uint32_t layer, expert;
    slots_key_name(s->slots, want->key, &layer, &expert);
    fault_prefix(&s->fault, "model.layers.%u.mlp.experts.%u", layer, expert);
    want->state = WANT_FAILED;
    s->stats.failures++;
}

// Finds a host slot for a missing expert and has it read.  Returns false if no slot can be had now.
static bool want_read(struct stream *s, uint32_t i)
{
    struct want *want = &s->wants[i];
    uint32_t evicted, slot = residency_place(s->host, want->key, false, &evicted);
    if (slot == RESIDENCY_NONE)
        return false;
    slot_placed(s, slot, evicted);
    int err = slot_read(s, want->key, slot, false);
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

void wants_pump(struct stream *s)
{
    bool room = true; // missing experts take slots in their order
    for (uint32_t i = 0; i < s->wants_n; i++) {
        struct want *want = &s->wants[i];
        if (want->state == WANT_PENDING && room)
            room = want_read(s, i);
        if (want->state == WANT_DRAINING || want->state == WANT_STAGING)
            tiers_copied(s, want, 0);
        if (want->state == WANT_LANDED)
            tiers_place(s, want);
    }
}

void want_begin(struct stream *s, uint32_t i)
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
        slot_read_want(s, want->host_slot);
        return;
    }
    residency_hold(s->host, want->host_slot);
    if (slot->state == SLOT_SAVING)
        tiers_saved(s, want->host_slot);
    want_landed(s, want);
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

void wants_read(struct stream *s, int64_t wait_us)
{
    struct disk_done done[DONES_MAX];
    uint32_t n = disk_reader_wait(s->reader, done, DONES_MAX, wait_us);
    for (uint32_t i = 0; i < n; i++)
        read_done(s, &done[i]);
}

uint32_t wants_in(const struct stream *s, enum want_state state)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->wants_n; i++)
        n += s->wants[i].state == state;
    return n;
}

uint32_t wants_tell(struct stream *s, struct expert_ready *ret, uint32_t max, struct fault *fault)
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

void wants_abandon(struct stream *s, int err, const char *why)
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
