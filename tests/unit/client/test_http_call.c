// SPDX-License-Identifier: MIT
#include "client/http_call.h"
#include "tests/check.h"
#include "tests/unit/client/served.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static struct served served;

struct got {
    int err;
    unsigned status;
    char body[4096];
    size_t body_len;
    char streamed[4096];
    bool is_stream;
    struct fault fault;
};

static int on_stream(void *user, const char *bytes, size_t len)
{
    struct got *got = user;
    CHECK(strlen(got->streamed) + len < sizeof(got->streamed));
    strncat(got->streamed, bytes, len);
    return 0;
}

static struct http_request get_request(struct got *got)
{
    return (struct http_request){
        .method = "GET", .target = "/x", .stream = on_stream, .stream_user = got};
}

// exchange sends one request and takes what the script answers.
static void exchange(const char *script, size_t len, size_t step, struct got *got)
{
    struct http_call *call = NULL;
    char request[4096];
    *got = (struct got){0};
    struct http_request ask = get_request(got);

    served_script(&served, script, len, step, 1);
    got->err = http_call_open(&served.address, &ask, -1, &call, &got->fault);
    CHECK(got->err == 0);
    got->err = http_call_finish(call, -1, 10000, &got->fault);
    got->status = http_call_status(call);
    const char *body = http_call_body(call, &got->body_len);
    CHECK(got->body_len < sizeof(got->body));
    memcpy(got->body, body, got->body_len);
    got->is_stream = http_call_streamed(call);
    http_call_close(&call);
    CHECK(call == NULL);
    CHECK(strstr(served_request(&served, request, sizeof(request)), "Host: localhost\r\n"));
}

#define EXCHANGE(script, step, got) exchange(script, sizeof(script) - 1, step, got)

// Each response is the same in steps of 1 byte and in one.
static void test_bodies(void)
{
    struct got got;
    for (size_t step = 0; step < 4; step++) {
        EXCHANGE("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", step, &got);
        CHECK(got.err == 0 && got.status == 200 && strcmp(got.body, "hello") == 0);
        EXCHANGE("HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"
                 "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
                 step, &got);
        CHECK(got.err == 0 && got.status == 404 && strcmp(got.body, "abcde") == 0);
        EXCHANGE("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", step, &got);
        CHECK(got.err == 0 && strcmp(got.body, "until the end") == 0);
        EXCHANGE("HTTP/1.1 204 No Content\r\n\r\n", step, &got);
        CHECK(got.err == 0 && got.status == 204 && got.body_len == 0);
        EXCHANGE("HTTP/1.1 100 Continue\r\n\r\n"
                 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                 step, &got);
        CHECK(got.err == 0 && got.status == 200 && strcmp(got.body, "ok") == 0);
        EXCHANGE("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 Oops\r\n\r\n", step,
                 &got);
        CHECK(got.err == 0 && got.status == 200 && strcmp(got.body, "ok") == 0);
    }
}

static void test_streams(void)
{
    struct got got;
    EXCHANGE("HTTP/1.1 200 OK\r\ncontent-TYPE: Text/Event-Stream; charset=utf-8\r\n"
             "Transfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\n3\r\nx\n\n\r\n0\r\n\r\n",
             1, &got);
    CHECK(got.err == 0 && got.is_stream && got.body_len == 0);
    CHECK(strcmp(got.streamed, "data: x\n\n") == 0);
    // An error is collected even if it calls itself a stream.
    EXCHANGE("HTTP/1.1 503 Busy\r\nContent-Type: text/event-stream\r\nContent-Length: 2\r\n\r\nno",
             0, &got);
    CHECK(got.err == 0 && !got.is_stream && strcmp(got.body, "no") == 0);
}

static void test_broken(void)
{
    struct got got;
    EXCHANGE("", 0, &got);
    CHECK(got.err == -ECONNRESET && strstr(got.fault.text, "closed the connection"));
    EXCHANGE("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", 0, &got);
    CHECK(got.err == -ECONNRESET);
    EXCHANGE("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", 1, &got);
    CHECK(got.err == -ECONNRESET);
    EXCHANGE("SSH-2.0-OpenSSH_9.2\r\n", 0, &got);
    CHECK(got.err == -EPROTO && strstr(got.fault.text, "does not speak HTTP"));
    EXCHANGE("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 0, &got);
    CHECK(got.err == -EPROTO);
    EXCHANGE("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 0, &got);
    CHECK(got.err == -EPROTO);
    EXCHANGE("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nx", 0,
             &got);
    CHECK(got.err < 0);
}

// A head or a body without end is given up at its limit, not followed into all of memory.
static void test_limits(void)
{
    struct http_call *call = NULL;
    struct fault fault = {0};
    size_t len = HTTP_CALL_BODY_MAX + (1u << 20);
    const char *heads[] = {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
                           "HTTP/1.1 200 OK\r\nX: "};
    int want[] = {-EFBIG, -EPROTO};
    char *script = malloc(len);
    CHECK(script);

    for (int i = 0; i < 2; i++) {
        struct http_request ask = get_request(NULL);
        ask.stream = NULL;
        memset(script, 'x', len);
        memcpy(script, heads[i], strlen(heads[i]));
        served_script(&served, script, len, 0, 0);
        CHECK(http_call_open(&served.address, &ask, -1, &call, &fault) == 0);
        CHECK(http_call_finish(call, -1, 10000, &fault) == want[i]);
        http_call_close(&call);
        char none[16];
        served_request(&served, none, sizeof(none));
    }
    free(script);
}

// A daemon that answers before it has read everything (413) is heard.
static void test_early_answer(void)
{
    static const char script[] =
        "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig";
    struct http_call *call = NULL;
    struct fault fault = {0};
    size_t len = 4u << 20;
    char *body = malloc(len);
    CHECK(body);
    memset(body, ' ', len);

    struct http_request ask = {.method = "POST", .target = "/x", .body = body, .body_bytes = len};
    served_script(&served, script, sizeof(script) - 1, 0, 0);
    CHECK(http_call_open(&served.address, &ask, -1, &call, &fault) == 0);
    CHECK(http_call_finish(call, -1, 10000, &fault) == 0);
    CHECK(http_call_status(call) == 413);
    CHECK(strcmp(http_call_body(call, NULL), "big") == 0);
    http_call_close(&call);
    char none[16];
    served_request(&served, none, sizeof(none));
    free(body);
}

static void test_request(void)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    struct http_call *call = NULL;
    struct fault fault = {0};
    char seen[4096];
    struct http_request ask = {
        .method = "POST", .target = "/t", .key = "sk-1", .body = "{}", .body_bytes = 2};

    served_script(&served, ok, sizeof(ok) - 1, 0, 1);
    CHECK(http_call_open(&served.address, &ask, -1, &call, &fault) == 0);
    CHECK(http_call_finish(call, -1, 10000, &fault) == 0);
    http_call_close(&call);
    served_request(&served, seen, sizeof(seen));
    CHECK(strncmp(seen, "POST /t HTTP/1.1\r\n", 18) == 0);
    CHECK(strstr(seen, "\r\nAuthorization: Bearer sk-1\r\n"));
    CHECK(strstr(seen, "\r\nContent-Length: 2\r\n"));
    CHECK(strcmp(seen + strlen(seen) - 6, "\r\n\r\n{}") == 0);
}

// A key never becomes another header, and never travels unencrypted over a network.
static void test_keys(void)
{
    static const char *const wrong[] = {"", "a b", "a\r\nX: y", "\xc3\xa9"};
    struct http_call *call = NULL;
    struct http_request ask = {.method = "GET", .target = "/x"};

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct fault fault = {0};
        ask.key = wrong[i];
        CHECK(http_call_open(&served.address, &ask, -1, &call, &fault) == -EINVAL);
        CHECK(fault.text[0] && !call);
    }
    struct address away;
    struct fault fault = {0};
    CHECK(address_url("http://192.0.2.1:80", &away, NULL) == 0);
    ask.key = "sk-1";
    CHECK(http_call_open(&away, &ask, -1, &call, &fault) == -EINVAL);
    CHECK(strstr(fault.text, "unencrypted") && !strstr(fault.text, "sk-1"));
}

// A readable interrupt descriptor ends the wait.
static void test_interrupt(void)
{
    struct http_call *call = NULL;
    struct fault fault = {0};
    struct http_request ask = get_request(NULL);
    int fds[2];

    CHECK(pipe(fds) == 0);
    CHECK(http_call_open(&served.address, &ask, fds[0], &call, &fault) == 0);
    CHECK(http_call_finish(call, fds[0], 20, &fault) == -ETIMEDOUT); // nobody answers
    CHECK(write(fds[1], "x", 1) == 1);
    CHECK(http_call_finish(call, fds[0], 10000, &fault) == -EINTR);
    http_call_close(&call);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    served_open(&served);
    test_bodies();
    test_streams();
    test_broken();
    test_limits();
    test_early_answer();
    test_request();
    test_keys();
    test_interrupt();
    served_close(&served);
    return 0;
}
