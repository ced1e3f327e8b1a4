// SPDX-License-Identifier: MIT
#include "io/disk/state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

void pieces_append(struct disk_reader *r, struct list *list, uint32_t piece)
{
    r->pieces[piece].next = NONE;
    r->pieces[piece].prev = list->last;
    if (list->last == NONE)
        list->first = piece;
    else
        r->pieces[list->last].next = piece;
    list->last = piece;
}

void pieces_remove(struct disk_reader *r, struct list *list, uint32_t piece)
{
    struct piece *p = &r->pieces[piece];
    if (p->prev == NONE)
        list->first = p->next;
    else
        r->pieces[p->prev].next = p->next;
    if (p->next == NONE)
        list->last = p->prev;
    else
        r->pieces[p->next].prev = p->prev;
}

static struct list *read_queue(struct disk_reader *r, const struct reading *read)
{
    return read->state == READ_WANTED        ? &r->wanted
           : read->state == READ_SPECULATIVE ? &r->speculative
                                             : NULL;
}

static void read_queue_join(struct disk_reader *r, uint32_t number, enum read_state state)
{
    struct reading *read = &r->reads[number];
    read->state = state;
    struct list *list = read_queue(r, read);
    read->next = NONE;
    read->prev = list->last;
    if (list->last == NONE)
        list->first = number;
    else
        r->reads[list->last].next = number;
    list->last = number;
}

void read_queue_leave(struct disk_reader *r, uint32_t number)
{
    struct reading *read = &r->reads[number];
    struct list *list = read_queue(r, read);
    if (!list)
        return;
    if (read->prev == NONE)
        list->first = read->next;
    else
        r->reads[read->prev].next = read->next;
    if (read->next == NONE)
        list->last = read->prev;
    else
        r->reads[read->next].prev = read->prev;
    read->state = READ_SENT;
}

uint32_t piece_new(struct disk_reader *r, uint32_t read)
{
    uint32_t number = r->free_pieces;
    r->free_pieces = r->pieces[number].next;
    r->pieces_free_n--;
    r->pieces[number] = (struct piece){.read = read};
    return number;
}

static void piece_free(struct disk_reader *r, uint32_t number)
{
    struct piece *p = &r->pieces[number];
    p->state = PIECE_FREE;
    if (p->read == NONE)
        return; // a probe's entry is its drive's own
    p->next = r->free_pieces;
    r->free_pieces = number;
    r->pieces_free_n++;
}

static void tell(struct disk_reader *r, uint32_t number, enum done_kind kind)
{
    struct done_entry entry = {.kind = kind, .read = number};
    ring_push(r->dones, &entry); // has room for two of each read
    r->dones_new++;
}

// drop forgets what was not sent.
static void drop(struct disk_reader *r, uint32_t number)
{
    struct reading *read = &r->reads[number];
    if (plan_left(&read->plan) > 0 || read->waiting > 0)
        read->dropped = true;
    read->plan.first = read->plan.spans_n;
    read_queue_leave(r, number);
    for (uint32_t i = r->waiting.first, next; i != NONE && read->waiting > 0; i = next) {
        next = r->pieces[i].next;
        if (r->pieces[i].read != number)
            continue;
        pieces_remove(r, &r->waiting, i);
        piece_free(r, i);
        read->waiting--;
    }
}

static void read_plan(struct disk_reader *r, uint32_t number, enum read_state state)
{
    struct reading *read = &r->reads[number];
    plan_make(&read->plan, read->in.range, read->in.ranges_n);
    read->dropped = false;
    read_queue_join(r, number, state);
}

void read_begin(struct disk_reader *r, uint32_t number)
{
    struct reading *read = &r->reads[number];
    uint32_t copies_n = 1;
    for (uint32_t i = 0; i < read->in.ranges_n; i++)
        if (read->in.range[i].files_n > copies_n)
            copies_n = read->in.range[i].files_n;
    read->in_flight = read->waiting = read->stuck = read->round = 0;
    read->cancelled = false;
    read->speculative = read->in.speculative;
    read->copies_n = copies_n;
    read_plan(r, number, read->speculative ? READ_SPECULATIVE : READ_WANTED);
}

void read_want(struct disk_reader *r, uint32_t number)
{
    struct reading *read = &r->reads[number];
    if (read->state == READ_FREE)
        return; // told already: the entry is the step thread's
    read->speculative = false;
    if (read->state != READ_SPECULATIVE)
        return;
    read_queue_leave(r, number);
    read_queue_join(r, number, READ_WANTED);
}

void read_cancel(struct disk_reader *r, uint32_t number)
{
    struct reading *read = &r->reads[number];
    if (read->state == READ_FREE || read->state == READ_STUCK)
        return; // told already
    read->cancelled = true;
    drop(r, number);
    read_settle(r, number);
}

// again plans the whole read once more, from one copy, other ones than before first.
static bool again(struct disk_reader *r, uint32_t number)
{
    struct reading *read = &r->reads[number];
    for (uint32_t i = 0; i < read->in.ranges_n; i++)
        for (uint32_t k = 0; k < read->in.range[i].files_n; k++)
            if (r->files[read->in.range[i].file[k]].drive == read->done.drive && read->round == 0)
                read->copy = k; // whose piece came last
    if (read->round >= read->copies_n || read->cancelled || r->stopping)
        return false;
    r->drives[read->done.drive].stats.retries++;
    read->round++;
    read->copy = (read->copy + 1) % read->copies_n;
    read_plan(r, number, read->speculative ? READ_SPECULATIVE : READ_WANTED);
    return true;
}

static int read_check(struct disk_reader *r, uint32_t number)
{
    struct reading *read = &r->reads[number];
    if (!r->params.check || r->stopping)
        return 0;
    int err =
        r->params.check(r->params.check_user, read->in.id, r->buffers[read->in.buffer].iov_base);
    if (err == 0)
        return 0;
    r->drives[read->done.drive].stats.mismatches++;
    const struct disk_range *range = &read->in.range[0];
    return fault_set(&read->done.fault, EBADMSG,
                     "%s: the bytes from offset %llu on are not those of their checksum, read %u "
                     "times from %u copies: the file or the drive is damaged (verify the files)",
                     r->files[range->file[read->copy % range->files_n]].path,
                     (unsigned long long)range->off, read->round + 1, read->copies_n);
}

void read_settle(struct disk_reader *r, uint32_t number)
{
    struct reading *read = &r->reads[number];
    if (read->state != READ_SENT || read->in_flight > 0 || read->waiting > 0)
        return;
    struct disk_done *done = &read->done;
    if (done->err == 0 && read->dropped)
        done->err = fault_set(&done->fault, ECANCELED, "cancelled");
    if (done->err == 0) {
        int err = read_check(r, number);
        if (err < 0 && again(r, number))
            return;
        done->err = err;
    }
    if (done->err == 0)
        done->fault = (struct fault){0};
    done->landed_ns = clock_ns();
    done->in_flight = read->stuck > 0;
    read->state = done->in_flight ? READ_STUCK : READ_FREE;
    tell(r, number, done->in_flight ? DONE_FIRST : DONE_FINAL);
}

static void read_fail(struct disk_reader *r, uint32_t number)
{
    drop(r, number);
    read_settle(r, number);
}

void read_fail_drive(struct disk_reader *r, uint32_t number, const struct disk_range *range)
{
    struct reading *read = &r->reads[number];
    const struct reader_file *file = &r->files[range->file[0]];
    const struct reader_drive *drive = &r->drives[file->drive];
    if (read->done.err == 0) {
        read->done.drive = file->drive;
        read->done.err = fault_set(
            &read->done.fault, EIO,
            "%s: not read at offset %llu: drive %s is failing (%s)%s; it is tried again by itself",
            file->path, (unsigned long long)range->off, drive->name, strerror(drive->last_err),
            range->files_n > 1 ? ", and so are those of the other copies" : "");
    }
    read_fail(r, number);
}

static void piece_wait(struct disk_reader *r, uint32_t number)
{
    r->pieces[number].state = PIECE_WAITING;
    pieces_append(r, &r->waiting, number);
    r->reads[r->pieces[number].read].waiting++;
}

// shorter tells how long the file is now, which is not what it was when it was opened.
static void shorter(struct disk_reader *r, const struct piece *p, struct fault *fault)
{
    struct stat st = {0};
    fstat(r->engine_files[p->file].fd, &st);
    fault_set(fault, EBADMSG,
              "%s: file is shorter than it was: bytes up to %llu are needed and it ends near %llu "
              "(it had %llu when it was opened): do not change a model while it is served",
              r->files[p->file].path, (unsigned long long)(p->cut.off + p->cut.need),
              S_ISREG(st.st_mode) ? (unsigned long long)st.st_size
                                  : (unsigned long long)(p->cut.off + p->have),
              (unsigned long long)r->files[p->file].bytes);
}

static void piece_fault(struct disk_reader *r, const struct piece *p, int err, struct fault *fault)
{
    const char *path = r->files[p->file].path;
    const char *name = r->drives[p->drive].name;
    unsigned long long off = p->cut.off;
    if (err == EBADMSG)
        shorter(r, p, fault);
    else if (err == ETIMEDOUT)
        fault_set(fault, ETIMEDOUT,
                  "%s: %u bytes at offset %llu: drive %s did not answer within %.3g s", path,
                  p->cut.bytes, off, name, (double)r->params.timeout_us / 1e6);
    else
        fault_set(fault, EIO, "%s: %u bytes at offset %llu: %s (drive %s, tried %u times)", path,
                  p->cut.bytes, off, strerror(err), name, p->retries + 1);
}

// give_up ends a piece's read with its sentence.
static void give_up(struct disk_reader *r, uint32_t number, int err)
{
    struct piece *p = &r->pieces[number];
    struct reading *read = &r->reads[p->read];
    if (read->done.err == 0 && !read->cancelled) {
        piece_fault(r, p, err, &read->done.fault);
        read->done.err = -read->done.fault.err;
        read->done.drive = p->drive;
    }
    read->dropped = true;
}

static uint32_t untried(const struct disk_reader *r, const struct piece *p)
{
    return dispatch_usable(r, &r->reads[p->read].in.range[p->cut.range]) & ~(uint32_t)p->tried;
}

// retry says whether the piece shall be read once more: from another copy, or, within the limit,
// from any.  A file that ends is not longer the next time, a drive that does not answer holds more.
static bool retry(struct disk_reader *r, struct piece *p, int err)
{
    const struct reading *read = &r->reads[p->read];
    if (read->done.err < 0 || read->cancelled || r->stopping)
        return false;
    if (untried(r, p))
        return true;
    if (err == EBADMSG || err == ETIMEDOUT || p->retries >= r->params.retries)
        return false;
    p->retries++;
    p->tried = 0;
    return true;
}

static void drive_fault(struct disk_reader *r, const struct piece *p, int err, uint64_t now_ns)
{
    struct reader_drive *drive = &r->drives[p->drive];
    if (r->stopping)
        return; // it was we who ended it
    if (err == ETIMEDOUT)
        drive->stats.timeouts++;
    else
        drive->stats.errors++;
    if (err == EBADMSG)
        return; // the drive answered
    drive->last_err = err;
    drive->probe_file = p->file;
    drive_failed(&drive->drive, now_ns);
}

static void piece_failed(struct disk_reader *r, uint32_t number, int err, uint64_t now_ns)
{
    struct piece *p = &r->pieces[number];
    uint32_t read = p->read;
    drive_fault(r, p, err, now_ns);
    p->tried |= (uint8_t)(1u << p->copy);
    if (retry(r, p, err)) {
        r->drives[p->drive].stats.retries++;
        piece_wait(r, number);
        return;
    }
    give_up(r, number, err);
    piece_free(r, number);
    read_fail(r, read);
}

// seam_after does to an answer what the seam decided.
static int32_t seam_after(const struct disk_reader *r, const struct piece *p, int32_t res)
{
    if (p->act.kind == DISK_SEAM_ERROR)
        return -(int32_t)p->act.value;
    if (p->act.kind == DISK_SEAM_SHORT && res > 0 && (uint64_t)res > p->act.value)
        return (int32_t)p->act.value;
    if (p->act.kind == DISK_SEAM_FLIP && res > 0 && p->read != NONE) {
        unsigned char *at = r->buffers[r->reads[p->read].in.buffer].iov_base;
        uint64_t bit = p->act.value % ((uint64_t)res * 8);
        at[p->cut.dst + (p->have & ~(DISK_ALIGN - 1)) + bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    return res;
}

static void probe_ended(struct disk_reader *r, uint32_t number, int32_t res, uint64_t now_ns)
{
    struct reader_drive *drive = &r->drives[r->pieces[number].drive];
    if (res < 0)
        drive->last_err = -res;
    drive_probe_ended(&drive->drive, res >= 0, now_ns);
    piece_free(r, number);
}

// A late answer: its read has been told; the buffer is free once the last one is in.
static void stuck_ended(struct disk_reader *r, uint32_t number, int32_t res, uint64_t now_ns)
{
    struct piece *p = &r->pieces[number];
    struct reading *read = &r->reads[p->read];
    drive_unstuck(&r->drives[p->drive].drive, res >= 0, now_ns);
    read->stuck--;
    if (read->state == READ_STUCK && read->stuck == 0) {
        read->state = READ_FREE;
        tell(r, p->read, DONE_SECOND);
    }
    piece_free(r, number);
}

static void piece_landed(struct disk_reader *r, uint32_t number, int32_t res, uint64_t now_ns)
{
    struct piece *p = &r->pieces[number];
    struct reading *read = &r->reads[p->read];
    uint32_t had = p->have;
    uint32_t have = (had & ~(DISK_ALIGN - 1)) + (uint32_t)res;
    if (have > had)
        p->have = have;
    if (p->have >= p->cut.need) {
        drive_succeeded(&r->drives[p->drive].drive);
        read->done.drive = p->drive;
        uint32_t number_read = p->read;
        piece_free(r, number);
        read_settle(r, number_read);
    } else if (have > had && !read->cancelled && read->done.err == 0) { // the rest
        r->drives[p->drive].stats.retries++;
        piece_wait(r, number);
    } else {
        piece_failed(r, number, EBADMSG, now_ns);
    }
}

void piece_ended(struct disk_reader *r, uint32_t number, int32_t res, uint64_t now_ns)
{
    struct piece *p = &r->pieces[number];
    struct reader_drive *drive = &r->drives[p->drive];
    if (p->act.kind != DISK_SEAM_PASS)
        res = seam_after(r, p, res);
    uint64_t got = res > 0 ? (uint64_t)res : 0;
    drive_ended(&drive->drive, p->cut.bytes, got, now_ns);
    drive->stats.bytes += got;
    drive->stats.pieces++;
    r->in_flight--;
    if (p->read == NONE) {
        probe_ended(r, number, res, now_ns);
        return;
    }
    if (p->state == PIECE_STUCK) {
        stuck_ended(r, number, res, now_ns);
        return;
    }
    pieces_remove(r, &drive->flying, number);
    r->reads[p->read].in_flight--;
    r->reads[p->read].done.bytes += got;
    if (res < 0)
        piece_failed(r, number, -res, now_ns);
    else
        piece_landed(r, number, res, now_ns);
}

// The entry stays with the request, which may still write; another one takes the job over.
void piece_timed_out(struct disk_reader *r, uint32_t number, uint64_t now_ns)
{
    struct piece *p = &r->pieces[number];
    uint32_t read_number = p->read;
    struct reading *read = &r->reads[read_number];
    pieces_remove(r, &r->drives[p->drive].flying, number);
    p->state = PIECE_STUCK;
    read->in_flight--;
    read->stuck++;
    drive_stuck(&r->drives[p->drive].drive);
    drive_fault(r, p, ETIMEDOUT, now_ns);
    if (!p->held)
        r->table->cancel(r->io, number);
    p->tried |= (uint8_t)(1u << p->copy);
    if (r->pieces_free_n > 0 && retry(r, p, ETIMEDOUT)) {
        uint32_t heir = piece_new(r, read_number);
        r->pieces[heir].cut = p->cut;
        r->pieces[heir].tried = p->tried;
        r->pieces[heir].retries = p->retries;
        r->drives[p->drive].stats.retries++;
        piece_wait(r, heir);
        return;
    }
    give_up(r, number, ETIMEDOUT);
    read_fail(r, read_number);
}
