// SPDX-License-Identifier: MIT
#include "client/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define END_PATIENCE_MS 10000
#define FAILED_TO_EXEC  127

// path_try joins a folder and a name, and says whether that may be run.
static bool path_try(const char *folder, size_t folder_len, const char *name, char *ret)
{
    int n = snprintf(ret, PATH_MAX, "%.*s/%s", (int)folder_len, folder, name);
    return n > 0 && n < PATH_MAX && access(ret, X_OK) == 0;
}

static bool path_find(const char *name, char *ret)
{
    const char *path = getenv("PATH");
    for (const char *at = path && path[0] ? path : "/usr/sbin:/usr/bin"; at;) {
        size_t len = strcspn(at, ":");
        if (len > 0 && at[0] == '/' && path_try(at, len, name, ret))
            return true;
        at = at[len] ? at + len + 1 : NULL;
    }
    return false;
}

int program_find(const char *name, const char *folder, char *ret)
{
    char self[PATH_MAX], beside[PATH_MAX + 64];

    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash) {
        *slash = '\0';
        if (path_try(self, strlen(self), name, ret))
            return 0;
        snprintf(beside, sizeof(beside), "%s/../%s", self, folder ? folder : "");
        if (folder && path_try(beside, strlen(beside), name, ret))
            return 0;
    }
    return path_find(name, ret) ? 0 : -ENOENT;
}

// child_become runs in the child and does not return.
static void child_become(const char *const argv[], int log_fd, pid_t parent)
{
    union {
        const char *const *in;
        char *const *out;
    } words = {.in = argv};
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int in = open("/dev/null", O_RDONLY);
    if (getppid() != parent || in < 0 || dup2(in, STDIN_FILENO) < 0 ||
        dup2(log_fd, STDOUT_FILENO) < 0 || dup2(log_fd, STDERR_FILENO) < 0)
        _exit(FAILED_TO_EXEC);
    execvp(words.out[0], words.out);
    fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
    fflush(stderr);
    _exit(FAILED_TO_EXEC);
}

int program_start(const char *const argv[], int log_fd, pid_t *ret_pid)
{
    pid_t parent = getpid();

    fflush(NULL); // what is buffered is written once
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        child_become(argv, log_fd, parent);
    *ret_pid = pid;
    return 0;
}

void program_end(pid_t pid)
{
    kill(pid, SIGTERM);
    for (int ms = 0; ms < END_PATIENCE_MS; ms += 10) {
        pid_t got = waitpid(pid, NULL, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR))
            return;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

// output_take collects what fits and reads on, so that the child never waits for a reader.
static int output_take(int fd, int stop_fd, size_t max, struct text *ret)
{
    struct pollfd fds[2] = {{.fd = stop_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    char buf[4096];
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return -errno;
        if (fds[0].revents)
            return -ECANCELED;
        if (!fds[1].revents)
            continue;
        ssize_t got = read(fd, buf, sizeof(buf));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : 0;
        int err = text_append(ret, buf, (size_t)got, max);
        if (err == -ENOMEM)
            return err;
    }
}

int program_run(const char *const argv[], int stop_fd, size_t max, struct text *ret,
                int *ret_status)
{
    int ends[2], status = 0;
    char found[PATH_MAX];
    pid_t pid = -1;

    if (!strchr(argv[0], '/') && !path_find(argv[0], found))
        return -ENOENT;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    int err = program_start(argv, ends[1], &pid);
    close(ends[1]);
    if (!err)
        err = output_take(ends[0], stop_fd, max, ret);
    close(ends[0]);
    if (err == -ECANCELED) {
        program_end(pid);
        return err;
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    if (!err)
        *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return err;
}

const char *program_sentence(struct text *said)
{
    static const char name[] = "expertd: error: ";

    if (!said->bytes)
        return "";
    said->bytes[strcspn(said->bytes, "\n")] = '\0';
    bool named = strncmp(said->bytes, name, sizeof(name) - 1) == 0;
    return said->bytes + (named ? sizeof(name) - 1 : 0);
}
