// SPDX-License-Identifier: MIT
// hash: the list of hashes of a checkpoint's experts, by which the daemon knows damaged ones; made
// or compared with the files.  Ctrl-C keeps what is done; the same command goes on with it.  Needs
// no daemon.
#include "base/clock.h"
#include "client/client.h"
#include "client/interrupt.h"
#include "client/progress.h"
#include "model/expert_feed.h"
#include "model/hashes_journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES_MAX 4096
#define BATCH_BYTES    (1ull << 30) // a crash costs at most this much reading

struct hashing {
    struct client *client;
    struct progress progress;
    struct checkpoint *ck;
    struct hashes *hashes;
    struct hashes_journal *journal; // NULL where the list is compared
    uint32_t first;                 // expert to begin with; those before are known
    char path[PATH_BYTES_MAX];      // of the list
    uint64_t total;                 // bytes of all experts
    uint32_t damaged;
};

// hash_bytes sums the bytes of the first n experts.
static uint64_t hash_bytes(const struct checkpoint *ck, uint32_t n)
{
    struct experts experts;
    uint64_t total = 0;

    experts_make(checkpoint_config(ck), &experts);
    for (uint32_t i = 0; i < n; i++) {
        struct expert_bytes expert;
        expert_find(ck, &experts, i, &expert);
        for (unsigned part = 0; part < EXPERT_PARTS; part++)
            total += expert.bytes[part];
    }
    return total;
}

// file_extent returns the range of a file that holds parts of an expert.
static void file_extent(const struct expert_bytes *expert, uint32_t file, uint64_t *ret_first,
                        uint64_t *ret_last)
{
    *ret_first = UINT64_MAX;
    *ret_last = 0;
    for (unsigned i = 0; i < EXPERT_PARTS; i++) {
        const struct tensor *tensor = expert->tensor[i];
        if (!tensor || tensor->file_idx != file)
            continue;
        uint64_t last = tensor->file_off + tensor->bytes - 1;
        *ret_first = tensor->file_off < *ret_first ? tensor->file_off : *ret_first;
        *ret_last = last > *ret_last ? last : *ret_last;
    }
}

// hash_differs says which expert it is, and where in which files.
static void hash_differs(struct hashing *hashing, const struct expert_bytes *expert)
{
    struct fault fault = {0};
    char places[400] = "";
    size_t at = 0;

    for (unsigned i = 0; i < EXPERT_PARTS; i++) {
        bool told = !expert->tensor[i];
        for (unsigned before = 0; before < i && !told; before++)
            told = expert->tensor[before] &&
                   expert->tensor[before]->file_idx == expert->tensor[i]->file_idx;
        if (told)
            continue;
        uint32_t file = expert->tensor[i]->file_idx;
        const char *path = safetensors_path(checkpoint_file(hashing->ck, file));
        const char *slash = strrchr(path, '/');
        uint64_t first, last;
        file_extent(expert, file, &first, &last);
        int n =
            snprintf(places + at, sizeof(places) - at, "%s%.100s, bytes %" PRIu64 " to %" PRIu64,
                     at ? "; " : "", slash ? slash + 1 : path, first, last);
        at += n > 0 ? (size_t)n : 0;
        if (at >= sizeof(places))
            break;
    }
    hashing->damaged++;
    progress_end(&hashing->progress);
    fault_set(&fault, EBADMSG, "layer %u expert %u is not what the list says: %s", expert->layer,
              expert->expert, places);
    client_complain(hashing->client, &fault);
}

static int hash_one(struct hashing *hashing, const struct expert_bytes *expert, struct fault *fault)
{
    uint8_t hash[16];
    const uint8_t *known = hashes_get(hashing->hashes, expert->index);

    hashes_expert(expert->part, expert->bytes, hash);
    if (!hashing->client->options.verify) {
        hashes_set(hashing->hashes, expert->index, hash);
        return hashes_journal_add(hashing->journal, hash, fault);
    }
    if (known && memcmp(known, hash, sizeof(hash)) != 0)
        hash_differs(hashing, expert);
    return 0;
}

// hash_sync keeps what was done since *synced, if that is worth it.
static int hash_sync(struct hashing *hashing, uint64_t done, uint64_t *synced, struct fault *fault)
{
    if (!hashing->journal || done - *synced < BATCH_BYTES)
        return 0;
    *synced = done;
    return hashes_journal_sync(hashing->journal, fault);
}

static int hash_all(struct hashing *hashing, struct fault *fault)
{
    struct expert_feed *feed = NULL;
    struct expert_bytes expert;
    uint64_t done = hash_bytes(hashing->ck, hashing->first), synced = done;

    int got = expert_feed_open(hashing->ck, hashing->first, &feed, fault);
    progress_tell(&hashing->progress, done, hashing->total, clock_us());
    while (got >= 0 && (got = expert_feed_next(feed, &expert, fault)) == 1) {
        got = hash_one(hashing, &expert, fault);
        for (unsigned i = 0; i < EXPERT_PARTS; i++)
            done += expert.bytes[i];
        progress_tell(&hashing->progress, done, hashing->total, clock_us());
        if (got == 0)
            got = hash_sync(hashing, done, &synced, fault);
        if (got == 0 && interrupt_take(hashing->client->interrupt_fd) != INTERRUPT_NONE)
            got = fault_set(fault, ECANCELED, "stopped%s",
                            hashing->journal ? "; run the same command again to go on" : "");
    }
    progress_end(&hashing->progress);
    expert_feed_close(&feed);
    return got;
}

// hash_no_place tells who did not choose the place of the list how to.
static int hash_no_place(const struct hashing *hashing, int err, struct fault *fault)
{
    const struct fault first = *fault;

    if (err == -EBUSY || hashing->client->options.output)
        return err;
    return fault_set(fault, first.err, "%s; --output names another place for the list", first.text);
}

// hash_output_check: a folder that is not there is more likely mistyped than meant.
static int hash_output_check(const char *output, struct fault *fault)
{
    const char *slash = strrchr(output, '/');
    char dir[PATH_BYTES_MAX];

    if (!slash || slash == output)
        return 0;
    int n = snprintf(dir, sizeof(dir), "%.*s", (int)(slash - output), output);
    if (n < 0 || (size_t)n >= sizeof(dir))
        return fault_set(fault, ENAMETOOLONG, "--output: the path is too long");
    return access(dir, F_OK) == 0
               ? 0
               : fault_set(fault, errno, "--output: folder %s: %s", dir, strerror(errno));
}

static int hash_open(struct hashing *hashing, struct fault *fault)
{
    const struct options *options = &hashing->client->options;
    int n = 0;

    int err = options->output ? hash_output_check(options->output, fault) : 0;
    if (!err)
        err = checkpoint_open(options->args[0], &hashing->ck, fault);
    if (!err)
        err = hashes_create(hashing->ck, &hashing->hashes, fault);
    if (!err && hashes_n(hashing->hashes) == 0)
        err = fault_set(fault, EINVAL, "%s: the model has no routed experts", options->args[0]);
    if (err)
        return err;
    if (options->output)
        n = snprintf(hashing->path, sizeof(hashing->path), "%s", options->output);
    else
        err = hashes_path(hashing->ck, hashing->path, sizeof(hashing->path));
    if (err || n >= (int)sizeof(hashing->path))
        return fault_set(fault, err ? -err : ENAMETOOLONG,
                         "there is no place for the list: name one with --output");
    hashing->total = hash_bytes(hashing->ck, hashes_n(hashing->hashes));
    if (options->verify)
        return hashes_load(hashing->hashes, hashing->path, fault);
    err = hashes_journal_open(hashing->ck, hashing->hashes, hashing->path, &hashing->journal,
                              &hashing->first, fault);
    return err ? hash_no_place(hashing, err, fault) : 0;
}

// hash_save makes the list of what was noted.
static int hash_save(struct hashing *hashing, struct fault *fault)
{
    int err = hashes_save(hashing->hashes, hashing->path, fault);
    if (err)
        return hash_no_place(hashing, err, fault);
    hashes_journal_close(&hashing->journal, true);
    return 0;
}

static int hash_report(const struct hashing *hashing)
{
    const struct options *options = &hashing->client->options;
    const struct progress *p = &hashing->progress;
    uint32_t known = hashes_known(hashing->hashes);

    if (options->json) {
        json_t *root = json_pack("{s:s, s:I, s:I, s:I, s:f, s:f}", "list", hashing->path, "experts",
                                 (json_int_t)known, "damaged", (json_int_t)hashing->damaged,
                                 "bytes", (json_int_t)p->total, "seconds", progress_seconds(p),
                                 "bytes_per_second", progress_rate(p));
        if (!root)
            return -ENOMEM;
        client_print_json(root);
        json_decref(root);
    } else if (!options->quiet) {
        char text[128];
        progress_report(p, text, sizeof(text));
        printf("%s: %u of %u experts, %s", hashing->path, known, hashes_n(hashing->hashes), text);
        if (options->verify)
            printf(", %u differ", hashing->damaged);
        putchar('\n');
    }
    return 0;
}

int hash_run(struct client *client)
{
    struct hashing hashing = {.client = client,
                              .progress = {.verb = client->options.verify ? "verify" : "hash",
                                           .silent = client->options.quiet,
                                           .bar = client->terminal.err_tty}};
    struct fault fault = {0};

    client_interrupts(client);
    int err = hash_open(&hashing, &fault);
    if (!err)
        err = hash_all(&hashing, &fault);
    if (!err && !client->options.verify)
        err = hash_save(&hashing, &fault);
    if (!err && hash_report(&hashing))
        err = fault_set(&fault, ENOMEM, "out of memory");
    if (!err && hashing.damaged)
        err = fault_set(&fault, EBADMSG, "%s: %u %s not what %s says: fetch these files again",
                        client->options.args[0], hashing.damaged,
                        hashing.damaged == 1 ? "expert is" : "experts are", hashing.path);
    if (err)
        client_complain(client, &fault);
    hashes_journal_close(&hashing.journal, false);
    hashes_destroy(&hashing.hashes);
    checkpoint_close(&hashing.ck);
    return err ? EXIT_FAILED : EXIT_DONE;
}
