// SPDX-License-Identifier: MIT
// tls_fixture: certificates and keys made on the spot (EC P-256), as files in a folder of its own,
// and OpenSSL's client over memory against a tls_conn.
#pragma once
#include "io/net/tls.h"
#include "tests/check.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIXTURE_PATH_MAX 96u

struct fixture_cert {
    EVP_PKEY *key;
    X509 *cert;
    char cert_path[FIXTURE_PATH_MAX], key_path[FIXTURE_PATH_MAX];
};

static char fixture_dir[FIXTURE_PATH_MAX];

static inline void fixture_open(void)
{
    snprintf(fixture_dir, sizeof(fixture_dir), "/tmp/expertd-tls-XXXXXX");
    CHECK(mkdtemp(fixture_dir));
}

static inline FILE *fixture_file(char path[FIXTURE_PATH_MAX], const char *name, const char *end)
{
    int n = snprintf(path, FIXTURE_PATH_MAX, "%.40s/%.40s.%s", fixture_dir, name, end);
    CHECK(n > 0 && n < (int)FIXTURE_PATH_MAX);
    FILE *file = fopen(path, "w");
    CHECK(file);
    return file;
}

static inline void fixture_extend(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    CHECK(ext && X509_add_ext(cert, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

// fixture_cert_make signs with `issuer`, or itself (NULL).  It is good from..to seconds from now.
static inline struct fixture_cert fixture_cert_make(const char *name, bool ca, long from, long to,
                                                    const struct fixture_cert *issuer)
{
    static long serial;
    struct fixture_cert c = {.key = EVP_EC_gen("P-256"), .cert = X509_new()};
    CHECK(c.key && c.cert);
    X509_NAME *subject = X509_get_subject_name(c.cert);
    CHECK(X509_set_version(c.cert, X509_VERSION_3) == 1);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(c.cert), ++serial) == 1);
    CHECK(X509_gmtime_adj(X509_getm_notBefore(c.cert), from));
    CHECK(X509_gmtime_adj(X509_getm_notAfter(c.cert), to));
    CHECK(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1,
                                     -1, 0) == 1);
    CHECK(X509_set_issuer_name(c.cert, issuer ? X509_get_subject_name(issuer->cert) : subject));
    CHECK(X509_set_pubkey(c.cert, c.key) == 1);
    fixture_extend(c.cert, NID_basic_constraints, ca ? "critical,CA:TRUE" : "CA:FALSE");
    CHECK(X509_sign(c.cert, issuer ? issuer->key : c.key, EVP_sha256()) > 0);

    FILE *file = fixture_file(c.cert_path, name, "crt");
    CHECK(PEM_write_X509(file, c.cert) == 1);
    fclose(file);
    file = fixture_file(c.key_path, name, "key");
    CHECK(PEM_write_PrivateKey(file, c.key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(file);
    CHECK(chmod(c.key_path, 0600) == 0);
    return c;
}

static inline void fixture_cert_free(struct fixture_cert *c)
{
    EVP_PKEY_free(c->key);
    X509_free(c->cert);
    unlink(c->cert_path);
    unlink(c->key_path);
    *c = (struct fixture_cert){0};
}

static inline void fixture_close(void)
{
    CHECK(rmdir(fixture_dir) == 0); // each test removes its files
}

/* ---------------------------------------------------------------- client */

struct fixture_client {
    SSL_CTX *ctx;
    SSL *ssl;
};

// fixture_client_open: version is TLS1_2_VERSION or TLS1_3_VERSION; cert may be NULL.  Verifies
// nothing.  Set what a test wants on c->ssl before the first step.
static inline void fixture_client_open(struct fixture_client *c, int version,
                                       const struct fixture_cert *cert, SSL_SESSION *resume)
{
    *c = (struct fixture_client){.ctx = SSL_CTX_new(TLS_client_method())};
    CHECK(c->ctx);
    CHECK(SSL_CTX_set_min_proto_version(c->ctx, version) == 1);
    CHECK(SSL_CTX_set_max_proto_version(c->ctx, version) == 1);
    if (cert) {
        CHECK(SSL_CTX_use_certificate(c->ctx, cert->cert) == 1);
        CHECK(SSL_CTX_use_PrivateKey(c->ctx, cert->key) == 1);
    }
    c->ssl = SSL_new(c->ctx);
    CHECK(c->ssl);
    SSL_set_bio(c->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(c->ssl);
    if (resume)
        CHECK(SSL_set_session(c->ssl, resume) == 1);
}

static inline void fixture_client_close(struct fixture_client *c)
{
    // Else OpenSSL calls the connection broken, and takes its ticket for no good.
    SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(c->ssl);
    SSL_CTX_free(c->ctx);
    *c = (struct fixture_client){0};
}

// fixture_to_server moves at most max bytes of what the client has written; the result of
// tls_conn_feed, or how many there were.
static inline int fixture_to_server(struct fixture_client *c, struct tls_conn *conn, size_t max)
{
    static char wire[1 << 16];
    int n = BIO_read(SSL_get_wbio(c->ssl), wire, (int)(max < sizeof(wire) ? max : sizeof(wire)));
    if (n <= 0)
        return 0;
    int err = tls_conn_feed(conn, wire, (size_t)n);
    return err != 0 ? err : n;
}

static inline size_t fixture_to_client(struct fixture_client *c, struct tls_conn *conn, size_t max)
{
    size_t n;
    const void *wire = tls_conn_pending(conn, &n);
    if (n > max)
        n = max;
    if (n > 0)
        CHECK(BIO_write(SSL_get_rbio(c->ssl), wire, (int)n) == (int)n);
    tls_conn_sent(conn, n);
    return n;
}
