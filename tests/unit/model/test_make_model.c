// SPDX-License-Identifier: MIT
// make-model: every small preset opens as a checkpoint, verifies (no NaN codes, good scales) and
// tokenizes; the same seed gives the same bytes; nothing is overwritten and nothing is left behind.
#include "model/card.h"
#include "model/checkpoint.h"
#include "model/template.h"
#include "model/tokenizer.h"
#include "tests/unit/model/fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>

extern char **environ;

static const char *program;
static char root[256];

static pid_t start(const char *const *args)
{
    char *argv[16] = {NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;

    argv[0] = strdup(program);
    for (size_t i = 0; args[i]; i++)
        argv[i + 1] = strdup(args[i]);
    CHECK(posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0) == 0);
    CHECK(posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0) == 0);
    CHECK(posix_spawn(&pid, program, &actions, NULL, argv, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    for (size_t i = 0; argv[i]; i++)
        free(argv[i]);
    return pid;
}

static int wait_status(pid_t pid)
{
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define RUN(...) wait_status(start((const char *const[]){__VA_ARGS__, NULL}))

static void remove_dir(const char *dir)
{
    struct dirent *entry;
    DIR *stream = opendir(dir);
    CHECK(stream);
    while ((entry = readdir(stream)))
        unlinkat(dirfd(stream), entry->d_name, 0);
    closedir(stream);
    CHECK(rmdir(dir) == 0);
}

static struct checkpoint *open_whole(const char *dir)
{
    struct checkpoint *ck = NULL;
    struct fault fault = {0};
    int err = checkpoint_open(dir, &ck, &fault);
    if (err == 0)
        err = checkpoint_verify(ck, NULL, NULL, &fault);
    if (err < 0)
        fprintf(stderr, "%s\n", fault.text);
    CHECK(err == 0);
    return ck;
}

static void check_tokenizer(const char *dir, uint32_t vocab)
{
    static const char text[] = "There is more than one letter in this sentence, 1234 times:\n\t"
                               "naïve 東京 \xf0\x9f\x98\x80";
    struct tokenizer *tok = NULL;
    struct tokenizer_scratch *scratch = NULL;
    struct token_list list = {0};
    struct fault fault = {0};
    enum template_style style;
    char back[256];
    size_t n = 0;

    int err = tokenizer_open(dir, &tok, &fault);
    if (err < 0)
        fprintf(stderr, "%s\n", fault.text);
    CHECK(err == 0);
    CHECK(tokenizer_vocab(tok) == vocab);
    for (uint32_t id = 0; id < vocab; id++)
        CHECK(tokenizer_has(tok, id));
    CHECK(tokenizer_id(tok, "<think>") == vocab - 17);
    CHECK(tokenizer_bos(tok) == 0);
    CHECK(template_detect(tok, &style, &fault) == 0 && style == TEMPLATE_R1);
    CHECK(tokenizer_scratch_create(tok, &scratch) == 0);
    CHECK(tokenizer_encode(tok, scratch, text, sizeof(text) - 1, false, &list, &fault) == 0);
    CHECK(list.n < sizeof(text) * 3 / 4); // merges are used
    for (size_t i = 0; i < list.n; i++) {
        size_t len;
        const char *bytes = tokenizer_bytes(tok, list.ids[i], &len);
        CHECK(n + len <= sizeof(back));
        memcpy(back + n, bytes, len);
        n += len;
    }
    CHECK(n == sizeof(text) - 1 && memcmp(back, text, n) == 0);
    token_list_free(&list);
    tokenizer_scratch_destroy(&scratch);
    tokenizer_close(&tok);
}

static void test_presets(void)
{
    static const char *const names[] = {"tiny-mla",  "tiny-v31",   "tiny-kimi",  "tiny-lite",
                                        "tiny-bf16", "tiny-qwen2", "tiny-llama", "tiny-slice"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char dir[300];
        snprintf(dir, sizeof(dir), "%s/%s", root, names[i]);
        CHECK(RUN("--preset", names[i], dir) == 0);
        struct checkpoint *ck = open_whole(dir);
        CHECK(checkpoint_file_count(ck) == 2);
        for (uint32_t file = 0; file < 2; file++) // both of what released shards have
            CHECK(safetensors_at(checkpoint_file(ck, file), 0)->file_off % 16 == 8 - 8 * file);
        check_tokenizer(dir, checkpoint_config(ck)->vocab_size);
        checkpoint_close(&ck);
        remove_dir(dir);
    }
}

// same_bytes compares one file of two directories.
static bool same_bytes(const char *a, const char *b, const char *name)
{
    char path[400];
    size_t a_len, b_len;
    snprintf(path, sizeof(path), "%s/%s", a, name);
    char *a_text = fixture_text(path, &a_len);
    snprintf(path, sizeof(path), "%s/%s", b, name);
    char *b_text = fixture_text(path, &b_len);
    bool same = a_len == b_len && memcmp(a_text, b_text, a_len) == 0;
    free(a_text);
    free(b_text);
    return same;
}

static void test_seed_and_mtp(void)
{
    static const char shard[] = "model-00001-of-000002.safetensors";
    char a[300], b[300], c[300], d[300];
    snprintf(a, sizeof(a), "%s/a", root);
    snprintf(b, sizeof(b), "%s/b", root);
    snprintf(c, sizeof(c), "%s/c", root);
    snprintf(d, sizeof(d), "%s/d", root);
    CHECK(RUN("--preset", "tiny-mla", a, "--seed", "7") == 0);
    CHECK(RUN("--preset", "tiny-mla", b, "--seed", "7") == 0);
    CHECK(RUN("--preset", "tiny-mla", c, "--seed", "8") == 0);
    CHECK(same_bytes(a, b, shard) && !same_bytes(a, c, shard));
    CHECK(same_bytes(a, c, "config.json") && same_bytes(a, c, "tokenizer.json"));

    // The MTP layer comes with its copies of embedding and head, which nobody loads.
    CHECK(RUN("--preset", "tiny-mla", "--mtp", d) == 0);
    struct checkpoint *ck = open_whole(d);
    struct model_card card;
    CHECK(checkpoint_config(ck)->num_nextn_predict_layers == 1 && !checkpoint_mtp_missing(ck));
    CHECK(model_card_make(ck, &card) == 0);
    CHECK(card.unused.tensors == 2 && card.unused.bytes == 2 * 512 * 256 * 2);
    checkpoint_close(&ck);

    // A directory with files is left alone.
    CHECK(RUN("--preset", "tiny-mla", a) == 1);
    CHECK(same_bytes(a, b, shard));
    remove_dir(a);
    remove_dir(b);
    remove_dir(c);
    remove_dir(d);
}

static void test_usage(void)
{
    char dir[300];
    snprintf(dir, sizeof(dir), "%s/x", root);
    CHECK(RUN("--help") == 0);
    CHECK(RUN("--preset", "nonsense", dir) == 2);
    CHECK(RUN(dir) == 2);
    CHECK(RUN("--preset", "tiny-mla", "--seed", "x1", dir) == 2);
    CHECK(RUN("--preset", "tiny-qwen2", "--mtp", dir) == 1);
    CHECK(RUN("--preset", "tiny-mla", "/dev/null/x") == 1);
    CHECK(access(dir, F_OK) < 0);
}

// A file-size limit stands for a full drive: write fails half way.
static void test_full(void)
{
    struct rlimit limit, small = {1 << 20, 1 << 20};
    char dir[300];
    snprintf(dir, sizeof(dir), "%s/full", root);
    CHECK(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    small.rlim_max = limit.rlim_max;
    CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
    CHECK(RUN("--preset", "tiny-mla", dir) == 1);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CHECK(access(dir, F_OK) < 0);
}

static void test_stop(void)
{
    char dir[300];
    snprintf(dir, sizeof(dir), "%s/stop", root);
    pid_t pid = start((const char *const[]){"--preset", "bench-800m", dir, NULL});
    while (access(dir, F_OK) < 0 && waitpid(pid, NULL, WNOHANG) == 0)
        usleep(1000);
    CHECK(kill(pid, SIGINT) == 0);
    CHECK(wait_status(pid) == 1);
    CHECK(access(dir, F_OK) < 0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    program = argv[1];
    snprintf(root, sizeof(root), "%s/make-model.XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    CHECK(mkdtemp(root));
    test_presets();
    test_seed_and_mtp();
    test_usage();
    test_full();
    test_stop();
    CHECK(rmdir(root) == 0);
    return 0;
}
