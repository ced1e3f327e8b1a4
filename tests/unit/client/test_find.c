// SPDX-License-Identifier: MIT
// Directories of a machine of files that hold a checkpoint, copies of shards, or a pack.
#include "client/find.h"
#include "tests/check.h"

#include <string.h>
#include <unistd.h>

static char root[] = "/tmp/find-XXXXXX";

static void shell(const char *words)
{
    char command[2048];
    (void)snprintf(command, sizeof(command), "set -e; cd %s; %s", root, words);
    if (system(command) != 0)
        CHECK_FAIL(words);
}

static void remove_root(void)
{
    shell("rm -rf \"$PWD\"");
}

static const struct find_one *found(const struct find *find, const char *name)
{
    for (uint32_t i = 0; i < find->n; i++)
        if (strcmp(find->found[i].path + strlen(root), name) == 0)
            return &find->found[i];
    return NULL;
}

int main(void)
{
    static struct find find, again;
    const struct find_one *one;
    char path[128];

    CHECK(mkdtemp(root));
    CHECK(atexit(remove_root) == 0);
    shell("mkdir -p a/V3/inside b/copy c/pack d/one e/not/at/all/so/deep .hidden f/half g;"
          "touch a/V3/config.json a/V3/model.safetensors.index.json a/V3/inside/config.json;"
          "truncate -s 1000 a/V3/m-1.safetensors a/V3/m-2.safetensors a/V3/inside/x.safetensors;"
          "truncate -s 1000 b/copy/m-2.safetensors; touch c/pack/manifest.json c/pack/checksums;"
          "truncate -s 4096 c/pack/experts.0; touch d/one/config.json d/one/model.safetensors;"
          "cp a/V3/* e/not/at/all/so/deep 2>/dev/null || true; cp a/V3/config.json f/half;"
          "cp -r c/pack .hidden; ln -s ../a g/again; ln -s ../a/V3 g/V3;"
          "cp -r c/pack \"$(printf 'c/\\033]0;x\\007')\"; cp -r c/pack \"$(printf 'c/a\\nb')\"");
    find_below(&find, root);
    CHECK((one = found(&find, "/a/V3")) && one->kind == FIND_MODEL && one->bytes == 2000);
    CHECK((one = found(&find, "/b/copy")) && one->kind == FIND_SHARDS && one->bytes == 1000);
    CHECK((one = found(&find, "/c/pack")) && one->kind == FIND_PACK && one->bytes == 4096);
    CHECK((one = found(&find, "/d/one")) && one->kind == FIND_MODEL);
    CHECK(find.n == 4); // not what lies inside a model, too deep, hidden, linked, half, unprintable
    find_below(&find, root);
    CHECK(find.n == 4); // once
    (void)snprintf(path, sizeof(path), "%s/g/V3", root);
    find_below(&again, path); // a place itself may be a link
    CHECK(again.n == 1 && again.found[0].kind == FIND_MODEL);
    find_below(&again, "/no/such/place");
    CHECK(again.n == 1);
    (void)snprintf(path, sizeof(path), "%s/b/copy", root);
    CHECK(find_copies(path, "m-2.safetensors", 1000));
    CHECK(!find_copies(path, "m-2.safetensors", 999));
    CHECK(!find_copies(path, "m-1.safetensors", 1000));
    return 0;
}
