// SPDX-License-Identifier: MIT
#include "client/net_bind.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAME_BYTES 64u // of drivers, groups, interfaces
#define UPPER_MAX  4   // a VLAN on a bridge on a bond on a NIC
#define PROBE_MS   3000

extern char **environ;

// device_path makes ROOT/sys/bus/pci/devices/PCI/NAME.
static const char *device_path(const struct net_bind *bind, const char *pci, const char *name,
                               char path[PATH_MAX])
{
    (void)snprintf(path, PATH_MAX, "%s/sys/bus/pci/devices/%s/%s", bind->root, pci, name);
    return path;
}

static bool file_read(const char *path, char *text, size_t bytes)
{
    FILE *file = fopen(path, "re");
    bool there = file && fgets(text, (int)bytes, file);
    if (file)
        (void)fclose(file);
    if (there)
        text[strcspn(text, "\n")] = '\0';
    return there;
}

// file_write writes to a file of sysfs that is there.
static int file_write(const char *path, const char *text)
{
    int err = 0, fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (write(fd, text, strlen(text)) < 0)
        err = -errno;
    (void)close(fd);
    return err;
}

// link_name copies the last part of a link's target; false if there is no link.
static bool link_name(const char *path, char name[NAME_BYTES])
{
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return false;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    (void)snprintf(name, NAME_BYTES, "%.*s", (int)NAME_BYTES - 1, slash ? slash + 1 : target);
    return true;
}

static bool pci_ok(const char *text)
{
    unsigned domain, bus, device, function;
    char again[NAME_BYTES];

    if (sscanf(text, "%4x:%2x:%2x.%1x", &domain, &bus, &device, &function) != 4)
        return false;
    (void)snprintf(again, sizeof(again), "%04x:%02x:%02x.%x", domain, bus, device, function);
    return strcmp(text, again) == 0 && function < 8;
}

// route4_uses and route6_uses say whether a default route of the kernel's table names the
// interface.
static bool route4_uses(const struct net_bind *bind, const char *interface)
{
    char path[PATH_MAX], line[512], name[NAME_BYTES];
    unsigned destination, mask;
    bool uses = false;

    (void)snprintf(path, sizeof(path), "%s/proc/net/route", bind->root);
    FILE *file = fopen(path, "re");
    while (file && !uses && fgets(line, sizeof(line), file))
        uses = sscanf(line, "%63s %x %*x %*x %*d %*d %*d %x", name, &destination, &mask) == 3 &&
               destination == 0 && mask == 0 && strcmp(name, interface) == 0;
    if (file)
        (void)fclose(file);
    return uses;
}

static bool route6_uses(const struct net_bind *bind, const char *interface)
{
    char path[PATH_MAX], line[512], destination[NAME_BYTES], name[NAME_BYTES];
    unsigned prefix, flags;
    bool uses = false;

    (void)snprintf(path, sizeof(path), "%s/proc/net/ipv6_route", bind->root);
    FILE *file = fopen(path, "re");
    while (file && !uses && fgets(line, sizeof(line), file))
        uses = sscanf(line, "%63s %x %*s %*s %*s %*s %*s %*s %x %63s", destination, &prefix, &flags,
                      name) == 4 &&
               prefix == 0 && !(flags & 0x200u) && // RTF_REJECT: there is no route
               strspn(destination, "0") == strlen(destination) && strcmp(name, interface) == 0;
    if (file)
        (void)fclose(file);
    return uses;
}

// interface_uses looks at an interface and at those that stand on it: bonds, bridges, VLANs.
static bool interface_uses(const struct net_bind *bind, const char *interface, int depth)
{
    char path[PATH_MAX];
    bool uses = route4_uses(bind, interface) || route6_uses(bind, interface);

    (void)snprintf(path, sizeof(path), "%s/sys/class/net/%s", bind->root, interface);
    DIR *folder = uses || depth == 0 ? NULL : opendir(path);
    for (struct dirent *entry; folder && !uses && (entry = readdir(folder));)
        if (strncmp(entry->d_name, "upper_", 6) == 0)
            uses = interface_uses(bind, entry->d_name + 6, depth - 1);
    if (folder)
        (void)closedir(folder);
    return uses;
}

// device_interface returns the n-th interface of a device: in net/, or below a virtio bus.
static bool device_interface(const struct net_bind *bind, unsigned n, char name[NAME_BYTES])
{
    char path[PATH_MAX], below[NAME_BYTES + 8] = "net";
    struct dirent *entry;

    DIR *folder = opendir(device_path(bind, bind->pci, "", path));
    while (folder && (entry = readdir(folder)))
        if (strncmp(entry->d_name, "virtio", 6) == 0)
            (void)snprintf(below, sizeof(below), "%.60s/net", entry->d_name);
    if (folder)
        (void)closedir(folder);

    bool found = false;
    folder = opendir(device_path(bind, bind->pci, below, path));
    while (folder && !found && (entry = readdir(folder)))
        found = entry->d_name[0] != '.' && n-- == 0;
    if (found)
        (void)snprintf(name, NAME_BYTES, "%.63s", entry->d_name);
    if (folder)
        (void)closedir(folder);
    return found;
}

static int check_device(const struct net_bind *bind, struct fault *fault)
{
    char path[PATH_MAX], class[NAME_BYTES];

    if (!pci_ok(bind->pci))
        return fault_set(fault, EINVAL,
                         "'%s' is no PCI address as lspci -D shows it (0000:03:00.0)", bind->pci);
    if (!file_read(device_path(bind, bind->pci, "class", path), class, sizeof(class)))
        return fault_set(fault, ENODEV,
                         "%s: no such PCI device; 'lspci -D | grep -i ether' lists them",
                         bind->pci);
    if (strncmp(class, "0x02", 4) != 0)
        return fault_set(fault, ENODEV, "%s is no network device (class %s)", bind->pci, class);
    return 0;
}

static int check_route(const struct net_bind *bind, struct fault *fault)
{
    char name[NAME_BYTES];

    for (unsigned i = 0; !bind->force && device_interface(bind, i, name); i++)
        if (interface_uses(bind, name, UPPER_MAX))
            return fault_set(fault, EBUSY,
                             "%s is %s, through which this machine's default route goes: it would "
                             "be cut off; --force does it all the same",
                             bind->pci, name);
    return 0;
}

// check_neighbours: devices of one IOMMU group can reach each other's memory, so vfio hands out
// only groups that the kernel does not use.  Bridges do not count.
static int check_neighbours(const struct net_bind *bind, const char *group, struct fault *fault)
{
    char path[PATH_MAX], class[NAME_BYTES], driver[NAME_BYTES];
    int err = 0;

    DIR *folder = opendir(device_path(bind, bind->pci, "iommu_group/devices", path));
    for (struct dirent *entry; folder && !err && (entry = readdir(folder));) {
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, bind->pci) == 0)
            continue;
        if (file_read(device_path(bind, entry->d_name, "class", path), class, sizeof(class)) &&
            strncmp(class, "0x0604", 6) == 0)
            continue;
        if (link_name(device_path(bind, entry->d_name, "driver", path), driver) &&
            strcmp(driver, "vfio-pci") != 0)
            err = fault_set(fault, ENOTSUP,
                            "%s is in IOMMU group %s together with %s, which the kernel drives "
                            "(%s): bind that one too, or put the NIC into another slot",
                            bind->pci, group, entry->d_name, driver);
    }
    if (folder)
        (void)closedir(folder);
    return err;
}

static int check_iommu(const struct net_bind *bind, struct fault *fault)
{
    char path[PATH_MAX], group[NAME_BYTES], unsafe[NAME_BYTES];

    if (link_name(device_path(bind, bind->pci, "iommu_group", path), group))
        return check_neighbours(bind, group, fault);
    (void)snprintf(path, sizeof(path), "%s/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
                   bind->root);
    if (file_read(path, unsafe, sizeof(unsafe)) && unsafe[0] == 'Y')
        return 0;
    return fault_set(fault, ENOTSUP,
                     "%s: no IOMMU protects this machine's memory from the device: switch on VT-d "
                     "or AMD-Vi in the firmware and boot with intel_iommu=on; in a VM without one "
                     "see 'Without an IOMMU' in doc/network.md",
                     bind->pci);
}

// modprobe_vfio loads the driver if it is not there.
static int modprobe_vfio(const struct net_bind *bind, struct fault *fault)
{
    char path[PATH_MAX];
    char *const words[] = {(char[]){"modprobe"}, (char[]){"vfio-pci"}, NULL};
    pid_t child;

    (void)snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers/vfio-pci", bind->root);
    if (access(path, F_OK) == 0)
        return 0;
    if (posix_spawnp(&child, words[0], NULL, NULL, words, environ) == 0)
        (void)waitpid(child, NULL, 0);
    if (access(path, F_OK) == 0)
        return 0;
    return fault_set(fault, ENOTSUP,
                     "the kernel's driver vfio-pci cannot be loaded: 'modprobe vfio-pci' as root; "
                     "Debian's cloud kernels have none, linux-image-amd64 has");
}

// device_move has the kernel choose a driver anew: `override` or, "\n", the one that fits.
static int device_move(const struct net_bind *bind, const char *override)
{
    char path[PATH_MAX];

    int err = file_write(device_path(bind, bind->pci, "driver_override", path), override);
    if (err)
        return err;
    err = file_write(device_path(bind, bind->pci, "driver/unbind", path), bind->pci);
    if (err && err != -ENOENT) // no driver has it
        return err;
    (void)snprintf(path, sizeof(path), "%s/sys/bus/pci/drivers_probe", bind->root);
    return file_write(path, bind->pci);
}

static bool device_driver(const struct net_bind *bind, char name[NAME_BYTES])
{
    char path[PATH_MAX];
    return link_name(device_path(bind, bind->pci, "driver", path), name);
}

// device_settles waits until vfio-pci, or any other driver, has the device: some take it in the
// background.
static bool device_settles(const struct net_bind *bind, bool vfio, char name[NAME_BYTES])
{
    for (int ms = 0; ms < PROBE_MS; ms += 10) {
        if (device_driver(bind, name) && (strcmp(name, "vfio-pci") == 0) == vfio)
            return true;
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

// group_path makes /dev/vfio/GROUP; false if the device has no group.
static bool group_path(const struct net_bind *bind, char ret[PATH_MAX])
{
    char path[PATH_MAX], group[NAME_BYTES];

    if (!link_name(device_path(bind, bind->pci, "iommu_group", path), group))
        return false;
    (void)snprintf(ret, PATH_MAX, "%s/dev/vfio/%s", bind->root, group);
    return true;
}

// group_share lets the daemon's user open the group's file.
static void group_share(const struct net_bind *bind)
{
    char path[PATH_MAX];
    const struct group *expertd = getgrnam("expertd");

    if (!expertd || !group_path(bind, path))
        return;
    if (chown(path, (uid_t)-1, expertd->gr_gid) == 0)
        (void)chmod(path, 0660);
}

static int move_fault(const struct net_bind *bind, int err, struct fault *fault)
{
    if (err == -EACCES || err == -EPERM)
        return fault_set(fault, EACCES, "%s: drivers are changed as root", bind->pci);
    return fault_set(fault, -err, "%s: the driver cannot be changed: %s ('dmesg' may say more)",
                     bind->pci, strerrordesc_np(-err));
}

int net_bind_do(const struct net_bind *bind, char ret_note[NET_BIND_TEXT_MAX], struct fault *fault)
{
    char before[NAME_BYTES] = "", now[NAME_BYTES] = "", interface[NAME_BYTES] = "";

    int err = check_device(bind, fault);
    if (err)
        return err;
    bool had = device_driver(bind, before);
    if (had && strcmp(before, "vfio-pci") == 0) {
        group_share(bind);
        (void)snprintf(ret_note, NET_BIND_TEXT_MAX, "%s: vfio-pci has it already", bind->pci);
        return 0;
    }
    bool named = device_interface(bind, 0, interface);
    err = check_route(bind, fault);
    if (!err)
        err = modprobe_vfio(bind, fault);
    if (!err)
        err = check_iommu(bind, fault);
    if (err)
        return err;

    err = device_move(bind, "vfio-pci");
    if (!err && !device_settles(bind, true, now))
        err = -ENODEV;
    if (err) {
        (void)device_move(bind, "\n");
        return move_fault(bind, err, fault);
    }
    group_share(bind);
    (void)snprintf(ret_note, NET_BIND_TEXT_MAX,
                   "%s: vfio-pci has it (%s%s%s had it); until the "
                   "next boot, or 'expertctl net unbind %s'",
                   bind->pci, had ? before : "no driver", named ? ", interface " : "",
                   named ? interface : "", bind->pci);
    return 0;
}

int net_bind_undo(const struct net_bind *bind, char ret_note[NET_BIND_TEXT_MAX],
                  struct fault *fault)
{
    char path[PATH_MAX], name[NAME_BYTES] = "";

    int err = check_device(bind, fault);
    if (err)
        return err;
    if (device_driver(bind, name) && strcmp(name, "vfio-pci") != 0) {
        (void)snprintf(ret_note, NET_BIND_TEXT_MAX, "%s: the kernel has it already (%s)", bind->pci,
                       name);
        return 0;
    }
    errno = 0;
    int fd = group_path(bind, path) ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0 && errno == EBUSY)
        return fault_set(fault, EBUSY, "%s: a process drives it: stop expertd first", bind->pci);
    if (fd >= 0)
        (void)close(fd);
    err = device_move(bind, "\n");
    if (err)
        return move_fault(bind, err, fault);
    if (device_settles(bind, false, name))
        (void)snprintf(ret_note, NET_BIND_TEXT_MAX, "%s: the kernel has it again (%s)", bind->pci,
                       name);
    else
        (void)snprintf(ret_note, NET_BIND_TEXT_MAX,
                       "%s: vfio-pci has let it go; no other driver takes it", bind->pci);
    return 0;
}

bool net_bind_routed(const char *root, const char *interface)
{
    struct net_bind bind = {.root = root};
    return interface_uses(&bind, interface, UPPER_MAX);
}

// nic_look fills in what sysfs says of a device; false if it is no network device.
static bool nic_look(const char *root, const char *pci, struct net_bind_nic *ret)
{
    struct net_bind bind = {.pci = pci, .root = root};
    char name[NAME_BYTES] = "";
    struct fault ignored;

    if (check_device(&bind, &ignored) != 0)
        return false;
    *ret = (struct net_bind_nic){0};
    (void)snprintf(ret->pci, sizeof(ret->pci), "%.15s", pci);
    if (device_driver(&bind, name))
        (void)snprintf(ret->driver, sizeof(ret->driver), "%.31s", name);
    for (unsigned i = 0; device_interface(&bind, i, name); i++) {
        (void)snprintf(ret->interface, sizeof(ret->interface), "%.31s", name);
        ret->routed |= interface_uses(&bind, name, UPPER_MAX);
    }
    return true;
}

static int nic_order(const void *a, const void *b)
{
    const struct net_bind_nic *first = a, *second = b;
    return strcmp(first->pci, second->pci);
}

uint32_t net_bind_list(const char *root, struct net_bind_nic *ret, uint32_t max)
{
    char path[PATH_MAX];
    struct dirent *entry;
    uint32_t n = 0;

    (void)snprintf(path, sizeof(path), "%s/sys/bus/pci/devices", root);
    DIR *folder = opendir(path);
    while (folder && n < max && (entry = readdir(folder)))
        n += nic_look(root, entry->d_name, &ret[n]);
    if (folder)
        (void)closedir(folder);
    qsort(ret, n, sizeof(*ret), nic_order);
    return n;
}
