// SPDX-License-Identifier: MIT
// tokenizer: every golden vector of three tokenizers, both ways, and the errors of broken files.
#include "model/pretok.h"
#include "model/tokenizer.h"
#include "tests/check.h"

#include <jansson.h>
#include <string.h>

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

// Decodes through a text_stream, which must hand out whole characters only; to be freed.
static char *decode(const struct tokenizer *tok, const json_t *ids, bool skip_special, char *raw,
                    size_t *raw_n, size_t *ret_n)
{
    struct text_stream stream = {0};
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
        n += text_stream_push(&stream, bytes, len, text + n);
    }
    n += text_stream_finish(&stream, text + n);
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

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    test_golden(argv[1], "deepseek", 450);
    test_golden(argv[1], "qwen2", 350);
    test_golden(argv[1], "llama", 350);
    return 0;
}
