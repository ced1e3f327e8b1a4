// SPDX-License-Identifier: MIT
// What of homes the service is shown: which directories, how systemd is told, what the view holds.
#include "client/sight.h"
#include "tests/check.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_hidden(void)
{
    CHECK(strcmp(sight_hidden("/home/a/m"), "/home") == 0 && sight_home("/home/a/m"));
    CHECK(strcmp(sight_hidden("/root"), "/root") == 0 && sight_home("/root"));
    CHECK(strcmp(sight_hidden("/var/tmp/m"), "/var/tmp") == 0 && !sight_home("/var/tmp/m"));
    CHECK(!sight_hidden("/homes/a") && !sight_hidden("/srv/home/a") && !sight_hidden("/"));
    CHECK(!sight_hidden("relative") && !sight_hidden(""));
}

// What sight_text writes and what somebody may have written.
static void test_text(void)
{
    static struct sight sight = {.dirs = {"/home/a/m", "/root/a \"b\\ 50%:c"}, .n = 2};
    struct text text = {0};

    CHECK(sight_text(&sight, &text) == 0);
    const char *line = strstr(text.bytes, "[Service]\nProtectHome=tmpfs\n");
    CHECK(line && text.bytes[0] == '#');
    const char *paths = "BindReadOnlyPaths=\"-/home/a/m\"\n"
                        "BindReadOnlyPaths=\"-/root/a \\\"b\\\\ 50%%:c\"\n";
    CHECK(strcmp(strstr(line, "Bind"), paths) == 0);
    CHECK(sight_shows("\"-/root/a \\\"b\\\\ 50%%:c\"", sight.dirs[1]));
    text_free(&text);

    CHECK(sight_shows("/home/a", "/home/a/m") && sight_shows("/x \t-/home/a/m/", "/home/a/m"));
    CHECK(sight_shows("/home/a/m:/home/a/m:rbind /x", "/home/a/m"));
    CHECK(sight_shows("\"-/home/a/m\":/home/a/m", "/home/a/m"));
    CHECK(!sight_shows("/home/a/m", "/home/a") && !sight_shows("/home/al", "/home/a/m"));
    CHECK(!sight_shows("/home/a/mm", "/home/a/m") && !sight_shows("", "/home/a/m"));
    CHECK(!sight_shows("/x:/home/a/m", "/home/a/m") && !sight_shows(" \"", "/home/a/m"));
    CHECK(sight_shows("'-/home/a/m' /x", "/home/a/m") && !sight_shows("'/x", "/home/a/m"));
    CHECK(!sight_shows("\\", "/home/a/m") && !sight_shows("- : \"\" %", "/home/a/m"));
}

static void make_file(const char *path)
{
    FILE *file = fopen(path, "w");
    CHECK(file && fputs("x", file) >= 0 && fclose(file) == 0);
}

static void make_dirs(void)
{
    static const char *const dirs[] = {
        "/home/a", "/home/a/m",    "/home/a/blobs", "/home/b",       "/home/b/far",
        "/srv/s",  "/home/a/x\ny", "/home/a/x\xff", "/home/a/m/sub", "/home/a/ln"};
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
        CHECK(mkdir(dirs[i], 0755) == 0);
    CHECK(chmod("/home/a", 0700) == 0);
    make_file("/home/a/blobs/1");
    make_file("/home/a/m/config.json");
    make_file("/home/a/lone");
    make_file("/home/b/far/1");
    make_file("/home/a/x\ny/1");
    make_file("/home/a/x\xff/1");
    CHECK(symlink("blobs", "/home/a/way") == 0);
    CHECK(symlink("../blobs/1", "/home/a/m/a.safetensors") == 0);
    CHECK(symlink("../lone", "/home/a/m/README.md") == 0); // nothing that is served
    CHECK(symlink("nowhere", "/home/a/m/c.json") == 0);
    CHECK(symlink("/home/a/m", "/srv/m") == 0);
    CHECK(symlink("/home/b/far/1", "/srv/s/experts.0") == 0);
}

// fault_add expects that a link in the model is refused.
static void fault_add(const char *target, int err, const char *words)
{
    static struct sight sight;
    struct fault fault = {0};

    sight.n = 0;
    CHECK(symlink(target, "/home/a/m/d.json") == 0);
    CHECK(sight_add(&sight, "/home/a/m", &fault) == err);
    if (!strstr(fault.text, words))
        fprintf(stderr, "%s: %s\n", target, fault.text);
    CHECK(strstr(fault.text, words));
    CHECK(unlink("/home/a/m/d.json") == 0);
}

static void test_add(void)
{
    static struct sight sight;
    struct fault fault = {0};

    CHECK(sight_add(&sight, "/srv/nothing", &fault) == 0 && sight.n == 0);
    CHECK(sight_add(&sight, "/srv/m", &fault) == 0 && sight.n == 2);
    CHECK(strcmp(sight.dirs[0], "/home/a/m") == 0 && strcmp(sight.dirs[1], "/home/a/blobs") == 0);
    CHECK(sight_add(&sight, "/home/a/m", &fault) == 0 && sight.n == 2); // once
    CHECK(sight_add(&sight, "/srv/s", &fault) == 0 && sight.n == 3);
    CHECK(strcmp(sight.dirs[2], "/home/b/far") == 0);
    CHECK(sight_add(&sight, "/home/a", &fault) == -EPERM && strstr(fault.text, "all of a home"));
    fault_add("../lone", -EPERM, "/home/a:");
    fault_add("../../b/far/1", -EPERM, "another home: /home/b/far");
    fault_add("../x\ny/1", -EINVAL, "/home/a ");
    fault_add("../x\xff/1", -EINVAL, "UTF-8");
    fault_add("../way/1", -EPERM, "/home/a/m/d.json is a link through a link");

    // Through links of links; a directory comes with the one above it.
    sight.n = 0;
    CHECK(symlink("/home/a/ln/1", "/home/a/m/sub/x.jinja") == 0);
    CHECK(symlink("../blobs/1", "/home/a/ln/1") == 0);
    CHECK(sight_add(&sight, "/home/a/m/sub", &fault) == 0 && sight.n == 3);
    CHECK(strcmp(sight.dirs[0], "/home/a/m/sub") == 0 && strcmp(sight.dirs[1], "/home/a/ln") == 0);
    CHECK(strcmp(sight.dirs[2], "/home/a/blobs") == 0);
    CHECK(sight_add(&sight, "/home/a/m", &fault) == 0 && sight.n == 3);
    CHECK(strcmp(sight.dirs[0], "/home/a/ln") == 0 && strcmp(sight.dirs[2], "/home/a/m") == 0);

    sight.n = SIGHT_MAX - 1;
    memset(sight.dirs, 0, sizeof(sight.dirs));
    for (uint32_t i = 0; i < sight.n; i++)
        snprintf(sight.dirs[i], PATH_MAX, "/x%u", i);
    CHECK(sight_add(&sight, "/home/a/m", &fault) == -E2BIG && sight.n == SIGHT_MAX);
}

static void test_ours(void)
{
    static struct sight sight = {.dirs = {"/home/a/m"}, .n = 1};
    struct text text = {0};

    CHECK(sight_text(&sight, &text) == 0);
    FILE *file = fopen("/srv/home.conf", "w");
    CHECK(file && fputs(text.bytes, file) >= 0 && fclose(file) == 0);
    CHECK(sight_is_ours("/srv/home.conf"));
    make_file("/srv/home.conf");
    CHECK(!sight_is_ours("/srv/home.conf") && !sight_is_ours("/srv/nothing"));
    text_free(&text);
}

static void test_enter(void)
{
    static struct sight sight;
    struct fault fault = {0};

    CHECK(sight_add(&sight, "/home/a/m", &fault) == 0);
    CHECK(sight_enter(&sight) == 0);
    CHECK(setresuid(65534, 65534, 65534) == 0); // for whom /home/a is closed
    CHECK(access("/home/a/m/config.json", R_OK) == 0 &&
          access("/home/a/m/a.safetensors", R_OK) == 0);
    CHECK(access("/srv/m/config.json", R_OK) == 0);
    CHECK(access("/home/a/lone", F_OK) != 0 && errno == ENOENT);
    CHECK(access("/home/b", F_OK) != 0);
}

int main(void)
{
    umask(022);
    test_hidden();
    test_text();
    char *home = realpath("/home", NULL);
    if (!home || strcmp(home, "/home") != 0) {
        fprintf(stderr, "/home is none, or a link\n");
        return TEST_SKIPPED;
    }
    free(home);
    // Directories of homes are those of a mount namespace of our own.
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", "/home", "tmpfs", 0, "mode=0755") != 0 ||
        mount("tmpfs", "/srv", "tmpfs", 0, "mode=0755") != 0) {
        fprintf(stderr, "no mount namespace: %s\n", strerror(errno));
        return TEST_SKIPPED;
    }
    make_dirs();
    test_add();
    test_ours();
    test_enter();
    return 0;
}
