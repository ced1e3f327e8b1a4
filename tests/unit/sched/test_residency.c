// SPDX-License-Identifier: MIT
// residency: rules by hand, then millions of random calls against a naive model that looks at every
// slot: what is held stays, a demanded key finds a place if there is one, a guess pushes out nobody
// who is worth more, and the same calls give the same answers.
#include "sched/residency.h"
#include "tests/check.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static struct residency *residency_of(uint32_t keys, uint32_t slots, enum residency_policy policy,
                                      uint32_t layer_keys)
{
    struct residency *r = NULL;
    CHECK(residency_create(
              &(struct residency_params){
                  .keys_n = keys, .slots_n = slots, .policy = policy, .layer_keys = layer_keys},
              &r) == 0);
    return r;
}

static void test_params(void)
{
    static const struct residency_params bad[] = {
        {.keys_n = 0, .slots_n = 1},
        {.keys_n = (1u << 24) + 1, .slots_n = 1},
        {.keys_n = 1, .slots_n = 0},
        {.keys_n = 1, .slots_n = (1u << 20) + 1},
        {.keys_n = 1, .slots_n = 1, .policy = RESIDENCY_POLICY_COUNT},
        {.keys_n = 7, .slots_n = 1, .layer_keys = 8},
    };
    struct residency *r = NULL;
    for (uint32_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(residency_create(&bad[i], &r) == -EINVAL && r == NULL);
    residency_destroy(&r);
}

/* ----------------------------------------------------------------- by hand */

// demand uses a key, gives it a slot if it has none, and lets it go.  Returns the key that went.
static uint32_t demand(struct residency *r, uint32_t key)
{
    uint32_t evicted = RESIDENCY_NONE;
    residency_use(r, key);
    if (residency_find(r, key) != RESIDENCY_NONE)
        return evicted;
    uint32_t slot = residency_place(r, key, false, &evicted);
    CHECK(slot != RESIDENCY_NONE && residency_key(r, slot) == key);
    CHECK(residency_find(r, key) == slot);
    residency_release(r, slot);
    return evicted;
}

static void test_lru(void)
{
    struct residency *r = residency_of(8, 3, RESIDENCY_LRU, 0);
    for (uint32_t key = 0; key < 3; key++)
        CHECK(demand(r, key) == RESIDENCY_NONE);
    CHECK(demand(r, 0) == RESIDENCY_NONE);
    CHECK(demand(r, 3) == 1);
    CHECK(demand(r, 4) == 2);
    CHECK(demand(r, 5) == 0);
    CHECK(residency_resident_n(r) == 3);
    residency_destroy(&r);
}

static void test_lfu(void)
{
    struct residency *r = residency_of(8, 3, RESIDENCY_LFU, 0);
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t key = i; key < 3; key++)
            demand(r, key); // 0 once, 1 twice, 2 three times
    CHECK(demand(r, 3) == 0);
    CHECK(demand(r, 4) == 3);
    CHECK(demand(r, 4) == RESIDENCY_NONE); // now as often as 1, and more recent
    CHECK(demand(r, 5) == 1);
    residency_destroy(&r);
}

// A key of the last visit stays against one that was wanted less often and longer ago; what is
// asked for again and again stays against strangers, each of which is asked for once.
static void test_often(void)
{
    struct residency *r = residency_of(64, 4, RESIDENCY_OURS, 0);
    for (uint32_t i = 0; i < 40; i++)
        for (uint32_t key = 0; key < 3; key++)
            demand(r, key);
    for (uint32_t key = 10; key < 40; key += 3) {
        uint32_t evicted = demand(r, key);
        CHECK(evicted == (key == 10 ? RESIDENCY_NONE : key - 3));
        demand(r, 2); // the others are not wanted for a while
    }
    for (uint32_t key = 0; key < 3; key++)
        CHECK(residency_find(r, key) != RESIDENCY_NONE);
    residency_destroy(&r);
}

static void test_ageing(void)
{
    struct residency *r = residency_of(64, 2, RESIDENCY_OURS, 0);
    uint32_t i = 0;
    for (; i < 1000; i++)
        demand(r, 0);
    uint64_t hot = residency_worth(r, 0);
    for (i = 0; i < 200 && residency_find(r, 0) != RESIDENCY_NONE; i++)
        demand(r, 1 + i % 2); // wanted now; what was hot once must go some day
    CHECK(i > 2 && i < 200 && residency_worth(r, 0) < hot);
    residency_destroy(&r);
}

// Of keys with the same history the one goes whose layer is farthest ahead.
static void test_nearness(void)
{
    struct residency *r = residency_of(40, 4, RESIDENCY_OURS, 10);
    for (uint32_t key = 0; key < 40; key += 10)
        demand(r, key);
    CHECK(residency_worth(r, 0) > residency_worth(r, 10));
    CHECK(residency_worth(r, 10) > residency_worth(r, 20));
    CHECK(residency_worth(r, 20) > residency_worth(r, 30));
    CHECK(demand(r, 5) != 10);
    CHECK(residency_find(r, 10) != RESIDENCY_NONE);
    residency_destroy(&r);
}

static void test_holds(void)
{
    struct residency *r = residency_of(8, 2, RESIDENCY_OURS, 0);
    uint32_t evicted, slot[2];
    for (uint32_t key = 0; key < 2; key++) {
        residency_use(r, key);
        slot[key] = residency_place(r, key, false, &evicted);
        CHECK(slot[key] == key && evicted == RESIDENCY_NONE);
    }
    CHECK(residency_place(r, 2, false, &evicted) == RESIDENCY_NONE);
    residency_hold(r, slot[0]);
    residency_release(r, slot[0]);
    CHECK(residency_place(r, 2, false, &evicted) == RESIDENCY_NONE);
    residency_forget(r, slot[0]);
    CHECK(residency_find(r, 0) == RESIDENCY_NONE && residency_resident_n(r) == 1);
    CHECK(residency_place(r, 2, false, &evicted) == RESIDENCY_NONE); // its read may still land
    residency_release(r, slot[0]);
    CHECK(residency_place(r, 2, false, &evicted) == slot[0] && evicted == RESIDENCY_NONE);
    residency_release(r, slot[1]);
    residency_forget(r, slot[1]);
    CHECK(residency_place(r, 3, true, &evicted) == slot[1] && evicted == RESIDENCY_NONE);
    residency_destroy(&r);
}

// What is foretold counts as if it had just been wanted once: it pushes out what was wanted last
// some visits ago, and nothing that was wanted at the last two.
static void test_guess(void)
{
    struct residency *r = residency_of(8, 1, RESIDENCY_OURS, 0);
    uint32_t evicted;
    demand(r, 0);
    demand(r, 0);
    CHECK(residency_place(r, 1, true, &evicted) == RESIDENCY_NONE);
    residency_use(r, 7);
    residency_use(r, 6);
    CHECK(!residency_spares(r, 1)); // as it is, it is worth less than what is there
    CHECK(residency_place(r, 1, true, &evicted) == 0 && evicted == 0);
    CHECK(!residency_spares(r, 6)); // the one slot is held
    residency_release(r, 0);
    CHECK(residency_spares(r, 6));
    residency_destroy(&r);

    r = residency_of(8, 1, RESIDENCY_LFU, 0);
    demand(r, 0);
    CHECK(residency_place(r, 1, true, &evicted) == 0 && evicted == 0);
    residency_release(r, 0);
    CHECK(residency_place(r, 0, true, &evicted) == 0 && evicted == 1);
    demand(r, 0);
    residency_release(r, 0);
    CHECK(residency_place(r, 1, true, &evicted) == RESIDENCY_NONE);
    residency_destroy(&r);
}

/* ------------------------------------------------------------------ random */

#define KEYS_MAX  512u
#define SLOTS_MAX 64u

// What must be true, kept the plain way; worths are asked of the code that is tested, the choice by
// worth is not.
struct naive {
    struct residency *r, *twin; // the same calls, the same answers
    uint32_t keys_n, slots_n;
    uint32_t slot_of[KEYS_MAX], key_in[SLOTS_MAX], holds[SLOTS_MAX];
    uint64_t last[KEYS_MAX], uses;
    enum residency_policy policy;
    uint32_t layer_keys, last_key;
};

static void naive_check(const struct naive *m)
{
    uint32_t resident = 0;
    for (uint32_t slot = 0; slot < m->slots_n; slot++) {
        CHECK(residency_key(m->r, slot) == m->key_in[slot]);
        resident += m->key_in[slot] != RESIDENCY_NONE;
    }
    for (uint32_t key = 0; key < m->keys_n; key++) {
        CHECK(residency_find(m->r, key) == m->slot_of[key]);
        CHECK(residency_worth(m->r, key) == residency_worth(m->twin, key));
    }
    CHECK(residency_resident_n(m->r) == resident);
}

// naive_least finds what may be given away and is worth least, the longest unused of equals.
static uint32_t naive_least(const struct naive *m, uint64_t *ret_worth, uint64_t *ret_last)
{
    uint32_t least = RESIDENCY_NONE;
    for (uint32_t slot = 0; slot < m->slots_n; slot++) {
        uint32_t key = m->key_in[slot];
        if (key == RESIDENCY_NONE || m->holds[slot] > 0)
            continue;
        uint64_t worth = residency_worth(m->r, key);
        if (least != RESIDENCY_NONE &&
            (worth > *ret_worth || (worth == *ret_worth && m->last[key] >= *ret_last)))
            continue;
        least = slot;
        *ret_worth = worth;
        *ret_last = m->last[key];
    }
    return least;
}

static bool naive_free(const struct naive *m)
{
    for (uint32_t slot = 0; slot < m->slots_n; slot++)
        if (m->key_in[slot] == RESIDENCY_NONE && m->holds[slot] == 0)
            return true;
    return false;
}

// naive_foretold returns how much a key is worth, less one at most, had it just been wanted.
static uint64_t naive_foretold(const struct naive *m, uint32_t key)
{
    uint64_t worth = residency_worth(m->r, key), use = (1u << 23) + (1u << 19);
    if (m->policy != RESIDENCY_OURS)
        return m->policy == RESIDENCY_LRU ? UINT64_MAX - 1 : worth + 1;
    uint32_t layers = (m->keys_n - 1) / m->layer_keys + 1, layer = key / m->layer_keys;
    uint32_t here = m->uses ? m->last_key / m->layer_keys : layers - 1;
    uint32_t distance = layer > here ? layer - here : layer + layers - here;
    return worth + (use << 32) / (10 * distance + layers);
}

static void random_place(struct naive *m, uint32_t key, bool speculative)
{
    uint32_t evicted = 12345, twin_evicted = 12345;
    uint64_t worth = 0, last = 0, own = naive_foretold(m, key);
    bool was_free = naive_free(m);
    uint32_t least = naive_least(m, &worth, &last);
    uint32_t slot = residency_place(m->r, key, speculative, &evicted);

    CHECK(residency_place(m->twin, key, speculative, &twin_evicted) == slot);
    CHECK(twin_evicted == evicted);
    if (slot == RESIDENCY_NONE) {
        CHECK(!was_free && evicted == 12345);
        CHECK(least == RESIDENCY_NONE || (speculative && worth > own));
        return;
    }
    CHECK(slot < m->slots_n && m->holds[slot] == 0);
    CHECK(m->key_in[slot] == evicted && was_free == (evicted == RESIDENCY_NONE));
    if (evicted != RESIDENCY_NONE) {
        CHECK(residency_worth(m->r, evicted) == worth && m->last[evicted] == last);
        CHECK(!speculative || worth <= own + 1);
        m->slot_of[evicted] = RESIDENCY_NONE;
    }
    m->slot_of[key] = slot;
    m->key_in[slot] = key;
    m->holds[slot] = 1;
}

static void random_call(struct naive *m, uint64_t *state)
{
    uint64_t random = check_random(state);
    uint32_t key = (uint32_t)(random >> 32) % m->keys_n;
    uint32_t slot = (uint32_t)(random >> 16 & 0xffff) % m->slots_n;
    bool there = m->key_in[slot] != RESIDENCY_NONE;

    if (random % 3 == 0)
        key = key * key % m->keys_n; // some more often than others
    switch (random % 11) {
    case 0:
    case 1:
    case 2:
        residency_use(m->r, key);
        residency_use(m->twin, key);
        m->last[key] = ++m->uses;
        m->last_key = key;
        break;
    case 3:
    case 4:
        if (m->slot_of[key] == RESIDENCY_NONE)
            random_place(m, key, random % 22 < 11);
        break;
    case 5:
        if (there && m->holds[slot] < 4 && (random >> 8) % 4 == 0) {
            residency_hold(m->r, slot);
            residency_hold(m->twin, slot);
            m->holds[slot]++;
        }
        break;
    case 6:
        if (there && (random >> 8) % 16 == 0) {
            residency_forget(m->r, slot);
            residency_forget(m->twin, slot);
            m->slot_of[m->key_in[slot]] = RESIDENCY_NONE;
            m->key_in[slot] = RESIDENCY_NONE;
        }
        break;
    default:
        if (m->holds[slot] > 0) {
            residency_release(m->r, slot);
            residency_release(m->twin, slot);
            m->holds[slot]--;
        }
    }
}

static void test_random(uint32_t keys, uint32_t slots, uint32_t layer_keys, uint32_t calls)
{
    static struct naive m;
    for (int policy = 0; policy < RESIDENCY_POLICY_COUNT; policy++) {
        uint64_t state = 1 + keys;
        m = (struct naive){.keys_n = keys,
                           .slots_n = slots,
                           .policy = (enum residency_policy)policy,
                           .layer_keys = layer_keys ? layer_keys : keys};
        m.r = residency_of(keys, slots, (enum residency_policy)policy, layer_keys);
        m.twin = residency_of(keys, slots, (enum residency_policy)policy, layer_keys);
        memset(m.slot_of, 0xff, sizeof(m.slot_of));
        memset(m.key_in, 0xff, sizeof(m.key_in));
        for (uint32_t i = 0; i < calls; i++) {
            random_call(&m, &state);
            if (i % 256 == 0)
                naive_check(&m);
        }
        naive_check(&m);
        residency_destroy(&m.r);
        residency_destroy(&m.twin);
    }
}

int main(void)
{
    test_params();
    test_lru();
    test_lfu();
    test_often();
    test_ageing();
    test_nearness();
    test_holds();
    test_guess();
    test_random(48, 9, 16, 400000);
    test_random(48, 47, 16, 400000);
    test_random(200, 31, 7, 400000); // the last layer is shorter
    test_random(512, 64, 1, 200000);
    test_random(64, 1, 0, 100000);
    test_random(5, 5, 2, 100000);
    test_random(1, 1, 1, 10000);
    return 0;
}
