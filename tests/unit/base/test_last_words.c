// SPDX-License-Identifier: MIT
// Last words of processes that die, each in one of its threads.
#include "base/last_words.h"
#include "tests/check.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static volatile char *volatile nowhere = (volatile char *)0x10;

static void touch(void)
{
    *nowhere = 1;
}

static void touch_behind(void)
{
    FILE *file = tmpfile();
    CHECK(file && ftruncate(fileno(file), 1) == 0);
    volatile char *map =
        mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0); // of one page
    map[5000] = 1;
}

static void trap(void)
{
    __builtin_trap();
}

// The compiler must not see that it never ends.
static volatile unsigned depth = 1;
static unsigned fall(unsigned n)
{
    volatile char room[4096];
    room[n % sizeof(room)] = (char)n;
    return depth > 0 ? fall(n + 1) + (unsigned char)room[n % sizeof(room)] : 0;
}

static void overflow(void)
{
    depth = fall(1);
}

static void sent(void)
{
    kill(getpid(), SIGFPE);
    pause();
}

static void *body(void *arg)
{
    void (*const *deed)(void) = arg;
    pthread_setname_np(pthread_self(), "doomed");
    last_words_thread();
    (*deed)();
    return NULL;
}

static char said[4096];
static int child(void (*deed)(void))
{
    int ends[2], status;
    CHECK(pipe(ends) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0}; // no cores from here
        setrlimit(RLIMIT_CORE, &none);
        dup2(ends[1], STDERR_FILENO);
        last_words_open("program 1.2", false);
        pthread_t thread;
        sigset_t all; // signals that are sent find the other thread
        sigfillset(&all);
        pthread_create(&thread, NULL, body, &deed);
        pthread_sigmask(SIG_BLOCK, &all, NULL);
        pthread_join(thread, NULL);
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

int main(void)
{
    static const struct {
        void (*deed)(void);
        int number;
        const char *words;
    } rows[] = {
        {touch, SIGSEGV, "program 1.2: SIGSEGV at address 0x10, thread doomed, code at 0x"},
        {touch_behind, SIGBUS, "program 1.2: SIGBUS at address 0x"},
        {trap, SIGILL, "program 1.2: SIGILL at address 0x"},
        {abort, SIGABRT, "program 1.2: SIGABRT from process "},
        {overflow, SIGSEGV, "program 1.2: SIGSEGV at address 0x"},
        {sent, SIGFPE, "program 1.2: SIGFPE from process "},
    };
    if (SANITIZED) {
        printf("skipped: the sanitizer has the last word\n");
        return TEST_SKIPPED;
    }
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int status = child(rows[i].deed);
        if (!strstr(said, rows[i].words))
            fprintf(stderr, "case %zu: status %x, said: %s\n", i, (unsigned)status, said);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == rows[i].number);
        CHECK(strstr(said, rows[i].words) && strstr(said, "expertd: error: last words: "));
        char *end = strchr(said, '\n');
        CHECK(end && end[1] == '\0'); // one line
    }
    return 0;
}
