// SPDX-License-Identifier: MIT
// pack: what is packed reads back as the checkpoint's tensors, padded; the same input gives the
// same bytes, in one part or several; what contradicts itself or the checkpoint is refused.
#include "model/checksum.h"
#include "model/pack_manifest.h"
#include "tests/unit/model/pack_fixture.h"

#include <sys/file.h>
#include <sys/wait.h>

/* ------------------------------------------------------------- read back */

// record_read puts a record together from its parts.
static uint8_t *record_read(const struct pack *pack, uint32_t record)
{
    const struct pack_layout *l = pack_layout(pack);
    uint8_t *bytes = malloc(l->stride);
    uint64_t at = 0;
    CHECK(bytes);
    for (uint32_t i = 0; i < l->parts_n; i++) {
        CHECK(l->part_bytes[i] > 0 && l->part_bytes[i] % 4096 == 0);
        fixture_peek(pack_part_path(pack, i), record * l->part_bytes[i], bytes + at,
                     l->part_bytes[i]);
        at += l->part_bytes[i];
    }
    CHECK(at == l->stride);
    return bytes;
}

// take checks that bytes off .. off + n - 1 of a record were not looked at yet, and are right.
static void take(uint8_t *record, uint8_t *seen, uint64_t off, const void *want, uint64_t n)
{
    CHECK(memcmp(record + off, want, n) == 0);
    for (uint64_t i = 0; i < n; i++) {
        CHECK(!seen[off + i]);
        seen[off + i] = 1;
    }
}

static void matrix_check(const struct checkpoint *ck, const struct pack_layout *l, uint8_t *record,
                         uint8_t *seen, unsigned which, uint32_t layer, uint32_t expert)
{
    const uint64_t weight[] = {l->gate, l->up, l->down};
    const uint64_t scale[] = {l->gate_scale, l->up_scale, l->down_scale};
    struct tensor_spec spec;
    const struct tensor *tensor, *scales;

    CHECK(checkpoint_get(ck, (enum tensor_role)(ROLE_EXPERT_GATE + which), layer, expert, &spec,
                         &tensor, &scales) == 0);
    CHECK(weight[which] % 16 == 0 && scale[which] % 16 == 0);
    uint64_t from = (uint64_t)spec.cols * dtype_bytes[tensor->dtype];
    uint64_t to = (spec.cols + 15ull) / 16 * 16 * dtype_bytes[l->dtype];
    uint8_t *row = malloc(from);
    float *wide = malloc(4ull * spec.cols);
    CHECK(row && wide);
    for (uint32_t r = 0; r < spec.rows; r++) {
        CHECK(checkpoint_read(ck, tensor, r * from, row, from, NULL) == 0);
        CHECK(tensor->dtype == l->dtype || tensor->dtype == DTYPE_F16);
        if (tensor->dtype == DTYPE_F16)
            CHECK(checkpoint_dtype_to_f32(DTYPE_F16, row, spec.cols, wide) == 0);
        take(record, seen, weight[which] + r * to, tensor->dtype == DTYPE_F16 ? (void *)wide : row,
             (uint64_t)spec.cols * dtype_bytes[l->dtype]);
    }
    free(row);
    free(wide);
    CHECK(!scales == (scale[which] == 0));
    if (!scales)
        return;
    uint8_t *values = malloc(scales->bytes);
    CHECK(values && checkpoint_read(ck, scales, 0, values, scales->bytes, NULL) == 0);
    take(record, seen, scale[which], values, scales->bytes);
    free(values);
}

// pack_compare: every byte of every record is a tensor's or zero.  Returns 4 KiB units a record.
static uint32_t pack_compare(const struct checkpoint *ck, const char *dir)
{
    const struct model_config *config = checkpoint_config(ck);
    struct pack *pack = NULL;
    struct fault fault = {0};
    uint32_t records = 0;

    if (pack_open(dir, ck, &pack, &fault) < 0)
        CHECK_FAIL(fault.text);
    const struct pack_layout *l = pack_layout(pack);
    CHECK(l->stride % 4096 == 0);
    for (uint32_t layer = 0; layer < model_config_layers(config); layer++)
        for (uint32_t expert = 0;
             expert < config->n_routed_experts && model_config_layer_is_moe(config, layer);
             expert++) {
            uint32_t record = pack_record(pack, layer, expert), layer_back, expert_back;
            CHECK(record == records++);
            pack_record_name(pack, record, &layer_back, &expert_back);
            CHECK(layer_back == layer && expert_back == expert);
            uint8_t *bytes = record_read(pack, record), *seen = calloc(1, l->stride), sum[16];
            CHECK(seen);
            for (unsigned which = 0; which < 3; which++)
                matrix_check(ck, l, bytes, seen, which, layer, expert);
            for (uint64_t i = 0; i < l->stride; i++)
                CHECK(seen[i] || bytes[i] == 0);
            checksum_of(bytes, l->stride, sum);
            CHECK(memcmp(sum, pack_checksum(pack, record), 16) == 0);
            free(bytes);
            free(seen);
        }
    CHECK(records == pack_records(pack) && records > 0);
    CHECK(pack_record(pack, 0, config->n_routed_experts) == UINT32_MAX);
    CHECK(pack_record(pack, model_config_layers(config), 0) == UINT32_MAX);
    uint32_t units = (uint32_t)(l->stride / 4096);
    pack_close(&pack);
    CHECK(!pack);
    return units;
}

static uint32_t verify(const char *dir, const struct checkpoint *ck)
{
    uint32_t bad = UINT32_MAX;
    struct fault fault = {0};
    if (pack_verify(&(struct pack_verify_params){.dir = dir, .ck = ck}, &bad, &fault) < 0)
        CHECK_FAIL(fault.text);
    return bad;
}

// one_model packs a checkpoint whole and in parts, every step-th number of them, twice each.
static void one_model(const char *dir, uint32_t step)
{
    struct checkpoint *ck = fixture_checkpoint(dir);

    uint32_t units = 1;

    for (uint32_t n = 0; n <= 3 && n <= units; n += step) {
        const char *one = fixture_path("one"), *two = fixture_path("two");
        const char *parts[] = {fixture_dir("d0"), fixture_dir("d1"), fixture_dir("d2")};
        struct pack_write_params params = {.dst = one, .drives = parts, .drives_n = n};
        fixture_pack(ck, &params);
        units = pack_compare(ck, one);
        CHECK(verify(one, NULL) == 0 && verify(one, ck) == 0);
        CHECK(access(fixture_path("one.partial"), F_OK) < 0);
        // In other places, and put in the place of another one.
        const char *others[] = {fixture_dir("e0"), fixture_dir("e1"), fixture_dir("e2")};
        params = (struct pack_write_params){
            .dst = two, .drives = others, .drives_n = n, .batch_bytes = 1, .force = true};
        fixture_pack(ck, &params);
        fixture_pack(ck, &params);
        fixture_same_pack(one, two, n ? n : 1);
        for (int i = 0; i < 3; i++) {
            fixture_remove(parts[i]);
            fixture_remove(others[i]);
        }
        fixture_remove(one);
        fixture_remove(two);
        CHECK(access(fixture_path("two.partial"), F_OK) < 0);
    }
    checkpoint_close(&ck);
}

// poke_dtype changes the dtype of the first tensors whose name holds `part` in a single-file model.
static void poke_dtype(const char *dir, const char *part, const char *to, bool all)
{
    char path[512];
    size_t len;
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    char *bytes = fixture_text(path, &len);
    uint64_t header = 0;
    unsigned changed = 0;
    memcpy(&header, bytes, 8);
    char *end = bytes + 8 + header, was = *end;
    *end = '\0';
    for (char *at = bytes + 8; (at = strstr(at, part)) && (all || !changed); changed++) {
        at = strstr(at, "\"dtype\":");
        CHECK(at);
        at = strchr(at + 8, '"') + 1;
        size_t have = strcspn(at, "\"");
        CHECK(strlen(to) <= have);
        // The text keeps its length: what is too short is followed by a blank behind the quote.
        memcpy(at, to, strlen(to));
        at[strlen(to)] = '"';
        memset(at + strlen(to) + 1, ' ', have - strlen(to));
    }
    *end = was;
    CHECK(changed > 0);
    fixture_write(dir, "model.safetensors", bytes, len);
    free(bytes);
}

static void test_read_back(const char *make_model)
{
    static const char *const golden[] = {"v3-fp8", "v31-ue8m0", "lite-fp8", "v3-bf16"};
    static const char *const presets[] = {"tiny-mla", "tiny-lite", "tiny-kimi"};
    char command[1024];

    for (size_t i = 0; i < ARRAY_LEN(golden); i++)
        one_model(fixture_golden(golden[i]), i ? 2 : 1);
    for (size_t i = 0; i < ARRAY_LEN(presets); i++) {
        const char *dir = fixture_path("made");
        CHECK(snprintf(command, sizeof(command), "'%s' --preset %s --mtp %s >/dev/null", make_model,
                       presets[i], dir) < (int)sizeof(command));
        CHECK(system(command) == 0);
        one_model(dir, 2);
        fixture_remove(dir);
    }
    fixture_copy("v3-bf16", "f16"); // any BF16 bits are some F16's
    poke_dtype(fixture_path("f16"), ".mlp.experts.", "F16", true);
    one_model(fixture_path("f16"), 2);
}

/* --------------------------------------------------------------- refusals */

// refused: pack_write fails so, and the sentence has this word.
static void refused(const char *src, const struct pack_write_params *params, int want,
                    const char *word)
{
    struct checkpoint *ck = fixture_checkpoint(src);
    struct fault fault = {0};
    int err = pack_write(ck, params, &fault);
    if (err != want || !strstr(fault.text, word))
        fprintf(stderr, "%d: %s\n", err, fault.text);
    CHECK(err == want && strstr(fault.text, word));
    checkpoint_close(&ck);
}

// expert_place returns where an expert's tensor is.
static uint64_t expert_place(const char *src, enum tensor_role role, bool scale, char *ret_path,
                             const char **ret_name)
{
    static char name[TENSOR_NAME_MAX];
    struct checkpoint *ck = fixture_checkpoint(src);
    const struct tensor *tensor, *scales;
    uint32_t layer = checkpoint_config(ck)->first_k_dense_replace;

    CHECK(checkpoint_get(ck, role, layer, 1, NULL, &tensor, &scales) == 0);
    tensor = scale ? scales : tensor;
    snprintf(ret_path, 512, "%s", safetensors_path(checkpoint_file(ck, tensor->file_idx)));
    snprintf(name, sizeof(name), "%s", tensor->name);
    *ret_name = name;
    uint64_t off = tensor->file_off;
    checkpoint_close(&ck);
    return off;
}

static void test_bad_values(void)
{
    const struct pack_write_params params = {.dst = fixture_path("bad.pack")};
    char path[512];
    const char *name;
    uint8_t was[4];
    const float zero = 0;

    fixture_copy("v3-fp8", "bad");
    uint64_t off = expert_place(fixture_path("bad"), ROLE_EXPERT_UP, false, path, &name) + 5;
    fixture_peek(path, off, was, 1);
    fixture_poke(path, off, "\xff", 1);
    refused(fixture_path("bad"), &params, -EBADMSG, name);
    refused(fixture_path("bad"), &params, -EBADMSG, "element 5");
    fixture_poke(path, off, was, 1);
    off = expert_place(fixture_path("bad"), ROLE_EXPERT_DOWN, true, path, &name);
    fixture_peek(path, off, was, 4);
    fixture_poke(path, off, &zero, 4);
    refused(fixture_path("bad"), &params, -EBADMSG, name);
    fixture_poke(path, off, was, 4);

    // Mended, it goes on and is like one that never failed.
    struct checkpoint *ck = fixture_checkpoint(fixture_path("bad"));
    fixture_pack(ck, &params);
    pack_compare(ck, params.dst);
    checkpoint_close(&ck);
    fixture_remove(fixture_path("bad"));
    fixture_remove(params.dst);
}

static void test_refused(void)
{
    const char *src = fixture_golden("lite-fp8"), *dst = fixture_path("dst");
    const char *many[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct pack_write_params params = {.dst = dst};

    refused(fixture_golden("distill-qwen2"), &params, -EINVAL, "no routed experts");
    params.drives = many;
    params.drives_n = 8; // 6 units of 4 KiB
    refused(src, &params, -EINVAL, "too small for 8 parts");
    params.drives_n = 9;
    refused(src, &params, -EINVAL, "at most 8");
    params.drives_n = 0;

    fixture_copy("v3-bf16", "mixed");
    poke_dtype(fixture_path("mixed"), ".mlp.experts.2.up_proj", "F16", false);
    refused(fixture_path("mixed"), &params, -ENOTSUP, ".mlp.experts.2.up_proj");
    fixture_remove(fixture_path("mixed"));

    fixture_write_text(fixture_root, "dst", "a file");
    refused(src, &params, -EEXIST, "no directory");
    CHECK(unlink(dst) == 0 && mkdir(dst, 0700) == 0);
    fixture_write_text(dst, "letters", "dear");
    params.force = true;
    refused(src, &params, -EEXIST, "more than a pack"); // not even with force
    fixture_remove(dst);
    CHECK(mkdir(fixture_path("dst.partial"), 0700) == 0);
    fixture_write_text(fixture_path("dst.partial"), "letters", "dear");
    refused(src, &params, -EEXIST, "other files");
    fixture_remove(fixture_path("dst.partial"));
    params.dst = "/proc";
    refused(src, &params, -EXDEV, "mount point");
    params.dst = fixture_path("none/dst");
    refused(src, &params, -ENOENT, "/none: a pack cannot");
    params.dst = fixture_path("..");
    refused(src, &params, -EINVAL, "no name");
    params.dst = dst;
    params.force = false;

    CHECK(mkdir(dst, 0700) == 0); // an empty one makes way
    struct checkpoint *ck = fixture_checkpoint(src);
    fixture_pack(ck, &params);
    checkpoint_close(&ck);
    refused(src, &params, -EEXIST, "--force");
    fixture_remove(dst);
}

// Directories of drives are there already, and each is one of its own.
static void test_drives(void)
{
    const char *src = fixture_golden("lite-fp8"), *dst = fixture_path("dst");
    const char *drives[] = {fixture_dir("a"), fixture_path("none")};
    struct pack_write_params params = {.dst = dst, .drives = drives, .drives_n = 2};

    refused(src, &params, -ENOENT, drives[1]); // not made
    CHECK(access(drives[1], F_OK) < 0);
    fixture_write_text(fixture_root, "none", "a file");
    refused(src, &params, -ENOTDIR, drives[1]);
    CHECK(unlink(drives[1]) == 0);
    CHECK(symlink("a", drives[1]) == 0); // another name of the first
    refused(src, &params, -EINVAL, "one directory");
    refused(src, &params, -EINVAL, drives[1]);
    drives[1] = drives[0];
    refused(src, &params, -EINVAL, "one directory");
    CHECK(access(fixture_path("dst.partial"), F_OK) < 0 && access(dst, F_OK) < 0);
    fixture_remove(drives[0]);
    fixture_remove(fixture_path("none"));
}

// files_in counts the entries of a directory.
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

// Packs share drives: each has its own parts, and takes only its own with it.
static void test_shared_drives(void)
{
    struct checkpoint *ck = fixture_checkpoint(fixture_golden("lite-fp8"));
    struct checkpoint *other_ck = fixture_checkpoint(fixture_golden("v31-ue8m0"));
    const char *ab[] = {fixture_dir("a"), fixture_dir("b")}, *c[] = {fixture_dir("c")};
    struct pack_write_params one = {.dst = fixture_path("one"), .drives = ab, .drives_n = 2};
    struct pack_write_params two = {.dst = fixture_path("two"), .drives = ab, .drives_n = 2};

    fixture_write_text(ab[0], "experts.0", "another's");
    fixture_pack(ck, &one);
    fixture_pack(other_ck, &two);
    CHECK(pack_compare(ck, one.dst) && pack_compare(other_ck, two.dst));
    CHECK(files_in(ab[0]) == 3 && files_in(ab[1]) == 2);

    // Made anew elsewhere, and where it was: the old parts go, those of the other pack stay.
    two.force = true;
    two.drives = c;
    two.drives_n = 1;
    fixture_pack(ck, &two);
    CHECK(pack_compare(ck, one.dst) && pack_compare(ck, two.dst));
    CHECK(files_in(ab[0]) == 2 && files_in(ab[1]) == 1 && files_in(c[0]) == 1);
    fixture_pack(other_ck, &two);
    CHECK(pack_compare(other_ck, two.dst) && files_in(c[0]) == 1);
    two.drives_n = 0;
    fixture_pack(ck, &two);
    CHECK(pack_compare(ck, two.dst) && files_in(c[0]) == 0);

    // A link that leads to no part is not followed.
    CHECK(unlink(fixture_path("two/experts.0")) == 0);
    CHECK(symlink(fixture_path("a/experts.0"), fixture_path("two/experts.0")) == 0);
    fixture_pack(ck, &two);
    CHECK(pack_compare(ck, one.dst) && files_in(ab[0]) == 2);
    fixture_remove(one.dst);
    fixture_remove(two.dst);
    for (int i = 0; i < 2; i++)
        fixture_remove(ab[i]);
    fixture_remove(c[0]);
    checkpoint_close(&ck);
    checkpoint_close(&other_ck);
}

static int stop_early(void *user, uint64_t done, uint64_t total)
{
    const uint64_t *enough = user;
    (void)total;
    return done >= *enough;
}

// The same command with other drives begins anew and leaves nothing on those of before.
static void test_other_drives(void)
{
    struct checkpoint *ck = fixture_checkpoint(fixture_golden("v3-fp8"));
    const char *a[] = {fixture_dir("a")}, *b[] = {fixture_dir("b")};
    uint64_t enough = 100000;
    struct pack_write_params params = {.dst = fixture_path("dst"),
                                       .drives = a,
                                       .drives_n = 1,
                                       .batch_bytes = 1,
                                       .progress = stop_early,
                                       .user = &enough};

    CHECK(pack_write(ck, &params, NULL) == -ECANCELED);
    CHECK(files_in(a[0]) == 1 && access(params.dst, F_OK) < 0);
    params.progress = NULL;
    params.drives = b;
    fixture_pack(ck, &params);
    CHECK(files_in(a[0]) == 0 && files_in(b[0]) == 1 && pack_compare(ck, params.dst));
    fixture_remove(params.dst);
    fixture_remove(a[0]);
    fixture_remove(b[0]);
    checkpoint_close(&ck);
}

// A pack that is refused before an expert is done leaves nothing behind that it made itself.
static void test_nothing_left(void)
{
    const char *src = fixture_path("bad"), *partial = fixture_path("dst.partial");
    const char *drives[] = {fixture_dir("a"), fixture_dir("b")};
    struct pack_write_params params = {.dst = fixture_path("dst"), .drives = drives};
    const struct tensor *tensor;

    fixture_copy("v3-fp8", "bad");
    struct checkpoint *ck = fixture_checkpoint(src);
    CHECK(checkpoint_get(ck, ROLE_EXPERT_GATE, checkpoint_config(ck)->first_k_dense_replace, 0,
                         NULL, &tensor, NULL) == 0);
    fixture_poke(safetensors_path(checkpoint_file(ck, tensor->file_idx)), tensor->file_off, "\xff",
                 1);
    checkpoint_close(&ck);
    for (params.drives_n = 0; params.drives_n <= 2; params.drives_n += 2) {
        refused(src, &params, -EBADMSG, "element 0");
        CHECK(access(partial, F_OK) < 0);
        CHECK(files_in(drives[0]) == 0 && files_in(drives[1]) == 0);
    }
    CHECK(mkdir(partial, 0700) == 0); // somebody else's
    params.drives_n = 0;
    refused(src, &params, -EBADMSG, "element 0");
    CHECK(access(partial, F_OK) == 0);
    fixture_remove(partial);
    fixture_remove(src);
    fixture_remove(drives[0]);
    fixture_remove(drives[1]);
}

// One process at a time; what is refused leaves nothing that it made itself.
static void test_in_the_way(void)
{
    const char *src = fixture_golden("lite-fp8"), *partial = fixture_path("dst.partial");
    struct pack_write_params params = {.dst = fixture_path("dst")};

    CHECK(mkdir(partial, 0700) == 0);
    int fd = open(fixture_path("dst.partial/checksums"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0);
    refused(src, &params, -EBUSY, "another expertctl");
    close(fd);
    CHECK(files_in(partial) == 1);
    fixture_remove(partial);
}

/* ----------------------------------------------------------------- damage */

static int open_only(const char *dir, const struct checkpoint *ck, struct fault *fault)
{
    struct pack *pack = NULL;
    int err = pack_open(dir, ck, &pack, fault);
    CHECK((err == 0) == (pack != NULL));
    pack_close(&pack);
    return err;
}

// open_refused: pack_open fails so, and the sentence has this word.
static void open_refused(const char *dir, const struct checkpoint *ck, int want, const char *word)
{
    struct fault fault = {0};
    int err = open_only(dir, ck, &fault);
    if (err != want || !strstr(fault.text, word))
        fprintf(stderr, "%d: %s\n", err, fault.text);
    CHECK(err == want && strstr(fault.text, word));
}

// Any bit of the manifest or of the list of checksums.
static void test_damaged_small_files(const char *dir)
{
    static const char *const names[] = {"manifest.json", "checksums"};
    char path[512];

    for (size_t f = 0; f < ARRAY_LEN(names); f++) {
        size_t len;
        snprintf(path, sizeof(path), "%s/%s", dir, names[f]);
        char *good = fixture_text(path, &len);
        for (size_t bit = 0; bit < 8 * len; bit++) {
            struct fault fault = {0};
            fixture_flip(path, bit / 8, bit % 8);
            int err = open_only(dir, NULL, &fault);
            fixture_flip(path, bit / 8, bit % 8);
            if (err != -EBADMSG && err != -ENOTSUP)
                fprintf(stderr, "%s: bit %zu: %d\n", names[f], bit, err);
            CHECK(err == -EBADMSG || err == -ENOTSUP);
            CHECK(strstr(fault.text, names[f]));
        }
        CHECK(truncate(path, (off_t)len - 2) == 0); // more than a line end
        open_refused(dir, NULL, -EBADMSG, names[f]);
        CHECK(unlink(path) == 0);
        open_refused(dir, NULL, -ENOENT, names[f]);
        fixture_write(dir, names[f], good, len);
        CHECK(open_only(dir, NULL, NULL) == 0);
        free(good);
    }
}

struct found {
    uint32_t n, layer, expert;
};

static void found_one(void *user, uint32_t layer, uint32_t expert, const char *sentence)
{
    struct found *found = user;
    CHECK(strstr(sentence, "experts.0"));
    *found = (struct found){found->n + 1, layer, expert};
}

// Any byte of a record: found, and named.
static void test_damaged_records(const char *dir, const struct checkpoint *ck)
{
    uint64_t state = 7;
    struct pack *pack = NULL;
    CHECK(pack_open(dir, ck, &pack, NULL) == 0);
    uint64_t stride = pack_layout(pack)->stride;

    for (int i = 0; i < 40; i++) {
        struct found found = {0};
        uint32_t bad = 0, layer, expert;
        uint64_t off = check_random(&state) % (stride * pack_records(pack));
        unsigned bit = (unsigned)(check_random(&state) % 8);
        fixture_flip(pack_part_path(pack, 0), off, bit);
        const struct pack_verify_params params = {
            .dir = dir, .ck = i % 2 ? ck : NULL, .damage = found_one, .user = &found};
        CHECK(pack_verify(&params, &bad, NULL) == 0);
        pack_record_name(pack, (uint32_t)(off / stride), &layer, &expert);
        CHECK(bad == 1 && found.n == 1 && found.layer == layer && found.expert == expert);
        fixture_flip(pack_part_path(pack, 0), off, bit);
    }
    CHECK(verify(dir, ck) == 0);
    CHECK(truncate(pack_part_path(pack, 0), (off_t)(stride * pack_records(pack) - 4096)) == 0);
    open_refused(dir, ck, -EBADMSG, "experts.0");
    CHECK(unlink(pack_part_path(pack, 0)) == 0);
    open_refused(dir, ck, -ENOENT, "experts.0");
    pack_close(&pack);
}

// with writes a manifest with one value changed and a self-sum that fits nothing.
static void changed(const char *dir, const char *from, const char *to, int want, const char *word)
{
    char path[512];
    size_t len;
    snprintf(path, sizeof(path), "%s/manifest.json", dir);
    char *text = fixture_text(path, &len), *at = strstr(text, from);
    CHECK(at);
    char *made = malloc(len + strlen(to) + 1);
    CHECK(made);
    snprintf(made, len + strlen(to) + 1, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    fixture_write_text(dir, "manifest.json", made);
    open_refused(dir, NULL, want, word);
    fixture_write_text(dir, "manifest.json", text);
    free(made);
    free(text);
}

static void test_other_formats(const char *dir)
{
    changed(dir, "\"version\": 1", "\"version\": 2", -ENOTSUP, "version 2");
    changed(dir, "\"quantisation\": \"none\"", "\"quantisation\": \"q4\"", -ENOTSUP, "\"q4\"");
    changed(dir, "\"dtype\": \"F8_E4M3\"", "\"dtype\": \"I4\"", -ENOTSUP, "\"I4\"");
    changed(dir, "expertd-pack", "something", -EBADMSG, "no manifest");
    changed(dir, "\"stride\": ", "\"stride\": 1", -EBADMSG, "stride");
    changed(dir, "\"records\": ", "\"records\": 1", -EBADMSG, "records");
    changed(dir, "\"parts\": [", "\"parts\": [4096,", -EBADMSG, "part");
}

static void test_other_checkpoint(const char *dir)
{
    struct checkpoint *ck = fixture_checkpoint(fixture_golden("v31-ue8m0"));
    open_refused(dir, ck, -EBADMSG, "another checkpoint");
    checkpoint_close(&ck);

    // The same files but for a router: another training of the same model.
    fixture_copy("v3-fp8", "tuned");
    ck = fixture_checkpoint(fixture_path("tuned"));
    CHECK(open_only(dir, ck, NULL) == 0);
    const struct tensor *router;
    CHECK(checkpoint_get(ck, ROLE_ROUTER, checkpoint_config(ck)->first_k_dense_replace, 0, NULL,
                         &router, NULL) == 0);
    fixture_flip(safetensors_path(checkpoint_file(ck, router->file_idx)), router->file_off, 0);
    open_refused(dir, ck, -EBADMSG, "routers");

    // An expert that changed is damage, not another checkpoint.
    fixture_flip(safetensors_path(checkpoint_file(ck, router->file_idx)), router->file_off, 0);
    CHECK(checkpoint_get(ck, ROLE_EXPERT_UP, checkpoint_config(ck)->first_k_dense_replace, 0, NULL,
                         &router, NULL) == 0);
    fixture_flip(safetensors_path(checkpoint_file(ck, router->file_idx)), router->file_off, 0);
    CHECK(open_only(dir, ck, NULL) == 0);
    CHECK(verify(dir, NULL) == 0 && verify(dir, ck) == 1);
    checkpoint_close(&ck);
    fixture_remove(fixture_path("tuned"));
}

static int stop_at_once(void *user, uint64_t done, uint64_t total)
{
    (void)user;
    return done <= total;
}

// What is no pack is told so, with what was expected, and where.
static void test_no_pack(void)
{
    const char *dir = fixture_dir("empty");
    struct checkpoint *ck = fixture_checkpoint(fixture_golden("lite-fp8"));

    open_refused(dir, NULL, -ENOENT, "empty: has no manifest.json; a pack is a directory with");
    open_refused(fixture_path("none"), NULL, -ENOENT, "none: No such file or directory; a pack is");
    fixture_write_text(dir, "file", "");
    open_refused(fixture_path("empty/file"), NULL, -ENOTDIR, "file: Not a directory; a pack is");
    fixture_remove(dir);
    const struct pack_write_params params = {.dst = dir, .progress = stop_at_once};
    CHECK(pack_write(ck, &params, NULL) == -ECANCELED);
    open_refused(fixture_path("empty.partial"), NULL, -ENOENT, "not finished");
    fixture_remove(fixture_path("empty.partial"));
    checkpoint_close(&ck);
}

static void test_damage(void)
{
    const char *dir = fixture_path("damaged");
    struct checkpoint *ck = fixture_checkpoint(fixture_golden("v3-fp8"));

    fixture_pack(ck, &(struct pack_write_params){.dst = dir});
    test_other_formats(dir);
    test_other_checkpoint(dir);
    test_damaged_small_files(dir);
    test_damaged_records(dir, ck);
    checkpoint_close(&ck);
    fixture_remove(dir);
}

/* ----------------------------------------------------------------- layout */

static void test_layout(void)
{
    struct pack_layout l;
    // V3's experts.
    CHECK(pack_layout_make(DTYPE_F8_E4M3, 7168, 2048, 3, &l) == 0);
    CHECK(l.gate == 0 && l.up == 14680064 && l.down == 29360128 && l.gate_scale == 44040192);
    CHECK(l.up_scale - l.gate_scale == 3584 && l.stride == 44052480);
    CHECK(l.part_bytes[0] + l.part_bytes[1] + l.part_bytes[2] == l.stride);
    CHECK(l.part_bytes[0] - l.part_bytes[2] <= 4096);
    CHECK(pack_layout_make(DTYPE_BF16, 20, 7, 1, &l) == 0);
    CHECK(l.up == 7 * 64 && l.down == 14 * 64 && l.stride == 4096 && l.gate_scale == 0);
    CHECK(pack_layout_make(DTYPE_BF16, 20, 7, 2, &l) == -EINVAL);
    CHECK(pack_layout_make(DTYPE_F32, 1u << 20, 1u << 20, 1, &l) == -EFBIG);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    fixture_begin();
    test_layout();
    test_read_back(argv[1]);
    test_refused();
    test_drives();
    test_shared_drives();
    test_other_drives();
    test_nothing_left();
    test_in_the_way();
    test_bad_values();
    test_no_pack();
    test_damage();
    return 0;
}
