// SPDX-License-Identifier: MIT
// Tokens -> what a client sees: reasoning and answer, stop strings, whole characters, logprobs.
#include "api/output.h"

#include "tests/unit/api/api_check.h"

#include <errno.h>

#define OPEN                                                                                       \
    {                                                                                              \
        OUTPUT_THINK_OPEN, "<think>", 7, true, -0.5f, NULL, 0                                      \
    }
#define CLOSE                                                                                      \
    {                                                                                              \
        OUTPUT_THINK_CLOSE, "</think>", 8, true, -0.5f, NULL, 0                                    \
    }
#define CTRL                                                                                       \
    {                                                                                              \
        OUTPUT_CONTROL, "<|User|>", 8, true, -0.5f, NULL, 0                                        \
    }
#define T(s)                                                                                       \
    {                                                                                              \
        OUTPUT_TEXT, s, sizeof(s) - 1, true, -0.5f, NULL, 0                                        \
    }

struct run {
    const char *name;
    bool in_reasoning;
    bool completion;
    const char *stops[3];
    struct output_token tokens[10];
    uint32_t used; // tokens taken before a stop string ended it; 0: all
    const char *reasoning, *answer;
    uint32_t reasoning_tokens;
};

// clang-format off
static const struct run runs[] = {
    {"plain", 0, 0, {0}, {T("Hello"), T(" world")}, 0, "", "Hello world", 0},
    {"reasoning from the prompt", 1, 0, {0}, {T("hm"), CLOSE, T("\n\n"), T("yes")}, 0, "hm", "yes", 2},
    {"newlines dropped across tokens", 1, 0, {0}, {CLOSE, T("\n"), T("\n\n a\n")}, 0, "", " a\n", 1},
    {"newlines kept elsewhere", 0, 0, {0}, {T("\n\na")}, 0, "", "\n\na", 0},
    {"reasoning opened by the model", 0, 0, {0}, {OPEN, T("\nhm"), CLOSE, T("\nyes")}, 0, "\nhm", "yes", 3},
    {"think later is only dropped", 0, 0, {0}, {T("a"), OPEN, T("b"), CLOSE, T("\nc")}, 0, "", "ab\nc", 0},
    {"split at the first close", 1, 0, {0}, {T("a"), CLOSE, T("b"), CLOSE, T("c")}, 0, "a", "bc", 2},
    {"open inside reasoning", 1, 0, {0}, {T("a"), OPEN, T("b"), CLOSE, T("c")}, 0, "ab", "c", 4},
    {"close at the start", 0, 0, {0}, {CLOSE, T("\n\na")}, 0, "", "a", 0},
    {"never closed", 1, 0, {0}, {T("a"), T("b")}, 0, "ab", "", 2},
    {"control tokens never show", 0, 0, {0}, {CTRL, T("a"), CTRL, T("b"), CTRL}, 0, "", "ab", 0},
    {"control before think", 0, 0, {0}, {CTRL, OPEN, T("a"), CLOSE, T("b")}, 0, "a", "b", 3},
    {"half a character, then control", 0, 0, {0}, {T("\xe4\xb8"), CTRL, T("\xad")}, 0, "", "\xef\xbf\xbd\xef\xbf\xbd", 0},
    {"half a character, then close", 1, 0, {0}, {T("\xe4\xb8"), CLOSE, T("a")}, 0, "\xef\xbf\xbd", "a", 2},
    {"half a character at the end", 0, 0, {0}, {T("a\xf0\x9f")}, 0, "", "a\xef\xbf\xbd", 0},
    {"a character from three tokens", 0, 0, {0}, {T("\xf0"), T("\x9f\x98"), T("\x80")}, 0, "", "\xf0\x9f\x98\x80", 0},
    {"completion shows think", 0, 1, {0}, {T("<think>"), T("\n\n"), T("a"), CTRL}, 0, "", "<think>\n\na", 0},

    {"stop", 0, 0, {"END"}, {T("a EN"), T("D b"), T("c")}, 2, "", "a ", 0},
    {"stop at once", 0, 0, {"a"}, {T("abc")}, 1, "", "", 0},
    {"stop byte by byte", 0, 0, {"END"}, {T("E"), T("E"), T("N"), T("E"), T("N"), T("D"), T("x")}, 6, "", "EEN", 0},
    {"held text released", 0, 0, {"END"}, {T("a EN")}, 0, "", "a EN", 0},
    {"held text goes on", 0, 0, {"END"}, {T("a EN"), T("x")}, 0, "", "a ENx", 0},
    {"overlapping beginnings", 0, 0, {"aab"}, {T("aa"), T("aa"), T("b")}, 3, "", "aa", 0},
    {"the first one wins", 0, 0, {"bc", "abcd"}, {T("xabcd")}, 1, "", "xa", 0},
    {"the longer of two", 0, 0, {"cd", "abcd"}, {T("xabcdy")}, 1, "", "x", 0},
    {"not in the reasoning", 1, 0, {"END"}, {T("END"), CLOSE, T("x"), T("END")}, 4, "END", "x", 2},
    {"not across the border", 1, 0, {"ab"}, {T("a"), CLOSE, T("b")}, 0, "a", "b", 2},
    {"dropped newlines are no stop", 1, 0, {"\n\n"}, {T("r"), CLOSE, T("\n\n"), T("a\n\nb")}, 4, "r", "a", 2},
    {"stop of half characters' text", 0, 0, {"\xe4\xb8\xad"}, {T("a\xe4"), T("\xb8"), T("\xad" "b")}, 3, "", "a", 0},
    {"control does not cut a stop", 0, 0, {"END"}, {T("EN"), CTRL, T("D")}, 3, "", "", 0},
    {"three stops", 0, 0, {"x", "yy", "zzz"}, {T("zz"), T("y"), T("zzz")}, 3, "", "zzy", 0},
    {"stop in a completion", 0, 1, {"\n"}, {T("ab"), T("c\n\n")}, 2, "", "abc", 0},
    {"replacement as a stop", 0, 0, {"\xef\xbf\xbd"}, {T("a\xe4")}, 0, "", "a", 0},
};
// clang-format on

static struct output_params params_of(const struct run *run)
{
    struct output_params p = {.chat = !run->completion,
                              .in_reasoning = run->in_reasoning,
                              .stops = run->stops,
                              .text_max = 1 << 20};
    while (p.stops_n < ARRAY_LEN(run->stops) && run->stops[p.stops_n])
        p.stops_n++;
    return p;
}

static void take(struct output *o, struct buf *parts)
{
    for (enum output_part part = 0; part < OUTPUT_PART_COUNT; part++) {
        size_t n;
        const char *text = output_text(o, part, &n);
        CHECK(utf8_check(text, n, NULL)); // whole characters only
        buf_put(&parts[part], text, n);
        output_taken(o, part);
    }
}

// Pushes the tokens in pieces of at most `step` bytes; takes after each one if `stream`.
static void check_run(const struct run *run, size_t step, bool stream)
{
    struct output_params params = params_of(run);
    struct buf parts[OUTPUT_PART_COUNT];
    struct output o;
    uint32_t used = 0;
    int got = 0;

    for (enum output_part part = 0; part < OUTPUT_PART_COUNT; part++)
        buf_init(&parts[part], 1 << 20);
    CHECK(output_init(&o, &params) == 0);
    for (; got == 0 && used < ARRAY_LEN(run->tokens) && run->tokens[used].bytes; used++) {
        struct output_token t = run->tokens[used];
        size_t n = t.n;
        for (size_t i = 0; got == 0 && i < n; i += step) {
            t.bytes = run->tokens[used].bytes + i;
            t.n = n - i < step && t.kind == OUTPUT_TEXT ? n - i : step;
            if (t.kind != OUTPUT_TEXT || t.n > n)
                t.n = n;
            if (t.kind != OUTPUT_TEXT && i > 0)
                break;
            got = output_push(&o, &t);
            CHECK(got >= 0);
            if (stream)
                take(&o, parts);
        }
    }
    CHECK(used == (run->used ? run->used : used));
    CHECK((got == 1) == (run->used != 0));
    CHECK(output_finish(&o, SAMPLING_FINISH_LENGTH) == 0);
    bool stopped = run->used || strstr(run->name, "replacement");
    CHECK(o.finish == (stopped ? SAMPLING_FINISH_STOP : SAMPLING_FINISH_LENGTH));
    CHECK((o.stop_idx >= 0) == stopped);
    take(&o, parts);
    CHECK(!output_ready(&o));
    CHECK_BUF(&parts[OUTPUT_REASONING], run->reasoning);
    CHECK_BUF(&parts[OUTPUT_ANSWER], run->answer);
    if (step >= 100) {
        CHECK(o.tokens_n == used);
        CHECK(o.reasoning_tokens_n == run->reasoning_tokens);
    }
    output_fini(&o);
    for (enum output_part part = 0; part < OUTPUT_PART_COUNT; part++)
        buf_free(&parts[part]);
}

static void separates_and_stops(void)
{
    for (size_t i = 0; i < ARRAY_LEN(runs); i++) {
        for (size_t step = 1; step <= 3; step++) {
            check_run(&runs[i], step, false);
            check_run(&runs[i], step, true);
        }
        check_run(&runs[i], 100, false);
        check_run(&runs[i], 100, true);
    }
}

// The plain way: look at all of the text after each byte.  first_stop returns where the answer
// ends.
static size_t first_stop(const char *text, size_t n, const char *const *stops, uint32_t stops_n)
{
    for (size_t end = 1; end <= n; end++) {
        size_t best = 0;
        for (uint32_t i = 0; i < stops_n; i++) {
            size_t len = strlen(stops[i]);
            if (len <= end && memcmp(text + end - len, stops[i], len) == 0 && len > best)
                best = len;
        }
        if (best > 0)
            return end - best;
    }
    return n;
}

// Random text of two letters, random stop strings: streamed = the plain way, and nothing is held
// back that need not be.
static void random_stops(void)
{
    uint64_t seed = 11;

    for (int round = 0; round < 20000; round++) {
        char words[3][8], text[40];
        const char *stops[3] = {words[0], words[1], words[2]};
        uint32_t stops_n = 1 + (uint32_t)(check_random(&seed) % 3);
        for (uint32_t i = 0; i < 3; i++) {
            size_t n = 1 + check_random(&seed) % 6;
            for (size_t j = 0; j < n; j++)
                words[i][j] = (char)('a' + (check_random(&seed) & 1));
            words[i][n] = '\0';
        }
        size_t n = check_random(&seed) % sizeof(text);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)('a' + (check_random(&seed) & 1));

        struct output o;
        struct output_params params = {.stops = stops, .stops_n = stops_n, .text_max = 4096};
        CHECK(output_init(&o, &params) == 0);
        int got = 0;
        for (size_t i = 0; i < n && got == 0;) {
            size_t len = 1 + check_random(&seed) % 4;
            len = len < n - i ? len : n - i;
            got = output_push(&o, &(struct output_token){.bytes = text + i, .n = len});
            i += len;
            size_t ready, held = i;
            output_text(&o, OUTPUT_ANSWER, &ready);
            for (; got == 0 && held > ready; held--) { // what waits is the beginning of a stop
                bool begins = false;
                for (uint32_t s = 0; s < stops_n; s++)
                    begins |= strncmp(stops[s], text + ready, i - ready) == 0;
                CHECK(begins);
            }
        }
        CHECK(output_finish(&o, SAMPLING_FINISH_LENGTH) == 0);
        size_t want = first_stop(text, n, stops, stops_n), out_n;
        const char *out = output_text(&o, OUTPUT_ANSWER, &out_n);
        CHECK((got == 1) == (want < n));
        CHECK(out_n == want);
        CHECK(out_n == 0 || memcmp(out, text, out_n) == 0);
        output_fini(&o);
    }
}

static void lists_logprobs_of_chats(void)
{
    const struct output_top top[] = {{"a", 1, -0.25f}, {"\xff", 1, -2}, {"c", 1, -3}};
    const struct output_token tokens[] = {
        {OUTPUT_TEXT, "r", 1, true, -1, NULL, 0},
        CLOSE,
        {OUTPUT_TEXT, "a\xe4", 2, true, -0.25f, top, 3},
        {OUTPUT_TEXT, "\xb8\xad", 2, true, -1.5f, top, 1},
        CTRL,
        {OUTPUT_TEXT, "EN", 2, true, -4, NULL, 0},
    };
    const char *stops[] = {"END"};
    struct output_params params = {.chat = true,
                                   .in_reasoning = true,
                                   .logprobs = true,
                                   .top_logprobs = 2,
                                   .stops = stops,
                                   .stops_n = 1,
                                   .text_max = 1 << 16};
    struct output o;

    CHECK(output_init(&o, &params) == 0);
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++)
        CHECK(output_push(&o, &tokens[i]) == 0);
    CHECK_BUF(&o.entries[OUTPUT_REASONING].list,
              "{\"token\":\"r\",\"logprob\":-1,\"bytes\":[114],\"top_logprobs\":[]},"
              "{\"token\":\"</think>\",\"logprob\":-0.5,\"bytes\":[60,47,116,104,105,110,107,62],"
              "\"top_logprobs\":[]}");
    CHECK_BUF(&o.entries[OUTPUT_ANSWER].list,
              "{\"token\":\"a\xef\xbf\xbd\",\"logprob\":-0.25,\"bytes\":[97,228],\"top_logprobs\":["
              "{\"token\":\"a\",\"logprob\":-0.25,\"bytes\":[97]},"
              "{\"token\":\"\xef\xbf\xbd\",\"logprob\":-2,\"bytes\":[255]}]},"
              "{\"token\":\"\xef\xbf\xbd\xef\xbf\xbd\",\"logprob\":-1.5,\"bytes\":[184,173],"
              "\"top_logprobs\":[{\"token\":\"a\",\"logprob\":-0.25,\"bytes\":[97]}]},"
              "{\"token\":\"<|User|>\",\"logprob\":-0.5,\"bytes\":[60,124,85,115,101,114,124,62],"
              "\"top_logprobs\":[]},"
              "{\"token\":\"EN\",\"logprob\":-4,\"bytes\":[69,78],\"top_logprobs\":[]}");
    output_fini(&o);
}

static void lists_logprobs_of_completions(void)
{
    const struct output_top top[] = {{"b", 1, -0.25f}, {"\xff\"", 2, -2}, {"c", 1, -3}};
    struct output_params params = {.logprobs = true, .top_logprobs = 2, .text_max = 1 << 16};
    struct output o;

    CHECK(output_init(&o, &params) == 0);
    CHECK(output_echo(&o, &(struct output_token){.bytes = "\xe4\xb8\xad", .n = 3}) == 0);
    CHECK(output_push(&o, &(struct output_token){OUTPUT_TEXT, "b", 1, true, -0.25f, top, 3}) == 0);
    CHECK(output_push(&o, &(struct output_token){OUTPUT_TEXT, "\xe4", 1, true, -5, top, 1}) == 0);
    CHECK(output_push(&o, &(struct output_token){OUTPUT_TEXT, "x", 1, true, -6, NULL, 0}) == 0);
    CHECK_BUF(&o.entries[OUTPUT_ANSWER].list, "\"\xe4\xb8\xad\",\"b\",\"bytes:\\\\xe4\",\"x\"");
    CHECK_BUF(&o.entries[OUTPUT_ANSWER].values, "null,-0.25,-5,-6");
    CHECK_BUF(&o.entries[OUTPUT_ANSWER].tops,
              "null,{\"b\":-0.25,\"bytes:\\\\xff\\\\x22\":-2},{\"b\":-0.25,\"bytes:\\\\xe4\":-5},"
              "{\"x\":-6}");
    CHECK_BUF(&o.entries[OUTPUT_ANSWER].offsets, "0,1,2,2"); // characters, not bytes
    CHECK(output_finish(&o, SAMPLING_FINISH_LENGTH) == 0);
    size_t n;
    const char *text = output_text(&o, OUTPUT_ANSWER, &n);
    CHECK_TEXT(text, n,
               "\xe4\xb8\xad"
               "b\xef\xbf\xbdx");
    CHECK(o.tokens_n == 3); // the prompt's are not generated
    output_fini(&o);
}

static void echo_is_no_stop(void)
{
    const char *stops[] = {"ab"};
    struct output_params params = {.stops = stops, .stops_n = 1, .text_max = 1 << 16};
    struct output o;

    CHECK(output_init(&o, &params) == 0);
    CHECK(output_echo(&o, &(struct output_token){.bytes = "<s>", .n = 3, .kind = OUTPUT_CONTROL}) ==
          0);
    CHECK(output_echo(&o, &(struct output_token){.bytes = "aba", .n = 3}) == 0);
    CHECK(output_push(&o, &(struct output_token){.bytes = "bab", .n = 3}) == 1);
    size_t n;
    const char *text = output_text(&o, OUTPUT_ANSWER, &n);
    CHECK_TEXT(text, n, "abab");
    output_fini(&o);
}

static void is_bounded(void)
{
    struct output_params params = {.text_max = 1000};
    const char *stops[] = {"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"};
    struct output o;
    int got = 0;

    params.stops = stops;
    params.stops_n = 1;
    CHECK(output_init(&o, &params) == 0);
    for (int i = 0; i < 200 && got == 0; i++)
        got = output_push(&o, &(struct output_token){.bytes = "aaaaaaabbb", .n = 10});
    CHECK(got == -ENOBUFS);
    size_t n;
    output_text(&o, OUTPUT_ANSWER, &n);
    CHECK(n <= 1000);
    output_fini(&o);
}

int main(void)
{
    separates_and_stops();
    random_stops();
    lists_logprobs_of_chats();
    lists_logprobs_of_completions();
    echo_is_no_stop();
    is_bounded();
    return 0;
}
