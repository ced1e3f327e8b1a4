// SPDX-License-Identifier: MIT
// Any bytes as tokenizer.json (when they begin with '{') or as tiktoken.model: refused with words,
// or a tokenizer whose decoding undoes its encoding.
#include "tests/fuzz/small_tokenizer.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct tokenizer *tok)
{
    static const char text[] = "the  think 123'S \n\n\t<think>é中文😀 aaaaaaa ==== e\xcc\x81";
    struct tokenizer_scratch *scratch = NULL;
    struct token_list list = {0};
    struct fault fault = {0};
    char back[sizeof(text) * 2];
    size_t n = 0;

    CHECK(tokenizer_scratch_create(tok, &scratch) == 0);
    int err = tokenizer_encode(tok, scratch, text, strlen(text), false, &list, &fault);
    CHECK(err == 0 || (err == -E2BIG && fault.text[0])); // an expression may be endless
    for (size_t i = 0; i < list.n && !tok->nfc; i++) {
        size_t len;
        const char *bytes = tokenizer_bytes(tok, list.ids[i], &len);
        CHECK(len && n + len <= sizeof(back));
        CHECK(!tokenizer_is_control(tok, list.ids[i]));
        memcpy(back + n, bytes, len);
        n += len;
    }
    CHECK(err || tok->nfc || (n == strlen(text) && memcmp(back, text, n) == 0));
    list.n = 0;
    tokenizer_encode(tok, scratch, text, strlen(text), true, &list, &fault);
    token_list_free(&list);
    tokenizer_scratch_destroy(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tokenizer *tok = calloc(1, sizeof(*tok));
    struct fault fault = {0};
    bool tiktoken = size == 0 || data[0] != '{';
    json_t *config = json_pack("{s:{}}", "added_tokens_decoder");

    CHECK(tok && config);
    int err = tokenizer_load_text(tok, (const char *)data, size, tiktoken, config, &fault);
    if (err)
        CHECK(fault.text[0] && fault.err == -err);
    else
        use(tok);
    tokenizer_close(&tok);
    json_decref(config);
    return 0;
}
