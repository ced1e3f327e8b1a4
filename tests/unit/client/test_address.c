// SPDX-License-Identifier: MIT
#include "client/address.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>

static void test_urls(void)
{
    static const struct {
        const char *url, *host, *port, *text;
        bool is_local, tls;
    } rows[] = {
        {"http://127.0.0.1:8080", "127.0.0.1", "8080", "127.0.0.1:8080", true, false},
        {"http://127.9.9.9:1/", "127.9.9.9", "1", "127.9.9.9:1", true, false},
        {"http://localhost/v1", "localhost", "80", "localhost:80", true, false},
        {"https://[::1]/v1/", "::1", "443", "[::1]:443", true, true},
        {"http://localhost", "localhost", "80", "localhost:80", true, false},
        {"http://[::1]:65535/", "::1", "65535", "[::1]:65535", true, false},
        {"http://10.0.0.1:80", "10.0.0.1", "80", "10.0.0.1:80", false, false},
        {"http://box.example:8080", "box.example", "8080", "box.example:8080", false, false},
        {"http://127.0.0.1.example", "127.0.0.1.example", "80", "127.0.0.1.example:80", false,
         false},
        {"https://127.0.0.1", "127.0.0.1", "443", "127.0.0.1:443", true, true},
        {"https://box.example:8443/", "box.example", "8443", "box.example:8443", false, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct address a;
        CHECK(address_url(rows[i].url, &a, NULL) == 0);
        CHECK(a.kind == ADDRESS_TCP);
        CHECK(strcmp(a.host, rows[i].host) == 0);
        CHECK(strcmp(a.port, rows[i].port) == 0);
        CHECK(strcmp(a.text, rows[i].text) == 0);
        CHECK(address_is_local(&a) == rows[i].is_local && a.tls == rows[i].tls);
    }
}

static void test_wrong_urls(void)
{
    static const char *const urls[] = {
        "",
        "127.0.0.1:8080",
        "http://",
        "http://:80",
        "https://",
        "httpss://127.0.0.1",
        "ftp://127.0.0.1",
        "http://127.0.0.1/v2",
        "http://127.0.0.1/v1/models",
        "http://a:b@127.0.0.1/",
        "http://127.0.0.1/?x",
        "http://h:99999",
        "http://h h/",
        "http://h/#x",
    };
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        struct address a;
        struct fault fault = {0};
        if (address_url(urls[i], &a, &fault) != -EINVAL)
            fprintf(stderr, "accepted: %s\n", urls[i]);
        CHECK(address_url(urls[i], &a, &fault) == -EINVAL);
        CHECK(fault.text[0]);
    }
    char long_url[8192] = "http://";
    memset(long_url + 7, 'h', sizeof(long_url) - 8);
    struct address a;
    CHECK(address_url(long_url, &a, NULL) == -EINVAL);
}

static void test_paths(void)
{
    struct address a;
    char path[200];

    CHECK(address_unix("/run/x", &a, NULL) == 0);
    CHECK(address_is_local(&a) && strcmp(a.text, "/run/x") == 0);
    CHECK(address_unix("", &a, NULL) == -EINVAL);
    memset(path, 'p', sizeof(path));
    path[107] = '\0';
    CHECK(address_unix(path, &a, NULL) == 0);
    path[107] = 'p';
    path[108] = '\0';
    CHECK(address_unix(path, &a, NULL) == -EINVAL);
}

// A daemon that is not there is told apart from others' errors, with the way to start it.
static void test_nobody(void)
{
    struct address a;
    struct fault fault = {0};
    int fd = -1;

    CHECK(address_unix("/nonexistent/api.sock", &a, NULL) == 0);
    CHECK(address_connect(&a, -1, &fd, &fault) == -ENOENT);
    CHECK(strstr(fault.text, "/nonexistent/api.sock") && strstr(fault.text, "systemctl start"));
    CHECK(fd == -1);
    CHECK(address_url("http://127.0.0.1:1", &a, NULL) == 0);
    CHECK(address_connect(&a, -1, &fd, &fault) == -ECONNREFUSED);
    CHECK(strstr(fault.text, "127.0.0.1:1") && strstr(fault.text, "loopback"));
}

int main(void)
{
    test_urls();
    test_wrong_urls();
    test_paths();
    test_nobody();
    return 0;
}
