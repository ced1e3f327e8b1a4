// SPDX-License-Identifier: MIT
// bundle: one file for a bug report: logs, configuration without secrets, doctor's findings, what
// the daemon says of itself, and a few lines about the machine.  Never prompts, answers, keys.
#include "base/clock.h"
#include "client/archive.h"
#include "client/client.h"
#include "client/doctor.h"
#include "client/interrupt.h"
#include "client/program.h"
#include "client/redact.h"
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define PART_BYTES_MAX (16u << 20) // of one file in it: 5000 lines of a journal are 1 MB
#define LINE_BYTES     1024u
#define PARTS_MAX      16u
#define CONFIG_DEFAULT EXPERTD_SYSCONFDIR "/expertd/expertd.conf"

struct bundle {
    struct client *client;
    const char *config;
    char path[PATH_MAX], folder[64];
    struct archive *archive;
    struct {
        const char *name;
        size_t bytes;
    } parts[PARTS_MAX];
    uint32_t parts_n;
    size_t removed; // secrets
};

// A file of the bundle; text is what it holds.
struct part {
    const char *name, *what;
    void (*fill)(struct bundle *bundle, struct text *text);
};

__attribute__((format(printf, 2, 3))) static void line(struct text *text, const char *format, ...)
{
    char buf[LINE_BYTES];
    va_list args;

    va_start(args, format);
    int n = vsnprintf(buf, sizeof(buf), format, args);
    va_end(args);
    if (n > 0)
        text_append(text, buf, (size_t)n < sizeof(buf) ? (size_t)n : sizeof(buf) - 1,
                    PART_BYTES_MAX);
}

// lines_of adds the lines of a file that have one of the words; all of them without words.
static void lines_of(struct text *text, const char *path, const char *const *words, size_t words_n)
{
    char buf[LINE_BYTES];
    FILE *file = fopen(path, "re");

    if (!file)
        line(text, "%s: %s\n", path, strerror(errno));
    while (file && fgets(buf, sizeof(buf), file)) {
        bool wanted = words_n == 0;
        for (size_t i = 0; i < words_n && !wanted; i++)
            wanted = strncmp(buf, words[i], strlen(words[i])) == 0;
        if (wanted)
            line(text, "%s", buf);
    }
    if (file)
        fclose(file);
}

// said_by adds what a program says, or why it says nothing.
static void said_by(const struct bundle *bundle, struct text *text, const char *const argv[])
{
    int status = 0;
    int err = program_run(argv, bundle->client->interrupt_fd, PART_BYTES_MAX, text, &status);

    if (err)
        line(text, "%s: %s\n", argv[0], err == -ENOENT ? "not installed here" : strerror(-err));
    else if (status != 0)
        line(text, "(%s ended with status %d)\n", argv[0], status);
}

/* ----------------------------------------------------------------- parts */

static void fill_versions(struct bundle *bundle, struct text *text)
{
    static const char *const pretty[] = {"PRETTY_NAME"};
    char program[PATH_MAX];
    struct utsname names;

    line(text, "expertctl " EXPERTD_VERSION "\n");
    if (program_find("expertd", "daemon", program) == 0)
        said_by(bundle, text, (const char *const[]){program, "--version", NULL});
    else
        line(text, "expertd is not installed\n");
    if (uname(&names) == 0)
        line(text, "%s %s %s %s\n", names.sysname, names.release, names.version, names.machine);
    lines_of(text, "/etc/os-release", pretty, 1);
}

static void fill_machine(struct bundle *bundle, struct text *text)
{
    static const char *const memory[] = {"Mem",          "Swap",     "HugePages",
                                         "Hugepagesize", "AnonHuge", "Mlocked"};
    struct mntent *mount;
    FILE *cpu = fopen("/proc/cpuinfo", "re");
    char buf[LINE_BYTES];
    bool told = false;

    (void)bundle;
    while (cpu && !told && fgets(buf, sizeof(buf), cpu))
        if ((told = strncmp(buf, "model name", 10) == 0))
            line(text, "%s", buf);
    if (cpu)
        fclose(cpu);
    line(text, "processors: %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
    lines_of(text, "/proc/meminfo", memory, sizeof(memory) / sizeof(memory[0]));
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    while (mounts && (mount = getmntent(mounts)))
        if (mount->mnt_fsname[0] == '/')
            line(text, "%s %s %s %s\n", mount->mnt_fsname, mount->mnt_dir, mount->mnt_type,
                 mount->mnt_opts);
    if (mounts)
        endmntent(mounts);
}

static void fill_config(struct bundle *bundle, struct text *text)
{
    bool read = access(bundle->config, R_OK) == 0; // else the text is why not
    lines_of(text, bundle->config, NULL, 0);
    if (read && text->n > 0)
        bundle->removed += redact_config(text->bytes, text->n);
}

static void fill_doctor(struct bundle *bundle, struct text *text)
{
    struct doctor *doctor = calloc(1, sizeof(*doctor));
    json_t *report = NULL;

    if (doctor && doctor_judge(bundle->client, bundle->config, doctor) == 0)
        report = doctor_report(doctor);
    char *json = report ? json_dumps(report, JSON_INDENT(2)) : NULL;
    line(text, "%s", json ? "" : "stopped");
    if (json)
        text_append(text, json, strlen(json), PART_BYTES_MAX);
    free(json);
    json_decref(report);
    doctor_free(&doctor);
}

// fill_from asks the daemon.
static void fill_from(struct bundle *bundle, const char *target, struct text *text)
{
    struct fault fault = {0};
    unsigned status = 0;
    char *body = NULL;
    size_t len = 0;

    if (client_get(bundle->client, target, &status, &body, &len, &fault) != 0)
        line(text, "%s\n", fault.text);
    else
        text_append(text, body, len, PART_BYTES_MAX);
    free(body);
}

static void fill_health(struct bundle *bundle, struct text *text)
{
    fill_from(bundle, "/health", text);
}

static void fill_metrics(struct bundle *bundle, struct text *text)
{
    fill_from(bundle, "/metrics", text);
}

static void fill_unit(struct bundle *bundle, struct text *text)
{
    said_by(bundle, text,
            (const char *const[]){"systemctl", "--no-pager", "-n", "0", "status", "expertd", NULL});
    said_by(bundle, text, (const char *const[]){"systemctl", "--no-pager", "cat", "expertd", NULL});
}

static void fill_journal(struct bundle *bundle, struct text *text)
{
    said_by(bundle, text,
            (const char *const[]){"journalctl", "--no-pager", "-u", "expertd", "-n", "5000",
                                  "--output=short-iso", NULL});
}

// fill_kernel keeps what the kernel says about memory, drives and devices of ours.
static void fill_kernel(struct bundle *bundle, struct text *text)
{
    static const char *const words[] = {"oom",  "Out of memory", "nvme",      "vfio",   "expertd",
                                        "DMAR", "AMD-Vi",        "I/O error", "hugetlb"};
    struct text all = {0};
    int status = 0;

    int err = program_run((const char *const[]){"dmesg", NULL}, bundle->client->interrupt_fd,
                          PART_BYTES_MAX, &all, &status);
    if (err || status != 0)
        line(text, "dmesg cannot be read by this user\n");
    for (char *at = all.bytes; at && *at && !err;) {
        size_t len = strcspn(at, "\n");
        bool newline = at[len] == '\n', wanted = false;
        at[len] = '\0';
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
            wanted |= strstr(at, words[i]) != NULL;
        if (wanted)
            line(text, "%s\n", at);
        at += len + newline;
    }
    text_free(&all);
}

static const struct part parts[] = {
    {"versions.txt", "versions of programs, kernel, system", fill_versions},
    {"machine.txt", "processor, memory, mounted drives", fill_machine},
    {"expertd.conf", "the configuration, without secrets", fill_config},
    {"doctor.json", "expertctl doctor", fill_doctor},
    {"health.json", "/health of the daemon", fill_health},
    {"metrics.txt", "/metrics of the daemon", fill_metrics},
    {"unit.txt", "the service's state and unit", fill_unit},
    {"journal.txt", "the last 5000 lines of the service's log", fill_journal},
    {"kernel.txt", "lines of the kernel's log about memory, drives, devices", fill_kernel},
};

/* ------------------------------------------------------------------ whole */

static int bundle_add(struct bundle *bundle, const struct part *part, struct fault *fault)
{
    struct text text = {0};

    part->fill(bundle, &text);
    if (text.n > 0)
        bundle->removed += redact_text(text.bytes, text.n, bundle->client->key);
    int err = archive_add(bundle->archive, part->name, text.bytes ? text.bytes : "", text.n, fault);
    bundle->parts[bundle->parts_n].name = part->name;
    bundle->parts[bundle->parts_n++].bytes = text.n;
    text_free(&text);
    return err;
}

// bundle_name makes the names of the folder in it, and of the file if none is given.
static int bundle_name(struct bundle *bundle, int64_t now_s, struct fault *fault)
{
    const struct options *options = &bundle->client->options;
    time_t now = (time_t)now_s;
    struct tm day;

    if (!gmtime_r(&now, &day) ||
        strftime(bundle->folder, sizeof(bundle->folder), "expertd-bundle-%Y%m%d-%H%M%S", &day) == 0)
        return fault_set(fault, ERANGE, "the clock of this machine is wrong");
    int n = options->args_n > 0
                ? snprintf(bundle->path, sizeof(bundle->path), "%s", options->args[0])
                : snprintf(bundle->path, sizeof(bundle->path), "%s.tar.gz", bundle->folder);
    return n < PATH_MAX ? 0 : fault_set(fault, ENAMETOOLONG, "the path is too long");
}

static void bundle_say(const struct bundle *bundle)
{
    printf("%s, which only you can read:\n", bundle->path);
    for (uint32_t i = 0; i < bundle->parts_n; i++)
        printf("  %-14s %8zu bytes  %s\n", parts[i].name, bundle->parts[i].bytes, parts[i].what);
    printf("%zu secrets were overwritten.  No prompt or answer is in it; names of users and "
           "addresses of clients are.\nLook before you send it: tar -xzOf %s | less\n",
           bundle->removed, bundle->path);
}

static int bundle_json(const struct bundle *bundle)
{
    json_t *list = json_array();
    json_t *root = json_pack("{s:s, s:I, s:o}", "file", bundle->path, "removed",
                             (json_int_t)bundle->removed, "parts", list);

    for (uint32_t i = 0; root && i < bundle->parts_n; i++)
        json_array_append_new(list, json_pack("{s:s, s:I}", "name", parts[i].name, "bytes",
                                              (json_int_t)bundle->parts[i].bytes));
    if (!root)
        return -ENOMEM;
    client_print_json(root);
    json_decref(root);
    return 0;
}

int bundle_run(struct client *client)
{
    const struct options *options = &client->options;
    struct bundle *bundle = calloc(1, sizeof(*bundle));
    struct fault fault = {0};
    int64_t now_s = clock_unix_s();

    if (!bundle) {
        fault_set(&fault, ENOMEM, "out of memory");
        return client_complain(client, &fault);
    }
    client_interrupts(client);
    bundle->client = client;
    bundle->config = options->config ? options->config : CONFIG_DEFAULT;
    int err = bundle_name(bundle, now_s, &fault);
    if (!err)
        err = archive_create(bundle->path, bundle->folder, now_s, &bundle->archive, &fault);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && !err; i++) {
        err = bundle_add(bundle, &parts[i], &fault);
        if (!err && interrupt_pending(client->interrupt_fd))
            err = fault_set(&fault, ECANCELED, "stopped; %.200s was taken away", bundle->path);
    }
    if (!err)
        err = archive_finish(bundle->archive, &fault);
    archive_close(&bundle->archive);
    if (err)
        client_complain(client, &fault);
    else if (options->json)
        err = bundle_json(bundle);
    else if (!options->quiet)
        bundle_say(bundle);
    free(bundle);
    return err ? EXIT_FAILED : EXIT_DONE;
}
