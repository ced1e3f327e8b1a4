// SPDX-License-Identifier: MIT
// fuzz_tls: what a peer can do to a TLS connection.  Input: one byte that chooses how, then bytes:
// as they are, in pieces (even); or as changes to what a real client sends in a handshake with a
// request behind it (odd): pairs of how many bytes to leave alone and what to XOR the next with.
#include "tests/unit/io/tls_fixture.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct tls *tls;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    fixture_open();
    struct fixture_cert cert = fixture_cert_make("server", false, -60, 86400, NULL);
    struct tls_files files = {cert.cert_path, cert.key_path, ""};
    CHECK(tls_create(&files, &tls, NULL) == 0);
    fixture_cert_free(&cert);
    fixture_close();
    return 0;
}

// look reads what there is, and checks what must hold of any connection.
static int look(struct tls_conn *conn)
{
    char buf[256];
    int said;
    while ((said = tls_conn_read(conn, buf, sizeof(buf))) > 0)
        CHECK(said <= (int)sizeof(buf) && tls_conn_ready(conn));
    CHECK(said == 0 || said == -EPIPE || said == -EBADMSG || said == -EPROTO);
    CHECK(ERR_peek_error() == 0);
    CHECK(said == tls_conn_read(conn, buf, sizeof(buf)));
    CHECK(said != -EPROTO || tls_conn_error(conn)[0]);
    CHECK(said >= 0 || tls_conn_unread(conn) == 0);
    int written = tls_conn_write(conn, "x", 1);
    bool open = tls_conn_ready(conn) && (said == 0 || said == -EPIPE);
    CHECK(written == (open ? 0 : -EPIPE) && ERR_peek_error() == 0);
    return said;
}

static void raw(struct tls_conn *conn, const uint8_t *data, size_t size, size_t piece)
{
    for (size_t at = 0; at < size; at += piece) {
        size_t n = piece < size - at ? piece : size - at;
        int err = tls_conn_feed(conn, data + at, n);
        CHECK(err == 0 || err == -ENOBUFS);
        look(conn);
    }
}

static void changed(struct tls_conn *conn, const uint8_t *data, size_t size, int version)
{
    struct fixture_client client;
    size_t at = 0, left = size > 0 ? data[0] : SIZE_MAX;
    fixture_client_open(&client, version, NULL, NULL);
    for (int turn = 0; turn < 6; turn++) {
        static char wire[8192];
        SSL_do_handshake(client.ssl);
        if (SSL_is_init_finished(client.ssl))
            SSL_write(client.ssl, "GET / HTTP/1.1\r\n\r\n", 18);
        ERR_clear_error();
        int n = BIO_read(SSL_get_wbio(client.ssl), wire, sizeof(wire));
        for (size_t i = 0; n > 0 && i < (size_t)n; i++) {
            if (left-- > 0)
                continue;
            if (at + 1 < size)
                wire[i] = (char)(wire[i] ^ data[at + 1]);
            at += 2;
            left = at < size ? data[at] : SIZE_MAX;
        }
        if (n > 0 && tls_conn_feed(conn, wire, (size_t)n) == 0)
            look(conn);
        fixture_to_client(&client, conn, SIZE_MAX);
    }
    ERR_clear_error();
    fixture_client_close(&client);
    ERR_clear_error();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tls_conn *conn = NULL;
    if (size == 0)
        return 0;
    CHECK(tls_conn_create(tls, &conn) == 0);
    if (data[0] & 1)
        changed(conn, data + 1, size - 1, data[0] & 2 ? TLS1_3_VERSION : TLS1_2_VERSION);
    else
        raw(conn, data + 1, size - 1, data[0] < 128 ? 1 + data[0] / 2u : 4096);
    tls_conn_end(conn);
    tls_conn_destroy(&conn);
    CHECK(!conn && ERR_peek_error() == 0);
    return 0;
}
