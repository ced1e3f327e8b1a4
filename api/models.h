// SPDX-License-Identifier: MIT
// models: bodies of /v1/models, /v1/models/{id} and /health.  Thread: any.
#pragma once
#include "api/error.h"

struct model_info {
    const char *name; // as clients see it
    int64_t created;  // Unix seconds
    uint32_t vocab_size;
    uint32_t context_train; // max_position_embeddings
    uint32_t context_max;   // what is served
    uint32_t hidden_size;
    uint64_t parameters;
    uint64_t bytes; // of the checkpoint
};

// models_list writes {"object":"list","data":[...]}.
void models_list(struct buf *out, const struct model_info *model);
// models_one writes the object of {id}; another id is 404 model_not_found.
int models_one(struct buf *out, const struct model_info *model, const char *id,
               struct api_error *err);

enum health { HEALTH_OK, HEALTH_DEGRADED, HEALTH_LOADING, HEALTH_DRAINING, HEALTH_COUNT };
extern const char *const health_name[HEALTH_COUNT]; // "ok", "degraded", "loading", "draining"

struct health_info {
    enum health health;
    const char *model;  // NULL while not known
    const char *detail; // why it is degraded; NULL: none
    float progress;     // 0..1 while loading, else ignored
    uint32_t requests_active;
    uint32_t requests_waiting;
};

// health_write writes the body and returns its status: 200, or 503 while loading or draining (then
// with an "error" object beside "status", and Retry-After is *ret_retry_after_s).
uint16_t health_write(struct buf *out, const struct health_info *info, uint32_t *ret_retry_after_s);
