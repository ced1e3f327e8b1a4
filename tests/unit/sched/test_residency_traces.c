// SPDX-License-Identifier: MIT
// Hit rates on recorded routing (tests/traces, argv[1]): ours is above LRU and LFU for any number
// of slots between one layer's choice and everything, and within 18 points of Belady's optimum,
// which knows the future.  Belady's itself is compared with all choices there are, on tiny traces.
#include "tests/check.h"
#include "tools/replay_cache.h"

#include <stdbool.h>
#include <string.h>

static double rate(const struct replay_uses *uses, uint32_t slots, enum replay_policy policy)
{
    uint64_t hits = 0;
    CHECK(replay_cache_hits(uses, slots, policy, &hits) == 0);
    return 100 * (double)hits / (double)uses->first[uses->groups_n];
}

/* ------------------------------------------------------------------ traces */

static struct replay_uses uses_read(const char *dir, const char *name)
{
    char path[4096];
    struct replay_uses uses;
    struct fault fault;
    CHECK(snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path));
    FILE *file = fopen(path, "rb");
    CHECK(file);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    long n = ftell(file);
    CHECK(n > 0);
    rewind(file);
    uint8_t *bytes = malloc((size_t)n);
    CHECK(bytes && fread(bytes, 1, (size_t)n, file) == (size_t)n);
    fclose(file);
    CHECK(replay_uses_make(bytes, (size_t)n, &uses, &fault) == 0);
    free(bytes);
    return uses;
}

static void test_trace(const char *dir, const char *name)
{
    static const uint32_t some[] = {5, 8, 10, 12, 13, 16, 20, 24, 28, 32, 36, 40, 44, 47};
    struct replay_uses uses = uses_read(dir, name);
    uint32_t layer = uses.shape.experts;

    CHECK(uses.keys_n == 48 && uses.shape.k == 4 && uses.steps_n > 3000);
    printf("%s\n slots   lru    lfu   ours belady\n", name);
    for (uint32_t i = 0; i < ARRAY_LEN(some); i++) {
        uint32_t slots = some[i];
        double lru = rate(&uses, slots, REPLAY_LRU), lfu = rate(&uses, slots, REPLAY_LFU);
        double ours = rate(&uses, slots, REPLAY_OURS), best = rate(&uses, slots, REPLAY_BELADY);
        printf("%6u %6.2f %6.2f %6.2f %6.2f\n", slots, lru, lfu, ours, best);
        CHECK(best >= ours && best >= rate(&uses, slots, REPLAY_RANDOM));
        CHECK(best - ours < 18);
        CHECK(ours >= lru && ours >= lfu);
        if (slots > layer && slots < 2 * layer)
            CHECK(ours > lru + 3 && ours > lfu + 3);
    }
    replay_uses_free(&uses);
}

/* ------------------------------------------------------------------ Belady */

#define TINY_GROUPS 8u
#define TINY_KEYS   6u

struct tiny {
    uint32_t groups[TINY_GROUPS]; // sets of keys
    uint32_t slots;
};

static uint32_t bits_n(uint32_t set)
{
    return (uint32_t)__builtin_popcount(set);
}

// best_hits tries every way to make room from group i on, with these keys in slots.
static uint32_t best_hits(const struct tiny *t, uint32_t i, uint32_t there)
{
    if (i == TINY_GROUPS)
        return 0;
    uint32_t wanted = t->groups[i], may_stay = there & ~wanted, best = 0;
    uint32_t room = t->slots - bits_n(wanted);
    for (uint32_t stay = may_stay;; stay = (stay - 1) & may_stay) {
        if (bits_n(stay) <= room) {
            uint32_t hits = best_hits(t, i + 1, stay | wanted);
            best = hits > best ? hits : best;
        }
        if (stay == 0)
            return bits_n(there & wanted) + best;
    }
}

static void test_belady(uint64_t *state)
{
    struct tiny t = {.slots = 2 + (uint32_t)(check_random(state) % 3)};
    uint64_t first[TINY_GROUPS + 1] = {0}, hits = 0;
    uint32_t keys[TINY_GROUPS * TINY_KEYS];
    struct replay_uses uses = {.shape = {.layers = 1, .experts = TINY_KEYS, .k = 1},
                               .layers_n = 1,
                               .keys_n = TINY_KEYS,
                               .groups_n = TINY_GROUPS,
                               .first = first,
                               .keys = keys};
    for (uint32_t i = 0; i < TINY_GROUPS; i++) {
        do
            t.groups[i] = 1 + (uint32_t)(check_random(state) % ((1u << TINY_KEYS) - 1));
        while (bits_n(t.groups[i]) > t.slots || bits_n(t.groups[i]) > 2);
        first[i + 1] = first[i];
        for (uint32_t key = 0; key < TINY_KEYS; key++)
            if (t.groups[i] >> key & 1)
                keys[first[i + 1]++] = key;
    }
    CHECK(replay_cache_hits(&uses, t.slots, REPLAY_BELADY, &hits) == 0);
    CHECK(hits == best_hits(&t, 0, 0));
}

// Synthetic traces are the same every time, and are of V3's shape.
static void test_synthetic(void)
{
    uint8_t *bytes[2];
    size_t n[2];
    struct replay_uses uses;
    struct fault fault;
    for (int i = 0; i < 2; i++)
        CHECK(replay_synthetic(3, &bytes[i], &n[i]) == 0);
    CHECK(n[0] == n[1] && memcmp(bytes[0], bytes[1], n[0]) == 0);
    CHECK(replay_uses_make(bytes[0], n[0], &uses, &fault) == 0);
    CHECK(uses.layers_n == 58 && uses.keys_n == 58 * 256 && uses.shape.k == 8);
    CHECK(uses.again > 0.3 && uses.again < 0.4);
    replay_uses_free(&uses);
    for (int i = 0; i < 2; i++)
        free(bytes[i]);
}

int main(int argc, char **argv)
{
    uint64_t state = 11;
    CHECK(argc == 2);
    for (uint32_t i = 0; i < 300; i++)
        test_belady(&state);
    test_synthetic();
    test_trace(argv[1], "demo-eval-1.trace");
    test_trace(argv[1], "demo-eval-4.trace");
    return 0;
}
