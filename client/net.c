// SPDX-License-Identifier: MIT
// net: what the port does; a NIC for the daemon, or back for the kernel.
#include "client/client.h"
#include "client/net_bind.h"
#include "client/net_status.h"

#include <errno.h>
#include <string.h>

static int usage(struct client *client, const char *why, const char *word)
{
    struct fault fault;
    fault_set(&fault, EINVAL, "net: %s%s", word, why);
    (void)client_complain(client, &fault);
    return EXIT_USAGE;
}

int net_run(struct client *client)
{
    if (client->options.args_n == 0)
        return client->options.force ? usage(client, " is an option of bind", "--force")
                                     : net_status(client);
    const char *verb = client->options.args[0];
    const bool unbind = strcmp(verb, "unbind") == 0;
    if (unbind && client->options.force)
        return usage(client, " is an option of bind", "--force");
    if (!unbind && strcmp(verb, "bind") != 0)
        return usage(client, " is neither bind nor unbind", verb);
    if (client->options.args_n == 1)
        return usage(client, " needs the PCI address of a NIC", verb);
    struct net_bind bind = {
        .pci = client->options.args[1], .force = client->options.force, .root = ""};
    char note[NET_BIND_TEXT_MAX];
    struct fault fault = {0};
    const int err = unbind ? net_bind_undo(&bind, note, &fault) : net_bind_do(&bind, note, &fault);
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
