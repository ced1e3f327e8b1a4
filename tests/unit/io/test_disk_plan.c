// SPDX-License-Identifier: MIT
// disk_plan: whatever the ranges, the pieces bring each needed byte to its place exactly once, ask
// for nothing that is not in the file's last block, and are no longer than they may be.
#include "io/disk/plan.h"
#include "tests/check.h"

#include <string.h>

#define ROUNDS     20000u
#define BLOCKS_MAX 4096u  // of the buffer
#define REGION     100000 // blocks of a file between groups of ranges: groups never touch

// What landed in each block of the buffer.
struct landing {
    uint32_t times;
    uint32_t file;
    uint64_t off;
};

static struct landing landed[BLOCKS_MAX];

static uint64_t down(uint64_t n)
{
    return n / DISK_ALIGN * DISK_ALIGN;
}

static uint64_t up(uint64_t n)
{
    return down(n + DISK_ALIGN - 1);
}

static uint64_t below(uint64_t *seed, uint64_t n)
{
    return check_random(seed) % n;
}

// Groups of ranges; within a group they follow each other in the file, and in the buffer as in it.
static uint32_t random_ranges(uint64_t *seed, struct disk_range *ranges)
{
    uint32_t n = 1 + (uint32_t)below(seed, DISK_RANGES_MAX);
    uint64_t dst = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct disk_range *range = &ranges[i];
        *range = (struct disk_range){.files_n = 1 + (uint32_t)below(seed, 3)};
        range->bytes = 1 + below(seed, below(seed, 3) ? 9000 : 1u << 20);
        if (i > 0 && below(seed, 2)) {
            const struct disk_range *last = &ranges[i - 1];
            *range = (struct disk_range){.bytes = range->bytes, .files_n = last->files_n};
            memcpy(range->file, last->file, sizeof(range->file));
            range->off = last->off + last->bytes + below(seed, 3) * below(seed, 6000);
            range->dst = last->dst + (down(range->off) - down(last->off));
        } else {
            for (uint32_t k = 0; k < range->files_n; k++)
                range->file[k] = (uint32_t)below(seed, 3) + 10 * k;
            range->off = ((uint64_t)i * REGION + below(seed, 1000)) * DISK_ALIGN;
            range->off += below(seed, 4) ? below(seed, DISK_ALIGN) : 0;
            range->dst = dst;
        }
        uint64_t end = range->dst + up(range->off % DISK_ALIGN + range->bytes);
        dst = end > dst ? end : dst;
    }
    CHECK(dst <= (uint64_t)BLOCKS_MAX * DISK_ALIGN);
    return n;
}

static void shuffle(uint64_t *seed, struct disk_range *ranges, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t k = (uint32_t)below(seed, i);
        struct disk_range other = ranges[i - 1];
        ranges[i - 1] = ranges[k];
        ranges[k] = other;
    }
}

static void land(const struct disk_range *ranges, const struct plan_piece *piece,
                 uint32_t read_size)
{
    CHECK(piece->off % DISK_ALIGN == 0 && piece->dst % DISK_ALIGN == 0);
    CHECK(piece->bytes % DISK_ALIGN == 0 && piece->bytes > 0);
    CHECK(piece->bytes <= read_size + read_size / 4);
    CHECK(piece->need > 0 && piece->need <= piece->bytes);
    for (uint32_t b = 0; b < piece->bytes; b += DISK_ALIGN) {
        struct landing *at = &landed[(piece->dst + b) / DISK_ALIGN];
        at->times++;
        at->file = ranges[piece->range].file[0];
        at->off = piece->off + b;
    }
}

// Each block of each range is there, from its place, once; returns how many different ones.
static uint32_t check_ranges(const struct disk_range *ranges, uint32_t n)
{
    static bool seen[BLOCKS_MAX];
    uint32_t different = 0;
    memset(seen, 0, sizeof(seen));
    for (uint32_t i = 0; i < n; i++)
        for (uint64_t off = down(ranges[i].off); off < ranges[i].off + ranges[i].bytes;
             off += DISK_ALIGN) {
            uint64_t block = (ranges[i].dst + off - down(ranges[i].off)) / DISK_ALIGN;
            CHECK(landed[block].times == 1);
            CHECK(landed[block].file == ranges[i].file[0] && landed[block].off == off);
            different += !seen[block];
            seen[block] = true;
        }
    return different;
}

// need_end: no piece needs bytes behind the last range that it holds bytes of.
static bool needed(const struct disk_range *ranges, uint32_t n, const struct plan_piece *piece)
{
    for (uint32_t i = 0; i < n; i++)
        if (ranges[i].file[0] == ranges[piece->range].file[0] &&
            ranges[i].off < piece->off + piece->need &&
            ranges[i].off + ranges[i].bytes >= piece->off + piece->need)
            return true;
    return false;
}

static void round_once(uint64_t *seed)
{
    struct disk_range ranges[DISK_RANGES_MAX];
    struct plan_piece piece;
    struct plan plan;
    uint32_t n = random_ranges(seed, ranges);
    uint32_t read_size = (uint32_t)(1 + below(seed, 40)) * DISK_ALIGN * 4;
    uint64_t blocks = 0;

    shuffle(seed, ranges, n);
    memset(landed, 0, sizeof(landed));
    plan_make(&plan, ranges, n);
    uint64_t left = plan_left(&plan);
    while (plan_left(&plan) > 0) {
        bool back = below(seed, 3) == 0;
        CHECK(back ? plan_back(&plan, read_size, &piece) : plan_front(&plan, read_size, &piece));
        land(ranges, &piece, read_size);
        CHECK(piece.need == piece.bytes || needed(ranges, n, &piece));
        plan_take(&plan, &piece);
        left -= piece.bytes;
        blocks += piece.bytes / DISK_ALIGN;
        CHECK(plan_left(&plan) == left);
    }
    CHECK(!plan_front(&plan, read_size, &piece) && !plan_back(&plan, read_size, &piece));
    CHECK(check_ranges(ranges, n) == blocks); // nothing else was read
}

// Three tensors that lie one after another become one span.
static void merges(void)
{
    struct disk_range ranges[3];
    struct plan plan;
    for (uint32_t i = 0; i < 3; i++)
        ranges[i] = (struct disk_range){
            .off = 100 + 5000 * i, .bytes = 5000, .file = {7}, .files_n = 1, .dst = i * 4096};
    plan_make(&plan, ranges, 3);
    CHECK(plan.spans_n == 1 && plan_left(&plan) == 16384);
    CHECK(plan.span[0].need_end == 15100);
    ranges[2].dst = 65536; // somewhere else: on its own
    plan_make(&plan, ranges, 3);
    CHECK(plan.spans_n == 2);
    ranges[1].file[0] = 8; // another file
    plan_make(&plan, ranges, 3);
    CHECK(plan.spans_n == 3);
}

// A short rest goes with the piece before it.
static void rests(void)
{
    struct disk_range range = {.off = 0, .bytes = (1u << 20) + 4096, .files_n = 1};
    struct plan_piece piece;
    struct plan plan;
    plan_make(&plan, &range, 1);
    CHECK(plan_front(&plan, 1u << 20, &piece) && piece.bytes == (1u << 20) + 4096);
    range.bytes = (1u << 20) + (1u << 19);
    plan_make(&plan, &range, 1);
    CHECK(plan_front(&plan, 1u << 20, &piece) && piece.bytes == 1u << 20);
}

int main(void)
{
    uint64_t seed = 11;
    for (uint32_t i = 0; i < ROUNDS; i++)
        round_once(&seed);
    merges();
    rests();
    return 0;
}
