// SPDX-License-Identifier: MIT
// client: what every command of expertctl is given, and the commands.  One thread; each command
// returns the exit status of the program.
#pragma once
#include "client/address.h"
#include "client/options.h"
#include "client/terminal.h"

#include <jansson.h>

enum exit_status {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_UNREACHABLE = 3,
};

struct client {
    struct options options;
    struct address address;
    const char *key; // NULL: none
    struct terminal terminal;
    int interrupt_fd; // see interrupt.h; -1 where signals act as usual
};

// client_complain prints "expertctl: SENTENCE" on the standard error, made harmless for a
// terminal, and returns the exit status that an error of this kind has.
int client_complain(const struct client *client, const struct fault *fault);

// client_interrupts makes Ctrl-C pollable; on failure it stays what it is, and nothing is lost but
// the graceful end.  May be called again.
void client_interrupts(struct client *client);

// client_get fetches a JSON document or a text of the daemon.
//
// ret_status: the HTTP status; ret_body: to be freed with free().
// Returns 0 for any HTTP status; errors as http_call.h.
int client_get(const struct client *client, const char *target, unsigned *ret_status,
               char **ret_body, size_t *ret_len, struct fault *fault);

// client_serving asks whether a daemon answers, loading or not: at --socket or --url, else at the
// socket that is configured ("": none is).
bool client_serving(const struct client *client, const char *socket);

// client_post is client_get with a JSON body.
int client_post(const struct client *client, const char *target, const json_t *body,
                unsigned *ret_status, char **ret_body, size_t *ret_len, struct fault *fault);

// client_model returns the name to ask for: --model, or the first that /v1/models lists.  To be
// freed.
int client_model(const struct client *client, char **ret, struct fault *fault);

// client_print_json prints a document and a newline on standard output.
void client_print_json(const json_t *json);

int ask_run(struct client *client);
int chat_run(struct client *client);
int models_run(struct client *client);
int status_run(struct client *client);
int inspect_run(struct client *client);
int pack_run(struct client *client);
int hash_run(struct client *client);
int bench_run(struct client *client);
int key_run(struct client *client);
int net_run(struct client *client);
int demo_run(struct client *client);
int setup_run(struct client *client);
int doctor_run(struct client *client);
int bundle_run(struct client *client);
