// SPDX-License-Identifier: MIT
#include "io/net/nic_eal.h"

#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define EAL_ARGS_MAX 16
#define EAL_TEXT_MAX 200u

// What DPDK keeps once a process, its user has to keep once a process too.
static struct {
    bool tried, running;
    bool huge_pages;
    char pci[NIC_NAME_MAX];
    pthread_mutex_t lock;    // of said: DPDK's helper threads log as well
    char said[EAL_TEXT_MAX]; // the last error
    char copy[EAL_TEXT_MAX];
    sigset_t mask;
    struct sigaction action[_NSIG /* signal */];
} eal_state = {.lock = PTHREAD_MUTEX_INITIALIZER};

// eal_log_line takes one line of DPDK's.  Errors are kept for the sentence that nic_open returns.
static void eal_log_line(const char *line, size_t n)
{
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == ' '))
        n--;
    if (n == 0)
        return;
    if (n >= EAL_TEXT_MAX)
        n = EAL_TEXT_MAX - 1;
    log_debug("DPDK: %.*s", (int)n, line);
    if (rte_log_cur_msg_loglevel() > (int)RTE_LOG_ERR)
        return;
    (void)pthread_mutex_lock(&eal_state.lock);
    memcpy(eal_state.said, line, n);
    eal_state.said[n] = '\0';
    (void)pthread_mutex_unlock(&eal_state.lock);
}

static ssize_t eal_log_write(void *cookie, const char *text, size_t n)
{
    (void)cookie;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t line = end ? (size_t)(end - text) + 1 - at : n - at;
        eal_log_line(text + at, line);
        at += line;
    }
    return (ssize_t)n;
}

static void eal_log_open(void)
{
    FILE *log = fopencookie(NULL, "w", (cookie_io_functions_t){.write = eal_log_write});
    if (!log)
        return; // then DPDK writes to the standard error itself
    (void)setvbuf(log, NULL, _IOLBF, 0);
    (void)rte_openlog_stream(log);
    rte_log_set_global_level(RTE_LOG_WARNING);
}

void nic_eal_said_clear(void)
{
    (void)pthread_mutex_lock(&eal_state.lock);
    eal_state.said[0] = '\0';
    (void)pthread_mutex_unlock(&eal_state.lock);
}

const char *nic_eal_said(void)
{
    (void)pthread_mutex_lock(&eal_state.lock);
    memcpy(eal_state.copy, eal_state.said, sizeof(eal_state.copy));
    (void)pthread_mutex_unlock(&eal_state.lock);
    return eal_state.copy;
}

const char *nic_eal_plugins(void)
{
    return RTE_EAL_PMD_PATH;
}

void nic_eal_quiet(bool begin)
{
    // Threads that DPDK makes meanwhile hear what is for every thread: faults, and SIGSYS, by which
    // the daemon has them give up capabilities.
    static const int heard[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS};
    sigset_t all;

    (void)sigfillset(&all);
    for (size_t i = 0; i < sizeof(heard) / sizeof(heard[0]); i++)
        (void)sigdelset(&all, heard[i]);
    if (begin)
        (void)pthread_sigmask(SIG_SETMASK, &all, &eal_state.mask);
    for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) {
        struct sigaction taken = {.sa_handler = SIG_IGN};
        if (begin)
            (void)sigaction(signal, &taken, &eal_state.action[signal]);
        else
            (void)sigaction(signal, &eal_state.action[signal], NULL);
    }
    if (!begin)
        (void)pthread_sigmask(SIG_SETMASK, &eal_state.mask, NULL);
}

// eal_cpu_first: DPDK wants a CPU for its main thread; which one does not matter, since the thread
// gets its affinity back.
static int eal_cpu_first(const cpu_set_t *cpus)
{
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET((size_t)i, cpus))
            return i;
    return 0;
}

// eal_init runs rte_eal_init with the arguments that the settings mean.  DPDK keeps the pointers.
static int eal_init(const struct nic_eal *eal, int cpu)
{
    static char lcores[32], memory[32], pci[NIC_NAME_MAX + 8];
    static char *args[EAL_ARGS_MAX];
    int n = 0;

    (void)snprintf(lcores, sizeof(lcores), "--lcores=0@%d", cpu);
    (void)snprintf(memory, sizeof(memory), "-m%u", eal->megabytes);
    (void)snprintf(pci, sizeof(pci), "--allow=%s", eal->pci ? eal->pci : "");
    static char name[] = "expertd", in_memory[] = "--in-memory", no_pci[] = "--no-pci",
                no_shared[] = "--no-shconf", telemetry[] = "--no-telemetry",
                no_huge[] = "--no-huge", virtual[] = "--iova-mode=va";
    args[n++] = name;
    args[n++] = telemetry;
    args[n++] = lcores;
    args[n++] = eal->pci ? pci : no_pci;
    if (eal->huge_pages) {
        args[n++] = in_memory; // no files in hugetlbfs or /run that a crash would leave behind
    } else {
        args[n++] = no_shared;
        args[n++] = no_huge;
        args[n++] = memory;
    }
    if (!eal->pci)
        args[n++] = virtual;
    return rte_eal_init(n, args) < 0 ? -rte_errno : 0;
}

static int eal_again(const struct nic_eal *eal, struct fault *fault)
{
    if (eal_state.running && eal_state.huge_pages == eal->huge_pages &&
        (!eal->pci || strcmp(eal_state.pci, eal->pci) == 0))
        return 0;
    return fault_set(fault, EBUSY,
                     "DPDK %s in this process and cannot be started anew: restart the program",
                     eal_state.running ? "runs with other settings" : "failed to start");
}

int nic_eal_start(const struct nic_eal *eal, struct fault *fault)
{
    cpu_set_t cpus;
    int err;

    if (eal_state.tried)
        return eal_again(eal, fault);
    if (pthread_getaffinity_np(pthread_self(), sizeof(cpus), &cpus) != 0)
        return fault_set(fault, EINVAL, "the CPU affinity of this thread cannot be read");
    eal_state.tried = true;
    eal_log_open();
    nic_eal_quiet(true);
    err = eal_init(eal, eal_cpu_first(&cpus));
    nic_eal_quiet(false);
    (void)pthread_setaffinity_np(pthread_self(), sizeof(cpus), &cpus);
    if (err)
        return fault_set(fault, err == -EALREADY ? EBUSY : -err, "DPDK does not start: %s",
                         nic_eal_said());
    eal_state.running = true;
    eal_state.huge_pages = eal->huge_pages;
    (void)snprintf(eal_state.pci, sizeof(eal_state.pci), "%s", eal->pci ? eal->pci : "");
    return 0;
}
