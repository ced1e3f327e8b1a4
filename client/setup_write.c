// SPDX-License-Identifier: MIT
#include "base/clock.h"
#include "client/certificate.h"
#include "client/key_file.h"
#include "client/setup.h"
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MODE_SECRET     0640 // root writes, the group expertd reads
#define MODE_PUBLIC     0644
#define DROPIN_BYTES    (64u << 10)
#define COPY_BYTES      (1u << 20)
#define COPIES_MAX      100u
#define MACHINE_DEFAULT "expertd"

static int write_add(struct setup *setup, const char *path, const struct text *text, mode_t mode,
                     struct fault *fault)
{
    assert(setup->written_n < SETUP_LINES_MAX);
    snprintf(setup->written[setup->written_n++], PATH_MAX, "%s", path);
    return stage_add(&setup->stage, path, text->bytes ? text->bytes : "", text->n, mode, fault);
}

// write_copy keeps what is in a file that will be replaced, under a name that is free.
static int write_copy(struct setup *setup, const char *path, const struct text *text,
                      struct fault *fault)
{
    char copy[PATH_MAX];

    for (uint32_t i = 1; i < COPIES_MAX; i++) {
        int n = i == 1 ? snprintf(copy, sizeof(copy), "%s.bak", path)
                       : snprintf(copy, sizeof(copy), "%s.bak.%u", path, i);
        if (n >= (int)sizeof(copy))
            return fault_set(fault, ENAMETOOLONG, "%.200s: the path is too long", path);
        if (access(copy, F_OK) != 0)
            return write_add(setup, copy, text, MODE_SECRET, fault);
    }
    return fault_set(fault, EEXIST, "%.200s has %u copies already: remove some", path, COPIES_MAX);
}

// write_over replaces a file and keeps a copy of what was in it.
static int write_over(struct setup *setup, const char *path, const struct text *text, mode_t mode,
                      struct fault *fault)
{
    struct text before = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;

    if (fd >= 0) {
        err = text_read_fd(&before, fd, COPY_BYTES);
        close(fd);
        err = err ? fault_set(fault, -err, "%.200s: %s", path, strerror(-err))
                  : write_copy(setup, path, &before, fault);
        if (before.bytes)
            explicit_bzero(before.bytes, before.n);
        text_free(&before);
    }
    return err ? err : write_add(setup, path, text, mode, fault);
}

// write_config writes the configuration, and a copy of the one that is there unless it is as the
// package made it.
static int write_config(struct setup *setup, struct fault *fault)
{
    struct conf_edit empty = {0};
    struct text text = {0};
    int err = 0;

    if (setup->there)
        err = conf_edit_text(&empty, &text, fault);
    if (!err && setup->there &&
        (text.n != setup->before.n || memcmp(text.bytes, setup->before.bytes, text.n) != 0))
        err = write_copy(setup, setup->config, &setup->before, fault);
    if (!err)
        err = conf_edit_text(&setup->edit, &text, fault);
    if (!err)
        err = write_add(setup, setup->config, &text, MODE_SECRET, fault);
    text_free(&text);
    return err;
}

static int write_certificate(struct setup *setup, struct fault *fault)
{
    const char *address = conf_edit_get(&setup->edit, "net", "address");
    struct text certificate = {0}, key = {0};
    char name[256] = MACHINE_DEFAULT, ip[64] = "";

    if (gethostname(name, sizeof(name)) != 0 || !name[0])
        snprintf(name, sizeof(name), MACHINE_DEFAULT);
    name[sizeof(name) - 1] = '\0';
    name[64] = '\0'; // the longest common name
    if (address)
        snprintf(ip, sizeof(ip), "%.*s", (int)strcspn(address, "/"), address);
    int err = certificate_make(name, ip, &certificate, &key, fault);
    if (!err)
        err = write_over(setup, conf_edit_get(&setup->edit, "net", "tls_certificate"), &certificate,
                         MODE_SECRET, fault);
    if (!err)
        err = write_over(setup, conf_edit_get(&setup->edit, "net", "tls_key"), &key, MODE_SECRET,
                         fault);
    if (key.bytes)
        explicit_bzero(key.bytes, key.n);
    text_free(&certificate);
    text_free(&key);
    return err;
}

// write_dropin gives the unit what this kind of port needs.
static int write_dropin(struct setup *setup, struct fault *fault)
{
    static const char *const kinds[NIC_KIND_COUNT] = {
        [NIC_PCI] = "pci",
        [NIC_TAP] = "tap",
        [NIC_AF_PACKET] = "af_packet",
        [NIC_AF_XDP] = "af_xdp",
    };
    struct text text = {0};
    char path[PATH_MAX];

    snprintf(path, sizeof(path), EXPERTD_DATADIR "/systemd/port-%s.conf", kinds[setup->port.kind]);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) // a machine without the daemon's units
        return 0;
    int err = text_read_fd(&text, fd, DROPIN_BYTES);
    close(fd);
    if (err)
        err = fault_set(fault, -err, "%s: %s", path, strerror(-err));
    else
        err = write_add(setup, SETUP_DROPIN, &text, MODE_PUBLIC, fault);
    text_free(&text);
    return err;
}

// write_sight shows the service what it needs of homes.
static int write_sight(struct setup *setup, struct fault *fault)
{
    struct text text = {0};

    if (access(EXPERTD_DATADIR "/systemd", F_OK) != 0) // a machine without the daemon's units
        setup->sight.n = 0;
    if (setup->sight.n == 0)
        return 0;
    int err = sight_text(&setup->sight, &text);
    if (err)
        err = fault_set(fault, -err, "%s: %s", SETUP_SIGHT, strerror(-err));
    else
        err = sight_is_ours(SETUP_SIGHT)
                  ? write_add(setup, SETUP_SIGHT, &text, MODE_PUBLIC, fault)
                  : write_over(setup, SETUP_SIGHT, &text, MODE_PUBLIC, fault);
    text_free(&text);
    return err;
}

// keys_path is where the daemon will look.
static const char *keys_path(const struct setup *setup)
{
    const char *path = conf_edit_get(&setup->edit, "net", "keys");
    return path ? path : KEYS_PATH;
}

static int write_key(struct setup *setup, struct fault *fault)
{
    struct key key = {.rate = KEYS_DEFAULT, .concurrency = KEYS_DEFAULT};
    time_t now = (time_t)clock_unix_s();
    struct tm day;

    int err = keys_make(setup->key);
    if (err)
        return fault_set(fault, -err, "no random numbers: %s", strerror(-err));
    snprintf(key.name, sizeof(key.name), "%s", setup->key_name);
    if (!gmtime_r(&now, &day) ||
        strftime(key.created, sizeof(key.created), "%Y-%m-%d", &day) != sizeof(key.created) - 1)
        return fault_set(fault, ERANGE, "the clock of this machine is wrong");
    if (keys_hash(setup->key, strlen(setup->key), key.hash) != 0)
        return fault_set(fault, ENOMEM, "out of memory");
    return key_file_add(keys_path(setup), &key, fault);
}

int setup_write(struct setup *setup, struct fault *fault)
{
    struct fault ignored;
    bool port = setup->port.kind != NIC_KIND_COUNT, keyed = false;
    int err = 0;

    if (port && setup->self_signed)
        err = write_certificate(setup, fault);
    if (!err && port && setup->usual)
        err = write_dropin(setup, fault);
    if (!err)
        err = write_sight(setup, fault);
    if (!err)
        err = write_config(setup, fault);
    if (!err && setup->key_name[0]) {
        err = write_key(setup, fault);
        keyed = !err;
    }
    if (!err)
        err = stage_commit(&setup->stage, fault);
    if (err && keyed)
        key_file_remove(keys_path(setup), setup->key_name, &ignored);
    if (!err && keyed)
        snprintf(setup->written[setup->written_n++], PATH_MAX, "%s", keys_path(setup));
    stage_drop(&setup->stage);
    return err;
}
