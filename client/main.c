// SPDX-License-Identifier: MIT
// expertctl: talks to expertd and looks at model directories.  Reads the command line and the
// environment, and hands over to one command.
#include "client/client.h"
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int (*const command_run[])(struct client *client) = {
    [COMMAND_ASK] = ask_run,       [COMMAND_CHAT] = chat_run,       [COMMAND_MODELS] = models_run,
    [COMMAND_STATUS] = status_run, [COMMAND_INSPECT] = inspect_run, [COMMAND_PACK] = pack_run,
    [COMMAND_HASH] = hash_run,     [COMMAND_BENCH] = bench_run,     [COMMAND_KEY] = key_run,
    [COMMAND_NET] = net_run,       [COMMAND_DEMO] = demo_run,       [COMMAND_SETUP] = setup_run,
    [COMMAND_DOCTOR] = doctor_run, [COMMAND_BUNDLE] = bundle_run,
};
static_assert(sizeof(command_run) / sizeof(command_run[0]) == COMMAND_COUNT, "every command");

// environment returns a variable's value, NULL where it is unset or empty.
static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

// main_address decides where the daemon is: the command line, then EXPERTD_SOCKET, then
// EXPERTD_URL, then the usual socket.
static int main_address(const struct options *options, struct address *ret, struct fault *fault)
{
    const char *socket = options->socket, *url = options->url;

    if (!socket && !url)
        socket = environment("EXPERTD_SOCKET");
    if (!socket && !url)
        url = environment("EXPERTD_URL");
    if (url)
        return address_url(url, ret, fault);
    return address_unix(socket ? socket : ADDRESS_SOCKET_DEFAULT, ret, fault);
}

// main_output_end reports what could not be written (a full disk) as a failure.
static int main_output_end(const struct client *client, int status)
{
    struct fault fault = {0};
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fault_set(&fault, EIO, "standard output cannot be written");
    client_complain(client, &fault);
    return EXIT_FAILED;
}

int main(int argc, char **argv)
{
    struct client client = {.interrupt_fd = -1};
    struct fault fault = {0};

    terminal_init(&client.terminal, false);
    int err = options_parse(argc, argv, &client.options, &fault);
    if (!err && client.options.help) {
        options_help(client.options.command, stdout);
        return main_output_end(&client, EXIT_DONE);
    }
    if (!err && client.options.version) {
        puts("expertctl " EXPERTD_VERSION);
        return main_output_end(&client, EXIT_DONE);
    }
    if (!err)
        err = main_address(&client.options, &client.address, &fault);
    if (err) {
        client_complain(&client, &fault);
        fprintf(stderr, "'expertctl --help' lists what it can do\n");
        return EXIT_USAGE;
    }
    client.address.ca = client.options.ca ? client.options.ca : environment("EXPERTD_CA");
    terminal_init(&client.terminal, client.options.no_color);
    client.key = client.options.key ? client.options.key : environment("EXPERTD_KEY");
    return main_output_end(&client, command_run[client.options.command](&client));
}
