// SPDX-License-Identifier: MIT
#include "io/disk/plan.h"

#include <assert.h>
#include <string.h>

static uint64_t align_down(uint64_t n)
{
    return n & ~(uint64_t)(DISK_ALIGN - 1);
}

static uint64_t align_up(uint64_t n)
{
    return align_down(n + DISK_ALIGN - 1);
}

static bool same_copies(const struct disk_range *a, const struct disk_range *b)
{
    return a->files_n == b->files_n && !memcmp(a->file, b->file, a->files_n * sizeof(a->file[0]));
}

static bool before(const struct plan_span *a, const struct plan_span *b,
                   const struct disk_range *ranges)
{
    uint32_t file_a = ranges[a->range].file[0];
    uint32_t file_b = ranges[b->range].file[0];
    return file_a != file_b ? file_a < file_b : a->off < b->off;
}

// Blocks that two spans share are read once only if they land at one place.
static bool merge(struct plan_span *into, const struct plan_span *next,
                  const struct disk_range *ranges)
{
    if (!same_copies(&ranges[into->range], &ranges[next->range]) || next->off > into->end ||
        next->dst - into->dst != next->off - into->off)
        return false;
    if (next->end > into->end)
        into->end = next->end;
    if (next->need_end > into->need_end)
        into->need_end = next->need_end;
    return true;
}

void plan_make(struct plan *plan, const struct disk_range *ranges, uint32_t n)
{
    assert(n >= 1 && n <= DISK_RANGES_MAX);
    *plan = (struct plan){0};
    for (uint32_t i = 0; i < n; i++) {
        const struct disk_range *range = &ranges[i];
        struct plan_span span = {.off = align_down(range->off),
                                 .end = align_up(range->off + range->bytes),
                                 .need_end = range->off + range->bytes,
                                 .dst = range->dst,
                                 .range = i};
        uint32_t at = i;
        for (; at > 0 && before(&span, &plan->span[at - 1], ranges); at--)
            plan->span[at] = plan->span[at - 1];
        plan->span[at] = span;
    }
    uint32_t kept = 0;
    for (uint32_t i = 1; i < n; i++)
        if (!merge(&plan->span[kept], &plan->span[i], ranges))
            plan->span[++kept] = plan->span[i];
    plan->spans_n = kept + 1;
}

uint64_t plan_left(const struct plan *plan)
{
    uint64_t left = 0;
    for (uint32_t i = plan->first; i < plan->spans_n; i++)
        left += plan->span[i].end - plan->span[i].off;
    return left;
}

// piece_bytes: a read of a few KiB costs a drive as much time as a hundred, so a short rest is no
// piece of its own.
static uint32_t piece_bytes(uint64_t left, uint32_t read_size)
{
    return left < (uint64_t)read_size + read_size / 4 ? (uint32_t)left : read_size;
}

static bool show(const struct plan *plan, uint64_t off, uint32_t bytes, struct plan_piece *ret)
{
    const struct plan_span *span = &plan->span[plan->first];
    uint64_t need = span->need_end - off;
    *ret = (struct plan_piece){.off = off,
                               .dst = span->dst + (off - span->off),
                               .bytes = bytes,
                               .need = need < bytes ? (uint32_t)need : bytes,
                               .span = plan->first,
                               .range = span->range};
    return true;
}

bool plan_front(const struct plan *plan, uint32_t read_size, struct plan_piece *ret)
{
    if (plan->first == plan->spans_n)
        return false;
    const struct plan_span *span = &plan->span[plan->first];
    return show(plan, span->off, piece_bytes(span->end - span->off, read_size), ret);
}

bool plan_back(const struct plan *plan, uint32_t read_size, struct plan_piece *ret)
{
    if (plan->first == plan->spans_n)
        return false;
    const struct plan_span *span = &plan->span[plan->first];
    uint32_t bytes = piece_bytes(span->end - span->off, read_size);
    return show(plan, span->end - bytes, bytes, ret);
}

void plan_take(struct plan *plan, const struct plan_piece *piece)
{
    struct plan_span *span = &plan->span[plan->first];
    assert(piece->span == plan->first);
    assert(piece->off == span->off || piece->off + piece->bytes == span->end);
    if (piece->off == span->off) {
        span->off += piece->bytes;
        span->dst += piece->bytes;
    } else {
        span->end -= piece->bytes;
    }
    if (span->off == span->end)
        plan->first++;
}
