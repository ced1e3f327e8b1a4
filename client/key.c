// SPDX-License-Identifier: MIT
// key: who may use the port: makes, lists and revokes keys.  Needs no daemon; it reads the file
// when it is told to.
#include "base/clock.h"
#include "client/client.h"
#include "client/key_file.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RELOAD "systemctl reload expertd"

static const char *key_path(const struct options *options)
{
    return options->file ? options->file : KEYS_PATH;
}

// key_usage judges the words behind the command.
static int key_usage(const struct options *options, struct fault *fault)
{
    const char *verb = options->args[0];
    bool add = strcmp(verb, "add") == 0, list = strcmp(verb, "list") == 0;

    if (!add && !list && strcmp(verb, "revoke") != 0)
        return fault_set(fault, EINVAL, "'key %.60s': must be add NAME, list or revoke NAME", verb);
    if (options->args_n != (list ? 1 : 2))
        return fault_set(fault, EINVAL, list ? "'key list' takes no name" : "'key %s' needs a name",
                         verb);
    if (!add && (options->rate != OPTION_ABSENT || options->concurrency != OPTION_ABSENT))
        return fault_set(fault, EINVAL, "--rate and --concurrency are options of 'key add'");
    if (!list && !keys_name_valid(options->args[1]))
        return fault_set(fault, EINVAL,
                         "a key's name is 1 to 63 letters, digits, '.', '_', '-' or '@', begins "
                         "with a letter or a digit, and not with sk-");
    return 0;
}

/* ------------------------------------------------------------------- add */

static int key_fill(const struct options *options, const char *text, struct key *key,
                    struct fault *fault)
{
    time_t now = (time_t)clock_unix_s();
    struct tm day;

    *key = (struct key){
        .rate = options->rate == OPTION_ABSENT ? KEYS_DEFAULT : (uint32_t)options->rate,
        .concurrency =
            options->concurrency == OPTION_ABSENT ? KEYS_DEFAULT : (uint32_t)options->concurrency,
    };
    snprintf(key->name, sizeof(key->name), "%s", options->args[1]);
    if (!gmtime_r(&now, &day) ||
        strftime(key->created, sizeof(key->created), "%Y-%m-%d", &day) != sizeof(key->created) - 1)
        return fault_set(fault, ERANGE, "the clock of this machine is wrong");
    if (keys_hash(text, strlen(text), key->hash) != 0)
        return fault_set(fault, ENOMEM, "out of memory");
    return 0;
}

// key_show prints the key, and alone, so that it can be piped.
static int key_show(const struct options *options, const char *text)
{
    if (options->json) {
        json_t *root = json_pack("{s:s, s:s}", "name", options->args[1], "key", text);
        if (!root)
            return -ENOMEM;
        client_print_json(root);
        json_decref(root);
    } else {
        puts(text);
    }
    return fflush(stdout) == 0 ? 0 : -errno;
}

static int key_add(const struct options *options, struct fault *fault)
{
    char text[KEYS_TEXT_MAX];
    struct key key;

    int err = keys_make(text);
    if (err)
        return fault_set(fault, -err, "no random numbers: %s", strerror(-err));
    err = key_fill(options, text, &key, fault);
    if (!err)
        err = key_file_add(key_path(options), &key, fault);
    if (err)
        goto out;

    signal(SIGPIPE, SIG_IGN); // a reader that went away must not leave a key that nobody saw
    err = key_show(options, text);
    if (err && key_file_remove(key_path(options), key.name, NULL) == 0)
        err = fault_set(fault, -err, "the key cannot be printed (%s), so it was not kept",
                        strerror(-err));
    else if (err)
        err = fault_set(fault, -err, "the key cannot be printed (%s): revoke %s", strerror(-err),
                        key.name);
    else if (!options->quiet)
        fprintf(stderr,
                "This is the only time that the key is shown: the file %s keeps its hash.\n"
                "'" RELOAD "', or SIGHUP to the daemon, puts it into use.\n",
                key_path(options));
out:
    explicit_bzero(text, sizeof(text));
    return err;
}

/* ------------------------------------------------------------------ list */

static const char *limit_text(uint32_t limit, char *buf, size_t bytes)
{
    if (limit == KEYS_DEFAULT)
        return "default";
    if (limit == 0)
        return "none";
    snprintf(buf, bytes, "%u", limit);
    return buf;
}

// limit_json: null where the daemon's default holds; 0 is no limit.
static json_t *limit_json(uint32_t limit)
{
    return limit == KEYS_DEFAULT ? json_null() : json_integer(limit);
}

static int keys_print_json(const struct keys *keys)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < keys_n(keys); i++) {
        const struct key *key = keys_at(keys, i);
        json_t *row =
            json_pack("{s:s, s:s, s:o, s:o, s:b}", "name", key->name, "created", key->created,
                      "requests_per_minute", limit_json(key->rate), "concurrency",
                      limit_json(key->concurrency), "disabled", (int)key->disabled);
        if (json_array_append_new(list, row) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    if (!list)
        return -ENOMEM;
    client_print_json(list);
    json_decref(list);
    return 0;
}

static void keys_print(const struct keys *keys, bool titles)
{
    int width = 4; // "NAME"
    for (uint32_t i = 0; i < keys_n(keys); i++) {
        int n = (int)strlen(keys_at(keys, i)->name);
        width = n > width ? n : width;
    }
    if (titles)
        printf("%-*s  %-10s  %8s  %8s\n", width, "NAME", "CREATED", "A MINUTE", "AT ONCE");
    for (uint32_t i = 0; i < keys_n(keys); i++) {
        const struct key *key = keys_at(keys, i);
        char rate[16], concurrency[16];
        printf("%-*s  %s  %8s  %8s%s\n", width, key->name, key->created,
               limit_text(key->rate, rate, sizeof(rate)),
               limit_text(key->concurrency, concurrency, sizeof(concurrency)),
               key->disabled ? "  disabled" : "");
    }
}

static int key_list(const struct options *options, struct fault *fault)
{
    struct keys *keys = NULL;

    int err = keys_load(key_path(options), NULL, &keys, fault);
    if (err)
        return err;
    if (keys_warning(keys)[0])
        fprintf(stderr, "expertctl: %s\n", keys_warning(keys));
    if (!options->json)
        keys_print(keys, !options->quiet && keys_n(keys) > 0);
    else if (keys_print_json(keys) != 0)
        err = fault_set(fault, ENOMEM, "out of memory");
    keys_destroy(&keys);
    return err;
}

/* ---------------------------------------------------------------- revoke */

static int key_revoke(const struct options *options, struct fault *fault)
{
    int err = key_file_remove(key_path(options), options->args[1], fault);
    if (!err && !options->quiet)
        fprintf(stderr, "%s is revoked once '" RELOAD "' was run, or the daemon had SIGHUP.\n",
                options->args[1]);
    return err;
}

int key_run(struct client *client)
{
    const struct options *options = &client->options;
    struct fault fault = {0};

    if (key_usage(options, &fault)) {
        client_complain(client, &fault);
        return EXIT_USAGE;
    }
    int err = options->args[0][0] == 'a'   ? key_add(options, &fault)
              : options->args[0][0] == 'l' ? key_list(options, &fault)
                                           : key_revoke(options, &fault);
    if (err)
        client_complain(client, &fault);
    return err ? EXIT_FAILED : EXIT_DONE;
}
