// SPDX-License-Identifier: MIT
#include "api/models.h"

#include "api/utf8.h"

#include <assert.h>
#include <string.h>

const char *const health_name[HEALTH_COUNT] = {
    [HEALTH_OK] = "ok",
    [HEALTH_DEGRADED] = "degraded",
    [HEALTH_LOADING] = "loading",
    [HEALTH_DRAINING] = "draining",
};

static void model_object(struct buf *out, const struct model_info *m)
{
    const struct {
        const char *words;
        uint64_t value;
    } rows[] = {
        {",\"meta\":{\"n_vocab\":", m->vocab_size},
        {",\"n_ctx_train\":", m->context_train},
        {",\"n_ctx\":", m->context_max},
        {",\"n_embd\":", m->hidden_size},
        {",\"n_params\":", m->parameters},
        {",\"size\":", m->bytes},
    };

    buf_puts(out, "{\"id\":");
    buf_json_text(out, m->name);
    buf_puts(out, ",\"object\":\"model\",\"created\":");
    buf_i64(out, m->created);
    buf_puts(out, ",\"owned_by\":\"expertd\"");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        buf_puts(out, rows[i].words);
        buf_u64(out, rows[i].value);
    }
    buf_puts(out, "}}");
}

void models_list(struct buf *out, const struct model_info *model)
{
    buf_puts(out, "{\"object\":\"list\",\"data\":[");
    model_object(out, model);
    buf_puts(out, "]}");
}

int models_one(struct buf *out, const struct model_info *model, const char *id,
               struct api_error *err)
{
    if (strcmp(id, model->name) != 0)
        return api_error_set(err, API_ERROR_MODEL, "model",
                             "the model %.*s is not served here; this server serves %.200s",
                             (int)utf8_prefix(id, strnlen(id, 120)), id, model->name);
    model_object(out, model);
    return 0;
}

static void health_error(struct buf *out, const struct health_info *info,
                         uint32_t *ret_retry_after_s)
{
    struct api_error err;
    struct buf object;

    if (info->health == HEALTH_LOADING)
        api_error_set(&err, API_ERROR_LOADING, NULL, "the model is being loaded");
    else
        api_error_set(&err, API_ERROR_DRAINING, NULL, "the server is stopping");
    *ret_retry_after_s = err.retry_after_s;

    buf_init(&object, 4096);
    api_error_json(&object, &err);
    if (buf_error(&object) == 0 && object.n > 2) {
        buf_putc(out, ',');
        buf_put(out, object.data + 1, object.n - 2); // without the braces around it
    }
    buf_free(&object);
}

uint16_t health_write(struct buf *out, const struct health_info *info, uint32_t *ret_retry_after_s)
{
    bool ready = info->health == HEALTH_OK || info->health == HEALTH_DEGRADED;

    assert(info->health < HEALTH_COUNT);
    *ret_retry_after_s = 0;
    buf_puts(out, "{\"status\":");
    buf_json_text(out, health_name[info->health]);
    buf_puts(out, ",\"model\":");
    buf_json_text(out, info->model);
    if (info->detail) {
        buf_puts(out, ",\"detail\":");
        buf_json_text(out, info->detail);
    }
    if (info->health == HEALTH_LOADING) {
        buf_puts(out, ",\"progress\":");
        buf_json_real(out, info->progress);
    }
    buf_puts(out, ",\"requests_active\":");
    buf_u64(out, info->requests_active);
    buf_puts(out, ",\"requests_waiting\":");
    buf_u64(out, info->requests_waiting);
    if (!ready)
        health_error(out, info, ret_retry_after_s);
    buf_putc(out, '}');
    return ready ? 200 : 503;
}
