// SPDX-License-Identifier: MIT
#include "client/doctor.h"
#include "client/memory_plan.h"
#include "model/expert_feed.h"
#include "model/hashes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SAMPLE_N       8 // experts of V3: 0.4 GB of reading
#define GIB            (1024.0 * 1024 * 1024)
#define PATH_BYTES_MAX 4096

/* ---------------------------------------------------------------- device */

void doctor_device(struct doctor *doctor)
{
    static const char drivers[] = "apt install mesa-vulkan-drivers, or the GPU vendor's Vulkan "
                                  "driver";
    const struct conf *conf = &doctor->conf;
    struct device_info *device = &doctor->device;
    struct fault fault = {0};

    if (device_info_get(conf->device_select, device, &fault) != 0) {
        doctor_add(doctor, VERDICT_FAIL, "GPU", drivers, "%s", fault.text);
        return;
    }
    doctor->device_found = true;
    if (device->is_cpu)
        doctor_add(doctor, VERDICT_WARN, "GPU",
                   "for a GPU: its Vulkan driver, and membership in the groups video and render",
                   "none is used: %s computes on the CPU", device->name);
    else
        doctor_add(doctor, VERDICT_OK, "GPU", "", "%s, %s, %.1f GiB", device->name, device->driver,
                   (double)device->memory_bytes / GIB);
    bool wanted = conf->experts_path == SLOTS_PATH_IMPORT;
    if (device->imports)
        doctor_add(doctor, VERDICT_OK, "external_memory_host", "",
                   "kernels can read the memory that drives fill");
    else
        doctor_add(doctor, wanted ? VERDICT_FAIL : VERDICT_WARN, "external_memory_host",
                   wanted ? "[experts] path = auto" : "a newer Vulkan driver may have it",
                   "the driver has none: experts are copied into the device's memory");
}

/* ------------------------------------------------------------ checkpoint */

static void packs_look(struct doctor *d)
{
    struct fault fault = {0};

    for (uint32_t i = 0; i < d->packs_n; i++) {
        if (pack_open(d->pack_dirs[i], d->checkpoint, &d->packs[i], &fault) == 0)
            doctor_add(d, VERDICT_OK, "pack", "", "%s: %u experts, all parts there",
                       d->pack_dirs[i], pack_records(d->packs[i]));
        else
            doctor_add(d, VERDICT_FAIL, "pack", "mount its drive, or make it again: expertctl pack",
                       "%s", fault.text);
    }
}

void doctor_checkpoint(struct doctor *doctor)
{
    struct fault fault = {0};

    if (!doctor->conf_read || !doctor->conf.model_path[0])
        return;
    int err = checkpoint_open(doctor->conf.model_path, &doctor->checkpoint, &fault);
    if (err == -EACCES && !doctor->privileged)
        doctor_add(doctor, VERDICT_WARN, "checkpoint", "run expertctl doctor as root",
                   "%s cannot be read by this user", doctor->conf.model_path);
    else if (err)
        doctor_add(doctor, VERDICT_FAIL, "checkpoint",
                   access(doctor->conf.model_path, F_OK) == 0
                       ? "fetch what is missing again"
                       : "mount its drive, or name another: expertctl setup --model DIR",
                   "%s", fault.text);
    if (err)
        return;
    doctor_add(doctor, VERDICT_OK, "checkpoint", "", "%s: complete, %u files",
               doctor->conf.model_path, checkpoint_file_count(doctor->checkpoint));
    packs_look(doctor);
}

/* ---------------------------------------------------------------- hashes */

// hash_differs reads experts [first, first + n) and counts those that are not what the list says.
static int hash_differs(struct doctor *d, const struct hashes *hashes, uint32_t first, uint32_t n,
                        uint32_t *differ, struct fault *fault)
{
    struct expert_feed *feed = NULL;
    struct expert_bytes expert;
    uint8_t hash[16];

    int got = expert_feed_open(d->checkpoint, first, &feed, fault);
    for (uint32_t i = 0; got >= 0 && i < n; i++) {
        got = expert_feed_next(feed, &expert, fault);
        if (got <= 0)
            break;
        const uint8_t *known = hashes_get(hashes, expert.index);
        hashes_expert(expert.part, expert.bytes, hash);
        *differ += known && memcmp(known, hash, sizeof(hash)) != 0;
        if (d->interrupted && d->interrupted(d->interrupted_user) != 0)
            got = fault_set(fault, ECANCELED, "stopped");
    }
    expert_feed_close(&feed);
    return got < 0 ? got : 0;
}

// hashes_compare looks at all experts, or at some that lie far apart.
static void hashes_compare(struct doctor *d, const struct hashes *hashes)
{
    uint32_t n = hashes_n(hashes), differ = 0, looked = d->hashes ? n : SAMPLE_N;
    struct fault fault = {0};
    char mend[PATH_BYTES_MAX + 64];
    struct doctor_word word;
    int err = 0;

    if (looked >= n) {
        looked = n;
        err = hash_differs(d, hashes, 0, n, &differ, &fault);
    } else {
        for (uint32_t i = 0; i < looked && !err; i++)
            err = hash_differs(d, hashes, (uint32_t)((uint64_t)i * n / looked), 1, &differ, &fault);
    }
    snprintf(mend, sizeof(mend), "expertctl hash --verify %s names the files",
             doctor_word(d->conf.model_path, &word));
    if (err)
        doctor_add(d, VERDICT_FAIL, "hashes", "", "%s", fault.text);
    else if (differ)
        doctor_add(d, VERDICT_FAIL, "hashes", mend, "%u of %u experts are not what the list says",
                   differ, looked);
    else
        doctor_add(d, VERDICT_OK, "hashes", "", "%u of %u experts compared%s", looked, n,
                   looked < n ? "; --hashes compares all" : "");
}

void doctor_hashes(struct doctor *doctor)
{
    struct hashes *hashes = NULL;
    struct fault fault = {0};
    char path[PATH_BYTES_MAX], mend[PATH_BYTES_MAX + 64];
    struct doctor_word word;

    if (!doctor->checkpoint)
        return;
    if (doctor->packs_n > 0) {
        doctor_add(doctor, VERDICT_OK, "hashes", "",
                   "the pack has its own; expertctl pack --verify compares them");
        return;
    }
    int err = hashes_create(doctor->checkpoint, &hashes, &fault);
    if (!err && hashes_n(hashes) == 0)
        goto out; // a dense model
    if (!err && (err = hashes_path(doctor->checkpoint, path, sizeof(path))) == 0)
        err = hashes_load(hashes, path, &fault);
    snprintf(mend, sizeof(mend), "expertctl hash %s", doctor_word(doctor->conf.model_path, &word));
    if (err == -ENOENT || err == -EACCES)
        doctor_add(doctor, VERDICT_WARN, "hashes", mend,
                   "no list of hashes is here, by which damaged experts would be known; the daemon "
                   "makes one as it reads");
    else if (err)
        doctor_add(doctor, VERDICT_WARN, "hashes", mend, "%s", fault.text);
    else
        hashes_compare(doctor, hashes);
out:
    hashes_destroy(&hashes);
}

/* ---------------------------------------------------------------- memory */

// memory_told says what the plan that holds is.
static void memory_told(struct doctor *d, const struct engine_room *room)
{
    uint64_t held = room->experts_held_n < room->experts_n ? room->experts_held_n : room->experts_n;

    if (room->experts_n == 0)
        doctor_add(d, VERDICT_OK, "memory plan", "", "everything fits");
    else
        doctor_add(d, VERDICT_OK, "memory plan", "",
                   "%" PRIu64 " of %" PRIu64 " experts in memory%s", held, room->experts_n,
                   held < room->experts_n ? ", the others are read from drives as they are needed"
                                          : "");
    if (d->serving)
        doctor_add(d, VERDICT_OK, "free memory", "", "the daemon that runs has taken its own");
    else
        doctor_add(d, VERDICT_OK, "free memory", "",
                   "%.1f GiB on %s may be taken; %s, KV and activations need %.1f",
                   (double)room->have_bytes / GIB, d->device.name,
                   held < room->experts_n ? "weights outside of experts" : "weights",
                   (double)room->need_bytes / GIB);
}

void doctor_memory(struct doctor *doctor)
{
    static const char mend[] =
        "lower [limits] kv_tokens_max, sequences_max or [model] context_max, "
        "end what else uses the device, or use one with more";
    struct engine_room room;
    struct model_card card;
    struct fault fault = {0};

    if (!doctor->checkpoint || !doctor->device_found)
        return;
    if (conf_kv_check(&doctor->conf, memory_context(&doctor->conf, doctor->checkpoint), &fault)) {
        doctor_add(doctor, VERDICT_FAIL, "memory plan", "edit that line", "%s", fault.text);
        return;
    }
    int err = memory_plan_try(&doctor->conf, doctor->checkpoint, &doctor->device, doctor->serving,
                              &room, &fault);
    if (err) {
        doctor_add(doctor, VERDICT_FAIL, "memory plan", err == -ENOMEM ? mend : "", "%s",
                   fault.text);
        return;
    }
    memory_told(doctor, &room);
    if (room.experts_held_n < room.experts_n && model_card_make(doctor->checkpoint, &card) == 0)
        doctor->token_bytes =
            (uint64_t)((double)card.experts_read *
                       ((double)(room.experts_n - room.experts_held_n) / (double)room.experts_n));
}
