// SPDX-License-Identifier: MIT
// main: command line, configuration, listeners, model files, threads; then ctl's loop until the
// end. Exit status: 0 asked to stop, 1 start-up or the device failed, 2 wrong usage or
// configuration.
#include "base/last_words.h"
#include "base/log.h"
#include "config.h"
#include "daemon/ctl.h"
#include "daemon/net_thread.h"
#include "daemon/notify.h"
#include "daemon/streaming.h"
#include "vk/device.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define EXIT_USAGE        2
#define LISTEN_FDS_FIRST  3    // sd_listen_fds(3)
#define FDS_BESIDE_CONNS  64u  // log, epoll, eventfds, device
#define FDS_FILES         512u // shards of a model (V3 has 163), or parts of a pack, in one place
#define CACHE_BYTES_MIN   (16u << 20)
#define CONF_FILE_DEFAULT EXPERTD_SYSCONFDIR "/expertd/expertd.conf"

enum option_id { // those without a letter
    OPTION_CONFIG = 256,
    OPTION_CHECK_CONFIG,
    OPTION_MODEL,
    OPTION_SOCKET,
    OPTION_SET,
    OPTION_TRACE_ROUTING,
    OPTION_PRINT_CONFIG,
    OPTION_PRINT_CONFIG_MAN,
    OPTION_VERSION,
    OPTION_HELP,
};

static const struct option options[] = {
    {"config", required_argument, NULL, OPTION_CONFIG},
    {"check-config", no_argument, NULL, OPTION_CHECK_CONFIG},
    {"model", required_argument, NULL, OPTION_MODEL},
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"set", required_argument, NULL, OPTION_SET},
    {"trace-routing", required_argument, NULL, OPTION_TRACE_ROUTING},
    {"print-config", no_argument, NULL, OPTION_PRINT_CONFIG},
    {"print-config-man", no_argument, NULL, OPTION_PRINT_CONFIG_MAN},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static void help_print(void)
{
    printf("usage: expertd [--config FILE] [--check-config] [--model DIR] [--socket PATH]\n"
           "               [--set section.key=value]... [--trace-routing FILE]\n"
           "       expertd --print-config | --print-config-man | --version | --help\n"
           "\n"
           "Serves a DeepSeek-V3 language model over HTTP on a Unix socket.  Without --config it\n"
           "reads %s if that exists.\n"
           "\n"
           "Options of the configuration, with their defaults:\n\n",
           CONF_FILE_DEFAULT);
    conf_print_help(stdout);
    printf("\nSizes take K M G T, times take us ms s min.  See expertd(8) and expertd.conf(5).\n");
}

// set_add keeps one --set; the array has room for every argument.
static int set_add(struct conf_source *source, const char *option, const char *value)
{
    char *text;
    if (asprintf(&text, "%s%s", option, value) < 0)
        return -ENOMEM;
    source->sets[source->sets_n++] = text;
    return 0;
}

// What the command line says beside the configuration.
struct args {
    struct conf_source source;
    bool check;
    const char *trace_routing; // NULL: none
};

// args_parse fills in what the command line says.  Returns -1 to go on, or an exit status.
static int args_parse(int argc, char **argv, struct args *args)
{
    struct conf_source *source = &args->source;
    int c;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case OPTION_CONFIG:
            source->file = optarg;
            source->file_required = true;
            break;
        case OPTION_CHECK_CONFIG:
            args->check = true;
            break;
        case OPTION_MODEL:
            if (set_add(source, "model.path=", optarg) != 0)
                return EXIT_FAILURE;
            break;
        case OPTION_SOCKET:
            if (set_add(source, "listen.socket=", optarg) != 0)
                return EXIT_FAILURE;
            break;
        case OPTION_SET:
            if (set_add(source, "", optarg) != 0)
                return EXIT_FAILURE;
            break;
        case OPTION_TRACE_ROUTING:
            args->trace_routing = optarg;
            break;
        case OPTION_PRINT_CONFIG:
            conf_print_file(stdout);
            return EXIT_SUCCESS;
        case OPTION_PRINT_CONFIG_MAN:
            conf_print_man(stdout);
            return EXIT_SUCCESS;
        case OPTION_VERSION:
            printf("expertd %s\n", EXPERTD_VERSION);
            return EXIT_SUCCESS;
        case OPTION_HELP:
            help_print();
            return EXIT_SUCCESS;
        default:
            fprintf(stderr, "Try: expertd --help\n"); // getopt has said what is wrong
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "expertd: %s: not understood\nTry: expertd --help\n", argv[optind]);
        return EXIT_USAGE;
    }
    return -1;
}

// fds_raise makes sure that every connection can have an fd, and every file if that is allowed.
static int fds_raise(const struct conf *conf, struct fault *fault)
{
    struct rlimit limit;
    rlim_t need = conf->limits_connections_max + FDS_BESIDE_CONNS;
    rlim_t want = need + (1 + STREAM_DIRS_MAX) * FDS_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= want)
        return 0;
    rlim_t had = limit.rlim_cur;
    limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
    if (limit.rlim_cur > had && setrlimit(RLIMIT_NOFILE, &limit) != 0)
        limit.rlim_cur = had;
    if (limit.rlim_cur < need)
        return fault_set(fault, EMFILE,
                         "[limits] connections_max = %u needs %llu open files; raise LimitNOFILE, "
                         "or make it smaller",
                         conf->limits_connections_max, (unsigned long long)need);
    return 0;
}

// socket_overruled_tell: [listen] socket says something else than expertd.socket.
static void socket_overruled_tell(const struct topology *t, const struct listener *passed)
{
    const char *own = t->conf.listen_socket;
    if (own[0] && strncmp(own, passed->name, strlen(own)) != 0)
        log_warning("[listen] socket = %s is not used: systemd passed %s; systemctl edit "
                    "expertd.socket",
                    own, passed->name);
}

// listeners_adopt takes what systemd opened.
static int listeners_adopt(struct topology *t, bool *ret_local, bool *ret_loopback,
                           struct fault *fault)
{
    int adopted = notify_listen_fds(), err = 0;
    *ret_local = *ret_loopback = false;
    if (adopted > (int)SOCK_LISTENERS_MAX)
        return fault_set(fault, E2BIG, "systemd passed %d sockets; at most %u are served", adopted,
                         SOCK_LISTENERS_MAX);
    for (int i = 0; i < adopted && err == 0; i++) {
        struct listener *l = &t->listeners[t->listeners_n];
        err = listener_adopt(LISTEN_FDS_FIRST + i, l, fault);
        if (err != 0)
            break;
        t->listeners_n++;
        *(l->local ? ret_local : ret_loopback) = true;
        if (l->local)
            socket_overruled_tell(t, l);
    }
    return err;
}

// listeners_open opens what the config says, where systemd has not opened one of its kind.
static int listeners_open(struct topology *t, struct fault *fault)
{
    bool local, loopback;
    int err = listeners_adopt(t, &local, &loopback, fault);
    if (err == 0 && t->conf.listen_socket[0] && !local) {
        err = listener_open_unix(t->conf.listen_socket, t->conf.listen_socket_mode,
                                 &t->listeners[t->listeners_n], fault);
        t->listeners_n += err == 0;
    }
    if (err == 0 && t->conf.listen_loopback[0] && !loopback &&
        t->listeners_n < SOCK_LISTENERS_MAX) {
        err = listener_open_loopback(t->conf.listen_loopback, &t->listeners[t->listeners_n], fault);
        t->listeners_n += err == 0;
    }
    return err;
}

// memory_resolve looks how much memory there is, of which the configuration takes percentages.
static int memory_resolve(struct topology *t, struct fault *fault)
{
    const struct conf *conf = &t->conf;
    struct vk_limits limits = {0};
    if (conf->device_memory.percent > 0 || conf->experts_vram.percent > 0) {
        int err = vk_device_probe(conf->device_select, &limits, fault);
        if (err != 0)
            return err;
    }
    t->machine_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    t->device_bytes = limits.memory_bytes;
    return 0;
}

// cache_resolve finds the file of the pipeline cache and makes its directory; without one, shaders
// are compiled at every start.
static void cache_resolve(struct topology *t)
{
    const char *wanted = t->conf.device_pipeline_cache;
    if (strcmp(wanted, "off") == 0 || wanted[0] == '\0')
        return;
    if (strcmp(wanted, "auto") != 0) {
        snprintf(t->pipeline_cache, sizeof(t->pipeline_cache), "%s", wanted);
        return;
    }
    const char *service = getenv("CACHE_DIRECTORY"), *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    char dir[200];
    int len;
    if (service && service[0] == '/')
        len = snprintf(dir, sizeof(dir), "%.*s", (int)strcspn(service, ":"), service);
    else if (xdg && xdg[0] == '/')
        len = snprintf(dir, sizeof(dir), "%s/expertd", xdg);
    else if (home && home[0] == '/')
        len = snprintf(dir, sizeof(dir), "%s/.cache/expertd", home);
    else
        return;
    if (len < 0 || (size_t)len >= sizeof(dir))
        return;
    for (char *slash = dir; (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        mkdir(dir, 0700); // most are there; what cannot be made shows below
        *slash = '/';
    }
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        log_info("%s: %s; compiled shaders are not kept", dir, strerror(errno));
        return;
    }
    snprintf(t->pipeline_cache, sizeof(t->pipeline_cache), "%s/pipelines", dir);
}

// cache_holds says whether a folder can take compiled shaders.  Mesa maps files there, and a full
// drive would end the process by SIGBUS.
static bool cache_holds(const char *dir)
{
    struct statvfs drive;
    if (access(dir, W_OK) != 0 || statvfs(dir, &drive) != 0) {
        log_warning("%s: %s; compiled shaders are not kept: every start compiles them", dir,
                    strerror(errno));
        return false;
    }
    if ((uint64_t)drive.f_bavail * drive.f_frsize >= CACHE_BYTES_MIN)
        return true;
    log_warning("%s: less than %u MB are free; compiled shaders are not kept: every start compiles "
                "them",
                dir, CACHE_BYTES_MIN >> 20);
    return false;
}

// Mesa keeps what it compiled by itself, not in the pipeline cache that we are given back, and
// without a home (as under systemd) nowhere: then every start of lavapipe would be a cold one.
static void driver_cache_place(struct topology *t)
{
    char dir[sizeof(t->pipeline_cache)];
    snprintf(dir, sizeof(dir), "%s", t->pipeline_cache);
    char *slash = strrchr(dir, '/');
    if (t->pipeline_cache[0] == '\0') { // off, or no place for it
        setenv("MESA_SHADER_CACHE_DISABLE", "true", 0);
        return;
    }
    if (!slash || slash == dir)
        return;
    *slash = '\0';
    if (!cache_holds(dir)) {
        t->pipeline_cache[0] = '\0';
        setenv("MESA_SHADER_CACHE_DISABLE", "true", 1);
        return;
    }
    setenv("MESA_SHADER_CACHE_DIR", dir, 0); // what the user chose stands
}

// start does what can fail before the threads run.
static int start(const struct conf *conf, const char *trace_routing, struct topology **ret,
                 struct fault *fault)
{
    struct topology *t = NULL;
    int err = fds_raise(conf, fault);
    if (err == 0)
        err = streaming_dirs_check(conf, fault);
    if (err != 0)
        return err;
    err = topology_create(conf, &t, fault);
    if (err != 0)
        return err;
    err = cors_parse(conf->net_cors_origins, &t->cors, fault);
    if (err == 0 && t->fronts[FRONT_NET].used) {
        struct keys *keys = NULL;
        err = topology_keys_read(t, true, &keys, fault);
        if (err == 0)
            topology_keys_put(t, keys);
    }
    if (err == 0)
        err = listeners_open(t, fault);
    if (err == 0)
        err = served_open(conf, &t->served, fault);
    if (err == 0)
        err = conf_kv_check(&t->conf, t->served.context_max, fault);
    if (err == 0)
        err = memory_resolve(t, fault);
    if (err == 0 && trace_routing)
        err = routing_file_create(trace_routing, checkpoint_config(t->served.checkpoint), &t->trace,
                                  fault);
    if (err != 0) {
        topology_destroy(&t);
        return err;
    }
    cache_resolve(t);
    driver_cache_place(t);
    *ret = t;
    return 0;
}

static int run(const struct args *args)
{
    const struct conf_source *source = &args->source;
    struct fault fault = {0};
    struct conf conf;
    int err = conf_source_read(source, &conf, &fault);
    if (err == 0 && args->check)
        err = net_keys_check(&conf, &fault);
    if (err != 0) {
        log_event(LOG_LEVEL_ERROR, EVENT_CONFIG, NULL, "%s", fault.text);
        return EXIT_USAGE;
    }
    if (args->check)
        return EXIT_SUCCESS;
    log_level_set((enum log_level)conf.log_level);

    struct topology *t = NULL;
    err = ctl_signals_block();
    if (err != 0) {
        log_error("signals: %s", strerror(-err));
        return EXIT_FAILURE;
    }
    if (start(&conf, args->trace_routing, &t, &fault) != 0) {
        char number[16];
        snprintf(number, sizeof(number), "%d", fault.err);
        log_event(LOG_LEVEL_ERROR, EVENT_FAILED, LOG_FIELDS({"ERRNO", number}), "%s", fault.text);
        return EXIT_FAILURE;
    }
    int status = ctl_run(t, source, &conf);
    topology_destroy(&t);
    return status;
}

int main(int argc, char **argv)
{
    struct args args = {.source = {.file = CONF_FILE_DEFAULT}};
    struct conf_source *source = &args.source;
    source->sets = calloc((size_t)argc + 1, sizeof(*source->sets));
    if (!source->sets)
        return EXIT_FAILURE;
    umask(0077);
    last_words_open("expertd " EXPERTD_VERSION, log_open(LOG_JOURNAL));
    int status = args_parse(argc, argv, &args);
    if (status < 0)
        status = run(&args);
    for (uint32_t i = 0; i < source->sets_n; i++)
        free(source->sets[i]);
    free(source->sets);
    return status;
}
