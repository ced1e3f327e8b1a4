// SPDX-License-Identifier: MIT
#include "daemon/rate.h"
#include "tests/check.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define SECOND_US 1000000ull
#define START_US  (5 * SECOND_US)

static struct rate rate; // zeros are a fresh one

static void limits_are_the_keys_or_the_defaults(void)
{
    const struct rate_limits defaults = {.per_minute = 60, .concurrency = 4};
    struct key key = {.rate = KEYS_DEFAULT, .concurrency = KEYS_DEFAULT};

    struct rate_limits got = rate_limits_of(NULL, &defaults);
    CHECK(got.per_minute == 60 && got.concurrency == 4);
    got = rate_limits_of(&key, &defaults);
    CHECK(got.per_minute == 60 && got.concurrency == 4);
    key.rate = 0;
    key.concurrency = 9;
    got = rate_limits_of(&key, &defaults);
    CHECK(got.per_minute == 0 && got.concurrency == 9);
}

// take takes and gives back, so that only the minute counts.
static int take(uint32_t slot, uint32_t per_minute, uint64_t now_us, uint32_t *retry_s)
{
    const struct rate_limits limits = {.per_minute = per_minute};
    int err = rate_take(&rate, slot, &limits, now_us, retry_s);
    if (err == 0)
        rate_release(&rate, slot);
    return err;
}

static void a_burst_is_a_quarter_of_a_minute(void)
{
    static const struct {
        uint32_t per_minute, burst, retry_s; // retry_s: once the burst is gone
    } rows[] = {
        {1, 1, 60},   {2, 1, 30},           {7, 1, 9}, {8, 2, 8}, {60, 15, 1},
        {100, 25, 1}, {1000000, 250000, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t slot = (uint32_t)i, retry_s = 77;
        for (uint32_t n = 0; n < rows[i].burst; n++)
            CHECK(take(slot, rows[i].per_minute, START_US, &retry_s) == 0);
        CHECK(retry_s == 77);
        CHECK(take(slot, rows[i].per_minute, START_US, &retry_s) == -EAGAIN);
        CHECK(retry_s == rows[i].retry_s);
        CHECK(rate_running(&rate, slot) == 0);
        // What was told is enough, and for slow limits a second less is not.
        if (rows[i].retry_s > 1)
            CHECK(take(slot, rows[i].per_minute, START_US + (retry_s - 1) * SECOND_US, &retry_s) ==
                  -EAGAIN);
        CHECK(take(slot, rows[i].per_minute, START_US + rows[i].retry_s * SECOND_US, &retry_s) ==
              0);
    }
}

// Over a long time never more than the limit and one burst; a client that asks ten times as often
// gets nearly all of it.
static void holds_over_an_hour(void)
{
    static const uint32_t per_minutes[] = {1, 7, 60, 600, 5000};
    uint64_t seed = 7;

    for (size_t i = 0; i < ARRAY_LEN(per_minutes); i++) {
        uint32_t slot = 100 + (uint32_t)i, n = per_minutes[i], burst = n / 4 > 1 ? n / 4 : 1;
        uint64_t taken = 0, us = 0;
        while (us < 3600 * SECOND_US) {
            uint32_t retry_s;
            taken += take(slot, n, START_US + us, &retry_s) == 0;
            us += 1 + check_random(&seed) % (2 * 60 * SECOND_US / n / 10);
        }
        CHECK(taken <= 60ull * n + burst);
        CHECK(taken >= 60ull * n * 90 / 100);
    }
}

static void a_full_bucket_does_not_overflow(void)
{
    uint32_t retry_s, slot = 200;

    CHECK(take(slot, 8, START_US, &retry_s) == 0);
    for (int i = 0; i < 2; i++) // a day later two are there, not more
        CHECK(take(slot, 8, START_US + 86400 * SECOND_US, &retry_s) == 0);
    CHECK(take(slot, 8, START_US + 86400 * SECOND_US, &retry_s) == -EAGAIN);
    // A thread whose clock is a little behind is not let through, nor sent away for long.
    CHECK(take(slot, 8, START_US + 86400 * SECOND_US - 5, &retry_s) == -EAGAIN && retry_s <= 8);
}

static void new_limits_hold_at_once(void)
{
    uint32_t retry_s, slot = 201;

    CHECK(take(slot, 1, START_US, &retry_s) == 0);
    CHECK(take(slot, 1, START_US, &retry_s) == -EAGAIN && retry_s == 60);
    CHECK(take(slot, 600, START_US, &retry_s) == -EAGAIN && retry_s == 1); // owes a burst at most
    CHECK(take(slot, 600, START_US + SECOND_US, &retry_s) == 0);
    CHECK(take(slot, 0, START_US, &retry_s) == 0); // no limit
}

static void counts_what_runs(void)
{
    const struct rate_limits two = {.concurrency = 2}, both = {.per_minute = 1, .concurrency = 3};
    uint32_t retry_s = 77, slot = RATE_ANONYMOUS;
    struct api_error error;

    CHECK(rate_take(&rate, slot, &two, START_US, &retry_s) == 0);
    CHECK(rate_take(&rate, slot, &two, START_US, &retry_s) == 0);
    CHECK(rate_take(&rate, slot, &two, START_US, &retry_s) == -EBUSY && retry_s == 1);
    CHECK(rate_running(&rate, slot) == 2);
    rate_release(&rate, slot);
    CHECK(rate_take(&rate, slot, &both, START_US, &retry_s) == 0);
    rate_release(&rate, slot);
    CHECK(rate_take(&rate, slot, &both, START_US, &retry_s) == -EAGAIN);
    CHECK(rate_running(&rate, slot) == 1); // what the minute refused does not run
    rate_release(&rate, slot);

    CHECK(rate_error(-EBUSY, &two, 1, &error) == -EINVAL);
    CHECK(error.status == 429 && error.retry_after_s == 1 && strstr(error.message, "2 requests"));
    CHECK(rate_error(-EAGAIN, &both, 42, &error) == -EINVAL);
    CHECK(error.status == 429 && error.retry_after_s == 42 && strstr(error.message, "42 s"));
}

#define THREADS 4
#define ROUNDS  200000

static atomic_uint inside, taken_n;

// Each thread takes and releases; at no time do more run than may.
static void *crowd(void *arg)
{
    const struct rate_limits *limits = arg;
    uint32_t retry_s;

    for (int i = 0; i < ROUNDS; i++) {
        if (rate_take(&rate, 300, limits, START_US, &retry_s) != 0)
            continue;
        unsigned now = atomic_fetch_add(&inside, 1) + 1;
        CHECK(limits->concurrency == 0 || now <= limits->concurrency);
        atomic_fetch_add(&taken_n, 1);
        atomic_fetch_sub(&inside, 1);
        rate_release(&rate, 300);
    }
    return NULL;
}

static void threads_share(const struct rate_limits *limits)
{
    pthread_t threads[THREADS];
    struct rate_limits copy = *limits;

    atomic_store(&taken_n, 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, crowd, &copy) == 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(rate_running(&rate, 300) == 0);
}

int main(void)
{
    limits_are_the_keys_or_the_defaults();
    a_burst_is_a_quarter_of_a_minute();
    holds_over_an_hour();
    a_full_bucket_does_not_overflow();
    new_limits_hold_at_once();
    counts_what_runs();
    threads_share(&(struct rate_limits){.concurrency = 3});
    CHECK(atomic_load(&taken_n) > ROUNDS);
    // All at one time: the burst, exactly.
    threads_share(&(struct rate_limits){.per_minute = 400000});
    CHECK(atomic_load(&taken_n) == 100000);
    return 0;
}
