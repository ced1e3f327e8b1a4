// SPDX-License-Identifier: MIT
// The drives' ring takes nothing but reads once it runs: who breaks in cannot use it for what the
// sandbox refuses.
#include "base/wake.h"
#include "io/disk/engine.h"
#include "tests/check.h"

#include <dirent.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

// ring_fd finds the ring among our files.
static int ring_fd(void)
{
    char path[300], name[64];
    int fd = -1;
    DIR *dir = opendir("/proc/self/fd");
    CHECK(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
        ssize_t n = readlink(path, name, sizeof(name) - 1);
        name[n > 0 ? n : 0] = '\0';
        if (strcmp(name, "anon_inode:[io_uring]") == 0)
            fd = (int)strtol(entry->d_name, NULL, 10);
    }
    closedir(dir);
    return fd;
}

int main(void)
{
    struct engine_params params = {.drives_n = 1, .depth = 4};
    struct engine_io *io = NULL;
    struct engine_done done[4];
    struct fault fault = {0};
    char note[FAULT_TEXT_MAX];
    union {
        struct io_uring_probe probe;
        char room[sizeof(struct io_uring_probe) + sizeof(struct io_uring_probe_op)];
    } asked = {0};

    if (ring_allowed(&fault) != 0) {
        printf("skipped: %s\n", fault.text);
        return TEST_SKIPPED;
    }
    CHECK((params.wake_fd = wake_open()) >= 0);
    CHECK(ring_table.open(&params, &io, note, &fault) == 0);
    CHECK(ring_table.wait(io, done, 4, 0) == 0); // from here on it runs
    CHECK(syscall(SYS_io_uring_register, ring_fd(), IORING_REGISTER_PROBE, &asked, 1) == -1);
    CHECK(errno == EACCES);
    wake_signal(params.wake_fd);
    CHECK(ring_table.wait(io, done, 4, -1) == 0); // and still hears that
    ring_table.close(&io);
    close(params.wake_fd);
    return 0;
}
