// SPDX-License-Identifier: MIT
// test_keys: in a directory of its own below TMPDIR, which it removes.
#include "api/keys.h"
#include "tests/alloc_fail.h"

#include "tests/unit/api/api_check.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

// Hashes: printf %s one | sha256sum
#define HASH_ONE   "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
#define HASH_TWO   "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
#define HASH_THREE "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f"
#define DAY        " 2026-11-23"

static char dir[] = "/tmp/test_keys.XXXXXX", path[64];

static void remove_all(void)
{
    unlink(path);
    rmdir(dir);
}

static struct keys *parse(const char *text)
{
    struct keys *keys = NULL;
    struct fault fault = {0};
    int err = keys_parse("k", text, strlen(text), &keys, &fault);
    if (err != 0)
        fprintf(stderr, "%s: %s\n", text, fault.text);
    CHECK(err == 0 && keys);
    return keys;
}

static void reads_lines(void)
{
    struct keys *keys = parse("# keys\n"
                              "\n"
                              "  one " HASH_ONE DAY "\n"
                              "two\t" HASH_TWO DAY " rate=60/min concurrency=2 disabled # late\n"
                              "a.b_c-d@e " HASH_THREE DAY " concurrency=0 rate=0/min");
    CHECK(keys_n(keys) == 3);
    const struct key *k = keys_at(keys, 0);
    CHECK(strcmp(k->name, "one") == 0 && strcmp(k->created, "2026-11-23") == 0);
    CHECK(k->rate == KEYS_DEFAULT && k->concurrency == KEYS_DEFAULT && !k->disabled);
    CHECK(k->line == 3 && k->slot == 0 && k->hash[0] == 0x76 && k->hash[31] == 0xed);
    k = keys_at(keys, 1);
    CHECK(k->rate == 60 && k->concurrency == 2 && k->disabled && k->line == 4 && k->slot == 1);
    k = keys_at(keys, 2);
    CHECK(strcmp(k->name, "a.b_c-d@e") == 0 && k->rate == 0 && k->concurrency == 0);
    CHECK(keys_warning(keys)[0] == '\0');
    keys_destroy(&keys);
    CHECK(!keys);
    keys_destroy(&keys);
    keys = parse("");
    CHECK(keys_n(keys) == 0 && keys_find(keys, "one", 3) == -ENOENT);
    keys_destroy(&keys);
}

// Every wrong line is told with its number, and never with its words.
static void refuses_wrong_lines(void)
{
    static const char secret[] = "sk-Secret0123456789012345678901234567890123456";
    static const struct {
        const char *text, *names;
    } rows[] = {
        {"one\n", "k:1: behind the name"},
        {"one abc" DAY "\n", "k:1: behind the name"},
        {"one sk-Secret0123456789012345678901234567890123456" DAY "\n", "k:1: behind the name"},
        {"sk-Secret0123456789012345678901234567890123456 " HASH_ONE DAY, "k:1: the name"},
        {"one " HASH_ONE DAY " sk-Secret0123456789012345678901234567890123456", "k:1: an unknown"},
        {"\none " HASH_ONE "\n", "k:2: behind the hash"},
        {"one " HASH_ONE "0" DAY, "k:1: behind the name"},
        {"one " HASH_ONE " 2026-13-01", "k:1: behind the hash"},
        {"one " HASH_ONE " 2026-00-01", "k:1: behind the hash"},
        {"one " HASH_ONE " 2026-01-32", "k:1: behind the hash"},
        {"one " HASH_ONE " 26-01-02", "k:1: behind the hash"},
        {"one " HASH_ONE " 2026/01/02", "k:1: behind the hash"},
        {"one " HASH_ONE DAY " rate=60", "rate must be"},
        {"one " HASH_ONE DAY " rate=/min", "rate must be"},
        {"one " HASH_ONE DAY " rate=1000001/min", "rate must be"},
        {"one " HASH_ONE DAY " rate=-1/min", "rate must be"},
        {"one " HASH_ONE DAY " rate=99999999999/min", "rate must be"},
        {"one " HASH_ONE DAY " rate=1/min rate=1/min", "twice"},
        {"one " HASH_ONE DAY " concurrency=65537", "concurrency must be"},
        {"one " HASH_ONE DAY " concurrency=", "concurrency must be"},
        {"one " HASH_ONE DAY " concurrency=1 concurrency=1", "twice"},
        {"one " HASH_ONE DAY " disabled disabled", "twice"},
        {"one " HASH_ONE DAY " enabled", "k:1: an unknown"},
        {"-one " HASH_ONE DAY, "the name"},
        {"o/ne " HASH_ONE DAY, "the name"},
        {"o\xc3\xa4 " HASH_ONE DAY, "the name"},
        {"one " HASH_ONE DAY "\r\n", "k:1: a control"},
        {"# \x1b[1m\n", "k:1: a control"},
        {"one " HASH_ONE DAY "\n\none " HASH_TWO DAY, "k:3: there is a key one in line 1"},
        {"one " HASH_ONE DAY "\ntwo " HASH_ONE DAY, "k:2: two has the same hash as one in line 1"},
        {"a2345678901234567890123456789012345678901234567890123456789012345 " HASH_ONE DAY,
         "the name"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct keys *keys = NULL;
        struct fault fault = {0};
        CHECK(keys_parse("k", rows[i].text, strlen(rows[i].text), &keys, &fault) == -EINVAL);
        CHECK(!keys);
        CHECK_HAS(fault.text, rows[i].names);
        CHECK(!strstr(fault.text, secret) && !strstr(fault.text, "7692"));
    }
    struct keys *keys = NULL;
    struct fault fault = {0};
    CHECK(keys_parse("k", "one \0 x", 7, &keys, &fault) == -EINVAL); // a NUL
    CHECK_HAS(fault.text, "k:1: a control");
}

static void bounds_keys(void)
{
    const size_t bytes = (KEYS_MAX + 1) * 100;
    char *text = malloc(bytes);
    size_t n = 0;
    CHECK(text);
    for (uint32_t i = 0; i <= KEYS_MAX; i++) {
        struct keys *keys = NULL;
        struct fault fault = {0};
        n += (size_t)snprintf(text + n, bytes - n, "k%u %064x" DAY "\n", i, i);
        if (i + 1 < KEYS_MAX)
            continue;
        int err = keys_parse("k", text, n, &keys, &fault);
        CHECK(err == (i < KEYS_MAX ? 0 : -EINVAL));
        CHECK(err != 0 || (keys_n(keys) == KEYS_MAX && keys_at(keys, i)->slot == i));
        CHECK(err == 0 || strstr(fault.text, "k:1025: more than 1024"));
        keys_destroy(&keys);
    }
    free(text);
}

static void finds_keys(void)
{
    struct keys *keys =
        parse("one " HASH_ONE DAY "\ntwo " HASH_TWO DAY " disabled\nthree " HASH_THREE DAY "\n");
    static char longest[KEYS_TEXT_LONGEST + 1];

    CHECK(keys_find(keys, "one", 3) == 0);
    CHECK(keys_find(keys, "two", 3) == 1);
    CHECK(keys_find(keys, "three", 5) == 2);
    CHECK(keys_find(keys, "three", 4) == -ENOENT);
    CHECK(keys_find(keys, "", 0) == -ENOENT);
    CHECK(keys_find(keys, HASH_ONE, 64) == -ENOENT); // the file's text is no key
    CHECK(keys_find(keys, longest, sizeof(longest)) == -ENOENT);
    keys_destroy(&keys);
}

// A hash that differs in any one byte is another one.
static void compares_all_bytes(void)
{
    for (size_t i = 0; i < 64; i++) {
        char text[] = "one " HASH_ONE DAY;
        char *digit = text + 4 + i;
        *digit = *digit == '0' ? '1' : '0';
        struct keys *keys = parse(text);
        CHECK(keys_find(keys, "one", 3) == -ENOENT);
        keys_destroy(&keys);
    }
}

static void judges_requests(void)
{
    static const struct {
        const char *field, *wrong; // NULL: right
    } rows[] = {
        {"Authorization: Bearer one\r\n", NULL},
        {"authorization: bearer  one \r\n", NULL},
        {"x-api-key: one\r\n", NULL},
        {"", "needed"},
        {"Authorization: Bearer \r\n", "needed"},
        {"Authorization: Basic b25l\r\n", "needed"},
        {"Authorization: Bearer wrongsecret\r\n", "not known"},
        {"Authorization: Bearer one x\r\n", "not known"},
        {"Authorization: Bearer two\r\n", "disabled"},
    };
    struct keys *keys = parse("one " HASH_ONE DAY "\ntwo " HASH_TWO DAY " disabled\n");

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_reader r;
        struct api_error err;
        const struct key *key = NULL;
        char text[256];
        size_t used;
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", rows[i].field);
        http_reader_init(&r, 64);
        CHECK(http_reader_feed(&r, text, strlen(text), &used) == HTTP_EVENT_HEAD);
        int got = keys_judge(keys, &r.req, &key, &err);
        CHECK((got == 0) == !rows[i].wrong);
        CHECK(got == 0 ? key == keys_at(keys, 0) : !key);
        if (got != 0) {
            CHECK(got == -EACCES && err.status == 401);
            CHECK(strcmp(api_error_type(&err), "authentication_error") == 0);
            CHECK(strcmp(api_error_code(&err), "invalid_api_key") == 0);
            CHECK_HAS(err.message, rows[i].wrong);
            CHECK(!strstr(err.message, "wrongsecret"));
        }
        http_reader_fini(&r);
    }
    keys_destroy(&keys);
}

static void makes_keys(void)
{
    char made[200][KEYS_TEXT_MAX];
    bool seen[256] = {false};
    unsigned digits = 0;

    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        CHECK(keys_make(made[i]) == 0);
        CHECK(strlen(made[i]) == KEYS_TEXT_MAX - 1 && strncmp(made[i], "sk-", 3) == 0);
        for (const char *c = made[i] + 3; *c; c++)
            seen[(unsigned char)*c] = true;
        for (size_t j = 0; j < i; j++)
            CHECK(strcmp(made[i], made[j]) != 0);
        CHECK(!keys_name_valid(made[i]));
    }
    for (int c = 0; c < 256; c++) { // 8800 digits: one that never comes is none of the 62
        bool is = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        CHECK(seen[c] == is);
        digits += seen[c];
    }
    CHECK(digits == 62);
}

/* ------------------------------------------------------------------ file */

static void file_write(const char *text, mode_t mode)
{
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(fchmod(fd, mode) == 0);
    close(fd);
}

static void judges_files(void)
{
    struct keys *keys = NULL;
    struct fault fault = {0};

    CHECK(keys_load(path, NULL, &keys, &fault) == -ENOENT);
    CHECK_HAS(fault.text, "expertctl key add");
    CHECK(keys_load(dir, NULL, &keys, &fault) == -EINVAL);
    CHECK_HAS(fault.text, "is no file");

    file_write("one " HASH_ONE DAY "\n", 0640);
    CHECK(keys_load(path, NULL, &keys, &fault) == 0);
    CHECK(keys_n(keys) == 1 && keys_warning(keys)[0] == '\0');
    keys_destroy(&keys);
    CHECK(chmod(path, 0644) == 0);
    CHECK(keys_load(path, NULL, &keys, &fault) == 0);
    CHECK_HAS(keys_warning(keys), "everybody can read");
    keys_destroy(&keys);
    CHECK(chmod(path, 0642) == 0);
    CHECK(keys_load(path, NULL, &keys, &fault) == -EPERM);
    CHECK_HAS(fault.text, "everybody can write");

    file_write("one\n", 0600);
    CHECK(keys_load(path, NULL, &keys, &fault) == -EINVAL);
    CHECK_HAS(fault.text, "/keys:1: behind the name");
    CHECK(chmod(path, 0600) == 0);
    CHECK(truncate(path, KEYS_FILE_BYTES_MAX + 1) == 0);
    CHECK(keys_load(path, NULL, &keys, &fault) == -EFBIG);
    CHECK(!keys);
}

static uint32_t slot_of(const struct keys *keys, const char *name)
{
    for (uint32_t i = 0; i < keys_n(keys); i++)
        if (strcmp(keys_at(keys, i)->name, name) == 0)
            return keys_at(keys, i)->slot;
    return UINT32_MAX;
}

static void slots_stay(void)
{
    struct keys *first, *second, *third;

    file_write("one " HASH_ONE DAY "\ntwo " HASH_TWO DAY "\n", 0600);
    CHECK(keys_load(path, NULL, &first, NULL) == 0);
    // one goes, three comes before two: two stays where it was, three does not take one's place.
    file_write("three " HASH_THREE DAY "\ntwo " HASH_ONE DAY "\n", 0600);
    CHECK(keys_load(path, first, &second, NULL) == 0);
    CHECK(slot_of(second, "two") == slot_of(first, "two"));
    CHECK(slot_of(second, "three") == 2);
    CHECK(keys_load(path, second, &third, NULL) == 0);
    CHECK(slot_of(third, "three") == 2 && slot_of(third, "two") == 1);
    keys_destroy(&first);
    keys_destroy(&second);
    keys_destroy(&third);
}

// A full file whose every name changes takes the places of those that went, each once.
static void slots_of_a_full_file(void)
{
    const size_t bytes = KEYS_MAX * 100;
    char *text = malloc(bytes);
    struct keys *before = NULL, *after = NULL;
    static bool seen[KEYS_MAX];
    CHECK(text);
    for (int turn = 0; turn < 2; turn++) {
        size_t n = 0;
        for (uint32_t i = 0; i < KEYS_MAX; i++) // the odd ones keep their names, in another order
            n += (size_t)snprintf(text + n, bytes - n, "%c%u %064x" DAY "\n",
                                  turn && i % 2 == 0 ? 'n' : 'k', turn ? KEYS_MAX - 1 - i : i, i);
        file_write(text, 0600);
        CHECK(keys_load(path, before, turn ? &after : &before, NULL) == 0);
    }
    for (uint32_t i = 0; i < KEYS_MAX; i++) {
        const struct key *key = keys_at(after, i);
        CHECK(key->slot < KEYS_MAX && !seen[key->slot]);
        seen[key->slot] = true;
        if (key->name[0] == 'k')
            CHECK(key->slot == slot_of(before, key->name));
    }
    keys_destroy(&before);
    keys_destroy(&after);
    free(text);
}

static void store_keeps_what_was(void)
{
    struct keys_store store = {.all = NULL};

    CHECK(!keys_store_now(&store));
    CHECK(keys_store_put(&store, parse("one " HASH_ONE DAY)));
    const struct keys *first = keys_store_now(&store);
    const struct key *key = keys_at(first, 0);
    CHECK(!keys_store_put(&store, parse("# the same\none " HASH_ONE DAY)));
    CHECK(keys_store_now(&store) == first);
    CHECK(keys_store_put(&store, parse("one " HASH_ONE DAY " disabled")));
    CHECK(keys_at(keys_store_now(&store), 0)->disabled && !key->disabled);
    CHECK(keys_store_put(&store, parse("one " HASH_TWO DAY)));
    CHECK(keys_store_put(&store, parse("one " HASH_TWO DAY "\ntwo " HASH_ONE DAY)));
    CHECK(keys_n(keys_store_now(&store)) == 2 && strcmp(key->name, "one") == 0);
    keys_store_fini(&store);
    CHECK(!keys_store_now(&store));
    keys_store_fini(&store);
}

static int load_once(void *user, struct fault *fault)
{
    struct keys *keys = NULL;
    (void)user;
    int err = keys_load(path, NULL, &keys, fault);
    keys_destroy(&keys);
    return err;
}

static void memory_runs_out(void)
{
    file_write("one " HASH_ONE DAY "\n", 0600);
    CHECK(alloc_fail_each(&(struct alloc_fail_job){.run = load_once}) == 2);
}

int main(void)
{
    CHECK(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/keys", dir);
    CHECK(atexit(remove_all) == 0);
    reads_lines();
    refuses_wrong_lines();
    bounds_keys();
    finds_keys();
    compares_all_bytes();
    judges_requests();
    makes_keys();
    judges_files();
    slots_stay();
    slots_of_a_full_file();
    store_keeps_what_was();
    memory_runs_out();
    return 0;
}
