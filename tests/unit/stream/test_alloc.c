// SPDX-License-Identifier: MIT
// Opening an engine with experts in slots, and a stream over it, while the n-th allocation fails,
// alone and with all after it, for every n: an error with a sentence, nothing leaked, and the next
// ones open and compute.
#include "model/pack_write.h"
#include "model/slots.h"
#include "stream/stream.h"
#include "tests/alloc_fail.h"
#include "tests/check.h"
#include "tests/driver_hold.h"
#include "vk/device.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS_BYTES (1u << 20) // of a tier: some

struct subject {
    const struct checkpoint *ck;
    struct engine_params engine;
    struct stream_params stream;
};

// The memory of slots, in bytes.
static size_t mapped;

void *__real_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t off);
int __real_munmap(void *at, size_t bytes);
int __wrap_munmap(void *at, size_t bytes);

void *__wrap_mmap64(void *at, size_t bytes, int prot, int flags, int fd, off_t off)
{
    errno = ENOMEM;
    void *memory = alloc_fail_hit() ? MAP_FAILED : __real_mmap64(at, bytes, prot, flags, fd, off);
    mapped += memory == MAP_FAILED ? 0 : bytes;
    return memory;
}

int __wrap_munmap(void *at, size_t bytes)
{
    mapped -= bytes;
    return __real_munmap(at, bytes);
}

// jansson's failures are for model/test_pack_alloc.c: it does not always tell them.
static void *json_take(size_t bytes)
{
    alloc_fail_pause(true);
    void *memory = alloc_fail_malloc(bytes);
    alloc_fail_pause(false);
    return memory;
}

// What of opening the device fails is for model/test_engine_fail.c.
int __real_vk_device_open(const struct vk_device_params *params, struct vk_device **ret,
                          struct fault *fault);
int __wrap_vk_device_open(const struct vk_device_params *params, struct vk_device **ret,
                          struct fault *fault);

int __wrap_vk_device_open(const struct vk_device_params *params, struct vk_device **ret,
                          struct fault *fault)
{
    alloc_fail_pause(true);
    int err = __real_vk_device_open(params, ret, fault);
    alloc_fail_pause(false);
    return err;
}

// run opens both and computes a step of two rows.
static int run(void *user, struct fault *fault)
{
    const struct subject *s = user;
    struct engine *engine = NULL;
    struct stream *stream = NULL;
    const float *logits;
    const struct engine_row row = {.token = 5, .want_logits = true};
    int err = engine_open(s->ck, &s->engine, &engine, fault);
    CHECK((err == 0) == (engine != NULL));
    if (!err) {
        err = stream_open(engine, s->ck, &s->stream, &stream, fault);
        CHECK((err == 0) == (stream != NULL));
    }
    if (!err)
        err = engine_seq_reserve(engine, 0, 1);
    if (!err)
        err = engine_step(engine, &row, 1, &logits, fault);
    if (!err && engine_row_fault(engine, 0))
        err = fault_set(fault, engine_row_fault(engine, 0)->err, "%s",
                        engine_row_fault(engine, 0)->text);
    stream_close(&stream);
    engine_close(&engine);
    return err;
}

struct variant {
    const char *name;
    bool staging, pack;
    enum disk_engine engine;
};

static const struct variant variants[] = {
    {.name = "shards"},
    {.name = "two tiers, pread", .staging = true, .engine = DISK_ENGINE_PREAD},
    {.name = "pack", .pack = true},
};

static char pack[] = "/var/tmp/expertd-stream-alloc-XXXXXX";

static void pack_remove(void)
{
    char path[PATH_MAX];
    DIR *dir = opendir(pack);
    for (struct dirent *d; dir && (d = readdir(dir));)
        if (snprintf(path, sizeof(path), "%s/%s", pack, d->d_name) < PATH_MAX)
            unlink(path);
    if (dir)
        closedir(dir);
    rmdir(pack);
}

static struct subject subject_of(const struct checkpoint *ck, const struct variant *v)
{
    const struct subject subject = {
        .ck = ck,
        .engine = {.experts = ENGINE_EXPERTS_SLOTS,
                   .slots_path = v->staging ? SLOTS_PATH_STAGING : SLOTS_PATH_IMPORT,
                   .slots_ram = SLOTS_BYTES,
                   .slots_vram = SLOTS_BYTES,
                   .pack = v->pack ? pack : NULL,
                   .sequences_max = 1,
                   .context_max = 64,
                   .batch_rows_max = 1, // each engine warms up: that is most of the time
                   .mtp = v->pack},
        .stream = {.packs = {v->pack ? pack : NULL},
                   .packs_n = v->pack,
                   .engine = v->engine,
                   .timeout_us = 60000000,
                   .hashes = ""}};
    return subject;
}

static void variant_run(const struct checkpoint *ck, const struct variant *v)
{
    struct subject subject = subject_of(ck, v);
    for (int once = 0; once < 2; once++) {
        // Alone it may be that of huge pages, which slots can do without.
        unsigned n = alloc_fail_each(
            &(struct alloc_fail_job){.run = run, .user = &subject, .once = once, .optional = once});
        printf("%s%s: %u allocations\n", v->name, once ? ", alone" : "", n);
        CHECK(n > 80); // the hooks are in place
        CHECK(mapped == 0);
    }
}

int main(void)
{
    struct fault fault = {0};
    struct checkpoint *ck = NULL;
    json_set_alloc_funcs(json_take, alloc_fail_free);
    if (checkpoint_open(GOLDEN_DIR "/models/v3-fp8", &ck, &fault))
        CHECK_FAIL(fault.text);
    driver_hold();
    struct subject subject = subject_of(ck, &variants[0]);
    if (run(&subject, &fault) == -ENODEV) {
        printf("skipped: %s\n", fault.text);
        return TEST_SKIPPED;
    }
    CHECK(mkdtemp(pack));
    atexit(pack_remove);
    if (pack_write(ck, &(struct pack_write_params){.dst = pack, .force = true}, &fault))
        CHECK_FAIL(fault.text);
    for (size_t i = 0; i < ARRAY_LEN(variants); i++)
        variant_run(ck, &variants[i]);
    checkpoint_close(&ck);
    return 0;
}
