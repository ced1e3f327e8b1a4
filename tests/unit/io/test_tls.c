// SPDX-License-Identifier: MIT
// tls against OpenSSL's own client, over memory: handshakes cut at every byte, tickets across
// rotations, client certificates, ALPN, what is refused, both ways to end, files that are wrong.
#include "tests/unit/io/tls_fixture.h"

#include <errno.h>
#include <malloc.h>

#define ALL SIZE_MAX

// OpenSSL's memory: how much there is, and whether the n-th allocation fails (0: none does).
static struct {
    size_t bytes;
    unsigned long fail_at;
    bool armed;
} memory;

static bool memory_fails(void)
{
    return memory.armed && memory.fail_at > 0 && --memory.fail_at == 0;
}
static void *memory_resize(void *old, size_t bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    if (memory_fails())
        return NULL;
    size_t before = old ? malloc_usable_size(old) : 0;
    void *p = realloc(old, bytes);
    if (p)
        memory.bytes += malloc_usable_size(p) - before;
    return p;
}
static void *memory_take(size_t bytes, const char *file, int line)
{
    return memory_resize(NULL, bytes, file, line);
}
static void memory_give(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    memory.bytes -= p ? malloc_usable_size(p) : 0;
    free(p);
}

static struct fixture_cert server, other, ca, client_good, client_bad;
static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static struct tls *tls_make(const char *client_ca)
{
    struct tls_files files = {server.cert_path, server.key_path, client_ca};
    struct tls *tls = NULL;
    struct fault fault = {0};
    if (tls_create(&files, &tls, &fault) != 0)
        CHECK_FAIL(fault.text);
    return tls;
}

// meet lets both sides talk, at most `bytes` at a time, until nothing moves.  Returns what
// tls_conn_read said last (0: the handshake may be done).
static int meet(struct fixture_client *c, struct tls_conn *conn, size_t bytes)
{
    char buf[64];
    int said = 0;
    for (bool moved = true; moved;) {
        SSL_do_handshake(c->ssl);
        int fed = fixture_to_server(c, conn, bytes);
        CHECK(fed >= 0);
        int got = tls_conn_read(conn, buf, sizeof(buf));
        CHECK(got <= 0);
        if (got < 0)
            said = got;
        moved = fed > 0 || fixture_to_client(c, conn, bytes) > 0;
        CHECK(ERR_peek_error() == 0 || !SSL_is_init_finished(c->ssl));
    }
    SSL_peek(c->ssl, buf, 1); // takes the tickets of 1.3
    ERR_clear_error();
    return said;
}

// talk sends a question and an answer through, `bytes` at a time.
static void talk(struct fixture_client *c, struct tls_conn *conn, size_t bytes)
{
    static const char question[] = "what is the answer?", answer[] = "42";
    char buf[64];
    size_t n = 0;
    CHECK(SSL_write(c->ssl, question, sizeof(question)) == sizeof(question));
    while (n < sizeof(question)) {
        int fed = fixture_to_server(c, conn, bytes);
        CHECK(fed > 0);
        int got = tls_conn_read(conn, buf + n, sizeof(buf) - n);
        CHECK(got >= 0);
        n += (size_t)got;
    }
    CHECK(n == sizeof(question) && memcmp(buf, question, n) == 0);
    CHECK(tls_conn_read(conn, buf, sizeof(buf)) == 0 && tls_conn_unread(conn) == 0);
    CHECK(tls_conn_write(conn, answer, sizeof(answer)) == 0);
    while (fixture_to_client(c, conn, bytes) > 0)
        ;
    CHECK(SSL_read(c->ssl, buf, sizeof(buf)) == sizeof(answer));
    CHECK(memcmp(buf, answer, sizeof(answer)) == 0);
}

struct pair {
    struct fixture_client client;
    struct tls_conn *conn;
};

static void pair_open(struct pair *p, struct tls *tls, int version, SSL_SESSION *resume)
{
    CHECK(tls_conn_create(tls, &p->conn) == 0);
    fixture_client_open(&p->client, version, NULL, resume);
    CHECK(meet(&p->client, p->conn, ALL) == 0);
    CHECK(tls_conn_ready(p->conn) && SSL_is_init_finished(p->client.ssl));
}

static void pair_close(struct pair *p)
{
    tls_conn_destroy(&p->conn);
    CHECK(!p->conn);
    fixture_client_close(&p->client);
}

static void handshake_test(int version)
{
    struct tls *tls = tls_make("");
    for (size_t bytes = 1; bytes < 600; bytes += bytes < 20 ? 1 : 61) {
        struct pair p;
        CHECK(tls_conn_create(tls, &p.conn) == 0);
        CHECK(!tls_conn_ready(p.conn));
        CHECK(tls_conn_write(p.conn, "x", 1) == -EPIPE); // not before the handshake
        fixture_client_open(&p.client, version, NULL, NULL);
        CHECK(meet(&p.client, p.conn, bytes) == 0);
        CHECK(tls_conn_ready(p.conn) && !tls_conn_resumed(p.conn));
        CHECK(SSL_version(p.client.ssl) == version);
        CHECK(SSL_get0_peer_certificate(p.client.ssl));
        talk(&p.client, p.conn, bytes);
        talk(&p.client, p.conn, bytes);
        pair_close(&p);
    }
    tls_destroy(&tls);
    CHECK(!tls);
    tls_destroy(&tls);
}

// A client's flights, cut in two at every byte.
static void boundary_test(int version)
{
    struct tls *tls = tls_make("");
    size_t flight = 2; // the longest that was seen
    for (size_t cut = 1; cut < flight; cut++) {
        struct pair p;
        char wire[4096], buf[64];
        CHECK(tls_conn_create(tls, &p.conn) == 0);
        fixture_client_open(&p.client, version, NULL, NULL);
        while (!SSL_is_init_finished(p.client.ssl)) {
            SSL_do_handshake(p.client.ssl);
            int n = BIO_read(SSL_get_wbio(p.client.ssl), wire, sizeof(wire));
            if (n > 0) {
                size_t first = cut < (size_t)n ? cut : (size_t)n;
                if ((size_t)n > flight)
                    flight = (size_t)n;
                CHECK(tls_conn_feed(p.conn, wire, first) == 0);
                CHECK(tls_conn_read(p.conn, buf, sizeof(buf)) == 0);
                CHECK(tls_conn_feed(p.conn, wire + first, (size_t)n - first) == 0);
                CHECK(tls_conn_read(p.conn, buf, sizeof(buf)) == 0);
            }
            fixture_to_client(&p.client, p.conn, ALL);
        }
        CHECK(meet(&p.client, p.conn, ALL) == 0);
        CHECK(tls_conn_ready(p.conn));
        talk(&p.client, p.conn, ALL);
        pair_close(&p);
    }
    CHECK(flight > 100);
    tls_destroy(&tls);
}

static void bulk_test(int version)
{
    enum { BYTES = 1 << 20 };
    struct tls *tls = tls_make("");
    struct pair p;
    uint64_t state = 7;
    char *sent = malloc(BYTES), *got = malloc(BYTES);
    CHECK(sent && got);
    for (size_t i = 0; i < BYTES; i++)
        sent[i] = (char)check_random(&state);

    pair_open(&p, tls, version, NULL);
    CHECK(tls_conn_write(p.conn, sent, BYTES) == 0); // down: all is kept, then leaves in bites
    size_t pending, n = 0;
    tls_conn_pending(p.conn, &pending);
    CHECK(pending > BYTES && pending < BYTES + BYTES / 50);
    while (fixture_to_client(&p.client, p.conn, 1460) > 0) {
        int now;
        while (n < BYTES && (now = SSL_read(p.client.ssl, got + n, (int)(BYTES - n))) > 0)
            n += (size_t)now;
    }
    CHECK(n == BYTES && memcmp(sent, got, n) == 0);

    CHECK(SSL_write(p.client.ssl, sent, BYTES) == BYTES); // up
    n = 0;
    while (fixture_to_server(&p.client, p.conn, 1460) > 0) {
        int now;
        while (n < BYTES && (now = tls_conn_read(p.conn, got + n, BYTES - n)) > 0)
            n += (size_t)now;
    }
    CHECK(n == BYTES && memcmp(sent, got, n) == 0);

    // What is not read is bounded.
    size_t fed = 0;
    int err;
    while ((err = tls_conn_feed(p.conn, sent, 4096)) == 0)
        fed += 4096;
    CHECK(err == -ENOBUFS && fed == TLS_UNREAD_MAX && tls_conn_unread(p.conn) == fed);
    CHECK(tls_conn_read(p.conn, got, 16) == -EPROTO);
    CHECK(tls_conn_error(p.conn)[0] && tls_conn_unread(p.conn) == 0);
    CHECK(tls_conn_read(p.conn, got, 16) == -EPROTO);
    CHECK(tls_conn_write(p.conn, "x", 1) == -EPIPE);
    pair_close(&p);
    tls_destroy(&tls);
    free(sent);
    free(got);
}

// resumes says whether a ticket still opens; a new one takes its place in *ticket.
static bool resumes(struct tls *tls, int version, SSL_SESSION **ticket)
{
    struct pair p;
    pair_open(&p, tls, version, *ticket);
    talk(&p.client, p.conn, ALL);
    bool resumed = tls_conn_resumed(p.conn);
    CHECK(resumed == (SSL_session_reused(p.client.ssl) == 1));
    SSL_SESSION_free(*ticket);
    *ticket = SSL_get1_session(p.client.ssl);
    pair_close(&p);
    return resumed;
}

static void ticket_test(int version)
{
    const uint64_t hour = 3600000000u;
    struct tls *tls = tls_make("");
    SSL_SESSION *ticket = NULL;
    tls_rotate(tls, 5);
    CHECK(!resumes(tls, version, &ticket));
    CHECK(ticket && resumes(tls, version, &ticket));
    tls_rotate(tls, hour); // five microseconds too early
    CHECK(resumes(tls, version, &ticket));
    tls_rotate(tls, 5 + hour); // the key before still opens, and a new ticket comes
    SSL_SESSION *old = ticket;
    CHECK(SSL_SESSION_up_ref(old));
    CHECK(resumes(tls, version, &ticket));
    CHECK(ticket != old);
    tls_rotate(tls, 5 + 2 * hour);
    CHECK(!resumes(tls, version, &old));
    CHECK(resumes(tls, version, &ticket));
    tls_rotate(tls, 5 + 9 * hour); // nobody was there for long: both keys are gone
    CHECK(!resumes(tls, version, &ticket));

    // Another server's tickets, and the same files read again.
    struct tls *stranger = tls_make("");
    SSL_SESSION *foreign = NULL;
    CHECK(!resumes(stranger, version, &foreign));
    CHECK(!resumes(tls, version, &foreign));
    SSL_SESSION_free(foreign);
    struct tls_files files = {server.cert_path, server.key_path, ""};
    CHECK(tls_reload(tls, &files, NULL) == 0);
    CHECK(resumes(tls, version, &ticket));
    // With client certificates asked for, a ticket of before must not open the door.
    files.client_ca = ca.cert_path;
    CHECK(tls_reload(tls, &files, NULL) == 0);
    struct pair p;
    CHECK(tls_conn_create(tls, &p.conn) == 0);
    fixture_client_open(&p.client, version, NULL, ticket);
    CHECK(meet(&p.client, p.conn, ALL) == -EPROTO);
    CHECK(!tls_conn_ready(p.conn));
    pair_close(&p);
    tls_destroy(&stranger);
    tls_destroy(&tls);
    SSL_SESSION_free(ticket);
    SSL_SESSION_free(old);
}

static void client_certificate_test(int version)
{
    struct tls *tls = tls_make(ca.cert_path);
    struct pair p;
    SSL_SESSION *ticket = NULL;
    for (int i = 0; i < 2; i++) { // the second time by a ticket
        CHECK(tls_conn_create(tls, &p.conn) == 0);
        fixture_client_open(&p.client, version, &client_good, ticket);
        CHECK(meet(&p.client, p.conn, 100) == 0);
        CHECK(tls_conn_ready(p.conn) && tls_conn_resumed(p.conn) == (i == 1));
        talk(&p.client, p.conn, ALL);
        SSL_SESSION_free(ticket);
        ticket = SSL_get1_session(p.client.ssl);
        pair_close(&p);
    }
    SSL_SESSION_free(ticket);

    for (int i = 0; i < 2; i++) { // somebody else's, none
        char buf[64];
        CHECK(tls_conn_create(tls, &p.conn) == 0);
        fixture_client_open(&p.client, version, i == 0 ? &client_bad : NULL, NULL);
        CHECK(meet(&p.client, p.conn, ALL) == -EPROTO);
        CHECK(!tls_conn_ready(p.conn) && strstr(tls_conn_error(p.conn), "certificate"));
        CHECK(tls_conn_write(p.conn, "x", 1) == -EPIPE);
        CHECK(SSL_read(p.client.ssl, buf, sizeof(buf)) <= 0);
        CHECK(SSL_get_shutdown(p.client.ssl) & SSL_RECEIVED_SHUTDOWN); // the alert came
        ERR_clear_error();
        pair_close(&p);
    }
    tls_destroy(&tls);
}

static void alpn_test(int version)
{
    static const unsigned char both[] = "\x02h2\x08http/1.1", h2[] = "\x02h2";
    struct tls *tls = tls_make("");
    struct pair p;
    const unsigned char *chosen;
    unsigned int n;
    CHECK(tls_conn_create(tls, &p.conn) == 0);
    fixture_client_open(&p.client, version, NULL, NULL);
    CHECK(SSL_set_alpn_protos(p.client.ssl, both, sizeof(both) - 1) == 0);
    CHECK(SSL_set_tlsext_host_name(p.client.ssl, (char *)(uintptr_t) "some.other.name") == 1);
    CHECK(meet(&p.client, p.conn, ALL) == 0);
    SSL_get0_alpn_selected(p.client.ssl, &chosen, &n);
    CHECK(n == 8 && memcmp(chosen, "http/1.1", 8) == 0);
    pair_close(&p);

    CHECK(tls_conn_create(tls, &p.conn) == 0);
    fixture_client_open(&p.client, version, NULL, NULL);
    CHECK(SSL_set_alpn_protos(p.client.ssl, h2, sizeof(h2) - 1) == 0);
    CHECK(meet(&p.client, p.conn, ALL) == -EPROTO);
    pair_close(&p);
    tls_destroy(&tls);
}

static void refused_test(void)
{
    static const char *const plain[] = {"GET / HTTP/1.1\r\n", "O", "PRI * HTTP/2.0\r\n\r\nSM\r\n",
                                        "POST /v1/chat/completions HTTP/1.1\r\n"};
    static const char *const junk[] = {
        "\x16\x03\x01\xff\xff",         "\x16\x02\x00\x00\x05hello",    "\x80\x2e\x01\x00\x02",
        "\xff\xff\xff\xff\xff\xff\xff", "\x15\x03\x03\x00\x02\x02\x28", "\r\n\r\n\r\n\r\n"};
    struct tls *tls = tls_make("");
    char buf[64];
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        struct tls_conn *conn;
        size_t pending;
        CHECK(tls_conn_create(tls, &conn) == 0);
        CHECK(tls_conn_read(conn, buf, sizeof(buf)) == 0);
        CHECK(tls_conn_feed(conn, plain[i], strlen(plain[i])) == 0);
        CHECK(tls_conn_read(conn, buf, sizeof(buf)) == -EBADMSG);
        tls_conn_pending(conn, &pending);
        CHECK(pending == 0); // the answer is in plain
        CHECK(tls_conn_write(conn, "x", 1) == -EPIPE);
        tls_conn_destroy(&conn);
    }
    for (size_t i = 0; i < ARRAY_LEN(junk); i++) {
        struct tls_conn *conn;
        char bytes[512] = {0};
        memcpy(bytes, junk[i], strlen(junk[i]));
        CHECK(tls_conn_create(tls, &conn) == 0);
        CHECK(tls_conn_feed(conn, bytes, sizeof(bytes)) == 0);
        CHECK(tls_conn_read(conn, buf, sizeof(buf)) == -EPROTO);
        CHECK(tls_conn_error(conn)[0] && ERR_peek_error() == 0);
        tls_conn_end(conn);
        tls_conn_destroy(&conn);
    }
    struct pair p; // a version that is too old
    CHECK(tls_conn_create(tls, &p.conn) == 0);
    fixture_client_open(&p.client, TLS1_1_VERSION, NULL, NULL);
    SSL_set_security_level(p.client.ssl, 0);
    CHECK(SSL_set_cipher_list(p.client.ssl, "ALL:@SECLEVEL=0") == 1);
    CHECK(meet(&p.client, p.conn, ALL) == -EPROTO);
    CHECK(strstr(tls_conn_error(p.conn), "protocol"));
    pair_close(&p);
    tls_destroy(&tls);
}

// Bits that flip on the way, in the handshake and behind it.
static void corrupt_test(int version)
{
    struct tls *tls = tls_make("");
    uint64_t state = 99;
    for (int round = 0; round < 60; round++) {
        struct pair p;
        char wire[4096], buf[64];
        size_t at = check_random(&state) % 700;
        int said = 0;
        CHECK(tls_conn_create(tls, &p.conn) == 0);
        fixture_client_open(&p.client, version, NULL, NULL);
        for (int turn = 0; turn < 8 && said == 0; turn++) {
            SSL_do_handshake(p.client.ssl);
            if (SSL_is_init_finished(p.client.ssl))
                SSL_write(p.client.ssl, "hello", 5);
            int n = BIO_read(SSL_get_wbio(p.client.ssl), wire, sizeof(wire));
            if (n > 0 && at < (size_t)n)
                wire[at] = (char)(wire[at] ^ (1 << (round & 7)));
            at -= n > 0 && at >= (size_t)n ? (size_t)n : 0;
            if (n > 0)
                CHECK(tls_conn_feed(p.conn, wire, (size_t)n) == 0);
            do
                said = tls_conn_read(p.conn, buf, sizeof(buf));
            while (said > 0);
            CHECK(said == 0 || said == -EPROTO || said == -EBADMSG || said == -EPIPE);
            CHECK(ERR_peek_error() == 0 || n <= 0 || said == 0);
            fixture_to_client(&p.client, p.conn, ALL);
        }
        ERR_clear_error();
        pair_close(&p);
    }
    tls_destroy(&tls);
}

static void end_test(int version)
{
    struct tls *tls = tls_make("");
    struct pair p;
    char buf[64];

    pair_open(&p, tls, version, NULL); // the peer first: it can still be answered
    CHECK(SSL_write(p.client.ssl, "bye", 3) == 3);
    CHECK(SSL_shutdown(p.client.ssl) == 0);
    CHECK(fixture_to_server(&p.client, p.conn, ALL) > 0);
    CHECK(tls_conn_read(p.conn, buf, sizeof(buf)) == 3);
    CHECK(tls_conn_read(p.conn, buf, sizeof(buf)) == -EPIPE);
    CHECK(tls_conn_read(p.conn, buf, sizeof(buf)) == -EPIPE);
    CHECK(tls_conn_write(p.conn, "answer", 6) == 0);
    tls_conn_end(p.conn);
    tls_conn_end(p.conn);
    CHECK(tls_conn_write(p.conn, "more", 4) == -EPIPE);
    fixture_to_client(&p.client, p.conn, ALL);
    CHECK(SSL_read(p.client.ssl, buf, sizeof(buf)) == 6);
    CHECK(SSL_read(p.client.ssl, buf, sizeof(buf)) <= 0);
    CHECK(SSL_get_shutdown(p.client.ssl) & SSL_RECEIVED_SHUTDOWN);
    ERR_clear_error();
    pair_close(&p);

    pair_open(&p, tls, version, NULL); // we first: the peer may go on
    tls_conn_end(p.conn);
    fixture_to_client(&p.client, p.conn, ALL);
    CHECK(SSL_read(p.client.ssl, buf, sizeof(buf)) == 0);
    CHECK(SSL_get_shutdown(p.client.ssl) & SSL_RECEIVED_SHUTDOWN);
    CHECK(SSL_write(p.client.ssl, "late", 4) == 4);
    CHECK(fixture_to_server(&p.client, p.conn, ALL) > 0);
    int got = tls_conn_read(p.conn, buf, sizeof(buf));
    CHECK(got == 4 || got < 0); // to be thrown away by whoever ended it
    ERR_clear_error();
    pair_close(&p);

    struct tls_conn *conn; // before there was anything
    CHECK(tls_conn_create(tls, &conn) == 0);
    tls_conn_end(conn);
    size_t pending;
    tls_conn_pending(conn, &pending);
    CHECK(pending == 0);
    tls_conn_destroy(&conn);
    tls_destroy(&tls);
}

// A peer that has us answer again and again, but reads nothing.
static void greedy_test(void)
{
    struct tls *tls = tls_make("");
    struct pair p;
    char buf[64];
    int said = 0;
    pair_open(&p, tls, TLS1_3_VERSION, NULL);
    for (int i = 0; i < 100000 && said == 0; i++) {
        CHECK(SSL_key_update(p.client.ssl, SSL_KEY_UPDATE_REQUESTED) == 1);
        CHECK(SSL_write(p.client.ssl, "x", 1) == 1);
        CHECK(fixture_to_server(&p.client, p.conn, ALL) > 0);
        do
            said = tls_conn_read(p.conn, buf, sizeof(buf));
        while (said > 0);
        size_t pending;
        tls_conn_pending(p.conn, &pending);
        CHECK(pending <= TLS_REPLIES_MAX);
    }
    CHECK(said == -EPROTO && strstr(tls_conn_error(p.conn), "reads none"));
    ERR_clear_error();
    pair_close(&p);

    // 1.2: renegotiation is answered by a warning, or by the end.
    pair_open(&p, tls, TLS1_2_VERSION, NULL);
    CHECK(SSL_renegotiate(p.client.ssl) == 1);
    SSL_do_handshake(p.client.ssl);
    CHECK(fixture_to_server(&p.client, p.conn, ALL) > 0);
    said = tls_conn_read(p.conn, buf, sizeof(buf));
    CHECK(said == 0 || said == -EPROTO);
    fixture_to_client(&p.client, p.conn, ALL);
    CHECK(SSL_do_handshake(p.client.ssl) <= 0);
    ERR_clear_error();
    pair_close(&p);
    tls_destroy(&tls);
}

static void file_write(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

// wrong: these files are refused with a sentence that has both words.
static void wrong(struct tls *tls, struct tls_files files, const char *word, const char *word2)
{
    struct fault fault = {0};
    int err = tls_files_check(&files, &fault);
    CHECK(err < 0 && fault.err == -err);
    if (!strstr(fault.text, word) || !strstr(fault.text, word2))
        CHECK_FAIL(fault.text);
    fault = (struct fault){0};
    CHECK(tls_reload(tls, &files, &fault) == err && fault.text[0]);
    struct tls *none = NULL;
    CHECK(tls_create(&files, &none, NULL) == err && !none);
    CHECK(ERR_peek_error() == 0);
}

static void files_test(void)
{
    struct tls *tls = tls_make("");
    struct pair before, after;
    struct fault fault = {0};
    struct tls_files good = {server.cert_path, server.key_path, ""}, files;
    char junk[FIXTURE_PATH_MAX], locked[FIXTURE_PATH_MAX];

    fclose(fixture_file(junk, "junk", "pem"));
    FILE *file = fixture_file(locked, "locked", "key");
    char word[] = "secret";
    CHECK(PEM_write_PrivateKey(file, server.key, EVP_aes_128_cbc(), (unsigned char *)word, 6, NULL,
                               NULL) == 1);
    fclose(file);
    CHECK(tls_files_check(&good, &fault) == 0);
    CHECK(!tls_files_warn(&good, &fault));
    pair_open(&before, tls, TLS1_3_VERSION, NULL);

    wrong(tls, (struct tls_files){"", server.key_path, ""}, "tls_certificate", "not set");
    wrong(tls, (struct tls_files){server.cert_path, "", ""}, "tls_key", "not set");
    wrong(tls, (struct tls_files){"/nonexistent/x", server.key_path, ""}, "/nonexistent/x",
          "No such");
    wrong(tls, (struct tls_files){server.cert_path, "/nonexistent/x", ""}, "tls_key", "No such");
    wrong(tls, (struct tls_files){fixture_dir, server.key_path, ""}, fixture_dir, "not a file");
    wrong(tls, (struct tls_files){server.cert_path, server.key_path, "/nonexistent/x"},
          "tls_client_ca", "No such");
    for (int i = 0; i < 2; i++) { // empty, then something else
        wrong(tls, (struct tls_files){junk, server.key_path, ""}, "tls_certificate", junk);
        wrong(tls, (struct tls_files){server.cert_path, junk, ""}, "tls_key", junk);
        wrong(tls, (struct tls_files){server.cert_path, server.key_path, junk}, "tls_client_ca",
              junk);
        file_write(junk, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    }
    wrong(tls, (struct tls_files){server.cert_path, locked, ""}, "tls_key", "passphrase");
    wrong(tls, (struct tls_files){server.cert_path, other.key_path, ""}, other.key_path,
          "not the certificate's key");
    talk(&before.client, before.conn, ALL);

    files = (struct tls_files){other.cert_path, other.key_path, ""};
    CHECK(tls_reload(tls, &files, NULL) == 0);
    talk(&before.client, before.conn, ALL); // on the certificate that it knows
    pair_open(&after, tls, TLS1_3_VERSION, NULL);
    CHECK(X509_cmp(SSL_get0_peer_certificate(after.client.ssl), other.cert) == 0);
    CHECK(X509_cmp(SSL_get0_peer_certificate(before.client.ssl), server.cert) == 0);
    pair_close(&before);
    pair_close(&after);
    tls_destroy(&tls);

    // Warnings: they can be used all the same.
    struct fixture_cert expired = fixture_cert_make("expired", false, -7200, -3600, NULL);
    struct fixture_cert early = fixture_cert_make("early", false, 3600, 7200, NULL);
    files = (struct tls_files){expired.cert_path, expired.key_path, ""};
    CHECK(tls_files_check(&files, NULL) == 0);
    CHECK(tls_files_warn(&files, &fault) && strstr(fault.text, "expired"));
    files = (struct tls_files){early.cert_path, early.key_path, ""};
    CHECK(tls_files_warn(&files, &fault) && strstr(fault.text, "not valid yet"));
    CHECK(chmod(server.key_path, 0644) == 0);
    CHECK(tls_files_warn(&good, &fault) && strstr(fault.text, "every user"));
    CHECK(chmod(server.key_path, 0640) == 0 && !tls_files_warn(&good, &fault));
    fixture_cert_free(&expired);
    fixture_cert_free(&early);
    unlink(junk);
    unlink(locked);
}

// What a connection costs, on our side alone: idle, and while a record is incomplete.
static void memory_test(int version)
{
    enum { CONNS = 16 };
    struct tls *tls = tls_make("");
    struct pair p, pairs[CONNS];
    char buf[64];
    pair_open(&p, tls, version, NULL); // what is made once
    size_t before = memory.bytes;
    for (int i = 0; i < CONNS; i++) {
        pair_open(&pairs[i], tls, version, NULL);
        talk(&pairs[i].client, pairs[i].conn, ALL);
        fixture_client_close(&pairs[i].client);
    }
    size_t idle = (memory.bytes - before) / CONNS;
    before = memory.bytes;
    for (int i = 0; i < CONNS; i++) {
        CHECK(tls_conn_feed(pairs[i].conn, "\x17\x03\x03\x40\x10.", 6) == 0);
        CHECK(tls_conn_read(pairs[i].conn, buf, sizeof(buf)) == 0);
    }
    size_t more = (memory.bytes - before) / CONNS;
    printf("TLS 1.%d: %zu bytes a connection, %zu more for an incomplete record\n",
           version - TLS1_VERSION, idle, more);
    CHECK(idle < 24 << 10 && more < 20 << 10);
    for (int i = 0; i < CONNS; i++)
        tls_conn_destroy(&pairs[i].conn);
    pair_close(&p);
    tls_destroy(&tls);
}

// Warming encrypts (which takes memory), keeps nothing, and gives up without it; connections go on.
static void warm_test(const char *client_ca)
{
    struct tls *tls = tls_make(client_ca);
    tls_warm(tls);
    size_t before = memory.bytes;
    for (int i = 0; i < 100; i++)
        tls_warm(tls);
    CHECK(memory.bytes == before);
    for (int i = 0; i < 2; i++) {
        memory.fail_at = 1;
        memory.armed = true;
        tls_warm(tls);
        memory.armed = false;
        CHECK(memory.fail_at == (i == 0 ? 0 : 1)); // the second time it does nothing
    }
    CHECK(memory.bytes < before);
    if (!client_ca[0]) {
        struct pair p;
        pair_open(&p, tls, TLS1_3_VERSION, NULL);
        talk(&p.client, p.conn, ALL);
        pair_close(&p);
    }
    tls_destroy(&tls);
}

// OpenSSL runs out of memory at the n-th allocation of a connection.  Returns whether it got that
// far.
static bool starved(struct tls *tls, int version, unsigned long n)
{
    struct fixture_client client;
    struct tls_conn *conn = NULL;
    char buf[64];
    memory.fail_at = n;
    memory.armed = true;
    int err = tls_conn_create(tls, &conn);
    memory.armed = false;
    CHECK(err == 0 || (err == -ENOMEM && !conn && memory.fail_at == 0));
    if (err != 0)
        return true;
    fixture_client_open(&client, version, NULL, NULL);
    int said = 0;
    for (int turn = 0; turn < 6 && said == 0; turn++) {
        SSL_do_handshake(client.ssl);
        if (SSL_is_init_finished(client.ssl))
            SSL_write(client.ssl, "hello", 5);
        ERR_clear_error();
        CHECK(fixture_to_server(&client, conn, ALL) >= 0);
        memory.armed = true;
        do
            said = tls_conn_read(conn, buf, sizeof(buf));
        while (said > 0);
        if (tls_conn_ready(conn) && said == 0)
            err = tls_conn_write(conn, "hello", 5);
        memory.armed = false;
        CHECK(said == 0 || said == -ENOMEM || said == -EPROTO);
        CHECK(err == 0 || ((err == -ENOMEM || err == -EPIPE) && memory.fail_at == 0));
        CHECK(said == 0 || memory.fail_at == 0);
        CHECK(ERR_peek_error() == 0);
        fixture_to_client(&client, conn, ALL);
    }
    tls_conn_end(conn);
    tls_conn_destroy(&conn);
    fixture_client_close(&client);
    ERR_clear_error();
    return memory.fail_at == 0;
}

static void starve_test(int version)
{
    struct tls *tls = tls_make("");
    struct pair p;
    pair_open(&p, tls, version, NULL);
    pair_close(&p);
    size_t before = memory.bytes;
    unsigned long n = 1;
    while (starved(tls, version, n))
        n++;
    printf("TLS 1.%d: %lu allocations\n", version - TLS1_VERSION, n - 1);
    CHECK(n > 100);
    CHECK(memory.bytes < before + (16 << 10)); // OpenSSL keeps a little for itself
    tls_destroy(&tls);
}

int main(void)
{
    CHECK(CRYPTO_set_mem_functions(memory_take, memory_resize, memory_give) == 1);
    const long year = 365l * 86400;
    fixture_open();
    server = fixture_cert_make("server", false, -60, year, NULL);
    other = fixture_cert_make("other", false, -60, year, NULL);
    ca = fixture_cert_make("authority", true, -60, year, NULL);
    client_good = fixture_cert_make("client-good", false, -60, year, &ca);
    client_bad = fixture_cert_make("client-bad", false, -60, year, NULL);
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        handshake_test(versions[i]);
        boundary_test(versions[i]);
        bulk_test(versions[i]);
        ticket_test(versions[i]);
        client_certificate_test(versions[i]);
        alpn_test(versions[i]);
        corrupt_test(versions[i]);
        end_test(versions[i]);
        memory_test(versions[i]);
        starve_test(versions[i]);
    }
    warm_test("");
    warm_test(ca.cert_path);
    refused_test();
    greedy_test();
    files_test();
    struct fixture_cert *all[] = {&server, &other, &ca, &client_good, &client_bad};
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        fixture_cert_free(all[i]);
    fixture_close();
    return 0;
}
