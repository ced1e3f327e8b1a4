// SPDX-License-Identifier: MIT
// Everything on_signal calls is async-signal-safe (signal-safety(7)); numbers are written by hand.
#include "base/last_words.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_BYTES  32768u // the handler needs 2 KB, registers of AVX-512 3, of AMX 11
#define STACKS       8u     // of threads: the daemon has six
#define THREAD_BYTES 16     // PR_GET_NAME
#define PATIENCE_MS  100    // for a standard error that nobody reads

extern const char __executable_start; // of the linker

static const struct {
    int number;
    const char *name;
} signals[] = {{SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGABRT, "SIGABRT"},
               {SIGILL, "SIGILL"},   {SIGFPE, "SIGFPE"}, {SIGSYS, "SIGSYS"}};
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

static const char *program_name = "";
static const char *line_prefix = "expertd: error: ";
static char stacks[STACKS][STACK_BYTES];
static atomic_uint stacks_n; // taken

// line is the text while it is made.
struct line {
    char text[512];
    size_t n;
};

static void line_text(struct line *l, const char *text)
{
    while (*text && l->n < sizeof(l->text) - 1)
        l->text[l->n++] = *text++;
}

static void line_number(struct line *l, uint64_t value, unsigned base)
{
    char digits[24];
    size_t n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value > 0);
    while (n > 0 && l->n < sizeof(l->text) - 1)
        l->text[l->n++] = digits[--n];
}

static uintptr_t code_of(const void *context)
{
    const ucontext_t *c = context;
#if defined(__x86_64__)
    return (uintptr_t)c->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)c->uc_mcontext.pc;
#else
    (void)c;
    return 0;
#endif
}

static void line_make(struct line *l, int number, const siginfo_t *info, const void *context)
{
    char thread[THREAD_BYTES] = "";
    uintptr_t code = code_of(context), start = (uintptr_t)&__executable_start;
    line_text(l, line_prefix);
    line_text(l, "last words: ");
    line_text(l, program_name);
    line_text(l, ": ");
    for (size_t i = 0; i < SIGNALS; i++)
        if (signals[i].number == number)
            line_text(l, signals[i].name);
    if (number == SIGSYS && info->si_code > 0) {
        line_text(l, ", system call ");
        line_number(l, (uint64_t)info->si_syscall, 10);
        line_text(l, " is forbidden");
    } else if (info->si_code > 0) {
        line_text(l, " at address 0x");
        line_number(l, (uintptr_t)info->si_addr, 16);
    } else {
        line_text(l, " from process ");
        line_number(l, (uint64_t)info->si_pid, 10);
    }
    prctl(PR_GET_NAME, thread, 0, 0, 0);
    line_text(l, ", thread ");
    line_text(l, thread);
    line_text(l, ", code at 0x");
    line_number(l, code, 16);
    line_text(l, ", program at 0x");
    line_number(l, start, 16);
    line_text(l, "\n");
}

static void on_signal(int number, siginfo_t *info, void *context)
{
    struct line l = {.n = 0};
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    int err = errno;
    line_make(&l, number, info, context);
    if (poll(&out, 1, PATIENCE_MS) == 1) {
        ssize_t written = write(STDERR_FILENO, l.text, l.n);
        (void)written; // nowhere left to complain to
    }
    // What the kernel found happens again when we return, in the place where it happened; what was
    // sent has to be sent again.
    signal(number, SIG_DFL);
    if (info->si_code <= 0 || number == SIGSYS)
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), number);
    errno = err;
}

void last_words_thread(void)
{
    stack_t stack = {.ss_size = STACK_BYTES}, before;
    unsigned i = atomic_fetch_add_explicit(&stacks_n, 1, memory_order_relaxed);
    if (i >= STACKS || sigaltstack(NULL, &before) != 0 || !(before.ss_flags & SS_DISABLE))
        return;
    stack.ss_sp = stacks[i];
    sigaltstack(&stack, NULL);
}

void last_words_open(const char *program, bool journal)
{
    program_name = program;
    if (journal)
        line_prefix = "<2>"; // its priority
    last_words_thread();
    for (size_t i = 0; i < SIGNALS; i++) {
        struct sigaction before;
        struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        if (sigaction(signals[i].number, NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            sigaction(signals[i].number, &action, NULL);
    }
}
