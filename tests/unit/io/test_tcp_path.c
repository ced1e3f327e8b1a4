// SPDX-License-Identifier: MIT
// Paths of connections: that of the SYN, as long as the peer confirms it; forged segments and
// storms of SYNs change nothing for those that are in use.
#include "io/net/tcp_path.h"
#include "tests/check.h"

#include <string.h>

static const uint8_t a[6] = {2, 0, 0, 0, 0, 1}, b[6] = {2, 0, 0, 0, 0, 2};

static uint64_t key_of(uint64_t i)
{
    return (i + 1) * 0x9e3779b97f4a7c15ull;
}

static bool is(const struct tcp_paths *paths, uint64_t key, uint32_t now_ms, const uint8_t *mac)
{
    const uint8_t *got = tcp_path_find(paths, key, now_ms);
    return mac ? got && memcmp(got, mac, 6) == 0 : !got;
}

static void test_life(void)
{
    struct tcp_paths *paths = NULL;
    uint32_t now = UINT32_MAX - 10000; // the clock turns over meanwhile
    CHECK(tcp_paths_create(16, &paths) == 0);
    tcp_path_seen(paths, key_of(1), a, false, now);
    CHECK(is(paths, key_of(1), now, NULL)); // only a SYN begins one
    tcp_path_seen(paths, key_of(1), a, true, now);
    CHECK(is(paths, key_of(1), now, a) && is(paths, key_of(2), now, NULL));
    tcp_path_seen(paths, key_of(1), b, true, now + 20000); // forged
    tcp_path_seen(paths, key_of(1), b, false, now + 20000);
    CHECK(is(paths, key_of(1), now + 29999, a));
    CHECK(is(paths, key_of(1), now + 30000, NULL)); // nothing confirmed it
    tcp_path_seen(paths, key_of(1), b, true, now + 30000);
    CHECK(is(paths, key_of(1), now + 30000, b));
    for (uint32_t i = 0; i < 10; i++)
        tcp_path_seen(paths, key_of(1), b, false, now + 30000 + i * 29000);
    CHECK(is(paths, key_of(1), now + 30000 + 10 * 29000, b));
    tcp_paths_destroy(&paths);
    CHECK(!paths);
}

// Others' SYNs push out what is old before what is confirmed.
static void test_storm(void)
{
    struct tcp_paths *paths = NULL;
    CHECK(tcp_paths_create(64, &paths) == 0);
    tcp_path_seen(paths, key_of(0), a, true, 0);
    for (uint32_t i = 1; i < 100000; i++) {
        tcp_path_seen(paths, key_of(i), b, true, i / 100);
        if (i % 8 == 0)
            tcp_path_seen(paths, key_of(0), a, false, i / 100);
        CHECK(is(paths, key_of(i), i / 100, b));
    }
    CHECK(is(paths, key_of(0), 1000, a));
    tcp_paths_destroy(&paths);
}

int main(void)
{
    test_life();
    test_storm();
    return 0;
}
