// SPDX-License-Identifier: MIT
#include "api/keys.h"
#include "client/certificate.h"
#include "client/doctor.h"
#include "config.h"
#include "io/net/nic_check.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

// What the daemon's pool of frames takes; io/net/nic.c sums it up, doc/network.md names it.
#define PORT_HUGE_BYTES (20ull << 20)
#define DAYS_SOON       30

// What a port of each kind needs of the unit: a word by which its drop-in is known.
static const struct {
    const char *name, *words;
} port_kinds[NIC_KIND_COUNT] = {
    [NIC_PCI] = {"pci", "char-vfio"},
    [NIC_TAP] = {"tap", "/dev/net/tun"},
    [NIC_AF_PACKET] = {"af_packet", "AF_PACKET"},
    [NIC_AF_XDP] = {"af_xdp", "AF_XDP"},
};

// port_dropin: without it the service may not open what the port needs.
static void port_dropin(struct doctor *d, const char *what, const char *name, const char *words)
{
    char mend[DOCTOR_TEXT_MAX];

    if (!d->usual || !doctor_unit_value(d, "ExecStart", mend, sizeof(mend)))
        return; // no service
    if (doctor_unit_has(d, words)) {
        doctor_add(d, VERDICT_OK, what, "", "the unit allows it");
        return;
    }
    snprintf(mend, sizeof(mend),
             "install -D -m 644 %s/systemd/%s.conf "
             "/etc/systemd/system/" DOCTOR_UNIT ".d/%s.conf && systemctl daemon-reload",
             d->datadir, name, strncmp(name, "port-", 5) == 0 ? "port" : name);
    doctor_add(d, VERDICT_FAIL, what, mend, "the unit does not allow it: its sandbox has no %s",
               words);
}

static void port_look(struct doctor *d)
{
    bool pci, huge;
    struct nic_check check = {.bytes = PORT_HUGE_BYTES, .root = d->root, .plugins = d->plugins};
    struct fault fault = {0};
    char dropin[32];

    if (nic_parse(d->conf.net_port, &check.name, &fault) != 0)
        return; // doctor_config has told it
    pci = check.name.kind == NIC_PCI;
    huge = d->conf.net_huge_pages == CONF_HUGE_PAGES_YES;
    check.huge_pages = huge || (d->conf.net_huge_pages == CONF_HUGE_PAGES_AUTO && pci);
    if (d->serving) // it has the device, and nobody else can open it
        doctor_add(d, VERDICT_OK, "port", "", "%s: the daemon that runs has it", d->conf.net_port);
    else if (nic_check(&check, &fault) == 0)
        doctor_add(d, VERDICT_OK, "port", "", "%s can be opened", d->conf.net_port);
    else if (fault.err == EPERM && !d->privileged)
        doctor_add(d, VERDICT_WARN, "port", "run expertctl doctor as root",
                   "%s cannot be judged by this user", d->conf.net_port);
    else
        doctor_add(d, VERDICT_FAIL, "port", "", "%s", fault.text);
    snprintf(dropin, sizeof(dropin), "port-%s", port_kinds[check.name.kind].name);
    port_dropin(d, "port's sandbox", dropin, port_kinds[check.name.kind].words);
}

void doctor_port(struct doctor *doctor)
{
    if (!doctor->conf_read)
        return;
    if (doctor->conf.listen_loopback[0])
        port_dropin(doctor, "loopback's sandbox", "loopback", "IPAddressAllow=localhost");
    if (!doctor->conf.net_port[0])
        doctor_add(doctor, VERDICT_OK, "port", "", "none is configured: the socket alone");
    else if (!HAVE_PORT)
        doctor_add(doctor, VERDICT_FAIL, "port", "build with -Ddpdk=enabled",
                   "this program was built without the port");
    else
        port_look(doctor);
}

/* ------------------------------------------------------- keys, certificate */

// credential says whether a path is one that only the unit can resolve.
static bool credential(const char *path)
{
    return strncmp(path, "credential:", 11) == 0;
}

static void keys_look(struct doctor *d)
{
    const char *path = d->conf.net_keys;
    struct keys *keys = NULL;
    struct fault fault = {0};
    struct stat st;
    char mend[DOCTOR_TEXT_MAX];
    struct doctor_word word;

    if (credential(path))
        return;
    int err = keys_load(path, NULL, &keys, &fault);
    uint32_t n = err ? 0 : keys_usable(keys);
    keys_destroy(&keys);
    if (err == -EACCES && !d->privileged)
        doctor_add(d, VERDICT_WARN, "keys", "run expertctl doctor as root",
                   "%s cannot be read by this user", path);
    else if (err && err != -ENOENT)
        doctor_add(d, VERDICT_FAIL, "keys", "", "%s", fault.text);
    else if (n == 0 && !d->conf.net_allow_anonymous)
        doctor_add(d, VERDICT_FAIL, "keys", "expertctl key add NAME",
                   "%s has no key, so nobody could use the port", path);
    else if (stat(path, &st) == 0 && st.st_mode & 07) {
        snprintf(mend, sizeof(mend), "chmod 640 %s", doctor_word(path, &word));
        doctor_add(d, VERDICT_WARN, "keys", mend, "%u; every user may read %s", n, path);
    } else
        doctor_add(d, VERDICT_OK, "keys", "", "%u in %s", n, path);
}

static void tls_look(struct doctor *d)
{
    const char *path = d->conf.net_tls_certificate, *key = d->conf.net_tls_key;
    static const char mend[] = "put a new one in place and systemctl reload expertd; expertctl "
                               "setup --self-signed makes one";
    struct fault fault = {0};
    int64_t days = 0;
    struct stat st;

    if (d->conf.net_https_port == 0 || !path[0] || credential(path))
        return;
    int err = certificate_days(path, &days, &fault);
    if (err == -EACCES && !d->privileged)
        doctor_add(d, VERDICT_WARN, "certificate", "run expertctl doctor as root",
                   "%s cannot be read by this user", path);
    else if (err)
        doctor_add(d, VERDICT_FAIL, "certificate", "", "%s", fault.text);
    else if (days < 0)
        doctor_add(d, VERDICT_FAIL, "certificate", mend, "%s ended %" PRId64 " days ago", path,
                   -days);
    else if (days < DAYS_SOON)
        doctor_add(d, VERDICT_WARN, "certificate", mend, "%s ends in %" PRId64 " days", path, days);
    else
        doctor_add(d, VERDICT_OK, "certificate", "", "%s holds %" PRId64 " days more", path, days);
    if (key[0] && !credential(key) && stat(key, &st) == 0 && st.st_mode & 07)
        doctor_add(d, VERDICT_WARN, "certificate's key", "chmod 640 that file, group expertd",
                   "every user may read %s", key);
}

void doctor_keys(struct doctor *doctor)
{
    if (!doctor->conf_read || !doctor->conf.net_port[0])
        return;
    keys_look(doctor);
    tls_look(doctor);
}
