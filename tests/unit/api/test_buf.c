// SPDX-License-Identifier: MIT
#include "api/buf.h"

#include "tests/unit/api/api_check.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>

static void grows_to_its_bound(void)
{
    struct buf b;

    buf_init(&b, 1000);
    for (int i = 0; i < 1000; i++)
        buf_putc(&b, 'x');
    CHECK(buf_error(&b) == 0);
    CHECK(b.n == 1000);
    buf_putc(&b, 'y');
    CHECK(buf_error(&b) == -ENOBUFS);
    buf_puts(&b, "");
    CHECK(b.n == 1000);
    buf_clear(&b);
    CHECK(buf_error(&b) == 0);
    buf_put(&b, "abc", 3);
    buf_drop(&b, 1);
    CHECK_BUF(&b, "bc");
    buf_cut(&b, 1);
    CHECK_BUF(&b, "b");
    CHECK(!buf_reserve(&b, SIZE_MAX)); // no wrap-around
    CHECK(buf_error(&b) == -ENOBUFS);
    buf_free(&b);
}

static void writes_numbers(void)
{
    struct buf b;

    buf_init(&b, 1000);
    buf_u64(&b, 0);
    buf_putc(&b, ' ');
    buf_u64(&b, UINT64_MAX);
    buf_putc(&b, ' ');
    buf_i64(&b, INT64_MIN);
    CHECK_BUF(&b, "0 18446744073709551615 -9223372036854775808");
    buf_clear(&b);
    buf_json_real(&b, -0.1f);
    buf_putc(&b, ' ');
    buf_json_real(&b, 1.0f / 3);
    buf_putc(&b, ' ');
    buf_json_real(&b, -INFINITY);
    buf_putc(&b, ' ');
    buf_json_real(&b, NAN);
    buf_putc(&b, ' ');
    buf_json_double(&b, 0.1);
    CHECK_BUF(&b, "-0.1 0.33333334 -9999.0 null 0.1");
    buf_free(&b);
}

static void writes_json_strings(void)
{
    struct buf b;

    buf_init(&b, 1000);
    buf_json_text(&b, "a\"\\\b\f\n\r\t\x01\x7f/\xe4\xb8\xad");
    CHECK_BUF(&b, "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u007f/\xe4\xb8\xad\"");
    buf_clear(&b);
    buf_json_string(&b, "a\0b", 3);
    CHECK_BUF(&b, "\"a\\u0000b\"");
    buf_clear(&b);
    buf_json_string(&b, "\xff.\xe4\xb8", 4); // a stray byte and half a character
    CHECK_BUF(&b, "\"\xef\xbf\xbd.\xef\xbf\xbd\"");
    buf_clear(&b);
    buf_json_string(&b, NULL, 0);
    buf_json_text(&b, NULL);
    CHECK_BUF(&b, "\"\"null");
    buf_free(&b);
}

// Whatever bytes go in, jansson reads valid JSON, and valid text comes back unchanged.
static void random_strings_are_json(void)
{
    uint64_t seed = 7;
    struct buf b;

    buf_init(&b, 1 << 16);
    for (int round = 0; round < 2000; round++) {
        char text[64];
        size_t n = check_random(&seed) % sizeof(text);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)check_random(&seed);
        buf_clear(&b);
        buf_json_string(&b, text, n);
        CHECK(buf_error(&b) == 0);
        json_t *value = json_loadb(b.data, b.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        CHECK(value && json_is_string(value));
        json_decref(value);
    }
    buf_free(&b);
}

int main(void)
{
    grows_to_its_bound();
    writes_numbers();
    writes_json_strings();
    random_strings_are_json();
    return 0;
}
