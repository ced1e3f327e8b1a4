// SPDX-License-Identifier: MIT
// options: what expertctl understands.  One table of commands and one of options make the parser
// and --help; a test holds doc/man/expertctl.1 against --help.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define OPTION_ABSENT INT64_MIN // of the whole numbers below

enum command {
    COMMAND_NONE,
    COMMAND_ASK,
    COMMAND_CHAT,
    COMMAND_MODELS,
    COMMAND_STATUS,
    COMMAND_INSPECT,
    COMMAND_PACK,
    COMMAND_HASH,
    COMMAND_BENCH,
    COMMAND_KEY,
    COMMAND_NET,
    COMMAND_DEMO,
    COMMAND_SETUP,
    COMMAND_DOCTOR,
    COMMAND_BUNDLE,
    COMMAND_COUNT
};

struct options {
    enum command command;
    bool help, version;

    // All commands.
    const char *socket, *url, *key, *ca; // NULL: not given
    bool json, no_color, quiet;

    // ask, chat, bench, demo.
    const char *model; // NULL: the one that is served; demo: a directory
    int64_t max_tokens;
    double temperature; // NAN: not given
    int64_t seed;

    // ask, chat, demo.
    const char *system, *stop;
    double top_p, min_p; // NAN: not given
    int64_t top_k;
    const char *reasoning; // "show", "fold", "hide"; NULL: show on a terminal, else hide

    // inspect.
    const char *device;

    // pack; force: net too; both: setup.
    const char *drives; // directories, separated by commas; NULL: none
    bool force;

    // hash.
    const char *output;

    // pack, hash.
    bool verify;

    // bench.
    int64_t requests, parallel, prompt_tokens;

    // key.
    const char *file;
    int64_t rate, concurrency;

    // setup; config: doctor, bundle too.
    const char *config, *memory, *port, *address, *tls_certificate, *tls_key; // NULL: not given
    bool self_signed, no_key, yes;

    // doctor.
    bool hashes;

    char **args; // what is no option, behind the command
    int args_n;
};

// options_parse reads the command line.
//
// argv: [argc], kept: options point into it; reordered.
// Returns 0, or -EINVAL with a sentence that names the word that is wrong.
int options_parse(int argc, char **argv, struct options *ret, struct fault *fault);

// options_help prints what --help shows: of the whole program, or of one command.
void options_help(enum command command, FILE *out);
