// SPDX-License-Identifier: MIT
// doctor: the command: runs the checks in their order and prints what they found.
#include "client/doctor.h"

#include "client/client.h"
#include "client/interrupt.h"
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_DEFAULT EXPERTD_SYSCONFDIR "/expertd/expertd.conf"

// In this order; the first fills in what the others look at.
static void (*const doctor_checks[])(struct doctor *doctor) = {
    doctor_config, doctor_kernel, doctor_device, doctor_checkpoint, doctor_hashes,
    doctor_memory, doctor_drives, doctor_port,   doctor_keys,       doctor_user,
};

static int doctor_stopped(void *user)
{
    return interrupt_pending(*(const int *)user) ? -ECANCELED : 0;
}

static void doctor_print(const struct client *client, const struct doctor *doctor)
{
    for (uint32_t i = 0; i < doctor->n; i++) {
        const struct finding *f = &doctor->findings[i];
        char clean[DOCTOR_TEXT_MAX];
        size_t n = terminal_clean(f->found, strlen(f->found), clean);
        if (client->options.quiet && f->verdict == VERDICT_OK)
            continue;
        printf("%s%-4s%s  %s: %.*s%s%s\n",
               terminal_style(&client->terminal, f->verdict == VERDICT_FAIL   ? STYLE_ERROR
                                                 : f->verdict == VERDICT_WARN ? STYLE_BOLD
                                                                              : STYLE_DIM),
               verdict_name[f->verdict], terminal_style(&client->terminal, STYLE_RESET), f->what,
               (int)n, clean, f->mend[0] ? "; " : "", f->mend);
    }
}

json_t *doctor_report(const struct doctor *doctor)
{
    json_t *list = json_array();
    json_t *root = json_pack("{s:b, s:s, s:o}", "ok", (int)doctor_good(doctor), "config",
                             doctor->config, "findings", list);

    for (uint32_t i = 0; root && i < doctor->n; i++) {
        const struct finding *f = &doctor->findings[i];
        char clean[DOCTOR_TEXT_MAX];
        size_t n = terminal_clean(f->found, strlen(f->found), clean);
        json_t *row = json_pack("{s:s, s:s, s:s%, s:s}", "verdict", verdict_name[f->verdict],
                                "what", f->what, "found", clean, n, "mend", f->mend);
        if (json_array_append_new(list, row) != 0) {
            json_decref(root);
            root = NULL;
        }
    }
    return root;
}

bool doctor_good(const struct doctor *doctor)
{
    for (uint32_t i = 0; i < doctor->n; i++)
        if (doctor->findings[i].verdict == VERDICT_FAIL)
            return false;
    return true;
}

void doctor_free(struct doctor **pdoctor)
{
    struct doctor *doctor = *pdoctor;

    *pdoctor = NULL;
    if (!doctor)
        return;
    for (uint32_t i = 0; i < STREAM_DIRS_MAX; i++)
        pack_close(&doctor->packs[i]);
    checkpoint_close(&doctor->checkpoint);
    free(doctor);
}

int doctor_judge(const struct client *client, const char *config, struct doctor *doctor)
{
    int fd = client->interrupt_fd;

    *doctor = (struct doctor){.root = "",
                              .config = config,
                              .datadir = EXPERTD_DATADIR,
                              .plugins = EXPERTD_DPDK_PLUGINS,
                              .usual = strcmp(config, CONFIG_DEFAULT) == 0,
                              .privileged = geteuid() == 0,
                              .hashes = client->options.hashes,
                              .interrupted = doctor_stopped,
                              .interrupted_user = &fd,
                              .stop_fd = fd};
    for (size_t i = 0; i < sizeof(doctor_checks) / sizeof(doctor_checks[0]); i++) {
        if (interrupt_pending(fd))
            return -ECANCELED;
        doctor_checks[i](doctor);
        if (i == 0)
            doctor->serving = client_serving(client, doctor->conf.listen_socket);
    }
    return interrupt_pending(fd) ? -ECANCELED : 0;
}

int doctor_run(struct client *client)
{
    const char *config = client->options.config ? client->options.config : CONFIG_DEFAULT;
    struct doctor *doctor = calloc(1, sizeof(*doctor));
    struct fault fault = {0};
    json_t *report = NULL;
    bool good = false;

    client_interrupts(client);
    if (!doctor)
        fault_set(&fault, ENOMEM, "out of memory");
    else if (doctor_judge(client, config, doctor) != 0)
        fault_set(&fault, ECANCELED, "stopped");
    else if (client->options.json && !(report = doctor_report(doctor)))
        fault_set(&fault, ENOMEM, "out of memory");
    else if (client->options.json)
        client_print_json(report);
    else
        doctor_print(client, doctor);
    if (fault.err)
        client_complain(client, &fault);
    else
        good = doctor_good(doctor);
    json_decref(report);
    doctor_free(&doctor);
    return good ? EXIT_DONE : EXIT_FAILED;
}
