// SPDX-License-Identifier: MIT
#include "stream/state.h"

#include <errno.h>

// The host keeps what the device gives up, if it is worth more than something the host has.
static bool save(struct stream *s, struct want *want, uint32_t evicted)
{
    uint32_t lost;
    if (evicted == RESIDENCY_NONE || residency_find(s->host, evicted) != RESIDENCY_NONE)
        return false;
    if (!residency_spares(s->host, evicted))
        return false;
    uint32_t slot = residency_place(s->host, evicted, false, &lost);
    if (slot == RESIDENCY_NONE)
        return false;
    slot_placed(s, slot, lost);
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

static void stage(struct stream *s, struct want *want)
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

void tiers_place(struct stream *s, struct want *want)
{
    uint32_t evicted;
    if (want->slot == RESIDENCY_NONE) {
        want->slot = residency_place(s->device, want->key, false, &evicted);
        if (want->slot == RESIDENCY_NONE)
            return;
        s->stats.evictions += evicted != RESIDENCY_NONE;
        if (save(s, want, evicted)) {
            want->state = WANT_DRAINING;
            return;
        }
    }
    stage(s, want);
}

void tiers_copied(struct stream *s, struct want *want, uint64_t wait_ns)
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

void tiers_saved(struct stream *s, uint32_t slot)
{
    slots_staged(s->slots, s->host_slots[slot].ticket, UINT64_MAX, NULL);
    saved(s, s->host_slots[slot].ticket);
}
