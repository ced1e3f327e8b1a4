// SPDX-License-Identifier: MIT
#include "client/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <http_parser.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 10000 // a daemon on this machine answers at once or not at all
#define CONNECT_RETRY_MS   50 // a Unix socket whose queue is full says EAGAIN, and poll cannot tell
#define HTTP_PORT_DEFAULT  "80"
#define HTTPS_PORT_DEFAULT "443"

int address_unix(const char *path, struct address *ret, struct fault *fault)
{
    size_t len = strlen(path);
    if (len == 0)
        return fault_set(fault, EINVAL, "the path of the socket is empty");
    if (len >= sizeof(ret->path))
        return fault_set(fault, EINVAL,
                         "%s: a socket's path has at most %zu bytes, this one has %zu", path,
                         sizeof(ret->path) - 1, len);

    *ret = (struct address){.kind = ADDRESS_UNIX};
    memcpy(ret->path, path, len + 1);
    memcpy(ret->text, path, len + 1);
    return 0;
}

// address_field copies one field of a parsed URL; an absent field is an empty string.
static bool address_field(const char *url, const struct http_parser_url *parts,
                          enum http_parser_url_fields field, char *ret, size_t ret_bytes)
{
    size_t len = (parts->field_set & 1u << field) ? parts->field_data[field].len : 0;
    if (len >= ret_bytes)
        return false;
    memcpy(ret, url + parts->field_data[field].off, len);
    ret[len] = '\0';
    return true;
}

int address_url(const char *url, struct address *ret, struct fault *fault)
{
    struct address address = {.kind = ADDRESS_TCP};
    struct http_parser_url parts;
    char schema[8] = "", path[8] = "";
    const char *form = "an address of the form http://HOST:PORT or https://HOST:PORT";

    http_parser_url_init(&parts);
    if (strlen(url) > UINT16_MAX || http_parser_parse_url(url, strlen(url), 0, &parts) != 0)
        return fault_set(fault, EINVAL, "%s: not %s", url, form);

    unsigned extra = 1u << UF_QUERY | 1u << UF_FRAGMENT | 1u << UF_USERINFO;
    bool fits = address_field(url, &parts, UF_SCHEMA, schema, sizeof(schema)) &&
                address_field(url, &parts, UF_HOST, address.host, sizeof(address.host)) &&
                address_field(url, &parts, UF_PORT, address.port, sizeof(address.port)) &&
                address_field(url, &parts, UF_PATH, path, sizeof(path));
    // /v1 is what other clients of this API have in their base URL.
    fits = fits && (!path[0] || strcmp(path, "/") == 0 || strcmp(path, "/v1") == 0 ||
                    strcmp(path, "/v1/") == 0);
    address.tls = strcmp(schema, "https") == 0;
    if (!fits || (!address.tls && strcmp(schema, "http") != 0) || (parts.field_set & extra) ||
        !address.host[0])
        return fault_set(fault, EINVAL, "%s: not %s", url, form);
    if (!address.port[0])
        snprintf(address.port, sizeof(address.port), "%s",
                 address.tls ? HTTPS_PORT_DEFAULT : HTTP_PORT_DEFAULT);

    bool literal6 = strchr(address.host, ':') != NULL;
    snprintf(address.text, sizeof(address.text), literal6 ? "[%s]:%s" : "%s:%s", address.host,
             address.port);
    *ret = address;
    return 0;
}

bool address_is_local(const struct address *address)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (address->kind == ADDRESS_UNIX || strcmp(address->host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, address->host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, address->host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return false;
}

// address_wait waits until fd is writable or the time is over.
static int address_wait(int fd, int interrupt_fd, int timeout_ms)
{
    struct pollfd fds[2] = {{.fd = interrupt_fd, .events = POLLIN}, {.fd = fd, .events = POLLOUT}};
    int ready = poll(fds, 2, timeout_ms);
    if (ready < 0)
        return errno == EINTR ? 0 : -errno;
    if (fds[0].revents)
        return -EINTR;
    return ready ? 0 : -ETIMEDOUT;
}

static int address_connect_fd(int fd, const struct sockaddr *addr, socklen_t addr_len,
                              int interrupt_fd)
{
    for (int waited_ms = 0; connect(fd, addr, addr_len) != 0; waited_ms += CONNECT_RETRY_MS) {
        if (errno == EINPROGRESS) {
            int err = address_wait(fd, interrupt_fd, CONNECT_TIMEOUT_MS);
            int so_error = 0;
            socklen_t len = sizeof(so_error);
            if (!err && getsockopt(fd, SOL_SOCKET, SO_ERROR, &so_error, &len) != 0)
                err = -errno;
            return err ? err : -so_error;
        }
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        if (waited_ms >= CONNECT_TIMEOUT_MS)
            return -ETIMEDOUT;
        int err = address_wait(-1, interrupt_fd, CONNECT_RETRY_MS);
        if (err && err != -ETIMEDOUT)
            return err;
    }
    return 0;
}

// address_open makes a socket of that family and connects it.
static int address_open(int family, const struct sockaddr *addr, socklen_t addr_len,
                        int interrupt_fd, int *ret_fd)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;

    int err = address_connect_fd(fd, addr, addr_len, interrupt_fd);
    if (err) {
        close(fd);
        return err;
    }
    *ret_fd = fd;
    return 0;
}

static int address_open_tcp(const struct address *address, int interrupt_fd, int *ret_fd,
                            struct fault *fault)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;

    int gai = getaddrinfo(address->host, address->port, &hints, &list);
    if (gai != 0)
        return fault_set(fault, EHOSTUNREACH, "%s: %s", address->text, gai_strerror(gai));

    int err = -EHOSTUNREACH;
    for (struct addrinfo *ai = list; ai && err && err != -EINTR; ai = ai->ai_next)
        err = address_open(ai->ai_family, ai->ai_addr, ai->ai_addrlen, interrupt_fd, ret_fd);
    freeaddrinfo(list);
    if (err)
        return fault_set(fault, -err,
                         "expertd is not reachable at %s (%s); is it running, with %s set in its "
                         "configuration?",
                         address->text, strerror(-err),
                         address->tls || !address_is_local(address) ? "[net] port"
                                                                    : "[listen] loopback");
    return 0;
}

static const char *address_unix_advice(int err)
{
    if (err == -EACCES || err == -EPERM)
        return "ask its administrator for access to the socket";
    return "start it with 'systemctl start expertd', or 'expertd --model DIR --socket PATH', or "
           "name its socket with --socket PATH";
}

int address_connect(const struct address *address, int interrupt_fd, int *ret_fd,
                    struct fault *fault)
{
    if (address->kind == ADDRESS_TCP)
        return address_open_tcp(address, interrupt_fd, ret_fd, fault);

    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    static_assert(sizeof(addr.sun_path) == sizeof(address->path), "a path fits a socket's name");
    memcpy(addr.sun_path, address->path, sizeof(addr.sun_path));

    int err =
        address_open(AF_UNIX, (const struct sockaddr *)&addr, sizeof(addr), interrupt_fd, ret_fd);
    if (err)
        return fault_set(fault, -err, "expertd is not reachable at %s (%s); %s", address->text,
                         strerror(-err), address_unix_advice(err));
    return 0;
}
