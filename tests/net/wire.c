// SPDX-License-Identifier: MIT
// wire: a bad line between two devices: it loses, holds back, doubles and damages frames, from a
// seed.
//
//     wire LEFT RIGHT [seed=N] [loss=P] [duplicate=P] [corrupt=P] [reorder=P] [held=US] [delay=US]
//          [jitter=US]
//
// LEFT and RIGHT are numbers of inherited descriptors that give a frame a read and take a frame a
// write: of /dev/net/tun or of a packet socket bound to an interface.  P are frames in a hundred,
// in decimal.  Every frame is late by `delay`, and by up to `jitter` more without overtaking
// another; one that is reordered is held for `held` on top, so that others pass it.  What is
// damaged is one byte of an IP packet, which a checksum of IPv4's header, of ICMPv6, UDP or TCP can
// see; ARP has none and the Ethernet one is not there, so those bytes are left as they are.
// It prints "ready"; on SIGTERM or SIGINT, or when a device is gone, what it did as JSON, and ends.
// tests/net/lab.py makes the descriptors.
#include "base/clock.h"

#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX   2048u // one with a VLAN tag and a little more; longer ones are lost
#define FLIGHT_MAX  4096u // frames under way in one direction; more are lost, as in a full switch
#define ETHER_BYTES 14u
#define PER_MILLION 10000.0 // of one in a hundred

struct rates { // in a million
    uint32_t loss, duplicate, corrupt, reorder;
    uint64_t held_us, delay_us, jitter_us;
};

struct counts {
    uint64_t taken, delivered, lost, duplicated, corrupted, reordered, overflowed, refused;
};

struct flying {
    uint64_t due_us;
    uint64_t order; // of two that are due at the same time
    uint32_t n;
    uint8_t bytes[FRAME_MAX];
};

struct direction {
    int from, to;
    struct flying *heap[FLIGHT_MAX]; // the one that is due first lies at 0
    uint32_t n;
    struct flying *spare[FLIGHT_MAX];
    uint32_t spare_n;
    uint64_t order, last_us;
    struct counts counts;
};

static volatile sig_atomic_t stopped;

static void stop(int number)
{
    (void)number;
    stopped = 1;
}

static bool earlier(const struct flying *a, const struct flying *b)
{
    return a->due_us < b->due_us || (a->due_us == b->due_us && a->order < b->order);
}

static void heap_put(struct direction *d, struct flying *f)
{
    uint32_t i = d->n++;
    while (i > 0 && earlier(f, d->heap[(i - 1) / 2])) {
        d->heap[i] = d->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    d->heap[i] = f;
}

static struct flying *heap_take(struct direction *d)
{
    struct flying *first = d->heap[0], *last = d->heap[--d->n];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= d->n)
            break;
        if (child + 1 < d->n && earlier(d->heap[child + 1], d->heap[child]))
            child++;
        if (!earlier(d->heap[child], last))
            break;
        d->heap[i] = d->heap[child];
        i = child;
    }
    d->heap[i] = last;
    return first;
}

static bool happens(uint64_t *random, uint32_t rate)
{
    return check_random(random) % 1000000 < rate;
}

// damage changes one byte of an IP packet.  Returns false if there is none.
static bool damage(struct flying *f, uint64_t *random)
{
    if (f->n <= ETHER_BYTES)
        return false;
    uint32_t type = (uint32_t)f->bytes[12] << 8 | f->bytes[13];
    if (type != 0x0800 && type != 0x86dd)
        return false;
    uint32_t at = ETHER_BYTES + (uint32_t)(check_random(random) % (f->n - ETHER_BYTES));
    f->bytes[at] ^= (uint8_t)(1 + check_random(random) % 255);
    return true;
}

static void launch(struct direction *d, const struct rates *rates, uint64_t *random,
                   const struct flying *frame, uint64_t now_us)
{
    if (d->spare_n == 0) {
        d->counts.overflowed++;
        return;
    }
    struct flying *f = d->spare[--d->spare_n];
    memcpy(f->bytes, frame->bytes, frame->n);
    f->n = frame->n;
    f->order = d->order++;
    if (happens(random, rates->corrupt) && damage(f, random))
        d->counts.corrupted++;
    uint64_t due_us = now_us + rates->delay_us;
    if (rates->jitter_us > 0)
        due_us += check_random(random) % (rates->jitter_us + 1);
    if (due_us < d->last_us)
        due_us = d->last_us;
    d->last_us = due_us;
    if (happens(random, rates->reorder)) {
        due_us += rates->held_us;
        d->counts.reordered++;
    }
    f->due_us = due_us;
    heap_put(d, f);
}

// take reads what has come, up to a burst.  Returns false when the device is gone.
static bool take(struct direction *d, const struct rates *rates, uint64_t *random)
{
    struct flying frame;
    for (uint32_t i = 0; i < 64; i++) {
        ssize_t n = read(d->from, frame.bytes, sizeof(frame.bytes));
        if (n < 0)
            return errno == EAGAIN || errno == EINTR || errno == ENETDOWN;
        frame.n = (uint32_t)n;
        d->counts.taken++;
        if (happens(random, rates->loss)) {
            d->counts.lost++;
            continue;
        }
        uint64_t now_us = clock_us();
        launch(d, rates, random, &frame, now_us);
        if (happens(random, rates->duplicate)) {
            d->counts.duplicated++;
            launch(d, rates, random, &frame, now_us);
        }
    }
    return true;
}

// land delivers what is due.  Returns when the next one is, UINT64_MAX for none.
static uint64_t land(struct direction *d)
{
    while (d->n > 0 && d->heap[0]->due_us <= clock_us()) {
        struct flying *f = heap_take(d);
        if (write(d->to, f->bytes, f->n) == (ssize_t)f->n)
            d->counts.delivered++;
        else
            d->counts.refused++; // a full queue, or what was damaged is no frame any more
        d->spare[d->spare_n++] = f;
    }
    return d->n > 0 ? d->heap[0]->due_us : UINT64_MAX;
}

static void run(struct direction both[2], const struct rates *rates, uint64_t seed,
                const sigset_t *waiting)
{
    struct pollfd fds[2] = {{.fd = both[0].from, .events = POLLIN},
                            {.fd = both[1].from, .events = POLLIN}};
    uint64_t random = seed;
    while (!stopped) {
        uint64_t next_us = land(&both[0]), other_us = land(&both[1]), now_us = clock_us();
        next_us = next_us < other_us ? next_us : other_us;
        uint64_t wait_us = next_us == UINT64_MAX ? 1000000
                           : next_us > now_us    ? next_us - now_us
                                                 : 0;
        struct timespec wait = {.tv_sec = (time_t)(wait_us / 1000000),
                                .tv_nsec = (long)(wait_us % 1000000) * 1000};
        if (ppoll(fds, 2, &wait, waiting) <= 0)
            continue;
        for (uint32_t i = 0; i < 2; i++)
            if (fds[i].revents && !take(&both[i], rates, &random))
                return;
    }
}

static void counts_print(const char *name, const struct counts *c)
{
    printf("\"%s\":{\"taken\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"lost\":%" PRIu64
           ",\"duplicated\":%" PRIu64 ",\"corrupted\":%" PRIu64 ",\"reordered\":%" PRIu64
           ",\"overflowed\":%" PRIu64 ",\"refused\":%" PRIu64 "}",
           name, c->taken, c->delivered, c->lost, c->duplicated, c->corrupted, c->reordered,
           c->overflowed, c->refused);
}

static int descriptor(const char *text)
{
    char *end;
    long fd = strtol(text, &end, 10);
    if (end == text || *end || fd < 0 || fd > 1 << 20 || fcntl((int)fd, F_SETFL, O_NONBLOCK) != 0)
        CHECK_FAIL("LEFT and RIGHT are open descriptors");
    return (int)fd;
}

static void word_read(const char *word, struct rates *rates, uint64_t *seed)
{
    const struct {
        const char *name;
        uint32_t *million;
        uint64_t *whole;
    } words[] = {{"loss=", &rates->loss, NULL},        {"duplicate=", &rates->duplicate, NULL},
                 {"corrupt=", &rates->corrupt, NULL},  {"reorder=", &rates->reorder, NULL},
                 {"held=", NULL, &rates->held_us},     {"delay=", NULL, &rates->delay_us},
                 {"jitter=", NULL, &rates->jitter_us}, {"seed=", NULL, seed}};
    for (uint32_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t len = strlen(words[i].name);
        char *end;
        if (strncmp(word, words[i].name, len) != 0)
            continue;
        double value = strtod(word + len, &end);
        if (end == word + len || *end || !(value >= 0) || value > 1e9 ||
            (words[i].million && value > 100))
            CHECK_FAIL("a number that is none");
        if (words[i].million)
            *words[i].million = (uint32_t)(value * PER_MILLION + 0.5);
        else
            *words[i].whole = (uint64_t)value;
        return;
    }
    CHECK_FAIL("an unknown word; wire.c tells them");
}

int main(int argc, char **argv)
{
    struct rates rates = {0};
    uint64_t seed = 1;
    if (argc < 3)
        CHECK_FAIL("usage: wire LEFT RIGHT [WORD=NUMBER]...");
    int left = descriptor(argv[1]), right = descriptor(argv[2]);
    for (int i = 3; i < argc; i++)
        word_read(argv[i], &rates, &seed);
    if (seed == 0)
        CHECK_FAIL("seed=0 gives nothing but zeros");

    struct direction *both = calloc(2, sizeof(*both));
    struct flying *frames = calloc((size_t)2 * FLIGHT_MAX, sizeof(*frames));
    if (!both || !frames)
        CHECK_FAIL("no memory");
    for (uint32_t i = 0; i < 2; i++) {
        both[i].from = i == 0 ? left : right;
        both[i].to = i == 0 ? right : left;
        both[i].spare_n = FLIGHT_MAX;
        for (uint32_t k = 0; k < FLIGHT_MAX; k++)
            both[i].spare[k] = &frames[i * FLIGHT_MAX + k];
    }

    sigset_t stopping, waiting;
    sigemptyset(&stopping);
    sigaddset(&stopping, SIGTERM);
    sigaddset(&stopping, SIGINT);
    sigprocmask(SIG_BLOCK, &stopping, &waiting); // they come during ppoll only
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    puts("ready");
    fflush(stdout);
    run(both, &rates, seed, &waiting);
    printf("{");
    counts_print("right", &both[0].counts);
    printf(",");
    counts_print("left", &both[1].counts);
    printf("}\n");
    free(frames);
    free(both);
    return 0;
}
