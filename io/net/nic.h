// SPDX-License-Identifier: MIT
// nic: one Ethernet port that DPDK drives, with one receive and one transmit queue: frames in,
// frames out.  The kernel's network stack never sees what goes through it.  This file names no DPDK
// type, because DPDK's headers and lwIP's clash; nic.c is the only file that includes DPDK.
// Owner: the net thread, which also opens and closes it; nic_parse may run on any.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stdint.h>

#define NIC_NAME_MAX 64u

enum nic_kind {
    NIC_PCI,       // "0000:03:00.0": bound to vfio-pci
    NIC_TAP,       // "tap:NAME": a kernel interface NAME whose other end is us
    NIC_AF_PACKET, // "af_packet:IF": beside the kernel, on its interface IF
    NIC_AF_XDP,    // "af_xdp:IF"
    NIC_KIND_COUNT
};

struct nic_name {
    enum nic_kind kind;
    char device[NIC_NAME_MAX]; // the PCI address or the interface
};

// nic_parse reads what [net] port says.  -EINVAL with the forms that there are.
int nic_parse(const char *text, struct nic_name *ret, struct fault *fault);

struct nic_params {
    struct nic_name name;
    uint32_t mbufs;  // frames that the caller may hold at once, beside those in the port's rings
    bool huge_pages; // false: --no-huge, which PCI ports do not allow
};

struct nic_info {
    uint8_t mac[6];
    uint16_t mtu;       // of IP packets
    bool rx_checksum;   // the port checks IPv4 and TCP checksums: NIC_FRAME_BAD
    bool rx_interrupts; // nic_wait sleeps until a frame comes; else it looks every 800 us
    char driver[32];    // "net_virtio"
    uint64_t pool_bytes;
};

// nic_open starts DPDK's EAL once a process, then the port.  The calling thread keeps its CPU
// affinity; no other thread may start one or change signal handlers meanwhile.  The EAL stays for
// the process: a later nic_open has to agree on huge pages and, if it names one, the PCI device,
// and finds no more ordinary memory than the first one asked for. Errors, each naming what mends it
// (package, command or option): -ENODEV no such device, or its plug-in package is not installed;
// -EBUSY the kernel or another process has it; -EPERM a missing capability; -ENOMEM huge pages;
// -ENOTSUP no IOMMU; -EINVAL what the port cannot be used with.
struct nic;
int nic_open(const struct nic_params *params, struct nic **ret, struct fault *fault);
// nic_close stops the port, frees its memory and hands the device back.  Every frame that was
// received must have been freed.
void nic_close(struct nic **nic);
const struct nic_info *nic_info(const struct nic *nic);

enum { NIC_FRAME_BAD = 1u }; // flags: the port says a checksum is wrong

struct nic_frame {
    uint8_t *data; // writable, [n] bytes from the destination MAC on
    uint16_t n;
    uint16_t flags;
    void *handle; // for nic_free
};

// nic_receive fills frames[max] with what has come; never blocks.  The caller owns them.
uint32_t nic_receive(struct nic *nic, struct nic_frame *frames, uint32_t max);
void nic_free(struct nic *nic, void *handle);
// nic_mbufs_free returns how many more frames the pool can hold.
uint32_t nic_mbufs_free(const struct nic *nic);

// nic_send copies a frame and queues it; it leaves with nic_flush or when a burst is full.
// parts: [parts_n] pieces of the frame, parts_bytes[i] each.  -ENOBUFS if there is no place,
// -EMSGSIZE.
int nic_send(struct nic *nic, const void *const *parts, const uint16_t *parts_bytes,
             uint32_t parts_n);
void nic_flush(struct nic *nic);

// nic_wait sleeps until a frame may have come, wake_fd is readable, or timeout_us passed.  While
// hardly an mbuf is free it looks every 800 us.
void nic_wait(struct nic *nic, int wake_fd, uint64_t timeout_us);

struct nic_stats { // since nic_open
    uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes;
    uint64_t rx_missed; // the port had no place for them
    uint64_t rx_errors; // the port found them broken
    uint64_t tx_full;   // nic_send had no place
};
void nic_stats(struct nic *nic, struct nic_stats *ret);
struct nic_link {
    bool up, full_duplex;
    uint32_t mbits; // 0: unknown
};
void nic_link(struct nic *nic, struct nic_link *ret);
