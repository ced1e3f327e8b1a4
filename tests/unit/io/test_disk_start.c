// SPDX-License-Identifier: MIT
// disk_start: what a reader says where io_uring is forbidden, memory may not be locked, a file
// system refuses O_DIRECT, or a parameter or file is not what it should be.
#include "tests/unit/io/disk_fixture.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct fixture f;

// child runs a case that changes what its process may do.
static void child(void (*run)(void))
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        run();
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void forbid_io_uring(int err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = (unsigned short)ARRAY_LEN(code), .filter = code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void read_works(enum disk_engine engine, const char *warning)
{
    struct disk_params params = fixture_params(&f, engine);
    fixture_open(&f, &params, NULL);
    const char *got = disk_reader_warning(f.reader, 0);
    CHECK((got != NULL) == (warning != NULL));
    if (warning && !strstr(got, warning))
        CHECK_FAIL(got);
    CHECK(!disk_reader_warning(f.reader, 1));
    struct disk_read read = fixture_read(&f, 1, 1, 1, 100, 2000000);
    CHECK(disk_reader_submit(f.reader, &read, 1) == 0);
    CHECK(fixture_done(&f).err == 0 && fixture_same(&f, &read, 1));
    CHECK(disk_reader_cpu_ns(f.reader) > 0);
    CHECK(disk_reader_destroy(&f.reader));
}

static void forbidden(void)
{
    struct fault fault = {0};
    struct disk_params params = fixture_params(&f, DISK_ENGINE_IO_URING);
    forbid_io_uring(EPERM);
    CHECK(disk_reader_create(&params, &f.reader, &fault) == -EPERM);
    CHECK(strstr(fault.text, "kernel.io_uring_disabled"));
    read_works(DISK_ENGINE_AUTO, "kernel.io_uring_disabled");
    read_works(DISK_ENGINE_PREAD, NULL);
}

static void missing(void)
{
    struct fault fault = {0};
    struct disk_params params = fixture_params(&f, DISK_ENGINE_IO_URING);
    forbid_io_uring(ENOSYS);
    CHECK(disk_reader_create(&params, &f.reader, &fault) == -ENOTSUP);
    CHECK(strstr(fault.text, "kernel"));
}

// Without CAP_IPC_LOCK the buffers count against the limit of locked memory.
static void memlock(void)
{
    struct rlimit limit = {.rlim_cur = 1u << 20, .rlim_max = 1u << 20};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    CHECK(syscall(SYS_capset, &header, data) == 0);
    read_works(DISK_ENGINE_IO_URING, "limit of locked memory is 1024 KiB");
}

static void refused(struct disk_params params, const char *word)
{
    struct disk_reader *none = NULL;
    struct fault fault = {0};
    CHECK(disk_reader_create(&params, &none, &fault) == -EINVAL);
    CHECK(!none);
    if (!strstr(fault.text, word))
        CHECK_FAIL(fault.text);
}

static void parameters(void)
{
    const struct disk_params good = fixture_params(&f, DISK_ENGINE_AUTO);
    struct disk_params p;
#define REFUSED(change, word)                                                                      \
    do {                                                                                           \
        p = good;                                                                                  \
        p.change;                                                                                  \
        refused(p, word);                                                                          \
    } while (0)
    REFUSED(engine = DISK_ENGINE_COUNT, "engine");
    REFUSED(queue_depth = 513, "queue_depth 513");
    REFUSED(read_size = (1u << 20) + 1, "read_size 1048577");
    REFUSED(read_size = 4096, "read_size");
    REFUSED(read_size = 32u << 20, "read_size");
    REFUSED(timeout_us = 9999, "timeout_us");
    REFUSED(timeout_us = UINT64_MAX, "timeout_us");
    REFUSED(retries = 11, "retries");
    REFUSED(buffers_n = 0, "buffers_n");
    REFUSED(buffers_n = 16385, "buffers_n");
    struct iovec odd = {.iov_base = (char *)f.buffers[0].iov_base + 512, .iov_len = 8192};
    p = good;
    p.buffers = &odd;
    p.buffers_n = 1;
    refused(p, "buffer 0");
}

static void files(void)
{
    struct disk_params params = fixture_params(&f, DISK_ENGINE_AUTO);
    struct fault fault = {0};
    uint32_t drive, file;
    char path[512];
    CHECK(disk_reader_create(&params, &f.reader, &fault) == 0);
    for (uint32_t i = 0; i < DISK_DRIVES_MAX; i++)
        CHECK(disk_reader_drive_add(f.reader, "d", &drive, &fault) == 0 && drive == i);
    CHECK(disk_reader_drive_add(f.reader, "d", &drive, &fault) == -EINVAL);
    CHECK(disk_reader_drives(f.reader) == DISK_DRIVES_MAX);

    CHECK(disk_reader_file_add(f.reader, 0, "/nonexistent/x", &file, &fault) == -ENOENT);
    CHECK(strstr(fault.text, "/nonexistent/x"));
    CHECK(disk_reader_file_add(f.reader, 0, f.dir, &file, &fault) == -EINVAL);
    CHECK(strstr(fault.text, f.dir));
    CHECK(disk_reader_file_add(f.reader, 0, "/dev/zero", &file, &fault) == -EINVAL);
    snprintf(path, sizeof(path), "%s/fifo", f.dir);
    CHECK(mkfifo(path, 0600) == 0);
    CHECK(disk_reader_file_add(f.reader, 0, path, &file, &fault) == -EINVAL); // and did not block
    unlink(path);
    fixture_path(&f, 0, 0, path);
    CHECK(disk_reader_file_add(f.reader, DISK_DRIVES_MAX, path, &file, &fault) == -EINVAL);
    CHECK(disk_reader_file_add(f.reader, 0, path, &file, &fault) == 0 && file == 0);

    CHECK(!disk_reader_warning(f.reader, 0)); // proc refuses O_DIRECT: one warning for two files
    for (uint32_t i = 1; i < 3; i++)
        CHECK(disk_reader_file_add(f.reader, 1, "/proc/version", &file, &fault) == 0 && file == i);
    CHECK(strstr(disk_reader_warning(f.reader, 0), "O_DIRECT"));
    CHECK(!disk_reader_warning(f.reader, 1));
    CHECK(disk_reader_destroy(&f.reader)); // was never started
}

// The probe chooses what is 0, and nothing else; then reads are right.
static void probe(enum disk_engine engine)
{
    struct disk_params params = fixture_params(&f, engine);
    struct fault fault = {0};
    uint32_t drive;
    char text[512], path[512];
    params.read_size = 0;
    params.queue_depth = 5;
    CHECK(disk_reader_create(&params, &f.reader, &fault) == 0);
    CHECK(disk_reader_probe(f.reader, &fault) == -EINVAL); // no file yet
    CHECK(disk_reader_drive_add(f.reader, "d", &drive, &fault) == 0);
    fixture_path(&f, 0, 0, path);
    CHECK(disk_reader_file_add(f.reader, drive, path, &f.file[0][0], &fault) == 0);
    CHECK(disk_reader_probe(f.reader, &fault) == 0);
    CHECK(disk_reader_start(f.reader, &fault) == 0);
    CHECK(disk_reader_describe(f.reader, text, sizeof(text)) > 0);
    CHECK(strstr(text, "5 in flight a drive (measured)"));
    struct disk_read read = fixture_read(&f, 1, 0, 1, 100, 2000000);
    CHECK(disk_reader_submit(f.reader, &read, 1) == 0);
    CHECK(fixture_done(&f).err == 0 && fixture_same(&f, &read, 0));
    CHECK(disk_reader_destroy(&f.reader));
}

int main(void)
{
    fixture_init(&f, 1);
    parameters();
    files();
    probe(DISK_ENGINE_IO_URING);
    probe(DISK_ENGINE_PREAD);
    child(forbidden);
    child(missing);
    child(memlock);
    fixture_fini(&f);
    return 0;
}
