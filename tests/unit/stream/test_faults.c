// SPDX-License-Identifier: MIT
// Drives that hang under a stream: reads ahead that hold every slot are waited for, a copy brings
// what a hung drive does not, slots that were lost come back, and closing neither waits for a drive
// that never answers nor gives away memory that it may still write.
// The engine's place is taken: the linker sends engine_source_set here, so that the test asks the
// source for experts itself, in any order.  The seam under the reader decides what hangs.
#include "io/disk/seam.h"
#include "model/slots.h"
#include "stream/ahead.h"
#include "stream/stream.h"
#include "tests/check.h"
#include "tests/driver_hold.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LAYER   1u // with routed experts
#define EXPERTS 6u
#define SLOTS   2u // as many as a row wants
#define LONG_US 1200000000ull

static const struct expert_source *source; // the stream's
static struct fault fault;
static char copy_dir[] = "/var/tmp/expertd-faults-XXXXXX";

/* ------------------------------------------------------- what the linker sends */

void __wrap_engine_source_set(struct engine *engine, const struct expert_source *s);
uint32_t __wrap_ahead_max(const struct ahead *ahead, uint64_t bytes_second, uint64_t expert_bytes);

void __wrap_engine_source_set(struct engine *engine, const struct expert_source *s)
{
    (void)engine;
    source = s;
}

// As many reads ahead as slots, whatever the gaps were.
uint32_t __wrap_ahead_max(const struct ahead *ahead, uint64_t bytes_second, uint64_t expert_bytes)
{
    (void)ahead, (void)bytes_second, (void)expert_bytes;
    return SLOTS;
}

/* ----------------------------------------------------------------- the drives */

static atomic_uint hung_drives; // whose files hang: bit a copy of the shards
static atomic_uint hung_n;      // pieces that did
static atomic_bool answers;     // what hangs goes on
static uint32_t copies_n;       // of a shard, numbered one after the other

static struct disk_seam_act decide(void *user, uint32_t file, uint64_t off, uint32_t bytes)
{
    (void)user, (void)off, (void)bytes;
    if (!(atomic_load(&hung_drives) & 1u << file % copies_n))
        return (struct disk_seam_act){DISK_SEAM_PASS, 0};
    atomic_fetch_add(&hung_n, 1);
    return (struct disk_seam_act){DISK_SEAM_HANG, 0};
}

static bool released(void *user)
{
    (void)user;
    return atomic_load(&answers);
}

static const struct disk_seam seam = {.decide = decide, .released = released};

static void drives_hang(unsigned which)
{
    atomic_store(&hung_n, 0);
    atomic_store(&answers, false);
    atomic_store(&hung_drives, which);
}

static void drives_answer(void)
{
    atomic_store(&hung_drives, 0);
    atomic_store(&answers, true);
}

static void hung_wait(unsigned n)
{
    while (atomic_load(&hung_n) < n)
        usleep(1000);
}

/* ---------------------------------------------------------------- one stream */

struct rig {
    const struct checkpoint *ck;
    struct engine *engine;
    struct slots *slots;
    struct stream *stream;
};

static void check_ok(int err, const char *what)
{
    if (err == 0)
        return;
    fprintf(stderr, "%s: %s\n", what, fault.text);
    CHECK_FAIL(what);
}

static struct rig rig_open(const struct checkpoint *ck, struct stream_params params, uint32_t slots,
                           bool staging)
{
    struct rig rig = {.ck = ck};
    struct engine_params engine_params = {.experts = ENGINE_EXPERTS_SLOTS,
                                          .slots_path =
                                              staging ? SLOTS_PATH_STAGING : SLOTS_PATH_IMPORT,
                                          .sequences_max = 1,
                                          .context_max = 64,
                                          .batch_rows_max = 1};
    struct engine *engine = NULL;
    check_ok(engine_open(ck, &engine_params, &engine, &fault), "engine_open");
    engine_params.slots_ram = slots * slots_host_bytes(engine_slots(engine));
    engine_params.slots_vram = SLOTS * slots_device_bytes(engine_slots(engine));
    engine_close(&engine);
    check_ok(engine_open(ck, &engine_params, &rig.engine, &fault), "engine_open");
    rig.slots = engine_slots(rig.engine);
    CHECK(slots_host_n(rig.slots) == slots && slots_two_tiers(rig.slots) == staging);
    copies_n = 1 + params.shards_n;
    params.queue_depth = 8;
    params.read_size = 64u << 10;
    params.timeout_us = params.timeout_us ? params.timeout_us : LONG_US;
    params.prefetch = STREAM_PREFETCH_ON;
    params.hashes = "";
    params.seam = &seam;
    check_ok(stream_open(rig.engine, ck, &params, &rig.stream, &fault), "stream_open");
    return rig;
}

static void rig_close(struct rig *rig)
{
    stream_close(&rig->stream);
    engine_close(&rig->engine);
}

static void sum(const struct rig *rig, uint32_t expert, uint32_t slot, uint8_t ret[16])
{
    slots_hash(rig->slots, slots_key(rig->slots, LAYER, expert), slots_host(rig->slots, slot), ret);
}

static uint8_t sums[EXPERTS][16]; // of each expert where it landed, from drives that work

// Asks for experts a, b as a layer does.  Returns how many came, each with its own bytes.
static uint32_t ask(const struct rig *rig, uint32_t a, uint32_t b)
{
    const uint32_t experts[] = {a, b};
    struct expert_ready ready[2];
    uint32_t came = 0;
    source->begin(source->user, LAYER, experts, 2);
    for (uint32_t n, told = 0; told < 2; told += n) {
        n = source->next(source->user, ready, 2, true, &fault);
        CHECK(n > 0 && told + n <= 2);
        for (uint32_t i = 0; i < n; i++) {
            CHECK(ready[i].expert == a || ready[i].expert == b);
            if (ready[i].slot == EXPERT_NO_SLOT)
                continue;
            came++;
            uint8_t got[16];
            if (!slots_two_tiers(rig->slots)) {
                sum(rig, ready[i].expert, ready[i].slot, got);
                CHECK(!memcmp(got, sums[ready[i].expert], 16));
            }
            source->release(source->user, &ready[i].slot, 1);
        }
    }
    return came;
}

static void sums_take(const struct checkpoint *ck)
{
    struct rig rig = rig_open(ck, (struct stream_params){0}, SLOTS, false);
    for (uint32_t i = 0; i < EXPERTS; i++) {
        struct expert_ready ready;
        source->begin(source->user, LAYER, &i, 1);
        CHECK(source->next(source->user, &ready, 1, true, &fault) == 1);
        CHECK(ready.expert == i && ready.slot != EXPERT_NO_SLOT);
        sum(&rig, i, ready.slot, sums[i]);
        for (uint32_t j = 0; j < i; j++)
            CHECK(memcmp(sums[i], sums[j], 16));
        source->release(source->user, &ready.slot, 1);
    }
    rig_close(&rig);
}

/* ----------------------------------------------------------------------- tests */

static bool answer_when_waited_for(void *user)
{
    (void)user;
    drives_answer();
    return false;
}

// Every slot has a read ahead under way and the layer wants other experts.
static void test_ahead_holds_all(const struct checkpoint *ck, bool staging)
{
    const uint32_t foretold[] = {0, 1};
    struct rig rig =
        rig_open(ck, (struct stream_params){.idle = answer_when_waited_for}, SLOTS, staging);
    drives_hang(1);
    source->predict(source->user, LAYER, foretold, 2);
    hung_wait(2);
    CHECK(ask(&rig, 2, 3) == 2);
    CHECK(atomic_load(&answers)); // they were waited for
    struct stream_stats stats;
    stream_stats_read(rig.stream, &stats);
    CHECK(stats.predicted_read == 2 && stats.failures == 0);
    rig_close(&rig);
}

// Waits for what drives still owe.
static void late_wait(const struct rig *rig)
{
    for (uint32_t i = 0; i < stream_drives(rig->stream); i++) {
        struct disk_drive_stats stats = {.in_flight = 1};
        for (; stats.in_flight > 0; usleep(1000))
            stream_drive_stats(rig->stream, i, &stats);
    }
}

// A copy brings what the hung drive does not, and not in memory that this may still write.
static void test_copy(const struct checkpoint *ck)
{
    const struct stream_params params = {
        .shards = {copy_dir}, .shards_n = 1, .timeout_us = 1000000, .verify = STREAM_VERIFY_ALWAYS};
    struct rig rig = rig_open(ck, params, 2 * SLOTS, false);
    drives_hang(1);
    for (uint32_t i = 0; atomic_load(&hung_n) == 0; i += 2) { // until a piece has gone to it
        CHECK(i < EXPERTS);
        CHECK(ask(&rig, i, i + 1) == 2);
    }
    for (uint32_t i = 0; i < EXPERTS; i += 2)
        CHECK(ask(&rig, i, i + 1) == 2);
    drives_answer();
    late_wait(&rig);
    for (uint32_t i = 0; i < EXPERTS; i += 2)
        CHECK(ask(&rig, i, i + 1) == 2);
    rig_close(&rig);
}

// Every slot is lost: experts fail at once, and come again once the drive answers.
static void test_lost(const struct checkpoint *ck)
{
    struct rig rig = rig_open(ck, (struct stream_params){.timeout_us = 100000}, SLOTS, false);
    drives_hang(1);
    CHECK(ask(&rig, 0, 1) == 0);
    CHECK(fault.err == ETIMEDOUT && strstr(fault.text, "model.layers.1.mlp.experts."));
    CHECK(ask(&rig, 2, 3) == 0);
    CHECK(fault.err == ENOMEM);
    drives_answer();
    while (ask(&rig, 4, 5) < 2) // late answers, then the breaker's probe
        usleep(1000);
    rig_close(&rig);
}

static bool give_up(void *user)
{
    (void)user;
    return true;
}

// What was given up may still land, and then serves the next step.
static void test_given_up(const struct checkpoint *ck)
{
    struct rig rig = rig_open(ck, (struct stream_params){.idle = give_up}, SLOTS, false);
    drives_hang(1);
    CHECK(ask(&rig, 0, 1) == 0 && fault.err == ECANCELED);
    drives_answer();
    while (ask(&rig, 2, 3) < 2)
        usleep(1000);
    rig_close(&rig);
}

static uint64_t seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

// What a read of an expert puts at the start of its first range.
static void expert_read(const struct rig *rig, uint32_t expert, unsigned char *ret, size_t bytes,
                        uint64_t *ret_at)
{
    uint32_t n;
    const struct slot_range *range =
        slots_ranges(rig->slots, slots_key(rig->slots, LAYER, expert), &n);
    CHECK(range->bytes >= bytes);
    int fd = open(safetensors_path(checkpoint_file(rig->ck, range->file)), O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && pread(fd, ret, bytes, (off_t)range->off) == (ssize_t)bytes);
    CHECK(close(fd) == 0);
    *ret_at = range->dst + range->off % 4096;
}

// Is this what lies at an address that may be nobody's any more, and that a drive may write now?
static bool memory_is(const void *at, const unsigned char *want, size_t bytes)
{
    unsigned char got[4096];
    CHECK(bytes <= sizeof(got));
    int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && pread(fd, got, bytes, (off_t)(uintptr_t)at) == (ssize_t)bytes);
    CHECK(close(fd) == 0);
    return !memcmp(got, want, bytes);
}

// The drive answers after all is closed: its bytes go where they always went.
static void test_close(const struct checkpoint *ck, enum disk_engine engine)
{
    const uint32_t foretold[] = {0, 1};
    unsigned char want[2][4096];
    const unsigned char *at[2];
    struct rig rig = rig_open(ck, (struct stream_params){.engine = engine}, SLOTS, false);
    drives_hang(1);
    source->predict(source->user, LAYER, foretold, 2);
    hung_wait(2);
    for (uint32_t i = 0; i < 2; i++) { // slots are given in their order
        uint64_t off;
        expert_read(&rig, i, want[i], sizeof(want[i]), &off);
        at[i] = (const unsigned char *)slots_host(rig.slots, i) + off;
        CHECK(!memory_is(at[i], want[i], sizeof(want[i])));
    }
    uint64_t begun = seconds();
    rig_close(&rig);
    CHECK(seconds() - begun < LONG_US / 1000000 / 2);
    drives_answer();
    for (uint32_t i = 0; i < 2; i++)
        while (!memory_is(at[i], want[i], sizeof(want[i])))
            usleep(1000);
}

/* ------------------------------------------------------------------------ main */

static void copy_remove(void)
{
    char path[PATH_MAX];
    DIR *dir = opendir(copy_dir);
    for (struct dirent *d; dir && (d = readdir(dir));)
        if (snprintf(path, sizeof(path), "%s/%s", copy_dir, d->d_name) < PATH_MAX)
            unlink(path);
    if (dir)
        closedir(dir);
    rmdir(copy_dir);
}

// A directory with copies of the shards stands for a second drive.
static void copy_make(const struct checkpoint *ck)
{
    CHECK(mkdtemp(copy_dir));
    atexit(copy_remove);
    for (uint32_t i = 0; i < checkpoint_file_count(ck); i++) {
        const char *from = safetensors_path(checkpoint_file(ck, i));
        char to[PATH_MAX], buf[4096];
        CHECK(snprintf(to, sizeof(to), "%s%s", copy_dir, strrchr(from, '/')) < PATH_MAX);
        FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
        CHECK(in && out);
        for (size_t n; (n = fread(buf, 1, sizeof(buf), in)) > 0;)
            CHECK(fwrite(buf, 1, n, out) == n);
        CHECK(fclose(in) == 0 && fclose(out) == 0);
    }
}

static bool device_there(const struct checkpoint *ck)
{
    struct engine *engine = NULL;
    struct engine_params params = {.experts = ENGINE_EXPERTS_SLOTS,
                                   .sequences_max = 1,
                                   .context_max = 64,
                                   .batch_rows_max = 1};
    int err = engine_open(ck, &params, &engine, &fault);
    engine_close(&engine);
    return err != -ENODEV;
}

int main(void)
{
    struct checkpoint *ck = NULL;
    driver_hold();
    check_ok(checkpoint_open(GOLDEN_DIR "/models/v3-fp8", &ck, &fault), "checkpoint_open");
    if (!device_there(ck)) {
        printf("skipped: %s\n", fault.text);
        return TEST_SKIPPED;
    }
    copy_make(ck);
    sums_take(ck);
    test_ahead_holds_all(ck, false);
    test_ahead_holds_all(ck, true);
    test_copy(ck);
    test_lost(ck);
    test_given_up(ck);
    test_close(ck, DISK_ENGINE_IO_URING);
    test_close(ck, DISK_ENGINE_PREAD);
    checkpoint_close(&ck);
    return 0;
}
