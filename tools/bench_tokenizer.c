// SPDX-License-Identifier: MIT
// bench-tokenizer: how fast a tokenizer opens, encodes and decodes; one JSON object a line.
//
//     bench-tokenizer DIR [FILE...]
//
// DIR holds tokenizer.json.  The mixed text is composed here (prose, code, numbers, CJK, other
// scripts) unless files are named.  The other rows are inputs made to be slow; their value for ten
// times the length stands beside, so that a quadratic step shows.
#include "api/utf8.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MIXED_BYTES (4u << 20)
#define LONG_BYTES  (10u << 20)

// Time of this thread on a core: other work on the machine does not count.
static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static const char *const prose[] = {
    "The quick brown fox jumps over the lazy dog, and then it sleeps for 12 hours.\n",
    "In 1969 about 650,000,000 people watched; nobody knew what would come next.\n\n",
    "    if (err < 0 && !(flags & O_NONBLOCK))\n        return read_all(fd, buf, len);\n",
    "def tokenise(text: str) -> list[int]:\n\treturn [vocab[t] for t in split(text)]\n",
    "{\"model\": \"demo\", \"temperature\": 0.6, \"stream\": true, \"n\": 1}\n",
    "Die Größe der Äpfel überraschte Señor Núñez im Café; naïve façade, Übermut.\n",
    "深度学习模型通过大量数据进行训练，专家网络只在需要时被激活。\n",
    "東京タワーは１９５８年に完成しました。カタカナとひらがな。\n",
    "Привет, мир! Сегодня хорошая погода для прогулки у моря.\n",
    "한국어 문장도 조금 넣어 봅니다. 모델은 언어를 배웁니다.\n",
    "مرحبا بالعالم، كيف حالك اليوم؟  नमस्ते दुनिया।  😀 🚀 👍🏽\n",
    "| id | name        | value |\n|----|-------------|-------|\n| 1  | first_thing | 3.14  |\n",
};

static char *compose_mixed(size_t len)
{
    char *text = malloc(len + 256);
    size_t n = 0;
    uint32_t state = 1;

    if (!text)
        return NULL;
    while (n < len) {
        state = state * 1664525u + 1013904223u;
        const char *line = prose[(state >> 16) % (sizeof(prose) / sizeof(prose[0]))];
        size_t line_len = strlen(line);
        memcpy(text + n, line, line_len);
        n += line_len;
    }
    text[n] = '\0';
    return text;
}

static char *compose_run(const char *unit, size_t len)
{
    char *text = malloc(len + 16);
    size_t unit_len = strlen(unit), n = 0;

    if (!text)
        return NULL;
    for (; n + unit_len <= len; n += unit_len)
        memcpy(text + n, unit, unit_len);
    text[n] = '\0';
    return text;
}

static char *read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    size_t n = 0, cap = 0, got;

    if (!file)
        return NULL;
    do {
        if (cap - n < 65536) {
            char *grown = realloc(text, cap = cap * 2 + (1u << 20));
            if (!grown)
                break;
            text = grown;
        }
        got = fread(text + n, 1, cap - n - 1, file);
        n += got;
        text[n] = '\0';
    } while (got);
    fclose(file);
    return text;
}

struct bench {
    struct tokenizer *tok;
    struct tokenizer_scratch *scratch;
    struct token_list list;
};

// Encodes text (up to `rounds` times; the best counts) and returns seconds, or -1 with words.
static double encode_seconds(struct bench *b, const char *text, size_t len, unsigned rounds)
{
    struct fault fault = {0};
    double best = -1;

    for (unsigned i = 0; i < rounds; i++) {
        b->list.n = 0;
        double start = cpu_seconds();
        if (tokenizer_encode(b->tok, b->scratch, text, len, false, &b->list, &fault)) {
            fprintf(stderr, "bench-tokenizer: %s\n", fault.text);
            return -1;
        }
        double s = cpu_seconds() - start;
        best = best < 0 || s < best ? s : best;
    }
    return best;
}

static int report_speed(struct bench *b, const char *name, const char *text)
{
    size_t len = strlen(text);
    double s = encode_seconds(b, text, len, 3);

    if (s < 0)
        return 1;
    printf("{\"name\": \"tokenizer_encode_%s\", \"value\": %.2f, \"unit\": \"MB/s\", "
           "\"reference\": 5, \"conditions\": \"%zu bytes, %zu tokens, CPU time of one core\"}\n",
           name, (double)len / 1e6 / s, len, b->list.n);
    return 0;
}

static int report_decode(struct bench *b)
{
    struct utf8_stream stream = {0};
    size_t bytes_n = 0;
    char out[4096];

    double start = cpu_seconds();
    for (size_t i = 0; i < b->list.n; i++) {
        size_t len;
        const char *bytes = tokenizer_bytes(b->tok, b->list.ids[i], &len);
        if (len <= sizeof(out) / 3 - 4)
            bytes_n += utf8_stream_push(&stream, bytes, len, out);
    }
    double s = cpu_seconds() - start;
    printf("{\"name\": \"tokenizer_decode\", \"value\": %.2f, \"unit\": \"MB/s\"}\n",
           (double)bytes_n / 1e6 / (s > 0 ? s : 1e-6));
    return 0;
}

// Runs of one thing: what a splitter with backtracking, or a merge loop, is slow at.
static int report_runs(struct bench *b)
{
    static const struct {
        const char *name, *unit;
    } runs[] = {
        {"letter", "a"},
        {"spaces", " "},
        {"newlines", "\n"},
        {"punctuation", "!"},
        {"digits", "7"},
        {"han", "中"},
        {"tabs_nl", "\t\n"},
        {"letters_mixed", "aBc"},
        {"controls", "\x01"},
        {"apostrophes", "'s"},
        {"marks", "\xcc\x81\xcc\xa3"},
        {"space_mark", " \xcc\x81"},
    };

    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        char *text = compose_run(runs[i].unit, LONG_BYTES);
        if (!text)
            return 1;
        size_t unit_len = strlen(runs[i].unit);
        double tenth = encode_seconds(b, text, LONG_BYTES / 10 / unit_len * unit_len, 1);
        double whole = encode_seconds(b, text, strlen(text), 1);
        free(text);
        if (tenth < 0 || whole < 0)
            return 1;
        printf(
            "{\"name\": \"tokenizer_run_%s\", \"value\": %.3f, \"unit\": \"s\", \"ratio\": %.1f, "
            "\"conditions\": \"%u bytes; ratio: against a tenth of it\"}\n",
            runs[i].name, whole, whole / (tenth > 1e-6 ? tenth : 1e-6), LONG_BYTES);
    }
    return 0;
}

static int bench_open(struct bench *b, const char *dir)
{
    struct fault fault = {0};

    double start = cpu_seconds();
    if (tokenizer_open(dir, &b->tok, &fault)) {
        fprintf(stderr, "bench-tokenizer: %s\n", fault.text);
        return 1;
    }
    double ms = (cpu_seconds() - start) * 1e3;
    printf("{\"name\": \"tokenizer_open\", \"value\": %.1f, \"unit\": \"ms\", \"conditions\": "
           "\"%u ids\"}\n",
           ms, tokenizer_vocab(b->tok));
    return tokenizer_scratch_create(b->tok, &b->scratch) ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    int rc;

    if (argc < 2) {
        fprintf(stderr, "usage: bench-tokenizer DIR [FILE...]\n");
        return 2;
    }
    rc = bench_open(&b, argv[1]);
    for (int i = 2; i < argc && !rc; i++) {
        char *text = read_text(argv[i]);
        rc = text ? report_speed(&b, "file", text) : 1;
        free(text);
    }
    if (argc == 2 && !rc) {
        char *text = compose_mixed(MIXED_BYTES);
        rc = text ? report_speed(&b, "mixed", text) : 1;
        free(text);
    }
    if (!rc)
        rc = report_decode(&b);
    if (!rc)
        rc = report_runs(&b);
    token_list_free(&b.list);
    tokenizer_scratch_destroy(&b.scratch);
    tokenizer_close(&b.tok);
    return rc;
}
