// SPDX-License-Identifier: MIT
// models: what the daemon serves.
#include "client/client.h"
#include "client/reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void models_print(const struct client *client, const json_t *list)
{
    size_t i;
    json_t *model;

    json_array_foreach(json_object_get(list, "data"), i, model)
    {
        const char *id = json_string_value(json_object_get(model, "id"));
        const json_t *context = json_object_get(json_object_get(model, "meta"), "n_ctx");
        char name[256];
        size_t len = id ? strnlen(id, sizeof(name)) : 0;
        len = client->terminal.out_tty && id ? terminal_clean(id, len, name)
                                             : (memcpy(name, id ? id : "", len), len);
        printf("%.*s", (int)len, name);
        if (json_is_integer(context) && !client->options.quiet)
            printf("  (context %lld tokens)", (long long)json_integer_value(context));
        putchar('\n');
    }
}

int models_run(struct client *client)
{
    struct fault fault = {0};
    unsigned status = 0;
    char *body = NULL;
    size_t len = 0;
    json_t *list = NULL;

    int err = client_get(client, "/v1/models", &status, &body, &len, &fault);
    if (!err && status != 200)
        err = reply_error_text(status, body, len, &fault);
    if (!err && !(list = json_loadb(body, len, JSON_ALLOW_NUL, NULL)))
        err = fault_set(&fault, EPROTO, "/v1/models is no JSON");
    if (!err && client->options.json)
        client_print_json(list);
    else if (!err)
        models_print(client, list);
    json_decref(list);
    free(body);
    return err ? client_complain(client, &fault) : EXIT_DONE;
}
