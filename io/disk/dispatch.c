// SPDX-License-Identifier: MIT
#include "io/disk/state.h"

// request sends a piece's rest to the engine, unless the seam holds it.
static void request(struct disk_reader *r, uint32_t number)
{
    struct piece *p = &r->pieces[number];
    uint32_t from = p->have & ~(DISK_ALIGN - 1);
    struct engine_request req = {
        .tag = number, .file = p->file, .off = p->cut.off + from, .bytes = p->cut.bytes - from};
    if (p->read == NONE) {
        req.dst = (char *)r->probe_memory + (size_t)p->drive * DISK_ALIGN;
        req.buffer = ENGINE_NO_BUFFER;
    } else {
        req.buffer = r->reads[p->read].in.buffer;
        req.dst = (char *)r->buffers[req.buffer].iov_base + p->cut.dst + from;
    }
    p->sent = req.bytes;
    r->table->send(r->io, &req);
}

static void send(struct disk_reader *r, uint32_t number, uint32_t drive, uint64_t now_ns)
{
    struct piece *p = &r->pieces[number];
    p->drive = drive;
    p->state = PIECE_FLYING;
    p->sent_ns = now_ns;
    drive_sent(&r->drives[drive].drive, p->cut.bytes, now_ns);
    r->in_flight++;
    if (p->read != NONE) {
        struct reading *read = &r->reads[p->read];
        pieces_append(r, &r->drives[drive].flying, number); // a probe has all the time it needs
        read->in_flight++;
        if (!read->done.first_ns)
            read->done.first_ns = now_ns;
    }
    p->act = (struct disk_seam_act){DISK_SEAM_PASS, 0};
    if (r->seam)
        p->act = r->seam->decide(r->seam->user, p->file, p->cut.off, p->cut.bytes);
    p->held = p->act.kind == DISK_SEAM_DELAY || p->act.kind == DISK_SEAM_HANG;
    if (p->held)
        r->held_n++;
    else
        request(r, number);
}

static void dispatch_held(struct disk_reader *r, uint64_t now_ns)
{
    for (uint32_t i = 0; i < r->pieces_n && r->held_n > 0; i++) {
        struct piece *p = &r->pieces[i];
        if (p->state == PIECE_FREE || !p->held)
            continue;
        if (p->act.kind == DISK_SEAM_DELAY ? now_ns - p->sent_ns < p->act.value
                                           : !r->seam->released(r->seam->user))
            continue;
        p->held = false;
        p->act.kind = DISK_SEAM_PASS;
        r->held_n--;
        request(r, i);
    }
}

uint32_t dispatch_usable(const struct disk_reader *r, const struct disk_range *range)
{
    uint32_t usable = 0;
    for (uint32_t i = 0; i < range->files_n; i++)
        if (r->drives[r->files[range->file[i]].drive].drive.breaker == DRIVE_CLOSED)
            usable |= 1u << i;
    return usable;
}

struct choice {
    uint32_t copy, drive; // copy NONE: none
    uint64_t finish_ns;
};

// choose picks the copy that would have `bytes` more first, after what waits ahead for its drive.
static struct choice choose(const struct disk_reader *r, const struct disk_range *range,
                            uint32_t copies, uint64_t bytes, bool room, bool ahead)
{
    struct choice best = {.copy = NONE};
    for (uint32_t i = 0; i < range->files_n; i++) {
        uint32_t drive = r->files[range->file[i]].drive;
        const struct drive *d = &r->drives[drive].drive;
        if (!(copies & 1u << i) || (room && !drive_has_room(d)))
            continue;
        uint64_t finish = drive_finish_ns(d, bytes + (ahead ? r->ahead[drive] : 0));
        if (best.copy == NONE || finish < best.finish_ns)
            best = (struct choice){i, drive, finish};
    }
    return best;
}

// Copies that a piece may be read from now: those that it has not failed on, while there are any.
static uint32_t piece_copies(const struct disk_reader *r, const struct piece *p,
                             const struct disk_range *range)
{
    uint32_t usable = dispatch_usable(r, range);
    return usable & ~(uint32_t)p->tried ? usable & ~(uint32_t)p->tried : usable;
}

static void dispatch_waiting(struct disk_reader *r, uint64_t now_ns)
{
    for (uint32_t i = r->waiting.first, next; i != NONE; i = next) {
        struct piece *p = &r->pieces[i];
        next = p->next;
        struct reading *read = &r->reads[p->read];
        const struct disk_range *range = &read->in.range[p->cut.range];
        uint32_t copies = piece_copies(r, p, range);
        if (!copies) {
            read_fail_drive(r, p->read, range); // drops its waiting pieces: begin anew
            next = r->waiting.first;
            continue;
        }
        struct choice c = choose(r, range, copies, p->cut.bytes, false, true);
        if (!drive_has_room(&r->drives[c.drive].drive)) {
            r->ahead[c.drive] += p->cut.bytes;
            continue;
        }
        pieces_remove(r, &r->waiting, i);
        read->waiting--;
        p->copy = c.copy;
        p->file = range->file[c.copy];
        send(r, i, c.drive, now_ns);
    }
}

static void send_cut(struct disk_reader *r, uint32_t number, const struct plan_piece *cut,
                     const struct choice *c, uint64_t now_ns)
{
    uint32_t piece = piece_new(r, number);
    struct reading *read = &r->reads[number];
    plan_take(&read->plan, cut);
    r->pieces[piece].cut = *cut;
    r->pieces[piece].copy = c->copy;
    r->pieces[piece].file = read->in.range[cut->range].file[c->copy];
    send(r, piece, c->drive, now_ns);
}

// After a failed check all of a read comes from one copy, so that one good copy is enough.
static uint32_t read_copies(const struct disk_reader *r, const struct reading *read,
                            const struct disk_range *range)
{
    uint32_t usable = dispatch_usable(r, range);
    uint32_t one = 1u << (read->copy % range->files_n);
    return read->round > 0 && (usable & one) ? one : usable;
}

// dispatch_read sends pieces of a read while drives take them; true if none is left (or it failed).
static bool dispatch_read(struct disk_reader *r, uint32_t number, uint64_t now_ns)
{
    struct reading *read = &r->reads[number];
    struct plan_piece cut;
    while (plan_front(&read->plan, r->params.read_size, &cut)) {
        const struct disk_range *range = &read->in.range[cut.range];
        uint32_t copies = read_copies(r, read, range);
        if (!copies) {
            read_fail_drive(r, number, range);
            return true;
        }
        if (r->pieces_free_n == 0)
            return false;
        struct choice best = choose(r, range, copies, cut.bytes, false, true);
        if (drive_has_room(&r->drives[best.drive].drive)) {
            send_cut(r, number, &cut, &best, now_ns);
            continue;
        }
        // The best drive is full.  Another one takes the end of the read if it is done with that
        // before the best one would come to it: no drive idles that could help.
        uint64_t left = plan_left(&read->plan);
        struct choice other = choose(r, range, copies, cut.bytes, true, true);
        if (other.copy == NONE || other.finish_ns >= drive_finish_ns(&r->drives[best.drive].drive,
                                                                     left + r->ahead[best.drive])) {
            r->ahead[best.drive] += left;
            return false;
        }
        plan_back(&read->plan, r->params.read_size, &cut);
        send_cut(r, number, &cut, &other, now_ns);
    }
    return true;
}

// A drive that fails is looked at too: reads that have no other copy must not wait for it.
static bool any_use(const struct disk_reader *r)
{
    for (uint32_t i = 0; i < r->drives_n; i++)
        if (drive_has_room(&r->drives[i].drive) || r->drives[i].drive.breaker != DRIVE_CLOSED)
            return true;
    return false;
}

static void dispatch_queue(struct disk_reader *r, struct list *queue, uint64_t now_ns)
{
    for (uint32_t i = queue->first, next; i != NONE && any_use(r); i = next) {
        next = r->reads[i].next;
        if (dispatch_read(r, i, now_ns))
            read_queue_leave(r, i);
    }
}

void dispatch(struct disk_reader *r, uint64_t now_ns)
{
    if (r->held_n > 0)
        dispatch_held(r, now_ns);
    for (uint32_t i = 0; i < r->drives_n; i++) {
        r->ahead[i] = 0;
        drive_look(&r->drives[i].drive, now_ns);
    }
    dispatch_waiting(r, now_ns);
    dispatch_queue(r, &r->wanted, now_ns);
    if (r->wanted.first == NONE && r->waiting.first == NONE)
        dispatch_queue(r, &r->speculative, now_ns);
}

void dispatch_probe(struct disk_reader *r, uint32_t drive, uint64_t now_ns)
{
    struct piece *p = &r->pieces[drive];
    *p = (struct piece){.read = NONE,
                        .drive = drive,
                        .file = r->drives[drive].probe_file,
                        .cut = {.bytes = DISK_ALIGN, .need = 1}};
    send(r, drive, drive, now_ns);
}
