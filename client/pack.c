// SPDX-License-Identifier: MIT
// pack: an expert-major store of a checkpoint's experts, made or checked.  Ctrl-C keeps what is
// done; the same command goes on with it.  Needs no daemon.
#include "model/pack.h"
#include "base/clock.h"
#include "client/client.h"
#include "client/interrupt.h"
#include "client/progress.h"
#include "model/pack_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct packing {
    struct client *client;
    struct progress progress;
};

static int pack_progress(void *user, uint64_t done, uint64_t total)
{
    struct packing *packing = user;
    progress_tell(&packing->progress, done, total, clock_us());
    return interrupt_take(packing->client->interrupt_fd) != INTERRUPT_NONE;
}

static void pack_damage(void *user, uint32_t layer, uint32_t expert, const char *sentence)
{
    struct packing *packing = user;
    struct fault fault = {0};

    (void)layer;
    (void)expert;
    progress_end(&packing->progress);
    fault_set(&fault, EBADMSG, "%s", sentence);
    client_complain(packing->client, &fault);
}

static int pack_report_json(const struct packing *packing, const char *dst, const uint32_t *damaged)
{
    const struct progress *p = &packing->progress;
    json_t *root = json_pack("{s:s, s:I, s:f, s:f}", "pack", dst, "bytes", (json_int_t)p->total,
                             "seconds", progress_seconds(p), "bytes_per_second", progress_rate(p));
    if (!root || (damaged && json_object_set_new(root, "damaged", json_integer(*damaged)) != 0)) {
        json_decref(root);
        return -ENOMEM;
    }
    client_print_json(root);
    json_decref(root);
    return 0;
}

// damaged: of a check; NULL where a pack was made.
static int pack_report(const struct packing *packing, const char *dst, const uint32_t *damaged)
{
    const struct progress *p = &packing->progress;
    char text[128];

    if (packing->client->options.json)
        return pack_report_json(packing, dst, damaged);
    if (packing->client->options.quiet)
        return 0;
    progress_report(p, text, sizeof(text));
    printf("%s: %s", dst, text);
    if (damaged)
        printf(", %u %s damaged", *damaged, *damaged == 1 ? "record" : "records");
    putchar('\n');
    return 0;
}

// drives_split cuts "A,B" in place.
static int drives_split(char *list, const char **ret, uint32_t *ret_n, struct fault *fault)
{
    uint32_t n = 0;

    for (char *at = list; at; n++) {
        char *comma = strchr(at, ',');
        if (comma)
            *comma++ = '\0';
        if (n == PACK_PARTS_MAX || !*at)
            return fault_set(fault, EINVAL,
                             "--drives takes 1 to %u directories, with commas between",
                             PACK_PARTS_MAX);
        ret[n] = at;
        at = comma;
    }
    *ret_n = n;
    return 0;
}

static int pack_make(struct packing *packing, const char *const *drives, uint32_t drives_n,
                     struct fault *fault)
{
    const struct options *options = &packing->client->options;
    struct pack_write_params params = {.dst = options->args[1],
                                       .drives = drives,
                                       .drives_n = drives_n,
                                       .force = options->force,
                                       .progress = pack_progress,
                                       .user = packing};
    struct checkpoint *ck = NULL;

    int err = checkpoint_open(options->args[0], &ck, fault);
    if (!err)
        err = pack_write(ck, &params, fault);
    progress_end(&packing->progress);
    if (!err && pack_report(packing, params.dst, NULL))
        err = fault_set(fault, ENOMEM, "out of memory");
    checkpoint_close(&ck);
    return err;
}

static int pack_check(struct packing *packing, struct fault *fault)
{
    const struct options *options = &packing->client->options;
    bool source = options->args_n == 2;
    const char *dst = options->args[options->args_n - 1];
    struct checkpoint *ck = NULL;
    uint32_t damaged = 0;

    int err = source ? checkpoint_open(options->args[0], &ck, fault) : 0;
    if (!err)
        err = pack_verify(&(struct pack_verify_params){.dir = dst,
                                                       .ck = ck,
                                                       .progress = pack_progress,
                                                       .damage = pack_damage,
                                                       .user = packing},
                          &damaged, fault);
    progress_end(&packing->progress);
    if (!err && pack_report(packing, dst, &damaged))
        err = fault_set(fault, ENOMEM, "out of memory");
    if (!err && damaged)
        err = fault_set(fault, EBADMSG, "%s: %u damaged; make it again with expertctl pack --force",
                        dst, damaged);
    checkpoint_close(&ck);
    return err;
}

// pack_usage looks at what is wrong with the command line itself.
//
// ret_list: to be freed; drives point into it.
static int pack_usage(const struct options *options, char **ret_list, const char **ret_drives,
                      uint32_t *ret_n, struct fault *fault)
{
    if (options->verify && (options->drives || options->force))
        return fault_set(fault, EINVAL, "--%s is no option of 'pack --verify'",
                         options->drives ? "drives" : "force");
    if (!options->verify && options->args_n != 2)
        return fault_set(fault, EINVAL, "'pack' needs SRC DST");
    if (!options->drives)
        return 0;
    *ret_list = strdup(options->drives);
    return *ret_list ? drives_split(*ret_list, ret_drives, ret_n, fault)
                     : fault_set(fault, ENOMEM, "out of memory");
}

int pack_run(struct client *client)
{
    const struct options *options = &client->options;
    struct packing packing = {.client = client,
                              .progress = {.verb = options->verify ? "verify" : "pack",
                                           .silent = options->quiet,
                                           .bar = client->terminal.err_tty}};
    const char *drives[PACK_PARTS_MAX];
    struct fault fault = {0};
    uint32_t drives_n = 0;
    char *list = NULL;

    int err = pack_usage(options, &list, drives, &drives_n, &fault);
    int status = err == -EINVAL ? EXIT_USAGE : EXIT_FAILED;
    if (!err) {
        client_interrupts(client);
        err = options->verify ? pack_check(&packing, &fault)
                              : pack_make(&packing, drives, drives_n, &fault);
        status = err ? EXIT_FAILED : EXIT_DONE;
    }
    if (err)
        client_complain(client, &fault);
    free(list);
    return status;
}
