// SPDX-License-Identifier: MIT
#include "client/client.h"

#include "client/http_call.h"
#include "client/interrupt.h"
#include "client/reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SILENCE_MS 15000 // lists and figures come at once; a daemon that is busy still answers them

// client_exit_status says which exit status an error has: 3 when nobody listens there.
static int client_exit_status(int err)
{
    switch (err) {
    case ENOENT:
    case ECONNREFUSED:
    case EACCES:
    case EPERM:
    case ENOTSOCK:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ETIMEDOUT:
    case EADDRNOTAVAIL:
        return EXIT_UNREACHABLE;
    default:
        return EXIT_FAILED;
    }
}

int client_complain(const struct client *client, const struct fault *fault)
{
    char clean[sizeof(fault->text)];
    size_t len = terminal_clean(fault->text, strlen(fault->text), clean);

    fflush(stdout);
    fprintf(stderr, "%sexpertctl: %.*s%s\n", terminal_style_err(&client->terminal, STYLE_ERROR),
            (int)len, clean, terminal_style_err(&client->terminal, STYLE_RESET));
    return client_exit_status(fault->err);
}

void client_interrupts(struct client *client)
{
    int fd = -1;
    if (client->interrupt_fd < 0 && interrupt_open(&fd) == 0)
        client->interrupt_fd = fd;
}

static int client_call(const struct client *client, const struct http_request *request,
                       unsigned *ret_status, char **ret_body, size_t *ret_len, struct fault *fault)
{
    struct http_call *call = NULL;
    int err = http_call_open(&client->address, request, client->interrupt_fd, &call, fault);
    if (!err)
        err = http_call_finish(call, client->interrupt_fd, SILENCE_MS, fault);
    if (err)
        goto out;

    size_t len = 0;
    const char *body = http_call_body(call, &len);
    char *copy = malloc(len + 1);
    if (!copy) {
        err = fault_set(fault, ENOMEM, "out of memory");
        goto out;
    }
    memcpy(copy, body, len);
    copy[len] = '\0';
    *ret_body = copy;
    *ret_len = len;
    *ret_status = http_call_status(call);
out:
    http_call_close(&call);
    return err;
}

int client_get(const struct client *client, const char *target, unsigned *ret_status,
               char **ret_body, size_t *ret_len, struct fault *fault)
{
    struct http_request request = {.method = "GET", .target = target, .key = client->key};
    return client_call(client, &request, ret_status, ret_body, ret_len, fault);
}

bool client_serving(const struct client *client, const char *socket)
{
    struct client at = *client;
    struct fault ignored;
    unsigned status = 0;
    char *body = NULL;
    size_t len = 0;

    if (!client->options.socket && !client->options.url && socket[0] &&
        address_unix(socket, &at.address, &ignored) != 0)
        return false;
    if (client_get(&at, "/health", &status, &body, &len, &ignored) != 0)
        return false;
    free(body);
    return status == 200 || status == 503;
}

int client_post(const struct client *client, const char *target, const json_t *body,
                unsigned *ret_status, char **ret_body, size_t *ret_len, struct fault *fault)
{
    char *text = json_dumps(body, JSON_COMPACT);
    if (!text)
        return fault_set(fault, ENOMEM, "out of memory");

    struct http_request request = {.method = "POST",
                                   .target = target,
                                   .key = client->key,
                                   .body = text,
                                   .body_bytes = strlen(text)};
    int err = client_call(client, &request, ret_status, ret_body, ret_len, fault);
    free(text);
    return err;
}

int client_model(const struct client *client, char **ret, struct fault *fault)
{
    unsigned status = 0;
    char *body = NULL;
    size_t len = 0;

    const char *name = client->options.model;
    json_t *list = NULL;
    if (!name) {
        int err = client_get(client, "/v1/models", &status, &body, &len, fault);
        if (err)
            return err;
        if (status != 200) {
            err = reply_error_text(status, body, len, fault);
            free(body);
            return err;
        }
        list = json_loadb(body, len, JSON_ALLOW_NUL, NULL);
        free(body);
        const json_t *first = json_array_get(json_object_get(list, "data"), 0);
        name = json_string_value(json_object_get(first, "id"));
    }
    char *copy = name ? strdup(name) : NULL;
    bool none = !name;
    json_decref(list);
    if (none)
        return fault_set(fault, EPROTO, "the daemon at %s lists no model", client->address.text);
    if (!copy)
        return fault_set(fault, ENOMEM, "out of memory");
    *ret = copy;
    return 0;
}

void client_print_json(const json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(6));
    putchar('\n');
}
