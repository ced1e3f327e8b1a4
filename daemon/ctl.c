// SPDX-License-Identifier: MIT
#include "daemon/ctl.h"

#include "base/clock.h"
#include "base/log.h"
#include "config.h"
#include "daemon/net_thread.h"
#include "daemon/notify.h"
#include "daemon/sandbox.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define STATUS_EVERY_US 2000000u    // STATUS= lines while loading
#define LEAVE_US        1000000ull  // for the port to close; one that is still opened takes longer
#define EXTEND_US       60000000ull // asked for at each of them while bytes arrive

int conf_source_read(const struct conf_source *source, struct conf *ret, struct fault *fault)
{
    struct conf conf;
    conf_defaults(&conf);
    int err = 0;
    if (source->file_required || access(source->file, F_OK) == 0)
        err = conf_load(&conf, source->file, fault);
    for (uint32_t i = 0; i < source->sets_n && err == 0; i++)
        err = conf_set(&conf, source->sets[i], fault);
    if (err == 0)
        err = conf_check(&conf, fault);
    if (err == 0 && conf.listen_loopback[0])
        err = listener_loopback_check(conf.listen_loopback, fault);
    if (err == 0) // before credentials, which only the unit has: setup hears what else is wrong
        err = net_check(&conf, false, fault);
    if (err == 0 && conf.net_port[0])
        err = net_credentials(&conf, fault);
    if (err == 0)
        err = net_check(&conf, true, fault);
    if (err == 0)
        *ret = conf;
    return err;
}

struct ctl {
    struct topology *t;
    const struct conf_source *source;
    struct conf *conf;
    int signals; // signalfd
    uint64_t start_us;
    uint64_t watchdog_us; // 0: none
    uint64_t watchdog_next_us, status_next_us;
    uint64_t load_seen; // load_done when it was told last
    uint32_t beat_seen; // step_beat at the last ping
    bool ready, draining;
};

enum verdict { GO_ON, STOP_OK, STOP_FAILED };

static void lines_log(const char *what, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");
        log_info("%s: %.*s", what, (int)len, text);
        text += len + (text[len] == '\n');
    }
}

// sandbox_close gives up what nobody needs once the model is loaded.  Returns false if it should
// have and could not.
static bool sandbox_close(const struct topology *t)
{
    struct sandbox_params params = {.filter = (enum sandbox_filter)t->conf.sandbox_filter,
                                    .makes_code = t->device_makes_code,
                                    .netlink = net_xdp(&t->conf),
                                    .bpf = net_xdp(&t->conf)};
    char text[256] = "";
    struct fault fault = {0};
    for (uint32_t i = 0; i < t->listeners_n; i++)
        params.netlink |= !t->listeners[i].local;
    int err = sandbox_enter(&params, text, sizeof(text), &fault);
    if (err != 0 && err != -ENOTSUP) {
        log_error("sandbox: %s; [sandbox] filter = off does without", fault.text);
        return false;
    }
    if (err != 0)
        log_warning("sandbox: %s; going on without", fault.text);
    log_info("sandbox: %s", text);
    return true;
}

static void ready_tell(struct ctl *c)
{
    const struct topology *t = c->t;
    char seconds[32];
    c->ready = true;
    snprintf(seconds, sizeof(seconds), "%.1f", (double)(clock_us() - c->start_us) / 1e6);
    lines_log("plan", t->plan);
    lines_log("drives", t->drives);
    log_event(
        LOG_LEVEL_INFO, EVENT_READY,
        LOG_FIELDS({"MODEL", t->served.name}, {"DEVICE", t->device_name}, {"SECONDS", seconds}),
        "ready after %s s: %s on %s, context %u, %u KV tokens%s", seconds, t->served.name,
        t->device_name, t->served.context_max, t->kv_tokens, t->mtp ? ", drafting with MTP" : "");
    notify_send("READY=1\nSTATUS=Serving %s on %s", t->served.name, t->device_name);
}

// failed_tell: the daemon ends, and this is why.
static void failed_tell(const struct fault *fault)
{
    char number[16];
    snprintf(number, sizeof(number), "%d", fault->err);
    log_event(LOG_LEVEL_ERROR, EVENT_FAILED, LOG_FIELDS({"ERRNO", number}), "%s", fault->text);
}

// model_open lets requests in, behind a closed sandbox.
static enum verdict model_open(struct ctl *c)
{
    struct topology *t = c->t;
    int loaded = MODEL_LOADED;
    if (!sandbox_close(t))
        return STOP_FAILED;
    if (!atomic_compare_exchange_strong_explicit(&t->model_state, &loaded, MODEL_READY,
                                                 memory_order_release, memory_order_relaxed))
        return GO_ON; // the device has failed meanwhile
    metrics_set(&t->metrics, METRIC_ID_MODEL_READY, 1);
    topology_fronts_wake(t);
    ready_tell(c);
    return GO_ON;
}

static bool fronts_any_failed(const struct topology *t)
{
    for (uint32_t i = 0; i < FRONT_COUNT; i++)
        if (atomic_load_explicit(&t->fronts[i].failed, memory_order_acquire))
            return true;
    return false;
}

static bool fronts_all_drained(const struct topology *t)
{
    for (uint32_t i = 0; i < FRONT_COUNT; i++)
        if (t->fronts[i].used && !atomic_load_explicit(&t->fronts[i].drained, memory_order_acquire))
            return false;
    return true;
}

// model_watch looks at what step has come to.
static enum verdict model_watch(struct ctl *c)
{
    struct topology *t = c->t;
    int state = atomic_load_explicit(&t->model_state, memory_order_acquire);
    if (state == MODEL_FAILED) {
        failed_tell(&t->fault);
        return STOP_FAILED;
    }
    if (atomic_load_explicit(&t->tok_failed, memory_order_acquire) || fronts_any_failed(t))
        return STOP_FAILED; // they said why
    if (state == MODEL_LOADED && model_open(c) != GO_ON)
        return STOP_FAILED;
    if (c->draining && fronts_all_drained(t))
        return STOP_OK;
    return GO_ON;
}

static void status_tell(struct ctl *c, uint64_t now_us)
{
    if (c->ready || now_us < c->status_next_us)
        return;
    c->status_next_us = now_us + STATUS_EVERY_US;
    uint64_t done = atomic_load_explicit(&c->t->load_done, memory_order_relaxed);
    uint64_t total = atomic_load_explicit(&c->t->load_total, memory_order_relaxed);
    unsigned percent = total > 0 ? (unsigned)((double)done / (double)total * 100.0) : 0;
    if (done != c->load_seen)
        notify_send("STATUS=Loading %s: %u %%\nEXTEND_TIMEOUT_USEC=%llu", c->t->served.name,
                    percent, EXTEND_US);
    c->load_seen = done;
}

static void stuck_tell(const struct ctl *c)
{
    char seconds[24];
    snprintf(seconds, sizeof(seconds), "%.0f", (double)c->watchdog_us / 1e6);
    log_event(LOG_LEVEL_WARNING, EVENT_STUCK, LOG_FIELDS({"SECONDS", seconds}),
              "the model has made no step for %s s; the watchdog is not fed", seconds);
}

// watchdog_ping tells systemd that we live, unless step has work and stands still.  While it loads
// it makes no steps; how long that may take is TimeoutStartSec=, which status_tell extends.
static void watchdog_ping(struct ctl *c, uint64_t now_us)
{
    if (c->watchdog_us == 0 || now_us < c->watchdog_next_us)
        return;
    c->watchdog_next_us = now_us + c->watchdog_us;
    uint32_t beat = atomic_load_explicit(&c->t->step_beat, memory_order_relaxed);
    bool idle = atomic_load_explicit(&c->t->step_idle, memory_order_relaxed);
    if (!c->ready || idle || beat != c->beat_seen)
        notify_send("WATCHDOG=1");
    else
        stuck_tell(c);
    c->beat_seen = beat;
}

static void reload_told(const struct conf_opt *opt)
{
    log_warning("[%s] %s has changed; that takes effect after a restart", opt->section, opt->key);
}

// reload_read reads and judges all of it: options, keys and certificate.
static int reload_read(const struct ctl *c, struct conf *ret_conf, struct keys **ret_keys,
                       struct fault *fault)
{
    struct topology *t = c->t;
    *ret_keys = NULL;
    int err = conf_source_read(c->source, ret_conf, fault);
    if (err != 0 || !t->fronts[FRONT_NET].used)
        return err;
    err = net_check(&t->conf, true, fault); // its certificate, in the files that are in force
    if (err == 0)
        err = topology_keys_read(t, false, ret_keys, fault);
    return err;
}

// reload takes over everything, or nothing.
static void reload(struct ctl *c)
{
    struct topology *t = c->t;
    struct conf fresh;
    struct keys *keys;
    struct fault fault = {0};
    notify_send("RELOADING=1");
    if (reload_read(c, &fresh, &keys, &fault) != 0) {
        log_event(LOG_LEVEL_ERROR, EVENT_CONFIG, NULL,
                  "reload: %s; everything stays as it was: old configuration, old keys, old "
                  "certificate",
                  fault.text);
    } else {
        char changed[16];
        snprintf(changed, sizeof(changed), "%u", conf_reload(c->conf, &fresh, reload_told));
        live_set(&t->live, c->conf);
        log_level_set((enum log_level)c->conf->log_level);
        if (keys) {
            topology_keys_put(t, keys);
            atomic_store_explicit(&t->fronts[FRONT_NET].reload, true, memory_order_release);
            wake_signal(t->fronts[FRONT_NET].wake);
        }
        log_event(LOG_LEVEL_INFO, EVENT_RELOADED, LOG_FIELDS({"CHANGED", changed}),
                  "reloaded: %s options changed", changed);
    }
    if (c->ready)
        notify_send("READY=1");
}

// port_leave has the net thread reset its connections: peers of the port hear from no kernel that
// this process is gone, and would wait for ever.
static void port_leave(struct topology *t)
{
    const struct front_lines *net = &t->fronts[FRONT_NET];
    if (!net->used)
        return;
    atomic_store_explicit(&t->stopping, true, memory_order_release);
    wake_signal(net->wake);
    uint64_t until_us = clock_us() + LEAVE_US;
    while (!atomic_load_explicit(&net->over, memory_order_acquire) && clock_us() < until_us)
        usleep(1000);
}

static enum verdict terminate(struct ctl *c, const char *name)
{
    struct topology *t = c->t;
    notify_send("STOPPING=1\nSTATUS=Finishing the answers that run");
    if (!c->ready || c->draining) {
        // Nothing to finish yet, or asked twice: loading and steps cannot be interrupted.
        log_event(LOG_LEVEL_INFO, EVENT_STOPPING, LOG_FIELDS({"REASON", name}),
                  "%s: stopping at once", name);
        for (uint32_t i = 0; i < t->listeners_n; i++)
            listener_close(&t->listeners[i]);
        port_leave(t);
        _exit(EXIT_SUCCESS);
    }
    log_event(LOG_LEVEL_INFO, EVENT_STOPPING, LOG_FIELDS({"REASON", name}),
              "%s: finishing what runs, taking no new requests; once more stops at once", name);
    c->draining = true;
    atomic_store_explicit(&t->draining, true, memory_order_release);
    topology_fronts_wake(t);
    return GO_ON;
}

static enum verdict signals_take(struct ctl *c)
{
    struct signalfd_siginfo info;
    enum verdict verdict = GO_ON;
    while (read(c->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGHUP) {
            reload(c);
        } else if (info.ssi_signo == SIGUSR1) {
            for (uint32_t i = 0; i < FRONT_COUNT; i++)
                atomic_store_explicit(&c->t->fronts[i].summary, true, memory_order_release);
            topology_fronts_wake(c->t);
        } else {
            verdict = terminate(c, info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
        }
    }
    return verdict;
}

// next_timeout_ms: how long ctl may sleep.
static int next_timeout_ms(const struct ctl *c, uint64_t now_us)
{
    uint64_t at_us = UINT64_MAX;
    if (c->watchdog_us > 0)
        at_us = c->watchdog_next_us;
    if (!c->ready && c->status_next_us < at_us)
        at_us = c->status_next_us;
    if (at_us == UINT64_MAX)
        return -1;
    return at_us <= now_us ? 0 : (int)((at_us - now_us + 999) / 1000);
}

static enum verdict loop_once(struct ctl *c)
{
    struct pollfd fds[] = {{.fd = c->signals, .events = POLLIN},
                           {.fd = c->t->wake_ctl, .events = POLLIN}};
    poll(fds, 2, next_timeout_ms(c, clock_us()));
    if (fds[1].revents & POLLIN)
        wake_clear(c->t->wake_ctl);
    enum verdict verdict = model_watch(c);
    if (verdict == GO_ON)
        verdict = signals_take(c);
    uint64_t now_us = clock_us();
    status_tell(c, now_us);
    watchdog_ping(c, now_us);
    return verdict;
}

static void signals_set(sigset_t *ret)
{
    sigemptyset(ret);
    sigaddset(ret, SIGTERM);
    sigaddset(ret, SIGINT);
    sigaddset(ret, SIGHUP);
    sigaddset(ret, SIGUSR1);
}

int ctl_signals_block(void)
{
    sigset_t set;
    signals_set(&set);
    signal(SIGPIPE, SIG_IGN); // somebody's stderr may be a pipe that closes
    return -pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int signals_open(void)
{
    sigset_t set;
    signals_set(&set);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

// The threads, one row each; topology.h says what they own.
static const struct thread_row {
    const char *name;
    void *(*body)(void *arg);
    enum front_id front; // it runs if that is used; FRONT_COUNT: always
} thread_rows[] = {
    {"expertd-sock", sock_thread, FRONT_SOCK},
#if HAVE_PORT
    {"expertd-net", net_thread, FRONT_NET},
#endif
    {"expertd-tok", tok_thread, FRONT_COUNT},
    {"expertd-step", step_thread, FRONT_COUNT},
};
#define THREADS (sizeof(thread_rows) / sizeof(thread_rows[0]))

// front_wait waits until a front serves, before anybody begins to load a model that may take
// minutes: a port that cannot be had is told at once.  Returns false if it cannot.
static bool front_wait(struct topology *t, const struct front_lines *front)
{
    while (!atomic_load_explicit(&front->started, memory_order_acquire)) {
        if (atomic_load_explicit(&front->failed, memory_order_acquire))
            return false;
        wake_wait(t->wake_ctl, -1);
    }
    return true;
}

// threads_start returns -ECANCELED if a front failed, which has said why.
static int threads_start(struct topology *t, pthread_t threads[THREADS], uint32_t *ret_n)
{
    *ret_n = 0;
    for (uint32_t i = 0; i < THREADS; i++) {
        const struct thread_row *row = &thread_rows[i];
        if (row->front != FRONT_COUNT && !t->fronts[row->front].used)
            continue;
        int err = pthread_create(&threads[*ret_n], NULL, row->body, t);
        if (err != 0)
            return -err;
        pthread_setname_np(threads[(*ret_n)++], row->name);
        if (row->front != FRONT_COUNT && !front_wait(t, &t->fronts[row->front]))
            return -ECANCELED;
    }
    return 0;
}

static void threads_stop(struct topology *t, const pthread_t threads[THREADS], uint32_t n)
{
    atomic_store_explicit(&t->stopping, true, memory_order_release);
    topology_fronts_wake(t);
    wake_signal(t->wake_tok);
    wake_signal(t->wake_step);
    for (uint32_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
}

static void start_log(struct topology *t)
{
    char plan[2048];
    log_info("expertd %s: model %s from %s", EXPERTD_VERSION, t->served.name,
             checkpoint_dir(t->served.checkpoint));
    for (uint32_t i = 0; i < t->listeners_n; i++)
        log_info("listening on %s", t->listeners[i].name);
    topology_plan_text(t, plan, sizeof(plan));
    lines_log("plan", plan);
}

int ctl_run(struct topology *t, const struct conf_source *source, struct conf *conf)
{
    struct ctl c = {.t = t,
                    .source = source,
                    .conf = conf,
                    .start_us = clock_us(),
                    .watchdog_us = notify_watchdog_us()};
    c.signals = signals_open();
    if (c.signals < 0) {
        log_error("signals: %s", strerror(-c.signals));
        return EXIT_FAILURE;
    }
    start_log(t);
    notify_send("STATUS=Loading %s", t->served.name);

    pthread_t threads[THREADS];
    uint32_t threads_n;
    enum verdict verdict = GO_ON;
    int err = threads_start(t, threads, &threads_n);
    if (err != 0) {
        if (err != -ECANCELED)
            log_error("threads: %s", strerror(-err));
        verdict = STOP_FAILED;
    }
    while (verdict == GO_ON)
        verdict = loop_once(&c);
    notify_send("STOPPING=1");
    threads_stop(t, threads, threads_n);
    close(c.signals);
    log_info("stopped");
    return verdict == STOP_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
