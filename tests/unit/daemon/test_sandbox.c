// SPDX-License-Identifier: MIT
// What the sandbox refuses, in every thread, and what it lets through.  Each case runs in a process
// of its own, for nobody comes out of it.
#include "base/last_words.h"
#include "daemon/sandbox.h"
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CAP_BIT(n) (1ull << (n))
#define NET_ADMIN  12u // CAP_NET_ADMIN

// A thread that is there before the sandbox closes, and then calls something.
struct worker {
    pthread_t thread;
    atomic_int go; // 1: call, 2: leave
    long (*call)(void);
    long result;
    int err;
    uint64_t keep;
    bool deaf;          // blocks every signal ...
    useconds_t deaf_us; // ... for this long; 0: always
    atomic_int began;   // and blocks them now
};

static void *worker_run(void *arg)
{
    struct worker *w = arg;
    sigset_t all;
    sigfillset(&all);
    if (w->deaf)
        pthread_sigmask(SIG_BLOCK, &all, NULL);
    sandbox_keep(w->keep);
    atomic_store(&w->began, 1);
    if (w->deaf_us > 0) {
        usleep(w->deaf_us);
        pthread_sigmask(SIG_UNBLOCK, &all, NULL);
    }
    while (atomic_load(&w->go) == 0)
        usleep(100);
    if (w->call) {
        w->result = w->call();
        w->err = errno;
    }
    return NULL;
}

static void worker_start(struct worker *w)
{
    CHECK(pthread_create(&w->thread, NULL, worker_run, w) == 0);
    while (!atomic_load(&w->began))
        usleep(100);
}

static void worker_end(struct worker *w)
{
    atomic_store(&w->go, 1);
    CHECK(pthread_join(w->thread, NULL) == 0);
}

static int enter(enum sandbox_filter filter, bool makes_code)
{
    struct sandbox_params params = {.filter = filter, .makes_code = makes_code};
    struct fault fault = {0};
    char text[256];
    int err = sandbox_enter(&params, text, sizeof(text), &fault);
    if (err != 0)
        fprintf(stderr, "%s\n", fault.text);
    return err;
}

// child runs a case and returns its wait status; what it says on the standard error is in said.
static char said[4096];
static int child(void (*body)(const void *arg), const void *arg)
{
    int ends[2], status;
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0}; // no cores from here
        setrlimit(RLIMIT_CORE, &none);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        body(arg);
        _exit(0);
    }
    close(ends[1]);
    size_t n = 0;
    ssize_t got;
    while ((got = read(ends[0], said + n, sizeof(said) - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    close(ends[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void child_passes(void (*body)(const void *arg), const void *arg)
{
    int status = child(body, arg);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "status %x: %s\n", (unsigned)status, said);
        CHECK_FAIL("a case fails");
    }
}

// What is refused.

static long call_kill(void)
{
    return kill(getppid(), 0);
}
static long call_fork(void)
{
    return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}
static long call_inet(void)
{
    return socket(AF_INET, SOCK_STREAM, 0);
}
static long call_chmod(void)
{
    return chmod("/dev/null", 0666);
}
static long call_exec_memory(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? -1 : 0;
}
static long call_write_exec(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(p, 4096, PROT_READ | PROT_EXEC);
}
static long call_tgkill(void)
{
    return syscall(SYS_tgkill, getppid(), getppid(), 0);
}
static long call_limit(void)
{
    struct rlimit limit = {1, 1};
    return setrlimit(RLIMIT_CORE, &limit);
}
static long call_nice(void)
{
    return setpriority(PRIO_PROCESS, 0, 19); // never upwards, whatever the test runs at
}
static long call_listen(void)
{
    return listen(0, 1);
}

static long (*const refused[])(void) = {call_kill,        call_fork,  call_inet, call_chmod,
                                        call_exec_memory, call_limit, call_nice, call_listen,
                                        call_write_exec,  call_tgkill};

static void refuses(const void *arg)
{
    struct worker w[ARRAY_LEN(refused)] = {0};
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        w[i].call = refused[i];
        w[i].deaf = i % 2; // a thread of a driver
        worker_start(&w[i]);
    }
    CHECK(enter(SANDBOX_DENY, false) == 0);
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        worker_end(&w[i]);
        if (w[i].result != -1 || w[i].err != EPERM)
            fprintf(stderr, "call %zu: %ld, %s\n", i, w[i].result, strerror(w[i].err));
        CHECK(w[i].result == -1 && w[i].err == EPERM);
    }
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == -1 && errno == EPERM);
}

// What ends the process.

static long call_execve(void)
{
    char *const none[] = {NULL};
    return execve("/bin/true", none, none);
}
static long call_ptrace(void)
{
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}
static long call_mount(void)
{
    return syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL);
}
static long call_unshare(void)
{
    return unshare(CLONE_NEWUSER);
}
static long call_setuid(void)
{
    return syscall(SYS_setuid, 1);
}
static long call_bpf(void)
{
    return syscall(SYS_bpf, 0, NULL, 0);
}
static long call_read_other(void)
{
    return syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0);
}

static const struct deadly {
    long (*call)(void);
    long number;
} deadly[] = {
    {call_execve, SYS_execve},
    {call_ptrace, SYS_ptrace},
    {call_mount, SYS_mount},
    {call_unshare, SYS_unshare},
    {call_setuid, SYS_setuid},
    {call_bpf, SYS_bpf},
    {call_read_other, SYS_process_vm_readv},
};

static void dies(const void *arg)
{
    const struct deadly *d = arg;
    struct worker w = {.call = d->call};
    last_words_open("test", false);
    worker_start(&w);
    CHECK(enter(SANDBOX_DENY, true) == 0);
    worker_end(&w);
}

// What goes on.

static void *nothing(void *arg)
{
    return arg;
}

static long io_uring_try(void)
{
    struct io_uring_params params = {0};
    return syscall(SYS_io_uring_setup, 4, &params);
}

static void goes_on(const void *arg)
{
    char dir[] = "/tmp/test_sandbox.XXXXXX", from[64], to[64];
    pthread_t thread;
    long ring_before = io_uring_try();
    (void)arg;
    CHECK(mkdtemp(dir));
    snprintf(from, sizeof(from), "%s/a", dir);
    snprintf(to, sizeof(to), "%s/b", dir);
    CHECK(enter(SANDBOX_DENY, true) == 0);
    CHECK(pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0);
    int fd = open(from, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1 && ftruncate(fd, 0) == 0 && fsync(fd) == 0);
    CHECK(rename(from, to) == 0 && unlink(to) == 0 && rmdir(dir) == 0);
    CHECK(call_exec_memory() == 0 && call_write_exec() == 0); // lavapipe
    CHECK(socket(AF_UNIX, SOCK_DGRAM, 0) >= 0);
    if (ring_before >= 0) { // it stays; another one could open sockets
        CHECK(syscall(SYS_io_uring_enter, ring_before, 0, 0, 0, NULL, 0) == 0);
        CHECK(io_uring_try() == -1 && errno == EPERM);
    }
    CHECK(prctl(PR_SET_NAME, "renamed") == 0);
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(raise(0) == 0);
}

static void only_logs(const void *arg)
{
    (void)arg;
    CHECK(enter(SANDBOX_LOG, false) == 0);
    CHECK(call_kill() == 0 && call_exec_memory() == 0 && call_nice() == 0);
}

static void is_off(const void *arg)
{
    (void)arg;
    CHECK(enter(SANDBOX_OFF, false) == 0);
    CHECK(call_kill() == 0);
    CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1);
}

// Capabilities of the calling thread.
static long permitted(void)
{
    struct {
        uint32_t version;
        int pid;
    } header = {0x20080522, 0};
    struct {
        uint32_t effective, permitted, inheritable;
    } data[2] = {{0}};
    if (syscall(SYS_capget, &header, data) != 0)
        return -1;
    return (long)((uint64_t)data[1].permitted << 32 | data[0].permitted | data[0].effective);
}

static void drops(const void *arg)
{
    struct worker plain = {.call = permitted},
                  port = {.call = permitted, .keep = CAP_BIT(NET_ADMIN)};
    (void)arg;
    worker_start(&plain);
    worker_start(&port);
    CHECK(enter(SANDBOX_DENY, true) == 0);
    worker_end(&plain);
    worker_end(&port);
    CHECK(permitted() == 0 && plain.result == 0);
    CHECK(port.result == (long)CAP_BIT(NET_ADMIN));
}

// A thread that hears signals only later, as one that begins does, is asked until it does.
static void drops_waits(const void *arg)
{
    struct worker begins = {.call = permitted, .deaf = true, .deaf_us = 150000};
    struct sandbox_params params = {.filter = SANDBOX_OFF};
    struct fault fault = {0};
    char text[256];
    (void)arg;
    worker_start(&begins);
    CHECK(sandbox_enter(&params, text, sizeof(text), &fault) == 0);
    CHECK(strcmp(text, "system calls: off; capabilities: none") == 0);
    worker_end(&begins);
    CHECK(begins.result == 0);
}

// A thread that hears no signal keeps what it has, and that is said.
static void drops_told(const void *arg)
{
    struct worker deaf = {.call = permitted, .deaf = true};
    struct sandbox_params params = {.filter = SANDBOX_OFF};
    struct fault fault = {0};
    char text[256];
    (void)arg;
    worker_start(&deaf);
    CHECK(sandbox_enter(&params, text, sizeof(text), &fault) == 0);
    CHECK(strstr(text, "1 threads of drivers kept theirs"));
    worker_end(&deaf);
    CHECK(permitted() == 0);
}

// A thread that the kernel holds longer than the sandbox waits does not die of the late question.
static int held_fd;
static long call_held(void)
{
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
    uint64_t go;
    if (pid == 0)
        _exit(read(held_fd, &go, sizeof(go)) == sizeof(go) ? 0 : 1);
    return pid;
}

static void drops_late(const void *arg)
{
    struct worker held = {.call = call_held};
    struct sandbox_params params = {.filter = SANDBOX_OFF};
    struct fault fault = {0};
    char text[256];
    const uint64_t go = 1;
    (void)arg;
    held_fd = eventfd(0, 0);
    worker_start(&held);
    atomic_store(&held.go, 1);
    usleep(100000);
    last_words_open("test", false);
    CHECK(sandbox_enter(&params, text, sizeof(text), &fault) == 0);
    CHECK(strstr(text, "1 threads of drivers kept theirs"));
    CHECK(write(held_fd, &go, sizeof(go)) == sizeof(go));
    worker_end(&held);
    CHECK(held.result > 0 && waitpid((pid_t)held.result, NULL, 0) == held.result);
}

// Who has none need not give any up: the unit forbids the call then.
static void drops_nothing(const void *arg)
{
    struct sandbox_params params = {.filter = SANDBOX_OFF};
    struct fault fault = {0};
    char text[256];
    struct sock_filter refuse[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_capset, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {ARRAY_LEN(refuse), refuse};
    (void)arg;
    CHECK(enter(SANDBOX_OFF, true) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    CHECK(sandbox_enter(&params, text, sizeof(text), &fault) == 0);
    CHECK(strcmp(text, "system calls: off; capabilities: none") == 0);
}

static void supported(const void *arg)
{
    (void)arg;
    if (enter(SANDBOX_DENY, true) == -ENOTSUP)
        _exit(TEST_SKIPPED);
}

int main(void)
{
    int status = child(supported, NULL);
    if (WIFEXITED(status) && WEXITSTATUS(status) == TEST_SKIPPED) {
        printf("skipped: %s", said);
        return TEST_SKIPPED;
    }
    child_passes(refuses, NULL);
    child_passes(goes_on, NULL);
    child_passes(only_logs, NULL);
    child_passes(is_off, NULL);
    child_passes(drops_nothing, NULL);
    for (size_t i = 0; i < ARRAY_LEN(deadly); i++) {
        char want[64];
        status = child(dies, &deadly[i]);
        snprintf(want, sizeof(want), "SIGSYS, system call %ld is forbidden", deadly[i].number);
        if (!strstr(said, want))
            fprintf(stderr, "call %zu: %s\n", i, said);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS && strstr(said, want));
    }
    if (permitted() > 0) {
        child_passes(drops, NULL);
        child_passes(drops_waits, NULL);
        child_passes(drops_told, NULL);
        child_passes(drops_late, NULL);
    }
    return 0;
}
