// SPDX-License-Identifier: MIT
// ring: order, full and empty, counters that wrap, and two real threads.
#include "base/histogram.h"
#include "base/ring.h"
#include "base/wake.h"
#include "tests/check.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

struct entry {
    uint32_t number;
    uint32_t twice;
    uint64_t pad;
};

static void test_limits(void)
{
    struct ring *ring = NULL;
    CHECK(ring_create(0, 4, &ring) == -EINVAL);
    CHECK(ring_create(1, 4, &ring) == -EINVAL);
    CHECK(ring_create(3, 4, &ring) == -EINVAL);
    CHECK(ring_create(1u << 25, 4, &ring) == -EINVAL);
    CHECK(ring_create(4, 0, &ring) == -EINVAL);
    CHECK(ring_create(4, 4097, &ring) == -EINVAL);
    CHECK(ring == NULL);
    ring_destroy(&ring);
}

static void test_full_empty(void)
{
    struct ring *ring = NULL;
    struct entry out = {0};
    CHECK(ring_create(4, sizeof(out), &ring) == 0);
    CHECK(!ring_pop(ring, &out));
    CHECK(ring_space(ring) == 4);

    uint32_t in = 0, got = 0;
    uint64_t seed = 7;
    for (uint32_t round = 0; round < 1000; round++) { // the counters pass the end of the slots
        uint32_t n = (uint32_t)(check_random(&seed) % 5);
        for (uint32_t i = 0; i < n; i++) {
            bool fits = in - got < 4;
            struct entry entry = {.number = in, .twice = 2 * in};
            CHECK(ring_space(ring) == 4 - (in - got));
            CHECK(ring_push(ring, &entry) == fits);
            in += fits;
        }
        CHECK(ring_depth(ring) == in - got);
        n = (uint32_t)(check_random(&seed) % 5);
        for (uint32_t i = 0; i < n; i++) {
            bool there = in != got;
            CHECK(ring_pop(ring, &out) == there);
            CHECK(!there || (out.number == got && out.twice == 2 * got));
            got += there;
        }
    }
    ring_destroy(&ring);
    CHECK(ring == NULL);
}

#define THREADED_N 200000u

struct threaded {
    struct ring *ring;
    int wake; // the producer tells the consumer
};

static void *produce(void *arg)
{
    struct threaded *t = arg;
    for (uint32_t i = 0; i < THREADED_N;) {
        struct entry entry = {.number = i, .twice = 2 * i};
        if (ring_push(t->ring, &entry)) {
            i++;
            wake_signal(t->wake);
        } else {
            usleep(50);
        }
    }
    return NULL;
}

static void test_threads(void)
{
    struct threaded t = {.wake = wake_open()};
    CHECK(t.wake >= 0);
    CHECK(ring_create(64, sizeof(struct entry), &t.ring) == 0);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, produce, &t) == 0);
    for (uint32_t got = 0; got < THREADED_N;) {
        struct entry entry;
        wake_wait(t.wake, -1); // a lost signal would hang here
        while (ring_pop(t.ring, &entry)) {
            CHECK(entry.number == got && entry.twice == 2 * got);
            got++;
        }
    }
    pthread_join(thread, NULL);
    ring_destroy(&t.ring);
    close(t.wake);
}

static void test_histogram(void)
{
    struct histogram histogram = {0};
    histogram_observe(&histogram, 0);
    histogram_observe(&histogram, histogram_bound_us[0]);
    histogram_observe(&histogram, histogram_bound_us[0] + 1);
    histogram_observe(&histogram, UINT64_C(10) * histogram_bound_us[HISTOGRAM_BUCKETS - 1]);
    CHECK(histogram.count[0] == 2);
    CHECK(histogram.count[1] == 1);
    CHECK(histogram.count[HISTOGRAM_BUCKETS] == 1);
    for (uint32_t i = 1; i < HISTOGRAM_BUCKETS; i++)
        CHECK(histogram_bound_us[i] > histogram_bound_us[i - 1]);
}

int main(void)
{
    test_limits();
    test_full_empty();
    test_threads();
    test_histogram();
    return 0;
}
