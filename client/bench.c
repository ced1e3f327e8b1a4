// SPDX-License-Identifier: MIT
// bench: streams requests to the running daemon, some at a time, and says how fast it answered.
// Prompts are token ids cut from a fixed text, each request beginning elsewhere in it, so no prompt
// is the prefix of another.
#include "base/clock.h"
#include "client/client.h"
#include "client/interrupt.h"
#include "client/reply.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define BENCH_TOKENS_DEFAULT 64 // of an answer
#define SILENCE_MS           120000

// Tokenised by the daemon and repeated; plain prose, because a router treats noise unlike prose.
static const char bench_text[] =
    "The keeper of the lighthouse counted the ships that passed at night and wrote each of them "
    "into a book: 12 from the north, 7 from the south, 3 that turned back before the cape. In the "
    "morning he added the numbers twice, once from the top and once from the bottom, and when the "
    "sums agreed he put the pencil down and made tea. Nobody had ever asked him for the book. ";

struct bench_request {
    struct reply reply;
    struct reply_call *call; // NULL while not under way
};

struct bench {
    struct client *client;
    const char *model;
    uint32_t *ids; // tokens of bench_text
    size_t ids_n;
    struct bench_request *requests;
    size_t requests_n, started, done;
    uint64_t start_us, end_us;
};

/* ------------------------------------------------------------- requests */

static int bench_tokens(struct bench *bench, struct fault *fault)
{
    unsigned status = 0;
    char *body = NULL;
    size_t len = 0;
    json_t *question = json_pack("{s:s}", "content", bench_text);
    json_t *answer = NULL;

    int err = client_post(bench->client, "/tokenize", question, &status, &body, &len, fault);
    json_decref(question);
    if (!err && status != 200)
        err = reply_error_text(status, body, len, fault);
    if (err)
        goto out;

    answer = json_loadb(body, len, 0, NULL);
    const json_t *tokens = json_object_get(answer, "tokens");
    size_t n = json_array_size(tokens);
    bench->ids = n ? calloc(n, sizeof(*bench->ids)) : NULL;
    if (!bench->ids) {
        err = fault_set(fault, n ? ENOMEM : EPROTO, "/tokenize gave no tokens");
        goto out;
    }
    for (size_t i = 0; i < n; i++)
        bench->ids[i] = (uint32_t)json_integer_value(json_array_get(tokens, i));
    bench->ids_n = n;
out:
    json_decref(answer);
    free(body);
    return err;
}

static char *bench_body(const struct bench *bench, size_t idx)
{
    const struct options *options = &bench->client->options;
    bool tokens_given = options->max_tokens != OPTION_ABSENT;
    json_int_t max_tokens = tokens_given ? options->max_tokens : BENCH_TOKENS_DEFAULT;
    json_int_t seed = (options->seed == OPTION_ABSENT ? 1 : options->seed) + (json_int_t)idx;
    json_t *prompt = json_array();

    for (size_t i = 0; prompt && i < (size_t)options->prompt_tokens; i++)
        json_array_append_new(prompt, json_integer(bench->ids[(idx * 7 + i) % bench->ids_n]));
    json_t *body = json_pack("{s:s, s:o, s:I, s:I, s:b, s:b, s:{s:b}}", "model", bench->model,
                             "prompt", prompt, "max_tokens", max_tokens, "seed", seed, "ignore_eos",
                             1, "stream", 1, "stream_options", "include_usage", 1);
    if (body && !isnan(options->temperature))
        json_object_set_new(body, "temperature", json_real(options->temperature));
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    return text;
}

static int bench_start(struct bench *bench, struct fault *fault)
{
    struct bench_request *request = &bench->requests[bench->started];
    char *body = bench_body(bench, bench->started);
    if (!body)
        return fault_set(fault, ENOMEM, "out of memory");

    struct reply_request ask = {.target = "/v1/completions",
                                .key = bench->client->key,
                                .body = body,
                                .body_bytes = strlen(body)};
    int err = reply_open(&bench->client->address, &ask, bench->client->interrupt_fd,
                         &request->reply, &request->call, fault);
    free(body);
    if (!err)
        bench->started++;
    return err;
}

// bench_read takes what one request has got.
static int bench_read(struct bench *bench, struct bench_request *request, struct fault *fault)
{
    int more = reply_read(request->call, fault);
    if (more < 0)
        return more;
    if (more == 0) {
        reply_close(&request->call);
        bench->done++;
    }
    return 0;
}

// bench_poll waits for any of the requests under way and reads it.
static int bench_poll(struct bench *bench, struct pollfd *fds, struct bench_request **polled,
                      struct fault *fault)
{
    nfds_t n = 1;
    fds[0] = (struct pollfd){.fd = bench->client->interrupt_fd, .events = POLLIN};
    for (size_t i = 0; i < bench->started; i++) {
        if (!bench->requests[i].call)
            continue;
        fds[n] = (struct pollfd){.fd = reply_fd(bench->requests[i].call), .events = POLLIN};
        polled[n++] = &bench->requests[i];
    }
    int ready = poll(fds, n, SILENCE_MS);
    if (ready == 0)
        return fault_set(fault, EIO, "the daemon has sent nothing for %d s", SILENCE_MS / 1000);
    if (ready < 0)
        return errno == EINTR ? 0 : fault_set(fault, errno, "poll: %s", strerror(errno));
    if (fds[0].revents)
        return fault_set(fault, EINTR, "stopped");

    int err = 0;
    for (nfds_t i = 1; i < n && !err; i++)
        if (fds[i].revents)
            err = bench_read(bench, polled[i], fault);
    return err;
}

static int bench_all(struct bench *bench, struct fault *fault)
{
    size_t parallel = (size_t)bench->client->options.parallel;
    struct pollfd *fds = calloc(parallel + 1, sizeof(*fds));
    struct bench_request **polled = calloc(parallel + 1, sizeof(*polled));
    int err = fds && polled ? 0 : fault_set(fault, ENOMEM, "out of memory");

    bench->start_us = clock_us();
    while (!err && bench->done < bench->requests_n) {
        while (!err && bench->started < bench->requests_n &&
               bench->started - bench->done < parallel)
            err = bench_start(bench, fault);
        if (!err)
            err = bench_poll(bench, fds, polled, fault);
    }
    bench->end_us = clock_us();
    free(fds);
    free(polled);
    return err;
}

/* -------------------------------------------------------------- figures */

struct bench_figures {
    uint64_t prompt_tokens, tokens; // sums
    double first_s, first_s_max;    // mean and worst time to the first token
    double prefill, decode;         // tokens/s of one request, means
    double total;                   // generated tokens/s over all
};

static struct bench_figures bench_sum(const struct bench *bench)
{
    struct bench_figures sum = {0};
    size_t rated = 0;

    for (size_t i = 0; i < bench->requests_n; i++) {
        const struct reply *reply = &bench->requests[i].reply;
        double first_s = reply->first_us ? (double)(reply->first_us - reply->sent_us) / 1e6 : 0;
        double rate = reply_rate(reply);
        sum.prompt_tokens += reply->prompt_tokens;
        sum.tokens += reply_tokens(reply);
        sum.first_s += first_s;
        sum.first_s_max = first_s > sum.first_s_max ? first_s : sum.first_s_max;
        if (first_s > 0)
            sum.prefill += (double)(reply->prompt_tokens - reply->cached_tokens) / first_s;
        sum.decode += rate;
        rated += rate > 0;
    }
    sum.first_s /= (double)bench->requests_n;
    sum.prefill /= (double)bench->requests_n;
    sum.decode /= rated ? (double)rated : 1;
    sum.total = (double)sum.tokens * 1e6 / (double)(bench->end_us - bench->start_us + 1);
    return sum;
}

static void bench_print_json(const struct bench *bench, const struct bench_figures *sum)
{
    const struct options *options = &bench->client->options;
    const struct {
        const char *name, *unit;
        double value;
    } rows[] = {
        {"client-first-token", "s", sum->first_s},
        {"client-prefill", "tok/s", sum->prefill},
        {"client-decode", "tok/s", sum->decode},
        {"client-decode-all", "tok/s", sum->total},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        json_t *row = json_pack(
            "{s:s, s:f, s:s, s:{s:s, s:I, s:I, s:I, s:I}}", "name", rows[i].name, "value",
            rows[i].value, "unit", rows[i].unit, "conditions", "model", bench->model, "requests",
            (json_int_t)options->requests, "parallel", (json_int_t)options->parallel,
            "prompt_tokens", (json_int_t)options->prompt_tokens, "generated_tokens",
            (json_int_t)sum->tokens);
        json_dumpf(row, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(row);
    }
}

static void bench_print(const struct bench *bench, const struct bench_figures *sum)
{
    double n = (double)bench->requests_n;
    printf("requests     %zu, %lld at a time; prompt %.0f tokens, answer %.0f tokens each\n",
           bench->requests_n, (long long)bench->client->options.parallel,
           (double)sum->prompt_tokens / n, (double)sum->tokens / n);
    printf("first token  %.3f s, worst %.3f s\n", sum->first_s, sum->first_s_max);
    printf("prefill      %.1f tokens/s a request\n", sum->prefill);
    printf("decode       %.1f tokens/s a request, %.1f tokens/s in all\n", sum->decode, sum->total);
}

int bench_run(struct client *client)
{
    struct bench bench = {.client = client, .requests_n = (size_t)client->options.requests};
    struct fault fault = {0};
    char *model = NULL;

    client_interrupts(client);
    int err = client_model(client, &model, &fault);
    bench.model = model;
    bench.requests = calloc(bench.requests_n, sizeof(*bench.requests));
    if (!err && !bench.requests)
        err = fault_set(&fault, ENOMEM, "out of memory");
    if (!err)
        err = bench_tokens(&bench, &fault);
    if (!err)
        err = bench_all(&bench, &fault);
    if (!err) {
        struct bench_figures sum = bench_sum(&bench);
        if (client->options.json)
            bench_print_json(&bench, &sum);
        else
            bench_print(&bench, &sum);
    }
    for (size_t i = 0; bench.requests && i < bench.requests_n; i++) {
        reply_close(&bench.requests[i].call);
        reply_free(&bench.requests[i].reply);
    }
    free(bench.requests);
    free(bench.ids);
    free(model);
    return err ? client_complain(client, &fault) : EXIT_DONE;
}
