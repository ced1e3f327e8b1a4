// SPDX-License-Identifier: MIT
#include "tests/kernels/pages.h"

#include "tests/kernels/ref.h"

void pages_make(struct rig *rig, struct pages *p, uint32_t entry, bool f16)
{
    static const uint32_t page[SEQS][PAGES_MAX] = {{5, 0, 3}, {6, UINT32_MAX, UINT32_MAX}};
    static const uint32_t row[ROW_BASE + STEP_ROWS][4] = {
        {0, 1, 99, 0}, {0, 0, 149, 0}, {0, 1, 0, 0}, {0, 0, 63, 0}, {0, 0, 64, 0}, {0, 1, 20, 0}};
    uint32_t table[PAGES0 + SEQS * PAGES_MAX];
    *p = (struct pages){.entry = entry, .f16 = f16};
    memcpy(p->page, page, sizeof(page));
    memcpy(p->row, row, sizeof(row));
    memcpy(table, row, sizeof(row));
    memcpy(table + PAGES0, page, sizeof(page));
    p->table = rig_table(rig, table, ARRAY_LEN(table));
    p->cache = words_make(rig, PAGES * PAGE_TOKENS * entry / (f16 ? 2 : 1));
}

uint32_t pages_at(const struct pages *p, uint32_t seq, uint32_t position, uint32_t i)
{
    uint32_t page = p->page[seq][position / PAGE_TOKENS];
    return (page * PAGE_TOKENS + position % PAGE_TOKENS) * p->entry + i;
}

static void value_set(struct pages *p, uint32_t at, float v)
{
    uint16_t half = ref_f16(v);
    if (p->f16)
        memcpy((uint16_t *)(void *)p->cache.v + at, &half, 2);
    else
        p->cache.v[at] = v;
}

void pages_fill(struct rig *rig, struct pages *p)
{
    for (uint32_t seq = 0; seq < SEQS; seq++)
        for (uint32_t t = 0; t <= (seq ? 20u : 149u); t++)
            for (uint32_t i = 0; i < p->entry; i++)
                value_set(p, pages_at(p, seq, t, i), rig_uniform(rig, -1, 1));
}

double pages_value(const struct pages *p, uint32_t seq, uint32_t position, uint32_t i)
{
    uint32_t at = pages_at(p, seq, position, i);
    uint16_t half;
    if (!p->f16)
        return (double)p->cache.v[at];
    memcpy(&half, (const uint16_t *)(const void *)p->cache.v + at, 2);
    return (double)ref_f16_value(half);
}

void pages_free(struct pages *p)
{
    words_free(&p->cache);
    vk_buffer_destroy(&p->table);
}
