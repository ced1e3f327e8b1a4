// SPDX-License-Identifier: MIT
// setup: what expertctl setup knows while it asks: findings of the machine, the configuration as it
// will be, and files that go beside it.  setup.c has the order of things, setup_questions.c the
// questions, setup_write.c what is written.
// One thread.
#pragma once
#include "api/keys.h"
#include "client/client.h"
#include "client/conf_edit.h"
#include "client/find.h"
#include "client/net_bind.h"
#include "client/sight.h"
#include "client/stage.h"
#include "io/net/nic.h"
#include "model/checkpoint.h"

#define SETUP_NICS_MAX  32u
#define SETUP_LINES_MAX 12u
#define SETUP_DROPIN    "/etc/systemd/system/expertd.service.d/port.conf"
#define SETUP_SIGHT     "/etc/systemd/system/expertd.service.d/home.conf"
#define SETUP_DEFAULT   EXPERTD_SYSCONFDIR "/expertd/expertd.conf"

struct setup {
    struct client *client;
    bool asks;             // there is a terminal, and --yes was not given
    const char *config;    // the file
    char dir[PATH_MAX];    // its directory, with a slash at its end
    bool usual;            // it is the service's own file
    struct text before;    // what it holds now
    bool there, edited;    // it is there; somebody changed it
    struct conf_edit edit; // as it will be

    struct find find;
    struct net_bind_nic nics[SETUP_NICS_MAX];
    uint32_t nics_n;
    struct checkpoint *checkpoint; // the chosen one
    char memory[256];              // what the plan is; "": nothing can be said
    char memory_short[512];        // why it does not fit; "": it does

    struct sight sight; // what the service has to be shown

    struct nic_name port, port_before; // kind NIC_KIND_COUNT: none
    bool self_signed;
    char key_name[KEYS_NAME_MAX]; // "": no key is made
    char key[KEYS_TEXT_MAX];      // the secret, once made

    struct stage stage;
    char written[SETUP_LINES_MAX][PATH_MAX];
    uint32_t written_n;
};

// setup_questions asks, or takes flags and defaults, until all is known; setup->edit has it then.
// Errors: -ECANCELED Ctrl-C; -EINVAL and others: a flag or a default that does not hold.
int setup_questions(struct setup *setup, struct fault *fault);

// setup_write puts all files in place, the key's last: nothing is changed where it fails.
int setup_write(struct setup *setup, struct fault *fault);
