// SPDX-License-Identifier: MIT
#include "io/net/nic_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define TEXT_MAX 512u // of a small file in sysfs

// check_read reads a small text file below the root without its newline; false if there is none.
static bool check_read(const struct nic_check *check, const char *path, char text[TEXT_MAX])
{
    char full[PATH_MAX];
    (void)snprintf(full, sizeof(full), "%s%s", check->root, path);
    FILE *file = fopen(full, "re");
    if (!file)
        return false;
    bool there = fgets(text, (int)TEXT_MAX, file) != NULL;
    (void)fclose(file);
    if (there)
        text[strcspn(text, "\n")] = '\0';
    return there;
}

// check_link returns the last part of a link's target: the name of a driver or of a group.
static bool check_link(const struct nic_check *check, const char *path, char name[TEXT_MAX])
{
    char full[PATH_MAX], target[TEXT_MAX];
    (void)snprintf(full, sizeof(full), "%s%s", check->root, path);
    ssize_t n = readlink(full, target, sizeof(target) - 1);
    if (n < 0)
        return false;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    (void)snprintf(name, TEXT_MAX, "%s", slash ? slash + 1 : target);
    return true;
}

static bool check_there(const struct nic_check *check, const char *path)
{
    char full[PATH_MAX];
    (void)snprintf(full, sizeof(full), "%s%s", check->root, path);
    return access(full, F_OK) == 0;
}

// check_capability: effective ones of this thread; libcap is not worth one question.
static bool check_capability(unsigned capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};

    if (syscall(SYS_capget, &header, data) != 0)
        return true; // cannot be known: the port's own error will tell
    return data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability);
}

static int check_plugin(const struct nic_check *check, const char *plugin, const char *package,
                        struct fault *fault)
{
    DIR *folder = opendir(check->plugins);
    size_t n = strlen(plugin);
    bool there = false;

    for (struct dirent *entry; folder && !there && (entry = readdir(folder));)
        there = strncmp(entry->d_name, plugin, n) == 0 && strncmp(entry->d_name + n, ".so", 3) == 0;
    if (folder)
        (void)closedir(folder);
    if (there)
        return 0;
    return fault_set(fault, ENODEV, "port %s: DPDK's plug-in %s is not installed: apt install %s",
                     check->name.device, plugin, package);
}

// The kernel's driver of a NIC says which plug-in drives it in DPDK, and that which package.
static const struct {
    const char *driver, *plugin, *package;
} check_drivers[] = {
    {"virtio_pci", "librte_net_virtio", "librte-net-virtio23"},
    {"e1000", "librte_net_e1000", "librte-net-e1000-23"},
    {"e1000e", "librte_net_e1000", "librte-net-e1000-23"},
    {"igb", "librte_net_e1000", "librte-net-e1000-23"},
    {"igc", "librte_net_igc", "librte-net-igc23"},
    {"ixgbe", "librte_net_ixgbe", "librte-net-ixgbe23"},
    {"ixgbevf", "librte_net_ixgbe", "librte-net-ixgbe23"},
    {"i40e", "librte_net_i40e", "librte-net-i40e23"},
    {"iavf", "librte_net_iavf", "librte-net-iavf23"},
    {"ice", "librte_net_ice", "librte-net-ice23"},
    {"mlx5_core", "librte_net_mlx5", "librte-net-mlx5-23"},
    {"ena", "librte_net_ena", "librte-net-ena23"},
    {"vmxnet3", "librte_net_vmxnet3", "librte-net-vmxnet3-23"},
    {"bnxt_en", "librte_net_bnxt", "librte-net-bnxt23"},
};

// check_kernel_driver finds the module that the kernel would load for the device, by the same file
// that modprobe reads; vendors whose driver is often built in come first.
static bool check_kernel_driver(const struct nic_check *check, const char *modalias,
                                char driver[TEXT_MAX])
{
    static const struct {
        const char *pattern, *driver;
    } built_in[] = {
        {"pci:v00001AF4d*", "virtio_pci"},
        {"pci:v00001D0Fd0000EC*", "ena"},
        {"pci:v000015ADd000007B0*", "vmxnet3"},
        {"pci:v000015B3d*", "mlx5_core"},
    };
    for (size_t i = 0; i < sizeof(built_in) / sizeof(built_in[0]); i++)
        if (fnmatch(built_in[i].pattern, modalias, 0) == 0) {
            (void)snprintf(driver, TEXT_MAX, "%s", built_in[i].driver);
            return true;
        }

    struct utsname names;
    char path[PATH_MAX], line[TEXT_MAX], pattern[TEXT_MAX];
    if (uname(&names) != 0)
        return false;
    (void)snprintf(path, sizeof(path), "%s/lib/modules/%s/modules.alias", check->root,
                   names.release);
    FILE *file = fopen(path, "re");
    bool found = false;
    while (file && !found && fgets(line, sizeof(line), file))
        found = sscanf(line, "alias %511s %511s", pattern, driver) == 2 &&
                fnmatch(pattern, modalias, 0) == 0;
    if (file)
        (void)fclose(file);
    return found;
}

// check_pci_plugin: a device that no table knows may still have a plug-in; then DPDK decides.
static int check_pci_plugin(const struct nic_check *check, struct fault *fault)
{
    char path[PATH_MAX], modalias[TEXT_MAX], driver[TEXT_MAX];

    (void)snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/modalias", check->name.device);
    if (!check_read(check, path, modalias) || !check_kernel_driver(check, modalias, driver))
        return 0;
    for (size_t i = 0; i < sizeof(check_drivers) / sizeof(check_drivers[0]); i++)
        if (strcmp(check_drivers[i].driver, driver) == 0)
            return check_plugin(check, check_drivers[i].plugin, check_drivers[i].package, fault);
    return 0;
}

// check_vfio_group: the file of the group that user space opens, by one process at a time.
static int check_vfio_group(const struct nic_check *check, struct fault *fault)
{
    char path[PATH_MAX], full[PATH_MAX], group[TEXT_MAX];
    const char *device = check->name.device;

    (void)snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", device);
    if (!check_link(check, path, group))
        return fault_set(fault, ENOTSUP,
                         "port %s: no IOMMU protects this machine's memory from the device: switch "
                         "on VT-d or AMD-Vi in the firmware and boot with intel_iommu=on; where "
                         "there is none (a VM), see 'Without an IOMMU' in doc/network.md",
                         device);
    (void)snprintf(full, sizeof(full), "%s/dev/vfio/%s", check->root, group);
    int fd = open(full, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) { // a group without IOMMU behind it
        (void)snprintf(full, sizeof(full), "%s/dev/vfio/noiommu-%s", check->root, group);
        fd = open(full, O_RDWR | O_CLOEXEC);
    }
    if (fd >= 0) {
        (void)close(fd);
        return 0;
    }
    if (errno == EBUSY)
        return fault_set(fault, EBUSY, "port %s: another process drives it (fuser %s names it)",
                         device, full);
    return fault_set(fault, errno == EACCES || errno == EPERM ? EPERM : ENODEV,
                     "port %s: %s cannot be opened: %s; 'expertctl net bind %s' makes it", device,
                     full, strerrordesc_np(errno), device);
}

static int check_pci(const struct nic_check *check, struct fault *fault)
{
    char path[PATH_MAX], class[TEXT_MAX], driver[TEXT_MAX] = "";
    const char *device = check->name.device;

    (void)snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/class", device);
    if (!check_read(check, path, class))
        return fault_set(fault, ENODEV,
                         "port %s: no such PCI device; 'lspci -D | grep -i ether' lists them",
                         device);
    if (strncmp(class, "0x02", 4) != 0)
        return fault_set(fault, ENODEV, "port %s: the device is no network controller (class %s)",
                         device, class);
    if (!check->huge_pages)
        return fault_set(fault, EINVAL,
                         "port %s: a PCI port needs huge pages: [net] huge_pages = yes", device);
    int err = check_plugin(check, "librte_bus_pci", "librte-bus-pci23", fault);
    if (!err)
        err = check_pci_plugin(check, fault);
    if (err)
        return err;

    (void)snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", device);
    bool bound = check_link(check, path, driver);
    if (bound && (strcmp(driver, "mlx5_core") == 0 || strncmp(driver, "uio_", 4) == 0 ||
                  strcmp(driver, "igb_uio") == 0))
        return 0; // Mellanox shares the device with its kernel driver
    if (!bound || strcmp(driver, "vfio-pci") != 0)
        return fault_set(
            fault, EBUSY, "port %s: %s%s; 'expertctl net bind %s' gives it to vfio-pci", device,
            bound ? "the kernel has it, with its driver " : "no driver has it", driver, device);
    return check_vfio_group(check, fault);
}

static int check_tap(const struct nic_check *check, struct fault *fault)
{
    char path[PATH_MAX];
    const char *device = check->name.device;

    (void)snprintf(path, sizeof(path), "%s/dev/net/tun", check->root);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && (errno == EACCES || errno == EPERM))
        return fault_set(fault, EPERM,
                         "port tap:%s: /dev/net/tun may not be opened: DeviceAllow=/dev/net/tun rw "
                         "in the unit, or --device /dev/net/tun for a container",
                         device);
    if (fd < 0)
        return fault_set(fault, ENODEV,
                         "port tap:%s: /dev/net/tun cannot be opened (%s): modprobe tun", device,
                         strerrordesc_np(errno));
    (void)close(fd);
    if (!check_capability(CAP_NET_ADMIN))
        return fault_set(fault, EPERM,
                         "port tap:%s: making an interface needs the capability CAP_NET_ADMIN "
                         "(AmbientCapabilities= in the unit)",
                         device);
    (void)snprintf(path, sizeof(path), "/sys/class/net/%s", device);
    if (check_there(check, path))
        return fault_set(fault, EBUSY,
                         "port tap:%s: there is an interface of this name, of another process or "
                         "left over: choose another name, or 'ip link delete %s'",
                         device, device);
    return check_plugin(check, "librte_net_tap", "librte-net-tap23", fault);
}

// check_queues: an AF_XDP socket hears one receive queue, and the NIC spreads frames over all.
static int check_queues(const struct nic_check *check, struct fault *fault)
{
    char path[PATH_MAX];
    const char *device = check->name.device;

    (void)snprintf(path, sizeof(path), "/sys/class/net/%s/queues/rx-1", device);
    if (!check_there(check, path))
        return 0;
    return fault_set(fault, EINVAL,
                     "port af_xdp:%s: the interface has several receive queues, of which AF_XDP "
                     "would hear the first alone: 'ethtool -L %s combined 1'",
                     device, device);
}

static int check_interface(const struct nic_check *check, struct fault *fault)
{
    bool xdp = check->name.kind == NIC_AF_XDP;
    const char *device = check->name.device, *kind = xdp ? "af_xdp" : "af_packet";
    char path[PATH_MAX], flags[TEXT_MAX];

    (void)snprintf(path, sizeof(path), "/sys/class/net/%s/flags", device);
    if (!check_read(check, path, flags))
        return fault_set(fault, ENODEV,
                         "port %s:%s: no such interface; 'ip -brief link' lists them", kind,
                         device);
    if (!(strtoul(flags, NULL, 16) & 1u)) // IFF_UP
        return fault_set(fault, ENODEV, "port %s:%s: the interface is down: 'ip link set %s up'",
                         kind, device, device);
    if (!check_capability(CAP_NET_RAW) || !check_capability(CAP_NET_ADMIN))
        return fault_set(fault, EPERM,
                         "port %s:%s: its frames need the capabilities CAP_NET_RAW and "
                         "CAP_NET_ADMIN (AmbientCapabilities= in the unit)",
                         kind, device);
    if (!xdp)
        return check_plugin(check, "librte_net_af_packet", "librte-net-af-packet23", fault);
    // BPF and PERFMON are not enough: libxdp asks for a program by its id.
    if (!check_capability(CAP_SYS_ADMIN))
        return fault_set(fault, EPERM,
                         "port af_xdp:%s: an XDP program needs the capability CAP_SYS_ADMIN "
                         "(AmbientCapabilities= in the unit); af_packet:%s does without",
                         device, device);
    int err = check_queues(check, fault);
    return err ? err : check_plugin(check, "librte_net_af_xdp", "librte-net-af-xdp23", fault);
}

// check_huge_free sums what is free over the sizes of pages that there are.
static uint64_t check_huge_free(const struct nic_check *check)
{
    char path[PATH_MAX], text[TEXT_MAX];
    uint64_t bytes = 0, kib;

    (void)snprintf(path, sizeof(path), "%s/sys/kernel/mm/hugepages", check->root);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (sscanf(entry->d_name, "hugepages-%" SCNu64 "kB", &kib) != 1)
            continue;
        (void)snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/%s/free_hugepages",
                       entry->d_name);
        if (check_read(check, path, text))
            bytes += (kib << 10) * strtoull(text, NULL, 10);
    }
    if (folder)
        (void)closedir(folder);
    return bytes;
}

static int check_huge(const struct nic_check *check, struct fault *fault)
{
    uint64_t there = check_huge_free(check), pages = (check->bytes + (2u << 20) - 1) >> 21;

    if (there >= check->bytes)
        return 0;
    return fault_set(fault, ENOMEM,
                     "port %s: %" PRIu64 " MiB of huge pages are free and %" PRIu64
                     " are needed: 'sysctl vm.nr_hugepages=%" PRIu64 "'%s",
                     check->name.device, there >> 20, pages << 1, pages,
                     check->name.kind == NIC_PCI ? "" : ", or [net] huge_pages = no");
}

int nic_check(const struct nic_check *check, struct fault *fault)
{
    int err = check_plugin(check, "librte_mempool_ring", "librte-mempool-ring23", fault);

    if (!err && check->name.kind != NIC_PCI)
        err = check_plugin(check, "librte_bus_vdev", "librte-bus-vdev23", fault);
    if (err)
        return err;
    switch (check->name.kind) {
    case NIC_PCI:
        err = check_pci(check, fault);
        break;
    case NIC_TAP:
        err = check_tap(check, fault);
        break;
    case NIC_AF_PACKET:
    case NIC_AF_XDP:
        err = check_interface(check, fault);
        break;
    case NIC_KIND_COUNT:
        return -EINVAL;
    }
    if (!err && check->huge_pages)
        err = check_huge(check, fault);
    return err;
}
