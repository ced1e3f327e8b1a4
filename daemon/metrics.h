// SPDX-License-Identifier: MIT
// metrics: the one list of counters, gauges and histograms: enum, text of /metrics and names.
// Owner: each counter has one writing thread (the column says which); any thread may read.
#pragma once
#include "api/buf.h"
#include "base/histogram.h"

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

struct metrics_page {
    _Atomic uint64_t value[METRIC_ID_COUNT];
    struct histogram first_token; // request complete -> first token; writer: sock
    struct histogram request;     // request complete -> answer complete; writer: sock
    struct histogram step;        // one step; writer: step
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

// metrics_page_write appends the page as Prometheus text.
void metrics_page_write(struct buf *out, const struct metrics_page *page);
