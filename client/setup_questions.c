// SPDX-License-Identifier: MIT
#include "client/memory_plan.h"
#include "client/question.h"
#include "client/setup.h"
#include "config.h"
#include "model/pack.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_BYTES CONF_LIST_MAX

// A question: shown with what was found, answered by a flag, the user, or the default.
struct question {
    const char *prompt;
    bool (*needed)(const struct setup *setup);
    // offer shows what was found, and writes the default.
    void (*offer)(struct setup *setup, char *fallback, size_t bytes);
    // take judges an answer and puts it into the configuration.
    int (*take)(struct setup *setup, const char *answer, struct fault *fault);
};

// say prints a line of the conversation.
__attribute__((format(printf, 2, 3))) static void say(const struct setup *setup, const char *format,
                                                      ...)
{
    va_list args;

    if (!setup->asks)
        return;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
}

// number_of reads "1".."n".  Returns 0 if it is no such number.
static uint32_t number_of(const char *text, uint32_t n)
{
    char *end = NULL;
    unsigned long number = strtoul(text, &end, 10);
    return text[0] >= '1' && text[0] <= '9' && !*end && number <= n ? (uint32_t)number : 0;
}

// real_written says whether a path is written as it is really: the service has another directory,
// and is shown of homes what it needs, without the links that lead there.
static bool real_written(const char *path, const char *real)
{
    return path[0] != '/' || sight_home(path) || sight_home(real);
}

// shown notes what the service's sandbox hides of a directory.
static int shown(struct setup *setup, const char *dir, struct fault *fault)
{
    return setup->usual ? sight_add(&setup->sight, dir, fault) : 0;
}

static bool none(const char *answer)
{
    return !answer[0] || strcmp(answer, "none") == 0;
}

// beside makes the path of a file in the configuration's directory.
static int beside(const struct setup *setup, const char *name, char ret[PATH_MAX],
                  struct fault *fault)
{
    if (snprintf(ret, PATH_MAX, "%s%s", setup->dir, name) < PATH_MAX)
        return 0;
    return fault_set(fault, ENAMETOOLONG, "%.200s: the path is too long", setup->dir);
}

// credential says whether a path is one that only the unit can resolve.
static bool credential(const char *path)
{
    return path && strncmp(path, "credential:", 11) == 0;
}

/* ----------------------------------------------------------------- model */

// model_nth returns the n-th checkpoint that was found, from 1; NULL beyond the last.
static const struct find_one *model_nth(const struct setup *setup, uint32_t n)
{
    for (uint32_t i = 0; i < setup->find.n; i++)
        if (setup->find.found[i].kind == FIND_MODEL && --n == 0)
            return &setup->find.found[i];
    return NULL;
}

static void model_offer(struct setup *setup, char *fallback, size_t bytes)
{
    const char *now = conf_edit_get(&setup->edit, "model", "path");
    const struct find_one *one;

    say(setup, "\nThe model: a checkpoint as Hugging Face lays it out.\n");
    for (uint32_t i = 1; (one = model_nth(setup, i)); i++)
        say(setup, "  %2u  %s  (%.3g %s)\n", i, one->path,
            (double)one->bytes / (one->bytes < 1000000000 ? 1e6 : 1e9),
            one->bytes < 1000000000 ? "MB" : "GB");
    one = model_nth(setup, 1);
    snprintf(fallback, bytes, "%s", now ? now : one ? one->path : "none");
}

static int model_take(struct setup *setup, const char *answer, struct fault *fault)
{
    uint32_t n = number_of(answer, setup->find.n);
    const struct find_one *one = n ? model_nth(setup, n) : NULL;

    if (none(answer))
        return fault_set(fault, ENOENT,
                         "no checkpoint was found: name its directory (--model DIR), or where to "
                         "look (expertctl setup DIR)");
    const char *path = one ? one->path : answer;
    char *real = realpath(path, NULL);
    if (real && real_written(path, real))
        path = real;
    checkpoint_close(&setup->checkpoint);
    int err = checkpoint_open(path, &setup->checkpoint, fault);
    if (err == -ENOENT && !answer[strspn(answer, "0123456789")])
        err = fault_set(fault, ENOENT, "there is no number %.20s above, and no such directory",
                        answer);
    setup->sight.n = 0;
    if (!err)
        err = shown(setup, path, fault);
    if (!err)
        err = conf_edit_set(&setup->edit, "model", "path", path, fault);
    free(real);
    return err;
}

/* ---------------------------------------------------------------- drives */

static bool shards_copy(const struct setup *setup, const char *dir)
{
    for (uint32_t i = 0; i < checkpoint_file_count(setup->checkpoint); i++) {
        const char *path = safetensors_path(checkpoint_file(setup->checkpoint, i));
        const char *slash = strrchr(path, '/');
        struct stat st;
        if (stat(path, &st) == 0 &&
            find_copies(dir, slash ? slash + 1 : path, (uint64_t)st.st_size))
            return true;
    }
    return false;
}

static bool pack_fits(const struct setup *setup, const char *dir, struct fault *fault)
{
    struct pack *pack = NULL;
    bool fits = pack_open(dir, setup->checkpoint, &pack, fault) == 0;
    pack_close(&pack);
    return fits;
}

static bool dir_is_pack(const char *dir)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof(path), "%s/manifest.json", dir) < PATH_MAX &&
           access(path, F_OK) == 0;
}

// drives_use says whether what was found belongs to the checkpoint, and lies on another drive or is
// a pack.
static bool drives_use(const struct setup *setup, const struct find_one *one)
{
    const char *model = checkpoint_dir(setup->checkpoint);
    struct fault ignored;
    struct stat st;

    if (strchr(one->path, ',')) // which the list of drives cannot name
        return false;
    if (one->kind == FIND_PACK)
        return pack_fits(setup, one->path, &ignored);
    return stat(model, &st) == 0 && st.st_dev != one->dev && shards_copy(setup, one->path);
}

static void list_join(char *list, size_t bytes, const char *text)
{
    size_t used = strlen(list);
    if (used + strlen(text) + 2 <= bytes)
        snprintf(list + used, bytes - used, "%s%s", used ? "," : "", text);
}

static void drives_offer(struct setup *setup, char *fallback, size_t bytes)
{
    const char *packs_now = conf_edit_get(&setup->edit, "drives", "pack");
    const char *shards_now = conf_edit_get(&setup->edit, "drives", "shards");
    char packs[ANSWER_BYTES] = "", shards[ANSWER_BYTES] = "";

    say(setup, "\nDrives: packs of this checkpoint (expertctl pack), or copies of its shards on "
               "other drives.\n");
    for (uint32_t i = 0; i < setup->find.n; i++) {
        const struct find_one *one = &setup->find.found[i];
        if (!drives_use(setup, one))
            continue;
        say(setup, "      %s  (%s)\n", one->path, one->kind == FIND_PACK ? "a pack" : "a copy");
        list_join(one->kind == FIND_PACK ? packs : shards, ANSWER_BYTES, one->path);
    }
    const char *now = packs_now ? packs_now : shards_now;
    const char *found = packs[0] ? packs : shards[0] ? shards : "none";
    snprintf(fallback, bytes, "%s", now ? now : found);
}

// drives_sort puts each directory to the packs or to the copies.
static int drives_sort(struct setup *setup, char *answer, char *packs, char *shards,
                       struct fault *fault)
{
    const char *dirs[STREAM_DIRS_MAX + 1];
    uint32_t n = conf_list_split(answer, dirs, STREAM_DIRS_MAX + 1);

    if (n > STREAM_DIRS_MAX)
        return fault_set(fault, EINVAL, "at most %u directories can be named", STREAM_DIRS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        const char *dir = dirs[i] + strspn(dirs[i], " ");
        char *real = realpath(dir, NULL);
        if (!real)
            return fault_set(fault, errno, "%.200s: %s", dir, strerror(errno));
        bool pack = dir_is_pack(real), fits = pack ? pack_fits(setup, real, fault) : true;
        if (fits)
            list_join(pack ? packs : shards, ANSWER_BYTES, real_written(dir, real) ? real : dir);
        if (!pack && !shards_copy(setup, real))
            fits = fault_set(fault, ENOENT, "%.200s holds neither a pack nor a shard of %.150s",
                             dir, checkpoint_dir(setup->checkpoint)) == 0;
        if (fits)
            fits = shown(setup, real, fault) == 0;
        free(real);
        if (!fits)
            return -EINVAL;
    }
    if (packs[0] && shards[0])
        return fault_set(fault, EINVAL,
                         "packs and copies of shards exclude each other: experts come from one or "
                         "the other");
    return 0;
}

static int drives_take(struct setup *setup, const char *answer, struct fault *fault)
{
    char list[ANSWER_BYTES] = "", packs[ANSWER_BYTES] = "", shards[ANSWER_BYTES] = "";

    if (!none(answer))
        snprintf(list, sizeof(list), "%s", answer);
    setup->sight.n = 0; // without what a refused answer added
    int err = shown(setup, checkpoint_dir(setup->checkpoint), fault);
    if (!err)
        err = drives_sort(setup, list, packs, shards, fault);
    if (!err)
        err = conf_edit_set(&setup->edit, "drives", "pack", packs, fault);
    return err ? err : conf_edit_set(&setup->edit, "drives", "shards", shards, fault);
}

/* ---------------------------------------------------------------- memory */

// conf_now is the configuration as it stands.  Returns NULL if it does not hold, or without memory.
static struct conf *conf_now(const struct setup *setup)
{
    struct conf *conf = calloc(1, sizeof(*conf));
    struct text text = {0};
    struct fault ignored;

    if (conf)
        conf_defaults(conf);
    if (conf && (conf_edit_text(&setup->edit, &text, &ignored) != 0 ||
                 conf_parse(conf, setup->config, text.bytes, text.n, &ignored) != 0)) {
        free(conf);
        conf = NULL;
    }
    text_free(&text);
    return conf;
}

// memory_planned has the daemon's plan made for the model that was chosen.
//
// kv_tokens: in place of kv_tokens_max.  Returns -ENOMEM if it does not fit, other errors if
// nothing can be said.
static int memory_planned(const struct setup *setup, uint32_t kv_tokens, struct engine_room *ret,
                          struct fault *fault)
{
    struct conf *conf = conf_now(setup);
    struct device_info device;
    int err = -EINVAL;

    if (conf) {
        conf->limits_kv_tokens_max = kv_tokens;
        err = device_info_get(conf->device_select, &device, fault);
        bool whole = !err && client_serving(setup->client, conf->listen_socket);
        if (!err)
            err = memory_plan_try(conf, setup->checkpoint, &device, whole, ret, fault);
    }
    free(conf);
    return err;
}

static void memory_offer(struct setup *setup, char *fallback, size_t bytes)
{
    const char *now = conf_edit_get(&setup->edit, "experts", "ram");

    snprintf(fallback, bytes, "%s", now ? now : "auto");
    say(setup, "\nMemory for routed experts that are kept: a size (24G), a share of the machine's "
               "(60%%), or auto.\n");
}

// memory_told keeps what is to be said of the plan for the report.
static void memory_told(struct setup *setup, uint32_t kv_tokens, const struct engine_room *room)
{
    uint64_t held = room->experts_held_n < room->experts_n ? room->experts_held_n : room->experts_n;
    int n =
        snprintf(setup->memory, sizeof(setup->memory), "%.3g of %.3g GB are taken before experts",
                 (double)room->need_bytes / 1e9, (double)room->have_bytes / 1e9);

    if (held == room->experts_n)
        n = snprintf(setup->memory, sizeof(setup->memory), "everything fits: %.3g of %.3g GB",
                     (double)room->need_bytes / 1e9, (double)room->have_bytes / 1e9);
    else
        n += snprintf(setup->memory + n, sizeof(setup->memory) - (size_t)n,
                      "; %" PRIu64 " of %" PRIu64 " experts are kept, the others read from drives",
                      held, room->experts_n);
    if (kv_tokens > 0)
        snprintf(setup->memory + n, sizeof(setup->memory) - (size_t)n,
                 "; [limits] kv_tokens_max = %u, which all sequences share", kv_tokens);
}

// memory_fit lets sequences share KV memory where all of them at full length do not fit beside the
// weights, as V3 on a card of 24 or 32 GB.
static int memory_fit(struct setup *setup, struct fault *fault)
{
    struct conf *conf = conf_now(setup);
    struct engine_room room;
    struct fault why = {0};
    char tokens[16];

    setup->memory[0] = setup->memory_short[0] = '\0';
    if (!conf)
        return 0;
    uint32_t context = memory_context(conf, setup->checkpoint);
    uint32_t kv = conf->limits_kv_tokens_max;
    free(conf);
    if (kv < context) // not chosen, or for another model: it would not start
        kv = 0;
    int planned = memory_planned(setup, kv, &room, &why);
    if (planned == -ENOMEM && kv == 0)
        planned = memory_planned(setup, kv = context, &room, &why);
    if (planned == -ENOMEM)
        snprintf(setup->memory_short, sizeof(setup->memory_short), "%s", why.text);
    if (planned)
        return 0;
    memory_told(setup, kv, &room);
    snprintf(tokens, sizeof(tokens), "%u", kv);
    return conf_edit_set(&setup->edit, "limits", "kv_tokens_max", kv > 0 ? tokens : NULL, fault);
}

static int memory_take(struct setup *setup, const char *answer, struct fault *fault)
{
    bool automatic = strcmp(answer, "auto") == 0 || strcmp(answer, "0") == 0;
    char line[ANSWER_BYTES + 32];
    struct conf *conf = calloc(1, sizeof(*conf));

    if (!conf)
        return fault_set(fault, ENOMEM, "out of memory");
    snprintf(line, sizeof(line), "experts.ram=%s", automatic ? "0" : answer);
    int err = conf_set(conf, line, fault);
    free(conf);
    if (err)
        return fault_set(
            fault, EINVAL,
            "'%.60s' is no amount of memory: auto, a size as 24G (at most 64T), or a share "
            "as 60%%",
            answer);
    err = conf_edit_set(&setup->edit, "experts", "ram", automatic ? NULL : answer, fault);
    if (!err)
        err = memory_fit(setup, fault);
    if (!err && setup->memory[0])
        say(setup, "      %s.\n", setup->memory);
    return err;
}

/* ------------------------------------------------------------------ port */

static void port_offer(struct setup *setup, char *fallback, size_t bytes)
{
    const char *now = conf_edit_get(&setup->edit, "net", "port");

    say(setup, "\nA NIC for expertd alone: its wire never touches the kernel's network.\n");
    for (uint32_t i = 0; i < setup->nics_n; i++) {
        const struct net_bind_nic *nic = &setup->nics[i];
        say(setup, "  %2u  %s  %s%s%s%s\n", i + 1, nic->pci,
            nic->driver[0] ? nic->driver : "no driver", nic->interface[0] ? ", " : "",
            nic->interface, nic->routed ? ", carries this machine's default route" : "");
    }
    say(setup, "      or tap:NAME, af_packet:IF, af_xdp:IF; none: the Unix socket alone\n");
    snprintf(fallback, bytes, "%s", now ? now : "none");
}

// port_routed: taking the interface that carries the login cuts it off.
static bool port_routed(const struct setup *setup)
{
    if (setup->port.kind == NIC_AF_PACKET || setup->port.kind == NIC_AF_XDP)
        return net_bind_routed("", setup->port.device);
    for (uint32_t i = 0; setup->port.kind == NIC_PCI && i < setup->nics_n; i++)
        if (strcmp(setup->nics[i].pci, setup->port.device) == 0)
            return setup->nics[i].routed;
    return false;
}

// port_absent: a typing error, or a configuration for another machine, which takes --force.
static bool port_absent(const struct setup *setup)
{
    char path[sizeof("/sys/bus/pci/devices/") + NIC_NAME_MAX];

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", setup->port.device);
    return setup->port.kind == NIC_PCI && access(path, F_OK) != 0;
}

static int port_take(struct setup *setup, const char *answer, struct fault *fault)
{
    uint32_t n = number_of(answer, setup->nics_n);
    const char *text = n ? setup->nics[n - 1].pci : answer;

    setup->port.kind = NIC_KIND_COUNT;
    if (none(answer))
        return conf_edit_set(&setup->edit, "net", "port", NULL, fault);
    int err = nic_parse(text, &setup->port, fault);
    if (!err && !setup->client->options.force && port_absent(setup))
        err = fault_set(fault, ENODEV,
                        "%s: no such PCI device here; 'lspci -D | grep -i ether' lists them; "
                        "--force takes it all the same",
                        text);
    if (!err && !setup->client->options.force && port_routed(setup))
        err = fault_set(fault, EBUSY,
                        "%s carries this machine's default route: it would be cut off; --force "
                        "takes it all the same",
                        text);
    if (err) {
        setup->port.kind = NIC_KIND_COUNT;
        return err;
    }
    return conf_edit_set(&setup->edit, "net", "port", text, fault);
}

static bool port_needed(const struct setup *setup)
{
    return setup->port.kind != NIC_KIND_COUNT;
}

static void address_offer(struct setup *setup, char *fallback, size_t bytes)
{
    const char *now = conf_edit_get(&setup->edit, "net", "address");
    snprintf(fallback, bytes, "%s", now ? now : "dhcp");
}

static int address_take(struct setup *setup, const char *answer, struct fault *fault)
{
    bool dhcp = strcmp(answer, "dhcp") == 0;

    if (!dhcp && strspn(answer, "0123456789./") != strlen(answer))
        return fault_set(fault, EINVAL, "'%.60s' is neither dhcp nor an address as 10.77.0.2/24",
                         answer);
    return conf_edit_set(&setup->edit, "net", "address", dhcp ? NULL : answer, fault);
}

static void certificate_offer(struct setup *setup, char *fallback, size_t bytes)
{
    const char *now = conf_edit_get(&setup->edit, "net", "tls_certificate");
    char path[PATH_MAX];
    struct fault ignored;

    // One that an earlier setup has made stays: clients may trust it by now.
    if (!now && beside(setup, "tls.crt", path, &ignored) == 0 && access(path, R_OK) == 0)
        now = path;
    snprintf(fallback, bytes, "%s", now ? now : "self-signed");
}

// file_take sets an option to a file that can be read, or to what the unit passes.  The service has
// another directory, so its path becomes absolute.
static int file_take(struct setup *setup, const char *key, const char *answer, struct fault *fault)
{
    char path[PATH_MAX], here[PATH_MAX] = "";

    if (credential(answer))
        return conf_edit_set(&setup->edit, "net", key, answer, fault);
    if (access(answer, R_OK) != 0 || (answer[0] != '/' && !getcwd(here, sizeof(here))))
        return fault_set(fault, errno, "%.200s: %s", answer, strerror(errno));
    if (snprintf(path, sizeof(path), "%s%s%s", here, here[0] ? "/" : "", answer) >= PATH_MAX)
        return fault_set(fault, ENAMETOOLONG, "%.200s: the path is too long", answer);
    return conf_edit_set(&setup->edit, "net", key, path, fault);
}

static int certificate_take(struct setup *setup, const char *answer, struct fault *fault)
{
    char path[PATH_MAX];

    setup->self_signed = strcmp(answer, "self-signed") == 0;
    if (!setup->self_signed)
        return file_take(setup, "tls_certificate", answer, fault);
    int err = beside(setup, "tls.crt", path, fault);
    if (!err)
        err = conf_edit_set(&setup->edit, "net", "tls_certificate", path, fault);
    if (!err)
        err = beside(setup, "tls.key", path, fault);
    return err ? err : conf_edit_set(&setup->edit, "net", "tls_key", path, fault);
}

static bool tls_key_needed(const struct setup *setup)
{
    return port_needed(setup) && !setup->self_signed;
}

static void tls_key_offer(struct setup *setup, char *fallback, size_t bytes)
{
    const char *now = conf_edit_get(&setup->edit, "net", "tls_key");
    const char *certificate = conf_edit_get(&setup->edit, "net", "tls_certificate");
    char path[PATH_MAX];
    struct fault ignored;

    if (!now && beside(setup, "tls.key", path, &ignored) == 0 && access(path, R_OK) == 0)
        now = path;
    snprintf(fallback, bytes, "%s", now ? now : certificate); // one file may hold both
}

static int tls_key_take(struct setup *setup, const char *answer, struct fault *fault)
{
    return file_take(setup, "tls_key", answer, fault);
}

/* ------------------------------------------------------------------- key */

static uint32_t keys_there(const struct setup *setup)
{
    const char *path = conf_edit_get(&setup->edit, "net", "keys");
    struct keys *keys = NULL;
    struct fault ignored;
    char usual[PATH_MAX];

    if (beside(setup, "keys", usual, &ignored) != 0 ||
        keys_load(path ? path : usual, NULL, &keys, &ignored) != 0)
        return 0;
    uint32_t n = keys_n(keys);
    keys_destroy(&keys);
    return n;
}

static void key_offer(struct setup *setup, char *fallback, size_t bytes)
{
    const char *user = getenv("SUDO_USER");
    uint32_t n = keys_there(setup);
    bool elsewhere = credential(conf_edit_get(&setup->edit, "net", "keys"));
    bool wanted = port_needed(setup) && n == 0 && !elsewhere;

    say(setup, "\nA key: every request on the NIC needs one; the Unix socket asks for none.\n");
    if (n > 0)
        say(setup, "      %u %s there already.\n", n, n == 1 ? "is" : "are");
    snprintf(fallback, bytes, "%s",
             !wanted                         ? "none"
             : user && keys_name_valid(user) ? user
                                             : "admin");
}

static int key_take(struct setup *setup, const char *answer, struct fault *fault)
{
    char path[PATH_MAX];
    int err = 0;

    if (!setup->usual && !conf_edit_get(&setup->edit, "net", "keys") && port_needed(setup)) {
        err = beside(setup, "keys", path, fault);
        if (!err)
            err = conf_edit_set(&setup->edit, "net", "keys", path, fault);
    }
    setup->key_name[0] = '\0';
    if (err || none(answer))
        return err;
    if (credential(conf_edit_get(&setup->edit, "net", "keys")))
        return fault_set(fault, EINVAL,
                         "the unit passes the keys ([net] keys = %.200s): expertctl key add %.63s "
                         "--file FILE, the one that LoadCredential= names",
                         conf_edit_get(&setup->edit, "net", "keys"), answer);
    if (!keys_name_valid(answer))
        return fault_set(fault, EINVAL,
                         "a key's name is 1 to 63 letters, digits, '.', '_', '-' or '@', begins "
                         "with a letter or a digit, and not with sk-");
    snprintf(setup->key_name, sizeof(setup->key_name), "%s", answer);
    return 0;
}

/* ------------------------------------------------------------- all of it */

enum {
    ASK_MODEL,
    ASK_DRIVES,
    ASK_MEMORY,
    ASK_PORT,
    ASK_ADDRESS,
    ASK_CERTIFICATE,
    ASK_TLS_KEY,
    ASK_KEY,
    ASK_COUNT
};

static const struct question questions[ASK_COUNT] = {
    [ASK_MODEL] = {"Directory, or its number", NULL, model_offer, model_take},
    [ASK_DRIVES] = {"Directories, commas between, or none", NULL, drives_offer, drives_take},
    [ASK_MEMORY] = {"Memory", NULL, memory_offer, memory_take},
    [ASK_PORT] = {"NIC, or its number, or none", NULL, port_offer, port_take},
    [ASK_ADDRESS] = {"Its address: dhcp, or A.B.C.D/N", port_needed, address_offer, address_take},
    [ASK_CERTIFICATE] = {"Its certificate: a file, or self-signed", port_needed, certificate_offer,
                         certificate_take},
    [ASK_TLS_KEY] = {"The certificate's key: a file", tls_key_needed, tls_key_offer, tls_key_take},
    [ASK_KEY] = {"Name of a key to make, or none", NULL, key_offer, key_take},
};

// flag_of returns what the command line says for a question, or NULL.
static const char *flag_of(const struct options *options, uint32_t question)
{
    const char *const flags[ASK_COUNT] = {
        [ASK_MODEL] = options->model,
        [ASK_DRIVES] = options->drives,
        [ASK_MEMORY] = options->memory,
        [ASK_PORT] = options->port,
        [ASK_ADDRESS] = options->address,
        [ASK_CERTIFICATE] = options->self_signed ? "self-signed" : options->tls_certificate,
        [ASK_TLS_KEY] = options->tls_key,
        [ASK_KEY] = options->no_key ? "none" : options->key,
    };
    return flags[question];
}

// question_put asks until the answer holds.
static int question_put(struct setup *setup, uint32_t number, struct fault *fault)
{
    const struct question *question = &questions[number];
    const char *flag = flag_of(&setup->client->options, number);
    char fallback[ANSWER_BYTES] = "", answer[ANSWER_BYTES] = "";

    if (flag)
        return question->take(setup, flag, fault);
    question->offer(setup, fallback, sizeof(fallback));
    if (!setup->asks)
        return question->take(setup, fallback, fault);
    for (;;) {
        int err = question_ask(setup->client, question->prompt, fallback, answer, sizeof(answer));
        if (err == -ECANCELED)
            return fault_set(fault, ECANCELED, "stopped; nothing was changed");
        if (err)
            err = fault_set(fault, -err, "the answer is too long");
        else
            err = question->take(setup, answer, fault);
        if (!err)
            return 0;
        client_complain(setup->client, fault);
    }
}

// question_skip refuses a flag that answers what is not asked: it would be lost without a word.
static int question_skip(const struct setup *setup, uint32_t number, struct fault *fault)
{
    if (!flag_of(&setup->client->options, number))
        return 0;
    if (port_needed(setup))
        return fault_set(fault, EINVAL, "--tls-key: setup makes the certificate, and its key too");
    return fault_set(fault, EINVAL,
                     "address and certificate are a port's, and there is none: "
                     "--port names one");
}

int setup_questions(struct setup *setup, struct fault *fault)
{
    int err = 0;

    for (uint32_t i = 0; i < ASK_COUNT && !err; i++)
        err = !questions[i].needed || questions[i].needed(setup) ? question_put(setup, i, fault)
                                                                 : question_skip(setup, i, fault);
    return err;
}
