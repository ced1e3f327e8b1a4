// SPDX-License-Identifier: MIT
// small_tokenizer: tokenizers of a few hundred tokens, made in memory, for tests that have no
// files.
#pragma once
#include "base/utf8.h"
#include "model/tokenizer_load.h"
#include "tests/check.h"

#include <string.h>

enum small_style { SMALL_DEEPSEEK, SMALL_QWEN2, SMALL_LLAMA, SMALL_STYLE_COUNT };

#define SMALL_QWEN(digits)                                                                         \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                           \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const char *const small_regex[SMALL_STYLE_COUNT][3] = {
    {"\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
     "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?"
     "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},
    {SMALL_QWEN("\\p{N}")},
    {SMALL_QWEN("\\p{N}{1,3}")},
};

// Pairs over the byte alphabet, in order of rank; U+0120 is the space, U+010A the newline.
static const char *const small_merges[][2] = {
    {"Ġ", "Ġ"},  {"ĠĠ", "ĠĠ"}, {"t", "h"},   {"th", "e"}, {"Ġ", "t"},    {"Ġ", "the"},   {"a", "a"},
    {"aa", "a"}, {"Ċ", "Ċ"},   {"i", "n"},   {"in", "k"}, {"th", "ink"}, {"<", "think"}, {"1", "2"},
    {"12", "3"}, {"=", "="},   {"==", "=="}, {"e", "r"},  {"Ġ", "a"},    {"s", "s"},     {"'", "s"},
};

static const char *const small_added[] = {
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<think>",
    "</think>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁sep｜>",
    "<|im_system|>",
    "<|im_middle|>",
    "<|im_user|>",
    "<|im_assistant|>",
    "<|im_end|>",
    "<|tool_calls_section_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
};

static inline json_t *small_vocab(void)
{
    json_t *vocab = json_object();
    uint32_t next = 256, id = 0;

    for (uint32_t b = 0; b < 256; b++) {
        bool itself = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        char symbol[5] = "";
        utf8_put(itself ? b : next++, symbol);
        CHECK(json_object_set_new(vocab, symbol, json_integer(id++)) == 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(small_merges); i++) {
        char joined[64];
        snprintf(joined, sizeof(joined), "%s%s", small_merges[i][0], small_merges[i][1]);
        CHECK(json_object_set_new(vocab, joined, json_integer(id++)) == 0);
    }
    return vocab;
}

// small_tokenizer_json returns the object of a tokenizer.json; the caller's to change and free.
static inline json_t *small_tokenizer_json(enum small_style style)
{
    json_t *stages = json_array(), *merges = json_array(), *added = json_array();
    uint32_t id = 256 + (uint32_t)ARRAY_LEN(small_merges);

    for (size_t i = 0; i < 3 && small_regex[style][i]; i++)
        json_array_append_new(stages, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split",
                                                "pattern", "Regex", small_regex[style][i],
                                                "behavior", "Isolated", "invert", 0));
    json_array_append_new(stages, json_pack("{s:s, s:b, s:b}", "type", "ByteLevel",
                                            "add_prefix_space", 0, "use_regex", 0));
    for (size_t i = 0; i < ARRAY_LEN(small_merges); i++)
        json_array_append_new(merges, json_pack("[s, s]", small_merges[i][0], small_merges[i][1]));
    for (size_t i = 0; i < ARRAY_LEN(small_added); i++)
        json_array_append_new(added,
                              json_pack("{s:i, s:s, s:b, s:b}", "id", (int)id++, "content",
                                        small_added[i], "special", i < 2, "normalized", i >= 2));
    json_t *root = json_pack(
        "{s:o, s:o, s:{s:s, s:o}, s:{s:s}, s:{s:s, s:o, s:o, s:b}}", "added_tokens", added,
        "normalizer", style == SMALL_QWEN2 ? json_pack("{s:s}", "type", "NFC") : json_null(),
        "pre_tokenizer", "type", "Sequence", "pretokenizers", stages, "decoder", "type",
        "ByteLevel", "model", "type", "BPE", "vocab", small_vocab(), "merges", merges,
        "ignore_merges", style == SMALL_LLAMA);
    CHECK(root);
    return root;
}

// small_tokenizer_load opens a tokenizer.json given as an object; see tokenizer_load_text.
static inline int small_tokenizer_load(const json_t *root, struct tokenizer **ret,
                                       struct fault *fault)
{
    char *text = json_dumps(root, 0);
    struct tokenizer *tok = calloc(1, sizeof(*tok));

    CHECK(text && tok);
    int err = tokenizer_load_text(tok, text, strlen(text), false, NULL, fault);
    free(text);
    if (err)
        tokenizer_close(&tok);
    else
        *ret = tok;
    return err;
}

static inline struct tokenizer *small_tokenizer(enum small_style style)
{
    struct tokenizer *tok = NULL;
    struct fault fault = {0};
    json_t *root = small_tokenizer_json(style);

    int err = small_tokenizer_load(root, &tok, &fault);
    if (err)
        fprintf(stderr, "%s\n", fault.text);
    CHECK(err == 0);
    json_decref(root);
    return tok;
}
