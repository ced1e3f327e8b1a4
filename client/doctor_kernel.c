// SPDX-License-Identifier: MIT
#include "client/doctor.h"
#include "io/net/nic.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

// 5.19 gave io_uring cooperative completions, 6.1 deferred ones: fewer interrupts a read.
#define KERNEL_OLDEST 510u // 5.10: what the reader can do with at all
#define KERNEL_GOOD   601u

static void kernel_version(struct doctor *d)
{
    char release[128] = "";
    unsigned major = 0, minor = 0;

    if (!doctor_read(d, "/proc/sys/kernel/osrelease", release, sizeof(release)) ||
        sscanf(release, "%u.%u", &major, &minor) != 2) {
        doctor_add(d, VERDICT_WARN, "kernel", "", "its version is unknown");
        return;
    }
    unsigned version = major * 100 + minor;
    enum verdict verdict = version < KERNEL_OLDEST ? VERDICT_FAIL
                           : version < KERNEL_GOOD ? VERDICT_WARN
                                                   : VERDICT_OK;
    doctor_add(d, verdict, "kernel",
               verdict == VERDICT_OK ? "" : "a kernel of 6.1 or later reads drives with less CPU",
               "Linux %s", release);
}

// uring_try asks the kernel for a ring.  Returns 0 or -errno.
static int uring_try(void)
{
    struct io_uring_params params = {0};
    long fd = syscall(SYS_io_uring_setup, 8, &params);
    if (fd < 0)
        return -errno;
    close((int)fd);
    return 0;
}

static void kernel_uring(struct doctor *d)
{
    static const char mend[] = "sysctl kernel.io_uring_disabled=0";
    char disabled[16] = "0";
    int err = d->root[0] ? 0 : uring_try(); // of the real machine only

    doctor_read(d, "/proc/sys/kernel/io_uring_disabled", disabled, sizeof(disabled));
    if (d->conf.drives_engine == DISK_ENGINE_PREAD && d->conf_read)
        doctor_add(d, VERDICT_OK, "io_uring", "", "not used: [drives] engine = pread");
    else if (disabled[0] == '2')
        doctor_add(d, VERDICT_WARN, "io_uring", mend,
                   "forbidden for all (kernel.io_uring_disabled = 2): drives are read with pread, "
                   "which costs more CPU");
    else if (disabled[0] == '1')
        doctor_add(d, VERDICT_WARN, "io_uring", mend,
                   "kept for a group (kernel.io_uring_disabled = 1, kernel.io_uring_group): drives "
                   "are read with pread unless expertd is in it");
    else if (err == -ENOSYS)
        doctor_add(d, VERDICT_WARN, "io_uring", "boot a kernel that has it",
                   "this kernel has none: drives are read with pread");
    else if (err)
        doctor_add(d, VERDICT_WARN, "io_uring",
                   "allow io_uring_setup in what confines this process",
                   "refused here (%s): a container or a seccomp filter forbids it", strerror(-err));
    else
        doctor_add(d, VERDICT_OK, "io_uring", "", "allowed");
}

// huge_free sums what is free over the sizes of pages that there are.
static uint64_t huge_free(const struct doctor *d, uint64_t *ret_all)
{
    char dir[PATH_MAX], path[PATH_MAX], text[64];
    uint64_t free_bytes = 0, kib;

    *ret_all = 0;
    DIR *folder = opendir(doctor_path(d, "/sys/kernel/mm/hugepages", dir));
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (sscanf(entry->d_name, "hugepages-%" SCNu64 "kB", &kib) != 1)
            continue;
        snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/%s/free_hugepages", entry->d_name);
        if (doctor_read(d, path, text, sizeof(text)))
            free_bytes += (kib << 10) * strtoull(text, NULL, 10);
        snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/%s/nr_hugepages", entry->d_name);
        if (doctor_read(d, path, text, sizeof(text)))
            *ret_all += (kib << 10) * strtoull(text, NULL, 10);
    }
    if (folder)
        closedir(folder);
    return free_bytes;
}

// kernel_huge tells what there is; whether a port has enough is said with the port.  Slots for
// experts take what is free, and else transparent ones.
static void kernel_huge(struct doctor *d)
{
    char text[128] = "";
    uint64_t all, bytes = huge_free(d, &all);
    bool told = doctor_read(d, "/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text));
    bool never = !told || strstr(text, "[never]");

    if (never)
        doctor_add(d, VERDICT_WARN, "huge pages",
                   "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled",
                   "%" PRIu64 " of %" PRIu64 " MiB free; transparent ones are off, so slots of "
                   "experts lie in small pages, which the CPU walks slowly",
                   bytes >> 20, all >> 20);
    else
        doctor_add(d, VERDICT_OK, "huge pages", "",
                   "%" PRIu64 " of %" PRIu64 " MiB free; transparent ones for slots of experts",
                   bytes >> 20, all >> 20);
}

// name_is_bare: the group of a NIC that vfio drives without an IOMMU has this name.
static bool name_is_bare(const struct doctor *d, const char *path)
{
    char name[32];
    return doctor_read(d, path, name, sizeof(name)) && strcmp(name, "vfio-noiommu") == 0;
}

static bool group_is_bare(const struct doctor *d, const char *group)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%s/name", group);
    return name_is_bare(d, path);
}

static void kernel_iommu(struct doctor *d)
{
    char path[PATH_MAX];
    unsigned n = 0;
    struct dirent *entry;
    struct nic_name name = {.kind = NIC_KIND_COUNT};
    struct fault ignored;
    bool bare = false;

    DIR *folder = opendir(doctor_path(d, "/sys/kernel/iommu_groups", path));
    while (folder && (entry = readdir(folder)))
        n += entry->d_name[0] != '.' && !group_is_bare(d, entry->d_name);
    if (folder)
        closedir(folder);
    bool wanted =
        d->conf_read && nic_parse(d->conf.net_port, &name, &ignored) == 0 && name.kind == NIC_PCI;
    if (wanted) {
        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group/name", name.device);
        bare = name_is_bare(d, path);
    }
    if (n > 0 && !bare)
        doctor_add(d, VERDICT_OK, "IOMMU", "", "%u groups", n);
    else if (wanted)
        doctor_add(d, VERDICT_WARN, "IOMMU",
                   "switch on VT-d or AMD-Vi in the firmware and boot with intel_iommu=on; where "
                   "there is none, see 'Without an IOMMU' in doc/network.md",
                   "none protects this machine's memory from the NIC %s", name.device);
    else
        doctor_add(d, VERDICT_OK, "IOMMU", "",
                   "none, which matters to a NIC of expertd's own alone: see doc/network.md");
}

static void kernel_memlock(struct doctor *d)
{
    struct rlimit limit = {0};
    char unit[64] = "";

    if (doctor_unit_value(d, "LimitMEMLOCK", unit, sizeof(unit))) {
        bool infinite = strcmp(unit, "infinity") == 0;
        doctor_add(d, infinite ? VERDICT_OK : VERDICT_WARN, "memlock",
                   infinite ? "" : "systemctl edit expertd: [Service] LimitMEMLOCK=infinity",
                   "%s for the service%s", unit,
                   infinite ? "" : ": io_uring registers memory of slots only within it");
        return;
    }
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return;
    bool infinite = limit.rlim_cur == RLIM_INFINITY || d->privileged;
    doctor_add(d, infinite ? VERDICT_OK : VERDICT_WARN, "memlock",
               infinite ? "" : "ulimit -l unlimited",
               infinite ? "unlimited for this user; the service's unit is not installed"
                        : "%llu KiB for this user; the service's unit is not installed",
               (unsigned long long)(limit.rlim_cur >> 10));
}

void doctor_kernel(struct doctor *doctor)
{
    kernel_version(doctor);
    kernel_uring(doctor);
    kernel_huge(doctor);
    kernel_iommu(doctor);
    kernel_memlock(doctor);
}
