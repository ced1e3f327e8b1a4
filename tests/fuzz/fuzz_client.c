// SPDX-License-Identifier: MIT
// What a daemon may send to expertctl: HTTP response, event stream, JSON chunks; and the metrics
// text.  Through a real socket, in one piece and then in small ones.
#include "client/metrics.h"
#include "client/reply.h"
#include "client/terminal.h"
#include "tests/check.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define INPUT_MAX 60000u // less than what a Unix socket takes without a reader

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int listen_fd = -1;
static struct address address;

static void start(void)
{
    char folder[] = "/tmp/fuzz-client.XXXXXX", path[64];
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    CHECK(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/s", folder);
    CHECK(address_unix(path, &address, NULL) == 0);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(bind(listen_fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0);
    CHECK(listen(listen_fd, 4) == 0);
}

static void stop(void)
{
    unlink(address.path);
    *strrchr(address.path, '/') = '\0';
    rmdir(address.path);
}

static void on_piece(void *user, enum reply_part part, const char *bytes, size_t len)
{
    char clean[256];
    size_t n = terminal_clean(bytes, len < sizeof(clean) ? len : sizeof(clean), clean);
    (void)user;
    (void)part;
    for (size_t i = 0; i < n; i++)
        CHECK((unsigned char)clean[i] >= 0x20 || clean[i] == '\n' || clean[i] == '\t');
}

// answer plays the input as the daemon's response, `step` bytes at a time.
static void answer(const uint8_t *data, size_t size, size_t step)
{
    struct reply reply = {0};
    struct reply_call *call = NULL;
    struct fault fault = {0};
    struct reply_request request = {
        .target = "/v1/completions", .body = "{}", .body_bytes = 2, .piece = on_piece};

    CHECK(reply_open(&address, &request, -1, &reply, &call, &fault) == 0);
    int fd = accept(listen_fd, NULL, NULL);
    CHECK(fd >= 0);
    int more = 1;
    for (size_t at = 0; at < size && more > 0; at += step) {
        CHECK(send(fd, data + at, step < size - at ? step : size - at, MSG_NOSIGNAL) > 0);
        more = reply_read(call, &fault);
    }
    close(fd);
    while (more > 0)
        more = reply_read(call, &fault);
    CHECK(more == 0 || fault.text[0]);
    reply_close(&call);
    reply_free(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (listen_fd < 0) {
        start();
        atexit(stop);
    }
    if (size > INPUT_MAX)
        return 0;
    answer(data, size, size ? size : 1);
    answer(data, size, 1 + size / 16);

    char *text = malloc(size + 1);
    CHECK(text);
    memcpy(text, data, size);
    text[size] = '\0';
    metrics_sum(text, "expertd_requests", "route=\"chat\"");
    free(text);
    return 0;
}
