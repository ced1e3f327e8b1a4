// SPDX-License-Identifier: MIT
#include "base/log.h"
#include "tests/check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MINUTE_US 60000000u

static int stderr_kept;
static char text[1 << 20];

// stderr_to puts the standard error somewhere else until stderr_back.
static void stderr_to(int fd)
{
    stderr_kept = dup(STDERR_FILENO);
    CHECK(stderr_kept >= 0 && dup2(fd, STDERR_FILENO) == STDERR_FILENO);
}

static void stderr_back(void)
{
    dup2(stderr_kept, STDERR_FILENO);
    close(stderr_kept);
}

// drain reads all that a pipe or socket has.
static const char *drain(int fd)
{
    size_t n = 0;
    ssize_t got;
    while ((got = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
        n += (size_t)got;
    text[n] = '\0';
    return text;
}

static uint32_t count(const char *where, const char *what)
{
    uint32_t n = 0;
    for (; (where = strstr(where, what)); where += strlen(what))
        n++;
    return n;
}

static void check_plain(void)
{
    int ends[2];
    CHECK(pipe2(ends, O_NONBLOCK) == 0);
    stderr_to(ends[1]);
    log_warning("one\ntwo\x1b %d", 3);
    log_debug("not wanted");
    log_event(LOG_LEVEL_INFO, EVENT_READY, LOG_FIELDS({"MODEL", "m"}), "ready");
    stderr_back();
    CHECK(strcmp(drain(ends[0]), "expertd: warning: one?two? 3\nexpertd: info: ready\n") == 0);
    close(ends[0]);
    close(ends[1]);
}

// A reader that stands still costs lines, never time; they are counted.
static void check_full_pipe(void)
{
    int ends[2];
    CHECK(pipe2(ends, O_CLOEXEC) == 0); // whose end for writing blocks
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    char line[1000];
    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\0';
    stderr_to(ends[1]);
    for (uint32_t i = 0; i < 500; i++)
        log_info("%s", line);
    stderr_back();
    uint32_t written = count(drain(ends[0]), "info: xxx");
    CHECK(written > 10 && written < 500);
    stderr_to(ends[1]);
    log_info("goes on");
    stderr_back();
    char want[120];
    snprintf(want, sizeof(want),
             "expertd: warning: %u lines of this log were lost: its reader was behind\n"
             "expertd: info: goes on\n",
             500 - written);
    CHECK(strcmp(drain(ends[0]), want) == 0);
    close(ends[0]);
    close(ends[1]);
}

static void check_limit(void)
{
    struct log_limit limit = {0};
    uint32_t suppressed, taken = 0;
    bool last;
    for (uint32_t i = 0; i < 100; i++) {
        bool take = log_limit_take(&limit, 10, 5 + i, &suppressed, &last);
        CHECK(suppressed == 0 && last == (take && taken == 9));
        taken += take;
    }
    CHECK(taken == 10);
    CHECK(!log_limit_take(&limit, 10, 5 + MINUTE_US - 1, &suppressed, &last));
    CHECK(log_limit_take(&limit, 10, 5 + MINUTE_US, &suppressed, &last));
    CHECK(suppressed == 91 && !last);
    CHECK(log_limit_take(&limit, 10, 6 + MINUTE_US, &suppressed, &last) && suppressed == 0);
    for (uint32_t i = 0; i < 100; i++)
        CHECK(log_limit_take(&limit, 0, i, &suppressed, &last) && suppressed == 0);
}

static void check_limited_lines(void)
{
    int ends[2];
    CHECK(pipe2(ends, O_NONBLOCK) == 0);
    stderr_to(ends[1]);
    for (uint32_t i = 0; i < 50; i++)
        log_limited(LOG_LEVEL_INFO, 5, "often %u", i);
    for (uint32_t i = 0; i < 50; i++)
        log_event(LOG_LEVEL_INFO, EVENT_KEY, NULL, "refused");
    stderr_back();
    drain(ends[0]);
    CHECK(count(text, "often") == 5 && count(text, "refused") == log_events[EVENT_KEY].per_minute);
    CHECK(strstr(text, "often 4 (more in this minute are only counted)\n"));
    close(ends[0]);
    close(ends[1]);
}

// check_journal plays the journal: a datagram socket.
static void check_journal(void)
{
    char dir[] = "/tmp/test_log.XXXXXX", stream[64];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    CHECK(mkdtemp(dir));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", dir);
    int journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    CHECK(bind(journal, (const struct sockaddr *)&address, sizeof(address)) == 0);

    unsetenv("JOURNAL_STREAM");
    CHECK(!log_open(address.sun_path));
    setenv("JOURNAL_STREAM", "1:1", 1); // of a parent, whose standard error is not ours
    CHECK(!log_open(address.sun_path));
    CHECK(fstat(STDERR_FILENO, &st) == 0);
    snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", stream, 1);
    CHECK(log_open(address.sun_path));

    log_event(LOG_LEVEL_WARNING, EVENT_DRIVE,
              LOG_FIELDS({"DRIVE", "/dev/x\nMESSAGE=forged"}, {"STATE", "failing"}), "drive %s",
              "fails");
    ssize_t n = recv(journal, text, sizeof(text) - 1, 0);
    CHECK(n > 0);
    text[n > 0 ? n : 0] = '\0';
    CHECK(strcmp(text, "MESSAGE=drive fails\nPRIORITY=4\nSYSLOG_IDENTIFIER=expertd\n"
                       "MESSAGE_ID=b70c54d70eba4aee90680f7fd35eff72\nEXPERTD_EVENT=drive\n"
                       "EXPERTD_DRIVE=/dev/x?MESSAGE=forged\nEXPERTD_STATE=failing\n") == 0);

    uint32_t i = 0, got = 0; // a queue that is full
    for (; i < 10000; i++)
        log_info("line %u", i);
    while (recv(journal, text, sizeof(text) - 1, 0) > 0)
        got++;
    CHECK(got > 0 && got < i);
    log_info("goes on");
    n = recv(journal, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    CHECK(strstr(text, " lines of this log were lost"));

    close(journal); // the journal starts again
    unlink(address.sun_path);
    int ends[2];
    CHECK(pipe2(ends, O_NONBLOCK) == 0);
    stderr_to(ends[1]);
    log_event(LOG_LEVEL_INFO, EVENT_READY, NULL, "meanwhile");
    stderr_back();
    CHECK(strcmp(drain(ends[0]), "<6>meanwhile\n") == 0);
    journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    CHECK(bind(journal, (const struct sockaddr *)&address, sizeof(address)) == 0);
    log_info("found again");
    n = recv(journal, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    CHECK(strstr(text, "MESSAGE=found again\n"));
    close(journal);
    unlink(address.sun_path);
    rmdir(dir);
}

// Identifiers are what rules and filters of operators name: 128 bits in hex, none twice.
static void check_events(void)
{
    for (uint32_t i = 0; i < EVENT_COUNT; i++) {
        const char *id = log_events[i].message_id;
        CHECK(strlen(id) == 32 && strspn(id, "0123456789abcdef") == 32);
        for (uint32_t j = 0; j < i; j++)
            CHECK(strcmp(id, log_events[j].message_id) != 0 &&
                  strcmp(log_events[i].name, log_events[j].name) != 0);
    }
}

int main(void)
{
    check_events();
    check_limit();
    check_plain();
    check_full_pipe();
    check_limited_lines();
    check_journal();
    return 0;
}
