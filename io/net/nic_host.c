// SPDX-License-Identifier: MIT
#include "io/net/nic_host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

// host_fd_frames says whether an fd is what a driver reads frames from.
static bool host_fd_frames(int fd, const char *target, enum nic_kind kind)
{
    int domain = -1;
    socklen_t n = sizeof(domain);

    if (kind == NIC_TAP)
        return strcmp(target, "/dev/net/tun") == 0;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 &&
           domain == (kind == NIC_AF_XDP ? AF_XDP : AF_PACKET);
}

static void host_fds_list(enum nic_kind kind, bool frames, struct nic_host_fds *ret)
{
    *ret = (struct nic_host_fds){0};
    DIR *folder = kind == NIC_PCI ? NULL : opendir("/proc/self/fd");
    for (struct dirent *entry; folder && ret->n < NIC_HOST_FDS_MAX && (entry = readdir(folder));) {
        char target[64] = "";
        int fd = (int)strtol(entry->d_name, NULL, 10);
        if (readlinkat(dirfd(folder), entry->d_name, target, sizeof(target) - 1) <= 0)
            continue;
        if (host_fd_frames(fd, target, kind) ||
            (!frames && kind == NIC_AF_XDP && strncmp(target, "anon_inode:bpf-", 15) == 0))
            ret->fd[ret->n++] = fd;
    }
    if (folder)
        (void)closedir(folder);
}

static bool host_fds_have(const struct nic_host_fds *fds, int fd)
{
    for (uint32_t i = 0; i < fds->n; i++)
        if (fds->fd[i] == fd)
            return true;
    return false;
}

void nic_host_fds_list(enum nic_kind kind, struct nic_host_fds *ret)
{
    host_fds_list(kind, false, ret);
}

int nic_host_fds_frames(enum nic_kind kind, const struct nic_host_fds *before)
{
    struct nic_host_fds now;
    int found = -1;

    host_fds_list(kind, true, &now);
    for (uint32_t i = 0; i < now.n; i++)
        if (!host_fds_have(before, now.fd[i]) && now.fd[i] > found)
            found = now.fd[i];
    return found;
}

void nic_host_fds_close(enum nic_kind kind, const struct nic_host_fds *before)
{
    struct nic_host_fds now;

    host_fds_list(kind, false, &now);
    for (uint32_t i = 0; i < now.n; i++)
        if (!host_fds_have(before, now.fd[i]))
            (void)close(now.fd[i]);
}

int nic_host_multicast(const char *interface)
{
    struct packet_mreq request = {.mr_ifindex = (int)if_nametoindex(interface),
                                  .mr_type = PACKET_MR_ALLMULTI};
    // Protocol 0: the socket itself hears nothing.
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof(request)) != 0) {
        int err = -errno;
        (void)close(fd);
        return err;
    }
    return fd;
}

// host_ask asks the kernel about an interface by one of the old requests.
static bool host_ask(const char *interface, unsigned long request, struct ifreq *ifr)
{
    *ifr = (struct ifreq){0};
    (void)snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", interface);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); // any will do, and this one is allowed
    bool done = fd >= 0 && ioctl(fd, request, ifr) == 0;
    if (fd >= 0)
        (void)close(fd);
    return done;
}

uint32_t nic_host_mtu(const char *interface)
{
    struct ifreq ifr;
    return host_ask(interface, SIOCGIFMTU, &ifr) ? (uint32_t)ifr.ifr_mtu : 0;
}

bool nic_host_up(const char *interface)
{
    struct ifreq ifr;
    return host_ask(interface, SIOCGIFFLAGS, &ifr) && ifr.ifr_flags & IFF_UP &&
           ifr.ifr_flags & IFF_RUNNING;
}

uint32_t nic_host_mbits(const char *interface)
{
    char path[128], text[32] = "";

    (void)snprintf(path, sizeof(path), "/sys/class/net/%s/speed", interface);
    FILE *file = fopen(path, "re");
    bool there = file && fgets(text, (int)sizeof(text), file);
    if (file)
        (void)fclose(file);
    long mbits = there ? strtol(text, NULL, 10) : 0; // -1: the driver does not know
    return mbits > 0 ? (uint32_t)mbits : 0;
}

void nic_host_incoming(int packet_fd)
{
    int one = 1;
    (void)setsockopt(packet_fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
}

void nic_host_error_clear(int fd)
{
    int err = 0;
    socklen_t n = sizeof(err);
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &n);
}

uint64_t nic_host_drops(int packet_fd)
{
    struct tpacket_stats stats = {0};
    socklen_t n = sizeof(stats);

    if (getsockopt(packet_fd, SOL_PACKET, PACKET_STATISTICS, &stats, &n) != 0)
        return 0;
    return stats.tp_drops;
}

// host_hash: FNV-1a; addresses need to differ, not to be hard to guess.
static uint64_t host_hash(uint64_t hash, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (uint8_t)bytes[i]) * 0x100000001b3ull;
    return hash;
}

void nic_host_mac(const char *interface, uint8_t ret[6])
{
    char machine[32];
    FILE *file = fopen("/etc/machine-id", "re");
    size_t n = file ? fread(machine, 1, sizeof(machine), file) : 0;

    if (file)
        (void)fclose(file);
    if (n != sizeof(machine)) // a container without one: any address will do
        (void)!getrandom(machine, sizeof(machine), 0);
    uint64_t hash = host_hash(0xcbf29ce484222325ull, machine, sizeof(machine));
    hash = host_hash(hash, interface, strlen(interface));
    hash ^= hash >> 32;
    ret[0] = 0x02; // locally administered
    for (size_t i = 1; i < 6; i++)
        ret[i] = (uint8_t)(hash >> (8 * i));
    ret[5] &= 0xfeu;
}
