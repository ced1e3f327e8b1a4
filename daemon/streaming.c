// SPDX-License-Identifier: MIT
#include "daemon/streaming.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/topology.h"
#include "model/file.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RATE_US 10e6 // time that a rate looks back

// list_check: first is a directory that belongs to the list without being in it, or NULL.
static int list_check(const char *key, const char *list, const char *first, struct fault *fault)
{
    char text[CONF_LIST_MAX];
    const char *dirs[STREAM_DIRS_MAX + 1] = {first};
    uint32_t n = first ? 1 : 0;

    memcpy(text, list, sizeof(text));
    n += conf_list_split(text, dirs + n, STREAM_DIRS_MAX);
    int err = file_dirs_check(dirs, n, fault);
    if (err < 0)
        fault_prefix(fault, "[drives] %s", key);
    return err;
}

int streaming_dirs_check(const struct conf *conf, struct fault *fault)
{
    struct stat st;
    // Where that is no directory, who opens the model says it better.
    bool model = stat(conf->model_path, &st) == 0 && S_ISDIR(st.st_mode);
    int err = list_check("pack", conf->drives_pack, NULL, fault);
    return err ? err
               : list_check("shards", conf->drives_shards, model ? conf->model_path : NULL, fault);
}

void streaming_init(struct streaming *s, struct topology *t, bool (*idle)(void *user), void *user)
{
    const struct conf *conf = &t->conf;
    *s = (struct streaming){.t = t};
    memcpy(s->packs, conf->drives_pack, sizeof(s->packs));
    memcpy(s->shards, conf->drives_shards, sizeof(s->shards));
    s->params = (struct stream_params){
        .engine = (enum disk_engine)conf->drives_engine,
        .queue_depth = conf->drives_queue_depth,
        .read_size = (uint32_t)conf->drives_read_size,
        .timeout_us = conf->drives_timeout,
        .verify = (enum stream_verify)conf->experts_verify,
        .prefetch = (enum stream_prefetch)conf->experts_prefetch,
        .policy = RESIDENCY_OURS,
        .idle = idle,
        .idle_user = user,
    };
    s->params.packs_n = conf_list_split(s->packs, s->params.packs, STREAM_DIRS_MAX);
    s->params.shards_n = conf_list_split(s->shards, s->params.shards, STREAM_DIRS_MAX);
}

static void drives_name(struct streaming *s)
{
    static const char none[] = "";
    struct disk_drive_stats stats[DISK_DRIVES_MAX];
    const char *names[DISK_DRIVES_MAX] = {none};
    uint32_t n = stream_drives(s->stream);
    for (uint32_t i = 0; i < n && i < DISK_DRIVES_MAX; i++) {
        stream_drive_stats(s->stream, i, &stats[i]);
        names[i] = stats[i].name;
    }
    metrics_drives_set(&s->t->metrics, names, n < DISK_DRIVES_MAX ? n : DISK_DRIVES_MAX);
}

// drives_unused: with all experts in memory, or none at all, what [drives] names is not read.
static void drives_unused(const struct streaming *s)
{
    if (s->params.packs_n == 0 && s->params.shards_n == 0)
        return;
    log_warning("[drives] %s: no expert is read from drives, for all are in memory; ignoring it "
                "([experts] place = slots reads them)",
                s->params.packs_n > 0 ? "pack" : "shards");
}

int streaming_open(struct streaming *s, struct engine *engine, struct fault *fault)
{
    struct topology *t = s->t;
    if (!engine_slots(engine)) {
        drives_unused(s);
        return 0;
    }
    int err = stream_open(engine, t->served.checkpoint, &s->params, &s->stream, fault);
    if (err != 0)
        return err;
    stream_describe(s->stream, t->drives, sizeof(t->drives));
    drives_name(s);
    streaming_publish(s);
    return 0;
}

void streaming_close(struct streaming *s)
{
    stream_close(&s->stream);
}

void streaming_step_begin(struct streaming *s)
{
    s->mark_us = clock_us();
}

void streaming_step_end(struct streaming *s)
{
    streaming_publish(s);
    s->mark_us = 0;
}

static void experts_publish(struct streaming *s)
{
    struct metrics_page *page = &s->t->metrics;
    struct stream_stats now;
    stream_stats_read(s->stream, &now);
    const struct {
        enum metric_id id;
        uint64_t value;
    } rows[] = {
        {METRIC_ID_EXPERT_HIT, now.hits},
        {METRIC_ID_EXPERT_MISS, now.wanted - now.hits},
        {METRIC_ID_EXPERT_JOINED, now.joined},
        {METRIC_ID_EXPERT_READ, now.reads},
        {METRIC_ID_EXPERT_READ_BYTES, now.read_bytes},
        {METRIC_ID_EXPERT_DRIVE_BYTES, now.drive_bytes},
        {METRIC_ID_EXPERT_STALL_FIRST_US, now.stall_ns[STREAM_STALL_FIRST] / 1000},
        {METRIC_ID_EXPERT_STALL_LAST_US, now.stall_ns[STREAM_STALL_LAST] / 1000},
        {METRIC_ID_EXPERT_STALL_SLOTS_US, now.stall_ns[STREAM_STALL_SLOTS] / 1000},
        {METRIC_ID_EXPERT_PREDICTED, now.predicted},
        {METRIC_ID_EXPERT_PREDICTED_RIGHT, now.predicted_right},
        {METRIC_ID_EXPERT_PREDICTED_READ, now.predicted_read},
        {METRIC_ID_EXPERT_PREDICTED_USED, now.predicted_used},
        {METRIC_ID_EXPERT_PREDICTED_WASTED, now.predicted_read - now.predicted_used},
        {METRIC_ID_EXPERT_EVICTED, now.evictions},
        {METRIC_ID_EXPERT_FAILED, now.failures},
        {METRIC_ID_EXPERT_SLOT, now.slots},
        {METRIC_ID_EXPERT_SLOT_USED, now.slots_used},
        {METRIC_ID_DISK_CPU_US, now.disk_cpu_ns / 1000},
    };
    for (uint32_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        metrics_set(page, rows[i].id, rows[i].value);
}

// drive_rate follows how fast a drive gives bytes while steps run: sums that forget what is older
// than RATE_US or so.
static double drive_rate(struct streaming *s, uint32_t i, const struct disk_drive_stats *stats,
                         uint64_t step_us)
{
    double keep = RATE_US / (RATE_US + (double)step_us);
    if (step_us > 0) {
        double bytes = (double)(stats->bytes - s->drive[i].bytes);
        s->drive[i].sum_bytes = s->drive[i].sum_bytes * keep + bytes;
        s->drive[i].sum_us = s->drive[i].sum_us * keep + (double)step_us;
    }
    s->drive[i].bytes = stats->bytes;
    double rate = s->drive[i].sum_us > 0 ? s->drive[i].sum_bytes * 1e6 / s->drive[i].sum_us : 0;
    if ((double)stats->bytes_second > s->drive[i].best)
        s->drive[i].best = (double)stats->bytes_second;
    if (rate > s->drive[i].best)
        s->drive[i].best = rate;
    return rate;
}

static void drive_log(const struct disk_drive_stats *now, bool was_failing)
{
    if (now->open == was_failing)
        return;
    if (now->open)
        log_event(LOG_LEVEL_ERROR, EVENT_DRIVE,
                  LOG_FIELDS({"DRIVE", now->name}, {"STATE", "failing"}),
                  "drive %s fails: it is asked now and then until it works again; what only it has "
                  "cannot be answered",
                  now->name);
    else
        log_event(LOG_LEVEL_INFO, EVENT_DRIVE,
                  LOG_FIELDS({"DRIVE", now->name}, {"STATE", "working"}), "drive %s works again",
                  now->name);
}

static void drive_publish(struct streaming *s, uint32_t i, uint64_t step_us)
{
    struct metrics_page *page = &s->t->metrics;
    struct disk_drive_stats now;
    stream_drive_stats(s->stream, i, &now);
    double rate = drive_rate(s, i, &now, step_us), best = s->drive[i].best;
    const uint64_t rows[DRIVE_METRIC_ID_COUNT] = {
        [DRIVE_METRIC_ID_BYTES] = now.bytes,
        [DRIVE_METRIC_ID_READ] = now.pieces,
        [DRIVE_METRIC_ID_IN_FLIGHT] = now.in_flight,
        [DRIVE_METRIC_ID_ERROR] = now.errors,
        [DRIVE_METRIC_ID_RETRY] = now.retries,
        [DRIVE_METRIC_ID_TIMEOUT] = now.timeouts,
        [DRIVE_METRIC_ID_MISMATCH] = now.mismatches,
        [DRIVE_METRIC_ID_FAILING] = now.open,
        [DRIVE_METRIC_ID_BUSY_US] = now.busy_ns / 1000,
        [DRIVE_METRIC_ID_BYTES_SECOND] = (uint64_t)rate,
        [DRIVE_METRIC_ID_BEST_BYTES_SECOND] = (uint64_t)best,
        [DRIVE_METRIC_ID_SHARE_PERCENT] = best > 0 ? (uint64_t)(100 * rate / best + 0.5) : 0,
    };
    drive_log(&now, metrics_drive_get(page, i, DRIVE_METRIC_ID_FAILING) != 0);
    for (uint32_t id = 0; id < DRIVE_METRIC_ID_COUNT; id++)
        metrics_drive_set(page, i, (enum drive_metric_id)id, rows[id]);
}

void streaming_publish(struct streaming *s)
{
    uint64_t step_us = 0;
    if (!s->stream)
        return;
    if (s->mark_us != 0) {
        uint64_t now_us = clock_us();
        step_us = now_us - s->mark_us;
        s->mark_us = now_us;
    }
    experts_publish(s);
    for (uint32_t i = 0; i < metrics_drives_n(&s->t->metrics); i++)
        drive_publish(s, i, step_us);
}

bool streaming_failing(const struct metrics_page *page, char *ret, size_t ret_bytes)
{
    size_t used = 0;
    for (uint32_t i = 0; i < metrics_drives_n(page); i++) {
        if (metrics_drive_get(page, i, DRIVE_METRIC_ID_FAILING) == 0 || used >= ret_bytes)
            continue;
        used += (size_t)snprintf(ret + used, ret_bytes - used, "%s%s",
                                 used > 0 ? ", " : "failing drives: ", page->drive[i].name);
    }
    return used > 0;
}
