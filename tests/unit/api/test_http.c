// SPDX-License-Identifier: MIT
// The rows of "HTTP decisions" that are about framing: what is taken, what is refused with which
// status, and that cuts between reads never matter.
#include "api/http.h"

#include "tests/unit/api/api_check.h"

#define GET    "GET /health HTTP/1.1\r\nHost: x\r\n"
#define POST   "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
#define CHUNKS POST "Transfer-Encoding: chunked\r\n\r\n"

// What a conversation gave, in one line of text: "POST /p?q body=[..] keep; " or "refused 400; ".
struct told {
    struct buf text;
    size_t used;
};

static void tell_request(struct told *t, const struct http_request *req)
{
    struct buf *b = &t->text;

    buf_puts(b, http_method_str((enum http_method)req->method));
    buf_putc(b, ' ');
    buf_puts(b, http_request_path(req));
    if (http_request_query(req)[0]) {
        buf_putc(b, '?');
        buf_puts(b, http_request_query(req));
    }
    for (uint32_t i = 0; i < req->fields_n; i++) {
        buf_putc(b, ' ');
        buf_puts(b, req->text.data + req->fields[i].name);
        buf_putc(b, '=');
        buf_puts(b, req->text.data + req->fields[i].value);
    }
    buf_puts(b, " [");
    buf_put(b, req->body.data, req->body.n);
    buf_puts(b, req->form.keep_alive ? "] keep; " : "] close; ");
}

// Feeds pieces of `step` bytes as a connection would; stops where it would close.
static void talk(struct told *t, const char *bytes, size_t n, size_t step, size_t body_max)
{
    struct http_reader *r = malloc(sizeof(*r));
    size_t at = 0;

    CHECK(r);
    http_reader_init(r, body_max);
    buf_init(&t->text, 1 << 20);
    while (at < n) {
        size_t take = n - at < step ? n - at : step, used;
        enum http_event event = http_reader_feed(r, bytes + at, take, &used);
        CHECK(used <= take);
        at += used;
        if (event == HTTP_EVENT_MORE) {
            CHECK(used == take);
            continue;
        }
        if (event == HTTP_EVENT_HEAD) {
            event = http_reader_feed(r, bytes + at, 0, &used); // a body of none is complete now
            CHECK(used == 0);
            if (event == HTTP_EVENT_MORE)
                continue;
        }
        if (event == HTTP_EVENT_REQUEST) {
            tell_request(t, &r->req);
        } else {
            CHECK(event == HTTP_EVENT_REFUSED);
            buf_puts(&t->text, "refused ");
            buf_u64(&t->text, r->error.status);
            buf_puts(&t->text, r->req.form.keep_alive ? " keep; " : " close; ");
        }
        CHECK(http_reader_eof(r));
        if (!r->req.form.keep_alive)
            break;
        http_reader_next(r);
    }
    if (r->state == HTTP_STATE_HEAD || r->state == HTTP_STATE_BODY)
        buf_puts(&t->text, "unfinished");
    t->used = at;
    http_reader_fini(r);
    free(r);
}

// The same whole, byte by byte, and cut in two at every border.
static void check_talk_n(int line, const char *bytes, size_t n, const char *want)
{
    for (size_t cut = 0; cut <= n; cut++) {
        struct told t;
        size_t step = cut == 0 ? n : cut == n ? 1 : cut;
        if (n > 2000 && cut > 3) // long ones: whole, 1, 2, 3
            break;
        talk(&t, bytes, n, step, 64);
        if (t.text.n != strlen(want) || memcmp(t.text.data, want, t.text.n) != 0) {
            fprintf(stderr, "line %d, pieces of %zu: got  \"%.*s\"\nwant \"%s\"\n", line, step,
                    (int)t.text.n, t.text.data, want);
            exit(1);
        }
        buf_free(&t.text);
    }
}
#define check_talk(bytes, want) check_talk_n(__LINE__, bytes, strlen(bytes), want)

static void takes_ordinary_requests(void)
{
    check_talk(GET "\r\n", "GET /health Host=x [] keep; ");
    check_talk("\r\n\r\n" GET "\r\n", "GET /health Host=x [] keep; ");
    check_talk(POST "Content-Length: 5\r\n\r\nhello",
               "POST /v1/completions Host=x Content-Length=5 [hello] keep; ");
    check_talk(POST "Content-Length: 0\r\n\r\n",
               "POST /v1/completions Host=x Content-Length=0 [] keep; ");
    check_talk("GET /v1/models/a%2Fb%20%E4%B8%AD?x=%20&y HTTP/1.1\r\nHost:x\r\n\r\n",
               "GET /v1/models/a/b \xe4\xb8\xad?x=%20&y Host=x [] keep; ");
    check_talk(GET "Connection: close\r\n\r\n", "GET /health Host=x Connection=close [] close; ");
    check_talk(GET "Empty:\r\nBlanks: \t a b \t \r\n\r\n",
               "GET /health Host=x Empty= Blanks=a b [] keep; ");
    check_talk("HEAD / HTTP/1.1\r\nHost: \r\n\r\n", "HEAD / Host= [] keep; ");
    check_talk("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "OPTIONS * Host=x [] keep; ");
    check_talk(GET "Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n" GET "\r\n",
               "GET /health Host=x Upgrade=h2c Connection=Upgrade [] keep; "
               "GET /health Host=x [] keep; "); // not taken up
    check_talk(GET "\r", "unfinished");
    check_talk(POST "Content-Length: 5\r\n\r\nhell", "unfinished");
}

static void takes_absolute_targets(void)
{
    check_talk("GET http://h:80/a?b HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a?b Host=x [] keep; ");
    check_talk("GET https://h HTTP/1.1\r\nHost: x\r\n\r\n", "GET / Host=x [] keep; ");
    check_talk("GET http://h?q HTTP/1.1\r\nHost: x\r\n\r\n", "GET /?q Host=x [] keep; ");
    check_talk("GET http://h/a HTTP/1.1\r\n\r\n", "refused 400 close; "); // Host all the same
    check_talk("GET http://u@h/a HTTP/1.1\r\nHost: x\r\n\r\n", "refused 400 close; ");
    check_talk("GET ftp://h/a HTTP/1.1\r\nHost: x\r\n\r\n", "refused 400 close; ");
}

static void speaks_http_10(void)
{
    check_talk("GET /health HTTP/1.0\r\n\r\n", "GET /health [] close; ");
    check_talk("GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
               "GET /health Connection=keep-alive [] keep; ");
    check_talk("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
               "refused 400 close; ");
    check_talk("GET /health\r\n\r\n", "refused 505 close; "); // HTTP/0.9
    check_talk("GET /health HTTP/2.0\r\nHost: x\r\n\r\n", "refused 505 close; ");
    check_talk("GET /health HTTP/1.2\r\nHost: x\r\n\r\n", "refused 505 close; ");
}

static void takes_chunks(void)
{
#define TOLD "POST /v1/completions Host=x Transfer-Encoding=chunked "
    check_talk(CHUNKS "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", TOLD "[hello world] keep; ");
    check_talk(CHUNKS "0\r\n\r\n", TOLD "[] keep; ");
    check_talk(CHUNKS "A;x=y;z=\"q\"\r\n0123456789\r\n00\r\n\r\n", TOLD "[0123456789] keep; ");
    check_talk(CHUNKS "1 ;x\r\na\r\n0\r\nTrailer: z\r\nMore: y\r\n\r\n" GET "\r\n",
               TOLD "[a] keep; GET /health Host=x [] keep; ");
    check_talk(POST "transfer-encoding: CHUNKED\r\n\r\n1\r\n\xff\r\n0\r\n\r\n",
               "POST /v1/completions Host=x transfer-encoding=CHUNKED [\xff] keep; ");
    check_talk(CHUNKS "5\r\nhel", "unfinished");
}

static void refuses_malformed_chunks(void)
{
    static const char *const bodies[] = {
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "0x5\r\n",
        " 5\r\n",
        "5\rX",
        "5\n",
        "5 \r\n",
        "5\r\nhelloX",
        "5\r\nhello\rX",
        "5\r\nhello\n",
        "5;a\x01\r\n",
        "0\r\n\rX",
        "0\r\nA: b\rX",
        "0\r\nA\x7f: b\r\n",
        "00000000000000000\r\n", // 17 digits
    };

    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        char text[256];
        snprintf(text, sizeof(text), CHUNKS "%s", bodies[i]);
        check_talk(text, "refused 400 close; ");
    }
}

static void refuses_ambiguous_framing(void)
{
    static const char *const fields[] = {
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "Content-Length : 5\r\n",
        "Host: y\r\n",
        "X\x01: y\r\n",
        "X: y\rZ: w\r\n",
        "X: a\x01z\r\n",
        "X: a\x7fz\r\n",
        "No colon\r\n",
        ": no name\r\n",
    };

    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        char text[256];
        snprintf(text, sizeof(text), POST "%s\r\n0\r\n\r\n", fields[i]);
        check_talk(text, "refused 400 close; ");
    }
    check_talk(POST "Transfer-Encoding: gzip, chunked\r\n\r\n", "refused 501 close; ");
    check_talk(POST "Transfer-Encoding: gzip\r\n\r\n", "refused 501 close; ");
    check_talk(POST "Transfer-Encoding: chunked, identity\r\n\r\n", "refused 501 close; ");
    check_talk(POST "Transfer-Encoding: xchunked\r\n\r\n", "refused 501 close; ");
    check_talk("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\nh",
               "refused 413 close; ");
    check_talk("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551617\r\n\r\nh",
               "refused 400 close; ");
}

static void refuses_malformed_heads(void)
{
    static const char *const heads[] = {
        "GET / HTTP/1.1\r\n\r\n", // no Host
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nauthorization: Bearer a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /%4 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /% HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a%00b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET relative HTTP/1.1\r\nHost: x\r\n\r\n",
        "FROB / HTTP/1.1\r\nHost: x\r\n\r\n",
        "get / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTX/1.1\r\nHost: x\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
        "SOURCE / ICE/1.0\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\rX",
        "\x16\x03\x01\x02", // TLS
    };

    for (size_t i = 0; i < ARRAY_LEN(heads); i++)
        check_talk(heads[i], "refused 400 close; ");
    check_talk("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", "refused 405 close; ");
    check_talk(POST "Expect: a miracle\r\nContent-Length: 1\r\n\r\nx", "refused 417 close; ");
}

// Every limit: just inside is served, one beyond has its status.
static void keeps_limits(void)
{
    struct buf b;

    buf_init(&b, 1 << 20);
    for (unsigned beyond = 0; beyond < 2; beyond++) {
        buf_clear(&b); // target of 8 KiB
        buf_puts(&b, "GET /");
        for (unsigned i = 1; i < HTTP_TARGET_BYTES_MAX + beyond; i++)
            buf_putc(&b, 'a');
        buf_puts(&b, " HTTP/1.1\r\nHost: x\r\n\r\n");
        struct told t;
        talk(&t, b.data, b.n, 1000, 64);
        buf_putc(&t.text, '\0');
        CHECK((strncmp(t.text.data, "GET /aaa", 8) == 0) == !beyond);
        CHECK((strcmp(t.text.data, "refused 414 close; ") == 0) == beyond);
        buf_free(&t.text);

        buf_clear(&b); // 128 fields, Host among them
        buf_puts(&b, GET);
        for (unsigned i = 1; i < HTTP_FIELDS_MAX + beyond; i++)
            buf_puts(&b, "A: b\r\n");
        buf_puts(&b, "\r\n");
        talk(&t, b.data, b.n, 1000, 64);
        buf_putc(&t.text, '\0');
        CHECK((strcmp(t.text.data, "refused 431 close; ") == 0) == beyond);
        buf_free(&t.text);

        buf_clear(&b); // 64 KiB of fields: "Host: x" is 4 + 1 + 4, "A: ..." 1 + 4 + value
        buf_puts(&b, GET "A: ");
        for (unsigned i = 14; i < HTTP_HEAD_BYTES_MAX + beyond; i++)
            buf_putc(&b, 'a');
        buf_puts(&b, "\r\n\r\n");
        talk(&t, b.data, b.n, 1000, 64);
        buf_putc(&t.text, '\0');
        CHECK((strcmp(t.text.data, "refused 431 close; ") == 0) == beyond);
        buf_free(&t.text);
    }
    buf_free(&b);

    // The body: 64 bytes here.
    char text[512];
    static const char a64[] = "0123456789012345678901234567890123456789012345678901234567890123";
    snprintf(text, sizeof(text), POST "Content-Length: 64\r\n\r\n%s", a64);
    struct told t;
    talk(&t, text, strlen(text), 7, 64);
    buf_putc(&t.text, '\0');
    CHECK_HAS(t.text.data, a64);
    buf_free(&t.text);
    check_talk(POST "Content-Length: 65\r\n\r\n", "refused 413 close; "); // before the body
    check_talk(CHUNKS "41\r\n", "refused 413 close; ");
    check_talk(CHUNKS "1\r\na\r\n40\r\n", "refused 413 close; ");
    check_talk(CHUNKS "ffffffffffffffff\r\n", "refused 413 close; ");
}

static void endless_heads_end(void)
{
    static const char *const beginnings[] = {GET "A: ", GET,         "GET /",
                                             "\r\n",    CHUNKS "1;", CHUNKS "0\r\nT: "};
    static const char *const repeats[] = {"aaaaaaaa", "A: b\r\n", "aaaaaaaa",
                                          "\r\n\r\n", "aaaaaaaa", "aaaaaaaa"};

    for (size_t i = 0; i < ARRAY_LEN(beginnings); i++) {
        struct buf b;
        struct told t;
        buf_init(&b, 1 << 20);
        buf_puts(&b, beginnings[i]);
        while (b.n < 200000)
            buf_puts(&b, repeats[i]);
        talk(&t, b.data, b.n, 4096, 64);
        buf_putc(&t.text, '\0');
        CHECK_HAS(t.text.data, "refused 4");
        CHECK(t.used < 100000);
        buf_free(&t.text);
        buf_free(&b);
    }
}

static void pipelining_keeps_every_byte(void)
{
    check_talk(GET "\r\n" POST "Content-Length: 3\r\n\r\nGET" CHUNKS "3\r\nabc\r\n0\r\n\r\n" GET
                   "Connection: close\r\n\r\n" GET "\r\n",
               "GET /health Host=x [] keep; "
               "POST /v1/completions Host=x Content-Length=3 [GET] keep; "
               "POST /v1/completions Host=x Transfer-Encoding=chunked [abc] keep; "
               "GET /health Host=x Connection=close [] close; ");
}

// Feeds all of text and returns the last event; *at is where it stands then.
static enum http_event feed(struct http_reader *r, const char *text, size_t *at)
{
    size_t used;
    enum http_event event = http_reader_feed(r, text + *at, strlen(text) - *at, &used);
    *at += used;
    return event;
}

static void refused_requests_leave_the_connection_usable(void)
{
    static const char text[] =
        POST "Content-Length: 5\r\n\r\nhello" CHUNKS "3\r\nabc\r\n0\r\n\r\n" GET "\r\n" GET "\r\n";
    struct http_reader r;
    struct api_error err;
    size_t at = 0;

    http_reader_init(&r, 64);
    api_error_set(&err, API_ERROR_PATH, NULL, "no");
    for (int i = 0; i < 3; i++) {
        CHECK(feed(&r, text, &at) == HTTP_EVENT_HEAD);
        http_reader_refuse(&r, &err);
        CHECK(feed(&r, text, &at) == HTTP_EVENT_REFUSED);
        CHECK(r.error.status == 404);
        CHECK(r.req.body.n == 0); // thrown away
        CHECK(r.req.form.keep_alive);
        http_reader_next(&r);
    }
    CHECK(feed(&r, text, &at) == HTTP_EVENT_HEAD);
    CHECK(feed(&r, text, &at) == HTTP_EVENT_REQUEST);
    CHECK(at == strlen(text));

    // A refused request with a broken body still loses the connection, and keeps its reason.
    static const char broken[] = CHUNKS "zz\r\n";
    http_reader_next(&r);
    at = 0;
    CHECK(feed(&r, broken, &at) == HTTP_EVENT_HEAD);
    http_reader_refuse(&r, &err);
    CHECK(feed(&r, broken, &at) == HTTP_EVENT_REFUSED);
    CHECK(r.error.status == 404);
    CHECK(!r.req.form.keep_alive);
    http_reader_fini(&r);
}

static void expect_100_continue(void)
{
    static const char text[] = POST "Expect: 100-Continue\r\nContent-Length: 5\r\n\r\nhello";
    struct http_reader r;
    struct api_error err;
    size_t at = 0;

    http_reader_init(&r, 64);
    CHECK(feed(&r, text, &at) == HTTP_EVENT_HEAD);
    CHECK(r.req.expect_continue);
    CHECK(feed(&r, text, &at) == HTTP_EVENT_REQUEST);
    http_reader_next(&r);

    at = 0; // refused: the answer comes before the body, which will never be sent
    CHECK(feed(&r, text, &at) == HTTP_EVENT_HEAD);
    size_t head = at;
    api_error_set(&err, API_ERROR_PATH, NULL, "no");
    http_reader_refuse(&r, &err);
    CHECK(feed(&r, text, &at) == HTTP_EVENT_REFUSED);
    CHECK(at == head);
    CHECK(!r.req.form.keep_alive);
    http_reader_fini(&r);

    http_reader_init(&r, 64); // without a body there is nothing to continue with
    at = 0;
    CHECK(feed(&r, GET "Expect: 100-continue\r\n\r\n", &at) == HTTP_EVENT_HEAD);
    CHECK(!r.req.expect_continue);
    http_reader_fini(&r);
    http_reader_init(&r, 64); // HTTP/1.0 has no such thing
    at = 0;
    CHECK(feed(&r, "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx", &at) ==
          HTTP_EVENT_HEAD);
    CHECK(!r.req.expect_continue);
    http_reader_fini(&r);
}

static void tells_where_it_stands(void)
{
    static const char text[] = POST "Content-Length: 5\r\n\r\nhello";
    struct http_reader r;
    size_t used;

    http_reader_init(&r, 64);
    CHECK(r.state == HTTP_STATE_IDLE);
    CHECK(http_reader_eof(&r));
    CHECK(http_reader_feed(&r, "\r\n", 2, &used) == HTTP_EVENT_MORE);
    CHECK(http_reader_feed(&r, text, 1, &used) == HTTP_EVENT_MORE);
    CHECK(r.state == HTTP_STATE_HEAD);
    CHECK(!http_reader_eof(&r));
    CHECK(http_reader_feed(&r, text + 1, sizeof(text) - 2, &used) == HTTP_EVENT_HEAD);
    CHECK(r.state == HTTP_STATE_BODY);
    CHECK(used == sizeof(text) - 2 - 5);
    CHECK(http_reader_feed(&r, "hell", 4, &used) == HTTP_EVENT_MORE);
    CHECK(!http_reader_eof(&r));
    CHECK(http_reader_feed(&r, "oGET", 4, &used) == HTTP_EVENT_REQUEST);
    CHECK(used == 1); // what follows is not touched
    CHECK(r.state == HTTP_STATE_DONE);
    CHECK(http_reader_feed(&r, "GET", 3, &used) == HTTP_EVENT_MORE);
    CHECK(used == 0);
    http_reader_next(&r);
    CHECK(r.state == HTTP_STATE_IDLE);
    http_reader_fini(&r);
}

static void reads_fields(void)
{
    static const struct {
        const char *field;
        const char *key; // NULL: none
        bool json;
    } rows[] = {
        {"Authorization: Bearer abc", "abc", false},
        {"authorization: bearer  abc", "abc", false},
        {"Authorization: Basic abc", NULL, false},
        {"x-api-key: abc", "abc", false},
        {"X: y", NULL, false},
        {"Content-Type: application/json", NULL, true},
        {"content-type: Application/JSON ; charset=UTF-8", NULL, true},
        {"Content-Type: application/json; charset=\"utf-8\"; x=y", NULL, true},
        {"Content-Type: application/json;", NULL, true},
        {"Content-Type: application/json; charset=latin1", NULL, false},
        {"Content-Type: application/jsonx", NULL, false},
        {"Content-Type: text/plain", NULL, false},
        {"Content-Type:", NULL, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_reader r;
        char text[256];
        size_t at = 0;
        snprintf(text, sizeof(text), POST "%s\r\n\r\n", rows[i].field);
        http_reader_init(&r, 64);
        CHECK(feed(&r, text, &at) == HTTP_EVENT_HEAD);
        const char *key = http_request_key(&r.req);
        CHECK(!key == !rows[i].key);
        CHECK(!key || strcmp(key, rows[i].key) == 0);
        CHECK(http_request_json(&r.req) == rows[i].json);
        CHECK(strcmp(http_request_field(&r.req, "HOST"), "x") == 0);
        CHECK(!http_request_field(&r.req, "Hos"));
        http_reader_fini(&r);
    }
}

// A web page that reaches 127.0.0.1 by DNS rebinding comes with a name of its own.
static void knows_local_hosts(void)
{
    static const struct {
        const char *host;
        bool local;
    } rows[] = {
        {"localhost", true},
        {"LocalHost:8080", true},
        {"localhost.", true},
        {"chat.localhost:80", true},
        {"127.0.0.1", true},
        {"127.0.0.1:8080", true},
        {"[::1]", true},
        {"[::1]:8080", true},
        {"192.0.2.7:1", true},
        {"evil.example", false},
        {"localhost.evil", false},
        {"notlocalhost", false},
        {"127.0.0.1.evil:80", false},
        {"localhost:evil", false},
        {"[::1]:", true},
        {"[::1", false},
        {"[localhost]", false},
        {"[::1]evil", false},
        {"::1", false},
        {"", false},
        {"0x7f.1", false},
        {"127.0.0.1%00", false},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct http_reader r;
        char text[256];
        size_t at = 0;
        snprintf(text, sizeof(text), "GET /health HTTP/1.1\r\nHost: %s\r\n\r\n", rows[i].host);
        http_reader_init(&r, 64);
        CHECK(feed(&r, text, &at) == HTTP_EVENT_HEAD);
        CHECK(http_request_host_local(&r.req) == rows[i].local);
        http_reader_fini(&r);

        at = 0;
        snprintf(text, sizeof(text), "GET http://%s/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
                 rows[i].host);
        http_reader_init(&r, 64);
        enum http_event event = feed(&r, text, &at);
        CHECK(event == HTTP_EVENT_HEAD || !rows[i].local);
        CHECK(event != HTTP_EVENT_HEAD || http_request_host_local(&r.req) == rows[i].local);
        http_reader_fini(&r);
    }
}

int main(void)
{
    knows_local_hosts();
    takes_ordinary_requests();
    takes_absolute_targets();
    speaks_http_10();
    takes_chunks();
    refuses_malformed_chunks();
    refuses_ambiguous_framing();
    refuses_malformed_heads();
    keeps_limits();
    endless_heads_end();
    pipelining_keeps_every_byte();
    refused_requests_leave_the_connection_usable();
    expect_100_continue();
    tells_where_it_stands();
    reads_fields();
    return 0;
}
