// SPDX-License-Identifier: MIT
// state: the inside of a stream, shared by stream.c (its doors), want.c (how an expert that a layer
// wants gets on), tiers.c (its way to and from a device's own slots) and slot.c (slots of the
// host). Owner: the step thread.
#pragma once
#include "model/slots.h"
#include "stream/stream.h"

struct ahead;
struct stream_files;
struct verifier;

#define WANTS_MAX 1024u // experts of a layer

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

// slot.c: host slots.
// slot_read has a slot that residency gave to a key filled.  As disk_reader_submit.
int slot_read(struct stream *s, uint32_t key, uint32_t slot, bool speculative);
void slot_read_want(struct stream *s, uint32_t slot);   // a read ahead is wanted
void slot_read_cancel(struct stream *s, uint32_t slot); // it is not
// slot_placed notes that residency gave a slot to a key, from `evicted` or RESIDENCY_NONE.
void slot_placed(struct stream *s, uint32_t slot, uint32_t evicted);
// slot_forget: its bytes are worth nothing; whoever holds it lets go later.
void slot_forget(struct stream *s, uint32_t slot);

// tiers.c: with two tiers, what a landed want waits for.
// tiers_place finds it a device slot, if one can be had, saves what is in there and starts the
// copy.
void tiers_place(struct stream *s, struct want *want);
// tiers_copied moves a want on whose copy is done, waiting up to wait_ns for it.
void tiers_copied(struct stream *s, struct want *want, uint64_t wait_ns);
// tiers_saved waits until a host slot in state SLOT_SAVING has what the device gave up.
void tiers_saved(struct stream *s, uint32_t slot);

// want.c
// want_begin holds what is there already; wants_pump moves all as far as they go without waiting.
void want_begin(struct stream *s, uint32_t i);
void want_fail(struct stream *s, struct want *want); // s->fault says why
void wants_pump(struct stream *s);
// wants_read takes completions of reads, waiting up to wait_us for the first.
void wants_read(struct stream *s, int64_t wait_us);
uint32_t wants_in(const struct stream *s, enum want_state state);
// wants_tell is expert_source's next, as far as wants are ready or have failed.
uint32_t wants_tell(struct stream *s, struct expert_ready *ret, uint32_t max, struct fault *fault);
// wants_abandon fails all that are not ready: the step is given up, or nothing can bring them.
void wants_abandon(struct stream *s, int err, const char *why);
