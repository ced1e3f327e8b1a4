// SPDX-License-Identifier: MIT
// drive: what the reader knows of a drive: how much it has been given, how fast it has been, and
// whether it works (circuit breaker).  Pure: times are arguments.
//
// Breaker: closed (in use) -> open after DRIVE_FAILURES_MAX failures in a row -> half-open while a
// probe is under way -> closed if it succeeds, else open with twice the pause.
// Owner: the disk thread.
#pragma once
#include <stdbool.h>
#include <stdint.h>

// 4: a piece that fails on its last copy with 3 retries has been tried as often; fewer would leave
// a drive for one bad sector met while nothing else was read.
#define DRIVE_FAILURES_MAX 4u
#define DRIVE_PAUSE_NS_MIN 1000000000ull
#define DRIVE_PAUSE_NS_MAX 30000000000ull
#define DRIVE_RATE_UNKNOWN 1000000000ull // bytes/s: equal for all until measured

enum drive_breaker { DRIVE_CLOSED, DRIVE_OPEN, DRIVE_HALF_OPEN, DRIVE_BREAKER_COUNT };

struct drive {
    uint32_t depth;       // pieces in flight at most
    uint32_t in_flight;   // pieces, stuck ones too
    uint32_t stuck;       // of them: took too long
    uint64_t outstanding; // their bytes
    uint64_t rate;        // bytes/s while busy, moving average
    uint64_t window_bytes, window_ns, event_ns;
    uint64_t heard_ns; // last answer, or begin of being busy
    uint64_t late_ns;  // see drive_look
    uint64_t busy_ns;  // sum
    bool measured;     // rate is not DRIVE_RATE_UNKNOWN any more
    enum drive_breaker breaker;
    uint32_t failures; // in a row
    uint64_t pause_ns, probe_at_ns;
};

void drive_init(struct drive *d, uint32_t depth);
// drive_look notes by how much a drive has been silent for longer than all it has should take: it
// is slower now than it was, by how much nobody knows.
void drive_look(struct drive *d, uint64_t now_ns);
// drive_finish_ns returns how long until `bytes` more would be there.
uint64_t drive_finish_ns(const struct drive *d, uint64_t bytes);
bool drive_has_room(const struct drive *d);
void drive_sent(struct drive *d, uint64_t bytes, uint64_t now_ns);
// drive_ended: a piece of `bytes` left the drive's queue, of which `got` came.
void drive_ended(struct drive *d, uint64_t bytes, uint64_t got, uint64_t now_ns);

void drive_succeeded(struct drive *d);
// drive_failed counts a failure; true if it opened the breaker.
bool drive_failed(struct drive *d, uint64_t now_ns);
// drive_stuck: a piece took too long; drive_unstuck: its answer came (drive_ended too).  A drive
// whose whole queue is stuck is open until one comes back.
void drive_stuck(struct drive *d);
void drive_unstuck(struct drive *d, bool good, uint64_t now_ns);
// drive_probe_due says whether to send a probe now; it is half-open from then on.
bool drive_probe_due(struct drive *d, uint64_t now_ns);
void drive_probe_ended(struct drive *d, bool good, uint64_t now_ns);
