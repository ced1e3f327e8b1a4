// SPDX-License-Identifier: MIT
// inspect: a checkpoint's model card, and how its parts would lie in this machine's memory.  Asks
// the device for its size and computes nothing on it; needs no daemon.
#include "client/client.h"
#include "client/memory_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MTP_LOADED true // as [model] mtp = auto does where it fits

// inspect_json prints the card with the device's object added.
static int inspect_json(const struct model_card *card, const struct model_plan *plan,
                        const struct device_info *device)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return -ENOMEM;

    int err = model_card_json(card, plan, out);
    if (fclose(out) != 0 && !err)
        err = -ENOMEM;
    json_t *root = err ? NULL : json_loadb(text, len, 0, NULL);
    if (root && device) {
        json_t *object = json_pack(
            "{s:s, s:s, s:b, s:I, s:I, s:I}", "name", device->name, "driver", device->driver,
            "shares_host_memory", (int)device->shares_host_memory, "memory_bytes",
            (json_int_t)device->memory_bytes, "memory_available",
            (json_int_t)device->memory_available, "host_bytes", (json_int_t)device->host_bytes);
        if (!object || json_object_set_new(root, "device", object) != 0)
            err = -ENOMEM;
    }
    if (root && !err)
        client_print_json(root);
    else if (!err)
        err = -ENOMEM;
    json_decref(root);
    free(text);
    return err;
}

static int inspect_text(const struct model_card *card, const struct model_plan *plan,
                        const struct device_info *device)
{
    int err = model_card_text(card, plan, stdout);
    if (!err && device)
        printf("  device       %s%s\n", device->name,
               device->shares_host_memory ? ", which shares the host's memory" : "");
    return err;
}

int inspect_run(struct client *client)
{
    const struct options *options = &client->options;
    struct checkpoint *ck = NULL;
    struct model_card card;
    struct model_plan plan;
    struct device_info device;
    struct fault fault = {0}, no_device = {0};

    int err = checkpoint_open(options->args[0], &ck, &fault);
    if (!err && (err = model_card_make(ck, &card)) != 0)
        fault_set(&fault, -err, "%s: out of memory", options->args[0]);
    bool planned = false;
    if (!err) {
        planned =
            device_info_get(options->device ? options->device : "auto", &device, &no_device) == 0;
        if (!planned && options->device) {
            fault = no_device;
            err = -ENODEV;
        }
    }
    if (!err) {
        if (planned)
            memory_plan_make(&card, &device, &(struct model_plan_params){.mtp = MTP_LOADED}, &plan);
        const struct model_plan *for_plan = planned ? &plan : NULL;
        const struct device_info *on = planned ? &device : NULL;
        err = options->json ? inspect_json(&card, for_plan, on) : inspect_text(&card, for_plan, on);
        if (err)
            fault_set(&fault, -err, "the card cannot be written: %s", strerror(-err));
    }
    if (!err && !planned) {
        fault_prefix(&no_device, "no memory plan");
        client_complain(client, &no_device);
    }
    if (err)
        client_complain(client, &fault);
    checkpoint_close(&ck);
    return err ? EXIT_FAILED : EXIT_DONE;
}
