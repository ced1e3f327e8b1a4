// SPDX-License-Identifier: MIT
#include "client/options.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define BIT(command) (1u << (command))
#define ON_ALL       (BIT(COMMAND_COUNT) - 1)
#define ON_TALK      (BIT(COMMAND_ASK) | BIT(COMMAND_CHAT) | BIT(COMMAND_DEMO))
#define ON_MODEL     (ON_TALK | BIT(COMMAND_BENCH))
#define ON_INSPECT   BIT(COMMAND_INSPECT)
#define ON_PACK      BIT(COMMAND_PACK)
#define ON_HASH      BIT(COMMAND_HASH)
#define ON_BENCH     BIT(COMMAND_BENCH)
#define ON_KEY       BIT(COMMAND_KEY)
#define ON_NET       BIT(COMMAND_NET)
#define ON_SETUP     BIT(COMMAND_SETUP)
#define ON_DOCTOR    BIT(COMMAND_DOCTOR)
#define ON_DEMO      BIT(COMMAND_DEMO)
#define ON_CONFIG    (ON_SETUP | ON_DOCTOR | BIT(COMMAND_BUNDLE))

enum option_type { OPTION_SWITCH, OPTION_TEXT, OPTION_WORD, OPTION_INT, OPTION_REAL };

struct command_row {
    const char *name;
    const char *args; // as the usage line writes them
    const char *help;
    int args_min, args_max;
};

static const struct command_row command_rows[] = {
    [COMMAND_NONE] = {"", "", "", 0, 0},
    [COMMAND_ASK] = {"ask", "[TEXT...]", "ask one question; '-' or no TEXT reads standard input", 0,
                     4096},
    [COMMAND_CHAT] = {"chat", "[TEXT...]", "talk; TEXT is the first message", 0, 4096},
    [COMMAND_MODELS] = {"models", "", "list the models that are served", 0, 0},
    [COMMAND_STATUS] = {"status", "", "show what the daemon is doing", 0, 0},
    [COMMAND_INSPECT] = {"inspect", "DIR",
                         "show a checkpoint's model card and memory plan; needs no daemon", 1, 1},
    [COMMAND_PACK] = {"pack", "SRC DST",
                      "make an expert-major store of a checkpoint's experts; needs no daemon", 1,
                      2},
    [COMMAND_HASH] = {"hash", "DIR",
                      "make the list of hashes of a checkpoint's experts; needs no daemon", 1, 1},
    [COMMAND_BENCH] = {"bench", "", "measure the running daemon", 0, 0},
    [COMMAND_KEY] = {"key", "add|list|revoke [NAME]",
                     "who may use the port: make, list, revoke keys; needs no daemon", 1, 2},
    [COMMAND_NET] = {"net", "[bind|unbind PCI]",
                     "show the port; give a NIC to the daemon, or back to the kernel", 0, 2},
    [COMMAND_DEMO] = {"demo", "[QUESTION...]",
                      "serve the demo model for a question, or for a chat on a terminal", 0, 4096},
    [COMMAND_SETUP] = {"setup", "[DIR...]",
                       "write the configuration; DIR: where to look for models; needs no daemon", 0,
                       64},
    [COMMAND_DOCTOR] = {"doctor", "",
                        "judge this machine for what is configured, and say what mends it", 0, 0},
    [COMMAND_BUNDLE] = {"bundle", "[FILE]", "collect what a bug report needs, without secrets", 0,
                        1},
};
static_assert(sizeof(command_rows) / sizeof(command_rows[0]) == COMMAND_COUNT, "every command");

struct option_row {
    const char *name;
    const char *value; // what the help calls it; NULL for a switch
    enum option_type type;
    unsigned commands; // bits of enum command
    size_t offset;     // in struct options
    double min, max;   // OPTION_INT, OPTION_REAL
    const char *words; // OPTION_WORD: "a|b|c"
    const char *help;
};

#define AT(field) offsetof(struct options, field)
#define INT_MAX_  9007199254740992.0 // 2^53: the largest that a double holds exactly

// clang-format off
static const struct option_row option_rows[] = {
    {"socket", "PATH", OPTION_TEXT, ON_ALL, AT(socket), 0, 0, NULL,
     "the daemon's Unix socket (/run/expertd/api.sock)"},
    {"url", "URL", OPTION_TEXT, ON_ALL, AT(url), 0, 0, NULL,
     "the daemon's address as https://HOST:PORT, or http:// on this machine"},
    {"ca", "FILE", OPTION_TEXT, ON_ALL, AT(ca), 0, 0, NULL,
     "https: certificates of who may have signed the daemon's (the system's)"},
    {"key", "KEY", OPTION_TEXT, ON_ALL, AT(key), 0, 0, NULL,
     "the key that the daemon asks for; EXPERTD_KEY keeps it out of process lists"},
    {"json", NULL, OPTION_SWITCH, ON_ALL, AT(json), 0, 0, NULL,
     "print JSON"},
    {"no-color", NULL, OPTION_SWITCH, ON_ALL, AT(no_color), 0, 0, NULL,
     "no colours on a terminal"},
    {"quiet", NULL, OPTION_SWITCH, ON_ALL, AT(quiet), 0, 0, NULL,
     "print the result alone: no reasoning, no figures"},
    {"help", NULL, OPTION_SWITCH, ON_ALL, AT(help), 0, 0, NULL,
     "this text; behind a command, that command's"},
    {"version", NULL, OPTION_SWITCH, ON_ALL, AT(version), 0, 0, NULL,
     "the version"},
    {"model", "NAME", OPTION_TEXT, ON_MODEL & ~ON_DEMO, AT(model), 0, 0, NULL,
     "the model's name (the one that is served)"},
    {"model", "DIR", OPTION_TEXT, ON_DEMO | ON_SETUP, AT(model), 0, 0, NULL,
     "the model's directory"},
    {"system", "TEXT", OPTION_TEXT, ON_TALK, AT(system), 0, 0, NULL,
     "a system message in front of the conversation"},
    {"reasoning", "show|fold|hide", OPTION_WORD, ON_TALK, AT(reasoning), 0, 0, "show|fold|hide",
     "what to do with the reasoning (show on a terminal, else hide)"},
    {"max-tokens", "N", OPTION_INT, ON_MODEL, AT(max_tokens), 1, INT_MAX_, NULL,
     "stop after N tokens, reasoning included"},
    {"temperature", "X", OPTION_REAL, ON_MODEL, AT(temperature), 0, 2, NULL,
     "0 takes the most likely token each time (the model's own default)"},
    {"top-p", "X", OPTION_REAL, ON_TALK, AT(top_p), 0, 1, NULL,
     "draw from the most likely tokens that make up X of the probability"},
    {"top-k", "N", OPTION_INT, ON_TALK, AT(top_k), 0, INT_MAX_, NULL,
     "draw from the N most likely tokens; 0: all"},
    {"min-p", "X", OPTION_REAL, ON_TALK, AT(min_p), 0, 1, NULL,
     "draw from tokens at least X times as likely as the most likely one"},
    {"seed", "N", OPTION_INT, ON_MODEL, AT(seed), -INT_MAX_, INT_MAX_, NULL,
     "the same seed gives the same answer"},
    {"stop", "TEXT", OPTION_TEXT, ON_TALK, AT(stop), 0, 0, NULL,
     "end the answer before this text"},
    {"device", "SELECT", OPTION_TEXT, ON_INSPECT, AT(device), 0, 0, NULL,
     "plan for this device: auto, an index, a UUID or part of its name (auto)"},
    {"drives", "DIR,DIR...", OPTION_TEXT, ON_PACK, AT(drives), 0, 0, NULL,
     "cut each record into parts, one a directory"},
    {"drives", "DIR,DIR...", OPTION_TEXT, ON_SETUP, AT(drives), 0, 0, NULL,
     "packs or copies of the model, or none"},
    {"force", NULL, OPTION_SWITCH, ON_PACK, AT(force), 0, 0, NULL,
     "replace what is there"},
    {"force", NULL, OPTION_SWITCH, ON_NET, AT(force), 0, 0, NULL,
     "bind even the NIC of the default route"},
    {"force", NULL, OPTION_SWITCH, ON_SETUP, AT(force), 0, 0, NULL,
     "replace what has values; take even the NIC of the default route"},
    {"output", "FILE", OPTION_TEXT, ON_HASH, AT(output), 0, 0, NULL,
     "the list (where the daemon looks for it)"},
    {"verify", NULL, OPTION_SWITCH, ON_PACK, AT(verify), 0, 0, NULL,
     "check what is there and write nothing: [SRC] DST"},
    {"verify", NULL, OPTION_SWITCH, ON_HASH, AT(verify), 0, 0, NULL,
     "check what is there and write nothing"},
    {"requests", "N", OPTION_INT, ON_BENCH, AT(requests), 1, 10000, NULL,
     "how many requests to send (4)"},
    {"parallel", "N", OPTION_INT, ON_BENCH, AT(parallel), 1, 256, NULL,
     "how many of them at a time (1)"},
    {"prompt-tokens", "N", OPTION_INT, ON_BENCH, AT(prompt_tokens), 1, 1 << 20, NULL,
     "tokens of each prompt (128)"},
    {"rate", "N", OPTION_INT, ON_KEY, AT(rate), 0, 1000000, NULL,
     "requests a minute that a new key has; 0: any number (what the daemon says)"},
    {"concurrency", "N", OPTION_INT, ON_KEY, AT(concurrency), 0, 65536, NULL,
     "requests at once that a new key has; 0: any number (what the daemon says)"},
    {"file", "PATH", OPTION_TEXT, ON_KEY, AT(file), 0, 0, NULL,
     "the keys (/etc/expertd/keys)"},
    {"config", "FILE", OPTION_TEXT, ON_CONFIG, AT(config), 0, 0, NULL,
     "the configuration (/etc/expertd/expertd.conf)"},
    {"memory", "SIZE", OPTION_TEXT, ON_SETUP, AT(memory), 0, 0, NULL,
     "for experts that are kept: 24G, 60%, or auto"},
    {"port", "PORT", OPTION_TEXT, ON_SETUP, AT(port), 0, 0, NULL,
     "a NIC's PCI address, tap:NAME, af_packet:IF, af_xdp:IF, or none"},
    {"address", "ADDRESS", OPTION_TEXT, ON_SETUP, AT(address), 0, 0, NULL,
     "of the port: dhcp, or A.B.C.D/N"},
    {"tls-certificate", "FILE", OPTION_TEXT, ON_SETUP, AT(tls_certificate), 0, 0, NULL,
     "of the port, with its chain"},
    {"tls-key", "FILE", OPTION_TEXT, ON_SETUP, AT(tls_key), 0, 0, NULL,
     "the certificate's private key"},
    {"self-signed", NULL, OPTION_SWITCH, ON_SETUP, AT(self_signed), 0, 0, NULL,
     "make a certificate for the port"},
    {"no-key", NULL, OPTION_SWITCH, ON_SETUP, AT(no_key), 0, 0, NULL,
     "make no key; --key NAME makes one of this name"},
    {"yes", NULL, OPTION_SWITCH, ON_SETUP, AT(yes), 0, 0, NULL,
     "ask nothing: take what was found"},
    {"hashes", NULL, OPTION_SWITCH, ON_DOCTOR, AT(hashes), 0, 0, NULL,
     "compare all experts with the list of hashes, not some of them"},
};
// clang-format on

#define OPTION_ROWS (sizeof(option_rows) / sizeof(option_rows[0]))

// Commands may share an option under different words: one row for each, of the same type and field.
static unsigned option_commands(const char *name)
{
    unsigned commands = 0;
    for (size_t i = 0; i < OPTION_ROWS; i++)
        if (strcmp(option_rows[i].name, name) == 0)
            commands |= option_rows[i].commands;
    return commands;
}

// option_find returns the row of a command, or any other of that name, or NULL.
static const struct option_row *option_find(const char *name, size_t len, enum command command)
{
    const struct option_row *found = NULL;
    for (size_t i = 0; i < OPTION_ROWS; i++)
        if (strlen(option_rows[i].name) == len && memcmp(option_rows[i].name, name, len) == 0 &&
            (!found || option_rows[i].commands & BIT(command)))
            found = &option_rows[i];
    return found;
}

// option_word_is_listed says whether the word is one of "a|b|c".
static bool option_word_is_listed(const char *words, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = words; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (len == strcspn(at, "|") && memcmp(at, word, len) == 0)
            return true;
    return false;
}

static int option_set_int(const struct option_row *row, const char *value, int64_t *ret,
                          struct fault *fault)
{
    char *end = NULL;
    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno || end == value || *end || (double)n < row->min || (double)n > row->max)
        return fault_set(fault, EINVAL, "--%s: '%s' is no whole number from %.0f to %.0f",
                         row->name, value, row->min, row->max);
    *ret = n;
    return 0;
}

static int option_set_real(const struct option_row *row, const char *value, double *ret,
                           struct fault *fault)
{
    char *end = NULL;
    double x = strtod(value, &end);
    if (end == value || *end || !(x >= row->min && x <= row->max))
        return fault_set(fault, EINVAL, "--%s: '%s' is no number from %g to %g", row->name, value,
                         row->min, row->max);
    *ret = x;
    return 0;
}

static int option_set(const struct option_row *row, const char *value, struct options *options,
                      struct fault *fault)
{
    void *field = (char *)options + row->offset;

    switch (row->type) {
    case OPTION_SWITCH:
        *(bool *)field = true;
        return 0;
    case OPTION_WORD:
        if (!option_word_is_listed(row->words, value))
            return fault_set(fault, EINVAL, "--%s: '%s' is none of %s", row->name, value,
                             row->words);
        *(const char **)field = value;
        return 0;
    case OPTION_TEXT:
        *(const char **)field = value;
        return 0;
    case OPTION_INT:
        return option_set_int(row, value, field, fault);
    case OPTION_REAL:
        return option_set_real(row, value, field, fault);
    }
    return -EINVAL;
}

// option_take handles argv[*at], which begins with '-', and its value.
//
// seen: [OPTION_ROWS]; the option's row is marked with the commands it belongs to.
static int option_take(int argc, char **argv, int *at, struct options *options, unsigned *seen,
                       struct fault *fault)
{
    const char *word = argv[*at] + 1 + (argv[*at][1] == '-');
    const char *equals = strchr(word, '=');
    size_t name_len = equals ? (size_t)(equals - word) : strlen(word);
    const struct option_row *row =
        argv[*at][1] == '-' ? option_find(word, name_len, options->command) : NULL;
    if (!row)
        return fault_set(fault, EINVAL,
                         "unknown option '%s' (a text that begins with '-' goes behind '--')",
                         argv[*at]);

    const char *value = NULL;
    if (row->type == OPTION_SWITCH) {
        if (equals)
            return fault_set(fault, EINVAL, "--%s takes no value", row->name);
    } else if (equals) {
        value = equals + 1;
    } else {
        if (*at + 1 >= argc)
            return fault_set(fault, EINVAL, "--%s needs a value: %s", row->name, row->value);
        value = argv[++*at];
    }
    seen[row - option_rows] = option_commands(row->name);
    return option_set(row, value, options, fault);
}

static enum command command_find(const char *name)
{
    for (int i = COMMAND_NONE + 1; i < COMMAND_COUNT; i++)
        if (strcmp(command_rows[i].name, name) == 0)
            return (enum command)i;
    return COMMAND_NONE;
}

// options_take_arg handles a word that is no option: the command, then its arguments, which move to
// the front of argv.
static int options_take_arg(char *word, struct options *options, struct fault *fault)
{
    if (options->command != COMMAND_NONE) {
        options->args[options->args_n++] = word;
        return 0;
    }
    options->command = command_find(word);
    if (options->command == COMMAND_NONE)
        return fault_set(fault, EINVAL, "unknown command '%s'", word);
    return 0;
}

static bool option_seen(const unsigned *seen, const char *name)
{
    for (size_t i = 0; i < OPTION_ROWS; i++)
        if (seen[i] && strcmp(option_rows[i].name, name) == 0)
            return true;
    return false;
}

// Options of which a line takes one.
static const char *const options_exclusive[][2] = {
    {"socket", "url"},
    {"key", "no-key"},
    {"self-signed", "tls-certificate"},
    {"self-signed", "tls-key"},
};

static int options_exclude(const unsigned *seen, struct fault *fault)
{
    for (size_t i = 0; i < sizeof(options_exclusive) / sizeof(options_exclusive[0]); i++) {
        const char *const *pair = options_exclusive[i];
        if (option_seen(seen, pair[0]) && option_seen(seen, pair[1]))
            return fault_set(fault, EINVAL, "--%s and --%s exclude each other", pair[0], pair[1]);
    }
    return 0;
}

// options_check looks at what can only be judged when the whole line is read.
static int options_check(const struct options *options, const unsigned *seen, struct fault *fault)
{
    const struct command_row *command = &command_rows[options->command];

    if (options->help || options->version)
        return 0;
    if (options->command == COMMAND_NONE)
        return fault_set(fault, EINVAL, "no command given");
    for (size_t i = 0; i < OPTION_ROWS; i++)
        if (seen[i] && !(seen[i] & BIT(options->command)))
            return fault_set(fault, EINVAL, "--%s is no option of '%s'", option_rows[i].name,
                             command->name);
    if (options->args_n < command->args_min)
        return fault_set(fault, EINVAL, "'%s' needs %s", command->name, command->args);
    if (options->args_n > command->args_max)
        return fault_set(fault, EINVAL, "'%s': unexpected argument '%s'", command->name,
                         options->args[command->args_max]);
    return options_exclude(seen, fault);
}

int options_parse(int argc, char **argv, struct options *ret, struct fault *fault)
{
    struct options options = {
        .temperature = NAN,
        .top_p = NAN,
        .min_p = NAN,
        .top_k = OPTION_ABSENT,
        .seed = OPTION_ABSENT,
        .max_tokens = OPTION_ABSENT,
        .requests = 4,
        .parallel = 1,
        .prompt_tokens = 128,
        .rate = OPTION_ABSENT,
        .concurrency = OPTION_ABSENT,
        .args = argv,
    };
    unsigned seen[OPTION_ROWS] = {0}; // commands that an option given belongs to
    bool options_end = false;         // "--" was seen

    for (int at = 1; at < argc; at++) {
        char *word = argv[at];
        int err = 0;
        if (options_end || word[0] != '-' || !word[1])
            err = options_take_arg(word, &options, fault);
        else if (strcmp(word, "--") == 0)
            options_end = true;
        else if (strcmp(word, "-h") == 0)
            options.help = true;
        else
            err = option_take(argc, argv, &at, &options, seen, fault);
        if (err)
            return err;
    }
    *ret = options;
    return options_check(ret, seen, fault);
}

static void options_help_rows(unsigned commands, unsigned without, FILE *out)
{
    for (size_t i = 0; i < OPTION_ROWS; i++) {
        const struct option_row *row = &option_rows[i];
        if (!(row->commands & commands) || row->commands == without)
            continue;
        char left[64];
        snprintf(left, sizeof(left), "--%s%s%s", row->name, row->value ? " " : "",
                 row->value ? row->value : "");
        fprintf(out, "  %-26s %s\n", left, row->help);
    }
}

// options_has_own says whether a command takes options that not every command takes.
static bool options_has_own(enum command command)
{
    for (size_t i = 0; i < OPTION_ROWS; i++)
        if ((option_rows[i].commands & BIT(command)) && option_rows[i].commands != ON_ALL)
            return true;
    return false;
}

void options_help(enum command command, FILE *out)
{
    if (command != COMMAND_NONE) {
        const struct command_row *row = &command_rows[command];
        fprintf(out, "Usage: expertctl [OPTION...] %s%s%s\n%s.\n", row->name,
                row->args[0] ? " " : "", row->args, row->help);
        if (options_has_own(command)) {
            fprintf(out, "\nOptions of %s:\n", row->name);
            options_help_rows(BIT(command), ON_ALL, out);
        }
    } else {
        fprintf(out, "Usage: expertctl [OPTION...] COMMAND [ARGUMENT...]\n"
                     "Talk to expertd, and look at model directories.\n\nCommands:\n");
        for (int i = COMMAND_NONE + 1; i < COMMAND_COUNT; i++) {
            char left[64];
            snprintf(left, sizeof(left), "%s %s", command_rows[i].name, command_rows[i].args);
            fprintf(out, "  %-26s %s\n", left, command_rows[i].help);
        }
        fprintf(out, "\n'expertctl COMMAND --help' lists the options of one command.\n");
    }
    fprintf(out, "\nOptions of every command:\n");
    options_help_rows(BIT(COMMAND_NONE), 0, out); // those of every command alone have this bit
    fprintf(out, "\nEnvironment: EXPERTD_SOCKET, EXPERTD_URL, EXPERTD_KEY, EXPERTD_CA, NO_COLOR.\n"
                 "Exit status: 0 done, 1 failed, 2 wrong usage, 3 the daemon is not reachable.\n"
                 "See expertctl(1).\n");
}
