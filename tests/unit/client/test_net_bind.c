// SPDX-License-Identifier: MIT
// Binding and unbinding in a sysfs of our own, in which a thread plays the kernel: it reads what is
// written to drivers_probe and moves the device's link.
#include "client/net_bind.h"
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NIC "0000:03:00.0"

static char root[] = "/tmp/net-bind-XXXXXX";
static bool stubborn; // vfio-pci does not take the device

__attribute__((format(printf, 1, 2))) static void run(const char *format, ...)
{
    char command[4096];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    if (system(command) != 0)
        CHECK_FAIL(command);
}

static void root_remove(void)
{
    run("rm -rf %s", root);
}

// root_make: a NIC of igb, alone in its IOMMU group, with the interface eth1; the default route
// goes through eth0.
static void root_make(void)
{
    run("set -e; rm -rf %s; mkdir -p %s; cd %s; mkdir -p sys/bus/pci/devices/" NIC "/net/eth1 "
        "sys/bus/pci/drivers/igb sys/bus/pci/drivers/vfio-pci sys/kernel/iommu_groups/7/devices/" NIC
        " sys/class/net/eth1 dev/vfio proc/net; mkfifo sys/bus/pci/drivers_probe; "
        "touch sys/bus/pci/drivers/igb/unbind sys/bus/pci/drivers/vfio-pci/unbind dev/vfio/7; "
        "cd sys/bus/pci/devices/" NIC "; echo 0x020000 >class; echo '(null)' >driver_override; "
        "ln -s ../../drivers/igb driver; ln -s ../../../../kernel/iommu_groups/7 iommu_group; "
        "cd %s/proc/net; "
        "{ echo 'Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT'; "
        "echo 'eth0 00000000 0102000A 0003 0 0 0 00000000 0 0 0'; "
        "echo 'eth1 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0'; } >route; "
        "echo '00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
        "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo' >ipv6_route",
        root, root, root, root);
}

static void *kernel(void *unused)
{
    char path[256], text[64], driver[256], target[64];
    (void)unused;
    (void)snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers_probe", root);
    int fd = open(path, O_RDWR);
    ssize_t n;
    CHECK(fd >= 0);
    while ((n = read(fd, text, strlen(NIC))) > 0 && text[0] != 'q') {
        text[n] = '\0';
        CHECK(strcmp(text, NIC) == 0);
        (void)snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/" NIC "/driver_override", root);
        FILE *file = fopen(path, "r");
        CHECK(file && fgets(text, sizeof(text), file));
        (void)fclose(file);
        bool vfio = strncmp(text, "vfio-pci", 8) == 0;
        if (vfio && stubborn)
            continue;
        (void)snprintf(driver, sizeof(driver), "%s/sys/bus/pci/devices/" NIC "/driver", root);
        (void)snprintf(target, sizeof(target), "../../drivers/%s", vfio ? "vfio-pci" : "igb");
        (void)unlink(driver);
        CHECK(symlink(target, driver) == 0);
    }
    (void)close(fd);
    return NULL;
}

static const char *driver_name(void)
{
    static char target[64];
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/sys/bus/pci/devices/" NIC "/driver", root);
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    CHECK(n > 0);
    target[n] = '\0';
    return strrchr(target, '/') + 1;
}

static void refused(const char *pci, bool force, int err, const char *words)
{
    struct net_bind bind = {.pci = pci, .force = force, .root = root};
    char note[NET_BIND_TEXT_MAX] = "untouched";
    struct fault fault = {0};

    int got = net_bind_do(&bind, note, &fault);
    if (got != err || !strstr(fault.text, words)) {
        fprintf(stderr, "%d: %s\n", got, fault.text);
        exit(1);
    }
    CHECK(strcmp(note, "untouched") == 0);
}

static void test_refused(void)
{
    refused("03:00.0", false, -EINVAL, "lspci -D");
    refused("0000:03:00.0/../0000:03:00.0", false, -EINVAL, "lspci -D");
    refused("0000:04:00.0", false, -ENODEV, "no such PCI device");
    run("echo 0x010802 >%s/sys/bus/pci/devices/" NIC "/class", root);
    refused(NIC, false, -ENODEV, "no network device");
    CHECK(strcmp(driver_name(), "igb") == 0);
    root_make();
    run("rm -r %s/sys/bus/pci/drivers/vfio-pci", root);
    refused(NIC, false, -ENOTSUP, "modprobe vfio-pci");
    root_make();
    run("rm %s/sys/bus/pci/devices/" NIC "/iommu_group", root);
    refused(NIC, false, -ENOTSUP, "intel_iommu=on");
    root_make(); // a neighbour that the kernel drives; bridges and vfio-pci's own do not count
    run("cd %s/sys; mkdir kernel/iommu_groups/7/devices/0000:03:00.1 bus/pci/devices/0000:03:00.1; "
        "echo 0x040300 >bus/pci/devices/0000:03:00.1/class; "
        "ln -s ../../drivers/snd bus/pci/devices/0000:03:00.1/driver",
        root);
    refused(NIC, false, -ENOTSUP, "0000:03:00.1, which the kernel drives (snd)");
    root_make();
}

static void test_route(void)
{
    run("sed -i 's/^eth0/eth1/' %s/proc/net/route", root);
    refused(NIC, false, -EBUSY, "eth1, through which this machine's default route goes");
    root_make();
    run("echo '00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
        "fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth1' "
        ">>%s/proc/net/ipv6_route",
        root);
    refused(NIC, false, -EBUSY, "--force");
    root_make(); // a VLAN on a bond of it
    run("cd %s; sed -i s/^eth0/bond0.5/ proc/net/route; mkdir -p sys/class/net/bond0; "
        "ln -s ../bond0 sys/class/net/eth1/upper_bond0; "
        "ln -s ../bond0.5 sys/class/net/bond0/upper_bond0.5",
        root);
    refused(NIC, false, -EBUSY, "--force");
    root_make(); // as virtio names it
    run("cd %s/sys/bus/pci/devices/" NIC "; mkdir virtio3; mv net virtio3; "
        "sed -i s/^eth0/eth1/ %s/proc/net/route",
        root, root);
    refused(NIC, false, -EBUSY, "--force");
    root_make();
}

static void test_there_and_back(bool force)
{
    struct net_bind bind = {.pci = NIC, .force = force, .root = root};
    char note[NET_BIND_TEXT_MAX];
    struct fault fault = {0};

    if (force)
        run("sed -i 's/^eth0/eth1/' %s/proc/net/route", root);
    CHECK(net_bind_do(&bind, note, &fault) == 0);
    CHECK(strstr(note, "igb, interface eth1"));
    CHECK(strcmp(driver_name(), "vfio-pci") == 0);
    CHECK(net_bind_do(&bind, note, &fault) == 0 && strstr(note, "already"));
    CHECK(net_bind_undo(&bind, note, &fault) == 0);
    CHECK(strstr(note, "igb") && strcmp(driver_name(), "igb") == 0);
    CHECK(net_bind_undo(&bind, note, &fault) == 0 && strstr(note, "already"));
}

static void kernel_run(void (*test)(bool force), bool force)
{
    char path[256];
    pthread_t thread;

    root_make();
    (void)snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers_probe", root);
    int fd = open(path, O_RDWR);
    CHECK(fd >= 0 && pthread_create(&thread, NULL, kernel, NULL) == 0);
    test(force);
    CHECK(write(fd, "quit, please", strlen(NIC)) == (ssize_t)strlen(NIC) &&
          pthread_join(thread, NULL) == 0);
    (void)close(fd);
}

// vfio-pci does not take it: igb has it again, and the sentence says so.
static void test_stubborn(bool force)
{
    (void)force;
    stubborn = true;
    refused(NIC, false, -ENODEV, "dmesg");
    CHECK(strcmp(driver_name(), "igb") == 0);
    stubborn = false;
}

static void test_list(void)
{
    struct net_bind_nic nics[4];

    root_make();
    run("cd %s/sys/bus/pci/devices; mkdir 0000:00:01.0 0000:01:00.0; echo 0x060400 "
        ">0000:00:01.0/class; echo 0x020000 >0000:01:00.0/class; mkdir -p "
        "0000:01:00.0/virtio1/net/eth0",
        root);
    CHECK(net_bind_list(root, nics, 4) == 2); // the bridge is none
    CHECK(strcmp(nics[0].pci, "0000:01:00.0") == 0 && nics[0].routed && !nics[0].driver[0]);
    CHECK(strcmp(nics[0].interface, "eth0") == 0);
    CHECK(strcmp(nics[1].pci, NIC) == 0 && !nics[1].routed && strcmp(nics[1].driver, "igb") == 0);
    CHECK(strcmp(nics[1].interface, "eth1") == 0);
    CHECK(net_bind_list(root, nics, 1) == 1 && net_bind_list("/nowhere", nics, 4) == 0);
    CHECK(net_bind_routed(root, "eth0") && !net_bind_routed(root, "eth1"));
}

int main(void)
{
    CHECK(mkdtemp(root));
    CHECK(atexit(root_remove) == 0);
    CHECK(setenv("PATH", "/usr/bin:/bin", 1) == 0); // where no modprobe is
    root_make();
    test_refused();
    test_route();
    test_list();
    kernel_run(test_there_and_back, false);
    kernel_run(test_there_and_back, true);
    kernel_run(test_stubborn, false);
    return 0;
}
