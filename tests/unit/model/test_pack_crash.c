// SPDX-License-Identifier: MIT
// pack_crash: packing is killed at each call that changes what is on the drives for good, and at
// any moment between; the same call then ends with the bytes of a pack that was never interrupted,
// and with no file on any drive that is not its own.  What is replaced is whole until then.
// The linker sends those calls of the library here.
#include "tests/unit/model/pack_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define TIMED_KILLS 30

static unsigned left; // such calls until the process is killed; 0: never

static void step(void)
{
    if (left > 0 && --left == 0)
        kill(getpid(), SIGKILL);
}

// Before and after: a crash may come on either side of a step.
#define WRAP(name, parameters, arguments)                                                          \
    int __real_##name parameters;                                                                  \
    int __wrap_##name parameters;                                                                  \
    int __wrap_##name parameters                                                                   \
    {                                                                                              \
        step();                                                                                    \
        int err = __real_##name arguments;                                                         \
        step();                                                                                    \
        return err;                                                                                \
    }
WRAP(fsync, (int fd), (fd))
WRAP(fdatasync, (int fd), (fd))
WRAP(mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(rmdir, (const char *path), (path))
WRAP(rename, (const char *from, const char *to), (from, to))
WRAP(renameat2, (int a, const char *from, int b, const char *to, unsigned flags),
     (a, from, b, to, flags))
WRAP(symlink, (const char *to, const char *path), (to, path))
WRAP(unlink, (const char *path), (path))
WRAP(unlinkat, (int dir, const char *path, int flags), (dir, path, flags))

static const char *drives[2], *old_drives[2]; // of the pack that is replaced, if they are others
static bool moves;
static struct checkpoint *ck;
static struct pack_write_params params;

static void clear(void)
{
    fixture_remove(params.dst);
    fixture_remove(fixture_path("dst.partial"));
    fixture_dir("drive0");
    fixture_dir("drive1");
    fixture_dir("old0");
    fixture_dir("old1");
}

static unsigned files_in(const char *path)
{
    unsigned n = 0;
    DIR *dir = opendir(path);
    CHECK(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void verify(void)
{
    struct fault fault = {0};
    uint32_t bad = 1;
    if (pack_verify(&(struct pack_verify_params){.dir = params.dst, .ck = ck}, &bad, &fault) < 0)
        CHECK_FAIL(fault.text);
    CHECK(bad == 0);
}

// run packs in a child, to be killed at call n or after some time.  true: it ended well.
static bool run(unsigned n, unsigned us)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        left = n;
        int err = pack_write(ck, &params, NULL);
        _exit(err == 0 || (err == -EEXIST && !params.force) ? 0 : 1);
    }
    if (us) {
        const struct timespec pause = {.tv_nsec = us * 1000l};
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    return !WIFSIGNALED(status);
}

// finish repeats the call; a crash behind the last step has left a whole pack.
static void finish(const char *good)
{
    struct fault fault = {0};
    int err = pack_write(ck, &params, &fault);
    if (err < 0 && !(err == -EEXIST && !params.force))
        CHECK_FAIL(fault.text);
    fixture_same_pack(params.dst, good, params.drives_n ? 2 : 1);
    verify();
    for (unsigned i = 0; i < 2; i++)
        CHECK(files_in(drives[i]) == (params.drives_n ? 1 : 0) && files_in(old_drives[i]) == 0);
}

static unsigned every_step(const char *good)
{
    unsigned n = 1;
    for (bool ended = false; !ended; n++) {
        clear();
        if (params.force) { // what is replaced is a whole pack at any moment
            struct pack_write_params old = params;
            old.drives = moves ? old_drives : drives;
            fixture_pack(ck, &old);
        }
        ended = run(n, 0);
        if (params.force)
            verify();
        finish(good);
    }
    return n - 1;
}

static void any_moment(const char *good)
{
    uint64_t state = 11;
    unsigned kills = 0;

    clear();
    for (unsigned i = 0; i < TIMED_KILLS; i++) {
        if (access(params.dst, F_OK) == 0)
            clear();
        kills += !run(0, 1 + (unsigned)(check_random(&state) % 4000));
    }
    finish(good);
    printf("%u of %u runs killed\n", kills, TIMED_KILLS);
}

static void in_parts(uint32_t parts)
{
    const char *good = fixture_path("good");

    params = (struct pack_write_params){
        .dst = good, .drives = drives, .drives_n = parts, .batch_bytes = 1};
    fixture_pack(ck, &params);
    // Its own drives, which stay, so that it can be compared with.
    if (parts)
        for (unsigned i = 0; i < 2; i++) {
            char from[300] = "", to[300];
            snprintf(to, sizeof(to), "%s/experts.%u", good, i);
            CHECK(readlink(to, from, sizeof(from) - 1) > 0);
            CHECK(unlink(to) == 0 && rename(from, to) == 0);
        }
    params.dst = fixture_path("dst");
    for (int force = 0; force < (parts ? 3 : 2); force++) {
        params.force = force;
        moves = force == 2;
        params.batch_bytes = force ? 0 : 1;
        printf("%u parts, %s: killed at %u steps\n", parts,
               moves   ? "replaces one elsewhere"
               : force ? "replaces one"
                       : "new",
               every_step(good));
    }
    moves = false;
    params.force = false;
    params.batch_bytes = 1;
    any_moment(good);
    clear();
    fixture_remove(good);
}

int main(void)
{
    // A killed process loses nothing that it wrote, so memory does, and fsync costs nothing there.
    if (access("/dev/shm", W_OK) == 0)
        snprintf(fixture_root, sizeof(fixture_root), "/dev/shm/test_pack.XXXXXX");
    fixture_begin();
    drives[0] = fixture_dir("drive0");
    drives[1] = fixture_dir("drive1");
    old_drives[0] = fixture_dir("old0");
    old_drives[1] = fixture_dir("old1");
    ck = fixture_checkpoint(fixture_golden("v31-ue8m0")); // four experts
    in_parts(0);
    in_parts(2);
    checkpoint_close(&ck);
    return 0;
}
