// SPDX-License-Identifier: MIT
#include "client/sse.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>

struct seen {
    char text[512]; // events, each in brackets
    int stop_at;    // event returns -7 at this event; 0: never
    int n;
};

static int on_event(void *user, const char *data, size_t len)
{
    struct seen *seen = user;
    size_t at = strlen(seen->text);
    CHECK(data[len] == '\0');
    snprintf(seen->text + at, sizeof(seen->text) - at, "[%.*s]", (int)len, data);
    return ++seen->n == seen->stop_at ? -7 : 0;
}

// A stream cut at every possible pair of places gives the same events.
static void check_stream(const char *stream, size_t len, const char *want)
{
    for (size_t step = 1; step <= len; step++) {
        struct sse sse = {0};
        struct seen seen = {0};
        for (size_t at = 0; at < len; at += step)
            CHECK(sse_feed(&sse, stream + at, step < len - at ? step : len - at, on_event, &seen) ==
                  0);
        if (strcmp(seen.text, want) != 0)
            fprintf(stderr, "step %zu: '%s', not '%s'\n", step, seen.text, want);
        CHECK(strcmp(seen.text, want) == 0);
        sse_free(&sse);
    }
}

#define CHECK_STREAM(stream, want) check_stream(stream, sizeof(stream) - 1, want)

static void test_fields(void)
{
    CHECK_STREAM("data: one\n\ndata: two\n\n", "[one][two]");
    CHECK_STREAM("data:no space\n\ndata:  two spaces\n\n", "[no space][ two spaces]");
    CHECK_STREAM("data: a\ndata: b\n\n", "[a\nb]");
    CHECK_STREAM("data\n\ndata:\n\n", "[][]");
    CHECK_STREAM(": keep-alive\n\n: again\n\ndata: x\n\n", "[x]");
    CHECK_STREAM("event: e\nid: 1\nretry: 5\ndata: x\n\nevent: y\n\n", "[x]");
    CHECK_STREAM("database: x\n\ndat: y\n\n", "");
    CHECK_STREAM("data: unfinished\n", "");
    CHECK_STREAM("data: unfinished", "");
}

static void test_line_ends(void)
{
    CHECK_STREAM("data: a\r\ndata: b\r\n\r\n", "[a\nb]");
    CHECK_STREAM("data: a\rdata: b\r\r", "[a\nb]");
    CHECK_STREAM("data: a\r\n\rdata: b\n\r\n", "[a][b]");
    CHECK_STREAM("\n\n\r\n\rdata: a\n\n\n\n", "[a]");
    CHECK_STREAM("\xef\xbb\xbf"
                 "data: bom\n\n\xef\xbb\xbf"
                 "data: not first\n\n",
                 "[bom]");
}

static void test_stop(void)
{
    struct sse sse = {0};
    struct seen seen = {.stop_at = 2};
    const char *stream = "data: 1\n\ndata: 2\n\ndata: 3\n\n";
    CHECK(sse_feed(&sse, stream, strlen(stream), on_event, &seen) == -7);
    CHECK(strcmp(seen.text, "[1][2]") == 0);
    sse_free(&sse);
}

// A line without end, and an event without end, are refused at the limit.
static void test_limit(void)
{
    static char block[1 << 16];
    struct sse sse = {0};
    struct seen seen = {0};
    int err = 0;

    memset(block, 'x', sizeof(block));
    for (size_t n = 0; !err; n += sizeof(block)) {
        CHECK(n <= SSE_EVENT_BYTES_MAX);
        err = sse_feed(&sse, block, sizeof(block), on_event, &seen);
    }
    CHECK(err == -EFBIG);
    sse_free(&sse);

    memcpy(block, "data: ", 6);
    block[sizeof(block) - 1] = '\n';
    err = 0;
    for (size_t n = 0; !err; n += sizeof(block)) {
        CHECK(n <= SSE_EVENT_BYTES_MAX + sizeof(block));
        err = sse_feed(&sse, block, sizeof(block), on_event, &seen);
    }
    CHECK(err == -EFBIG);
    CHECK(seen.n == 0);
    sse_free(&sse);
}

int main(void)
{
    test_fields();
    test_line_ends();
    test_stop();
    test_limit();
    return 0;
}
