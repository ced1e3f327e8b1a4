// SPDX-License-Identifier: MIT
#include "io/net/peer.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct request {
    struct nlmsghdr head;
    struct inet_diag_req_v2 body;
};

union end {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static void address_put(const union end *end, __be32 addr[4], __be16 *port)
{
    if (end->any.sa_family == AF_INET6) {
        memcpy(addr, &end->v6.sin6_addr, sizeof(end->v6.sin6_addr));
        *port = end->v6.sin6_port;
    } else {
        addr[0] = end->v4.sin_addr.s_addr;
        *port = end->v4.sin_port;
    }
}

// request_make describes the other end: its source is our destination.
static bool request_make(int fd, struct request *ret)
{
    union end ours, theirs;
    socklen_t ours_len = sizeof(ours), theirs_len = sizeof(theirs);
    if (getsockname(fd, &ours.any, &ours_len) != 0 ||
        getpeername(fd, &theirs.any, &theirs_len) != 0)
        return false;

    memset(ret, 0, sizeof(*ret));
    ret->head.nlmsg_len = sizeof(*ret);
    ret->head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    ret->head.nlmsg_flags = NLM_F_REQUEST;
    ret->body.sdiag_family = (uint8_t)ours.any.sa_family;
    ret->body.sdiag_protocol = IPPROTO_TCP;
    ret->body.idiag_states = UINT32_MAX;
    address_put(&theirs, ret->body.id.idiag_src, &ret->body.id.idiag_sport);
    address_put(&ours, ret->body.id.idiag_dst, &ret->body.id.idiag_dport);
    ret->body.id.idiag_cookie[0] = ret->body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    return true;
}

// answer_gone reads what the kernel said.
static bool answer_gone(const void *answer, size_t n)
{
    const struct nlmsghdr *head = answer;
    if (n < sizeof(*head) || head->nlmsg_len > n)
        return false;
    if (head->nlmsg_type == NLMSG_ERROR && n >= NLMSG_LENGTH(sizeof(struct nlmsgerr))) {
        struct nlmsgerr error;
        memcpy(&error, (const char *)answer + NLMSG_HDRLEN, sizeof(error));
        return error.error == -ENOENT; // there is no such end any more
    }
    if (head->nlmsg_type != SOCK_DIAG_BY_FAMILY || n < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
        return false;
    struct inet_diag_msg body;
    memcpy(&body, (const char *)answer + NLMSG_HDRLEN, sizeof(body));
    return body.idiag_inode == 0;
}

bool peer_gone(int fd)
{
    struct request request;
    if (!request_make(fd, &request))
        return errno == ENOTCONN; // it was reset
    int netlink = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (netlink < 0)
        return false;
    _Alignas(struct nlmsghdr) char answer[1024];
    ssize_t n = -1;
    // The kernel answers within the call, so this does not wait.
    if (send(netlink, &request, sizeof(request), 0) == (ssize_t)sizeof(request))
        n = recv(netlink, answer, sizeof(answer), MSG_DONTWAIT);
    close(netlink);
    return n > 0 && answer_gone(answer, (size_t)n);
}
