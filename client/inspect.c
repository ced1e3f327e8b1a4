// SPDX-License-Identifier: MIT
// inspect: a checkpoint's model card, and how its parts would lie in this machine's memory.  Opens
// no device beyond asking for its size, and needs no daemon.
#include "client/client.h"
#include "model/card.h"

#include <errno.h>
#include <unistd.h>

#define MTP_LOADED true // as the daemon does where the checkpoint has the layer

// inspect_host_bytes returns how much memory the machine has, 0 if it does not say.
static uint64_t inspect_host_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
}

int inspect_run(struct client *client)
{
    const struct options *options = &client->options;
    struct checkpoint *ck = NULL;
    struct model_card card;
    struct model_plan plan;
    struct fault fault = {0};

    int err = checkpoint_open(options->args[0], &ck, &fault);
    if (!err && (err = model_card_make(ck, &card)) != 0)
        fault_set(&fault, -err, "%s: out of memory", options->args[0]);
    if (!err) {
        struct model_plan_params params = {.device_bytes = inspect_host_bytes(), .mtp = MTP_LOADED};
        model_plan_make(&card, &params, &plan);
        err = options->json ? model_card_json(&card, &plan, stdout)
                            : model_card_text(&card, &plan, stdout);
        if (err)
            fault_set(&fault, -err, "the card cannot be written");
    }
    if (err)
        client_complain(client, &fault);
    checkpoint_close(&ck);
    return err ? EXIT_FAILED : EXIT_DONE;
}
