// SPDX-License-Identifier: MIT
// net: a NIC for the daemon, or back for the kernel.
#include "client/client.h"
#include "client/net_bind.h"

#include <errno.h>
#include <string.h>

int net_run(struct client *client)
{
    const char *verb = client->options.args[0];
    struct net_bind bind = {
        .pci = client->options.args[1], .force = client->options.force, .root = ""};
    char note[NET_BIND_TEXT_MAX];
    struct fault fault = {0};
    int err;

    if (strcmp(verb, "bind") == 0) {
        err = net_bind_do(&bind, note, &fault);
    } else if (strcmp(verb, "unbind") == 0) {
        err = net_bind_undo(&bind, note, &fault);
    } else {
        fault_set(&fault, EINVAL, "net: '%s' is neither bind nor unbind", verb);
        (void)client_complain(client, &fault);
        return EXIT_USAGE;
    }
    if (err)
        return client_complain(client, &fault);
    if (client->options.json) {
        json_t *json = json_pack("{s:s, s:s}", "device", bind.pci, "note", note);
        client_print_json(json);
        json_decref(json);
    } else if (!client->options.quiet) {
        puts(note);
    }
    return EXIT_DONE;
}
