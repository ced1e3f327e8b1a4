// SPDX-License-Identifier: MIT
// net_bind: hands a PCI network device to vfio-pci, so that the daemon can drive it, and back to
// the kernel's own driver.  Through sysfs's driver_override, which ends with the next boot.  As
// root.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stdint.h>

#define NET_BIND_TEXT_MAX 256u

struct net_bind {
    const char *pci;  // "0000:03:00.0", as lspci -D writes it
    bool force;       // even if the machine's default route goes through it
    const char *root; // in front of /sys, /proc and /dev: "" but for tests
};

// net_bind_do binds; ret_note says what was done.
// Errors: -EINVAL no such form; -ENODEV no such network device; -EBUSY the default route uses it;
// -ENOTSUP no IOMMU, no vfio-pci, or a neighbour in its IOMMU group that the kernel drives; -EACCES
// not root.  On a failure the kernel's driver has the device as before.
int net_bind_do(const struct net_bind *bind, char ret_note[NET_BIND_TEXT_MAX], struct fault *fault);

// A network device on PCI, whoever drives it.
struct net_bind_nic {
    char pci[16];
    char driver[32];    // "" none
    char interface[32]; // "" none
    bool routed;        // a default route goes through it
};
// net_bind_list looks for them in sysfs.  Returns how many, at most max.
uint32_t net_bind_list(const char *root, struct net_bind_nic *ret, uint32_t max);

// net_bind_routed says whether a default route goes through an interface, or what stands on it.
bool net_bind_routed(const char *root, const char *interface);

// net_bind_undo gives the device back.  -EBUSY a process still drives it (the kernel would wait for
// its end); others as above.
int net_bind_undo(const struct net_bind *bind, char ret_note[NET_BIND_TEXT_MAX],
                  struct fault *fault);
