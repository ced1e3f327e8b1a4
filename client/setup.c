// SPDX-License-Identifier: MIT
// setup: five questions, each with a default from what this machine has, then the configuration.
// Nothing is written before the last answer, and all of it or nothing then.  Needs no daemon.
#include "client/setup.h"

#include "client/doctor.h"
#include "client/interrupt.h"
#include "client/program.h"
#include "client/question.h"
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define CONF_BYTES_MAX  (1u << 20)
#define CHECK_BYTES_MAX (64u << 10)
#define COMMANDS_MAX    8u

// setup_before reads the configuration that is there; its values are the defaults.
static int setup_before(struct setup *setup, struct fault *fault)
{
    struct conf *conf = calloc(1, sizeof(*conf));
    if (!conf)
        return fault_set(fault, ENOMEM, "out of memory");

    conf_defaults(conf);
    int fd = open(setup->config, O_RDONLY | O_CLOEXEC), err = 0;
    if (fd < 0 && errno != ENOENT)
        err = fault_set(fault, errno, "%.200s: %s%s", setup->config, strerror(errno),
                        errno == EACCES ? "; run it as root" : "");
    if (fd >= 0) {
        setup->there = true;
        err = text_read_fd(&setup->before, fd, CONF_BYTES_MAX);
        close(fd);
        if (err)
            err = fault_set(fault, -err, "%.200s: %s", setup->config, strerror(-err));
        else
            err = conf_parse(conf, setup->config, setup->before.bytes ? setup->before.bytes : "",
                             setup->before.n, fault);
        struct fault none;
        if (!err && conf->net_port[0] && nic_parse(conf->net_port, &setup->port_before, &none) != 0)
            setup->port_before.kind = NIC_KIND_COUNT;
    }
    free(conf);
    if (err == -EINVAL && setup->client->options.force) {
        struct fault told;
        fault_set(&told, EINVAL, "%.400s; so its values are not taken over, and a copy stays",
                  fault->text);
        client_complain(setup->client, &told);
        setup->edited = true;
        return 0;
    }
    if (!err && setup->before.n > 0)
        err = conf_edit_read(&setup->edit, setup->before.bytes, fault);
    setup->edited = setup->edit.n > 0;
    return err;
}

static int setup_open(struct setup *setup, struct fault *fault)
{
    const struct options *options = &setup->client->options;
    char *real;

    setup->config = options->config ? options->config : SETUP_DEFAULT;
    const char *slash = strrchr(setup->config, '/');
    snprintf(setup->dir, sizeof(setup->dir), "%.*s", slash ? (int)(slash - setup->config + 1) : 2,
             slash ? setup->config : "./");
    real = realpath(setup->dir, NULL); // the configuration names files by absolute paths
    if (!real && !(errno == ENOENT && !options->config))
        return fault_set(fault, errno, "%.200s: %s", setup->dir, strerror(errno));
    if (real)
        snprintf(setup->dir, sizeof(setup->dir), "%s/", real);
    free(real);
    setup->usual = strcmp(setup->config, SETUP_DEFAULT) == 0;
    setup->port.kind = setup->port_before.kind = NIC_KIND_COUNT;
    setup->asks = setup->client->terminal.in_tty && setup->client->terminal.out_tty &&
                  !options->yes && !options->json;
    if (!setup->asks && !options->yes)
        return fault_set(fault, EINVAL,
                         "there is no terminal to ask on: --yes takes what is found, and what "
                         "options say");
    if (access(setup->dir, W_OK) != 0 && errno == EACCES) // before a person answers in vain
        return fault_set(fault, EACCES, "%.200s cannot be written: %s; run it as root",
                         setup->config, strerror(EACCES));
    return setup_before(setup, fault);
}

// setup_may asks before an edited file is replaced.
static int setup_may(const struct setup *setup, struct fault *fault)
{
    char answer[16];

    if (!setup->edited || setup->client->options.force)
        return 0;
    if (!setup->asks)
        return fault_set(
            fault, EEXIST,
            "%.200s has values already: --force replaces it, keeps its values where no option "
            "says otherwise, and a copy in %.200s.bak",
            setup->config, setup->config);
    printf("%s has values already, which are the defaults below; a copy stays in %s.bak.\n",
           setup->config, setup->config);
    int err = question_ask(setup->client, "Replace it", "no", answer, sizeof(answer));
    if (err == 0 && (strcasecmp(answer, "yes") == 0 || strcasecmp(answer, "y") == 0))
        return 0;
    return fault_set(fault, ECANCELED, "stopped; nothing was changed");
}

static void setup_look(struct setup *setup)
{
    const struct options *options = &setup->client->options;

    for (int i = 0; i < options->args_n; i++)
        find_below(&setup->find, options->args[i]);
    if (options->args_n == 0)
        find_usual(&setup->find);
    setup->nics_n = net_bind_list("", setup->nics, SETUP_NICS_MAX);
}

/* ---------------------------------------------------------------- report */

// setup_check has the daemon itself judge the result.  Returns false, with its sentence; secrets
// that only the unit passes are no fault.
static bool setup_check(const struct setup *setup, char *ret, size_t bytes)
{
    const char *argv[] = {ret, "--check-config", "--config", setup->config, NULL};
    char program[PATH_MAX];
    struct text said = {0};
    int status = 0;

    snprintf(ret, bytes, "expertd is not installed here, so nothing has judged it");
    if (program_find("expertd", "daemon", program) != 0)
        return false;
    argv[0] = program;
    int err = program_run(argv, setup->client->interrupt_fd, CHECK_BYTES_MAX, &said, &status);
    if (err)
        snprintf(ret, bytes, "expertd --check-config cannot be run: %s", strerror(-err));
    else
        snprintf(ret, bytes, "%s", status == 0 ? "" : program_sentence(&said));
    text_free(&said);
    return (!err && status == 0) || strstr(ret, PROGRAM_NO_CREDENTIALS);
}

// setup_commands writes what is left to be done.  Returns how many.
static uint32_t setup_commands(const struct setup *setup, char ret[COMMANDS_MAX][PATH_MAX + 64])
{
    uint32_t n = 0;

    struct doctor_word word;
    if (!setup->usual) {
        snprintf(ret[n++], PATH_MAX + 64, "expertd --config %s", doctor_word(setup->config, &word));
        return n;
    }
    if (setup->port_before.kind == NIC_PCI &&
        (setup->port.kind != NIC_PCI || strcmp(setup->port_before.device, setup->port.device) !=
                                            0)) // the kernel may have it again
        snprintf(ret[n++], PATH_MAX + 64,
                 "systemctl stop expertd && systemctl disable --now expertd-vfio@%s.service",
                 setup->port_before.device);
    if (setup->sight.n == 0 && sight_is_ours(SETUP_SIGHT))
        snprintf(ret[n++], PATH_MAX + 64, "rm " SETUP_SIGHT);
    if (setup->port.kind == NIC_PCI) {
        snprintf(ret[n++], PATH_MAX + 64,
                 "cp " EXPERTD_DATADIR "/systemd/hugepages.conf /etc/sysctl.d/80-expertd.conf && "
                 "systemctl restart systemd-sysctl");
        snprintf(ret[n++], PATH_MAX + 64, "systemctl daemon-reload");
        snprintf(ret[n++], PATH_MAX + 64, "systemctl enable --now expertd-vfio@%s.service",
                 setup->port.device);
    } else {
        if (setup->port.kind == NIC_KIND_COUNT && access(SETUP_DROPIN, F_OK) == 0)
            snprintf(ret[n++], PATH_MAX + 64, "rm " SETUP_DROPIN);
        snprintf(ret[n++], PATH_MAX + 64, "systemctl daemon-reload");
    }
    snprintf(ret[n++], PATH_MAX + 64,
             setup->edited ? "systemctl enable expertd && systemctl restart expertd"
                           : "systemctl enable --now expertd");
    snprintf(ret[n++], PATH_MAX + 64, "expertctl doctor");
    return n;
}

static void report_json(const struct setup *setup, bool good, const char *said,
                        char commands[COMMANDS_MAX][PATH_MAX + 64], uint32_t n)
{
    json_t *written = json_array(), *next = json_array();
    json_t *shown = json_array();
    json_t *root = json_pack("{s:s, s:o, s:o, s:o, s:b}", "config", setup->config, "written",
                             written, "next", next, "shown", shown, "valid", (int)good);

    for (uint32_t i = 0; i < setup->written_n; i++)
        json_array_append_new(written, json_string(setup->written[i]));
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(next, json_string(commands[i]));
    for (uint32_t i = 0; i < setup->sight.n; i++)
        json_array_append_new(shown, json_string(setup->sight.dirs[i]));
    if (setup->memory[0])
        json_object_set_new(root, "memory", json_string(setup->memory));
    if (!good)
        json_object_set_new(root, "error", json_string(said));
    if (setup->key_name[0])
        json_object_set_new(root, "key", json_string(setup->key));
    if (root)
        client_print_json(root);
    json_decref(root);
}

static void report_text(const struct setup *setup, bool good, const char *said,
                        char commands[COMMANDS_MAX][PATH_MAX + 64], uint32_t n)
{
    printf("\nWritten:\n");
    for (uint32_t i = 0; i < setup->written_n; i++)
        printf("  %s\n", setup->written[i]);
    printf("Model: %s\n", conf_edit_get(&setup->edit, "model", "path"));
    for (uint32_t i = 0; i < setup->sight.n; i++)
        printf("Shown to the service, read-only: %s\n", setup->sight.dirs[i]);
    if (setup->memory[0])
        printf("Memory: %s.\n", setup->memory);
    if (setup->key_name[0])
        printf("The key of %s, which is shown this once:\n  %s\n", setup->key_name, setup->key);
    if (good)
        printf("expertd --check-config finds nothing wrong%s.\n",
               said[0] ? ", but for credentials that the unit passes" : "");
    else
        printf("Not ready yet: %s\n", said);
    printf("Next:\n");
    for (uint32_t i = 0; i < n; i++)
        printf("  %s\n", commands[i]);
}

// setup_report says what was done.  Returns the exit status.
static int setup_report(const struct setup *setup)
{
    static char commands[COMMANDS_MAX][PATH_MAX + 64];
    char said[1024];
    bool good = setup_check(setup, said, sizeof(said));
    if (good && setup->memory_short[0]) {
        snprintf(said, sizeof(said), "%s", setup->memory_short);
        good = false;
    }
    uint32_t n = setup_commands(setup, commands);

    if (setup->client->options.json)
        report_json(setup, good, said, commands, n);
    else
        report_text(setup, good, said, commands, n);
    return good ? EXIT_DONE : EXIT_FAILED;
}

int setup_run(struct client *client)
{
    struct setup *setup = calloc(1, sizeof(*setup));
    struct fault fault = {0};
    int status = EXIT_FAILED;

    if (!setup) {
        fault_set(&fault, ENOMEM, "out of memory");
        client_complain(client, &fault);
        return EXIT_FAILED;
    }
    setup->client = client;
    int err = setup_open(setup, &fault);
    if (!err && setup->asks)
        printf("This writes %s.  Ctrl-C leaves everything as it is.\n", setup->config);
    if (!err)
        setup_look(setup); // drives may be slow, and Ctrl-C still ends us here
    client_interrupts(client);
    if (!err)
        err = setup_may(setup, &fault);
    if (!err)
        err = setup_questions(setup, &fault);
    if (!err && interrupt_take(client->interrupt_fd) != INTERRUPT_NONE)
        err = fault_set(&fault, ECANCELED, "stopped; nothing was changed");
    if (!err)
        err = setup_write(setup, &fault);
    if (err)
        client_complain(client, &fault);
    else
        status = setup_report(setup);
    explicit_bzero(setup->key, sizeof(setup->key));
    conf_edit_free(&setup->edit);
    text_free(&setup->before);
    checkpoint_close(&setup->checkpoint);
    free(setup);
    return status;
}
