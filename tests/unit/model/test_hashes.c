// SPDX-License-Identifier: MIT
// hashes: lists are saved and loaded whole, partly known ones too; damaged ones and those of other
// checkpoints are refused; an expert's hash is that of its raw bytes; reading tells what is cut
// off.
#include "model/hashes.h"

#include "model/checksum.h"
#include "model/expert_feed.h"
#include "model/hashes_journal.h"
#include "tests/unit/model/pack_fixture.h"

#include <sys/file.h>

static struct hashes *list_of(const struct checkpoint *ck)
{
    struct hashes *h = NULL;
    struct fault fault = {0};
    if (hashes_create(ck, &h, &fault) < 0)
        CHECK_FAIL(fault.text);
    return h;
}

static void test_checksum(void)
{
    uint8_t sum[16], parts[16], back[16];
    char text[CHECKSUM_HEX];
    struct checksum state;

    checksum_of("", 0, sum); // as xxhsum -H2 prints it
    checksum_hex(sum, text);
    CHECK(strcmp(text, "99aa06d3014798d86001c324468d497f") == 0);
    CHECK(checksum_from_hex(text, back) && memcmp(sum, back, 16) == 0);
    checksum_of("a small text", 12, sum);
    checksum_init(&state);
    checksum_add(&state, "a small", 7);
    checksum_add(&state, " text", 5);
    checksum_end(&state, parts);
    CHECK(memcmp(sum, parts, 16) == 0);
    CHECK(!checksum_from_hex(NULL, back) && !checksum_from_hex("", back));
    text[0] = 'A';
    CHECK(!checksum_from_hex(text, back));
    text[0] = 'g';
    CHECK(!checksum_from_hex(text, back));
}

// The feed gives each expert's raw bytes, and their hash is that of all six one after another.
static void test_experts(const char *golden)
{
    struct checkpoint *ck = fixture_checkpoint(fixture_golden(golden));
    struct expert_feed *feed = NULL;
    struct expert_bytes expert;
    uint32_t n = 0;

    CHECK(expert_feed_open(ck, 0, &feed, NULL) == 0);
    while (expert_feed_next(feed, &expert, NULL) == 1) {
        uint8_t *all = NULL, sum[16], hash[16];
        size_t at = 0;
        CHECK(expert.index == n++);
        for (unsigned i = 0; i < EXPERT_PARTS; i++) {
            all = realloc(all, at + expert.bytes[i] + 1);
            CHECK(all);
            CHECK(!expert.tensor[i] ||
                  checkpoint_read(ck, expert.tensor[i], 0, all + at, expert.bytes[i], NULL) == 0);
            CHECK(!expert.tensor[i] || memcmp(all + at, expert.part[i], expert.bytes[i]) == 0);
            at += expert.bytes[i];
        }
        checksum_of(all, at, sum);
        hashes_expert(expert.part, expert.bytes, hash);
        CHECK(memcmp(sum, hash, 16) == 0);
        free(all);
    }
    expert_feed_close(&feed);
    struct hashes *h = list_of(ck);
    CHECK(n == hashes_n(h) && n > 0 && hashes_known(h) == 0);
    CHECK(expert_feed_open(ck, n - 1, &feed, NULL) == 0); // from any one on
    CHECK(expert_feed_next(feed, &expert, NULL) == 1 && expert.index == n - 1);
    CHECK(expert_feed_next(feed, &expert, NULL) == 0);
    CHECK(expert_feed_next(feed, &expert, NULL) == 0);
    expert_feed_close(&feed);
    hashes_destroy(&h);
    CHECK(!h);
    checkpoint_close(&ck);
}

static void test_save_and_load(void)
{
    struct checkpoint *ck = fixture_checkpoint(fixture_golden("v3-fp8"));
    struct hashes *h = list_of(ck), *again = list_of(ck);
    const char *path = fixture_path("a/b/list");
    uint8_t hash[16] = {1, 2, 3};
    struct stat st;

    CHECK(hashes_load(h, path, NULL) == -ENOENT);
    hashes_set(h, 3, hash);
    hashes_set(h, 3, hash); // known once
    hash[15] = 9;
    hashes_set(h, 11, hash);
    CHECK(hashes_known(h) == 2 && !hashes_get(h, 0) && hashes_get(h, 11)[15] == 9);
    CHECK(hashes_save(h, path, NULL) == 0);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0644);
    CHECK(hashes_load(again, path, NULL) == 0);
    CHECK(hashes_known(again) == 2 && hashes_get(again, 3)[2] == 3 && !hashes_get(again, 4));
    // Saved again it is the same file, and nothing else is left there.
    CHECK(hashes_save(again, fixture_path("a/b/second"), NULL) == 0);
    fixture_same_file(fixture_path("a/b"), fixture_path("a/b"), "list");
    CHECK(unlink(fixture_path("a/b/second")) == 0 && unlink(path) == 0);
    CHECK(rmdir(fixture_path("a/b")) == 0);

    fixture_write_text(fixture_root, "file", "");
    struct fault fault = {0};
    CHECK(hashes_save(h, fixture_path("file/list"), &fault) == -ENOTDIR && fault.text[0]);
    hashes_destroy(&h);
    hashes_destroy(&again);
    checkpoint_close(&ck);
}

// journal opens one and returns how many experts it knows; they must be in the list.
static uint32_t journal(const struct checkpoint *ck, struct hashes_journal **ret)
{
    struct hashes *h = list_of(ck);
    struct fault fault = {0};
    uint32_t done = UINT32_MAX;
    if (hashes_journal_open(ck, h, fixture_path("j/list"), ret, &done, &fault) < 0)
        CHECK_FAIL(fault.text);
    CHECK(hashes_known(h) == done);
    for (uint32_t i = 0; i < done; i++)
        CHECK(hashes_get(h, i)[0] == i + 1);
    hashes_destroy(&h);
    return done;
}

// Closes it, and returns how many experts the next one knows.
static uint32_t journal_again(const struct checkpoint *ck)
{
    struct hashes_journal *j = NULL;
    uint32_t done = journal(ck, &j);
    hashes_journal_close(&j, false);
    CHECK(!j);
    return done;
}

static void journal_fill(const struct checkpoint *ck, uint32_t from, uint32_t to)
{
    struct hashes_journal *j = NULL;
    CHECK(journal(ck, &j) == from);
    for (uint32_t i = from; i < to; i++)
        CHECK(hashes_journal_add(j, (uint8_t[16]){(uint8_t)(i + 1), 7}, NULL) == 0);
    CHECK(hashes_journal_sync(j, NULL) == 0);
    hashes_journal_close(&j, false);
}

// What was noted is known to the next one, as far as it is whole and the shards are what they were.
static void test_journal(void)
{
    const char *path = fixture_path("j/list.partial"), *shard;
    fixture_copy("v3-fp8", "hashed");
    struct checkpoint *ck = fixture_checkpoint(fixture_path("hashed"));
    struct hashes_journal *j = NULL;
    struct fault fault = {0};
    struct stat st;
    uint32_t done = 0;

    CHECK(journal_again(ck) == 0);
    CHECK(access(path, F_OK) < 0); // an empty one does not stay
    journal_fill(ck, 0, 5);
    CHECK(journal_again(ck) == 5);
    journal_fill(ck, 5, 12);
    CHECK(journal_again(ck) == 12 && stat(path, &st) == 0 && st.st_size == 64 + 12 * 32);

    // Any bit: entries before it stay, and a changed head is another journal.
    for (off_t bit = 64 * 8; bit < st.st_size * 8; bit += 13) {
        fixture_flip(path, (uint64_t)bit / 8, (unsigned)(bit % 8));
        CHECK(journal_again(ck) == (uint32_t)((bit / 8 - 64) / 32) || bit / 8 < 96);
        if (bit / 8 >= 96) // else it knew none, and is gone
            fixture_flip(path, (uint64_t)bit / 8, (unsigned)(bit % 8));
        else
            journal_fill(ck, 0, 12);
    }
    CHECK(journal_again(ck) == 12);
    CHECK(truncate(path, st.st_size - 1) == 0 && journal_again(ck) == 11);
    for (unsigned byte = 0; byte < 64; byte++) {
        fixture_flip(path, byte, byte % 8);
        CHECK(journal_again(ck) == 0);
        journal_fill(ck, 0, 2);
    }

    // A shard that was written to.
    shard = safetensors_path(checkpoint_file(ck, 0));
    CHECK(stat(shard, &st) == 0);
    st.st_mtim.tv_nsec ^= 1;
    CHECK(utimensat(AT_FDCWD, shard, (struct timespec[]){st.st_atim, st.st_mtim}, 0) == 0);
    CHECK(journal_again(ck) == 0);
    journal_fill(ck, 0, 1);

    // One process at a time; what belongs to the other stays.
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0);
    struct hashes *h = list_of(ck);
    CHECK(hashes_journal_open(ck, h, fixture_path("j/list"), &j, &done, &fault) == -EBUSY);
    CHECK(!j && strstr(fault.text, "another expertctl"));
    close(fd);
    CHECK(journal(ck, &j) == 1);
    hashes_journal_close(&j, true);
    CHECK(access(path, F_OK) < 0);
    CHECK(hashes_journal_open(ck, h, "/proc/list", &j, &done, &fault) < 0);
    CHECK(strstr(fault.text, "/proc/list.partial: cannot be made"));
    hashes_destroy(&h);
    hashes_journal_close(&j, false);
    checkpoint_close(&ck);
    fixture_remove(fixture_path("j"));
    fixture_remove(fixture_path("hashed"));
}

// refused: the file is not taken, and the list is empty.
static void refused(struct hashes *h, const char *path, const char *word)
{
    struct fault fault = {0};
    int err = hashes_load(h, path, &fault);
    if (err != -EBADMSG || !strstr(fault.text, word))
        fprintf(stderr, "%d: %s\n", err, fault.text);
    CHECK(err == -EBADMSG && strstr(fault.text, word));
    CHECK(hashes_known(h) == 0);
    for (uint32_t i = 0; i < hashes_n(h); i++)
        CHECK(!hashes_get(h, i));
}

static void test_damage(void)
{
    struct checkpoint *ck = fixture_checkpoint(fixture_golden("v3-fp8"));
    struct checkpoint *other_ck = fixture_checkpoint(fixture_golden("v31-ue8m0"));
    struct hashes *h = list_of(ck), *other = list_of(other_ck);
    const char *path = fixture_path("list");
    uint8_t hash[16];
    uint64_t state = 5;
    size_t len;

    for (uint32_t i = 0; i < hashes_n(h); i++) {
        for (unsigned b = 0; b < 16; b++)
            hash[b] = (uint8_t)check_random(&state);
        hashes_set(h, i, hash);
    }
    CHECK(hashes_save(h, path, NULL) == 0);
    char *good = fixture_text(path, &len);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        fixture_flip(path, bit / 8, bit % 8);
        refused(h, path, path);
        fixture_flip(path, bit / 8, bit % 8);
    }
    CHECK(hashes_load(h, path, NULL) == 0 && hashes_known(h) == hashes_n(h));
    refused(other, path, "another checkpoint");
    CHECK(truncate(path, (off_t)len - 1) == 0);
    refused(h, path, "damaged");
    CHECK(truncate(path, (off_t)len + 1) == 0);
    refused(h, path, "damaged");
    CHECK(truncate(path, 10) == 0);
    refused(h, path, "no list");
    CHECK(truncate(path, 0) == 0);
    refused(h, path, "no list");
    fixture_write_text(fixture_root, "list",
                       "some other text that is as long as the head is at least: 64");
    refused(h, path, "no list");
    free(good);
    hashes_destroy(&h);
    hashes_destroy(&other);
    checkpoint_close(&ck);
    checkpoint_close(&other_ck);
}

static void test_path(void)
{
    struct checkpoint *ck = fixture_checkpoint(fixture_golden("v3-fp8"));
    char path[512], again[512];

    CHECK(setenv("STATE_DIRECTORY", "/state:/other", 1) == 0);
    CHECK(hashes_path(ck, path, sizeof(path)) == 0);
    CHECK(strncmp(path, "/state/", 7) == 0 && !strchr(path, ':') && strstr(path, ".hashes"));
    CHECK(hashes_path(ck, again, strlen(path)) == -ENAMETOOLONG);
    CHECK(hashes_path(ck, again, strlen(path) + 1) == 0 && strcmp(path, again) == 0);
    CHECK(unsetenv("STATE_DIRECTORY") == 0);
    if (access("/var/lib/expertd", W_OK) < 0) {
        CHECK(setenv("XDG_STATE_HOME", "/xdg", 1) == 0);
        CHECK(hashes_path(ck, path, sizeof(path)) == 0 && strncmp(path, "/xdg/expertd/", 13) == 0);
        CHECK(unsetenv("XDG_STATE_HOME") == 0 && setenv("HOME", "/home/me", 1) == 0);
        CHECK(hashes_path(ck, path, sizeof(path)) == 0);
        CHECK(strncmp(path, "/home/me/.local/state/expertd/", 30) == 0);
        CHECK(unsetenv("HOME") == 0);
        CHECK(hashes_path(ck, path, sizeof(path)) == -ENOENT);
    }
    checkpoint_close(&ck);
}

static void test_dense(void)
{
    struct checkpoint *ck = fixture_checkpoint(fixture_golden("distill-llama"));
    struct hashes *h = list_of(ck);
    CHECK(hashes_n(h) == 0);
    CHECK(hashes_save(h, fixture_path("dense"), NULL) == 0);
    CHECK(hashes_load(h, fixture_path("dense"), NULL) == 0);
    hashes_destroy(&h);
    checkpoint_close(&ck);
}

// A file that is cut off under an open checkpoint: tensor and file are named.
static void test_cut_off(void)
{
    fixture_copy("lite-fp8", "cut");
    struct checkpoint *ck = fixture_checkpoint(fixture_path("cut"));
    struct expert_feed *feed = NULL;
    struct expert_bytes expert;
    struct fault fault = {0};
    const struct tensor *tensor;
    int got;

    CHECK(checkpoint_get(ck, ROLE_EXPERT_UP, checkpoint_config(ck)->first_k_dense_replace, 2, NULL,
                         &tensor, NULL) == 0);
    CHECK(truncate(fixture_path("cut/model.safetensors"), (off_t)tensor->file_off + 1) == 0);
    CHECK(expert_feed_open(ck, 0, &feed, &fault) == 0);
    while ((got = expert_feed_next(feed, &expert, &fault)) == 1)
        ;
    if (got != -EBADMSG || !strstr(fault.text, ".mlp.experts."))
        fprintf(stderr, "%d %s\n", got, fault.text);
    CHECK(got == -EBADMSG && strstr(fault.text, "model.safetensors: ends at byte"));
    CHECK(strstr(fault.text, ".mlp.experts."));
    expert_feed_close(&feed);
    checkpoint_close(&ck);
}

int main(void)
{
    fixture_begin();
    test_checksum();
    test_experts("v3-fp8");
    test_experts("v3-bf16");
    test_experts("lite-fp8");
    test_save_and_load();
    test_journal();
    test_damage();
    test_path();
    test_dense();
    test_cut_off();
    return 0;
}
