// SPDX-License-Identifier: MIT
// What a port needs, in a machine of our own making: sysfs, /dev and plug-ins are files in a
// folder.
#include "io/net/nic_check.h"
#include "tests/check.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#define NIC "0000:03:00.0"
#define DEV "sys/bus/pci/devices/" NIC "/"

static char root[] = "/tmp/nic-check-XXXXXX";
static char plugins[64];

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
    char command[4096], words[4160];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    (void)snprintf(words, sizeof(words), "cd %s && { %s; }", root, command);
    if (system(words) != 0)
        CHECK_FAIL(command);
}

static void root_remove(void)
{
    run("rm -rf %s", root);
}

// root_make: an X550 that vfio-pci has, alone in group 7, with all plug-ins and 64 MiB of huge
// pages.
static void root_make(void)
{
    struct utsname names;

    CHECK(uname(&names) == 0);
    run("rm -rf *; mkdir -p " DEV " sys/bus/pci/drivers/vfio-pci sys/kernel/iommu_groups/7 "
        "dev/vfio lib/modules/%s plugins sys/kernel/mm/hugepages/hugepages-2048kB; "
        "echo 0x020000 >" DEV "class; "
        "echo pci:v00008086d00001563sv00008086sd00000001bc02sc00i00 >" DEV "modalias; "
        "ln -s ../../drivers/vfio-pci " DEV "driver; "
        "ln -s ../../../../kernel/iommu_groups/7 " DEV "iommu_group; touch dev/vfio/7; "
        "echo 'alias pci:v00008086d00001563sv*sd*bc*sc*i* ixgbe' >lib/modules/%s/modules.alias; "
        "echo 32 >sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages; "
        "for p in mempool_ring bus_pci bus_vdev net_ixgbe net_tap net_af_packet net_af_xdp; do "
        "touch plugins/librte_$p.so.23; done",
        names.release, names.release);
}

static int checked(const char *name, bool huge_pages, struct fault *fault)
{
    struct nic_check check = {
        .huge_pages = huge_pages, .bytes = 20u << 20, .root = root, .plugins = plugins};

    CHECK(nic_parse(name, &check.name, fault) == 0);
    return nic_check(&check, fault);
}

// said breaks the machine and expects an error that has the words; then mends it.
static void said(const char *breaks, const char *name, bool huge_pages, int err, const char *words)
{
    struct fault fault = {0};

    run("%s", breaks);
    int got = checked(name, huge_pages, &fault);
    if (got != err || (err && !strstr(fault.text, words))) {
        fprintf(stderr, "%s: %d, %s\n", breaks, got, fault.text);
        exit(1);
    }
    root_make();
}

static void test_pci(void)
{
    said("true", NIC, true, 0, "");
    said("rm -r " DEV, NIC, true, -ENODEV, "lspci -D");
    said("echo 0x010802 >" DEV "class", NIC, true, -ENODEV, "no network controller");
    said("true", NIC, false, -EINVAL, "huge_pages = yes");
    said("rm plugins/librte_net_ixgbe.so.23", NIC, true, -ENODEV, "apt install librte-net-ixgbe23");
    said("rm plugins/librte_bus_pci.so.23", NIC, true, -ENODEV, "apt install librte-bus-pci23");
    said("rm plugins/librte_mempool_ring.so.23", NIC, true, -ENODEV,
         "apt install librte-mempool-ring23");
    said("rm -r plugins", NIC, true, -ENODEV, "apt install");
    said("echo pci:v00001AF4d00001041sv1 >" DEV "modalias", NIC, true, -ENODEV,
         "apt install librte-net-virtio23");
    said("echo pci:v0000FFFFd00000001sv1 >" DEV "modalias", NIC, true, 0, "");
    said("rm " DEV "driver; ln -s ../../drivers/ixgbe " DEV "driver", NIC, true, -EBUSY,
         "its driver ixgbe; 'expertctl net bind " NIC "'");
    said("rm " DEV "driver", NIC, true, -EBUSY, "expertctl net bind " NIC);
    said("rm " DEV "iommu_group", NIC, true, -ENOTSUP, "intel_iommu=on");
    said("rm dev/vfio/7", NIC, true, -ENODEV, "expertctl net bind " NIC);
    said("mv dev/vfio/7 dev/vfio/noiommu-7", NIC, true, 0, "");
    said("echo 9 >sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", NIC, true, -ENOMEM,
         "'sysctl vm.nr_hugepages=10'");
    said("rm -r sys/kernel/mm", NIC, true, -ENOMEM, "0 MiB of huge pages are free");
}

static void test_interfaces(void)
{
    said("mkdir -p dev/net", "tap:x0", false, -ENODEV, "modprobe tun");
    said("mkdir -p sys/class/net", "af_packet:x0", false, -ENODEV, "ip -brief link");
    said("mkdir -p sys/class/net/x0; echo 0x1002 >sys/class/net/x0/flags", "af_packet:x0", false,
         -ENODEV, "ip link set x0 up");
    if (geteuid() != 0) {
        said("mkdir -p dev/net; touch dev/net/tun", "tap:x0", false, -EPERM, "CAP_NET_ADMIN");
        said("mkdir -p sys/class/net/x0; echo 0x1003 >sys/class/net/x0/flags", "af_packet:x0",
             false, -EPERM, "CAP_NET_RAW");
        return;
    }
    said("mkdir -p dev/net sys/class/net/x0; touch dev/net/tun", "tap:x0", false, -EBUSY,
         "ip link delete x0");
    said("mkdir -p dev/net; touch dev/net/tun; rm plugins/librte_net_tap.so.23", "tap:x0", false,
         -ENODEV, "apt install librte-net-tap23");
    said("mkdir -p sys/class/net/x0/queues/rx-0 sys/class/net/x0/queues/rx-1; "
         "echo 0x1003 >sys/class/net/x0/flags",
         "af_xdp:x0", false, -EINVAL, "ethtool -L x0 combined 1");
    said("mkdir -p sys/class/net/x0/queues/rx-0; echo 0x1003 >sys/class/net/x0/flags; "
         "rm plugins/librte_net_af_xdp.so.23",
         "af_xdp:x0", false, -ENODEV, "apt install librte-net-af-xdp23");
    said("mkdir -p sys/class/net/x0; echo 0x1003 >sys/class/net/x0/flags; "
         "echo 0 >sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
         "af_packet:x0", true, -ENOMEM, "huge_pages = no");
    said("mkdir -p sys/class/net/x0; echo 0x1003 >sys/class/net/x0/flags", "af_packet:x0", false, 0,
         "");
}

int main(void)
{
    CHECK(mkdtemp(root));
    CHECK(atexit(root_remove) == 0);
    (void)snprintf(plugins, sizeof(plugins), "%s/plugins", root);
    root_make();
    test_pci();
    test_interfaces();
    return 0;
}
