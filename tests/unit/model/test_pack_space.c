// SPDX-License-Identifier: MIT
// pack_space: a file system without room is told before anything is written, with the bytes that
// are needed and free; one that becomes full on the way leaves what is done, and the same call goes
// on when there is room.  Mounts a small tmpfs: root only.
// The linker sends fallocate and fstatvfs of the library here, to hide that there is no room; meson
// builds with 64-bit offsets, under which they have these names.
#include "tests/unit/model/pack_fixture.h"

#include <sys/mount.h>
#include <sys/statvfs.h>

static bool hidden;
static char place[64];

int __real_fallocate64(int fd, int mode, off_t off, off_t bytes);
int __real_fstatvfs64(int fd, struct statvfs64 *ret);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t bytes);
int __wrap_fstatvfs64(int fd, struct statvfs64 *ret);

int __wrap_fallocate64(int fd, int mode, off_t off, off_t bytes)
{
    if (!hidden)
        return __real_fallocate64(fd, mode, off, bytes);
    errno = EOPNOTSUPP;
    return -1;
}

int __wrap_fstatvfs64(int fd, struct statvfs64 *ret)
{
    int err = __real_fstatvfs64(fd, ret);
    if (hidden && err == 0)
        ret->f_bavail = 1u << 30;
    return err;
}

static void unmount(void)
{
    umount2(place, MNT_DETACH);
}

static void resize(const char *size)
{
    char options[32];
    snprintf(options, sizeof(options), "size=%s", size);
    CHECK(mount("none", place, "tmpfs", MS_REMOUNT, options) == 0);
}

static int finished(void *user, uint64_t done, uint64_t total)
{
    uint64_t *first = user;
    if (*first == UINT64_MAX)
        *first = done;
    return done > total;
}

int main(void)
{
    if (geteuid() != 0) {
        printf("needs root: mounts a tmpfs\n");
        return TEST_SKIPPED;
    }
    fixture_begin();
    snprintf(place, sizeof(place), "%s", fixture_path("small"));
    CHECK(mkdir(place, 0700) == 0);
    if (mount("none", place, "tmpfs", 0, "size=256k") < 0) {
        printf("no tmpfs can be mounted here: %s\n", strerror(errno));
        return TEST_SKIPPED;
    }
    atexit(unmount); // before fixture_end

    struct checkpoint *ck = fixture_checkpoint(fixture_golden("v3-fp8"));
    uint64_t first = UINT64_MAX;
    struct fault fault = {0};
    const struct pack_write_params good = {.dst = fixture_path("good")};
    struct pack_write_params params = {
        .dst = fixture_path("small/dst"), .batch_bytes = 1, .progress = finished, .user = &first};
    fixture_pack(ck, &good);

    // 12 records of 53,248 bytes, and 4 MiB for small files.
    CHECK(pack_write(ck, &params, &fault) == -ENOSPC);
    CHECK(strstr(fault.text, "4833280") && strstr(fault.text, "small/dst.partial/experts.0"));
    CHECK(first == UINT64_MAX);
    CHECK(access(fixture_path("small/dst.partial"), F_OK) < 0); // nothing is left of it

    hidden = true;
    CHECK(pack_write(ck, &params, &fault) == -ENOSPC);
    CHECK(first == 0 && strstr(fault.text, "what is done is kept"));
    hidden = false;
    resize("16m");
    first = UINT64_MAX;
    if (pack_write(ck, &params, &fault) < 0)
        CHECK_FAIL(fault.text);
    printf("continued at %ju bytes\n", (uintmax_t)first);
    CHECK(first > 0 && first != UINT64_MAX); // not from the start
    fixture_same_pack(good.dst, params.dst, 1);
    checkpoint_close(&ck);
    return 0;
}
