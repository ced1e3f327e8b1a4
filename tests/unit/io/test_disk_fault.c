// SPDX-License-Identifier: MIT
// disk_fault: what drives do wrong, through the seam under the reader, with io_uring and pread:
// errors, short answers, flipped bits, files that shrink, answers that never come.  Each read ends
// as the header says, other reads go on, and the drive is used again when it works again.
#include "tests/unit/io/disk_fixture.h"

#include <dirent.h>
#include <pthread.h>

#define LONG_US 3600000000ull // a piece that is merely slow does not time out here

// What happens to requests of some drives; `left` times, -1: always.
struct trouble {
    pthread_mutex_t lock;
    uint32_t drives; // a bit each
    struct disk_seam_act act;
    int left;
    bool released;
    uint32_t happened;
};

static struct disk_seam_act trouble_decide(void *user, uint32_t file, uint64_t off, uint32_t bytes)
{
    struct trouble *t = user;
    struct disk_seam_act act = {DISK_SEAM_PASS, 0};
    (void)off;
    (void)bytes;
    pthread_mutex_lock(&t->lock);
    if ((t->drives & 1u << file / FIXTURE_FILES) && t->left != 0) {
        act = t->act;
        t->left -= t->left > 0;
        t->happened++;
    }
    pthread_mutex_unlock(&t->lock);
    return act;
}

static bool trouble_released(void *user)
{
    struct trouble *t = user;
    pthread_mutex_lock(&t->lock);
    bool released = t->released;
    pthread_mutex_unlock(&t->lock);
    return released;
}

static void trouble_set(struct trouble *t, uint32_t drives, enum disk_seam_kind kind,
                        uint64_t value, int left)
{
    pthread_mutex_lock(&t->lock);
    t->drives = drives;
    t->act = (struct disk_seam_act){kind, value};
    t->left = left;
    t->happened = 0;
    pthread_mutex_unlock(&t->lock);
}

static void trouble_release(struct trouble *t)
{
    pthread_mutex_lock(&t->lock);
    t->released = true;
    t->left = 0;
    pthread_mutex_unlock(&t->lock);
}

static struct fixture f;
static struct trouble trouble = {.lock = PTHREAD_MUTEX_INITIALIZER};
static const struct disk_seam seam = {&trouble, trouble_decide, trouble_released};
static struct disk_read reads[64]; // by id
static enum disk_engine engine;

static void open_with(uint32_t drives_n, uint64_t timeout_us, uint32_t depth,
                      int (*check)(void *, uint64_t, const void *))
{
    trouble_set(&trouble, 0, DISK_SEAM_PASS, 0, 0);
    trouble.released = false;
    fixture_init(&f, drives_n);
    struct disk_params params = fixture_params(&f, engine);
    params.timeout_us = timeout_us;
    params.queue_depth = depth;
    params.check = check;
    fixture_open(&f, &params, &seam);
}

static void shut(void)
{
    CHECK(disk_reader_destroy(&f.reader));
    CHECK(!f.reader);
    fixture_fini(&f);
}

static void ask(uint64_t id, uint32_t drives, uint64_t off, uint64_t bytes)
{
    reads[id] = fixture_read(&f, id, 0, drives, off, bytes);
    CHECK(disk_reader_submit(f.reader, &reads[id], 1) == 0);
}

static struct disk_done expect(uint64_t id, int err)
{
    struct disk_done done = fixture_done(&f);
    if (done.err != err)
        fprintf(stderr, "read %u: %d instead of %d: %s\n", (unsigned)done.id, done.err, err,
                done.fault.text);
    CHECK(done.id == id && done.err == err);
    CHECK((err < 0) == (done.fault.text[0] != '\0'));
    CHECK(err < 0 || fixture_same(&f, &reads[id], 0));
    return done;
}

static struct disk_drive_stats stats(uint32_t drive)
{
    struct disk_drive_stats ret;
    disk_reader_stats(f.reader, drive, &ret);
    return ret;
}

// The breaker may open or close behind the completion.
static void stats_wait(uint32_t drive, bool open)
{
    while (stats(drive).open != open)
        usleep(1000);
}

static void ends_in(const char *text, const char *a, const char *b)
{
    if (!strstr(text, a) || !strstr(text, b))
        fprintf(stderr, "'%s' lacks '%s' or '%s'\n", text, a, b);
    CHECK(strstr(text, a) && strstr(text, b));
}

static void error_once(void)
{
    open_with(1, LONG_US, 8, NULL);
    trouble_set(&trouble, 1, DISK_SEAM_ERROR, EIO, 2);
    ask(1, 1, 5000, 300000);
    struct disk_done done = expect(1, 0);
    CHECK(done.bytes >= 300000);
    CHECK(trouble.happened == 2);
    shut();
}

static void error_always(void)
{
    open_with(1, LONG_US, 8, NULL);
    trouble_set(&trouble, 1, DISK_SEAM_ERROR, EIO, -1);
    ask(1, 1, 1u << 20, 100);
    struct disk_done done = expect(1, -EIO);
    ends_in(done.fault.text, "/d0.0", "offset 1048576");
    ends_in(done.fault.text, "Input/output error", "drive0");
    CHECK(!done.in_flight && done.drive == 0 && done.fault.err == EIO);
    CHECK(trouble.happened == 3); // and two retries
    shut();
}

static void other_copy(void)
{
    open_with(3, LONG_US, 8, NULL);
    trouble_set(&trouble, 5, DISK_SEAM_ERROR, EIO, -1); // drives 0 and 2
    for (uint64_t id = 0; id < 16; id++)
        ask(id, 7, id * 1000, 300000);
    for (uint64_t n = 0; n < 16; n++) {
        struct disk_done done = fixture_done(&f);
        CHECK(done.err == 0 && fixture_same(&f, &reads[done.id], 0));
    }
    shut();
}

static void short_answers(void)
{
    open_with(1, LONG_US, 8, NULL);
    trouble_set(&trouble, 1, DISK_SEAM_SHORT, 10000, -1); // no multiple of a sector
    ask(1, 1, 12345, 200000);
    expect(1, 0);
    CHECK(trouble.happened > 20);
    ask(2, 1, FIXTURE_BYTES - 5, 5); // the file's end is no short answer
    expect(2, 0);
    trouble_set(&trouble, 1, DISK_SEAM_SHORT, 0, -1); // nothing ever comes
    ask(3, 1, 12345, 2000);
    expect(3, -EBADMSG);
    shut();
}

static void truncated(void)
{
    char path[512];
    open_with(2, LONG_US, 8, NULL);
    fixture_path(&f, 0, 0, path);
    CHECK(truncate(path, 1u << 20) == 0);
    ask(1, 1, (1u << 20) - 100, 200);
    struct disk_done done = expect(1, -EBADMSG);
    ends_in(done.fault.text, path, "shorter");
    ask(2, 3, (2u << 20) - 100, 300000); // the other copy has it
    expect(2, 0);
    ask(3, 1, (1u << 20) - 100, 100); // up to its new end it is good
    expect(3, 0);
    CHECK(!stats(0).open);
    shut();
}

static int check_read(void *user, uint64_t id, const void *buffer)
{
    const struct disk_range *range = &reads[id].range[0];
    (void)user;
    return memcmp((const char *)buffer + range->off % DISK_ALIGN, f.bytes[0] + range->off,
                  range->bytes)
               ? -EBADMSG
               : 0;
}

static void flipped(void)
{
    open_with(2, LONG_US, 8, check_read);
    trouble_set(&trouble, 1, DISK_SEAM_FLIP, 4096 * 8 * 3 + 5, 1);
    ask(1, 1, 0, 100000); // once: the second reading is right
    expect(1, 0);
    CHECK(trouble.happened == 1);
    trouble_set(&trouble, 1, DISK_SEAM_FLIP, 77, -1);
    ask(2, 1, 0, 100000); // always
    struct disk_done done = expect(2, -EBADMSG);
    ends_in(done.fault.text, "/d0.0", "checksum");
    ask(3, 3, 0, 900000); // always on one drive of two
    expect(3, 0);
    trouble_set(&trouble, 3, DISK_SEAM_FLIP, 77, -1);
    ask(4, 3, 0, 900000);
    expect(4, -EBADMSG);
    CHECK(stats(0).mismatches > 0);
    shut();
}

static void hangs(void)
{
    open_with(1, 10000, 8, NULL);
    trouble_set(&trouble, 1, DISK_SEAM_HANG, 0, -1);
    ask(1, 1, 8192, 100000);
    struct disk_done done = expect(1, -ETIMEDOUT);
    CHECK(done.in_flight);
    ends_in(done.fault.text, "/d0.0", "did not answer within 0.01 s");
    CHECK(disk_reader_submit(f.reader, &reads[1], 1) == -EINVAL); // its number is still in use
    struct disk_done none;
    CHECK(disk_reader_wait(f.reader, &none, 1, 20000) == 0);
    trouble_release(&trouble);
    done = fixture_done(&f);
    CHECK(done.id == 1 && !done.in_flight && done.err == -ETIMEDOUT);
    CHECK(fixture_same(&f, &reads[1], 0)); // it was written after all
    shut();
}

// The other drive takes over; the buffer is free when the first one has answered.
static void hangs_with_copy(void)
{
    open_with(2, 3000000, 8, NULL);
    trouble_set(&trouble, 1, DISK_SEAM_HANG, 0, -1);
    ask(1, 3, 0, 60000);
    ask(2, 3, 100, 900000);
    bool again[3] = {false};
    for (int n = 0; n < 2; n++) {
        struct disk_done done = fixture_done(&f);
        CHECK(done.err == 0 && fixture_same(&f, &reads[done.id], 0));
        again[done.id] = done.in_flight;
    }
    CHECK(again[1] || again[2]);
    CHECK(stats(1).bytes > 0);
    trouble_release(&trouble);
    for (int id = 1; id < 3; id++)
        if (again[id]) {
            struct disk_done done = fixture_done(&f);
            CHECK(again[done.id] && !done.in_flight && done.err == 0);
        }
    shut();
}

// A drive that has not answered is not waited for: the other one reads all the rest.
static void slow_drive(void)
{
    open_with(2, LONG_US, 1, NULL);
    trouble_set(&trouble, 1, DISK_SEAM_HANG, 0, 1);
    ask(1, 3, 0, 20 * (64u << 10));
    while (stats(1).pieces < 19)
        usleep(1000);
    CHECK(stats(0).pieces == 0 && stats(0).in_flight == 1);
    trouble_release(&trouble);
    CHECK(!expect(1, 0).in_flight);
    CHECK(stats(0).pieces == 1 && stats(1).pieces == 19);
    shut();
}

static void breaker(void)
{
    open_with(2, LONG_US, 8, NULL);
    trouble_set(&trouble, 1, DISK_SEAM_ERROR, EIO, -1);
    ask(1, 1, 0, 60000);
    expect(1, -EIO); // three failures
    ask(2, 1, 0, 60000);
    expect(2, -EIO); // the fourth
    stats_wait(0, true);
    uint32_t before = trouble.happened;
    ask(3, 1, 4096, 60000);
    struct disk_done done = expect(3, -EIO);
    ends_in(done.fault.text, "drive0 is failing", "offset 4096");
    CHECK(trouble.happened <= before + 1); // not asked, unless by the probe
    ask(4, 2, 4096, 60000);                // the other drive works
    expect(4, 0);
    ask(5, 3, 4096, 600000);
    expect(5, 0);
    trouble_set(&trouble, 0, DISK_SEAM_PASS, 0, 0);
    stats_wait(0, false); // by its own probe
    ask(6, 1, 4096, 60000);
    expect(6, 0);
    shut();
}

// A queue that is stuck as a whole does not let later reads wait for ever.
static void stuck_queue(void)
{
    open_with(1, 10000, 1, NULL);
    trouble_set(&trouble, 1, DISK_SEAM_HANG, 0, -1);
    ask(1, 1, 0, 100);
    ask(2, 1, 4096, 100);
    CHECK(expect(1, -ETIMEDOUT).in_flight);
    CHECK(!expect(2, -EIO).in_flight);
    trouble_release(&trouble);
    CHECK(!fixture_done(&f).in_flight);
    stats_wait(0, false);
    shut();
}

static void destroy_in_flight(void)
{
    open_with(3, LONG_US, 4, NULL);
    for (uint64_t id = 0; id < 64; id++)
        ask(id, 7, id * 100, 3u << 20);
    shut();
}

static uint32_t threads_n(void)
{
    uint32_t n = 0;
    DIR *dir = opendir("/proc/self/task");
    CHECK(dir);
    for (struct dirent *d; (d = readdir(dir));)
        n += d->d_name[0] != '.';
    closedir(dir);
    return n;
}

// destroy gives up a drive that never answers: what it holds is freed if it does.
static void destroy_stuck(void)
{
    uint32_t before = threads_n();
    open_with(1, 10000, 4, NULL);
    trouble_set(&trouble, 1, DISK_SEAM_HANG, 0, -1);
    ask(1, 1, 0, 1u << 20);
    CHECK(expect(1, -ETIMEDOUT).in_flight);
    CHECK(!disk_reader_destroy(&f.reader));
    trouble_release(&trouble);
    while (threads_n() > before)
        usleep(1000);
    fixture_fini(&f);
}

int main(void)
{
    static void (*const cases[])(void) = {
        error_once,    error_always,    other_copy, short_answers, truncated,   flipped,
        hangs,         hangs_with_copy, slow_drive, breaker,       stuck_queue, destroy_in_flight,
        destroy_stuck,
    };
    for (int e = DISK_ENGINE_IO_URING; e <= DISK_ENGINE_PREAD; e++)
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            engine = (enum disk_engine)e;
            printf("%s %zu\n", disk_engine_name[e], i);
            fflush(stdout);
            cases[i]();
        }
    return 0;
}
