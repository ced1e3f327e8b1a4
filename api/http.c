// SPDX-License-Identifier: MIT
#include "api/http.h"

#include "api/utf8.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

// Target, its decoded path and all fields, each with a NUL behind.
#define HTTP_TEXT_BYTES_MAX                                                                        \
    (2 * HTTP_TARGET_BYTES_MAX + HTTP_HEAD_BYTES_MAX + 4 * HTTP_FIELDS_MAX + 64)
// What a field line has besides name and value: ": " and CRLF.
#define HTTP_FIELD_OVERHEAD 4u
// Digits of one chunk's size: 64 bits; more would be leading zeros without end.
#define HTTP_CHUNK_DIGITS_MAX 16u

enum chunk_state {
    CHUNK_SIZE_FIRST,   // at least one hexadecimal digit
    CHUNK_SIZE,         // more of them, or what follows
    CHUNK_SPACE,        // white space between the size and ';'
    CHUNK_EXTENSION,    // to the end of the line, ignored
    CHUNK_SIZE_LF,      // CR was seen
    CHUNK_DATA,         // body_left bytes
    CHUNK_DATA_CR,      // the CRLF behind them
    CHUNK_DATA_LF,      //
    CHUNK_TRAILER_LINE, // at the beginning of a trailer line
    CHUNK_TRAILER,      // inside one, ignored
    CHUNK_TRAILER_LF,   // its CR was seen
    CHUNK_END_LF        // CR of the empty line was seen
};

static struct http_reader *reader_of(http_parser *p)
{
    return p->data;
}

// Callbacks return it; http_parser stops then.
static int head_refuse(struct http_reader *r, enum api_error_kind kind, const char *words)
{
    api_error_set(&r->error, kind, NULL, "%s", words);
    r->refused = r->fatal = true;
    return -1;
}

static int head_text_check(struct http_reader *r)
{
    return buf_error(&r->req.text) ? head_refuse(r, API_ERROR_MEMORY, "out of memory") : 0;
}

static int head_count(struct http_reader *r, size_t bytes)
{
    r->head_bytes += bytes;
    if (r->head_bytes <= HTTP_HEAD_BYTES_MAX)
        return 0;
    return head_refuse(r, API_ERROR_HEADER_BYTES, "the header fields are longer than 64 KiB");
}

static int on_begin(http_parser *p)
{
    reader_of(p)->state = HTTP_STATE_HEAD;
    return 0;
}

static int on_target(http_parser *p, const char *at, size_t n)
{
    struct http_reader *r = reader_of(p);

    if (n > HTTP_TARGET_BYTES_MAX - r->target_n)
        return head_refuse(r, API_ERROR_TARGET_BYTES, "the request target is longer than 8 KiB");
    buf_put(&r->req.text, at, n);
    r->target_n += (uint32_t)n;
    return head_text_check(r);
}

static int on_field(http_parser *p, const char *at, size_t n)
{
    struct http_reader *r = reader_of(p);
    struct http_request *req = &r->req;

    if (r->in_value || req->fields_n == 0) {
        if (req->fields_n == HTTP_FIELDS_MAX)
            return head_refuse(r, API_ERROR_HEADER_BYTES, "more than 128 header fields");
        buf_putc(&req->text, '\0');
        req->fields[req->fields_n++] = (struct http_field){.name = (uint32_t)req->text.n};
        r->in_value = false;
        if (head_count(r, HTTP_FIELD_OVERHEAD))
            return -1;
    }
    buf_put(&req->text, at, n);
    req->fields[req->fields_n - 1].name_n += (uint32_t)n;
    return head_count(r, n) ? -1 : head_text_check(r);
}

static int on_value(http_parser *p, const char *at, size_t n)
{
    struct http_reader *r = reader_of(p);
    struct http_request *req = &r->req;
    struct http_field *field = &req->fields[req->fields_n - 1];

    assert(req->fields_n > 0); // http_parser gives a name first
    if (!r->in_value) {
        buf_putc(&req->text, '\0');
        field->value = (uint32_t)req->text.n;
        r->in_value = true;
    }
    buf_put(&req->text, at, n);
    field->value_n += (uint32_t)n;
    return head_count(r, n) ? -1 : head_text_check(r);
}

// 2 makes http_parser stop behind the empty line: the body is read here.
static int on_head(http_parser *p)
{
    struct http_reader *r = reader_of(p);

    r->head_done = true;
    r->req.form.keep_alive = http_should_keep_alive(p);
    return 2;
}

static const http_parser_settings head_settings = {
    .on_message_begin = on_begin,
    .on_url = on_target,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_head,
};

// RFC 9110 5.6.2
static bool is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (c > 0x20 && c < 0x7f && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_value_char(unsigned char c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

static const char *field_value(const struct http_request *req, const struct http_field *f)
{
    return req->text.data + f->value;
}

// field_count returns how many fields have this name, and the first of them.
static uint32_t field_count(const struct http_request *req, const char *name,
                            const struct http_field **ret_first)
{
    uint32_t n = 0;
    for (uint32_t i = req->fields_n; i-- > 0;) {
        if (strcasecmp(req->text.data + req->fields[i].name, name) != 0)
            continue;
        *ret_first = &req->fields[i];
        n++;
    }
    return n;
}

// http_parser as Debian builds it lets blanks into names and leaves them behind values.
static int head_check_fields(struct http_reader *r)
{
    struct http_request *req = &r->req;

    for (uint32_t i = 0; i < req->fields_n; i++) {
        struct http_field *f = &req->fields[i];
        const char *name = req->text.data + f->name;
        char *value = req->text.data + f->value;
        for (uint32_t j = 0; j < f->name_n; j++)
            if (!is_token_char((unsigned char)name[j]))
                return head_refuse(r, API_ERROR_HTTP, "a header field's name is malformed");
        while (f->value_n > 0 && (value[f->value_n - 1] == ' ' || value[f->value_n - 1] == '\t'))
            value[--f->value_n] = '\0';
        for (uint32_t j = 0; j < f->value_n; j++)
            if (!is_value_char((unsigned char)value[j]))
                return head_refuse(r, API_ERROR_HTTP,
                                   "a header field's value has a control character");
    }
    return 0;
}

// http_parser as Debian builds it also takes "HTTX/1.1", and blanks between the words of the line.
static void line_watch(struct http_reader *r, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n && !r->line_done; i++) {
        char c = bytes[i];
        if (c == '\r' || c == '\n') {
            r->line_done = c == '\n' && r->line_n > 0; // empty lines may stand before
            continue;
        }
        memmove(r->line_end, r->line_end + 1, sizeof(r->line_end) - 1);
        r->line_end[sizeof(r->line_end) - 1] = c;
        r->line_n++;
    }
}

static int head_check_line(struct http_reader *r)
{
    unsigned major = r->parser.http_major, minor = r->parser.http_minor;
    size_t method_n = strlen(http_method_str((enum http_method)r->parser.method));

    if (major != 1 || minor > 1)
        return head_refuse(r, API_ERROR_VERSION, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    r->req.form.http10 = minor == 0;
    if (memcmp(r->line_end, minor ? "HTTP/1.1" : "HTTP/1.0", sizeof(r->line_end)) != 0 ||
        r->line_n != method_n + 1 + r->target_n + 1 + sizeof(r->line_end))
        return head_refuse(r, API_ERROR_HTTP, "the request line is malformed");
    return 0;
}

static int head_check_host(struct http_reader *r)
{
    const struct http_field *host;
    uint32_t n = field_count(&r->req, "Host", &host);

    if (n == 0 && r->req.form.http10)
        return 0;
    if (n == 0)
        return head_refuse(r, API_ERROR_HTTP, "an HTTP/1.1 request must have a Host field");
    if (n > 1)
        return head_refuse(r, API_ERROR_HTTP, "more than one Host field");
    if (strpbrk(field_value(&r->req, host), " \t/?#@\\,\"<>"))
        return head_refuse(r, API_ERROR_HTTP, "the Host field is malformed");
    return 0;
}

// Content-Length is 1*DIGIT, once.
static int head_check_length(struct http_reader *r, const struct http_field *f)
{
    const char *text = field_value(&r->req, f);
    uint64_t bytes = 0;

    if (f->value_n == 0)
        return head_refuse(r, API_ERROR_HTTP, "Content-Length is empty");
    for (uint32_t i = 0; i < f->value_n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return head_refuse(r, API_ERROR_HTTP, "Content-Length is not a number");
        if (bytes <= UINT32_MAX) // beyond every limit it need not be exact
            bytes = bytes * 10 + (uint64_t)(text[i] - '0');
    }
    if (bytes > r->body_max) {
        api_error_set(&r->error, API_ERROR_BODY_BYTES, NULL,
                      "the body is longer than this server takes (%zu bytes)", r->body_max);
        r->refused = r->fatal = true;
        return -1;
    }
    r->body_left = bytes;
    r->req.has_body = bytes > 0;
    return 0;
}

// The framing of the body (RFC 9112 6): whatever two readers could understand differently is
// refused.
static int head_check_framing(struct http_reader *r)
{
    const struct http_field *length = NULL, *coding = NULL;
    uint32_t length_n = field_count(&r->req, "Content-Length", &length);
    uint32_t coding_n = field_count(&r->req, "Transfer-Encoding", &coding);

    if (length_n > 1)
        return head_refuse(r, API_ERROR_HTTP, "more than one Content-Length");
    if (coding_n > 1)
        return head_refuse(r, API_ERROR_HTTP, "more than one Transfer-Encoding");
    if (length_n && coding_n)
        return head_refuse(r, API_ERROR_HTTP, "both Content-Length and Transfer-Encoding");
    if (length_n)
        return head_check_length(r, length);
    if (!coding_n)
        return 0;
    if (r->req.form.http10)
        return head_refuse(r, API_ERROR_HTTP, "HTTP/1.0 has no Transfer-Encoding");
    if (strcasecmp(field_value(&r->req, coding), "chunked") != 0)
        return head_refuse(r, API_ERROR_NOT_IMPLEMENTED,
                           "the only Transfer-Encoding understood is chunked");
    r->chunked = r->req.has_body = true;
    return 0;
}

// Two keys would let a proxy judge by one of them and us by the other.
static int head_check_key(struct http_reader *r)
{
    const struct http_field *key;

    if (field_count(&r->req, "Authorization", &key) > 1)
        return head_refuse(r, API_ERROR_HTTP, "more than one Authorization field");
    return 0;
}

static int head_check_expect(struct http_reader *r)
{
    const struct http_field *expect;

    if (r->req.form.http10 || field_count(&r->req, "Expect", &expect) == 0)
        return 0;
    if (strcasecmp(field_value(&r->req, expect), "100-continue") != 0)
        return head_refuse(r, API_ERROR_EXPECTATION, "the only Expect understood is 100-continue");
    r->req.expect_continue = r->req.has_body;
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

// Appends the decoded path to req.text.  Returns 0, or -1 with the request refused.
static int target_decode(struct http_reader *r, uint32_t at, uint32_t n)
{
    struct http_request *req = &r->req;

    buf_putc(&req->text, '\0');
    req->path = (uint32_t)req->text.n;
    for (uint32_t i = 0; i < n; i++) {
        char c = req->text.data[at + i];
        if (c == '%') {
            int hi = i + 2 < n ? hex_digit(req->text.data[at + i + 1]) : -1;
            int lo = i + 2 < n ? hex_digit(req->text.data[at + i + 2]) : -1;
            if (hi < 0 || lo < 0 || (hi == 0 && lo == 0))
                return head_refuse(r, API_ERROR_HTTP, "the path has a malformed %-escape");
            c = (char)(hi * 16 + lo);
            i += 2;
        }
        buf_putc(&req->text, c);
        if (head_text_check(r))
            return -1;
    }
    size_t path_n = req->text.n - req->path;
    buf_putc(&req->text, '\0');
    if (head_text_check(r))
        return -1;
    if (!utf8_check(req->text.data + req->path, path_n, NULL))
        return head_refuse(r, API_ERROR_HTTP, "the path is not valid UTF-8");
    return 0;
}

// Where the path begins in an absolute-form target (http://host/path), or 0 if it is none.
static uint32_t target_authority_end(const char *target)
{
    size_t scheme = strncasecmp(target, "http://", 7) == 0    ? 7
                    : strncasecmp(target, "https://", 8) == 0 ? 8
                                                              : 0;
    if (scheme == 0)
        return 0;
    size_t host = strcspn(target + scheme, "/?");
    if (host == 0 || memchr(target + scheme, '@', host))
        return 0;
    return (uint32_t)(scheme + host);
}

// The four forms of RFC 9112 3.2, without the one of CONNECT.
static int head_check_target(struct http_reader *r)
{
    struct http_request *req = &r->req;
    uint32_t path = 0, n = r->target_n;

    if (req->method == HTTP_CONNECT) {
        head_refuse(r, API_ERROR_METHOD, "this is no proxy");
        r->error.allow = "GET, HEAD, POST, OPTIONS";
        return -1;
    }
    const char *target = req->text.data;
    for (uint32_t i = 0; i < n; i++)
        if (target[i] <= 0x20 || target[i] >= 0x7f || target[i] == '#')
            return head_refuse(r, API_ERROR_HTTP, "the request target is malformed");
    if (target[0] != '/') {
        path = target_authority_end(target);
        bool star = req->method == HTTP_OPTIONS && strcmp(target, "*") == 0;
        if (path == 0 && !star)
            return head_refuse(r, API_ERROR_HTTP, "the request target is malformed");
    }

    uint32_t path_n = (uint32_t)strcspn(target + path, "?");
    bool has_query = path + path_n < n;
    req->query = has_query ? path + path_n + 1 : n; // n: the NUL behind the target
    if (path_n > 0)
        return target_decode(r, path, path_n);

    buf_putc(&req->text, '\0'); // "http://host" means its root
    req->path = (uint32_t)req->text.n;
    buf_put(&req->text, "/", 2);
    return head_text_check(r);
}

static int head_check(struct http_reader *r)
{
    r->req.method = (uint8_t)r->parser.method;
    r->req.form.head = r->req.method == HTTP_HEAD;
    buf_putc(&r->req.text, '\0');
    if (head_text_check(r) || head_check_line(r) || head_check_fields(r) || head_check_host(r) ||
        head_check_key(r) || head_check_framing(r) || head_check_expect(r) || head_check_target(r))
        return -1;
    return 0;
}

static enum http_event reader_refused(struct http_reader *r)
{
    r->state = HTTP_STATE_DONE;
    if (r->fatal)
        r->req.form.keep_alive = false;
    return HTTP_EVENT_REFUSED;
}

// What http_parser itself did not accept.
static enum http_event head_failed(struct http_reader *r)
{
    enum http_errno e = HTTP_PARSER_ERRNO(&r->parser);

    r->req.fields_n = 0; // the last one may be cut off anywhere
    if (!r->refused && e == HPE_HEADER_OVERFLOW)
        head_refuse(r, API_ERROR_HEADER_BYTES, "the header fields are longer than 64 KiB");
    else if (!r->refused)
        head_refuse(r, API_ERROR_HTTP, http_errno_description(e));
    return reader_refused(r);
}

static enum http_event head_feed(struct http_reader *r, const char *bytes, size_t n,
                                 size_t *ret_used)
{
    if (n == 0) // http_parser would take it for the end of the connection
        return HTTP_EVENT_MORE;
    line_watch(r, bytes, n);
    *ret_used = http_parser_execute(&r->parser, &head_settings, bytes, n);
    if (r->refused || HTTP_PARSER_ERRNO(&r->parser) != HPE_OK)
        return head_failed(r);
    if (!r->head_done)
        return HTTP_EVENT_MORE;
    if (bytes[*ret_used - 1] != '\n') { // unchecked by http_parser when built lenient
        head_refuse(r, API_ERROR_HTTP, "LF character expected");
        return head_failed(r);
    }
    if (head_check(r))
        return reader_refused(r);
    r->state = HTTP_STATE_BODY;
    r->chunk_state = CHUNK_SIZE_FIRST;
    return HTTP_EVENT_HEAD;
}

// body_keep takes n bytes of the body.  false: the request is refused for good.
static bool body_keep(struct http_reader *r, const char *bytes, size_t n)
{
    r->body_seen += n;
    if (r->refused)
        return true;
    buf_put(&r->req.body, bytes, n);
    if (buf_error(&r->req.body) == 0)
        return true;
    head_refuse(r, API_ERROR_MEMORY, "the server has no memory for this request now; try again");
    return false;
}

static bool chunk_refuse(struct http_reader *r)
{
    // The first reason stands; the connection is lost all the same.
    if (!r->refused)
        head_refuse(r, API_ERROR_HTTP, "the chunked body is malformed");
    r->fatal = true;
    return false;
}

static bool chunk_size_digit(struct http_reader *r, int digit)
{
    r->body_left = r->body_left * 16 + (uint64_t)digit;
    if (r->body_left <= r->body_max && r->body_seen + r->body_left <= r->body_max)
        return true;
    if (!r->refused)
        api_error_set(&r->error, API_ERROR_BODY_BYTES, NULL,
                      "the body is longer than this server takes (%zu bytes)", r->body_max);
    r->refused = r->fatal = true;
    return false;
}

// What is neither data nor wanted: extensions and trailers.  Bounded with the head.
static bool chunk_ignore(struct http_reader *r, char c)
{
    if (!is_value_char((unsigned char)c))
        return chunk_refuse(r);
    if (r->head_bytes++ < HTTP_HEAD_BYTES_MAX)
        return true;
    if (!r->refused)
        head_refuse(r, API_ERROR_HEADER_BYTES, "chunk extensions and trailers are too long");
    r->fatal = true;
    return false;
}

static bool chunk_expect(struct http_reader *r, char c, char want, enum chunk_state next)
{
    if (c != want)
        return chunk_refuse(r);
    r->chunk_state = (uint8_t)next;
    return true;
}

static bool chunk_size_byte(struct http_reader *r, char c)
{
    int digit = hex_digit(c);

    if (digit >= 0) {
        if (r->chunk_state == CHUNK_SIZE_FIRST) {
            r->body_left = 0;
            r->size_digits = 0;
        }
        r->chunk_state = CHUNK_SIZE;
        if (++r->size_digits > HTTP_CHUNK_DIGITS_MAX)
            return chunk_refuse(r);
        return chunk_size_digit(r, digit);
    }
    if (r->chunk_state == CHUNK_SIZE_FIRST)
        return chunk_refuse(r);
    switch (c) {
    case '\r':
        r->chunk_state = CHUNK_SIZE_LF;
        return true;
    case ';':
        r->chunk_state = CHUNK_EXTENSION;
        return true;
    case ' ':
    case '\t':
        r->chunk_state = CHUNK_SPACE;
        return true;
    default:
        return chunk_refuse(r);
    }
}

// One byte outside chunk data.  *ret_end: the body is complete.  false: refused for good.
static bool chunk_byte(struct http_reader *r, char c, bool *ret_end)
{
    switch ((enum chunk_state)r->chunk_state) {
    case CHUNK_SIZE_FIRST:
    case CHUNK_SIZE:
        return chunk_size_byte(r, c);
    case CHUNK_SPACE:
        if (c == ';')
            r->chunk_state = CHUNK_EXTENSION;
        return c == ';' || c == ' ' || c == '\t' ? chunk_ignore(r, c) : chunk_refuse(r);
    case CHUNK_EXTENSION:
        if (c != '\r')
            return chunk_ignore(r, c);
        r->chunk_state = CHUNK_SIZE_LF;
        return true;
    case CHUNK_SIZE_LF:
        return chunk_expect(r, c, '\n', r->body_left ? CHUNK_DATA : CHUNK_TRAILER_LINE);
    case CHUNK_DATA_CR:
        return chunk_expect(r, c, '\r', CHUNK_DATA_LF);
    case CHUNK_DATA_LF:
        return chunk_expect(r, c, '\n', CHUNK_SIZE_FIRST);
    case CHUNK_TRAILER_LINE:
        r->chunk_state = c == '\r' ? CHUNK_END_LF : CHUNK_TRAILER;
        return c == '\r' || chunk_ignore(r, c);
    case CHUNK_TRAILER:
        if (c != '\r')
            return chunk_ignore(r, c);
        r->chunk_state = CHUNK_TRAILER_LF;
        return true;
    case CHUNK_TRAILER_LF:
        return chunk_expect(r, c, '\n', CHUNK_TRAILER_LINE);
    case CHUNK_END_LF:
        *ret_end = true;
        return c == '\n' || chunk_refuse(r);
    case CHUNK_DATA: // taken in spans by the caller
        break;
    }
    return chunk_refuse(r);
}

// body_span takes what of n bytes belongs to the body or chunk.  false: refused for good.
static bool body_span(struct http_reader *r, const char *bytes, size_t n, size_t *used)
{
    size_t take = n < r->body_left ? n : (size_t)r->body_left;

    r->body_left -= take;
    *used += take;
    return body_keep(r, bytes, take);
}

static bool chunks_feed(struct http_reader *r, const char *bytes, size_t n, size_t *used,
                        bool *ret_end)
{
    while (*used < n && !*ret_end) {
        if (r->chunk_state == CHUNK_DATA) {
            if (!body_span(r, bytes + *used, n - *used, used))
                return false;
            if (r->body_left == 0)
                r->chunk_state = CHUNK_DATA_CR;
        } else if (!chunk_byte(r, bytes[(*used)++], ret_end)) {
            return false;
        }
    }
    return true;
}

static enum http_event body_feed(struct http_reader *r, const char *bytes, size_t n,
                                 size_t *ret_used)
{
    bool end = false, good = true;

    if (r->refused && r->req.expect_continue) { // the client waits, and will not send the body
        r->fatal = true;
        return reader_refused(r);
    }
    if (r->chunked) {
        good = chunks_feed(r, bytes, n, ret_used, &end);
    } else {
        good = body_span(r, bytes, n, ret_used);
        end = r->body_left == 0;
    }
    if (!good)
        return reader_refused(r);
    if (!end)
        return HTTP_EVENT_MORE;
    if (r->refused)
        return reader_refused(r);
    r->state = HTTP_STATE_DONE;
    return HTTP_EVENT_REQUEST;
}

enum http_event http_reader_feed(struct http_reader *r, const char *bytes, size_t n,
                                 size_t *ret_used)
{
    *ret_used = 0;
    switch (r->state) {
    case HTTP_STATE_IDLE:
    case HTTP_STATE_HEAD:
        return head_feed(r, bytes, n, ret_used);
    case HTTP_STATE_BODY:
        return body_feed(r, bytes, n, ret_used);
    case HTTP_STATE_DONE:
        break;
    }
    return HTTP_EVENT_MORE;
}

void http_reader_refuse(struct http_reader *r, const struct api_error *err)
{
    assert(r->state == HTTP_STATE_BODY);
    r->error = *err;
    r->refused = true;
}

void http_reader_init(struct http_reader *r, size_t body_max)
{
    *r = (struct http_reader){.body_max = body_max};
    buf_init(&r->req.text, HTTP_TEXT_BYTES_MAX);
    buf_init(&r->req.body, body_max);
    http_parser_init(&r->parser, HTTP_REQUEST);
    r->parser.data = r;
}

void http_reader_fini(struct http_reader *r)
{
    buf_free(&r->req.text);
    buf_free(&r->req.body);
}

void http_reader_next(struct http_reader *r)
{
    struct buf text = r->req.text, body = r->req.body;
    size_t body_max = r->body_max;

    assert(r->state == HTTP_STATE_DONE);
    http_reader_init(r, body_max);
    buf_clear(&text);
    buf_clear(&body);
    r->req.text = text;
    r->req.body = body;
    r->req.body.max = body_max; // the caller may have swapped it
}

bool http_reader_eof(const struct http_reader *r)
{
    return r->state == HTTP_STATE_IDLE || r->state == HTTP_STATE_DONE;
}

const char *http_request_path(const struct http_request *req)
{
    return req->text.data + req->path;
}

const char *http_request_query(const struct http_request *req)
{
    return req->text.data + req->query;
}

const char *http_request_field(const struct http_request *req, const char *name)
{
    const struct http_field *f;
    return field_count(req, name, &f) ? field_value(req, f) : NULL;
}

const char *http_request_key(const struct http_request *req)
{
    const char *value = http_request_field(req, "Authorization");

    if (!value)
        return http_request_field(req, "x-api-key");
    if (strncasecmp(value, "Bearer ", 7) != 0)
        return NULL;
    return value + 7 + strspn(value + 7, " ");
}

// host_is_localhost: the name itself, or one below it (RFC 6761 6.3); n bytes without a port.
static bool host_is_localhost(const char *host, size_t n)
{
    static const char name[] = "localhost";
    const size_t name_n = sizeof(name) - 1;

    if (n > 0 && host[n - 1] == '.')
        n--;
    return n >= name_n && strncasecmp(host + n - name_n, name, name_n) == 0 &&
           (n == name_n || host[n - name_n - 1] == '.');
}

// host_is_local judges a host and its port: [n] bytes.
static bool host_is_local(const char *host, size_t n)
{
    char text[INET6_ADDRSTRLEN + sizeof("[]:65535")];
    uint8_t binary[16];

    size_t port = n; // where it begins, with its ':'
    while (port > 0 && host[port - 1] >= '0' && host[port - 1] <= '9')
        port--;
    if (port > 0 && host[port - 1] == ':')
        n = port - 1;
    if (host_is_localhost(host, n))
        return true;
    if (n >= sizeof(text))
        return false;
    memcpy(text, host, n);
    text[n] = '\0';
    if (n < 2 || text[0] != '[' || text[n - 1] != ']')
        return inet_pton(AF_INET, text, binary) == 1;
    text[n - 1] = '\0';
    return inet_pton(AF_INET6, text + 1, binary) == 1;
}

bool http_request_host_local(const struct http_request *req)
{
    const char *host = http_request_field(req, "Host"), *target = req->text.data;
    uint32_t end = target_authority_end(target);

    if (end > 0) { // it counts, not Host (RFC 9112 3.2.2)
        host = strstr(target, "://") + 3;
        return host_is_local(host, (size_t)(target + end - host));
    }
    return !host || host_is_local(host, strlen(host));
}

bool http_request_json(const struct http_request *req)
{
    const char *type = http_request_field(req, "Content-Type");
    static const char json[] = "application/json";

    if (!type || strncasecmp(type, json, sizeof(json) - 1) != 0)
        return false;
    type += sizeof(json) - 1;
    while (*type != '\0') { // parameters; only charset says something about the bytes
        type += strspn(type, " \t");
        if (*type != ';')
            return *type == '\0';
        type++;
        type += strspn(type, " \t");
        if (strncasecmp(type, "charset=", 8) == 0) {
            type += 8;
            bool quoted = *type == '"';
            type += quoted;
            if (strncasecmp(type, "utf-8", 5) != 0)
                return false;
            type += 5;
            if (quoted && *type++ != '"')
                return false;
        } else {
            type += strcspn(type, ";");
        }
    }
    return true;
}
