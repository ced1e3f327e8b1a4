// SPDX-License-Identifier: MIT
// What doctor says of kernels and units, on machines of files.
#include "client/doctor.h"
#include "tests/check.h"

#include <string.h>
#include <unistd.h>

#define UNITS "usr/lib/systemd/system"
#define EDITS "etc/systemd/system/expertd.service.d"

static char root[] = "/tmp/doctor-XXXXXX";
static const char *port; // that is configured, or NULL
static struct doctor doctor;

static void shell(const char *words)
{
    char command[2048];
    (void)snprintf(command, sizeof(command), "set -e; cd %s; %s", root, words);
    if (system(command) != 0)
        CHECK_FAIL(words);
}

static void remove_root(void)
{
    shell("rm -rf \"$PWD\"");
}

// machine_make: one that lacks nothing.
static void machine_make(void)
{
    shell("rm -rf proc sys usr etc; mkdir -p proc/sys/kernel sys/kernel/iommu_groups/0 " UNITS
          " " EDITS " sys/kernel/mm/hugepages/hugepages-2048kB sys/kernel/mm/transparent_hugepage;"
          "echo 6.1.0-13-amd64 >proc/sys/kernel/osrelease;"
          "echo 32 >sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages;"
          "echo 22 >sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages;"
          "echo 'always [madvise] never' >sys/kernel/mm/transparent_hugepage/enabled;"
          "printf '[Service]\\nLimitMEMLOCK=infinity\\n#ExecStart=no\\n' >" UNITS
          "/expertd.service");
}

static const struct finding *finding(const char *what)
{
    doctor = (struct doctor){.root = root, .privileged = true, .conf_read = port};
    (void)snprintf(doctor.conf.net_port, sizeof(doctor.conf.net_port), "%s", port ? port : "");
    doctor_kernel(&doctor);
    for (uint32_t i = 0; i < doctor.n; i++)
        if (strcmp(doctor.findings[i].what, what) == 0)
            return &doctor.findings[i];
    CHECK_FAIL(what);
}

static void says(const char *what, enum verdict verdict, const char *found, const char *mend)
{
    const struct finding *f = finding(what);
    if (f->verdict == verdict && strstr(f->found, found) && strstr(f->mend, mend) &&
        !mend[0] == !f->mend[0])
        return;
    fprintf(stderr, "%s %s: %s; %s\n", verdict_name[f->verdict], what, f->found, f->mend);
    exit(1);
}

static void test_kernel(void)
{
    machine_make();
    says("kernel", VERDICT_OK, "Linux 6.1.0-13-amd64", "");
    shell("echo 5.15.0 >proc/sys/kernel/osrelease");
    says("kernel", VERDICT_WARN, "5.15", "6.1");
    shell("echo 4.19.0 >proc/sys/kernel/osrelease");
    says("kernel", VERDICT_FAIL, "4.19", "6.1");
    shell("echo strange >proc/sys/kernel/osrelease");
    says("kernel", VERDICT_WARN, "unknown", "");
    shell("rm proc/sys/kernel/osrelease");
    says("kernel", VERDICT_WARN, "unknown", "");
}

static void test_uring(void)
{
    machine_make();
    says("io_uring", VERDICT_OK, "allowed", "");
    shell("echo 1 >proc/sys/kernel/io_uring_disabled");
    says("io_uring", VERDICT_WARN, "io_uring_group", "sysctl kernel.io_uring_disabled=0");
    shell("echo 2 >proc/sys/kernel/io_uring_disabled");
    says("io_uring", VERDICT_WARN, "forbidden for all", "sysctl kernel.io_uring_disabled=0");
    shell("echo 0 >proc/sys/kernel/io_uring_disabled");
    says("io_uring", VERDICT_OK, "allowed", "");
}

static void test_pages(void)
{
    machine_make();
    says("huge pages", VERDICT_OK, "44 of 64 MiB free", "");
    shell("mkdir sys/kernel/mm/hugepages/hugepages-1048576kB;"
          "echo 1 | tee sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages "
          "sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages >/dev/null");
    says("huge pages", VERDICT_OK, "1068 of 1088 MiB free", "");
    shell("echo 'always madvise [never]' >sys/kernel/mm/transparent_hugepage/enabled");
    says("huge pages", VERDICT_WARN, "transparent ones are off", "echo madvise");
    shell("rm -r sys");
    says("huge pages", VERDICT_WARN, "0 of 0 MiB", "echo madvise");
    says("IOMMU", VERDICT_OK, "none", "");
    port = "0000:03:00.0";
    says("IOMMU", VERDICT_WARN, "from the NIC 0000:03:00.0", "Without an IOMMU");
    shell("mkdir -p sys/kernel/iommu_groups/0; echo vfio-noiommu >sys/kernel/iommu_groups/0/name");
    says("IOMMU", VERDICT_WARN, "from the NIC 0000:03:00.0", "Without an IOMMU");
    shell("mkdir -p sys/kernel/iommu_groups/1; echo DMA >sys/kernel/iommu_groups/1/name");
    says("IOMMU", VERDICT_OK, "1 groups", "");
    shell(
        "mkdir -p sys/bus/pci/devices/0000:03:00.0/iommu_group; cp sys/kernel/iommu_groups/0/name "
        "sys/bus/pci/devices/0000:03:00.0/iommu_group");
    says("IOMMU", VERDICT_WARN, "from the NIC 0000:03:00.0", "Without an IOMMU");
    shell("rm -r sys");
    port = "tap:expertd0";
    says("IOMMU", VERDICT_OK, "none", "");
    port = NULL;
    machine_make();
    says("IOMMU", VERDICT_OK, "1 groups", "");
}

static void test_memlock(void)
{
    machine_make();
    says("memlock", VERDICT_OK, "infinity for the service", "");
    shell("printf '[Service]\\nLimitMEMLOCK=8M\\n' >" EDITS "/override.conf");
    says("memlock", VERDICT_WARN, "8M for the service", "systemctl edit expertd");
    shell("printf '[Service]\\nLimitMEMLOCK=1G\\n' >" EDITS "/z.conf");
    says("memlock", VERDICT_WARN, "1G", "LimitMEMLOCK=infinity"); // the last in their order
    shell("rm -r usr etc");
    says("memlock", VERDICT_OK, "not installed", "");
}

static void test_unit(void)
{
    char value[64];

    machine_make();
    doctor = (struct doctor){.root = root};
    CHECK(!doctor_unit_has(&doctor, "char-vfio"));
    CHECK(!doctor_unit_value(&doctor, "ExecStart", value, sizeof(value))); // a comment
    shell("printf '[Service]\\nDeviceAllow=char-vfio rw\\n' >" EDITS "/port.conf; cp " EDITS
          "/port.conf " EDITS "/port.conf.old; echo '#char-drm' >" EDITS "/a.conf");
    CHECK(doctor_unit_has(&doctor, "char-vfio") && !doctor_unit_has(&doctor, "char-drm"));
    shell("rm " EDITS "/port.conf");
    CHECK(!doctor_unit_has(&doctor, "char-vfio")); // systemd reads *.conf alone
    CHECK(!doctor_unit_shows(&doctor, "/home/a/m"));
    shell("printf '[Service]\\n  BindPaths=/x /home/a\\nBindReadOnlyPaths=/y\\n' >" EDITS
          "/b.conf");
    CHECK(doctor_unit_shows(&doctor, "/home/a/m") && doctor_unit_shows(&doctor, "/y"));
    shell("printf '[Unit]\\nBindsTo=/z\\nBindsTo=\\n' >" EDITS "/c.conf"); // of another kind
    CHECK(doctor_unit_shows(&doctor, "/home/a/m") && !doctor_unit_shows(&doctor, "/z"));
    shell("echo BindReadOnlyPaths= >" EDITS "/c.conf"); // takes back what was set
    CHECK(!doctor_unit_shows(&doctor, "/home/a/m"));
}

// A list that is full takes no more, and nothing that a file says breaks a line.
static void test_list(void)
{
    doctor = (struct doctor){.root = root};
    for (unsigned i = 0; i < 2 * DOCTOR_FINDINGS_MAX; i++)
        doctor_add(&doctor, VERDICT_OK, "x", "a\nb", "%u", i);
    CHECK(doctor.n == DOCTOR_FINDINGS_MAX && strcmp(doctor.findings[0].mend, "a?b") == 0);
}

// A command with somebody's path in it is that command alone.
static void test_word(void)
{
    static struct doctor_word word;
    static char path[4096];
    CHECK(strcmp(doctor_word("/srv/V3-0324", &word), "/srv/V3-0324") == 0);
    CHECK(strcmp(doctor_word("/mnt/a b;reboot", &word), "'/mnt/a b;reboot'") == 0);
    CHECK(strcmp(doctor_word("/it's", &word), "'/it'\\''s'") == 0);
    CHECK(strcmp(doctor_word("-x", &word), "'-x'") == 0 && doctor_word("", &word)[1] == '\'');
    memset(path, '\'', sizeof(path) - 1);
    size_t n = strlen(doctor_word(path, &word));
    CHECK(n == 4 * (sizeof(path) - 1) + 2 && word.text[n - 1] == '\'');
}

int main(void)
{
    test_word();
    CHECK(mkdtemp(root));
    CHECK(atexit(remove_root) == 0);
    test_kernel();
    test_uring();
    test_pages();
    test_memlock();
    test_unit();
    test_list();
    return 0;
}
