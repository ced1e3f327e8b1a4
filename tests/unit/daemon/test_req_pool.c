// SPDX-License-Identifier: MIT
// Places for requests: each is had by one thread at a time, none is lost, whoever takes and gives.
#include "daemon/req_pool.h"
#include "tests/check.h"

#include <pthread.h>
#include <sched.h>

#define PLACES  5u
#define THREADS 4u
#define TAKES   500000u // by each thread

static struct req_pool pool;
static atomic_uint owners[PLACES];

// Holds at most two.  While the others hold all and do not run there is nothing to take: it is the
// takes that are counted, not the turns.
static void *take_and_give(void *arg)
{
    (void)arg;
    uint32_t held[2], n = 0;
    for (uint32_t got = 0; got < TAKES;) {
        if (n < 2 && req_pool_take(&pool, &held[n])) {
            CHECK(atomic_fetch_add(&owners[held[n]], 1) == 0);
            n++;
            got++;
        } else if (n > 0) {
            n--;
            CHECK(atomic_fetch_sub(&owners[held[n]], 1) == 1);
            req_pool_give(&pool, held[n]);
        } else {
            sched_yield();
        }
    }
    while (n-- > 0) {
        atomic_fetch_sub(&owners[held[n]], 1);
        req_pool_give(&pool, held[n]);
    }
    return NULL;
}

static void test_alone(void)
{
    uint32_t places[PLACES], one, seen = 0;
    for (uint32_t i = 0; i < PLACES; i++) {
        CHECK(req_pool_taken(&pool) == i);
        CHECK(req_pool_take(&pool, &places[i]) && places[i] < PLACES);
        seen |= 1u << places[i];
    }
    CHECK(seen == (1u << PLACES) - 1);
    CHECK(!req_pool_take(&pool, &one));
    req_pool_give(&pool, places[3]);
    CHECK(req_pool_take(&pool, &one) && one == places[3]);
    for (uint32_t i = 0; i < PLACES; i++)
        req_pool_give(&pool, places[i]);
    CHECK(req_pool_taken(&pool) == 0);
}

int main(void)
{
    CHECK(req_pool_init(&pool, PLACES) == 0);
    test_alone();
    pthread_t threads[THREADS];
    for (uint32_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, take_and_give, NULL) == 0);
    for (uint32_t i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    test_alone(); // all are there again
    req_pool_fini(&pool);
    return 0;
}
