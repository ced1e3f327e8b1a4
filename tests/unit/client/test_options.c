// SPDX-License-Identifier: MIT
#include "client/options.h"
#include "tests/check.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define WORDS_MAX 16

static char *words[WORDS_MAX];

// parse splits a line at spaces and parses it as a command line.
static int parse(const char *line, struct options *options, struct fault *fault)
{
    static char copy[256];
    int n = 0;
    words[n++] = copy;
    snprintf(copy, sizeof(copy), "expertctl %s", line);
    for (char *space = strchr(copy, ' '); space && n < WORDS_MAX; space = strchr(space + 1, ' ')) {
        *space = '\0';
        words[n++] = space + 1;
    }
    return options_parse(n, words, options, fault);
}

static void test_right(void)
{
    struct options o;

    CHECK(parse("ask one two", &o, NULL) == 0);
    CHECK(o.command == COMMAND_ASK && o.args_n == 2);
    CHECK(strcmp(o.args[0], "one") == 0 && strcmp(o.args[1], "two") == 0);
    CHECK(isnan(o.temperature) && isnan(o.top_p) && isnan(o.min_p));
    CHECK(o.seed == OPTION_ABSENT && o.max_tokens == OPTION_ABSENT && o.top_k == OPTION_ABSENT);

    CHECK(parse("--json ask --temperature 0.5 x --seed=-7 --top-k 3 --quiet", &o, NULL) == 0);
    CHECK(o.json && o.quiet && !o.no_color && o.temperature == 0.5 && o.seed == -7);
    CHECK(o.top_k == 3 && o.args_n == 1 && strcmp(o.args[0], "x") == 0);

    CHECK(parse("ask -- --json -5", &o, NULL) == 0);
    CHECK(!o.json && o.args_n == 2 && strcmp(o.args[1], "-5") == 0);
    CHECK(parse("ask -", &o, NULL) == 0);
    CHECK(o.args_n == 1 && strcmp(o.args[0], "-") == 0);
    CHECK(parse("status --socket=/a=b", &o, NULL) == 0);
    CHECK(strcmp(o.socket, "/a=b") == 0);
    CHECK(parse("chat --reasoning fold --system x", &o, NULL) == 0);
    CHECK(strcmp(o.reasoning, "fold") == 0 && strcmp(o.system, "x") == 0);
    CHECK(parse("inspect DIR --device llvmpipe", &o, NULL) == 0);
    CHECK(parse("pack --drives /a,/b --force SRC DST", &o, NULL) == 0);
    CHECK(o.command == COMMAND_PACK && o.force && !o.verify && o.args_n == 2);
    CHECK(strcmp(o.drives, "/a,/b") == 0 && strcmp(o.args[1], "DST") == 0);
    CHECK(parse("pack --verify DST", &o, NULL) == 0 && o.verify && o.args_n == 1);
    CHECK(parse("hash DIR --verify --output LIST", &o, NULL) == 0 && o.verify);
    CHECK(o.command == COMMAND_HASH && strcmp(o.output, "LIST") == 0);
    CHECK(parse("bench --requests 3 --parallel 2 --prompt-tokens 9", &o, NULL) == 0);
    CHECK(o.requests == 3 && o.parallel == 2 && o.prompt_tokens == 9);
    CHECK(parse("key list", &o, NULL) == 0 && o.command == COMMAND_KEY && o.args_n == 1);
    CHECK(o.rate == OPTION_ABSENT && o.concurrency == OPTION_ABSENT && !o.file);
    CHECK(parse("key add x --rate 0 --concurrency 7 --file k", &o, NULL) == 0);
    CHECK(o.rate == 0 && o.concurrency == 7 && strcmp(o.file, "k") == 0);
    CHECK(parse("--help", &o, NULL) == 0 && o.help && o.command == COMMAND_NONE);
    CHECK(parse("inspect --help", &o, NULL) == 0 && o.help && o.command == COMMAND_INSPECT);
    CHECK(parse("-h", &o, NULL) == 0 && o.help);
    CHECK(parse("--version", &o, NULL) == 0 && o.version);
}

// Every wrong line names the word that is wrong.
static void test_wrong(void)
{
    static const struct {
        const char *line, *names;
    } rows[] = {
        {"--json", "no command"},
        {"frobnicate", "frobnicate"},
        {"ask --nonsense x", "--nonsense"},
        {"ask -x", "-x"},
        {"ask --seed", "--seed"},
        {"ask --seed 1.5 x", "1.5"},
        {"ask --seed 99999999999999999999 x", "99999999999999999999"},
        {"ask --temperature 2.1 x", "2.1"},
        {"ask --temperature nan x", "nan"},
        {"ask --temperature 1x x", "1x"},
        {"ask --temperature= x", "--temperature"},
        {"ask --max-tokens 0 x", "--max-tokens"},
        {"ask --json=yes x", "--json"},
        {"ask --reasoning sho x", "sho"},
        {"ask --reasoning show|fold x", "show|fold"},
        {"ask --jso x", "--jso"},
        {"status --seed 1", "--seed"},
        {"status extra", "extra"},
        {"inspect", "DIR"},
        {"inspect a b", "'b'"},
        {"pack", "SRC DST"},
        {"pack a b c", "'c'"},
        {"hash --drives a b", "--drives"},
        {"inspect --verify a", "--verify"},
        {"models --socket a --url b", "--socket and --url exclude"},
        {"setup --key a --no-key", "--key and --no-key exclude"},
        {"setup --self-signed --tls-certificate a", "--self-signed and --tls-certificate exclude"},
        {"setup --tls-key=a --self-signed", "--self-signed and --tls-key exclude"},
        {"key", "add|list|revoke"},
        {"key add a b", "'b'"},
        {"key add a --rate 1000001", "1000001"},
        {"key add a --concurrency -1", "-1"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct options o;
        struct fault fault = {0};
        CHECK(parse(rows[i].line, &o, &fault) == -EINVAL);
        if (!strstr(fault.text, rows[i].names))
            fprintf(stderr, "%s: %s\n", rows[i].line, fault.text);
        CHECK(strstr(fault.text, rows[i].names));
    }
}

int main(void)
{
    test_right();
    test_wrong();
    return 0;
}
