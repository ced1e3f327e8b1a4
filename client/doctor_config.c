// SPDX-License-Identifier: MIT
#include "client/doctor.h"
#include "client/program.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define SAID_BYTES_MAX (64u << 10)

// config_daemon has the daemon judge the file, as systemd does before each start.
static void config_daemon(struct doctor *d)
{
    char program[PATH_MAX];
    struct text said = {0};
    int status = 0;

    if (program_find("expertd", "daemon", program) != 0) {
        doctor_add(d, VERDICT_WARN, "daemon", "apt install expertd",
                   "the program expertd is not installed");
        return;
    }
    const char *const argv[] = {program, "--check-config", "--config", d->config, NULL};
    int err = program_run(argv, d->interrupted ? d->stop_fd : -1, SAID_BYTES_MAX, &said, &status);
    const char *text = program_sentence(&said);
    if (err)
        doctor_add(d, VERDICT_FAIL, "configuration", "", "%s cannot be run: %s", program,
                   strerror(-err));
    else if (status == 0)
        doctor_add(d, VERDICT_OK, "configuration", "", "%s: expertd takes it", d->config);
    else if (strstr(text, PROGRAM_NO_CREDENTIALS))
        doctor_add(
            d, VERDICT_WARN, "configuration", "journalctl -u expertd, once it was started",
            "%s: expertd takes it, as far as that can be said without the credentials, which "
            "only the unit has",
            d->config);
    else if (strstr(text, "Permission denied") && !d->privileged)
        doctor_add(d, VERDICT_WARN, "configuration", "run expertctl doctor as root",
                   "cannot be judged by this user: %s", text);
    else
        doctor_add(d, VERDICT_FAIL, "configuration", "expertctl setup, or edit that line", "%s",
                   text);
    text_free(&said);
}

// config_credentials: the unit has to pass what the configuration names so.
static void config_credentials(struct doctor *d)
{
    static const char form[] = "credential:";
    const struct {
        const char *key, *value;
    } rows[] = {{"keys", d->conf.net_keys},
                {"tls_certificate", d->conf.net_tls_certificate},
                {"tls_key", d->conf.net_tls_key},
                {"tls_client_ca", d->conf.net_tls_client_ca}};
    char words[CONF_TEXT_MAX + 32];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && d->usual && d->conf.net_port[0]; i++) {
        if (strncmp(rows[i].value, form, strlen(form)) != 0)
            continue;
        const char *name = rows[i].value + strlen(form);
        snprintf(words, sizeof(words), "Credential=%s:", name); // Load, Set
        bool passed = doctor_unit_has(d, words);
        snprintf(words, sizeof(words), "CredentialEncrypted=%s:", name);
        if (!passed && !doctor_unit_has(d, words))
            doctor_add(d, VERDICT_FAIL, "credentials",
                       "systemctl edit expertd: [Service] LoadCredential=NAME:FILE, then systemctl "
                       "restart expertd",
                       "[net] %s = %s, but the unit passes no credential of that name", rows[i].key,
                       rows[i].value);
    }
}

// config_lists cuts the lists of directories.
static void config_lists(struct doctor *d)
{
    memcpy(d->packs_text, d->conf.drives_pack, sizeof(d->packs_text));
    memcpy(d->shards_text, d->conf.drives_shards, sizeof(d->shards_text));
    d->packs_n = conf_list_split(d->packs_text, d->pack_dirs, STREAM_DIRS_MAX);
    d->shards_n = conf_list_split(d->shards_text, d->shard_dirs, STREAM_DIRS_MAX);
}

void doctor_config(struct doctor *doctor)
{
    struct fault fault = {0};

    conf_defaults(&doctor->conf);
    int err = conf_load(&doctor->conf, doctor->config, &fault);
    if (err == -EACCES && !doctor->privileged)
        doctor_add(doctor, VERDICT_WARN, "configuration", "run expertctl doctor as root",
                   "%s cannot be read by this user, so most of the rest is unseen", doctor->config);
    else if (err == -ENOENT)
        doctor_add(doctor, VERDICT_FAIL, "configuration", "expertctl setup", "%s is not there",
                   doctor->config);
    else if (err)
        doctor_add(doctor, VERDICT_FAIL, "configuration", "edit that line", "%s", fault.text);
    if (err)
        return;
    doctor->conf_read = true;
    config_lists(doctor);
    config_credentials(doctor);
    if (!doctor->conf.model_path[0])
        doctor_add(doctor, VERDICT_FAIL, "configuration", "expertctl setup",
                   "%s names no model yet", doctor->config);
    else
        config_daemon(doctor);
}
