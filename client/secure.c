// SPDX-License-Identifier: MIT
#include "client/secure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HANDSHAKE_TIMEOUT_MS 10000

struct secure {
    SSL_CTX *ctx;
    BIO_METHOD *method;
    SSL *ssl;
    int fd;
};

/* ------------------------------------------------------------------- BIO */

// OpenSSL's own BIO of a socket raises SIGPIPE.

static int socket_write(BIO *bio, const char *bytes, int n)
{
    const struct secure *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t sent = send(s->fd, bytes, (size_t)n, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_write(bio);
    return (int)sent;
}

static int socket_read(BIO *bio, char *bytes, int n)
{
    const struct secure *s = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t got = recv(s->fd, bytes, (size_t)n, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    return (int)got;
}

static long socket_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH;
}

/* ------------------------------------------------------------- handshake */

static int trust_set(struct secure *s, const char *ca, struct fault *fault)
{
    if (!ca) {
        (void)SSL_CTX_set_default_verify_paths(s->ctx); // none there: nothing is trusted
        return 0;
    }
    if (SSL_CTX_load_verify_file(s->ctx, ca) == 1)
        return 0;
    ERR_clear_error();
    return fault_set(fault, EINVAL, "--ca %s: no certificates in PEM that can be read", ca);
}

// name_set says whom the certificate has to name: an address, or a host (which is asked for, too).
static bool name_set(SSL *ssl, const char *host)
{
    unsigned char literal[16];
    union { // OpenSSL's macro would cast the const away
        const char *in;
        void *out;
    } name = {.in = host};

    if (inet_pton(AF_INET, host, literal) == 1 || inet_pton(AF_INET6, host, literal) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, host) == 1 &&
           SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name.out) == 1;
}

static bool socket_set(struct secure *s)
{
    BIO *bio = NULL;
    s->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "socket");
    if (s->method && BIO_meth_set_write(s->method, socket_write) &&
        BIO_meth_set_read(s->method, socket_read) && BIO_meth_set_ctrl(s->method, socket_ctrl))
        bio = BIO_new(s->method);
    if (!bio)
        return false;
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(s->ssl, bio, bio); // takes it
    return true;
}

static int secure_wait(struct secure *s, int why, int interrupt_fd)
{
    short events = why == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN;
    struct pollfd fds[2] = {{.fd = interrupt_fd, .events = POLLIN},
                            {.fd = s->fd, .events = events}};
    int ready = poll(fds, 2, HANDSHAKE_TIMEOUT_MS);
    if (ready < 0)
        return errno == EINTR ? 0 : -errno;
    if (fds[0].revents)
        return -EINTR;
    return ready ? 0 : -ETIMEDOUT;
}

// refusal makes a sentence of a handshake that failed.
static int refusal(const struct secure *s, const struct address *address, struct fault *fault)
{
    long verified = SSL_get_verify_result(s->ssl);
    unsigned long code = ERR_peek_error();
    const char *reason = ERR_reason_error_string(code);
    int err;
    if (verified != X509_V_OK)
        err = fault_set(fault, EACCES,
                        "%s: its certificate is not trusted: %s; --ca FILE names the certificate "
                        "of who signed it, or its own if it signed itself",
                        address->text, X509_verify_cert_error_string(verified));
    else if (code == 0)
        err = fault_set(fault, ECONNRESET, "%s closed the connection in the TLS handshake",
                        address->text);
    else
        err = fault_set(fault, EPROTO,
                        "%s: no TLS as expertd speaks it (%s); is this its "
                        "https_port?",
                        address->text, reason ? reason : "no reason given");
    ERR_clear_error();
    return err;
}

static int handshake(struct secure *s, const struct address *address, int interrupt_fd,
                     struct fault *fault)
{
    for (;;) {
        ERR_clear_error();
        int done = SSL_connect(s->ssl);
        if (done == 1)
            return 0;
        int why = SSL_get_error(s->ssl, done);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
            return refusal(s, address, fault);
        int err = secure_wait(s, why, interrupt_fd);
        if (err != 0)
            return fault_set(fault, -err, "%s: the TLS handshake: %s", address->text,
                             strerror(-err));
    }
}

int secure_open(const struct address *address, int fd, int interrupt_fd, struct secure **ret,
                struct fault *fault)
{
    struct secure *s = calloc(1, sizeof(*s));
    if (!s)
        return fault_set(fault, ENOMEM, "out of memory");
    s->fd = fd;
    s->ctx = SSL_CTX_new(TLS_client_method());
    int err = s->ctx ? trust_set(s, address->ca, fault) : fault_set(fault, ENOMEM, "out of memory");
    if (err != 0)
        goto fail;
    s->ssl = SSL_new(s->ctx);
    if (!s->ssl || SSL_set_min_proto_version(s->ssl, TLS1_2_VERSION) != 1 || !socket_set(s) ||
        !name_set(s->ssl, address->host)) {
        ERR_clear_error();
        err = fault_set(fault, ENOMEM, "out of memory");
        goto fail;
    }
    SSL_set_verify(s->ssl, SSL_VERIFY_PEER, NULL);
    SSL_set_mode(s->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    err = handshake(s, address, interrupt_fd, fault);
    if (err != 0)
        goto fail;
    *ret = s;
    return 0;

fail:
    secure_close(&s);
    return err;
}

void secure_close(struct secure **secure)
{
    struct secure *s = *secure;
    *secure = NULL;
    if (!s)
        return;
    SSL_free(s->ssl);
    SSL_CTX_free(s->ctx);
    BIO_meth_free(s->method);
    free(s);
}

/* ----------------------------------------------------------------- bytes */

static ssize_t result_of(struct secure *s, int done)
{
    if (done > 0)
        return done;
    int why = SSL_get_error(s->ssl, done);
    ERR_clear_error();
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return -EAGAIN;
    return why == SSL_ERROR_ZERO_RETURN ? 0 : -ECONNRESET;
}

ssize_t secure_send(struct secure *s, const void *bytes, size_t n)
{
    ERR_clear_error();
    return result_of(s, SSL_write(s->ssl, bytes, n < INT_MAX ? (int)n : INT_MAX));
}

ssize_t secure_recv(struct secure *s, void *bytes, size_t n)
{
    ERR_clear_error();
    return result_of(s, SSL_read(s->ssl, bytes, n < INT_MAX ? (int)n : INT_MAX));
}
