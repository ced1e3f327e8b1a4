// SPDX-License-Identifier: MIT
#include "client/http_call.h"

#include "client/secure.h"
#include "client/text.h"

#include <errno.h>
#include <http_parser.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST_HEAD_MAX 8192u // target, host and key; the daemon refuses larger targets anyway
#define READ_STEP        (64u << 10)
#define SEND_TIMEOUT_MS  60000 // a daemon that takes no byte of a request for a minute is stuck
#define EVENT_STREAM     "text/event-stream"

struct http_call {
    int fd;                // non-blocking, owned
    struct secure *secure; // NULL: plain
    char where[sizeof((struct address){0}.text)];
    http_parser parser;
    struct text field, type; // the header's name so far; the value of Content-Type
    bool in_value;
    bool is_stream; // the body goes to request.stream
    bool complete;
    int stream_err;   // what stream returned to end the call
    struct text body; // collected
    int (*stream)(void *user, const char *bytes, size_t len);
    void *stream_user;
};

/* --------------------------------------------------------------- parser */

static int on_header_field(http_parser *parser, const char *at, size_t len)
{
    struct http_call *call = parser->data;
    if (call->in_value)
        text_clear(&call->field);
    call->in_value = false;
    return text_append(&call->field, at, len, HTTP_MAX_HEADER_SIZE);
}

static int on_header_value(http_parser *parser, const char *at, size_t len)
{
    struct http_call *call = parser->data;
    call->in_value = true;
    if (!call->field.bytes || strcasecmp(call->field.bytes, "Content-Type") != 0)
        return 0;
    return text_append(&call->type, at, len, HTTP_MAX_HEADER_SIZE);
}

static int on_headers_complete(http_parser *parser)
{
    struct http_call *call = parser->data;
    const char *type = call->type.bytes ? call->type.bytes : "";
    call->is_stream = call->stream && parser->status_code == HTTP_STATUS_OK &&
                      strncasecmp(type, EVENT_STREAM, strlen(EVENT_STREAM)) == 0;
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t len)
{
    struct http_call *call = parser->data;
    if (call->is_stream)
        call->stream_err = call->stream(call->stream_user, at, len);
    else
        call->stream_err = text_append(&call->body, at, len, HTTP_CALL_BODY_MAX);
    return call->stream_err;
}

static int on_message_complete(http_parser *parser)
{
    struct http_call *call = parser->data;
    if (parser->status_code < HTTP_STATUS_OK) {
        text_clear(&call->type); // informational: the response follows
        return 0;
    }
    call->complete = true;
    http_parser_pause(parser, 1); // bytes behind the response are nobody's
    return 0;
}

static const http_parser_settings http_call_settings = {
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* -------------------------------------------------------------- sending */

static int http_call_wait(const struct http_call *call, short events, int interrupt_fd,
                          int timeout_ms)
{
    struct pollfd fds[2] = {{.fd = interrupt_fd, .events = POLLIN},
                            {.fd = call->fd, .events = events}};
    int ready = poll(fds, 2, timeout_ms);
    if (ready < 0)
        return errno == EINTR ? 0 : -errno;
    if (fds[0].revents)
        return -EINTR;
    return ready ? 0 : -ETIMEDOUT;
}

static ssize_t http_call_send_some(struct http_call *call, const char *bytes, size_t len)
{
    if (call->secure)
        return secure_send(call->secure, bytes, len);
    ssize_t sent = send(call->fd, bytes, len, MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

// http_call_send sends all bytes, or stops quietly when the daemon takes no more: it may have
// answered already (413), and then the answer says why.
static int http_call_send(struct http_call *call, const char *bytes, size_t len, int interrupt_fd,
                          struct fault *fault)
{
    while (len > 0) {
        ssize_t sent = http_call_send_some(call, bytes, len);
        if (sent > 0) {
            bytes += sent;
            len -= (size_t)sent;
            continue;
        }
        if (sent == 0 || sent == -EPIPE || sent == -ECONNRESET)
            return 0;
        int err = sent == -EAGAIN || sent == -EINTR
                      ? http_call_wait(call, POLLOUT, interrupt_fd, SEND_TIMEOUT_MS)
                      : (int)sent;
        if (err)
            return fault_set(fault, -err, "%s: sending the request: %s", call->where,
                             strerror(-err));
    }
    return 0;
}

static bool http_key_is_valid(const char *key)
{
    for (const char *c = key; *c; c++)
        if (*c <= ' ' || *c > '~')
            return false;
    return *key != '\0';
}

// http_call_head writes the request line and headers.  Returns their length, 0 if they do not fit.
static size_t http_call_head(const struct address *address, const struct http_request *request,
                             char *head, size_t head_bytes)
{
    const char *host = address->kind == ADDRESS_UNIX ? "localhost" : address->text;
    char length[64] = "";
    if (request->body)
        snprintf(length, sizeof(length),
                 "Content-Type: application/json\r\nContent-Length: %zu\r\n", request->body_bytes);

    int n = snprintf(head, head_bytes,
                     "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: expertctl\r\n"
                     "Accept: %s\r\nConnection: close\r\n%s%s%s%s\r\n",
                     request->method, request->target, host,
                     request->stream ? EVENT_STREAM ", application/json" : "*/*",
                     request->key ? "Authorization: Bearer " : "", request->key ? request->key : "",
                     request->key ? "\r\n" : "", length);
    return n > 0 && (size_t)n < head_bytes ? (size_t)n : 0;
}

static int http_request_check(const struct address *address, const struct http_request *request,
                              struct fault *fault)
{
    if (!request->key)
        return 0;
    if (!http_key_is_valid(request->key))
        return fault_set(fault, EINVAL,
                         "the key has characters that no key has: spaces, line ends or bytes "
                         "beyond ASCII");
    if (!address->tls && !address_is_local(address))
        return fault_set(fault, EINVAL,
                         "refusing to send the key unencrypted over the network to %s; use "
                         "https://",
                         address->text);
    return 0;
}

/* --------------------------------------------------------------- public */

int http_call_open(const struct address *address, const struct http_request *request,
                   int interrupt_fd, struct http_call **ret, struct fault *fault)
{
    char head[REQUEST_HEAD_MAX];
    int err = http_request_check(address, request, fault);
    if (err)
        return err;

    size_t head_len = http_call_head(address, request, head, sizeof(head));
    if (!head_len)
        return fault_set(fault, EINVAL, "the request's path and key are too long");

    struct http_call *call = calloc(1, sizeof(*call));
    if (!call)
        return fault_set(fault, ENOMEM, "out of memory");
    call->fd = -1;
    call->stream = request->stream;
    call->stream_user = request->stream_user;
    memcpy(call->where, address->text, sizeof(call->where));
    http_parser_init(&call->parser, HTTP_RESPONSE);
    call->parser.data = call;

    err = address_connect(address, interrupt_fd, &call->fd, fault);
    if (!err && address->tls)
        err = secure_open(address, call->fd, interrupt_fd, &call->secure, fault);
    if (!err)
        err = http_call_send(call, head, head_len, interrupt_fd, fault);
    if (!err && request->body)
        err = http_call_send(call, request->body, request->body_bytes, interrupt_fd, fault);
    if (err) {
        http_call_close(&call);
        return err;
    }
    *ret = call;
    return 0;
}

void http_call_close(struct http_call **pcall)
{
    struct http_call *call = *pcall;
    *pcall = NULL;
    if (!call)
        return;

    secure_close(&call->secure);
    if (call->fd >= 0)
        close(call->fd);
    text_free(&call->field);
    text_free(&call->type);
    text_free(&call->body);
    free(call);
}

int http_call_fd(const struct http_call *call)
{
    return call->fd;
}

// http_call_parse gives bytes to the parser; len 0 is the connection's end.
static int http_call_parse(struct http_call *call, const char *bytes, size_t len,
                           struct fault *fault)
{
    size_t parsed = http_parser_execute(&call->parser, &http_call_settings, bytes, len);
    enum http_errno broken = HTTP_PARSER_ERRNO(&call->parser);

    if (call->complete)
        return 0;
    if (call->stream_err == -EFBIG)
        return fault_set(fault, EFBIG, "%s: the response is larger than %u MiB", call->where,
                         HTTP_CALL_BODY_MAX >> 20);
    if (call->stream_err)
        return call->stream_err;
    if (len == 0)
        return fault_set(fault, ECONNRESET,
                         "expertd at %s closed the connection before its answer was complete",
                         call->where);
    if (broken != HPE_OK || parsed != len || call->parser.upgrade)
        return fault_set(fault, EPROTO, "%s does not speak HTTP as expertd does (%s)", call->where,
                         http_errno_description(broken));
    return 1;
}

static ssize_t http_call_recv(struct http_call *call, char *bytes, size_t n)
{
    if (call->secure)
        return secure_recv(call->secure, bytes, n);
    ssize_t got = recv(call->fd, bytes, n, 0);
    return got < 0 ? -errno : got;
}

int http_call_read(struct http_call *call, struct fault *fault)
{
    char bytes[READ_STEP];

    if (call->complete)
        return 0;
    ssize_t got = http_call_recv(call, bytes, sizeof(bytes));
    if (got == -EAGAIN || got == -EINTR)
        return 1;
    if (got < 0 && got != -ECONNRESET)
        return fault_set(fault, (int)-got, "%s: %s", call->where, strerror((int)-got));
    return http_call_parse(call, bytes, got < 0 ? 0 : (size_t)got, fault);
}

int http_call_finish(struct http_call *call, int interrupt_fd, int silence_ms, struct fault *fault)
{
    for (;;) {
        int err = http_call_wait(call, POLLIN, interrupt_fd, silence_ms);
        if (err == -ETIMEDOUT)
            return fault_set(fault, ETIMEDOUT, "expertd at %s has not answered for %d s",
                             call->where, silence_ms / 1000);
        if (err)
            return fault_set(fault, -err, "%s: %s", call->where, strerror(-err));
        err = http_call_read(call, fault);
        if (err <= 0)
            return err;
    }
}

unsigned http_call_status(const struct http_call *call)
{
    return call->parser.status_code;
}

bool http_call_streamed(const struct http_call *call)
{
    return call->is_stream;
}

const char *http_call_body(const struct http_call *call, size_t *ret_len)
{
    if (ret_len)
        *ret_len = call->body.n;
    return call->body.bytes ? call->body.bytes : "";
}
