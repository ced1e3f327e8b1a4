// SPDX-License-Identifier: MIT
// make-reflink: make-model --reflink on an XFS image in a loop device: a model larger than the
// image opens and verifies, and takes a small part of the place that its files show; elsewhere one
// sentence says why it cannot be.  Needs root.  The mount is in a namespace of its own and the
// image has no name any more once it is mounted, so that nothing is left behind, whatever happens.
#include "model/checkpoint.h"
#include "tests/unit/model/fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#define IMAGE_BYTES (400ll << 20) // below the 808 MB of bench-800m, above the least XFS

extern char **environ;

static const char *make_model;

// run starts a program, found in PATH, with stderr in a file.  Returns its exit status, 127 without
// it.
static int run(const char *stderr_path, const char *const *args)
{
    posix_spawn_file_actions_t actions;
    char *argv[12] = {NULL};
    pid_t pid;
    int status;

    for (size_t i = 0; args[i]; i++)
        argv[i] = strdup(args[i]);
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, 2, stderr_path, O_WRONLY | O_CREAT | O_TRUNC,
                                           0600) == 0);
    int err = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    for (size_t i = 0; argv[i]; i++)
        free(argv[i]);
    if (err == ENOENT)
        return 127;
    CHECK(err == 0);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define RUN(stderr_path, ...) run(stderr_path, (const char *const[]){__VA_ARGS__, NULL})

static _Noreturn void skip(const char *why)
{
    printf("skipped: %s\n", why);
    exit(TEST_SKIPPED);
}

// mount_image mounts a new file system of its own on an empty directory.
static void mount_image(const char *root)
{
    char image[300];
    int status;

    snprintf(image, sizeof(image), "%s.image", root);
    int fd = open(image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, IMAGE_BYTES) == 0);
    close(fd);
    status = RUN("/dev/null", "mkfs.xfs", "-q", "-m", "reflink=1", image);
    if (status == 0)
        status = RUN("/dev/null", "mount", "-o", "loop", "-t", "xfs", image, root) ? -1 : 0;
    unlink(image);
    if (status != 0) {
        rmdir(root);
        skip(status == 127  ? "mkfs.xfs is not installed (package xfsprogs)"
             : status == -1 ? "this kernel has no loop device or no XFS"
                            : "mkfs.xfs failed");
    }
}

// used_bytes returns what the file system holds.
static uint64_t used_bytes(const char *dir)
{
    struct statfs fs;
    CHECK(statfs(dir, &fs) == 0);
    return (uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize;
}

static void check_whole(const char *dir, uint64_t *ret_bytes)
{
    struct checkpoint *ck = NULL;
    struct fault fault = {0};
    struct stat st;

    if (checkpoint_open(dir, &ck, &fault) || checkpoint_verify(ck, NULL, NULL, &fault))
        CHECK_FAIL(fault.text);
    *ret_bytes = 0;
    for (uint32_t i = 0; i < checkpoint_file_count(ck); i++) {
        CHECK(stat(safetensors_path(checkpoint_file(ck, i)), &st) == 0);
        *ret_bytes += (uint64_t)st.st_size;
    }
    checkpoint_close(&ck);
}

// experts_differ reads the same matrix of two experts.
static void check_experts_differ(const char *dir)
{
    struct checkpoint *ck = NULL;
    const struct tensor *tensor;
    struct fault fault;
    char codes[2][4096];

    CHECK(checkpoint_open(dir, &ck, &fault) == 0);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK(checkpoint_get(ck, ROLE_EXPERT_UP, 1, i, NULL, &tensor, NULL) == 0);
        CHECK(checkpoint_read(ck, tensor, 0, codes[i], sizeof(codes[i]), &fault) == 0);
    }
    CHECK(memcmp(codes[0], codes[1], sizeof(codes[0])) != 0);
    checkpoint_close(&ck);
}

static void test_clones(const char *root)
{
    char dir[300], log[300];
    uint64_t bytes, before = used_bytes(root);

    snprintf(dir, sizeof(dir), "%s/model", root);
    snprintf(log, sizeof(log), "%s/log", root);
    CHECK(RUN(log, make_model, "--preset", "bench-800m", "--reflink", dir) == 0);
    check_whole(dir, &bytes);
    check_experts_differ(dir);
    sync();
    uint64_t used = used_bytes(root) - before;
    printf("%.1f MB of files on %.1f MB of the drive\n", (double)bytes / 1e6, (double)used / 1e6);
    CHECK(bytes > 800000000 && bytes > IMAGE_BYTES);
    CHECK(used < bytes / 6);

    // Without sharing it does not fit, and nothing is left.
    snprintf(dir, sizeof(dir), "%s/second", root);
    CHECK(RUN(log, make_model, "--preset", "bench-800m", dir) == 1);
    CHECK(access(dir, F_OK) < 0);
}

// tmpfs clones nothing.
static void test_refused(const char *root)
{
    char dir[300], log[300];

    CHECK(mount("tmpfs", root, "tmpfs", 0, "size=64m") == 0);
    snprintf(dir, sizeof(dir), "%s/model", root);
    snprintf(log, sizeof(log), "%s/log", root);
    CHECK(RUN(log, make_model, "--preset", "tiny-mla", "--reflink", dir) == 1);
    char *text = fixture_text(log, NULL);
    CHECK(strstr(text, "does not clone blocks"));
    free(text);
    CHECK(access(dir, F_OK) < 0);
    CHECK(RUN(log, make_model, "--preset", "tiny-bf16", "--reflink", dir) == 1);
    text = fixture_text(log, NULL);
    CHECK(strstr(text, "no FP8"));
    free(text);
    CHECK(umount(root) == 0);
}

int main(int argc, char **argv)
{
    char root[256];

    CHECK(argc == 2);
    make_model = argv[1];
    if (geteuid() != 0)
        skip("mounting an image needs root");
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        skip("no mount namespace here");
    snprintf(root, sizeof(root), "%s/make-reflink.XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    CHECK(mkdtemp(root));
    test_refused(root);
    mount_image(root);
    test_clones(root);
    CHECK(umount(root) == 0);
    CHECK(rmdir(root) == 0);
    return 0;
}
