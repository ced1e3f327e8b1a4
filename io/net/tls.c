// SPDX-License-Identifier: MIT
#include "io/net/tls.h"

#include "io/net/bytes.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Records of 4 KiB: a quarter of the write buffer that OpenSSL takes while it encrypts, for half a
// percent more bytes.
#define RECORD_BYTES_MAX 4096
#define CERTIFICATES_MAX (32 << 10) // bytes of a client's chain
#define ROTATE_US        3600000000u
#define TICKET_SECONDS   3600
#define OUT_KEEP_BYTES   2048u // so that a stream of tokens does not allocate for each
#define ERROR_TEXT_MAX   112u
#define WARM_FLIGHTS     8u   // a handshake takes three
#define WARM_BYTES       384u // what an event of a chat has

// AEAD and forward secrecy only; 1.3 has nothing else.
#define CIPHERS_12 "ECDHE+AESGCM:ECDHE+CHACHA20"

struct ticket_key {
    unsigned char name[16], cipher[32], mac[32];
};

struct tls {
    SSL_CTX *ctx;
    BIO_METHOD *bio;
    struct ticket_key keys[2]; // the first seals, each opens
    uint64_t keys_us;          // when the first was made; 0: tls_rotate was never called
    SSL *warm;                 // tls_warm writes to it; NULL: it does nothing
};

struct tls_conn {
    SSL *ssl;
    struct bytes in, out; // ciphertext
    size_t replies_n;     // bytes of out that reading made
    int failed;           // what tls_conn_read returns from now on; 0: all is well
    int bio_err;          // what the BIO failed with
    bool judged;          // the first byte was looked at
    bool reading;
    bool ended; // tls_conn_end
    char error[ERROR_TEXT_MAX];
};

/* ------------------------------------------------------------------- BIO */

static int conn_bio_read(BIO *bio, char *buf, int n)
{
    struct tls_conn *c = BIO_get_data(bio);
    size_t have = bytes_n(&c->in);
    BIO_clear_retry_flags(bio);
    if (n <= 0)
        return 0;
    if (have == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (have > (size_t)n)
        have = (size_t)n;
    memcpy(buf, bytes_front(&c->in), have);
    bytes_drop(&c->in, have, 0);
    return (int)have;
}

static int conn_bio_write(BIO *bio, const char *bytes, int n)
{
    struct tls_conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (n <= 0)
        return 0;
    // A peer that asks for answers (key updates, refused renegotiations) but reads none.
    if (c->reading && (c->replies_n += (size_t)n) > TLS_REPLIES_MAX) {
        c->bio_err = -EPROTO;
        return -1;
    }
    int err = bytes_put(&c->out, bytes, (size_t)n);
    if (err != 0) {
        c->bio_err = err;
        return -1;
    }
    return n;
}

static long conn_bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH || cmd == BIO_CTRL_DUP;
}

static BIO_METHOD *bio_method_make(void)
{
    BIO_METHOD *bio = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "connection");
    if (bio && BIO_meth_set_read(bio, conn_bio_read) && BIO_meth_set_write(bio, conn_bio_write) &&
        BIO_meth_set_ctrl(bio, conn_bio_ctrl))
        return bio;
    BIO_meth_free(bio);
    return NULL;
}

/* --------------------------------------------------------------- tickets */

static bool ticket_key_make(struct ticket_key *key)
{
    struct ticket_key made;
    if (RAND_bytes(made.name, sizeof(made.name)) != 1 ||
        RAND_priv_bytes(made.cipher, sizeof(made.cipher)) != 1 ||
        RAND_priv_bytes(made.mac, sizeof(made.mac)) != 1) {
        ERR_clear_error();
        return false;
    }
    *key = made;
    OPENSSL_cleanse(&made, sizeof(made));
    return true;
}

void tls_rotate(struct tls *tls, uint64_t now_us)
{
    if (tls->keys_us == 0)
        tls->keys_us = now_us;
    if (now_us < tls->keys_us + ROTATE_US)
        return;
    struct ticket_key next[2];
    bool both = now_us >= tls->keys_us + 2ull * ROTATE_US; // nobody called for long
    next[1] = tls->keys[0];
    if (ticket_key_make(&next[0]) && (!both || ticket_key_make(&next[1]))) {
        memcpy(tls->keys, next, sizeof(next));
        tls->keys_us = now_us;
    }
    OPENSSL_cleanse(next, sizeof(next));
}

static bool ticket_mac_init(EVP_MAC_CTX *mac, struct ticket_key *key)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

// ticket_key_use is OpenSSL's question which keys seal (or open) this ticket.
static int ticket_key_use(SSL *ssl, unsigned char name[16], unsigned char *iv,
                          EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
    struct tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const EVP_CIPHER *aes = EVP_aes_256_cbc();
    struct ticket_key *key = &tls->keys[0];
    if (seal) {
        memcpy(name, key->name, sizeof(key->name));
        bool ok = RAND_bytes(iv, EVP_CIPHER_get_iv_length(aes)) == 1 &&
                  EVP_EncryptInit_ex(cipher, aes, NULL, key->cipher, iv) == 1 &&
                  ticket_mac_init(mac, key);
        return ok ? 1 : -1;
    }
    if (memcmp(name, key->name, sizeof(key->name)) != 0)
        key = &tls->keys[1];
    if (memcmp(name, key->name, sizeof(key->name)) != 0)
        return 0; // too old, or not ours: a full handshake
    if (EVP_DecryptInit_ex(cipher, aes, NULL, key->cipher, iv) != 1 || !ticket_mac_init(mac, key))
        return -1;
    return key == &tls->keys[0] ? 1 : 2; // 2: and give a new one
}

/* --------------------------------------------------------------- context */

static int alpn_choose(SSL *ssl, const unsigned char **ret, unsigned char *ret_n,
                       const unsigned char *offered, unsigned int offered_n, void *user)
{
    (void)ssl;
    (void)user;
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen = NULL;
    int found = SSL_select_next_proto(&chosen, ret_n, ours, sizeof(ours) - 1, offered, offered_n);
    *ret = chosen;
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// An encrypted key would have OpenSSL ask on the terminal.
static int passphrase_none(char *buf, int size, int writing, void *user)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)user;
    return -1;
}

// openssl_fault makes a sentence of what OpenSSL says, and clears its queue.
static int openssl_fault(struct fault *fault, const char *key, const char *file, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(code);
    int err = ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE ? ENOMEM : EINVAL;
    fault_set(fault, err, "%s %s: %s (%s)", key, file, what, reason ? reason : "no reason given");
    ERR_clear_error();
    return -err;
}

static int file_readable(const char *key, const char *file, struct fault *fault)
{
    if (file[0] == '\0')
        return fault_set(fault, EINVAL, "%s is not set; https_port needs it", key);
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fault_set(fault, errno, "%s %s: %s", key, file, strerror(errno));
    struct stat st;
    int err = fstat(fd, &st) == 0 ? 0 : errno;
    close(fd);
    if (err == 0 && !S_ISREG(st.st_mode))
        return fault_set(fault, EINVAL, "%s %s: not a file", key, file);
    return err == 0 ? 0 : fault_set(fault, err, "%s %s: %s", key, file, strerror(err));
}

static int certificate_use(SSL_CTX *ctx, const struct tls_files *files, struct fault *fault)
{
    int err = file_readable("tls_certificate", files->certificate, fault);
    if (err == 0)
        err = file_readable("tls_key", files->key, fault);
    if (err != 0)
        return err;
    SSL_CTX_set_default_passwd_cb(ctx, passphrase_none);
    if (SSL_CTX_use_certificate_chain_file(ctx, files->certificate) != 1)
        return openssl_fault(fault, "tls_certificate", files->certificate,
                             "no certificate in PEM that can be used");
    if (SSL_CTX_use_PrivateKey_file(ctx, files->key, SSL_FILETYPE_PEM) != 1) {
        unsigned long code = ERR_peek_last_error();
        if (ERR_GET_LIB(code) == ERR_LIB_X509 && ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH)
            return openssl_fault(fault, "tls_key", files->key, "not the certificate's key");
        return openssl_fault(fault, "tls_key", files->key, "no key in PEM without a passphrase");
    }
    if (SSL_CTX_check_private_key(ctx) != 1)
        return openssl_fault(fault, "tls_key", files->key, "not the certificate's key");
    return 0;
}

// sessions_name ties tickets to the authority that clients were checked with: a resumed session is
// not checked again, so it must not outlive it.
static int sessions_name(SSL_CTX *ctx, const char *client_ca, struct fault *fault)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int digest_n = 0;
    char block[4096];
    size_t n;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    FILE *file = client_ca[0] ? fopen(client_ca, "re") : NULL;
    bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 && (file || !client_ca[0]);
    while (ok && file && (n = fread(block, 1, sizeof(block), file)) > 0)
        ok = EVP_DigestUpdate(md, block, n) == 1;
    ok = ok && !(file && ferror(file)) && EVP_DigestFinal_ex(md, digest, &digest_n) == 1 &&
         digest_n <= SSL_MAX_SID_CTX_LENGTH &&
         SSL_CTX_set_session_id_context(ctx, digest, digest_n) == 1;
    if (file)
        fclose(file);
    EVP_MD_CTX_free(md);
    return ok ? 0 : openssl_fault(fault, "tls_client_ca", client_ca, "could not be read");
}

static int client_ca_use(SSL_CTX *ctx, const char *client_ca, struct fault *fault)
{
    if (client_ca[0] != '\0') {
        int err = file_readable("tls_client_ca", client_ca, fault);
        if (err != 0)
            return err;
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(client_ca);
        if (!names || SSL_CTX_load_verify_file(ctx, client_ca) != 1) {
            sk_X509_NAME_pop_free(names, X509_NAME_free);
            return openssl_fault(fault, "tls_client_ca", client_ca,
                                 "no certificate in PEM that can be used");
        }
        SSL_CTX_set_client_CA_list(ctx, names);
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return sessions_name(ctx, client_ca, fault);
}

static int context_make(struct tls *tls, const struct tls_files *files, SSL_CTX **ret,
                        struct fault *fault)
{
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, CIPHERS_12) != 1 ||
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_key_use) != 1) {
        SSL_CTX_free(ctx);
        ERR_clear_error();
        return fault_set(fault, ENOMEM, "TLS: out of memory, or OpenSSL was built without it");
    }
    SSL_CTX_set_app_data(ctx, tls);
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_max_send_fragment(ctx, RECORD_BYTES_MAX);
    SSL_CTX_set_max_cert_list(ctx, CERTIFICATES_MAX);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); // tickets only
    SSL_CTX_set_timeout(ctx, TICKET_SECONDS);
    SSL_CTX_set_num_tickets(ctx, 1);
    SSL_CTX_set_alpn_select_cb(ctx, alpn_choose, NULL);

    int err = certificate_use(ctx, files, fault);
    if (err == 0)
        err = client_ca_use(ctx, files->client_ca, fault);
    ERR_clear_error();
    if (err != 0) {
        SSL_CTX_free(ctx);
        return err;
    }
    *ret = ctx;
    return 0;
}

int tls_files_check(const struct tls_files *files, struct fault *fault)
{
    SSL_CTX *ctx = NULL;
    int err = context_make(NULL, files, &ctx, fault);
    SSL_CTX_free(ctx);
    return err;
}

// certificate_warn looks at the days that the first certificate is good for.
static bool certificate_warn(const char *path, struct fault *ret_warning)
{
    FILE *file = fopen(path, "re");
    X509 *cert = file ? PEM_read_X509(file, NULL, passphrase_none, NULL) : NULL;
    bool warned = false;
    if (cert && X509_cmp_current_time(X509_get0_notAfter(cert)) < 0) {
        fault_set(ret_warning, EKEYEXPIRED,
                  "tls_certificate %s: expired; clients will refuse it until there is a new one",
                  path);
        warned = true;
    } else if (cert && X509_cmp_current_time(X509_get0_notBefore(cert)) > 0) {
        fault_set(ret_warning, EKEYEXPIRED,
                  "tls_certificate %s: not valid yet; is this machine's clock right?", path);
        warned = true;
    }
    X509_free(cert);
    if (file)
        fclose(file);
    ERR_clear_error();
    return warned;
}

bool tls_files_warn(const struct tls_files *files, struct fault *ret_warning)
{
    struct stat st;
    if (stat(files->key, &st) == 0 && (st.st_mode & S_IRWXO) != 0) {
        fault_set(ret_warning, EACCES,
                  "tls_key %s: every user of this machine may read it; chmod 640 it", files->key);
        return true;
    }
    return certificate_warn(files->certificate, ret_warning);
}

/* --------------------------------------------------------------- warming */

// warm_handshake has both ends shake hands in memory.
static bool warm_handshake(SSL *server, SSL *client)
{
    BIO *ours = NULL, *theirs = NULL;
    if (BIO_new_bio_pair(&ours, 0, &theirs, 0) != 1)
        return false;
    SSL_set_bio(server, ours, ours); // take them
    SSL_set_bio(client, theirs, theirs);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    SSL_set_verify(server, SSL_VERIFY_NONE, NULL);
    for (uint32_t i = 0; i < WARM_FLIGHTS; i++) {
        if (SSL_do_handshake(client) == 1 && SSL_do_handshake(server) == 1)
            return true;
        (void)SSL_do_handshake(server);
    }
    return false;
}

// warm_make returns our end of a connection to nobody; NULL if there can be none.
static SSL *warm_make(SSL_CTX *ctx)
{
    SSL_CTX *client_ctx = SSL_CTX_new(TLS_client_method());
    SSL *client = client_ctx ? SSL_new(client_ctx) : NULL;
    SSL *server = SSL_new(ctx);
    BIO *nobody = BIO_new(BIO_s_null());
    bool ok = client && server && nobody && warm_handshake(server, client);
    SSL_free(client);
    SSL_CTX_free(client_ctx);
    if (ok) {
        SSL_set_bio(server, nobody, nobody); // takes it
    } else {
        BIO_free(nobody);
        SSL_free(server);
        server = NULL;
    }
    ERR_clear_error();
    return server;
}

void tls_warm(struct tls *tls)
{
    static const char event[WARM_BYTES];
    size_t written;
    if (!tls->warm)
        return;
    ERR_clear_error();
    if (SSL_write_ex(tls->warm, event, sizeof(event), &written) == 1)
        return;
    ERR_clear_error();
    SSL_free(tls->warm);
    tls->warm = NULL;
}

int tls_create(const struct tls_files *files, struct tls **ret, struct fault *fault)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    if (!tls)
        return fault_set(fault, ENOMEM, "TLS: out of memory");
    int err = context_make(tls, files, &tls->ctx, fault);
    if (err != 0)
        goto fail;
    tls->bio = bio_method_make();
    if (!tls->bio || !ticket_key_make(&tls->keys[0]) || !ticket_key_make(&tls->keys[1])) {
        ERR_clear_error();
        err = fault_set(fault, ENOMEM, "TLS: out of memory, or of random numbers");
        goto fail;
    }
    tls->warm = warm_make(tls->ctx);
    *ret = tls;
    return 0;

fail:
    tls_destroy(&tls);
    return err;
}

int tls_reload(struct tls *tls, const struct tls_files *files, struct fault *fault)
{
    SSL_CTX *ctx = NULL;
    int err = context_make(tls, files, &ctx, fault);
    if (err != 0)
        return err;
    SSL_CTX_free(tls->ctx); // connections that were made of it keep it
    tls->ctx = ctx;
    return 0;
}

void tls_destroy(struct tls **tls)
{
    struct tls *t = *tls;
    if (!t)
        return;
    SSL_free(t->warm);
    SSL_CTX_free(t->ctx);
    BIO_meth_free(t->bio);
    OPENSSL_cleanse(t->keys, sizeof(t->keys));
    free(t);
    *tls = NULL;
}

/* ------------------------------------------------------------ connection */

int tls_conn_create(struct tls *tls, struct tls_conn **ret)
{
    struct tls_conn *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    ERR_clear_error();
    c->ssl = SSL_new(tls->ctx);
    BIO *bio = c->ssl ? BIO_new(tls->bio) : NULL;
    if (!bio) {
        ERR_clear_error();
        tls_conn_destroy(&c);
        return -ENOMEM;
    }
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(c->ssl, bio, bio); // takes it
    SSL_set_accept_state(c->ssl);
    *ret = c;
    return 0;
}

void tls_conn_destroy(struct tls_conn **conn)
{
    struct tls_conn *c = *conn;
    if (!c)
        return;
    SSL_free(c->ssl);
    bytes_fini(&c->in);
    bytes_fini(&c->out);
    free(c);
    ERR_clear_error();
    *conn = NULL;
}

int tls_conn_feed(struct tls_conn *c, const void *bytes, size_t n)
{
    if (c->failed != 0)
        return 0; // nobody reads it any more
    if (n > TLS_UNREAD_MAX || bytes_n(&c->in) > TLS_UNREAD_MAX - n)
        return -ENOBUFS;
    return bytes_put(&c->in, bytes, n);
}

size_t tls_conn_unread(const struct tls_conn *c)
{
    return bytes_n(&c->in);
}

// conn_fail keeps why, and has every later call say so.
static int conn_fail(struct tls_conn *c)
{
    unsigned long code = ERR_peek_error(); // the first is the cause
    const char *reason = ERR_reason_error_string(code);
    long verified = SSL_get_verify_result(c->ssl);

    c->failed = -EPROTO;
    if (c->bio_err == -ENOMEM || ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE) {
        c->failed = -ENOMEM;
        snprintf(c->error, sizeof(c->error), "out of memory");
    } else if (c->bio_err != 0) {
        snprintf(c->error, sizeof(c->error), "the peer asks for answers and reads none");
    } else if (verified != X509_V_OK) {
        snprintf(c->error, sizeof(c->error), "certificate of the client: %s",
                 X509_verify_cert_error_string(verified));
    } else {
        snprintf(c->error, sizeof(c->error), "%s", reason ? reason : "no reason given");
    }
    ERR_clear_error();
    bytes_fini(&c->in);
    return c->failed;
}

int tls_conn_read(struct tls_conn *c, void *buf, size_t n)
{
    assert(n > 0);
    if (c->failed != 0)
        return c->failed;
    if (!c->judged && bytes_n(&c->in) > 0) {
        // A handshake begins with 22, every request of HTTP with a letter.
        char first = bytes_front(&c->in)[0];
        c->judged = true;
        if ((first >= 'A' && first <= 'Z') || (first >= 'a' && first <= 'z')) {
            bytes_fini(&c->in);
            return c->failed = -EBADMSG;
        }
    }
    size_t got = 0;
    ERR_clear_error();
    c->reading = true;
    int ok = SSL_read_ex(c->ssl, buf, n < INT32_MAX ? n : INT32_MAX, &got);
    c->reading = false;
    if (ok == 1)
        return (int)got;
    switch (SSL_get_error(c->ssl, ok)) {
    case SSL_ERROR_WANT_READ:
        ERR_clear_error();
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        ERR_clear_error();
        bytes_fini(&c->in);
        return c->failed = -EPIPE;
    default:
        return conn_fail(c);
    }
}

bool tls_conn_ready(const struct tls_conn *c)
{
    return SSL_is_init_finished(c->ssl);
}

bool tls_conn_resumed(const struct tls_conn *c)
{
    return SSL_session_reused(c->ssl);
}

const char *tls_conn_error(const struct tls_conn *c)
{
    return c->error;
}

int tls_conn_write(struct tls_conn *c, const void *bytes, size_t n)
{
    // A peer that only ended its own stream (-EPIPE) can still be answered.
    if (c->ended || (c->failed != 0 && c->failed != -EPIPE) || !tls_conn_ready(c))
        return -EPIPE;
    if (n == 0)
        return 0;
    size_t written = 0;
    ERR_clear_error();
    if (SSL_write_ex(c->ssl, bytes, n, &written) == 1) {
        assert(written == n); // no partial writes were asked for
        return 0;
    }
    return conn_fail(c) == -ENOMEM ? -ENOMEM : -EPIPE;
}

void tls_conn_end(struct tls_conn *c)
{
    bool told = c->ended || (c->failed != 0 && c->failed != -EPIPE) || !tls_conn_ready(c);
    c->ended = true;
    if (told)
        return;
    SSL_shutdown(c->ssl); // whether the peer answers is of no interest
    ERR_clear_error();
}

const void *tls_conn_pending(const struct tls_conn *c, size_t *ret_n)
{
    *ret_n = bytes_n(&c->out);
    return bytes_front(&c->out);
}

void tls_conn_sent(struct tls_conn *c, size_t n)
{
    bytes_drop(&c->out, n, OUT_KEEP_BYTES);
    if (bytes_n(&c->out) == 0)
        c->replies_n = 0;
}
