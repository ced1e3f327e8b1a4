// SPDX-License-Identifier: MIT
// disk_drive: the average speed, expected times, and every move of the circuit breaker.
#include "io/disk/drive.h"
#include "tests/check.h"

#define MS 1000000ull
#define S  1000000000ull

// A drive that gives `rate` bytes/s, with pieces of 1 MB always in flight, for `ns`.
static uint64_t feed(struct drive *d, uint64_t rate, uint64_t now, uint64_t ns)
{
    uint64_t each = 1000000 * S / rate;
    for (uint64_t end = now + ns; now < end; now += each) {
        drive_sent(d, 1000000, now);
        drive_ended(d, 1000000, 1000000, now + each);
    }
    return now;
}

static void rates(void)
{
    struct drive d;
    drive_init(&d, 4);
    CHECK(d.rate == DRIVE_RATE_UNKNOWN && !d.measured);
    uint64_t now = feed(&d, 200000000, 5 * S, S);
    CHECK(d.measured && d.rate > 195000000 && d.rate < 205000000);
    CHECK(d.busy_ns == S);
    now = feed(&d, 100000000, now + 100 * S, S); // the pause does not count
    CHECK(d.rate > 99000000 && d.rate < 102000000);
    CHECK(d.busy_ns == 2 * S);
    CHECK(drive_finish_ns(&d, 1000000) > 9 * MS && drive_finish_ns(&d, 1000000) < 11 * MS);
    drive_sent(&d, 1000000, now);
    CHECK(drive_finish_ns(&d, 1000000) > 19 * MS && drive_finish_ns(&d, 1000000) < 21 * MS);
    now += 1000 * S; // no answer for long
    drive_ended(&d, 1000000, 0, now);
    CHECK(d.rate >= 1u << 20); // still worth a try
    CHECK(d.in_flight == 0 && d.outstanding == 0);
}

// A drive that is silent for longer than what it has should take is expected that much later.
static void late(void)
{
    struct drive d;
    drive_init(&d, 4);
    uint64_t now = feed(&d, 100000000, 5 * S, S);
    drive_look(&d, now + 100 * S); // has nothing to do
    CHECK(d.late_ns == 0);
    drive_sent(&d, 1000000, now);
    drive_look(&d, now + 9 * MS); // 10 ms are due
    CHECK(d.late_ns == 0);
    drive_look(&d, now + S);
    CHECK(d.late_ns > 980 * MS && drive_finish_ns(&d, 0) > S - 10 * MS);
    drive_ended(&d, 1000000, 1000000, now + S);
    drive_look(&d, now + 2 * S);
    CHECK(d.late_ns == 0);
}

static void room(void)
{
    struct drive d;
    drive_init(&d, 2);
    CHECK(drive_has_room(&d));
    drive_sent(&d, 4096, 1);
    CHECK(drive_has_room(&d));
    drive_sent(&d, 4096, 1);
    CHECK(!drive_has_room(&d));
    drive_ended(&d, 4096, 4096, 2);
    CHECK(drive_has_room(&d));
}

static void breaker(void)
{
    struct drive d;
    uint64_t now = 10 * S;
    drive_init(&d, 8);
    for (uint32_t i = 1; i < DRIVE_FAILURES_MAX; i++)
        CHECK(!drive_failed(&d, now));
    drive_succeeded(&d); // the count begins anew
    for (uint32_t i = 1; i < DRIVE_FAILURES_MAX; i++)
        CHECK(!drive_failed(&d, now));
    CHECK(d.breaker == DRIVE_CLOSED && !drive_probe_due(&d, now + 100 * S));
    CHECK(drive_failed(&d, now));
    CHECK(d.breaker == DRIVE_OPEN && !drive_has_room(&d));
    CHECK(!drive_failed(&d, now)); // late failures of pieces that were in flight

    uint64_t pause = S;
    for (uint32_t i = 0; i < 8; i++) { // 1, 2, 4 .. 30, 30 s
        CHECK(!drive_probe_due(&d, now + pause - 1));
        CHECK(drive_probe_due(&d, now + pause));
        CHECK(d.breaker == DRIVE_HALF_OPEN && !drive_has_room(&d));
        CHECK(!drive_probe_due(&d, now + 1000 * S)); // one at a time
        now += pause;
        drive_probe_ended(&d, false, now);
        CHECK(d.breaker == DRIVE_OPEN);
        pause = 2 * pause < 30 * S ? 2 * pause : 30 * S;
    }
    CHECK(drive_probe_due(&d, now + pause));
    drive_probe_ended(&d, true, now + pause);
    CHECK(d.breaker == DRIVE_CLOSED && drive_has_room(&d));
    CHECK(!drive_failed(&d, now)); // four again
}

// A queue that is stuck as a whole opens at once, and is asked when something comes back.
static void stuck(void)
{
    struct drive d;
    drive_init(&d, 2);
    for (int i = 0; i < 2; i++)
        drive_sent(&d, 4096, S);
    drive_stuck(&d);
    CHECK(!drive_failed(&d, 2 * S));
    drive_stuck(&d);
    CHECK(drive_failed(&d, 2 * S));
    CHECK(!drive_probe_due(&d, 100 * S)); // a probe would be stuck too
    drive_ended(&d, 4096, 4096, 100 * S);
    drive_unstuck(&d, true, 100 * S);
    CHECK(drive_probe_due(&d, 100 * S));
    drive_probe_ended(&d, true, 100 * S);
    CHECK(drive_has_room(&d));
}

int main(void)
{
    rates();
    late();
    room();
    breaker();
    stuck();
    return 0;
}
