// SPDX-License-Identifier: MIT
#include "api/cors.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define HEADERS_BYTES_MAX 2048u // of allowed names; the openai client for browsers asks for 300

static const char separators[] = ", \t";

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---------------------------------------------------------------- config */

// scheme_span returns the length of "https://" and the like, or 0.
static size_t scheme_span(const char *text)
{
    size_t n = 0;
    if (!is_lower(text[0]))
        return 0;
    while (is_lower(text[n]) || is_digit(text[n]) || (text[n] != '\0' && strchr("+-.", text[n])))
        n++;
    return strncmp(text + n, "://", 3) == 0 ? n + 3 : 0;
}

// host_span returns the length of a name, an IPv4 address, or an IPv6 one in brackets; or 0.
static size_t host_span(const char *text)
{
    size_t n;
    if (text[0] != '[')
        return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789.-_");
    n = 1 + strspn(text + 1, "0123456789abcdef:.");
    return text[n] == ']' && n > 1 ? n + 1 : 0;
}

// port_check says what is wrong with what stands behind the host; NULL: nothing.
static const char *port_check(const char *origin, const char *port)
{
    size_t digits = port[0] == ':' ? strspn(port + 1, "0123456789") : 0;

    if ((strncmp(origin, "http://", 7) == 0 && strcmp(port, ":80") == 0) ||
        (strncmp(origin, "https://", 8) == 0 && strcmp(port, ":443") == 0))
        return "browsers leave out a port that is the scheme's own";
    if (port[0] == ':' && (digits < 1 || digits > 5))
        return "the port must be a number";
    port += digits > 0 ? 1 + digits : 0;
    return port[0] != '\0' ? "an origin ends behind its host or port, without a path or '/'" : NULL;
}

// origin_check says what is wrong with an origin; NULL: nothing.
static const char *origin_check(const char *origin)
{
    size_t scheme = scheme_span(origin);
    size_t host = scheme > 0 ? host_span(origin + scheme) : 0;

    for (const char *at = origin; *at; at++)
        if (*at >= 'A' && *at <= 'Z')
            return "browsers send origins in lower case";
    if (host == 0)
        return "must be * or an origin as https://chat.example.org or http://localhost:3000";
    return port_check(origin, origin + scheme + host);
}

static int origin_add(struct cors *cors, const char *text, size_t n, struct fault *fault)
{
    char *origin = cors->origins[cors->n];

    if (n == 1 && *text == '*') {
        cors->any = true;
        return 0;
    }
    if (cors->n == CORS_ORIGINS_MAX)
        return fault_set(fault, EINVAL, "[net] cors_origins: more than %u origins",
                         CORS_ORIGINS_MAX);
    if (n >= CORS_ORIGIN_MAX)
        return fault_set(fault, EINVAL, "[net] cors_origins: an origin is longer than %u bytes",
                         CORS_ORIGIN_MAX - 1);
    memcpy(origin, text, n); // the place is all zero
    const char *wrong = origin_check(origin);
    if (wrong)
        return fault_set(fault, EINVAL, "[net] cors_origins: %.100s: %s", origin, wrong);
    cors->n++;
    return 0;
}

int cors_parse(const char *text, struct cors *ret, struct fault *fault)
{
    *ret = (struct cors){0};
    for (const char *at = text + strspn(text, separators); *at != '\0';) {
        size_t n = strcspn(at, separators);
        int err = origin_add(ret, at, n, fault);
        if (err != 0) {
            *ret = (struct cors){0};
            return err;
        }
        at += n;
        at += strspn(at, separators);
    }
    return 0;
}

/* --------------------------------------------------------------- request */

void cors_apply(const struct cors *cors, struct http_request *req)
{
    const char *origin = http_request_field(req, "Origin");

    req->form.cors_origin = NULL;
    // Caches must not give one origin's answer to another, not even one without the field.
    req->form.cors_vary = !cors->any && cors->n > 0;
    if (!origin)
        return;
    if (cors->any)
        req->form.cors_origin = "*";
    for (uint32_t i = 0; i < cors->n && !cors->any; i++)
        if (strcmp(cors->origins[i], origin) == 0)
            req->form.cors_origin = cors->origins[i];
}

// header_allowed says whether a page may send this header.
static bool header_allowed(const char *name, size_t n)
{
    static const char *const heads[] = {"x-", "openai-", "anthropic-"};

    // What is written back must be a token, whatever was let through so far.
    if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") < n)
        return false;
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        if (n > strlen(heads[i]) && strncasecmp(name, heads[i], strlen(heads[i])) == 0)
            return true;
    return false;
}

void cors_preflight_write(struct buf *out, const struct http_request *req, const char *allow)
{
    if (req->method != HTTP_OPTIONS || !req->form.cors_origin ||
        !http_request_field(req, "Access-Control-Request-Method"))
        return;
    buf_puts(out, "Access-Control-Allow-Methods: ");
    buf_puts(out, allow);
    buf_puts(out, "\r\nAccess-Control-Allow-Headers: Authorization, Content-Type");
    const char *at = http_request_field(req, "Access-Control-Request-Headers");
    size_t limit = out->n + HEADERS_BYTES_MAX;
    for (at = at ? at + strspn(at, separators) : ""; *at != '\0';) {
        size_t n = strcspn(at, separators);
        if (header_allowed(at, n) && out->n + 2 + n <= limit) {
            buf_puts(out, ", ");
            buf_put(out, at, n);
        }
        at += n;
        at += strspn(at, separators);
    }
    buf_puts(out, "\r\nAccess-Control-Max-Age: 86400\r\n");
}
