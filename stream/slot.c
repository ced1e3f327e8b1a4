// SPDX-License-Identifier: MIT
#include "stream/files.h"
#include "stream/state.h"

static uint64_t read_id(uint32_t key, uint32_t slot)
{
    return (uint64_t)key << 32 | slot;
}

int slot_read(struct stream *s, uint32_t key, uint32_t slot, bool speculative)
{
    struct disk_read read = {.id = read_id(key, slot), .buffer = slot, .speculative = speculative};
    const struct slot_range *ranges = slots_ranges(s->slots, key, &read.ranges_n);
    for (uint32_t i = 0; i < read.ranges_n; i++) {
        read.range[i] = (struct disk_range){
            .off = ranges[i].off, .bytes = ranges[i].bytes, .dst = ranges[i].dst};
        read.range[i].files_n = stream_files_copies(s->files, ranges[i].file, read.range[i].file);
    }
    return disk_reader_submit(s->reader, &read, 1);
}

void slot_read_want(struct stream *s, uint32_t slot)
{
    disk_reader_want(s->reader, read_id(residency_key(s->host, slot), slot));
}

void slot_read_cancel(struct stream *s, uint32_t slot)
{
    disk_reader_cancel(s->reader, read_id(residency_key(s->host, slot), slot));
}

void slot_forget(struct stream *s, uint32_t slot)
{
    residency_forget(s->host, slot);
    s->host_slots[slot] = (struct host_slot){.state = SLOT_EMPTY, .want = RESIDENCY_NONE};
}

void slot_placed(struct stream *s, uint32_t slot, uint32_t evicted)
{
    s->stats.evictions += evicted != RESIDENCY_NONE;
    s->host_slots[slot] = (struct host_slot){.want = RESIDENCY_NONE};
}
