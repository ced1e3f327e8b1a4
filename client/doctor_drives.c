// SPDX-License-Identifier: MIT
// How fast drives are, by the reader that the daemon uses, for a fraction of a second each.
#include "base/clock.h"
#include "client/doctor.h"
#include "io/disk/reader.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PROBE_READS 16u          // in flight
#define PROBE_BYTES (1ull << 20) // of one
#define PROBE_US    300000u      // a drive
#define PROBE_MAX   (2ull << 30) // bytes a drive, however fast it is
#define DONE_US     1000000
#define TIMEOUT_US  10000000u
#define SLOW_RATE   1e9 // bytes a second: a drive of PCIe 3 gives three times that
#define PLACES_MAX  (1 + STREAM_DIRS_MAX * PACK_PARTS_MAX)

// A drive is known by a file on it.
struct place {
    char file[PATH_MAX];
    dev_t dev;
    uint64_t bytes;
};

struct probe {
    struct disk_reader *reader;
    struct iovec buffers[PROBE_READS];
    uint32_t file;
    uint64_t bytes; // of the file, whole blocks
    uint64_t next;  // place of the next read
    uint64_t done;  // bytes that came
    bool failed;
    struct fault fault;
};

static void probe_submit(struct probe *p, uint32_t buffer)
{
    uint64_t bytes = p->bytes - p->next < PROBE_BYTES ? p->bytes - p->next : PROBE_BYTES;
    struct disk_read read = {.id = buffer, .buffer = buffer, .ranges_n = 1};

    read.range[0] =
        (struct disk_range){.off = p->next, .bytes = bytes, .file = {p->file}, .files_n = 1};
    p->next = p->next + bytes < p->bytes ? p->next + bytes : 0;
    if (disk_reader_submit(p->reader, &read, 1) != 0)
        p->failed = true;
}

// probe_run keeps the drive busy for PROBE_US.  Returns bytes a second.
static double probe_run(struct probe *p)
{
    struct disk_done done[PROBE_READS];
    uint64_t start_us = clock_us(), now_us = start_us;
    uint32_t flying = 0;

    for (; flying < PROBE_READS && !p->failed; flying++)
        probe_submit(p, flying);
    while (flying > 0 && !p->failed) {
        uint32_t n = disk_reader_wait(p->reader, done, PROBE_READS, DONE_US);
        now_us = clock_us();
        for (uint32_t i = 0; i < n; i++, flying--) {
            if (done[i].err != 0) {
                p->failed = true;
                p->fault = done[i].fault;
            }
            p->done += done[i].bytes;
            bool more = now_us - start_us < PROBE_US && p->done < PROBE_MAX && !p->failed;
            if (more)
                probe_submit(p, (uint32_t)done[i].id);
            flying += more;
        }
    }
    return now_us > start_us ? (double)p->done * 1e6 / (double)(now_us - start_us) : 0;
}

static int probe_open(struct probe *p, const struct doctor *d, const struct place *place,
                      void *memory, struct fault *fault)
{
    struct disk_params params = {
        .engine = (enum disk_engine)d->conf.drives_engine,
        .queue_depth = PROBE_READS,
        .read_size = PROBE_BYTES,
        .timeout_us = TIMEOUT_US,
        .buffers = p->buffers,
        .buffers_n = PROBE_READS,
    };
    uint32_t drive = 0;

    for (uint32_t i = 0; i < PROBE_READS; i++)
        p->buffers[i] = (struct iovec){(char *)memory + i * PROBE_BYTES, PROBE_BYTES};
    p->bytes = place->bytes / DISK_ALIGN * DISK_ALIGN;
    int err = disk_reader_create(&params, &p->reader, fault);
    if (!err)
        err = disk_reader_drive_add(p->reader, place->file, &drive, fault);
    if (!err)
        err = disk_reader_file_add(p->reader, drive, place->file, &p->file, fault);
    return err ? err : disk_reader_start(p->reader, fault);
}

// drive_direct tells what the reader warns of: reads through the page cache, or something else.
static void drive_direct(struct doctor *d, const struct place *place,
                         const struct disk_reader *reader)
{
    bool direct = true;

    for (uint32_t i = 0; disk_reader_warning(reader, i); i++) {
        const char *text = disk_reader_warning(reader, i);
        bool cached = strstr(text, "O_DIRECT") || strstr(text, "page cache");
        doctor_add(d, VERDICT_WARN, cached ? "O_DIRECT" : "reader",
                   cached ? "put the model on ext4, XFS or Btrfs" : "", "%s", text);
        direct &= !cached;
    }
    if (direct)
        doctor_add(d, VERDICT_OK, "O_DIRECT", "", "%s can be read past the page cache",
                   place->file);
}

static void drive_say(struct doctor *d, const struct place *place, double rate)
{
    double gb = rate / 1e9;
    char tokens[96] = "";

    if (d->token_bytes > 0 && rate > 0)
        snprintf(tokens, sizeof(tokens), "; alone it would give %.2g tokens/s at worst",
                 rate / (double)d->token_bytes);
    if (rate < SLOW_RATE && d->token_bytes > 0)
        doctor_add(d, VERDICT_WARN, "drive",
                   "an NVMe drive reads 3 to 14 GB/s; copies on several "
                   "drives add up ([drives])",
                   "%s: %.2f GB/s%s", place->file, gb, tokens);
    else
        doctor_add(d, VERDICT_OK, "drive", "", "%s: %.2f GB/s%s", place->file, gb, tokens);
}

static void drive_look(struct doctor *d, const struct place *place)
{
    struct probe *p = calloc(1, sizeof(*p));
    void *memory = mmap(NULL, PROBE_READS * PROBE_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct fault fault = {0};

    if (!p || memory == MAP_FAILED)
        goto out;
    int err = probe_open(p, d, place, memory, &fault);
    if (!err && p->bytes > 0) {
        double rate = probe_run(p);
        drive_direct(d, place, p->reader);
        if (p->failed)
            doctor_add(d, VERDICT_FAIL, "drive", "look at dmesg and smartctl; replace the drive",
                       "%s", p->fault.text);
        else
            drive_say(d, place, rate);
    } else if (err == -EACCES && !d->privileged) {
        doctor_add(d, VERDICT_WARN, "drive", "run expertctl doctor as root",
                   "%s cannot be read by this user", place->file);
    } else if (err) {
        doctor_add(d, VERDICT_FAIL, "drive", "", "%s", fault.text);
    }
out:
    // A drive that never answers may still write into the memory: then it stays mapped.
    if ((!p || disk_reader_destroy(&p->reader)) && memory != MAP_FAILED)
        munmap(memory, PROBE_READS * PROBE_BYTES);
    free(p);
}

// place_add notes a file as its drive's, unless one of that drive is there.
static uint32_t place_add(struct place *places, uint32_t n, const char *file)
{
    struct stat st;

    if (n == PLACES_MAX || stat(file, &st) != 0 || !S_ISREG(st.st_mode))
        return n;
    for (uint32_t i = 0; i < n; i++)
        if (places[i].dev == st.st_dev)
            return n;
    places[n] = (struct place){.dev = st.st_dev, .bytes = (uint64_t)st.st_size};
    snprintf(places[n].file, sizeof(places[n].file), "%s", file);
    return n + 1;
}

// places_find lists one file of each drive that experts come from.
static uint32_t places_find(const struct doctor *d, struct place *places)
{
    const char *shard = safetensors_path(checkpoint_file(d->checkpoint, 0));
    const char *slash = strrchr(shard, '/');
    char copy[PATH_MAX];
    uint32_t n = 0;

    for (uint32_t i = 0; i < d->packs_n; i++)
        for (uint32_t part = 0; d->packs[i] && part < pack_layout(d->packs[i])->parts_n; part++)
            n = place_add(places, n, pack_part_path(d->packs[i], part));
    if (d->packs_n == 0)
        n = place_add(places, n, shard);
    for (uint32_t i = 0; i < d->shards_n; i++) {
        snprintf(copy, sizeof(copy), "%s/%s", d->shard_dirs[i], slash ? slash + 1 : shard);
        n = place_add(places, n, copy);
    }
    return n;
}

void doctor_drives(struct doctor *doctor)
{
    if (!doctor->checkpoint)
        return;
    if (doctor->serving) {
        doctor_add(doctor, VERDICT_OK, "drives", "",
                   "not measured while the daemon serves: expertctl status has their figures");
        return;
    }
    struct place *places = calloc(PLACES_MAX, sizeof(*places));
    uint32_t n = places ? places_find(doctor, places) : 0;
    for (uint32_t i = 0; i < n; i++)
        if (!doctor->interrupted || doctor->interrupted(doctor->interrupted_user) == 0)
            drive_look(doctor, &places[i]);
    free(places);
}
