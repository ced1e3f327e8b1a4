// SPDX-License-Identifier: MIT
// demo: expertd on the installed demo model, for as long as a question or a chat takes.  A daemon
// of its own behind a private socket: it reads no configuration, and any user may run it.
#include "client/client.h"
#include "client/http_call.h"
#include "client/interrupt.h"
#include "client/program.h"
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEMO_MODEL    EXPERTD_DATADIR "/demo"
#define DEMO_QUESTION "Compute 66 - 57 - 8."
#define LOOK_MS       100  // between two looks whether it is ready
#define SILENCE_MS    5000 // of one such look
#define LOG_TAIL      2000 // bytes of its log that are shown when it fails
#define SOCKET_DIR    80   // bytes of the folder's path: a socket's has room for 107

struct demo {
    struct client *client;
    const char *model;
    char program[PATH_MAX];
    char dir[SOCKET_DIR + 32], socket[SOCKET_DIR + 64], log[SOCKET_DIR + 64];
    int log_fd;
    pid_t pid; // 0: none
};

// demo_dir makes the private folder.
static int demo_dir(struct demo *demo, struct fault *fault)
{
    const char *places[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};

    errno = ENOENT;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        const char *place = places[i];
        if (!place || place[0] != '/' || strlen(place) > SOCKET_DIR)
            continue;
        snprintf(demo->dir, sizeof(demo->dir), "%s/expertd-demo.XXXXXX", place);
        if (mkdtemp(demo->dir)) {
            snprintf(demo->socket, sizeof(demo->socket), "%s/api.sock", demo->dir);
            snprintf(demo->log, sizeof(demo->log), "%s/log", demo->dir);
            return address_unix(demo->socket, &demo->client->address, fault);
        }
    }
    demo->dir[0] = '\0';
    return fault_set(fault, errno, "no place for a private socket (TMPDIR, /tmp): %s",
                     strerror(errno));
}

// demo_find checks that there is a daemon and a model.
static int demo_find(struct demo *demo, struct fault *fault)
{
    struct stat st;

    demo->model = demo->client->options.model ? demo->client->options.model : DEMO_MODEL;
    demo->client->options.model = NULL; // of the questions: the one that is served
    if (stat(demo->model, &st) != 0 && demo->model[0] == '/' &&
        strcmp(demo->model, DEMO_MODEL) == 0)
        return fault_set(fault, ENOEXEC,
                         "the demo model is not installed in %s: install the package "
                         "expertd-demo-model, or name a model's directory with --model",
                         demo->model);
    if (program_find("expertd", "daemon", demo->program) != 0)
        return fault_set(fault, ENOEXEC,
                         "the program expertd is not installed: install the package expertd");
    return 0;
}

static int demo_start(struct demo *demo, struct fault *fault)
{
    const char *const argv[] = {demo->program,     "--config", "/dev/null",  "--model",
                                demo->model,       "--socket", demo->socket, "--set",
                                "model.name=demo", NULL};

    demo->log_fd = open(demo->log, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (demo->log_fd < 0)
        return fault_set(fault, errno, "%s: %s", demo->log, strerror(errno));
    int err = program_start(argv, demo->log_fd, &demo->pid);
    return err ? fault_set(fault, -err, "%s: %s", demo->program, strerror(-err)) : 0;
}

// demo_failed tells why the daemon ended, in its own words: the last error of its log, or what it
// said last.
static int demo_failed(struct demo *demo, struct fault *fault)
{
    struct text log = {0};
    const char *line = "";

    int fd = open(demo->log, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && lseek(fd, -LOG_TAIL, SEEK_END) < 0)
        lseek(fd, 0, SEEK_SET);
    if (fd >= 0 && text_read_fd(&log, fd, LOG_TAIL) == 0 && log.n > 0) {
        while (log.n > 0 && log.bytes[log.n - 1] == '\n')
            log.bytes[--log.n] = '\0';
        const char *newline = strrchr(log.bytes, '\n');
        line = newline ? newline + 1 : log.bytes;
        for (const char *at = log.bytes; (at = strstr(at, "expertd: error: ")); at++)
            line = at;
        log.bytes[(size_t)(line - log.bytes) + strcspn(line, "\n")] = '\0';
    }
    if (fd >= 0)
        close(fd);
    demo->pid = 0;
    fault_set(fault, ENOEXEC, "expertd did not start: %s", line);
    text_free(&log);
    return -ENOEXEC;
}

// demo_serves asks once whether it is ready.
static bool demo_serves(const struct demo *demo)
{
    struct http_request request = {.method = "GET", .target = "/health"};
    struct http_call *call = NULL;
    bool serves = false;

    if (access(demo->socket, F_OK) != 0 ||
        http_call_open(&demo->client->address, &request, -1, &call, NULL) != 0)
        return false;
    serves = http_call_finish(call, -1, SILENCE_MS, NULL) == 0 && http_call_status(call) == 200;
    http_call_close(&call);
    return serves;
}

// demo_wait waits until it serves.  The first start compiles kernels, for as long as that takes.
static int demo_wait(struct demo *demo, struct fault *fault)
{
    struct pollfd interrupt = {.fd = demo->client->interrupt_fd, .events = POLLIN};

    while (!demo_serves(demo)) {
        if (waitpid(demo->pid, NULL, WNOHANG) == demo->pid)
            return demo_failed(demo, fault);
        if (poll(&interrupt, 1, LOOK_MS) > 0)
            return fault_set(fault, ECANCELED, "stopped");
    }
    return 0;
}

// demo_talk asks the question, or goes on as a chat on a terminal.
static int demo_talk(struct demo *demo)
{
    struct options *options = &demo->client->options;
    static char question[] = DEMO_QUESTION;
    static char *words[] = {question};

    if (isnan(options->temperature))
        options->temperature = 0; // the same answer each time
    if (!options->reasoning && options->args_n == 0 && !options->quiet)
        options->reasoning = "show";
    if (options->args_n > 0)
        return ask_run(demo->client);
    options->args = words;
    options->args_n = 1;
    if (demo->client->terminal.in_tty && demo->client->terminal.out_tty)
        return chat_run(demo->client);
    if (!options->quiet && !options->json)
        printf("> %s\n", question);
    return ask_run(demo->client);
}

static void demo_end(struct demo *demo)
{
    if (demo->pid > 0)
        program_end(demo->pid);
    if (demo->log_fd >= 0)
        close(demo->log_fd);
    if (demo->dir[0]) {
        unlink(demo->log);
        unlink(demo->socket);
        rmdir(demo->dir);
    }
}

int demo_run(struct client *client)
{
    struct demo demo = {.client = client, .log_fd = -1};
    struct fault fault = {0};
    int status = EXIT_FAILED;

    client_interrupts(client);
    client->key = NULL; // of another daemon
    int err = demo_find(&demo, &fault);
    if (!err)
        err = demo_dir(&demo, &fault);
    if (!err)
        err = demo_start(&demo, &fault);
    if (!err && !client->options.quiet)
        fprintf(stderr, "Starting expertd on %s ...\n", demo.model);
    if (!err)
        err = demo_wait(&demo, &fault);
    if (err)
        client_complain(client, &fault);
    else
        status = demo_talk(&demo);
    demo_end(&demo);
    return status;
}
