// SPDX-License-Identifier: MIT
// tls: TLS 1.2 and 1.3 of a server over memory (OpenSSL with a BIO of ours): ciphertext in,
// plaintext out, and back.  ALPN http/1.1, session tickets whose keys rotate, optional client
// certificates.  No renegotiation, no compression, no early data; a name that the client asks for
// (SNI) changes nothing.
//
// Memory of a connection: 14 KiB, 17 more while a record is incomplete, 5 while one is written, and
// what waits in either direction: at most TLS_UNREAD_MAX ciphertext, TLS_REPLIES_MAX of handshakes
// and alerts, and what the caller wrote and the peer has not taken.
// Owner: the net thread; tls_files_check and tls_files_warn any.
#pragma once
#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_UNREAD_MAX  (128u << 10) // two windows of TCP
#define TLS_REPLIES_MAX (64u << 10)  // that a peer can make us queue without reading them

struct tls_files {           // PEM
    const char *certificate; // with its chain
    const char *key;
    const char *client_ca; // certificates of clients must be signed by it; "": none are asked for
};

// tls_files_check says whether a context could be made of them.  -EINVAL, -ENOENT, -EACCES, ...
// with file and reason; -ENOMEM.
int tls_files_check(const struct tls_files *files, struct fault *fault);
// tls_files_warn says what is not right with files that can be used: a certificate that is not
// valid today, a key that everybody may read.  Returns false if there is nothing; else ret_warning
// has the sentence.
bool tls_files_warn(const struct tls_files *files, struct fault *ret_warning);

struct tls; // the context of all connections, which it must outlive
int tls_create(const struct tls_files *files, struct tls **ret, struct fault *fault);
// tls_reload reads the files again, for new connections; on an error the old ones stay.  Tickets
// stay good, unless client_ca changed.
int tls_reload(struct tls *tls, const struct tls_files *files, struct fault *fault);
void tls_destroy(struct tls **tls);
// tls_rotate makes new ticket keys when they are an hour old; those before them still open tickets.
// now_us: clock_us.
void tls_rotate(struct tls *tls, uint64_t now_us);
// tls_warm encrypts an event for nobody, so that the next tls_conn_write finds its code and tables
// in the CPU's caches: between two tokens everything else has passed through them.
void tls_warm(struct tls *tls);

struct tls_conn;                                             // one connection
int tls_conn_create(struct tls *tls, struct tls_conn **ret); // -ENOMEM
void tls_conn_destroy(struct tls_conn **conn);

// tls_conn_feed takes all the ciphertext.  -ENOMEM, or -ENOBUFS beyond TLS_UNREAD_MAX: then nothing
// was taken.  Then call tls_conn_read until it returns 0 or an error, after which all is dropped.
int tls_conn_feed(struct tls_conn *conn, const void *bytes, size_t n);
// tls_conn_unread returns how much of it was not looked at yet.
size_t tls_conn_unread(const struct tls_conn *conn);
// tls_conn_read does the handshake and puts plaintext into buf[n], n > 0.  Returns how many bytes
// (> 0), 0 nothing more for now, -EPIPE the peer ended the stream (close_notify), -EBADMSG it
// speaks plain HTTP: answer so, in plain; -EPROTO the handshake or a record failed
// (tls_conn_pending may hold an alert to be sent), -ENOMEM.  An error is returned again by every
// later call.
int tls_conn_read(struct tls_conn *conn, void *buf, size_t n);
bool tls_conn_ready(const struct tls_conn *conn);        // the handshake is done
bool tls_conn_resumed(const struct tls_conn *conn);      // ... by a ticket
const char *tls_conn_error(const struct tls_conn *conn); // after -EPROTO, for the log

// tls_conn_write encrypts all of it.  -ENOMEM, -EPIPE before the handshake is done, after
// tls_conn_end or a failure.
int tls_conn_write(struct tls_conn *conn, const void *bytes, size_t n);
void tls_conn_end(struct tls_conn *conn); // close_notify
// tls_conn_pending returns ciphertext for the peer, [*ret_n], valid until the next call for the
// connection; tls_conn_sent drops what was sent.
const void *tls_conn_pending(const struct tls_conn *conn, size_t *ret_n);
void tls_conn_sent(struct tls_conn *conn, size_t n);
