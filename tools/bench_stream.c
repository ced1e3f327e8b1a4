// SPDX-License-Identifier: MIT
// bench-stream NAME --model DIR [OPTION...]: what tools/bench stream measures with.  Runs until its
// input ends and answers each line with a JSON object:
//
//   decode: an engine whose experts come from --reader stream, mmap or resident
//     decode TOKENS SEED         decodes; wall and CPU time, bytes, stalls
//     record PATH TOKENS SEED    the same, and writes the routing
//     load RATE                  decodes at RATE seconds of CPU a second until the next line
//   reads: --trace FILE: the reads of such a decode, without its kernels
//     reads                      once
#include "tools/bench_stream.h"

#include "base/clock.h"
#include "sched/routing_trace.h"
#include "stream/stream.h"
#include "tools/make_model_weights.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define CONTEXT_MAX 256u // tokens of one command
#define LOAD_TOKENS 32u  // after which the load begins a new sequence

struct bench {
    struct engine *engine;
    struct stream *stream;   // or
    struct bench_mmap *mmap; // or neither: everything is resident
    uint32_t vocab;
};

// What a command used up.
struct usage {
    uint64_t wall_us, cpu_us;
    long faults;                // major
    struct stream_stats stream; // mmap: wanted, hits and read_bytes
};

_Noreturn void bench_die(const char *what)
{
    fprintf(stderr, "bench-stream: %s\n", what);
    exit(1);
}

bool bench_line(char *ret, size_t bytes)
{
    size_t n = 0; // unbuffered: poll must see what has not been taken

    for (char c; n + 1 < bytes && read(STDIN_FILENO, &c, 1) == 1;) {
        if (c == '\n') {
            ret[n] = '\0';
            return true;
        }
        ret[n++] = c;
    }
    return false;
}

/* ------------------------------------------------------------------- tokens */

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return *state >> 33;
}

// One token in three begins a topic; the others stay in it: neighbours then share about as many
// experts as in real text (make_model_weights.h).
static uint32_t token_next(uint32_t last, uint32_t vocab, uint64_t *state)
{
    uint32_t topics = vocab / WEIGHTS_TOPIC ? vocab / WEIGHTS_TOPIC : 1;
    uint32_t topic = last / WEIGHTS_TOPIC % topics;
    if (random_next(state) % 3 == 0)
        topic = (uint32_t)(random_next(state) % topics);
    return (topic * WEIGHTS_TOPIC + (uint32_t)(random_next(state) % WEIGHTS_TOPIC)) % vocab;
}

static void step(struct bench *b, uint32_t token, uint32_t position)
{
    const struct engine_row row = {token, 0, position, true};
    const struct fault *failed;
    const float *logits;
    struct fault fault;

    if (engine_step(b->engine, &row, 1, &logits, &fault))
        bench_die(fault.text);
    failed = engine_row_fault(b->engine, 0);
    if (failed)
        bench_die(failed->text);
    if (!isfinite(logits[0]))
        bench_die("logits are not finite");
}

static void sequence_begin(struct bench *b, uint32_t tokens)
{
    engine_seq_truncate(b->engine, 0, 0);
    if (engine_seq_reserve(b->engine, 0, tokens))
        bench_die("no KV pages");
}

/* ----------------------------------------------------------------- commands */

static void usage_get(const struct bench *b, struct usage *ret)
{
    struct rusage r;

    *ret = (struct usage){.wall_us = clock_us()};
    getrusage(RUSAGE_SELF, &r);
    ret->cpu_us = (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 +
                  (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
    ret->faults = r.ru_majflt;
    if (b->stream)
        stream_stats_read(b->stream, &ret->stream);
    if (b->mmap) {
        ret->stream.wanted = bench_mmap_wanted(b->mmap);
        ret->stream.hits = bench_mmap_hits(b->mmap);
        ret->stream.read_bytes = bench_mmap_bytes(b->mmap);
    }
}

static void figure(const char *name, uint64_t from, uint64_t to)
{
    printf(", \"%s\": %llu", name, (unsigned long long)(to - from));
}

static void usage_print(const struct usage *from, const struct usage *to, uint32_t tokens)
{
    const struct stream_stats *a = &from->stream, *b = &to->stream;

    printf("{\"tokens\": %u, \"wall_s\": %.6f, \"cpu_s\": %.6f, \"major_faults\": %ld", tokens,
           (double)(to->wall_us - from->wall_us) / 1e6, (double)(to->cpu_us - from->cpu_us) / 1e6,
           to->faults - from->faults);
    figure("wanted", a->wanted, b->wanted);
    figure("hits", a->hits, b->hits);
    figure("joined", a->joined, b->joined);
    figure("reads", a->reads, b->reads);
    figure("read_bytes", a->read_bytes, b->read_bytes);
    figure("drive_bytes", a->drive_bytes, b->drive_bytes);
    figure("predicted", a->predicted, b->predicted);
    figure("predicted_read", a->predicted_read, b->predicted_read);
    figure("predicted_used", a->predicted_used, b->predicted_used);
    figure("predicted_right", a->predicted_right, b->predicted_right);
    figure("disk_cpu_ns", a->disk_cpu_ns, b->disk_cpu_ns);
    for (uint32_t i = 0; i < STREAM_STALL_COUNT; i++)
        printf(", \"stall_%s_ns\": %llu", stream_stall_name[i],
               (unsigned long long)(b->stall_ns[i] - a->stall_ns[i]));
    printf(", \"slots\": %u}\n", b->slots);
    fflush(stdout);
}

static void decode(struct bench *b, uint32_t tokens, uint64_t seed)
{
    struct usage from, to;
    uint64_t state = seed;
    uint32_t token = (uint32_t)random_next(&state) % b->vocab;

    if (tokens < 1 || tokens > CONTEXT_MAX)
        bench_die("decode: 1 to 256 tokens");
    sequence_begin(b, tokens);
    usage_get(b, &from);
    for (uint32_t t = 0; t < tokens; t++) {
        token = token_next(token, b->vocab, &state);
        step(b, token, t);
    }
    usage_get(b, &to);
    usage_print(&from, &to, tokens);
}

struct recorder {
    struct routing_trace_writer writer;
    uint64_t step;
    uint32_t layer; // of the last call
    FILE *file;
};

static void on_routing(void *user, uint32_t layer, const uint32_t *ids, uint32_t rows, uint32_t k)
{
    struct recorder *r = user;
    uint8_t bytes[64 + 2 * ROUTING_TRACE_K_MAX];

    if (rows != 1 || k != r->writer.shape.k ||
        routing_trace_layer_bytes(&r->writer.shape, 1) > sizeof(bytes))
        bench_die("record: routing of another shape");
    r->step += layer <= r->layer; // layers rise within a step
    r->layer = layer;
    size_t n = routing_trace_write(&r->writer, &(struct routing_trace_layer){r->step, layer, 1},
                                   ids, bytes);
    if (n == 0 || fwrite(bytes, 1, n, r->file) != n)
        bench_die("record: the trace cannot be written");
}

static void record(struct bench *b, const char *path, uint32_t tokens, uint64_t seed)
{
    const struct model_config *c = engine_config(b->engine);
    const struct routing_trace_shape shape = {c->num_hidden_layers, c->n_routed_experts,
                                              c->num_experts_per_tok};
    struct recorder r = {.file = fopen(path, "wb")};
    uint8_t head[ROUTING_TRACE_HEAD_BYTES];

    if (!r.file || routing_trace_writer_init(&r.writer, &shape, head) ||
        fwrite(head, 1, sizeof(head), r.file) != sizeof(head))
        bench_die("record: the trace cannot be written");
    engine_routing_set(b->engine, on_routing, &r);
    decode(b, tokens, seed);
    engine_routing_set(b->engine, NULL, NULL);
    if (fclose(r.file))
        bench_die("record: the trace cannot be written");
}

static bool input_waits(uint64_t timeout_us)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&in, 1, (int)(timeout_us / 1000)) != 0;
}

// load computes like a decode that waits for drives in between: as much CPU time a second.
static void load(struct bench *b, double rate)
{
    struct usage from, to;
    uint64_t state = 1;
    uint32_t token = 0, tokens = 0;

    if (!(rate > 0))
        bench_die("load: a rate above 0");
    usage_get(b, &from);
    for (uint64_t ahead_us = 0; !input_waits(ahead_us); tokens++) {
        if (tokens % LOAD_TOKENS == 0)
            sequence_begin(b, LOAD_TOKENS);
        token = token_next(token, b->vocab, &state);
        step(b, token, tokens % LOAD_TOKENS);
        usage_get(b, &to);
        double due = (double)(to.cpu_us - from.cpu_us) / rate;
        double is = (double)(to.wall_us - from.wall_us);
        ahead_us = due > is ? (uint64_t)(due - is) : 0;
    }
    usage_get(b, &to);
    usage_print(&from, &to, tokens);
}

static void command(struct bench *b, const char *line)
{
    char path[512];
    unsigned tokens;
    unsigned long long seed;
    double rate;

    if (sscanf(line, "decode %u %llu", &tokens, &seed) == 2)
        decode(b, tokens, seed);
    else if (sscanf(line, "record %511s %u %llu", path, &tokens, &seed) == 3)
        record(b, path, tokens, seed);
    else if (sscanf(line, "load %lf", &rate) == 1)
        load(b, rate);
    else if (strcmp(line, "stop") != 0) // what ends a load
        bench_die("commands are decode, record, load and stop");
}

/* --------------------------------------------------------------------- main */

static void stream_start(struct bench *b, const struct bench_options *o,
                         const struct checkpoint *ck)
{
    const struct stream_params params = {.packs = {o->pack},
                                         .packs_n = o->pack ? 1 : 0,
                                         .engine = (enum disk_engine)o->engine,
                                         .queue_depth = o->depth,
                                         .read_size = o->read_size,
                                         .timeout_us = 60000000,
                                         .verify = (enum stream_verify)o->verify,
                                         .prefetch = (enum stream_prefetch)o->prefetch,
                                         .hashes = ""};
    struct fault fault;
    char text[2048];

    if (stream_open(b->engine, ck, &params, &b->stream, &fault))
        bench_die(fault.text);
    stream_describe(b->stream, text, sizeof(text));
    fprintf(stderr, "%s\n", text);
}

static void bench_decode(const struct bench_options *o, const struct checkpoint *ck)
{
    bool resident = !strcmp(o->reader, "resident");
    const struct engine_params params = {.device_select = o->device,
                                         .sequences_max = 1,
                                         .context_max = CONTEXT_MAX,
                                         .batch_rows_max = 1,
                                         .experts = resident ? ENGINE_EXPERTS_RESIDENT
                                                             : ENGINE_EXPERTS_SLOTS,
                                         .slots_ram = o->slots_bytes,
                                         .pack = o->pack};
    struct bench b = {0};
    struct fault fault;
    char line[640];

    if (engine_open(ck, &params, &b.engine, &fault))
        bench_die(fault.text);
    b.vocab = engine_config(b.engine)->vocab_size;
    if (!strcmp(o->reader, "stream"))
        stream_start(&b, o, ck);
    else if (!strcmp(o->reader, "mmap")) {
        b.mmap = bench_mmap_create(b.engine, ck);
        engine_source_set(b.engine, bench_mmap_source(b.mmap));
    }
    printf("{\"ready\": true, \"device\": \"%s\"}\n", engine_device_name(b.engine));
    fflush(stdout);
    while (bench_line(line, sizeof(line)))
        command(&b, line);
    if (b.mmap)
        engine_source_set(b.engine, NULL);
    stream_close(&b.stream);
    bench_mmap_destroy(&b.mmap);
    engine_close(&b.engine);
}

static uint32_t choice(const char *value, const char *const *names, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!strcmp(value, names[i]))
            return i;
    bench_die(value);
}

static void option_set(struct bench_options *o, const char *name, const char *value)
{
    if (!strcmp(name, "--model"))
        o->model = value;
    else if (!strcmp(name, "--device"))
        o->device = value;
    else if (!strcmp(name, "--reader"))
        o->reader = value;
    else if (!strcmp(name, "--trace"))
        o->trace = value;
    else if (!strcmp(name, "--pack"))
        o->pack = value;
    else if (!strcmp(name, "--slots-mb"))
        o->slots_bytes = strtoull(value, NULL, 10) * 1000000;
    else if (!strcmp(name, "--prefetch"))
        o->prefetch = choice(value, stream_prefetch_name, STREAM_PREFETCH_COUNT);
    else if (!strcmp(name, "--verify"))
        o->verify = choice(value, stream_verify_name, STREAM_VERIFY_COUNT);
    else if (!strcmp(name, "--engine"))
        o->engine = choice(value, disk_engine_name, DISK_ENGINE_COUNT);
    else if (!strcmp(name, "--depth"))
        o->depth = (uint32_t)strtoul(value, NULL, 10);
    else if (!strcmp(name, "--read-size"))
        o->read_size = (uint32_t)strtoul(value, NULL, 10);
    else
        bench_die("options: --model --device --reader --trace --pack --slots-mb --prefetch "
                  "--verify --engine --depth --read-size");
}

int main(int argc, char **argv)
{
    struct bench_options o = {.device = "auto", .reader = "stream", .verify = STREAM_VERIFY_OFF};
    struct checkpoint *ck = NULL;
    struct fault fault;

    for (int i = 2; i + 1 < argc; i += 2)
        option_set(&o, argv[i], argv[i + 1]);
    if (argc < 2 || argc % 2 || !o.model)
        bench_die("bench-stream decode|reads --model DIR [OPTION VALUE]...");
    if (checkpoint_open(o.model, &ck, &fault))
        bench_die(fault.text);
    if (!strcmp(argv[1], "decode"))
        bench_decode(&o, ck);
    else if (!strcmp(argv[1], "reads") && o.trace)
        bench_reads(&o, ck);
    else
        bench_die("NAME is decode, or reads with --trace");
    checkpoint_close(&ck);
    return 0;
}
