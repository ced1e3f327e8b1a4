// SPDX-License-Identifier: MIT
// Files that are put in place together, or not at all.
#include "client/stage.h"
#include "tests/check.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/stage-XXXXXX";

static const char *in(const char *name)
{
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, PATH_MAX, "%s/%s", root, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(in(name), "w");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static bool holds(const char *name, const char *text)
{
    char buf[64] = "";
    FILE *file = fopen(in(name), "r");
    size_t n = file ? fread(buf, 1, sizeof(buf) - 1, file) : 0;
    if (file)
        (void)fclose(file);
    return file && n == strlen(text) && memcmp(buf, text, n) == 0;
}

static bool there(const char *name)
{
    struct stat st;
    return lstat(in(name), &st) == 0;
}

static void test_commit(void)
{
    struct stage stage = {0};
    struct fault fault = {0};
    struct stat st;

    put("a", "old");
    CHECK(stage_add(&stage, in("a"), "new", 3, 0640, &fault) == 0);
    CHECK(stage_add(&stage, in("dir/b"), "", 0, 0644, &fault) == 0);
    CHECK(holds("a", "old") && !there("dir/b"));
    CHECK(stage_commit(&stage, &fault) == 0);
    CHECK(holds("a", "new") && holds("dir/b", "") && !there("a.new") && !there("dir/b.new"));
    CHECK(stat(in("a"), &st) == 0 && (st.st_mode & 07777) == 0640);
    CHECK(stat(in("dir/b"), &st) == 0 && (st.st_mode & 07777) == 0644);
    stage_drop(&stage); // of what is in place: nothing
    CHECK(holds("a", "new"));
}

static void test_drop(void)
{
    struct stage stage = {0};
    struct fault fault = {0};

    put("a", "old");
    put("c.new", "left by a crash");
    CHECK(stage_add(&stage, in("a"), "new", 3, 0640, &fault) == 0);
    CHECK(stage_add(&stage, in("c"), "new", 3, 0640, &fault) == 0);
    CHECK(stage_add(&stage, in("fresh/d"), "new", 3, 0640, &fault) == 0);
    CHECK(stage_add(&stage, in("fresh/f"), "new", 3, 0640, &fault) == 0); // beside it
    CHECK(stage_add(&stage, in("no/such/e"), "new", 3, 0640, &fault) == -ENOENT);
    CHECK(strstr(fault.text, "no/such/e"));
    stage_drop(&stage);
    CHECK(holds("a", "old") && !there("a.new") && !there("c") && !there("c.new"));
    CHECK(!there("fresh") && !there("no"));
}

// A link stays a link: the file that it names is replaced.
static void test_link(void)
{
    struct stage stage = {0};
    struct fault fault = {0};
    struct stat st;

    put("real", "old");
    CHECK(symlink("real", in("link")) == 0);
    CHECK(stage_add(&stage, in("link"), "new", 3, 0640, &fault) == 0);
    CHECK(stage_commit(&stage, &fault) == 0);
    CHECK(holds("real", "new") && lstat(in("link"), &st) == 0 && S_ISLNK(st.st_mode));
}

// A drop-in that is masked by a link to a device stays masked, and the device one.
static void test_device(void)
{
    struct stage stage = {0};
    struct fault fault = {0};
    struct stat st;

    CHECK(symlink("/dev/null", in("masked")) == 0);
    CHECK(stage_add(&stage, in("masked"), "new", 3, 0640, &fault) == -EEXIST);
    CHECK(strstr(fault.text, "masked is no file") && stage.n == 0);
    CHECK(stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode));
}

// What cannot be renamed is told, and the rest taken back.
static void test_no_place(void)
{
    struct stage stage = {0};
    struct fault fault = {0};

    CHECK(mkdir(in("folder"), 0700) == 0);
    put("folder/full", "");
    put("before", "old");
    CHECK(stage_add(&stage, in("before"), "new", 3, 0640, &fault) == 0);
    CHECK(stage_add(&stage, in("fresh"), "new", 3, 0640, &fault) == 0);
    CHECK(stage_add(&stage, in("folder"), "new", 3, 0640, &fault) == 0);
    CHECK(stage_add(&stage, in("behind"), "new", 3, 0640, &fault) == 0);
    CHECK(stage_commit(&stage, &fault) == -EISDIR && strstr(fault.text, "folder"));
    stage_drop(&stage);
    CHECK(holds("folder/full", "") && !there("folder.new"));
    CHECK(holds("before", "old") && !there("before.new"));
    CHECK(!there("fresh") && !there("fresh.new") && !there("behind") && !there("behind.new"));
}

static void remove_root(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf %s", root);
    if (system(command) != 0)
        fprintf(stderr, "%s stays\n", root);
}

int main(void)
{
    CHECK(mkdtemp(root));
    CHECK(atexit(remove_root) == 0);
    test_commit();
    test_drop();
    test_link();
    test_device();
    test_no_place();
    return 0;
}
