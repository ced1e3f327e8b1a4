// SPDX-License-Identifier: MIT
// tokenizer: every golden vector of three tokenizers, both ways, and the errors of broken files.
#include "api/utf8.h"
#include "model/pretok.h"
#include "model/tokenizer.h"
#include "tests/check.h"
#include "tests/fuzz/small_tokenizer.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

// ---- rows of a .jsonl file ----

static FILE *rows_open(const char *dir, const char *name)
{
    char path[1024];
    CHECK(snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path));
    FILE *file = fopen(path, "r");
    CHECK(file);
    return file;
}

static json_t *row_next(FILE *file)
{
    char *line = NULL;
    size_t cap = 0;
    json_t *row = NULL;

    if (getline(&line, &cap, file) > 0) {
        row = json_loads(line, JSON_ALLOW_NUL, NULL);
        CHECK(row);
    }
    free(line);
    return row;
}

// ---- vectors.jsonl ----

static bool ids_equal(const struct token_list *list, const json_t *ids)
{
    if (list->n != json_array_size(ids))
        return false;
    for (size_t i = 0; i < list->n; i++)
        if (list->ids[i] != (uint32_t)json_integer_value(json_array_get(ids, i)))
            return false;
    return true;
}

static void check_encode(const struct tokenizer *tok, struct tokenizer_scratch *scratch,
                         const json_t *text, bool parse_added, const json_t *ids)
{
    struct token_list list = {0};
    struct fault fault;

    CHECK(tokenizer_encode(tok, scratch, json_string_value(text), json_string_length(text),
                           parse_added, &list, &fault) == 0);
    if (!ids_equal(&list, ids)) {
        fprintf(stderr, "text: %s\n", json_string_value(text));
        for (size_t i = 0; i < list.n; i++)
            fprintf(stderr, "%u ", list.ids[i]);
        fprintf(stderr, "\nexpected: %s\n", json_dumps(ids, 0));
    }
    CHECK(ids_equal(&list, ids));
    token_list_free(&list);
}

// Decodes through a utf8_stream, which must hand out whole characters only; to be freed.
static char *decode(const struct tokenizer *tok, const json_t *ids, bool skip_special, char *raw,
                    size_t *raw_n, size_t *ret_n)
{
    struct utf8_stream stream = {0};
    size_t n = 0, len;
    char *text = malloc(1 << 20);

    CHECK(text);
    *raw_n = 0;
    for (size_t i = 0; i < json_array_size(ids); i++) {
        uint32_t id = (uint32_t)json_integer_value(json_array_get(ids, i));
        if (skip_special && tokenizer_is_special(tok, id))
            continue;
        const char *bytes = tokenizer_bytes(tok, id, &len);
        CHECK(len > 0);
        CHECK(*raw_n + len < 1 << 18);
        memcpy(raw + *raw_n, bytes, len);
        *raw_n += len;
        n += utf8_stream_push(&stream, bytes, len, text + n);
    }
    n += utf8_stream_finish(&stream, text + n);
    *ret_n = n;
    return text;
}

static char raw_bytes[1 << 18];

static void check_decode(const struct tokenizer *tok, const json_t *ids, bool skip_special,
                         const json_t *expected)
{
    size_t raw_n, n;
    char *text = decode(tok, ids, skip_special, raw_bytes, &raw_n, &n);
    CHECK(n == json_string_length(expected));
    CHECK(memcmp(text, json_string_value(expected), n) == 0);
    free(text);
}

static unsigned run_vectors(const struct tokenizer *tok, struct tokenizer_scratch *scratch,
                            const char *dir)
{
    FILE *file = rows_open(dir, "vectors.jsonl");
    unsigned n = 0;
    json_t *row;

    while ((row = row_next(file))) {
        const json_t *text = json_object_get(row, "text"), *ids = json_object_get(row, "ids");
        const json_t *plain = json_object_get(row, "ids_plain");
        const json_t *decoded = json_object_get(row, "decoded");
        const json_t *skipped = json_object_get(row, "decoded_skip_special");
        check_encode(tok, scratch, text, true, ids);
        check_encode(tok, scratch, text, false, plain ? plain : ids);
        check_decode(tok, ids, false, decoded ? decoded : text);
        check_decode(tok, ids, true, skipped ? skipped : decoded ? decoded : text);
        json_decref(row);
        n++;
    }
    fclose(file);
    return n;
}

static unsigned run_decode(const struct tokenizer *tok, const char *dir)
{
    FILE *file = rows_open(dir, "decode.jsonl");
    unsigned n = 0;
    json_t *row;

    while ((row = row_next(file))) {
        const char *hex = json_string_value(json_object_get(row, "bytes"));
        const json_t *expected = json_object_get(row, "text");
        size_t raw_n, text_n;
        char *text = decode(tok, json_object_get(row, "ids"), false, raw_bytes, &raw_n, &text_n);
        CHECK(text_n == json_string_length(expected));
        CHECK(memcmp(text, json_string_value(expected), text_n) == 0);
        CHECK(strlen(hex) == 2 * raw_n);
        for (size_t i = 0; i < raw_n; i++) {
            unsigned byte;
            CHECK(sscanf(hex + 2 * i, "%2x", &byte) == 1);
            CHECK((unsigned char)raw_bytes[i] == byte);
        }
        free(text);
        json_decref(row);
        n++;
    }
    fclose(file);
    return n;
}

// ---- pieces.jsonl ----

struct pieces {
    const json_t *expected;
    size_t n;
};

static int check_piece(void *user, const char *piece, size_t len)
{
    struct pieces *p = user;
    const json_t *want = json_array_get(p->expected, p->n++);
    CHECK(want);
    CHECK(json_string_length(want) == len);
    CHECK(memcmp(json_string_value(want), piece, len) == 0);
    return 0;
}

static unsigned run_pieces(const char *dir)
{
    char path[1024];
    struct pretok *pretok;
    struct pretok_scratch *scratch;
    struct fault fault;
    unsigned n = 0;
    json_t *row;

    CHECK(snprintf(path, sizeof(path), "%s/tokenizer.json", dir) < (int)sizeof(path));
    json_t *root = json_load_file(path, 0, NULL);
    CHECK(root);
    CHECK(pretok_create(json_object_get(root, "pre_tokenizer"), &pretok, &fault) == 0);
    CHECK(pretok_scratch_create(pretok, &scratch) == 0);
    FILE *file = rows_open(dir, "pieces.jsonl");
    while ((row = row_next(file))) {
        const json_t *text = json_object_get(row, "text");
        struct pieces p = {.expected = json_object_get(row, "pieces")};
        CHECK(pretok_split(pretok, scratch, json_string_value(text), json_string_length(text),
                           check_piece, &p, &fault) == 0);
        CHECK(p.n == json_array_size(p.expected));
        json_decref(row);
        n++;
    }
    fclose(file);
    pretok_scratch_destroy(&scratch);
    pretok_destroy(&pretok);
    json_decref(root);
    return n;
}

static void test_golden(const char *root, const char *name, unsigned vectors_n)
{
    char dir[1024];
    struct tokenizer *tok = NULL;
    struct tokenizer_scratch *scratch;
    struct fault fault = {0};

    CHECK(snprintf(dir, sizeof(dir), "%s/tokenizers/%s", root, name) < (int)sizeof(dir));
    int err = tokenizer_open(dir, &tok, &fault);
    if (err)
        fprintf(stderr, "%s\n", fault.text);
    CHECK(err == 0);
    CHECK(tokenizer_scratch_create(tok, &scratch) == 0);
    CHECK(run_vectors(tok, scratch, dir) == vectors_n);
    CHECK(run_decode(tok, dir) == 80);
    CHECK(run_pieces(dir) > 100);
    CHECK(tokenizer_add_bos(tok));
    CHECK(tokenizer_bos(tok) == tokenizer_id(tok, "<｜begin▁of▁sentence｜>"));
    CHECK(tokenizer_eos(tok) == tokenizer_id(tok, "<｜end▁of▁sentence｜>"));
    CHECK(tokenizer_is_control(tok, tokenizer_id(tok, "<think>")));
    CHECK(!tokenizer_is_special(tok, tokenizer_id(tok, "<think>")));
    tokenizer_scratch_destroy(&scratch);
    tokenizer_close(&tok);
}

// ---- broken or unsupported tokenizer.json ----

// Sets the value at a path of keys and indices ("model.vocab", "added_tokens.0.id") to JSON text;
// NULL removes it.
static void json_edit(json_t *root, const char *path, const char *value)
{
    char key[128];
    const char *dot;

    while ((dot = strchr(path, '.'))) {
        snprintf(key, sizeof(key), "%.*s", (int)(dot - path), path);
        root = json_is_array(root) ? json_array_get(root, strtoul(key, NULL, 10))
                                   : json_object_get(root, key);
        CHECK(root);
        path = dot + 1;
    }
    if (!value) {
        CHECK(json_object_del(root, path) == 0);
        return;
    }
    json_t *new = json_loads(value, JSON_DECODE_ANY, NULL);
    CHECK(new);
    if (json_is_array(root))
        CHECK(json_array_set_new(root, strtoul(path, NULL, 10), new) == 0);
    else
        CHECK(json_object_set_new(root, path, new) == 0);
}

static void test_refused_json(void)
{
    static const struct {
        const char *path, *value;
        int err;
        const char *words;
    } rows[] = {
        {"model.type", "\"Unigram\"", -ENOTSUP, "Unigram"},
        {"model.type", NULL, -ENOTSUP, "(none)"},
        {"model", NULL, -ENOTSUP, "BPE"},
        {"model.byte_fallback", "true", -ENOTSUP, "byte_fallback"},
        {"model.dropout", "0.1", -ENOTSUP, "dropout"},
        {"model.continuing_subword_prefix", "\"##\"", -ENOTSUP, "continuing_subword_prefix"},
        {"model.end_of_word_suffix", "\"</w>\"", -ENOTSUP, "end_of_word_suffix"},
        {"model.vocab", "[]", -EINVAL, "model.vocab"},
        {"model.merges", NULL, -EINVAL, "model.merges"},
        {"model.vocab.A", NULL, -ENOTSUP, "0x41"},
        {"model.vocab.A", "-1", -EINVAL, "id of A"},
        {"model.vocab.A", "66", -EINVAL, "has the id or the bytes"},
        {"model.vocab.A", "4000000000", -EINVAL, "id of A"},
        {"model.vocab.A", "1e2", -EINVAL, "id of A"},
        {"model.vocab.zz", "\"7\"", -EINVAL, "id of zz"},
        {"model.merges.0", "\"nospace\"", -EINVAL, "entry 0"},
        {"model.merges.0", "[\"a\"]", -EINVAL, "entry 0"},
        {"model.merges.0", "[\"a\", 1]", -EINVAL, "entry 0"},
        {"model.merges.0", "[\"q\", \"q\"]", -EINVAL, "q + q"},
        {"model.merges.0", "\"\xe4\xb8\xad a\"", -EINVAL, "byte alphabet"},
        {"decoder", "null", -ENOTSUP, "decoder"},
        {"decoder.type", "\"WordPiece\"", -ENOTSUP, "WordPiece"},
        {"normalizer", "{\"type\": \"Lowercase\"}", -ENOTSUP, "Lowercase"},
        {"normalizer", "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFKC\"}]}",
         -ENOTSUP, "NFKC"},
        {"pre_tokenizer", "null", -EINVAL, "no type"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\"}", -ENOTSUP, "Metaspace"},
        {"pre_tokenizer.pretokenizers.0.behavior", "\"Removed\"", -ENOTSUP, "Removed"},
        {"pre_tokenizer.pretokenizers.0.invert", "true", -ENOTSUP, "invert"},
        {"pre_tokenizer.pretokenizers.0.pattern", "{\"String\": \" \"}", -ENOTSUP, "Regex"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"(\"", -EINVAL, "does not compile"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"\\\\w+\"", -ENOTSUP, "\\w"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"^a\"", -ENOTSUP, "^"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"[a[b]]\"", -ENOTSUP, "class inside"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"[ab\"", -EINVAL, "without end"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"[a&&b]\"", -ENOTSUP, "&&"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"(*UTF)a\"", -EINVAL, "(*"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"\\\\p{L\"", -EINVAL, "\\p"},
        {"pre_tokenizer.pretokenizers.0.pattern.Regex", "\"a\\\\\"", -ENOTSUP, "\\"},
        {"pre_tokenizer.pretokenizers.3.add_prefix_space", "true", -ENOTSUP, "add_prefix_space"},
        {"pre_tokenizer.pretokenizers.3.type", "\"Digits\"", -ENOTSUP, "Digits"},
        {"pre_tokenizer.pretokenizers", "[]", -ENOTSUP, "no ByteLevel"},
        {"added_tokens.0.content", "\"\"", -EINVAL, "no text"},
        {"added_tokens.0.content", "7", -EINVAL, "no content"},
        {"added_tokens.0.id", "-1", -EINVAL, "id not in"},
        {"added_tokens.0.id", "4194304", -EINVAL, "id not in"},
        {"added_tokens.0.id", "281", -EINVAL, "two added tokens"},
        {"added_tokens.0.content", "\"<think>\"", -EINVAL, "same text"},
        {"added_tokens.0.lstrip", "true", -ENOTSUP, "lstrip"},
        {"added_tokens.0.single_word", "true", -ENOTSUP, "single_word"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *root = small_tokenizer_json(SMALL_DEEPSEEK);
        struct tokenizer *tok = NULL;
        struct fault fault = {0};

        json_edit(root, rows[i].path, rows[i].value);
        int err = small_tokenizer_load(root, &tok, &fault);
        if (err != rows[i].err || !strstr(fault.text, rows[i].words))
            fprintf(stderr, "%s: %d %s\n", rows[i].path, err, fault.text);
        CHECK(err == rows[i].err);
        CHECK(strstr(fault.text, rows[i].words));
        CHECK(!tok);
        json_decref(root);
    }
}

static void test_refused_text(void)
{
    static const char *const texts[] = {"", "{", "[]", "{\"a\": 1, \"a\": 2}", "{\"a\": \"\xff\"}"};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct tokenizer *tok = calloc(1, sizeof(*tok));
        struct fault fault = {0};
        CHECK(tok);
        CHECK(tokenizer_load_text(tok, texts[i], strlen(texts[i]), false, NULL, &fault) < 0);
        CHECK(fault.text[0]);
        tokenizer_close(&tok);
    }
}

// ---- directories ----

static void file_write(const char *dir, const char *name, const char *text)
{
    char path[1024];
    CHECK(snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path));
    FILE *file = fopen(path, "w");
    CHECK(file);
    CHECK(fputs(text, file) >= 0 && fclose(file) == 0);
}

static void file_remove(const char *dir, const char *name)
{
    char path[1024];
    CHECK(snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path));
    CHECK(unlink(path) == 0);
}

static void test_directory(void)
{
    char dir[] = "/tmp/test-tokenizer.XXXXXX";
    struct tokenizer *tok = NULL;
    struct fault fault = {0};
    json_t *root = small_tokenizer_json(SMALL_LLAMA);
    char *text = json_dumps(root, 0);

    CHECK(mkdtemp(dir) && text);
    CHECK(tokenizer_open(dir, &tok, &fault) == -ENOENT);
    CHECK(strstr(fault.text, "neither tokenizer.json nor tiktoken.model"));

    file_write(dir, "tokenizer.json", text);
    CHECK(tokenizer_open(dir, &tok, &fault) == 0); // tokenizer_config.json may be missing
    CHECK(tokenizer_add_bos(tok) && tokenizer_bos(tok) == TOKEN_NONE);
    CHECK(!tokenizer_chat_template(tok));
    tokenizer_close(&tok);

    file_write(dir, "tokenizer_config.json",
               "{\"add_bos_token\": false, \"bos_token\": {\"content\": \"<think>\"}, "
               "\"eos_token\": \"</think>\", \"chat_template\": [{\"name\": \"rag\", "
               "\"template\": \"no\"}, {\"name\": \"default\", \"template\": \"yes\"}]}");
    CHECK(tokenizer_open(dir, &tok, &fault) == 0);
    CHECK(!tokenizer_add_bos(tok));
    CHECK(tokenizer_bos(tok) == tokenizer_id(tok, "<think>"));
    CHECK(tokenizer_eos(tok) == tokenizer_id(tok, "</think>"));
    CHECK(strcmp(tokenizer_chat_template(tok), "yes") == 0);
    tokenizer_close(&tok);

    file_write(dir, "chat_template.jinja", "from the file");
    CHECK(tokenizer_open(dir, &tok, &fault) == 0);
    CHECK(strcmp(tokenizer_chat_template(tok), "from the file") == 0);
    tokenizer_close(&tok);

    file_write(dir, "tokenizer_config.json", "{\"a\": ");
    CHECK(tokenizer_open(dir, &tok, &fault) == -EINVAL);
    CHECK(strstr(fault.text, "tokenizer_config.json"));
    file_write(dir, "tokenizer.json", "{\"a\": ");
    file_remove(dir, "tokenizer_config.json");
    CHECK(tokenizer_open(dir, &tok, &fault) == -EINVAL);
    CHECK(strstr(fault.text, "/tokenizer.json: line 1"));

    file_remove(dir, "tokenizer.json");
    file_remove(dir, "chat_template.jinja");
    CHECK(rmdir(dir) == 0);
    free(text);
    json_decref(root);
}

// ---- tiktoken.model ----

static void base64_line(FILE *out, const char *bytes, size_t len, unsigned rank)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)(unsigned char)bytes[i] << 16;
        bits |= i + 1 < len ? (uint32_t)(unsigned char)bytes[i + 1] << 8 : 0;
        bits |= i + 2 < len ? (uint32_t)(unsigned char)bytes[i + 2] : 0;
        fprintf(out, "%c%c%c%c", digits[bits >> 18], digits[bits >> 12 & 63],
                i + 1 < len ? digits[bits >> 6 & 63] : '=', i + 2 < len ? digits[bits & 63] : '=');
    }
    fprintf(out, " %u\n", rank);
}

// Bytes in reverse order, then some words; returns the text, to be freed.
static char *tiktoken_text(size_t *ret_len)
{
    static const char *const words[] = {"he", "the", " the", "aa", "\xe4\xb8\xad", "re", "ther"};
    char *text = NULL;

    FILE *mem = open_memstream(&text, ret_len);
    CHECK(mem);
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)(255 - b);
        base64_line(mem, &byte, 1, b);
    }
    for (unsigned i = 0; i < ARRAY_LEN(words); i++)
        base64_line(mem, words[i], strlen(words[i]), 256 + i);
    CHECK(fclose(mem) == 0);
    return text;
}

static void test_tiktoken(void)
{
    size_t len;
    char *text = tiktoken_text(&len);
    json_t *config =
        json_pack("{s:{s:{s:s, s:b}, s:{s:s, s:b}}}", "added_tokens_decoder", "263", "content",
                  "[BOS]", "special", 1, "265", "content", "<|im_middle|>", "special", 0);
    struct tokenizer *tok = calloc(1, sizeof(*tok));
    struct tokenizer_scratch *scratch;
    struct token_list list = {0};
    struct fault fault = {0};
    // "there" is no token: of its pairs h+e has the lowest rank, then t+he, then r+e (261).
    static const uint32_t expected[] = {257, 261, 260, 259, 255 - 'a', 263, 255 - 'x', 265};

    CHECK(tok && config);
    CHECK(tokenizer_load_text(tok, text, len, true, config, &fault) == 0);
    CHECK(tokenizer_vocab(tok) == 263 + 256);
    CHECK(tokenizer_id(tok, "[BOS]") == 263 && tokenizer_is_control(tok, 263));
    CHECK(tokenizer_id(tok, "<|reserved_token_264|>") == 264);
    CHECK(tokenizer_is_control(tok, 265) && !tokenizer_is_special(tok, 265));
    CHECK(tokenizer_scratch_create(tok, &scratch) == 0);
    const char prompt[] = "there中aaa[BOS]x<|im_middle|>";
    CHECK(tokenizer_encode(tok, scratch, prompt, strlen(prompt), true, &list, &fault) == 0);
    CHECK(list.n == ARRAY_LEN(expected));
    CHECK(memcmp(list.ids, expected, sizeof(expected)) == 0);
    token_list_free(&list);
    tokenizer_scratch_destroy(&scratch);
    tokenizer_close(&tok);
    free(text);
    json_decref(config);
}

static void test_refused_tiktoken(void)
{
    static const char *const lines[] = {"IQ==",
                                        "IQ== x",
                                        "IQ== 4194304",
                                        "I?== 1",
                                        "IQ= 1",
                                        "IQ== 1\nIg== 1",
                                        "IQ== 1\nIQ== 2",
                                        "IQ== -1",
                                        "IQ== 1 2",
                                        " 1",
                                        "IQ== 99999999999999999999"};
    json_t *config = json_pack("{s:{}}", "added_tokens_decoder");
    struct fault fault = {0};

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct tokenizer *tok = calloc(1, sizeof(*tok));
        CHECK(tok);
        CHECK(tokenizer_load_text(tok, lines[i], strlen(lines[i]), true, config, &fault) ==
              -EINVAL);
        CHECK(strstr(fault.text, "line "));
        tokenizer_close(&tok);
    }
    struct tokenizer *tok = calloc(1, sizeof(*tok));
    CHECK(tok);
    CHECK(tokenizer_load_text(tok, "IQ== 0\n", 7, true, config, &fault) == -ENOTSUP);
    CHECK(strstr(fault.text, "no token for the byte"));
    tokenizer_close(&tok);
    tok = calloc(1, sizeof(*tok));
    CHECK(tok);
    CHECK(tokenizer_load_text(tok, "IQ== 0\n", 7, true, NULL, &fault) == -ENOTSUP);
    CHECK(strstr(fault.text, "added_tokens_decoder"));
    tokenizer_close(&tok);
    json_decref(config);
}

// ---- encoding ----

// Whatever fails, the list is as it was.
static void test_invalid_utf8(void)
{
    static const struct {
        const char *text;
        const char *words;
    } rows[] = {
        {"ab\xff", "byte 2"}, {"\xed\xa0\x80", "byte 0"}, {"0123456789\xe4\xbd", "byte 10"}};
    struct tokenizer *tok = small_tokenizer(SMALL_DEEPSEEK);
    struct tokenizer_scratch *scratch;
    struct token_list list = {0};
    struct fault fault;

    CHECK(tokenizer_scratch_create(tok, &scratch) == 0);
    CHECK(token_list_push(&list, 7) == 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        CHECK(tokenizer_encode(tok, scratch, rows[i].text, strlen(rows[i].text), true, &list,
                               &fault) == -EILSEQ);
        CHECK(strstr(fault.text, rows[i].words));
        CHECK(list.n == 1 && list.ids[0] == 7);
    }
    token_list_free(&list);
    tokenizer_scratch_destroy(&scratch);
    tokenizer_close(&tok);
}

// An expression that takes exponential time ends in an error, not in an endless request.
static void test_endless_regex(void)
{
    json_t *root = small_tokenizer_json(SMALL_DEEPSEEK);
    struct tokenizer *tok = NULL;
    struct tokenizer_scratch *scratch;
    struct token_list list = {0};
    struct fault fault = {0};
    const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!";

    json_edit(root, "pre_tokenizer.pretokenizers.0.pattern.Regex", "\"(a|aa)+(?=b)\"");
    CHECK(small_tokenizer_load(root, &tok, &fault) == 0);
    CHECK(tokenizer_scratch_create(tok, &scratch) == 0);
    CHECK(tokenizer_encode(tok, scratch, text, strlen(text), false, &list, &fault) == -E2BIG);
    CHECK(strstr(fault.text, "gave up") && list.n == 0);
    tokenizer_scratch_destroy(&scratch);
    tokenizer_close(&tok);
    json_decref(root);
}

// Long runs, where a splitter or a merge loop could go quadratic or give up: all of the text comes
// back.  (tools/bench-tokenizer shows the time.)
static void test_long_runs(enum small_style style)
{
    static const char *const units[] = {
        "a",    " ",  "\n",           "!",       "7",  "中",     "\t\n", "aBc",
        "\x01", "'s", "\u0301\u0323", " \u0301", "\r", "\u00a0", "tHe "};
    const size_t len = 1u << 20;
    struct tokenizer *tok = small_tokenizer(style);
    struct tokenizer_scratch *scratch;
    struct fault fault = {0};
    char *text = malloc(len + 8);

    CHECK(text && tokenizer_scratch_create(tok, &scratch) == 0);
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        struct token_list list = {0};
        size_t n = 0, back = 0;
        for (; n < len; n += strlen(units[i]))
            memcpy(text + n, units[i], strlen(units[i]));
        CHECK(tokenizer_encode(tok, scratch, text, n, false, &list, &fault) == 0);
        for (size_t k = 0; k < list.n; k++) {
            size_t token_len;
            const char *bytes = tokenizer_bytes(tok, list.ids[k], &token_len);
            CHECK(token_len <= n - back);
            CHECK(tok->nfc || memcmp(bytes, text + back, token_len) == 0);
            back += token_len;
        }
        CHECK(back == n);
        if (units[i][0] == 'a' && units[i][1] == '\0')
            CHECK(list.n == len / 2); // a + a comes before aa + a, and nothing is left for that
        token_list_free(&list);
    }
    free(text);
    tokenizer_scratch_destroy(&scratch);
    tokenizer_close(&tok);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    test_golden(argv[1], "deepseek", 450);
    test_golden(argv[1], "qwen2", 350);
    test_golden(argv[1], "llama", 350);
    test_refused_json();
    test_refused_text();
    test_directory();
    test_tiktoken();
    test_refused_tiktoken();
    test_invalid_utf8();
    test_endless_regex();
    for (unsigned style = 0; style < SMALL_STYLE_COUNT; style++)
        test_long_runs((enum small_style)style);
    return 0;
}
