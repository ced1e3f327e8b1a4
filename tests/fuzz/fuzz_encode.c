// SPDX-License-Identifier: MIT
// Any bytes as text: byte 0 picks the tokenizer and whether added tokens are recognised.  What is
// not UTF-8 is refused at the right place; what is comes back from its tokens; plain text never
// gives a control token; one text in two parts gives the same ids.
#include "api/utf8.h"
#include "model/nfc.h"
#include "tests/fuzz/small_tokenizer.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tokenizer *toks[SMALL_STYLE_COUNT];
static struct tokenizer_scratch *scratches[SMALL_STYLE_COUNT];

static void stop(void)
{
    for (unsigned i = 0; i < SMALL_STYLE_COUNT; i++) {
        tokenizer_scratch_destroy(&scratches[i]);
        tokenizer_close(&toks[i]);
    }
}

static void start(void)
{
    for (unsigned i = 0; i < SMALL_STYLE_COUNT; i++) {
        toks[i] = small_tokenizer((enum small_style)i);
        CHECK(tokenizer_scratch_create(toks[i], &scratches[i]) == 0);
    }
    atexit(stop);
}

static void check_decoded(const struct tokenizer *tok, const struct token_list *list,
                          const char *text, size_t len)
{
    size_t at = 0;

    for (size_t i = 0; i < list->n; i++) {
        size_t n;
        const char *bytes = tokenizer_bytes(tok, list->ids[i], &n);
        CHECK(n > 0 && n <= len - at);
        CHECK(memcmp(bytes, text + at, n) == 0);
        at += n;
    }
    CHECK(at == len);
}

static void check_text(unsigned style, bool parse_added, const char *text, size_t len)
{
    const struct tokenizer *tok = toks[style];
    struct token_list list = {0}, again = {0};
    struct fault fault = {0};
    char *normal = NULL;
    size_t normal_len;

    int err = tokenizer_encode(tok, scratches[style], text, len, parse_added, &list, &fault);
    if (utf8_valid_len(text, len) != len) {
        CHECK(err == -EILSEQ && list.n == 0);
        return;
    }
    CHECK(err == 0);
    CHECK(nfc_normalize(text, len, &normal, &normal_len) == 0);
    CHECK(nfc_is_normal(text, len) <= (normal_len == len && memcmp(normal, text, len) == 0));
    if (!tok->nfc)
        check_decoded(tok, &list, text, len);
    else if (!parse_added)
        check_decoded(tok, &list, normal, normal_len);
    for (size_t i = 0; i < list.n && !parse_added; i++)
        CHECK(!tokenizer_is_added(tok, list.ids[i]));

    // Cut in two at a character: plain parts make the same text.
    size_t cut = utf8_valid_len(text, len / 2);
    const struct token_part parts[] = {{text, cut, false}, {text + cut, len - cut, false}};
    CHECK(tokenizer_encode_parts(tok, scratches[style], parts, 2, &again, &fault) == 0);
    if (!parse_added) {
        CHECK(again.n == list.n);
        CHECK(list.n == 0 || memcmp(again.ids, list.ids, list.n * sizeof(*list.ids)) == 0);
    }
    token_list_free(&list);
    token_list_free(&again);
    free(normal);
}

// Bytes through a utf8_stream, in steps of 1, 2, ... and all at once: the same text, valid UTF-8.
static void check_stream(const char *bytes, size_t len)
{
    char *whole = malloc(3 * (len + 4)), *steps = malloc(3 * (2 * len + 8));
    struct utf8_stream a = {0}, b = {0};
    size_t whole_n, steps_n = 0, step = 1;

    CHECK(whole && steps);
    whole_n = utf8_stream_push(&a, bytes, len, whole);
    CHECK(utf8_valid_len(whole, whole_n) == whole_n);
    whole_n += utf8_stream_finish(&a, whole + whole_n);
    for (size_t at = 0; at < len; at += step, step = step % 5 + 1) {
        if (step > len - at)
            step = len - at;
        steps_n += utf8_stream_push(&b, bytes + at, step, steps + steps_n);
        CHECK(utf8_valid_len(steps, steps_n) == steps_n);
    }
    steps_n += utf8_stream_finish(&b, steps + steps_n);
    CHECK(whole_n == steps_n && memcmp(whole, steps, whole_n) == 0);
    CHECK(utf8_valid_len(bytes, len) != len || (whole_n == len && memcmp(whole, bytes, len) == 0));
    free(whole);
    free(steps);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!toks[0])
        start();
    if (size == 0 || size > 100000)
        return 0;
    const char *text = (const char *)data + 1;
    check_text(data[0] % SMALL_STYLE_COUNT, data[0] & 0x80, text, size - 1);
    check_stream(text, size - 1);
    return 0;
}
