// SPDX-License-Identifier: MIT
// Secrets do not survive; what is none does, and lengths and lines stay.
#include "client/redact.h"
#include "tests/check.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define KEY  "sk-T4ZGNXDoAtptT5ktBDARqzpOI8Ympp6F3I6bQiJyUvDb"
#define HASH "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"

struct row {
    const char *text, *after;
};

static void check(const char *text, const char *after, const char *known, bool config)
{
    char copy[1024];
    size_t n = strlen(text);

    CHECK(n < sizeof(copy));
    memcpy(copy, text, n + 1);
    size_t found = config ? redact_config(copy, n) : redact_text(copy, n, known);
    if (strcmp(copy, after) != 0 || (found > 0) != (strcmp(text, after) != 0)) {
        fprintf(stderr, "'%s'\n became '%s'\n, not '%s' (%zu)\n", text, copy, after, found);
        exit(1);
    }
}

static void test_text(void)
{
    static const struct row rows[] = {
        {"", ""},
        {"nothing here\n", "nothing here\n"},
        {KEY, "sk-********************************************"},
        {"a " KEY ", b " KEY "\n", "a sk-********************************************, b "
                                   "sk-********************************************\n"},
        {"sk-short", "sk-short"},
        {"task-management", "task-management"},
        {"Authorization: Bearer abc.def==\nnext", "Authorization: Bearer *********\nnext"},
        {"authorization: bearer  \"x y\"", "authorization: bearer  \"* y\""},
        {"forbearer x", "forbearer x"},
        {"x-api-key: abc\n", "x-api-key: ***\n"},
        {"\"Authorization\": \"Basic YTpi\"", "\"Authorization\": \"Basic ****\""},
        {"authorization of users", "authorization of users"},
        {"see https://me:pw@host/x", "see https://*****@host/x"},
        {"https://host/a@b", "https://host/a@b"},
        {"the bearer", "the bearer"},
        {"alice " HASH " 2026-11-23",
         "alice **************************************************************** 2026-11-23"},
        {"x" HASH, "x" HASH}, // not a word of its own
        {"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n",
         "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"},
        {"a\n-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nb",
         "a\n******************************\n***\n****************************\nb"},
        {"-----BEGIN PRIVATE KEY-----\nMHc", "***************************\n***"}, // cut off
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check(rows[i].text, rows[i].after, NULL, false);
    check("hunter22 and HUNTER22", "******** and ********", "hunter22", false);
    check("abc", "abc", "abc", false); // too short to be looked for
}

static void test_config(void)
{
    static const struct row rows[] = {
        {"[model]\npath = /srv/x\n", "[model]\npath = /srv/x\n"},
        {"api_key = hunter2\n", "api_key = *******\n"},
        {"#api_key = hunter2\nname = x", "#api_key = *******\nname = x"},
        {"# A sentence with words = more\n", "# A sentence with words = more\n"},
        {"keys = /etc/expertd/keys\n", "keys = /etc/expertd/keys\n"},
        {"keys = sk-by-mistake\n", "keys = *************\n"},
        {"tls_key = credential:key\n", "tls_key = credential:key\n"},
        {"tls_key=MHcCAQ\n", "tls_key=******\n"},
        {"keys =\n", "keys =\n"},
        {"=x\n= \n", "=x\n= \n"},
        {"api_key: hunter2\n", "api_key: *******\n"}, // as inih reads it
        {"\tpath\t: /srv/x\n", "\tpath\t: /srv/x\n"},
        {"api key = hunter2\n", "api key = *******\n"},
        {"secret =\n  one\n\n\ttwo = 2\npath = /a\n  /b\n",
         "secret =\n  ***\n\n\t*******\npath = /a\n  /b\n"},
        {"pack = /a\n  /b\n", "pack = /a\n  /b\n"},
        {"[a:b]\n# It says: so\n# yes: or no\n", "[a:b]\n# It says: so\n# yes: or no\n"},
        {"#api_key: hunter2\n", "#api_key: *******\n"},
        {"keys = /etc/keys\n hunter2\n", "keys = /etc/keys\n *******\n"},
        {"port = tap:x ; pw hunter2\n", "port = tap:x ;***********\n"},
        {"# export SOME=hunter2\n", "# export SOME=*******\n"},
        {"# admin password = hunter2\n", "# admin password = *******\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        check(rows[i].text, rows[i].after, NULL, true);
}

// A key is found wherever it stands between random bytes, and no byte beyond the text is touched.
static void test_random(void)
{
    static const char key[] = KEY;
    uint64_t state = 7;
    char text[300];

    for (int round = 0; round < 20000; round++) {
        size_t n = 100 + check_random(&state) % 150;
        for (size_t i = 0; i < sizeof(text); i++)
            text[i] = (char)(check_random(&state) >> 40);
        size_t at = check_random(&state) % (n - strlen(KEY));
        memcpy(text + at, KEY, strlen(KEY));
        char behind = text[n];
        redact_config(text, n);
        redact_text(text, n, NULL);
        CHECK(!memmem(text, n, &key[3], strlen(key) - 3) && text[n] == behind);
    }
}

// A body without lines, as another server may send it, takes no longer than one with them.
static void test_long(void)
{
    size_t n = 16u << 20;
    char *text = malloc(n);
    CHECK(text);
    memset(text, '-', n);
    CHECK(redact_text(text, n, NULL) == 0);
    free(text);
}

int main(void)
{
    test_text();
    test_long();
    test_config();
    test_random();
    return 0;
}
