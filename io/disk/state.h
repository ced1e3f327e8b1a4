// SPDX-License-Identifier: MIT
// state: the inside of a reader, shared by reader.c (public functions), loop.c (disk thread),
// dispatch.c (which piece goes where), piece.c (what becomes of one) and measure.c (the probe).
//
// Numbers instead of pointers; NONE ends a list.  A read's entry belongs to the step thread while
// it is free, to the disk thread from its SUBMIT command on, to the step thread again from the
// entry in `done` that says it is final.
#pragma once
#include "base/clock.h"
#include "base/ring.h"
#include "io/disk/drive.h"
#include "io/disk/engine.h"
#include "io/disk/plan.h"
#include "io/disk/seam.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#define NONE          UINT32_MAX
#define FILES_MAX     16384u // 163 shards in 8 copies are 1304
#define IDS_N         8192u  // places in the table of ids: twice DISK_READS_MAX, a power of two
#define COMMANDS_N    32768u // at most five of each read wait: SUBMIT, twice WANT and CANCEL
#define DONES_N       8192u  // at most two of each read wait
#define DEPTH_DEFAULT 32u
#define SIZE_DEFAULT  (1u << 20)
#define WARNINGS_MAX  8u

static_assert(IDS_N >= 2 * DISK_READS_MAX && DONES_N >= 2 * DISK_READS_MAX, "sized by the reads");
static_assert(COMMANDS_N >= 5 * DISK_READS_MAX, "sized by the reads");

enum command_kind { COMMAND_SUBMIT, COMMAND_WANT, COMMAND_CANCEL };

struct command {
    uint32_t kind, read;
};

enum done_kind { DONE_FINAL, DONE_FIRST, DONE_SECOND }; // FIRST: in_flight, SECOND: no more

struct done_entry {
    uint32_t kind, read;
};

enum read_state {
    READ_FREE,
    READ_WANTED,      // in the queue of that name
    READ_SPECULATIVE, // in the queue of that name
    READ_SENT,        // nothing unsent, or dropped
    READ_STUCK,       // told, but a drive may still write
    READ_STATE_COUNT
};

struct reading {
    struct disk_read in; // step thread writes, before SUBMIT
    struct disk_done done;
    bool want_told, cancel_told; // step thread

    struct plan plan;
    enum read_state state;
    uint32_t next, prev;
    uint32_t in_flight, waiting, stuck; // its pieces
    bool speculative, cancelled;
    bool dropped;      // some piece was never read
    uint32_t round;    // times that check said no
    uint32_t copy;     // of a round after the first: read this one where it is
    uint32_t copies_n; // most of its ranges
};

enum piece_state { PIECE_FREE, PIECE_FLYING, PIECE_WAITING, PIECE_STUCK };

struct piece {
    uint32_t next, prev; // flying: of its drive, oldest first; waiting: of the reader; free
    uint32_t read;       // NONE: a probe of the breaker
    enum piece_state state;
    uint32_t drive, file, copy;
    struct plan_piece cut;
    uint32_t have;    // bytes from cut.off on that are there
    uint32_t sent;    // bytes of the request under way, from align_down(have) on
    uint32_t retries; // so far
    uint8_t tried;    // bit a copy
    uint64_t sent_ns;
    struct disk_seam_act act;
    bool held; // by the seam
};

struct list {
    uint32_t first, last;
};

struct reader_file {
    char *path;
    uint64_t bytes;
    uint32_t drive;
    bool direct;
};

struct reader_drive {
    char name[256];
    struct drive drive;
    struct list flying; // pieces
    uint32_t files_n, probe_file;
    int last_err;
    struct disk_drive_stats stats; // disk thread
    _Atomic uint64_t out[10];      // any thread: what disk_reader_stats shows
};

enum stop_state { STOP_RUNNING, STOP_STUCK, STOP_FINISHED, STOP_ABANDONED };

struct disk_reader {
    struct disk_params params; // queue_depth and read_size: 0 until chosen
    struct iovec *buffers;
    bool chosen_by_probe, refused_told;
    const struct engine_table *table;
    struct engine_io *io;
    const struct disk_seam *seam;
    char warnings[WARNINGS_MAX][FAULT_TEXT_MAX];
    uint32_t warnings_n;

    struct reader_file *files;
    struct engine_file *engine_files;
    uint32_t files_n, files_room;
    struct reader_drive *drives; // [DISK_DRIVES_MAX]
    uint32_t drives_n;

    // Step thread.
    uint32_t *ids; // [IDS_N] read + 1, by id; 0: empty
    uint32_t free_reads, reads_n;

    // Between the two.
    struct reading *reads; // [DISK_READS_MAX]
    struct ring *commands; // step -> disk
    struct ring *dones;    // disk -> step
    int disk_fd, step_fd;  // eventfds
    atomic_uint disk_sleeps, step_sleeps;
    atomic_uint stop, stop_asked;

    // Disk thread.
    pthread_t thread;
    bool started;
    clockid_t thread_clock;
    struct list wanted, speculative; // reads
    struct list waiting;             // pieces that failed or came short
    struct piece *pieces;            // [pieces_n]; the first drives_n are probes
    uint32_t pieces_n, pieces_free_n, free_pieces;
    uint32_t in_flight, held_n, dones_new;
    void *probe_memory; // [drives_n][DISK_ALIGN]
    bool stopping;
    uint64_t ahead[DISK_DRIVES_MAX]; // bytes that wait for a drive before the piece looked at
};

void reader_warn(struct disk_reader *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void reader_free(struct disk_reader *r);

// loop.c
void *loop_main(void *reader);

// dispatch.c: sends what may be sent.
void dispatch(struct disk_reader *r, uint64_t now_ns);
void dispatch_probe(struct disk_reader *r, uint32_t drive, uint64_t now_ns);
// dispatch_usable returns the copies (bits) of a range whose drives work.
uint32_t dispatch_usable(const struct disk_reader *r, const struct disk_range *range);

// piece.c: what becomes of pieces and reads.
void read_begin(struct disk_reader *r, uint32_t read);
void read_want(struct disk_reader *r, uint32_t read);
void read_cancel(struct disk_reader *r, uint32_t read);
void read_fail_drive(struct disk_reader *r, uint32_t read, const struct disk_range *range);
void read_settle(struct disk_reader *r, uint32_t read);
void read_queue_leave(struct disk_reader *r, uint32_t read);
uint32_t piece_new(struct disk_reader *r, uint32_t read);
void piece_ended(struct disk_reader *r, uint32_t piece, int32_t res, uint64_t now_ns);
void piece_timed_out(struct disk_reader *r, uint32_t piece, uint64_t now_ns);

// Lists of pieces and of reads.
void pieces_append(struct disk_reader *r, struct list *list, uint32_t piece);
void pieces_remove(struct disk_reader *r, struct list *list, uint32_t piece);
