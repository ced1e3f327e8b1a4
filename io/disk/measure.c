// SPDX-License-Identifier: MIT
#include "io/disk/state.h"

#include <errno.h>
#include <string.h>

#define MEASURE_NS      500000000ull // of all trials
#define MEASURE_TRIAL   40000000ull  // of one, behind its first answer
#define MEASURE_BUFFERS 64u          // more would only cost time to register
#define MEASURE_DEPTH   64u
#define MEASURE_BATCH   64u

// 5 %: the speed of a drive moves by more from one 40 ms to the next, so what is usual stays unless
// something is clearly better.
#define MEASURE_GAIN 1.05

struct measure {
    struct disk_reader *r;
    struct engine_io *io;
    uint32_t buffers_n;
    uint64_t end_ns; // of the budget
    uint64_t random;
    uint32_t next_file[DISK_DRIVES_MAX];
    uint64_t smallest; // buffer's bytes
    double rate;       // last trial's, bytes/s
    bool failing;      // a read went wrong: the reader will say so, with all it does about it
};

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 24;
}

// measure_send reads somewhere from a file of the drive that is long enough; false: there is none.
// Each tag has its own place in the buffers, counted across them.
static bool measure_send(struct measure *m, uint32_t drive, uint32_t tag, uint32_t bytes)
{
    const struct disk_reader *r = m->r;
    uint32_t file = m->next_file[drive];
    for (uint32_t i = 0; i < r->files_n; i++) {
        file = (file + 1) % r->files_n;
        if (r->files[file].drive == drive && r->files[file].bytes >= bytes)
            break;
    }
    if (r->files[file].drive != drive || r->files[file].bytes < bytes)
        return false;
    m->next_file[drive] = file;

    struct engine_request req = {.tag = tag, .file = file, .bytes = bytes};
    req.off = random_next(&m->random) % ((r->files[file].bytes - bytes) / DISK_ALIGN + 1);
    req.off *= DISK_ALIGN;
    req.buffer = tag % m->buffers_n;
    req.dst = (char *)r->buffers[req.buffer].iov_base + (uint64_t)(tag / m->buffers_n) * bytes;
    r->table->send(m->io, &req);
    return true;
}

static uint32_t measure_fill(struct measure *m, uint32_t bytes, uint32_t depth)
{
    uint32_t sent = 0;
    for (uint32_t d = 0; d < m->r->drives_n; d++)
        for (uint32_t k = 0; k < depth; k++)
            sent += measure_send(m, d, k * m->r->drives_n + d, bytes);
    return sent;
}

// measure_trial keeps `depth` reads of `bytes` in flight on each drive.  -ETIMEDOUT: a drive does
// not answer, and its reads are still in flight.
static int measure_trial(struct measure *m, uint32_t bytes, uint32_t depth)
{
    struct engine_done done[MEASURE_BATCH];
    const struct disk_reader *r = m->r;
    uint32_t in_flight = measure_fill(m, bytes, depth);
    uint64_t start_ns = 0, last_ns = 0, sum = 0, heard_ns = clock_ns();
    while (in_flight > 0) {
        uint32_t n =
            r->table->wait(m->io, done, MEASURE_BATCH, (int64_t)r->params.timeout_us * 1000);
        uint64_t now_ns = clock_ns();
        if (n == 0 && now_ns - heard_ns >= r->params.timeout_us * 1000)
            return -ETIMEDOUT;
        heard_ns = n > 0 ? now_ns : heard_ns;
        if (start_ns > 0)
            for (uint32_t i = 0; i < n; i++)
                sum += done[i].res > 0 ? (uint64_t)done[i].res : 0;
        if (n > 0 && start_ns == 0)
            start_ns = now_ns; // what came first waited for the queue to fill
        in_flight -= n;
        last_ns = now_ns;
        for (uint32_t i = 0; i < n; i++) {
            m->failing |= done[i].res < (int32_t)bytes;
            if (now_ns - start_ns < MEASURE_TRIAL && !m->failing)
                in_flight += measure_send(m, done[i].tag % r->drives_n, done[i].tag, bytes);
        }
    }
    m->rate = last_ns > start_ns ? (double)sum / (double)(last_ns - start_ns) * 1e9 : 0;
    return 0;
}

// measure_try is a trial if it ends within the budget at the speed seen so far, and the buffers
// have a place for each read; else *ret is 0.
static int measure_try(struct measure *m, uint32_t bytes, uint32_t depth, double *ret)
{
    uint64_t now_ns = clock_ns();
    double queue = (double)bytes * depth * m->r->drives_n;
    double need_ns = m->rate > 0 ? (double)MEASURE_TRIAL + queue / m->rate * 1e9 : 0;
    uint64_t places = m->smallest / bytes * m->buffers_n;
    *ret = 0;
    if (m->failing || places < (uint64_t)depth * m->r->drives_n ||
        (double)now_ns + need_ns > (double)m->end_ns)
        return 0;
    int err = measure_trial(m, bytes, depth);
    *ret = m->failing ? 0 : m->rate;
    return err;
}

static int measure_size(struct measure *m, uint32_t depth, uint32_t *size)
{
    static const uint32_t others[] = {512u << 10, 2u << 20, 4u << 20};
    double best, rate;
    int err = measure_try(m, *size, depth, &best);
    best *= MEASURE_GAIN;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]) && err == 0 && best > 0; i++) {
        err = measure_try(m, others[i], depth, &rate);
        if (err == 0 && rate > best) {
            best = rate;
            *size = others[i];
        }
    }
    return err;
}

static int measure_depth(struct measure *m, uint32_t size, uint32_t *depth)
{
    static const uint32_t others[] = {8, 16, 32, 64};
    double best, rate;
    int err = measure_try(m, size, *depth, &best);
    best *= MEASURE_GAIN;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]) && err == 0 && best > 0; i++) {
        err = measure_try(m, size, others[i], &rate);
        if (err == 0 && rate > best) {
            best = rate;
            *depth = others[i];
        }
    }
    return err;
}

static int measure_all(struct measure *m, uint32_t *size, uint32_t *depth)
{
    const struct disk_params *p = &m->r->params;
    double rate; // of a short queue first: it tells how long the others will take
    int err = measure_try(m, *size, 8, &rate);
    if (err == 0 && p->read_size == 0)
        err = measure_size(m, *depth < MEASURE_DEPTH ? *depth : MEASURE_DEPTH, size);
    // Deep enough is as many bytes as the usual ones are: what is sent later waits for all of them.
    if (err == 0 && p->queue_depth == 0 && *size > SIZE_DEFAULT)
        *depth = *depth * (SIZE_DEFAULT >> 10) / (*size >> 10);
    if (err == 0 && p->queue_depth == 0)
        err = measure_depth(m, *size, depth);
    return err;
}

int disk_reader_probe(struct disk_reader *r, struct fault *fault)
{
    char note[FAULT_TEXT_MAX]; // start will say it again
    uint32_t size = r->params.read_size ? r->params.read_size : SIZE_DEFAULT;
    uint32_t depth = r->params.queue_depth ? r->params.queue_depth : DEPTH_DEFAULT;
    if (r->files_n == 0)
        return fault_set(fault, EINVAL, "there is no file whose drive could be measured");
    if (r->params.read_size && r->params.queue_depth)
        return 0;
    struct measure m = {
        .r = r, .smallest = UINT64_MAX, .end_ns = clock_ns() + MEASURE_NS, .random = 1};
    m.buffers_n = r->params.buffers_n < MEASURE_BUFFERS ? r->params.buffers_n : MEASURE_BUFFERS;
    for (uint32_t i = 0; i < m.buffers_n; i++)
        if (r->buffers[i].iov_len < m.smallest)
            m.smallest = r->buffers[i].iov_len;
    struct engine_params params = {
        .files = r->engine_files,
        .files_n = r->files_n,
        .buffers = r->buffers,
        .buffers_n = m.buffers_n,
        .drives_n = r->drives_n,
        .depth = MEASURE_DEPTH,
        .wake_fd = r->disk_fd,
    };
    int err = r->table->open(&params, &m.io, note, fault);
    if (err < 0)
        return err;
    err = measure_all(&m, &size, &depth);
    if (err < 0) // its engine stays, as its reads do
        return fault_set(fault, -err, "%s: did not answer within %.3g s", r->drives[0].name,
                         (double)r->params.timeout_us / 1e6);
    r->table->close(&m.io);
    r->params.read_size = size;
    r->params.queue_depth = depth;
    r->chosen_by_probe = true;
    return 0;
}
