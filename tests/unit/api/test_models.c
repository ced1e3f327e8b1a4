// SPDX-License-Identifier: MIT
// The small bodies: /v1/models, /health, /tokenize, /detokenize, /apply-template, /metrics.
#include "api/metrics.h"
#include "api/models.h"
#include "api/tokenize.h"

#include "tests/unit/api/api_check.h"

#include <math.h>

static const struct model_info model = {.name = "demo",
                                        .created = 7,
                                        .vocab_size = 1000,
                                        .context_train = 4096,
                                        .context_max = 2048,
                                        .hidden_size = 64,
                                        .parameters = 671000000000,
                                        .bytes = 9};

#define MODEL                                                                                      \
    "{\"id\":\"demo\",\"object\":\"model\",\"created\":7,\"owned_by\":\"expertd\",\"meta\":{"      \
    "\"n_vocab\":1000,\"n_ctx_train\":4096,\"n_ctx\":2048,\"n_embd\":64,"                          \
    "\"n_params\":671000000000,\"size\":9}}"

static void lists_models(void)
{
    struct api_error err;
    struct buf out;

    buf_init(&out, 4096);
    models_list(&out, &model);
    CHECK_BUF(&out, "{\"object\":\"list\",\"data\":[" MODEL "]}");
    buf_clear(&out);
    CHECK(models_one(&out, &model, "demo", &err) == 0);
    CHECK_BUF(&out, MODEL);
    CHECK(models_one(&out, &model, "other", &err) < 0);
    CHECK(err.status == 404);
    CHECK_HAS(err.message, "other");
    CHECK_HAS(err.message, "demo"); // names the one that is served
    buf_free(&out);
}

static void tells_health(void)
{
    uint32_t retry_after_s = 99;
    struct buf out;

    buf_init(&out, 4096);
    CHECK(health_write(
              &out,
              &(struct health_info){.model = "demo", .requests_active = 2, .requests_waiting = 1},
              &retry_after_s) == 200);
    CHECK_BUF(&out, "{\"status\":\"ok\",\"model\":\"demo\",\"requests_active\":2,"
                    "\"requests_waiting\":1}");
    CHECK(retry_after_s == 0);
    buf_clear(&out);
    CHECK(health_write(&out, &(struct health_info){.health = HEALTH_DEGRADED, .detail = "d"},
                       &retry_after_s) == 200);
    CHECK_BUF(&out, "{\"status\":\"degraded\",\"model\":null,\"detail\":\"d\","
                    "\"requests_active\":0,\"requests_waiting\":0}");
    buf_clear(&out);
    CHECK(health_write(&out, &(struct health_info){.health = HEALTH_LOADING, .progress = 0.5f},
                       &retry_after_s) == 503);
    CHECK_BUF(&out, "{\"status\":\"loading\",\"model\":null,\"progress\":0.5,"
                    "\"requests_active\":0,\"requests_waiting\":0,\"error\":{\"message\":"
                    "\"the model is being loaded\",\"type\":\"unavailable_error\",\"param\":null,"
                    "\"code\":\"loading\"}}");
    CHECK(retry_after_s > 0);
    buf_clear(&out);
    CHECK(health_write(&out, &(struct health_info){.health = HEALTH_DRAINING}, &retry_after_s) ==
          503);
    buf_free(&out);
}

static const char *piece(void *user, uint32_t id, size_t *ret_len)
{
    static const char *const bytes[] = {"a\"", "\xe4\xb8", ""};
    *(unsigned *)user += 1;
    *ret_len = strlen(bytes[id]);
    return bytes[id];
}

static void tokenizes(void)
{
    static const struct {
        const char *body;
        bool good, add, parse, pieces;
    } rows[] = {
        {"{\"content\":\"x\"}", true, false, true, false},
        {"{\"content\":\"x\",\"add_special\":true,\"parse_special\":false,\"with_pieces\":true}",
         true, true, false, true},
        {"{}", false, 0, 0, 0},
        {"{\"content\":1}", false, 0, 0, 0},
        {"{\"content\":\"x\",\"add_special\":1}", false, 0, 0, 0},
        {"", false, 0, 0, 0},
    };
    struct api_error err;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct tokenize_request req;
        int got = tokenize_parse(rows[i].body, strlen(rows[i].body), &req, &err);
        CHECK((got == 0) == rows[i].good);
        if (got) {
            CHECK(err.status == 400);
            continue;
        }
        CHECK_TEXT(req.content, req.content_n, "x");
        CHECK(req.add_special == rows[i].add && req.parse_special == rows[i].parse);
        CHECK(req.with_pieces == rows[i].pieces);
        tokenize_free(&req);
    }

    const uint32_t ids[] = {0, 1, 2};
    struct buf out;
    buf_init(&out, 4096);
    tokenize_write(&out, ids, 3, NULL, NULL);
    CHECK_BUF(&out, "{\"tokens\":[0,1,2]}");
    buf_clear(&out);
    tokenize_write(&out, ids, 0, NULL, NULL);
    CHECK_BUF(&out, "{\"tokens\":[]}");
    buf_free(&out);
}

static void tokenizes_with_pieces(void)
{
    const uint32_t ids[] = {0, 1, 2};
    unsigned asked = 0;
    struct buf out;

    buf_init(&out, 4096);
    tokenize_write(&out, ids, 3, piece, &asked);
    CHECK_BUF(&out, "{\"tokens\":[{\"id\":0,\"piece\":\"a\\\"\"},{\"id\":1,\"piece\":[228,184]},"
                    "{\"id\":2,\"piece\":\"\"}]}");
    CHECK(asked == 3);
    buf_free(&out);
}

static void detokenizes(void)
{
    static const char good[] = "{\"tokens\":[1,999]}", empty[] = "{\"tokens\":[]}";
    static const char *const bad[] = {
        "{}", "{\"tokens\":1}", "{\"tokens\":[1000]}", "{\"tokens\":[\"1\"]}", "{\"tokens\":[-1]}",
        "x"};
    struct api_error err;
    struct buf out;
    uint32_t *ids = NULL;
    size_t n = 9;

    CHECK(detokenize_parse(good, strlen(good), 1000, &ids, &n, &err) == 0);
    CHECK(n == 2 && ids[0] == 1 && ids[1] == 999);
    free(ids);
    CHECK(detokenize_parse(empty, strlen(empty), 1000, &ids, &n, &err) == 0);
    CHECK(n == 0);
    free(ids);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(detokenize_parse(bad[i], strlen(bad[i]), 1000, &ids, &n, &err) < 0);
        CHECK(err.status == 400);
    }
    buf_init(&out, 4096);
    detokenize_write(&out, "a\n\xff", 3);
    apply_template_write(&out, "<|x|>", 5);
    CHECK_BUF(&out, "{\"content\":\"a\\n\xef\xbf\xbd\"}{\"prompt\":\"<|x|>\"}");
    buf_free(&out);
}

static void writes_metrics(void)
{
    static const double bounds[] = {0.5, 10};
    static const uint64_t counts[] = {1, 0, 2};
    struct buf label, out;

    buf_init(&label, 64);
    metrics_label(&label, "route", "a\"\\\nb");
    buf_putc(&label, '\0');
    const struct metric metrics[] = {
        {.name = "expertd_a", .help = "x\\y\nz", .kind = METRIC_COUNTER, .value = 12345678901},
        {.name = "expertd_b",
         .help = "b",
         .kind = METRIC_GAUGE,
         .labels = label.data,
         .value = 0.1},
        {.name = "expertd_b", .help = "b", .kind = METRIC_GAUGE, .labels = "", .value = INFINITY},
        {.name = "expertd_h",
         .help = "h",
         .kind = METRIC_HISTOGRAM,
         .labels = "k=\"v\"",
         .value = 40.25,
         .bounds = bounds,
         .counts = counts,
         .bounds_n = 2},
    };
    buf_init(&out, 4096);
    metrics_write(&out, metrics, ARRAY_LEN(metrics));
    CHECK_BUF(&out,
              "# HELP expertd_a x\\\\y\\nz\n# TYPE expertd_a counter\nexpertd_a 12345678901\n"
              "# HELP expertd_b b\n# TYPE expertd_b gauge\n"
              "expertd_b{route=\"a\\\"\\\\\\nb\"} 0.1\nexpertd_b +Inf\n"
              "# HELP expertd_h h\n# TYPE expertd_h histogram\n"
              "expertd_h_bucket{k=\"v\",le=\"0.5\"} 1\nexpertd_h_bucket{k=\"v\",le=\"10\"} 1\n"
              "expertd_h_bucket{k=\"v\",le=\"+Inf\"} 3\nexpertd_h_sum{k=\"v\"} 40.25\n"
              "expertd_h_count{k=\"v\"} 3\n");
    buf_free(&out);
    buf_free(&label);
}

int main(void)
{
    lists_models();
    tells_health();
    tokenizes();
    tokenizes_with_pieces();
    detokenizes();
    writes_metrics();
    return 0;
}
