// SPDX-License-Identifier: MIT
#include "tests/net/tap_nic.h"

#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define FRAME_MAX 2048u
#define PARTS_MAX 16u

struct nic {
    int fd;
    uint32_t mbufs, held;
    struct nic_info info;
};

int tap_nic_open(const char *interface, const uint8_t mac[6], uint32_t mbufs, struct nic **ret)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    struct nic *nic = calloc(1, sizeof(*nic));
    CHECK(nic);
    *nic = (struct nic){.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC),
                        .mbufs = mbufs,
                        .info = {.mtu = 1500, .driver = "test_tap"}};
    memcpy(nic->info.mac, mac, 6);
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
    if (nic->fd < 0 || ioctl(nic->fd, TUNSETIFF, &request) < 0) {
        int err = -errno;
        nic_close(&nic);
        return err;
    }
    *ret = nic;
    return 0;
}

uint32_t tap_nic_held(const struct nic *nic)
{
    return nic->held;
}

void nic_close(struct nic **nic)
{
    CHECK((*nic)->held == 0);
    close((*nic)->fd);
    free(*nic);
    *nic = NULL;
}

const struct nic_info *nic_info(const struct nic *nic)
{
    return &nic->info;
}

uint32_t nic_receive(struct nic *nic, struct nic_frame *frames, uint32_t max)
{
    uint8_t bytes[FRAME_MAX];
    uint32_t got = 0;

    while (got < max && nic->held < nic->mbufs) {
        ssize_t n = read(nic->fd, bytes, sizeof(bytes));
        if (n <= 0)
            break;
        uint8_t *data = malloc((size_t)n);
        CHECK(data);
        memcpy(data, bytes, (size_t)n);
        frames[got++] = (struct nic_frame){.data = data, .n = (uint16_t)n, .handle = data};
        nic->held++;
    }
    return got;
}

void nic_free(struct nic *nic, void *handle)
{
    CHECK(nic->held > 0);
    nic->held--;
    free(handle);
}

uint32_t nic_mbufs_free(const struct nic *nic)
{
    return nic->mbufs - nic->held;
}

int nic_send(struct nic *nic, const void *const *parts, const uint16_t *parts_bytes,
             uint32_t parts_n)
{
    uint8_t bytes[FRAME_MAX];
    size_t n = 0;

    for (uint32_t i = 0; i < parts_n; i++) {
        if (n + parts_bytes[i] > sizeof(bytes))
            return -EMSGSIZE;
        memcpy(bytes + n, parts[i], parts_bytes[i]);
        n += parts_bytes[i];
    }
    return write(nic->fd, bytes, n) == (ssize_t)n ? 0 : -ENOBUFS;
}

void nic_flush(struct nic *nic)
{
    (void)nic; // each frame left when it was sent
}

void nic_wait(struct nic *nic, int wake_fd, uint64_t timeout_us)
{
    struct pollfd fds[2] = {{.fd = nic->fd, .events = POLLIN}, {.fd = wake_fd, .events = POLLIN}};
    (void)poll(fds, 2, timeout_us / 1000 < INT32_MAX ? (int)(timeout_us / 1000) : -1);
}
