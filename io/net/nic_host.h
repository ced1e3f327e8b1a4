// SPDX-License-Identifier: MIT
// nic_host: the kernel's half of a port that is an interface of this machine: what DPDK's drivers
// of such ports leave undone, and the sockets that they open but do not show. Thread: any.
#pragma once
#include "io/net/nic.h"

#define NIC_HOST_FDS_MAX 32u

// File descriptors of this process that are of the kinds that a port's driver opens: tun devices;
// packet sockets; XDP sockets, and what goes with them: maps and programs of BPF.
struct nic_host_fds {
    int fd[NIC_HOST_FDS_MAX];
    uint32_t n;
};

// nic_host_fds_list lists them; what is there after a port was opened and not before belongs to
// its driver.
void nic_host_fds_list(enum nic_kind kind, struct nic_host_fds *ret);
// nic_host_fds_frames returns the last one that is not in `before` and that frames come from, -1
// none.
int nic_host_fds_frames(enum nic_kind kind, const struct nic_host_fds *before);
// nic_host_fds_close closes all that are there and not in `before`.
void nic_host_fds_close(enum nic_kind kind, const struct nic_host_fds *before);

// nic_host_multicast returns a socket that has the interface accept every multicast address for as
// long as it is open, or -errno.
int nic_host_multicast(const char *interface);

// nic_host_mtu returns the interface's MTU, 0 unknown.
uint32_t nic_host_mtu(const char *interface);
// nic_host_up says whether the interface is up and has a carrier.
bool nic_host_up(const char *interface);

// nic_host_mbits returns its speed, 0 unknown: that of a virtual interface is unknown.
uint32_t nic_host_mbits(const char *interface);

// nic_host_incoming has a packet socket hear what comes in only, not what the kernel sends.
void nic_host_incoming(int packet_fd);
// nic_host_error_clear takes a pending error off a socket; the fd may be no socket.
void nic_host_error_clear(int fd);
// nic_host_drops returns what a packet socket dropped since it was asked last.
uint64_t nic_host_drops(int packet_fd);

// nic_host_mac makes an address that stays the same for a name on a machine and differs between
// machines, with the last bit 0: locally administered, unicast.
void nic_host_mac(const char *interface, uint8_t ret[6]);
