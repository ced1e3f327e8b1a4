// SPDX-License-Identifier: MIT
#include "io/net/nic.h"

#include <errno.h>
#include <string.h>

#define INTERFACE_NAME_MAX 15u // IFNAMSIZ without its NUL

static const struct {
    const char *prefix;
    enum nic_kind kind;
} nic_prefixes[] = {
    {"tap:", NIC_TAP},
    {"af_packet:", NIC_AF_PACKET},
    {"af_xdp:", NIC_AF_XDP},
};

// nic_interface_ok: what the kernel allows, but for characters that would end a device argument of
// DPDK.
static bool nic_interface_ok(const char *name)
{
    static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t n = strlen(name);

    return n > 0 && n <= INTERFACE_NAME_MAX && strspn(name, ok) == n && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

// nic_pci_ok: DDDD:BB:DD.F in lower-case hexadecimal, as lspci -D and sysfs write it.
static bool nic_pci_ok(const char *text)
{
    static const char form[] = "xxxx:xx:xx.7";
    static const char hex[] = "0123456789abcdef";

    if (strlen(text) != sizeof(form) - 1)
        return false;
    for (size_t i = 0; form[i]; i++) {
        if (form[i] == 'x' && !strchr(hex, text[i]))
            return false;
        if (form[i] == '7' && (text[i] < '0' || text[i] > '7'))
            return false;
        if (form[i] != 'x' && form[i] != '7' && text[i] != form[i])
            return false;
    }
    return true;
}

int nic_parse(const char *text, struct nic_name *ret, struct fault *fault)
{
    struct nic_name name = {.kind = NIC_PCI};
    const char *device = text;

    for (size_t i = 0; i < sizeof(nic_prefixes) / sizeof(nic_prefixes[0]); i++) {
        size_t n = strlen(nic_prefixes[i].prefix);
        if (strncmp(text, nic_prefixes[i].prefix, n) == 0) {
            name.kind = nic_prefixes[i].kind;
            device = text + n;
        }
    }
    if (name.kind == NIC_PCI && !nic_pci_ok(device))
        return fault_set(fault, EINVAL,
                         "[net] port = %s: write a PCI address as lspci -D shows it "
                         "(0000:03:00.0), tap:NAME, af_packet:INTERFACE or af_xdp:INTERFACE",
                         text);
    if (name.kind != NIC_PCI && !nic_interface_ok(device))
        return fault_set(fault, EINVAL,
                         "'%s': '%s' is no name of an interface: 1 to %u letters, digits, '_', "
                         "'.' and '-'",
                         text, device, INTERFACE_NAME_MAX);
    memcpy(name.device, device, strlen(device) + 1);
    *ret = name;
    return 0;
}
