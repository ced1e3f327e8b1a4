// SPDX-License-Identifier: MIT
// metrics: the two lists of counters and gauges (the daemon's, and those of each drive) and the
// histograms: enum, text of /metrics and names.
// Owner: each counter has one writing thread (the column says which); any thread may read.
#pragma once
#include "api/buf.h"
#include "base/histogram.h"
#include "io/disk/reader.h"

#include <stdatomic.h>
#include <stdint.h>

// X(name, kind, labels, writer, help); names without the prefix "expertd_"; rows of one name stand
// together.  Subject first, singular, unit last.
#define METRICS(X)                                                                                 \
    X(CONNECTION, connection, GAUGE, NULL, sock, "Open connections")                               \
    X(CONNECTION_OPENED, connection_opened, COUNTER, NULL, sock, "Connections taken")              \
    X(RESPONSE_2XX, response, COUNTER, "status=\"2xx\"", sock, "Answers by class of status")       \
    X(RESPONSE_4XX, response, COUNTER, "status=\"4xx\"", sock, "Answers by class of status")       \
    X(RESPONSE_5XX, response, COUNTER, "status=\"5xx\"", sock, "Answers by class of status")       \
    X(REQUEST_ACTIVE, request_active, GAUGE, NULL, sock, "Requests that wait or run")              \
    X(REQUEST_FINISHED, request_finished, COUNTER, "reason=\"stop\"", sock,                        \
      "Generations by how they ended")                                                             \
    X(REQUEST_LENGTH, request_finished, COUNTER, "reason=\"length\"", sock,                        \
      "Generations by how they ended")                                                             \
    X(REQUEST_CANCELLED, request_finished, COUNTER, "reason=\"cancelled\"", sock,                  \
      "Generations by how they ended")                                                             \
    X(REQUEST_FAILED, request_finished, COUNTER, "reason=\"failed\"", sock,                        \
      "Generations by how they ended")                                                             \
    X(PROMPT_TOKEN, prompt_token_computed, COUNTER, NULL, step, "Prompt tokens computed")          \
    X(PROMPT_TOKEN_CACHED, prompt_token_cached, COUNTER, NULL, step,                               \
      "Prompt tokens taken from a cache")                                                          \
    X(GENERATED_TOKEN, generated_token, COUNTER, NULL, step, "Tokens generated")                   \
    X(DRAFT_TOKEN, draft_token, COUNTER, NULL, step, "Tokens drafted by the MTP layer")            \
    X(DRAFT_ACCEPTED, draft_token_accepted, COUNTER, NULL, step, "Drafted tokens that were right") \
    X(STEP, step, COUNTER, NULL, step, "Steps through the model")                                  \
    X(STEP_ROW, step_row, COUNTER, NULL, step, "Rows of all steps")                                \
    X(STEP_HOST_US, step_host_us, COUNTER, NULL, step,                                             \
      "Time of steps outside waits for the device, in microseconds")                               \
    X(STEP_WAIT_US, step_wait_us, COUNTER, NULL, step,                                             \
      "Time of steps waiting for the device, in microseconds")                                     \
    X(EXPERT_HIT, expert_hit, COUNTER, NULL, step,                                                 \
      "Experts that a layer asked for and that were in a slot")                                    \
    X(EXPERT_MISS, expert_miss, COUNTER, NULL, step,                                               \
      "Experts that a layer asked for and that were not")                                          \
    X(EXPERT_JOINED, expert_joined, COUNTER, NULL, step,                                           \
      "Of those not there, how many were being read ahead")                                        \
    X(EXPERT_READ, expert_read, COUNTER, NULL, step, "Experts read from drives")                   \
    X(EXPERT_READ_BYTES, expert_read_bytes, COUNTER, NULL, step, "Bytes of the experts read")      \
    X(EXPERT_DRIVE_BYTES, expert_drive_bytes, COUNTER, NULL, step,                                 \
      "Bytes that drives gave for them, with surroundings, retries and waste")                     \
    X(EXPERT_STALL_FIRST_US, expert_stall_us, COUNTER, "cause=\"first\"", step,                    \
      "Time of steps with nothing to compute for want of an expert, in microseconds")              \
    X(EXPERT_STALL_LAST_US, expert_stall_us, COUNTER, "cause=\"last\"", step,                      \
      "Time of steps with nothing to compute for want of an expert, in microseconds")              \
    X(EXPERT_STALL_SLOTS_US, expert_stall_us, COUNTER, "cause=\"slots\"", step,                    \
      "Time of steps with nothing to compute for want of an expert, in microseconds")              \
    X(EXPERT_PREDICTED, expert_predicted, COUNTER, NULL, step,                                     \
      "Experts foretold for a later layer")                                                        \
    X(EXPERT_PREDICTED_RIGHT, expert_predicted_right, COUNTER, NULL, step,                         \
      "Of those foretold, how many the layer asked for")                                           \
    X(EXPERT_PREDICTED_READ, expert_predicted_read, COUNTER, NULL, step,                           \
      "Experts read ahead because they were foretold")                                             \
    X(EXPERT_PREDICTED_USED, expert_predicted_used, COUNTER, NULL, step,                           \
      "Of those read ahead, how many were asked for")                                              \
    X(EXPERT_PREDICTED_WASTED, expert_predicted_wasted, GAUGE, NULL, step,                         \
      "Of those read ahead, how many were not asked for yet")                                      \
    X(EXPERT_EVICTED, expert_evicted, COUNTER, NULL, step, "Experts that lost their slot")         \
    X(EXPERT_FAILED, expert_failed, COUNTER, NULL, step, "Experts that could not be read")         \
    X(EXPERT_SLOT, expert_slot, GAUGE, NULL, step, "Slots for experts; 0: all are resident")       \
    X(EXPERT_SLOT_USED, expert_slot_used, GAUGE, NULL, step, "Slots that hold an expert")          \
    X(DISK_CPU_US, disk_cpu_us, COUNTER, NULL, step,                                               \
      "CPU time of the thread that reads drives, in microseconds")                                 \
    X(SEQUENCE_RUNNING, sequence_running, GAUGE, NULL, step, "Answers computed together now")      \
    X(SEQUENCE_WAITING, sequence_waiting, GAUGE, NULL, step, "Answers that wait for a sequence")   \
    X(KV_TOKEN_FREE, kv_token_free, GAUGE, NULL, step, "Tokens of KV memory not reserved")         \
    X(MODEL_READY, model_ready, GAUGE, NULL, step, "1 once the model is loaded")

enum metric_id {
#define METRICS_ENUM(id, name, kind, labels, writer, help) METRIC_ID_##id,
    METRICS(METRICS_ENUM)
#undef METRICS_ENUM
        METRIC_ID_COUNT
};

// The same for what each drive has; the label is its name.
#define DRIVE_METRICS(X)                                                                           \
    X(BYTES, drive_bytes, COUNTER, "Bytes read from a drive")                                      \
    X(READ, drive_read, COUNTER, "Reads of a drive that ended well")                               \
    X(IN_FLIGHT, drive_in_flight, GAUGE, "Reads that a drive works on now")                        \
    X(ERROR, drive_error, COUNTER, "Reads that a drive refused")                                   \
    X(RETRY, drive_retry, COUNTER, "Reads tried again")                                            \
    X(TIMEOUT, drive_timeout, COUNTER, "Reads that took too long")                                 \
    X(MISMATCH, drive_mismatch, COUNTER, "Reads whose bytes were not those of the checksum")       \
    X(FAILING, drive_failing, GAUGE, "1 while a drive is left alone because it fails")             \
    X(BUSY_US, drive_busy_us, COUNTER, "Time with a read in flight, in microseconds")              \
    X(BYTES_SECOND, drive_bytes_second, GAUGE,                                                     \
      "Bytes a second while steps run, over the last ten seconds of them or so")                   \
    X(BEST_BYTES_SECOND, drive_best_bytes_second, GAUGE,                                           \
      "Bytes a second of a drive at its best since the start")                                     \
    X(SHARE_PERCENT, drive_share_percent, GAUGE,                                                   \
      "Bytes a second while steps run, of the drive's best, in percent")

enum drive_metric_id {
#define DRIVE_METRICS_ENUM(id, name, kind, help) DRIVE_METRIC_ID_##id,
    DRIVE_METRICS(DRIVE_METRICS_ENUM)
#undef DRIVE_METRICS_ENUM
        DRIVE_METRIC_ID_COUNT
};

#define DRIVE_NAME_MAX  256u                      // as in struct disk_drive_stats
#define DRIVE_LABEL_MAX (2u * DRIVE_NAME_MAX + 9) // drive="...", every byte escaped

struct drive_page { // writer: step
    char name[DRIVE_NAME_MAX];
    char label[DRIVE_LABEL_MAX];
    _Atomic uint64_t value[DRIVE_METRIC_ID_COUNT];
};

struct metrics_page {
    _Atomic uint64_t value[METRIC_ID_COUNT];
    struct drive_page drive[DISK_DRIVES_MAX]; // [drives_n]
    _Atomic uint32_t drives_n;                // release, once names and labels are there
    struct histogram first_token;             // request complete -> first token; writer: sock
    struct histogram request;                 // request complete -> answer complete; writer: sock
    struct histogram step;                    // one step; writer: step
};

static inline void metrics_add(struct metrics_page *page, enum metric_id id, uint64_t n)
{
    atomic_fetch_add_explicit(&page->value[id], n, memory_order_relaxed);
}

static inline void metrics_set(struct metrics_page *page, enum metric_id id, uint64_t value)
{
    atomic_store_explicit(&page->value[id], value, memory_order_relaxed);
}

static inline uint64_t metrics_get(const struct metrics_page *page, enum metric_id id)
{
    return atomic_load_explicit(&page->value[id], memory_order_relaxed);
}

// metrics_drives_set names the drives, once.  names: [n], n <= DISK_DRIVES_MAX.
void metrics_drives_set(struct metrics_page *page, const char *const *names, uint32_t n);

static inline void metrics_drive_set(struct metrics_page *page, uint32_t drive,
                                     enum drive_metric_id id, uint64_t value)
{
    atomic_store_explicit(&page->drive[drive].value[id], value, memory_order_relaxed);
}

static inline uint64_t metrics_drive_get(const struct metrics_page *page, uint32_t drive,
                                         enum drive_metric_id id)
{
    return atomic_load_explicit(&page->drive[drive].value[id], memory_order_relaxed);
}

static inline uint32_t metrics_drives_n(const struct metrics_page *page)
{
    return atomic_load_explicit(&page->drives_n, memory_order_acquire);
}

// metrics_page_write appends the page as Prometheus text.
void metrics_page_write(struct buf *out, const struct metrics_page *page);
