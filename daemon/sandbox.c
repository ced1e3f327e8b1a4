// SPDX-License-Identifier: MIT
#include "daemon/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if HAVE_SECCOMP
#include <seccomp.h>
#endif

#define ROUNDS   20u        // of asking threads: new ones may come meanwhile
#define ROUND_US 50000      // for all of them to answer, or to hear again
#define SCMP_ALL UINT64_MAX // all bits of an argument

const char *const sandbox_filter_name[SANDBOX_FILTER_COUNT] = {
    [SANDBOX_DENY] = "deny", [SANDBOX_LOG] = "log", [SANDBOX_OFF] = "off"};

// Capabilities.  They belong to threads, and most threads are not ours: drivers and DPDK make
// theirs.  Each is asked by a signal to drop its own, by SIGSYS, which Mesa leaves open where it
// blocks all others, and which nothing else uses before there is a filter.

static _Thread_local uint64_t thread_keeps;
static _Atomic uint64_t any_keeps; // of all threads
static atomic_uint answers;
static atomic_bool asked_enough; // an answer that comes now is too late
static struct sigaction before;  // of SIGSYS

void sandbox_keep(uint64_t capabilities)
{
    thread_keeps = capabilities;
    atomic_fetch_or_explicit(&any_keeps, capabilities, memory_order_relaxed);
}

// capabilities_drop is safe in a signal handler.
static int capabilities_drop(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capget, &header, data) != 0)
        return -errno;
    bool has = false;
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        uint32_t keeps = (uint32_t)(thread_keeps >> (32 * i));
        has |= (data[i].permitted & ~keeps) || data[i].inheritable;
        data[i].permitted &= keeps;
        data[i].effective &= data[i].permitted;
        data[i].inheritable = 0;
    }
    if (!has) // where the unit gives none it forbids the call, too
        return 0;
    return syscall(SYS_capset, &header, data) != 0 ? -errno : 0;
}

// signal_forward gives a signal that is no question of ours to whom it was meant for.
static void signal_forward(int number, siginfo_t *info, void *context)
{
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(number, info, context);
        return;
    }
    signal(number, SIG_DFL);
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    int err = errno;
    if (info->si_code != SI_TKILL || info->si_pid != getpid()) {
        signal_forward(number, info, context);
    } else if (!atomic_load_explicit(&asked_enough, memory_order_acquire)) {
        capabilities_drop();
        atomic_fetch_add_explicit(&answers, 1, memory_order_release);
    }
    errno = err;
}

// status_hex reads a row of /proc/self/task/TID/status, as "CapPrm:"; 0 if the thread is gone.
static uint64_t status_hex(const char *tid, const char *row)
{
    char path[300], line[256];
    uint64_t value = 0;
    snprintf(path, sizeof(path), "/proc/self/task/%s/status", tid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, row, strlen(row)) == 0)
            value = strtoull(line + strlen(row), NULL, 16);
    if (file)
        fclose(file);
    return value;
}

// threads_ask signals every thread with capabilities that it does not keep.  Returns how many have
// some; ret_asked: how many of them hear signals.
static uint32_t threads_ask(uint32_t *ret_asked)
{
    uint64_t keeps = atomic_load_explicit(&any_keeps, memory_order_relaxed);
    uint32_t n = 0;
    *ret_asked = 0;
    DIR *dir = opendir("/proc/self/task");
    if (!dir)
        return 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
        uint64_t has = tid > 0 ? status_hex(entry->d_name, "CapPrm:") : 0;
        if ((has & ~keeps) == 0)
            continue;
        n++;
        if (status_hex(entry->d_name, "SigBlk:") & 1ull << (SIGSYS - 1))
            continue;
        *ret_asked += syscall(SYS_tgkill, getpid(), tid, SIGSYS) == 0;
    }
    closedir(dir);
    return n;
}

// capabilities_drop_all returns how many threads still have some that they do not keep.
static uint32_t capabilities_drop_all(void)
{
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    uint32_t left = 0, asked, sent = 0;
    if (capabilities_drop() != 0 || sigaction(SIGSYS, &action, &before) != 0)
        return UINT32_MAX;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        left = threads_ask(&asked);
        if (left == 0)
            break;
        if (asked == 0) // a thread that begins or ends hears nothing for a moment
            usleep(ROUND_US);
        sent += asked;
        for (int us = 0;
             us < ROUND_US && atomic_load_explicit(&answers, memory_order_acquire) < sent;
             us += 100)
            usleep(100);
    }
    // A thread that is held up may hear a signal any time later, and must not die of it.
    atomic_store_explicit(&asked_enough, true, memory_order_release);
    if (atomic_load_explicit(&answers, memory_order_acquire) >= sent)
        sigaction(SIGSYS, &before, NULL);
    return left;
}

#if HAVE_SECCOMP
// What the daemon, its libraries and drivers call once they run: files of the model, of caches and
// for a reload; memory, threads, time, events; io_uring; sockets that are open.
// clang-format off
static const char *const allowed[] = {
    // files
    "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev",
    "pwritev2", "open", "openat", "openat2", "close", "close_range", "stat", "fstat", "lstat",
    "newfstatat", "statx", "statfs", "fstatfs", "lseek", "getdents64", "access", "faccessat",
    "faccessat2", "readlink", "readlinkat", "fcntl", "flock", "ftruncate", "fallocate", "fadvise64",
    "readahead", "fsync", "fdatasync", "sync_file_range", "rename", "renameat", "renameat2",
    "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "link", "linkat", "dup", "dup2", "dup3",
    "utimensat", "getcwd", "umask", "memfd_create", "copy_file_range", "ioctl",
    // memory
    "munmap", "mremap", "madvise", "brk", "mlock", "mlock2", "munlock", "mincore", "msync",
    "get_mempolicy", "membarrier",
    // threads
    "futex", "exit", "exit_group", "set_robust_list", "get_robust_list", "rseq", "gettid", "getpid",
    "getppid", "sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getparam",
    "sched_getscheduler", "sched_get_priority_max", "sched_get_priority_min", "getcpu",
    "getpriority", "arch_prctl", "set_tid_address", "restart_syscall", "getuid", "geteuid",
    "getgid", "getegid", "getgroups", "capget",
    // signals, time, random numbers, the machine
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "rt_sigpending",
    "sigaltstack", "signalfd4", "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres",
    "gettimeofday", "time", "times", "getrandom", "uname", "sysinfo", "getrusage", "getrlimit",
    "timerfd_create", "timerfd_settime", "timerfd_gettime", "alarm", "setitimer", "timer_create",
    "timer_settime", "timer_delete",
    // events
    "poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2", "pipe2",
    // sockets that are open, and connections that come in
    "accept4", "accept", "recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg",
    "shutdown", "getsockopt", "setsockopt", "getsockname", "getpeername", "connect", "socketpair",
    // drives: the ring that there is, which can read and nothing else (io/disk/ring.c); another one
    // could do what is refused here
    "io_uring_enter", "io_uring_register",
};

// Only somebody else's code would call these.
static const char *const forbidden[] = {
    "execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev",
    "pidfd_getfd", "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsmount",
    "mount_setattr", "pivot_root", "chroot", "unshare", "setns", "init_module", "finit_module",
    "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff",
    "perf_event_open", "keyctl", "add_key", "request_key", "userfaultfd", "open_by_handle_at",
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid",
    "setfsgid", "iopl", "ioperm", "capset", "acct", "quotactl", "settimeofday", "clock_settime",
    "adjtimex", "clock_adjtime", "sethostname", "setdomainname",
};
// clang-format on

// rule_add: a call that this architecture does not have needs no rule.
static int rule_add(scmp_filter_ctx ctx, uint32_t action, const char *name, unsigned args_n,
                    const struct scmp_arg_cmp *args)
{
    int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR || number < 0)
        return 0;
    return seccomp_rule_add_array(ctx, action, number, args_n, args);
}

// arguments_add: calls that are allowed with some arguments only.
static int arguments_add(scmp_filter_ctx ctx, const struct sandbox_params *params)
{
    const scmp_datum_t pid = (scmp_datum_t)getpid(), exec = params->makes_code ? 0 : PROT_EXEC;
    // The argument's bits of the mask are those of the value.
    const struct {
        const char *name;
        unsigned arg;
        scmp_datum_t mask, value;
        bool wanted;
    } rows[] = {
        {"clone", 0, CLONE_THREAD, CLONE_THREAD, true}, // no processes
        {"mmap", 2, exec, 0, true},
        {"mprotect", 2, exec, 0, true},
        {"socket", 0, SCMP_ALL, AF_UNIX, true}, // sd_notify
        {"socket", 0, SCMP_ALL, AF_NETLINK, params->netlink},
        {"tgkill", 0, SCMP_ALL, pid, true},  // abort
        {"prlimit64", 2, SCMP_ALL, 0, true}, // to look
        {"prctl", 0, SCMP_ALL, PR_SET_NAME, true},
        {"prctl", 0, SCMP_ALL, PR_GET_NAME, true},
        {"prctl", 0, SCMP_ALL, PR_SET_VMA, true}, // names of a C library's arenas
        {"prctl", 0, SCMP_ALL, PR_SET_TIMERSLACK, true},
    };
    int err = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && err == 0; i++) {
        struct scmp_arg_cmp arg = {.arg = rows[i].arg,
                                   .op = SCMP_CMP_MASKED_EQ,
                                   .datum_a = rows[i].mask,
                                   .datum_b = rows[i].value};
        if (rows[i].wanted)
            err = rule_add(ctx, SCMP_ACT_ALLOW, rows[i].name, 1, &arg);
    }
    return err;
}

static int filter_fill(scmp_filter_ctx ctx, const struct sandbox_params *params)
{
    int err = 0;
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]) && err == 0; i++)
        err = rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0, NULL);
    if (err == 0)
        err = arguments_add(ctx, params);
    if (err == 0 && params->bpf)
        err = rule_add(ctx, SCMP_ACT_ALLOW, "bpf", 0, NULL);
    if (err == 0 && params->bpf) // of libbpf's netlink socket
        err = rule_add(ctx, SCMP_ACT_ALLOW, "bind", 0, NULL);
    if (params->filter == SANDBOX_LOG)
        return err;
    if (err == 0) // its arguments cannot be seen; C libraries go on with clone
        err = rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), "clone3", 0, NULL);
    if (err == 0 && !params->bpf)
        err = rule_add(ctx, SCMP_ACT_TRAP, "bpf", 0, NULL);
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]) && err == 0; i++)
        err = rule_add(ctx, SCMP_ACT_TRAP, forbidden[i], 0, NULL);
    return err;
}

static int filter_enter(const struct sandbox_params *params, struct fault *fault)
{
    bool deny = params->filter == SANDBOX_DENY;
    scmp_filter_ctx ctx = seccomp_init(deny ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_LOG);
    if (!ctx)
        return fault_set(fault, ENOTSUP, "this kernel has no seccomp");
    int err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    if (err == 0)
        err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_LOG, 1);
    // Otherwise older kernels slow down every load after a store, which nobody here can exploit:
    // no code of others runs in this process.
    if (err == 0)
        err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_SSB, 1);
    if (err == 0)
        err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); // a tree, not a list
    if (err == 0)
        err = filter_fill(ctx, params);
    if (err == 0)
        err = seccomp_load(ctx);
    seccomp_release(ctx);
    if (err == -EINVAL || err == -ENOSYS || err == -EOPNOTSUPP)
        return fault_set(fault, ENOTSUP, "this kernel cannot filter system calls (seccomp)");
    return err < 0 ? fault_set(fault, -err, "seccomp: %s", strerror(-err)) : 0;
}
#else
static int filter_enter(const struct sandbox_params *params, struct fault *fault)
{
    (void)params;
    return fault_set(fault, ENOTSUP, "this program was built without libseccomp");
}
#endif

int sandbox_enter(const struct sandbox_params *params, char *ret_text, size_t text_bytes,
                  struct fault *fault)
{
    int err = 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fault_set(fault, errno, "no_new_privs: %s", strerror(errno));
    uint32_t left = capabilities_drop_all();
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); // a core stays possible
    if (params->filter != SANDBOX_OFF)
        err = filter_enter(params, fault);
    char threads[80] = "";
    if (left == UINT32_MAX)
        snprintf(threads, sizeof(threads), ", but capabilities cannot be given up");
    else if (left > 0)
        snprintf(threads, sizeof(threads), ", but %u threads of drivers kept theirs", left);
    snprintf(ret_text, text_bytes, "system calls: %s; capabilities: %s%s",
             err != 0 ? "not filtered" : sandbox_filter_name[params->filter],
             atomic_load_explicit(&any_keeps, memory_order_relaxed) ? "those of the port" : "none",
             threads);
    return err;
}
